"""What happens on the fake GitHub: repositories, pull requests, runs, deployments, issues and releases, by a clock.

GitHub tells whole seconds, and whatever changes gets the clock's time as its last change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

# Ids of runs and jobs do not fit into 32 bits.
WIDE = 20_000_000_000
# Where bundles lie, and the secret part of their addresses.
STORE = "https://store.github.test/blobs"
SIGNED = "canarySignatureCanarySignature0001"


def text(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


@dataclass
class Commit:
    sha: str
    parents: list[str]
    author: str | None
    message: str
    authored_at: datetime
    committed_at: datetime
    files: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Tag:
    name: str
    sha: str
    # None is a tag without a tagger: a name alone.
    tagged_at: datetime | None


@dataclass
class Review:
    id: int
    author: str | None
    state: str
    submitted_at: datetime | None


@dataclass
class Pull:
    id: int
    number: int
    title: str
    author: str | None
    created_at: datetime
    updated_at: datetime
    head_ref: str
    commits: list[str]
    labels: list[str] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    merged_at: datetime | None = None
    closed_at: datetime | None = None
    merge_sha: str | None = None
    # Full name of where the head came from; None is a fork that was deleted.
    head_repository: str | None = None


@dataclass
class Attempt:
    number: int
    status: str
    conclusion: str | None
    started_at: datetime
    updated_at: datetime
    jobs: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Run:
    id: int
    path: str
    sha: str
    created_at: datetime
    # The repository that the head came from; a fork may be deleted later.
    head_repository: dict[str, Any] | None
    attempts: list[Attempt] = field(default_factory=list)
    event: str = "push"
    branch: str = "main"
    job_names: tuple[str, ...] = ("test", "lint")


class Status(NamedTuple):
    state: str
    at: datetime
    log: str | None


@dataclass
class Deployment:
    id: int
    environment: str
    sha: str
    created_at: datetime
    updated_at: datetime
    creator: str | None
    statuses: list[Status] = field(default_factory=list)
    ref: str | None = "main"
    # As GraphQL gives it: JSON in text.
    payload: str | None = None


@dataclass
class Issue:
    id: int
    number: int
    title: str
    labels: list[str]
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    is_pull_request: bool = False


@dataclass
class Release:
    id: int
    tag: str
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    draft: bool = False
    assets: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class RateLimit:
    """Points of an hour, by resource; a window opens with its first request and ends by the world's clock."""

    limit: int = 5000
    window_seconds: int = 3600
    _used: dict[str, int] = field(default_factory=dict)
    _resets_at: dict[str, datetime] = field(default_factory=dict)

    def look(self, resource: str, now: datetime) -> tuple[int, int]:
        """Points left and the second at which the window ends."""
        if resource not in self._resets_at or now >= self._resets_at[resource]:
            self._resets_at[resource] = now + timedelta(seconds=self.window_seconds)
            self._used[resource] = 0
        return max(0, self.limit - self._used[resource]), int(self._resets_at[resource].timestamp())

    def spend(self, resource: str, points: int, now: datetime) -> None:
        self.look(resource, now)
        self._used[resource] += points


@dataclass
class Repository:
    id: int
    owner: str
    name: str
    created_at: datetime
    pushed_at: datetime
    clone_url: str
    former_names: list[str] = field(default_factory=list)
    head: str | None = None
    pulls: list[Pull] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    default_branch: str = "main"
    # Newest first, of the default branch.
    commits: list[Commit] = field(default_factory=list)
    # Every commit there ever was; what no branch leads to is still there.
    graph: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: list[Tag] = field(default_factory=list)
    archived: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def node_id(self) -> str:
        return f"R_{self.id}"


class World:
    """All repositories of one organisation, and the time."""

    def __init__(
        self, organization: str = "acme", now: datetime | None = None, rate_limit: RateLimit | None = None
    ) -> None:
        self.organization = organization
        self.now = now or datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.rate_limit = rate_limit
        self.repositories: dict[int, Repository] = {}
        # Digest to what a bulk list tells of it.
        self.attestations: dict[str, list[dict[str, Any]]] = {}
        # Environments, cluster and name to what runs there; nobody may read them while `records_refused`.
        self.deployment_records: dict[tuple[str | None, ...], dict[str, Any]] = {}
        self.records_refused = False
        self.blobs: dict[str, bytes] = {}
        # Node id to its repository and item.
        self.nodes: dict[str, tuple[Repository, Any]] = {}
        self.runs_by_id: dict[int, Run] = {}
        self._last_id = 1_000_000_000

    @property
    def second(self) -> datetime:
        """The clock as GitHub tells it."""
        return self.now.replace(microsecond=0)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # --- repositories ------------------------------------------------------------------------------------------------

    def repository(self, name: str, clone_url: str = "file:///nonexistent") -> Repository:
        made = Repository(self.new_id(), self.organization, name, self.second, self.second, clone_url)
        self.repositories[made.id] = made
        self.nodes[made.node_id] = (made, made)
        return made

    def rename(self, repository: Repository, name: str) -> None:
        """The old name leads to the new one until another repository takes it."""
        repository.former_names.append(repository.name)
        repository.name = name

    def named(self, name: str) -> tuple[Repository | None, bool]:
        """The repository of a name, and whether it has moved since; names are not case sensitive."""
        wanted = name.lower()
        for one in self.repositories.values():
            if one.name.lower() == wanted:
                return one, False
        for one in self.repositories.values():
            if wanted in (former.lower() for former in one.former_names):
                return one, True
        return None, False

    def push(self, at: Repository, count: int = 1, author: str | None = "ada", message: str = "Change") -> list[Commit]:
        """Commits on the default branch, oldest first in what is returned."""
        made = [self._commit(at, f"{self.new_id():040x}", author, message) for _ in range(count)]
        at.pushed_at = self.second
        return made

    def branch(self, at: Repository, name: str, commits: int = 1) -> None:
        """A branch with commits of its own on what the default branch is now."""
        at.branches[name] = self._topic(at, self.new_id(), commits, "ada")[-1]
        at.pushed_at = self.second

    def rewrite(self, at: Repository, dropped: int) -> None:
        """The default branch loses its newest commits; they stay where they are."""
        at.commits = at.commits[dropped:]
        at.head = at.commits[0].sha
        at.branches[at.default_branch] = at.head
        at.pushed_at = self.second

    def tag(self, at: Repository, name: str, *, annotated: bool = True) -> None:
        assert at.head is not None
        at.tags.append(Tag(name, at.head, self.second if annotated else None))
        at.pushed_at = self.second

    def _commit(self, at: Repository, sha: str, author: str | None, message: str, *parents: str) -> Commit:
        before = [at.head] if at.head else []
        commit = Commit(sha, [*before, *parents], author, message, self.second, self.second)
        at.commits.insert(0, commit)
        at.graph[sha] = commit
        at.head = at.branches[at.default_branch] = sha
        self.nodes[f"C_{sha}"] = (at, commit)
        return commit

    # --- pull requests -----------------------------------------------------------------------------------------------

    def open_pull(self, at: Repository, commits: int = 1, author: str | None = "ada", *, fork: bool = False) -> Pull:
        number = len(at.pulls) + len(at.issues) + 1
        identity = self.new_id()
        shas = self._topic(at, identity, commits, author)
        pull = Pull(identity, number, f"Change {number}", author, self.second, self.second, f"topic-{number}", shas)
        pull.head_repository = f"{author or 'ghost'}/{at.name}" if fork else at.full_name
        at.pulls.append(pull)
        self.nodes[f"PR_{pull.id}"] = (at, pull)
        return pull

    def _topic(self, at: Repository, identity: int, commits: int, author: str | None) -> list[str]:
        """A chain of commits on what the default branch is now; no branch leads there."""
        shas: list[str] = []
        before = [at.head] if at.head else []
        for index in range(commits):
            sha = f"{identity:08x}{index:032x}"
            at.graph[sha] = Commit(sha, before, author, f"Step {index}", self.second, self.second)
            before = [sha]
            shas.append(sha)
        return shas

    def review(self, pull: Pull, state: str, author: str | None) -> Review:
        """A review of the state PENDING is still being written: it has no time, and moves nothing."""
        pending = state == "PENDING"
        made = Review(self.new_id(), author, state, None if pending else self.second)
        pull.reviews.append(made)
        if not pending:
            pull.updated_at = self.second
        return made

    def edit_pull(self, pull: Pull, title: str) -> None:
        pull.title = title
        pull.updated_at = self.second

    def label_pull(self, pull: Pull, labels: list[str]) -> None:
        pull.labels = list(labels)
        pull.updated_at = self.second

    def force_push(self, at: Repository, pull: Pull) -> None:
        pull.commits = self._topic(at, self.new_id(), len(pull.commits), pull.author)
        pull.updated_at = self.second

    def delete_fork(self, pull: Pull) -> None:
        """The head's repository is gone; GitHub does not call that a change of the pull request."""
        pull.head_repository = None

    def close_pull(self, pull: Pull) -> None:
        pull.closed_at = pull.updated_at = self.second

    def merge(self, at: Repository, pull: Pull, *, squash: bool = False) -> None:
        pull.merged_at = pull.closed_at = pull.updated_at = self.second
        pull.merge_sha = f"{self.new_id():040x}"
        others = [] if squash else pull.commits[-1:]
        self._commit(at, pull.merge_sha, pull.author, f"Merge pull request #{pull.number}", *others)
        at.pushed_at = self.second

    # --- runs --------------------------------------------------------------------------------------------------------

    def start_run(
        self,
        at: Repository,
        path: str = ".github/workflows/ci.yml",
        *,
        fork: bool = False,
        sha: str | None = None,
        jobs: tuple[str, ...] = ("test", "lint"),
    ) -> Run:
        """A queued run; `fork` is one whose fork was deleted. The first job ends as the run does, others pass."""
        head = None if fork else {"id": at.id, "full_name": at.full_name}
        run = Run(WIDE + self.new_id(), path, sha or f"{self.new_id():040x}", self.second, head, job_names=jobs)
        run.attempts.append(Attempt(1, "queued", None, self.second, self.second))
        at.runs.append(run)
        self.runs_by_id[run.id] = run
        return run

    def proceed(self, run: Run, conclusion: str = "success") -> None:
        """Queued becomes in progress, in progress becomes completed with its jobs."""
        attempt = run.attempts[-1]
        if attempt.status == "completed":
            return
        attempt.updated_at = self.second
        if attempt.status == "queued":
            attempt.status = "in_progress"
            return
        attempt.status, attempt.conclusion = "completed", conclusion
        before = run.attempts[-2].jobs if attempt.number > 1 else []
        # "Re-run failed jobs" shows the passed ones again, with the times they had.
        failed = any(job["conclusion"] != "success" for job in before)
        kept = {job["name"]: job for job in before if failed and job["conclusion"] == "success"}
        began = text(attempt.started_at)
        for index, name in enumerate(run.job_names):
            if name in kept:
                again = {"id": WIDE + self.new_id(), "run_attempt": attempt.number, "created_at": began}
                attempt.jobs.append({**kept[name], **again})
            else:
                attempt.jobs.append(self._job(run, attempt, name, conclusion if index == 0 else "success", began))

    def _job(self, run: Run, attempt: Attempt, name: str, conclusion: str, began: str | None) -> dict[str, Any]:
        return {
            "id": WIDE + self.new_id(), "run_id": run.id, "run_attempt": attempt.number, "name": name,
            "head_sha": run.sha, "status": "completed", "conclusion": conclusion, "created_at": began,
            "started_at": began, "completed_at": text(self.second), "runner_name": "runner-1",
            "labels": ["ubuntu-latest"],
        }  # fmt: skip

    def run_again(self, run: Run) -> None:
        """Start failed jobs again, or all of them where none failed."""
        if run.attempts[-1].status == "completed":
            run.attempts.append(Attempt(len(run.attempts) + 1, "queued", None, self.second, self.second))

    # --- deployments -------------------------------------------------------------------------------------------------

    def deploy(self, at: Repository, environment: str = "production", sha: str | None = None) -> Deployment:
        commit = sha or f"{self.new_id():040x}"
        made = Deployment(self.new_id(), environment, commit, self.second, self.second, "ada")
        at.deployments.append(made)
        self.nodes[f"DE_{made.id}"] = (at, made)
        return made

    def set_status(self, at: Repository, deployment: Deployment, state: str, run: Run | None = None) -> None:
        """A success turns the earlier successes of the same environment inactive."""
        log = f"https://github.test/{at.full_name}/actions/runs/{run.id}/job/1" if run else None
        deployment.statuses.append(Status(state, self.second, log))
        deployment.updated_at = self.second
        if state == "SUCCESS":
            for other in at.deployments:
                if other is deployment or other.environment != deployment.environment or not other.statuses:
                    continue
                if other.statuses[-1].state == "SUCCESS":
                    other.statuses.append(Status("INACTIVE", self.second, None))
                    other.updated_at = self.second

    # --- issues, releases, attestations ------------------------------------------------------------------------------

    def open_issue(self, at: Repository, labels: list[str]) -> Issue:
        number = len(at.pulls) + len(at.issues) + 1
        issue = Issue(self.new_id(), number, f"Trouble {number}", labels, self.second, self.second)
        at.issues.append(issue)
        self.nodes[f"I_{issue.id}"] = (at, issue)
        return issue

    def label_issue(self, issue: Issue, labels: list[str]) -> None:
        issue.labels = list(labels)
        issue.updated_at = self.second

    def close_issue(self, issue: Issue) -> None:
        issue.closed_at = issue.updated_at = self.second

    def reopen_issue(self, issue: Issue) -> None:
        issue.closed_at = None
        issue.updated_at = self.second

    def release(self, at: Repository, tag: str, *, draft: bool = False) -> Release:
        made = Release(self.new_id(), tag, self.second, self.second, None if draft else self.second, draft)
        at.releases.append(made)
        self.nodes[f"RE_{made.id}"] = (at, made)
        return made

    def publish(self, release: Release) -> None:
        release.draft = False
        release.published_at = release.updated_at = self.second

    def upload(self, release: Release, name: str) -> str:
        """An asset; returns its digest."""
        digest = f"sha256:{self.new_id():064x}"
        asset = {"id": self.new_id(), "name": name, "digest": digest, "created_at": text(self.second)}
        release.assets.append({**asset, "updated_at": text(self.second)})
        release.updated_at = self.second
        return digest

    def attest(self, at: Repository, digest: str, bundle: dict[str, Any]) -> None:
        """An attestation whose bundle comes with the list."""
        told = {"bundle": bundle, "repository_id": at.id, "bundle_url": f"{STORE}/{self.new_id()}"}
        self.attestations.setdefault(digest, []).append(told)

    def attest_in_store(self, at: Repository, digest: str, stored: bytes) -> None:
        """An attestation whose bundle lies in a store, behind a signed address."""
        address = f"/{self.new_id()}"
        self.blobs[address] = stored
        told = {"bundle": None, "repository_id": at.id, "bundle_url": f"{STORE}{address}?sig={SIGNED}"}
        self.attestations.setdefault(digest, []).append(told)

    def record_deployment(
        self, digest: str, name: str, environment: str = "production", region: str | None = None
    ) -> dict[str, Any]:
        """A deployment record; the one that stood in its place is overwritten."""
        place = (environment, region, None, name)
        before = self.deployment_records.get(place)
        made = {
            "id": before["id"] if before else self.new_id(), "digest": digest, "logical_environment": environment,
            "physical_environment": region, "cluster": None, "deployment_name": name, "tags": {},
            "created_at": before["created_at"] if before else text(self.second), "updated_at": text(self.second),
            "attestation_id": None,
        }  # fmt: skip
        self.deployment_records[place] = made
        return made
