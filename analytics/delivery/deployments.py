"""From attempts to deployments: their order, what each one shipped first, and its kind.

Source: metrics.md section 1 (deployment, kind, new commits) and section 8 (seed, identity, squash, statuses).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from analytics.catalog import Service
from analytics.delivery.history import CommitFacts, History
from analytics.delivery.records import Attempt, Deployment, OwnedCommit, PullRequestFacts
from analytics.globs import path_matches

OUTCOME_ORDER = ("success", "failure", "in_progress", "cancelled", "skipped", "unknown")


def group_attempts(service: Service, attempts: Iterable[Attempt]) -> list[Deployment]:
    """Attempts that share a key are one deployment; it succeeded if any attempt did.

    `finished_at` is the finish of the first success (of the last region when the service says so); a service whose
    first success has no time is `finish_unknown` and is dated by its creation.
    """
    by_key: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_key.setdefault(attempt.deployment_key, []).append(attempt)
    return [_deployment(service, key, tries) for key, tries in sorted(by_key.items())]


def _deployment(service: Service, key: str, attempts: list[Attempt]) -> Deployment:
    attempts.sort(
        key=lambda a: (a.finished_at or a.created_at, a.attempt, a.region or "", a.source_deployment_id or "")
    )
    outcome = min((a.outcome for a in attempts), key=OUTCOME_ORDER.index)
    deciding = [a for a in attempts if a.outcome == outcome]
    # A success with a time decides over one without.
    first = min(deciding, key=lambda a: (a.finished_at is None, a.finished_at or a.created_at))
    finished_at = first.finished_at
    if outcome == "success" and service.deploys.lead_to == "last_region":
        first_by_region: dict[str | None, datetime] = {}
        for attempt in deciding:
            if attempt.finished_at is not None:
                at = first_by_region.get(attempt.region)
                first_by_region[attempt.region] = min(at, attempt.finished_at) if at else attempt.finished_at
        finished_at = max(first_by_region.values(), default=None)
    revisions: dict[str, str] = {}
    for attempt in (first, *deciding):
        for repository, sha in attempt.revisions:
            revisions.setdefault(repository, sha)
    if not revisions and first.digest is None:
        # One record per repository of the same run is one deployment over several repositories.
        for attempt in (first, *deciding):
            if attempt.repository.casefold() not in {name.casefold() for name in revisions}:
                revisions[attempt.repository] = attempt.sha
    own_is_listed = not revisions or first.repository.casefold() == service.repository.casefold()
    if own_is_listed:
        revisions.setdefault(first.repository, first.sha)
    return Deployment(
        service=service.name,
        key=key,
        attempts=attempts,
        outcome=outcome,
        repository=first.repository,
        environment=first.environment,
        sha=first.sha,
        digest=first.digest,
        ref=first.ref,
        created_at=first.created_at,
        started_at=first.started_at,
        finished_at=finished_at,
        labels=tuple(sorted({label for attempt in attempts for label in attempt.labels})),
        revisions=revisions,
    )


class ServiceChain:
    """Walks a service's successful deployments in order, deciding what each shipped first and its kind.

    The order of arrival never matters: the chain is built anew from all that is known.
    """

    def __init__(
        self,
        service: Service,
        histories: Mapping[str, History],
        pull_requests: Mapping[str, Sequence[PullRequestFacts]],
    ) -> None:
        self.service = service
        self.histories = {name.casefold(): history for name, history in histories.items()}
        self.seen = {name: bytearray(len(history)) for name, history in self.histories.items()}
        self.started: set[str] = set()
        self.live: Deployment | None = None
        # The newest live revision of each repository that is part of its known history.
        self.live_commit: dict[str, int] = {}
        self.by_digest: dict[str, Deployment] = {}
        self.by_revisions: dict[frozenset[tuple[str, str]], Deployment] = {}
        # Commits, and patches, that have been counted for this service: each counts once.
        self.counted: set[tuple[str, str]] = set()
        self.recorded: set[tuple[str, str]] = set()
        self.patches: set[tuple[str, str]] = set()
        self.owner: dict[tuple[str, str], Deployment] = {}
        self.owned: list[OwnedCommit] = []
        # Which commits (their numbers) each deployment reached first: (its sequence, repository, numbers).
        self.reached: list[tuple[int, str, list[int]]] = []
        self.by_commit: dict[tuple[str, str], PullRequestFacts] = {}
        self.by_merge: dict[tuple[str, str], PullRequestFacts] = {}
        for repository, requests in pull_requests.items():
            folded = repository.casefold()
            for request in requests:
                for sha in request.commits:
                    known = self.by_commit.get((folded, sha))
                    # A commit of stacked pull requests belongs to the one that was merged first.
                    if known is None or _merge_order(request) < _merge_order(known):
                        self.by_commit[folded, sha] = request
                if request.merge_commit_sha:
                    self.by_merge[folded, request.merge_commit_sha] = request

    def extend(self, deployments: Iterable[Deployment], after: int = 0) -> None:
        """Take successful deployments in their order (finished_at, started_at, id), `after` of which came before."""
        for sequence, deployment in enumerate(sorted(deployments, key=lambda d: d.order), start=after + 1):
            deployment.sequence = sequence
            deployment.previous = self.live
            self._resolve(deployment)
            deployment.kind = self._kind(deployment)
            self._remember(deployment)

    def _resolve(self, deployment: Deployment) -> None:
        """Let a digest decide which commit was deployed, where the digest is known (metrics.md E33).

        Verified provenance decides before an artifact's record, and both before the deployment's own words.
        """
        is_foreign = deployment.repository.casefold() != self.service.repository.casefold()
        successes = [a for a in deployment.attempts if a.outcome == "success"]
        proven = next((a.provenance for a in successes if a.provenance), ())
        artifact = next((a.artifact for a in successes if a.artifact), None)
        # Built more than once, of several commits: what the deployment says is believed if it is one of them.
        of_known = [one for one in proven if self._known(*one)]
        if of_known:
            own = next((one for one in of_known if one[1] == deployment.sha), of_known[0])
            self._decide(deployment, *own, identity="provenance")
        elif proven and is_foreign:
            # What nobody verified does not outweigh it: the artifact is of a commit that is not in the known history.
            artifact = None
        elif proven:
            deployment.warning = "its provenance names a commit that is not in the known history"
        if not of_known and artifact is not None:
            repository, sha = artifact[0] or self.service.repository, artifact[1]
            if self._known(repository, sha):
                self._decide(deployment, repository, sha, identity="artifact_unverified")
        earlier = self.by_digest.get(deployment.digest) if deployment.digest else None
        if earlier is not None and earlier.resolved:
            # The same bytes are the same code, whatever sha the record carries.
            deployment.revisions = dict(earlier.revisions)
            deployment.identity = earlier.identity if earlier.identity != "sha" else "digest"
        if is_foreign and deployment.digest and deployment.identity == "sha" and len(deployment.revisions) == 1:
            # A configuration repository's sha says nothing of the bytes that its digest names.
            deployment.resolved = False
            return
        deployment.resolved = any(self._known(name, sha) for name, sha in deployment.revisions.items())

    def _decide(self, deployment: Deployment, repository: str, sha: str, *, identity: str) -> None:
        """Take a commit for what was deployed of a repository, in the place of the record's own."""
        others = {
            name: other
            for name, other in deployment.revisions.items()
            if name.casefold() not in (deployment.repository.casefold(), repository.casefold())
        }
        deployment.revisions = {repository: sha, **others}
        deployment.identity = identity

    def _known(self, repository: str, sha: str) -> bool:
        history = self.histories.get(repository.casefold())
        return history is not None and history.find(sha) is not None

    def _kind(self, deployment: Deployment) -> str:
        live = self.live
        same = live is not None and (
            _identity(live) == _identity(deployment)
            or (deployment.digest is not None and live.digest == deployment.digest)
        )
        if not deployment.resolved:
            return "noop" if same else "unresolved"
        first_of_service = not self.started
        relations: list[str] = []
        new: list[tuple[str, int]] = []
        for repository, sha in deployment.revisions.items():
            folded = repository.casefold()
            history = self.histories.get(folded)
            number = history.find(sha) if history is not None else None
            if history is None or number is None:
                continue
            reached = history.reach_new(number, self.seen[folded])
            if reached and deployment.sequence is not None:
                self.reached.append((deployment.sequence, folded, reached))
            if folded not in self.started:
                # The first revision known of a repository is where history starts; it owns nothing.
                self.started.add(folded)
                for commit in reached:
                    if patch := history.commits[commit].patch_id:
                        self.patches.add((folded, patch))
                continue
            new += [(folded, commit) for commit in reached]
            relations.append(self._relation(history, folded, number))
        if first_of_service:
            return "seed"
        if same:
            return "noop"
        shipped = self._own(deployment, new)
        if shipped:
            return "change"
        if relations and all(relation in ("same", "older") for relation in relations) and "older" in relations:
            target = self.by_revisions.get(_identity(deployment))
            if target is not None:
                deployment.rollback_target = target
                return "rollback"
            deployment.warning = "an older revision finished after a newer one and had never been live"
            return "downgrade"
        return "redeploy"

    def _relation(self, history: History, folded: str, number: int) -> str:
        """How a revision stands to the newest known live one of the same repository."""
        live = self.live_commit.get(folded)
        if live is None:
            return "unknown"
        if live == number:
            return "same"
        return "older" if history.is_before(number, live) else "newer"

    def _remember(self, deployment: Deployment) -> None:
        self.live = deployment
        self.by_revisions[_identity(deployment)] = deployment
        for name, sha in deployment.revisions.items():
            history = self.histories.get(name.casefold())
            number = history.find(sha) if history is not None else None
            if number is not None:
                self.live_commit[name.casefold()] = number
        if deployment.digest:
            known = self.by_digest.get(deployment.digest)
            if known is None or (deployment.resolved and not known.resolved):
                self.by_digest[deployment.digest] = deployment

    def _own(self, deployment: Deployment, new: list[tuple[str, int]]) -> bool:
        """Record the new commits of a deployment; say whether there is at least one after the path filter."""
        relevant: list[tuple[str, int, bool]] = []
        for folded, number in new:
            history = self.histories[folded]
            commit = history.commits[number]
            keep, path_unknown = self._on_path(folded, commit.files, len(commit.parents))
            if keep:
                self.owner.setdefault((folded, commit.sha), deployment)
                relevant.append((folded, number, path_unknown))
        # The earliest authored of two commits with one patch is the original.
        relevant.sort(key=lambda item: (self._commit(item).authored_at, self._commit(item).sha))
        for folded, number, path_unknown in relevant:
            deployment.new_commits.append((folded, number))
            self._observe(deployment, folded, number, path_unknown)
        return bool(relevant)

    def _commit(self, item: tuple[str, int, bool]) -> CommitFacts:
        return self.histories[item[0]].commits[item[1]]

    def _on_path(self, folded: str, files: tuple[str, ...] | None, parents: int) -> tuple[bool, bool]:
        """Whether a commit belongs to the service, and whether that is unknown because its files are."""
        if not self.service.paths or folded != self.service.repository.casefold():
            return True, False
        if not files:
            # A merge changes nothing of its own, so without files it says nothing about the path.
            return parents < 2, True
        return any(path_matches(path, self.service.paths) for path in files), False

    def _observe(self, deployment: Deployment, folded: str, number: int, path_unknown: bool) -> None:
        history = self.histories[folded]
        commit = history.commits[number]
        request = self._request_of(folded, history, number)
        originals = self._squash_originals(folded, number)
        if originals is not None and request is not None:
            patch = (folded, commit.patch_id) if commit.patch_id else None
            if (patch is not None and patch in self.patches) or (folded, commit.sha) in self.counted:
                # The squash was picked onto another branch and shipped from there.
                self._add(deployment, folded, number, None, request, None, path_unknown)
                return
            known = [original for original in originals if original is not None]
            # Originals that nobody has landed fall back to the squash itself.
            all_known = len(known) == len(originals)
            for original in sorted(known, key=lambda n: (history.commits[n].authored_at, history.commits[n].sha)):
                if len(history.commits[original].parents) < 2:
                    self._add(deployment, folded, original, None, request, commit.sha, path_unknown)
            self._add(deployment, folded, number, "squashed" if all_known else None, request, None, path_unknown)
            self.counted.add((folded, commit.sha))
            if patch is not None:
                self.patches.add(patch)
            return
        reason = "merge_commit" if len(commit.parents) > 1 else None
        self._add(deployment, folded, number, reason, request, None, path_unknown)

    def _request_of(self, folded: str, history: History, number: int) -> PullRequestFacts | None:
        """The pull request that brought a commit, or the commit that it was picked from."""
        commit = history.commits[number]
        twins = history.with_patch(commit.patch_id) if commit.patch_id else []
        for sha in (commit.sha, *_picked_from(history, commit), *(history.commits[twin].sha for twin in twins)):
            request = self.by_merge.get((folded, sha)) or self.by_commit.get((folded, sha))
            if request is not None:
                return request
        return None

    def _squash_originals(self, folded: str, number: int) -> list[int | None] | None:
        """The pull request's own commits that a squash stands for, or None when the commit is no squash."""
        history = self.histories[folded]
        commit = history.commits[number]
        request = self.by_merge.get((folded, commit.sha))
        if request is None or len(commit.parents) != 1 or not request.commits:
            return None
        numbers = [history.find(sha) for sha in request.commits]
        if all(original is None for original in numbers):
            return None
        for original in numbers:
            if original is None:
                continue
            if history.is_before(original, number):
                return None
            patch = history.commits[original].patch_id
            # One original of a one-commit pull request has the squash's own patch; it is still the original.
            if (
                patch
                and patch != commit.patch_id
                and any(history.is_before(twin, number) for twin in history.with_patch(patch))
            ):
                return None
        if len(request.commits) > 1 and any(
            original is not None
            and history.commits[original].patch_id
            and history.commits[original].patch_id == commit.patch_id
            for original in numbers
        ):
            return None
        return numbers

    def _add(
        self,
        deployment: Deployment,
        folded: str,
        number: int,
        excluded: str | None,
        request: PullRequestFacts | None,
        original_of: str | None,
        path_unknown: bool,
    ) -> None:
        history = self.histories[folded]
        commit = history.commits[number]
        original = commit
        if (folded, commit.sha) in self.recorded:
            return
        self.recorded.add((folded, commit.sha))
        if excluded is None:
            origins = _picked_from(history, commit)
            sources = [history.find(sha) for sha in origins]
            picked = [history.commits[source] for source in sources if source is not None]
            twins = [commit.sha, *origins]
            patch = (folded, commit.patch_id) if commit.patch_id else None
            if commit.patch_id:
                picked += [history.commits[twin] for twin in history.with_patch(commit.patch_id)]
            already = (
                any((folded, sha) in self.counted for sha in twins)
                or any(source is not None and self._shipped_before(folded, source, deployment) for source in sources)
                or (patch is not None and patch in self.patches)
            )
            if already:
                excluded = "cherry_picked"
            else:
                # A pick is its original's work: whose it is and when it was written come from there.
                original = min([commit, *picked], key=lambda twin: (twin.authored_at, twin.sha))
            self.counted.update((folded, sha) for sha in twins)
            if patch is not None:
                self.patches.add(patch)
        if excluded is None and deployment.finished_at is None:
            excluded = "finish_unknown"
        authored_at = original.authored_at
        if excluded is None and deployment.finished_at is not None and authored_at > deployment.finished_at:
            excluded = "authored_after_deploy"
        first_authored_at = None
        if request is not None:
            times = [
                history.commits[found].authored_at
                for found in (history.find(sha) for sha in request.commits)
                if found is not None
            ]
            first_authored_at = min(times, default=None)
        if request is not None and excluded != "cherry_picked" and (excluded != "merge_commit" or not request.commits):
            # What was shipped before by a pick brings its pull request's hotfix marks along no second time.
            deployment.pull_requests[folded, request.number] = request
        self.owner.setdefault((folded, commit.sha), deployment)
        self.owned.append(
            OwnedCommit(
                deployment=deployment,
                repository=folded,
                sha=commit.sha,
                author=original.author,
                is_bot=original.is_bot,
                authored_at=authored_at,
                excluded=excluded,
                pull_request=request,
                original_of=original_of,
                path_unknown=path_unknown,
                first_authored_at=first_authored_at,
            )
        )

    def _shipped_before(self, folded: str, number: int, deployment: Deployment) -> bool:
        """Whether a commit was reachable from an earlier deployment already (the picked original is live)."""
        if not self.seen[folded][number]:
            return False
        owner = self.owner.get((folded, self.histories[folded].commits[number].sha))
        return owner is not deployment


def _picked_from(history: History, commit: CommitFacts) -> list[str]:
    """What a message says the commit was picked from, in full where it is known."""
    return [history.full_sha(sha) or sha for sha in commit.picked_from]


def _identity(deployment: Deployment) -> frozenset[tuple[str, str]]:
    return frozenset((name.casefold(), sha) for name, sha in deployment.revisions.items())


def _merge_order(request: PullRequestFacts) -> tuple[bool, datetime, int]:
    return request.merged_at is None, request.merged_at or request.created_at, request.number
