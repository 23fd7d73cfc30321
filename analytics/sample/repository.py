"""One repository's history as its merge style writes it: original commits, what lands on the trunk, pull requests.

Source: metrics.md section 2 (squash, rebase, cherry-pick, merge commits).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from analytics.sample.changes import RUNBOOKS, Change
from analytics.sample.organisation import OWNER, MergeStyle
from analytics.sample.timeline import MINUTE, utc, utc_or_none
from analytics.sources.entities import Commit, FileRevision, PullRequest, Review


def digest(*parts: object) -> str:
    """Forty hexadecimal characters that depend on nothing but the parts."""
    return blake2b("/".join(map(str, parts)).encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class TrunkEntry:
    """What one merge or push put at the end of the trunk."""

    position: int
    sha: str
    at: int
    service: str
    touches_shared: bool
    title: str
    number: int
    reverts: str | None
    # The trunk's head before it, which a revert of a merge names too.
    previous: str

    def concerns(self, service: str) -> bool:
        """Whether a service's path filter takes this entry."""
        return self.touches_shared or self.service == service


@dataclass(frozen=True)
class Push:
    """A branch moved: what continuous integration answers to."""

    at: int
    event: str
    sha: str
    branch: str
    actor: str


class Repository:
    """Grows a trunk in the order of time and keeps every record of how it grew."""

    def __init__(self, seed: int, name: str, style: MergeStyle, now: int) -> None:
        self.seed = seed
        self.name = name
        self.style = style
        self.now = now
        self.commits: dict[str, Commit] = {}
        self.trunk: list[TrunkEntry] = []
        self.pushes: list[Push] = []
        self.requests: list[Change] = []
        self.runbooks: dict[str, FileRevision] = {}
        self._times: list[int] = []
        self._originals: dict[int, list[str]] = {}
        self._merged_as: dict[int, str] = {}
        self._shas = 0

    def begin(self, author: str, at: int, files: Sequence[str]) -> None:
        """The first commit, which imports what was there before."""
        sha = self._commit([], author, at, at, "Import the code as it stands", list(files), patch="import")
        self._append(sha, at, service="", shared=True, title="Import", number=0, reverts=None)

    @property
    def head(self) -> TrunkEntry:
        """The newest entry of the trunk."""
        return self.trunk[-1]

    def open(self, change: Change) -> None:
        """Open a pull request: it takes the next number, and its commits become known."""
        self.requests.append(change)
        change.number = len(self.requests)
        base = self.trunk[max(bisect_right(self._times, change.authored[0]) - 1, 0)].sha
        shas: list[str] = []
        pushed_with_opening = 0
        for index, authored in enumerate(change.authored):
            if authored > self.now:
                break
            sha = self._commit(
                [shas[-1] if shas else base],
                change.author,
                authored,
                authored + 5,
                self._message(change, index),
                change.files[index],
                patch=f"{change.number}/{index}",
                is_bot=change.is_bot,
            )
            shas.append(sha)
            if authored <= change.opened:
                pushed_with_opening = index
            else:
                self._push(authored + 3 * MINUTE, "pull_request", sha, change.branch or "main", change.author)
        self._push(change.opened, "pull_request", shas[pushed_with_opening], change.branch or "main", change.author)
        self._originals[change.number] = shas

    def merge(self, change: Change, at: int) -> TrunkEntry:
        """Bring a change to the trunk as the repository does it; returns the trunk's new head."""
        if change.branch is None:
            landed = [
                self._commit(
                    [self.head.sha], change.author, change.authored[0], at, self._message(change, 0), change.files[0]
                )
            ]
            sha = landed[-1]
        elif self.style == "squash":
            landed = [self._squash(change, at)]
            sha = landed[-1]
        elif self.style == "merge":
            landed = self._originals[change.number]
            sha = self._merge_commit(change, at)
        else:
            landed = self._rebase(change, at)
            sha = landed[-1]
        if change.number:
            self._merged_as[change.number] = sha
        reverts = change.body.split()[3].rstrip(".,") if change.body.startswith("This reverts commit") else None
        entry = self._append(sha, at, change.service, change.touches_shared, change.title, change.number, reverts)
        for commit in map(self.commits.__getitem__, landed):
            for path in commit.files or ():
                if path.startswith(RUNBOOKS):
                    self.runbooks[path] = FileRevision(
                        repository=self.name, path=path, sha=commit.sha, committed_at=commit.committed_at
                    )
        self._push(at, "push", sha, "main", change.author)
        return entry

    def pick(self, sha: str, onto: str, at: int, branch: str, actor: str) -> str:
        """Cherry-pick a commit onto another one, on a release branch."""
        source = self.commits[sha]
        picked = msgspec.structs.replace(
            source,
            sha=self._next_sha(),
            parents=[onto],
            committed_at=utc(at),
            message=f"{source.message}\n\n(cherry picked from commit {sha})",
        )
        self.commits[picked.sha] = picked
        self._push(at, "push", picked.sha, branch, actor)
        return picked.sha

    def originals(self, number: int) -> list[str]:
        """The commits of a pull request."""
        return self._originals[number]

    def force_pushed_away(self) -> str:
        """A commit's sha that no longer exists after a force push."""
        return self._next_sha()

    def postdate(self, sha: str, authored_at: int) -> None:
        """Give a commit the author date of a machine whose clock is ahead."""
        self.commits[sha] = msgspec.structs.replace(self.commits[sha], authored_at=utc(authored_at))

    def pull_request_records(self) -> list[PullRequest]:
        """Every pull request as it stands at `now`."""
        return [
            PullRequest(
                repository=self.name,
                number=change.number,
                title=change.title,
                author=change.author,
                labels=change.labels,
                created_at=utc(change.opened),
                first_review_at=utc_or_none(change.first_review, self.now),
                approved_at=utc_or_none(change.approved, self.now),
                merged_at=utc_or_none(change.merged, self.now),
                closed_at=utc_or_none(change.merged or change.closed, self.now),
                merge_commit_sha=self._merged_as.get(change.number),
                commits=self._originals[change.number],
                head_ref=change.branch,
            )
            for change in self.requests
        ]

    def review_records(self) -> list[Review]:
        """The latest review of each reviewer on each pull request."""
        latest: dict[tuple[int, str], Review] = {}
        for change in self.requests:
            for reviewer, state, at in change.reviews:
                if at <= self.now:
                    latest[change.number, reviewer] = Review(
                        repository=self.name,
                        number=change.number,
                        reviewer=reviewer,
                        state=state,
                        submitted_at=utc(at),
                    )
        return list(latest.values())

    def _squash(self, change: Change, at: int) -> str:
        files = list(dict.fromkeys(path for files in change.files for path in files))
        body = f"\n\n{change.body}" if change.body else ""
        # The squash of one commit changes what that commit changed.
        patch = f"{change.number}/0" if len(change.authored) == 1 else f"{change.number}/squash"
        return self._commit(
            [self.head.sha],
            change.author,
            at,
            at,
            f"{change.title} (#{change.number}){body}",
            files,
            patch=patch,
            is_bot=change.is_bot,
        )

    def _merge_commit(self, change: Change, at: int) -> str:
        sha = self._next_sha()
        self.commits[sha] = Commit(
            repository=self.name,
            sha=sha,
            parents=[self.head.sha, self._originals[change.number][-1]],
            author=change.reviews[-1][0] if change.reviews else change.author,
            authored_at=utc(at),
            committed_at=utc(at),
            message=f"Merge pull request #{change.number} from {OWNER}/{change.branch}",
        )
        return sha

    def _rebase(self, change: Change, at: int) -> list[str]:
        landed = [self.head.sha]
        for index, original in enumerate(self._originals[change.number]):
            copy = msgspec.structs.replace(
                self.commits[original], sha=self._next_sha(), parents=[landed[-1]], committed_at=utc(at + index)
            )
            self.commits[copy.sha] = copy
            landed.append(copy.sha)
        return landed[1:]

    def _message(self, change: Change, index: int) -> str:
        if index:
            return f"{change.title}: part {index + 1}"
        return f"{change.title}\n\n{change.body}" if change.body else change.title

    def _commit(
        self,
        parents: list[str],
        author: str,
        authored: int,
        committed: int,
        message: str,
        files: list[str],
        *,
        patch: str | None = None,
        is_bot: bool = False,
    ) -> str:
        sha = self._next_sha()
        self.commits[sha] = Commit(
            repository=self.name,
            sha=sha,
            parents=parents,
            author=author,
            is_bot=is_bot or None,
            authored_at=utc(authored),
            committed_at=utc(committed),
            message=message,
            patch_id=digest(self.seed, self.name, "patch", patch or sha),
            files=files,
        )
        return sha

    def _next_sha(self) -> str:
        self._shas += 1
        return digest(self.seed, self.name, "commit", self._shas)

    def _append(
        self, sha: str, at: int, service: str, shared: bool, title: str, number: int, reverts: str | None
    ) -> TrunkEntry:
        previous = self.trunk[-1].sha if self.trunk else ""
        entry = TrunkEntry(len(self.trunk), sha, at, service, shared, title, number, reverts, previous)
        self.trunk.append(entry)
        self._times.append(at)
        return entry

    def _push(self, at: int, event: str, sha: str, branch: str, actor: str) -> None:
        if at <= self.now:
            self.pushes.append(Push(at, event, sha, branch, actor))
