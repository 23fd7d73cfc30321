"""What happens on the fake GitHub: repositories, pull requests, runs, deployments, issues and releases, by a clock.

GitHub tells whole seconds, and whatever changes gets the clock's time as its last change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any


def text(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


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


@dataclass
class Deployment:
    id: int
    environment: str
    sha: str
    created_at: datetime
    updated_at: datetime
    creator: str | None
    statuses: list[tuple[str, datetime, str | None]] = field(default_factory=list)


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

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def node_id(self) -> str:
        return f"R_{self.id}"


class World:
    """All repositories of one organisation, and the time."""

    def __init__(self, organization: str = "acme", now: datetime | None = None) -> None:
        self.organization = organization
        self.now = now or datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.repositories: dict[int, Repository] = {}
        self._last_id = 1_000_000_000

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def repository(self, name: str, clone_url: str = "file:///nonexistent") -> Repository:
        made = Repository(self.new_id(), self.organization, name, self.now, self.now, clone_url)
        self.repositories[made.id] = made
        return made

    def rename(self, repository: Repository, name: str) -> None:
        repository.former_names.append(repository.name)
        repository.name = name

    # --- pull requests ---------------------------------------------------------------------------------------------

    def open_pull(self, at: Repository, commits: int = 1, author: str | None = "ada") -> Pull:
        number = len(at.pulls) + len(at.issues) + 1
        identity = self.new_id()
        shas = [f"{identity:08x}{index:032x}" for index in range(commits)]
        pull = Pull(identity, number, f"Change {number}", author, self.now, self.now, f"topic-{number}", shas)
        at.pulls.append(pull)
        return pull

    def review(self, pull: Pull, state: str, author: str | None) -> None:
        pull.reviews.append(Review(self.new_id(), author, state, self.now))
        pull.updated_at = self.now

    def edit_pull(self, pull: Pull, title: str) -> None:
        pull.title = title
        pull.updated_at = self.now

    def force_push(self, pull: Pull) -> None:
        identity = self.new_id()
        pull.commits = [f"{identity:08x}{index:032x}" for index in range(len(pull.commits))]
        pull.updated_at = self.now

    def merge(self, at: Repository, pull: Pull) -> None:
        pull.merged_at = pull.closed_at = pull.updated_at = self.now
        pull.merge_sha = f"{self.new_id():040x}"
        at.head, at.pushed_at = pull.merge_sha, self.now

    # --- runs --------------------------------------------------------------------------------------------------------

    def start_run(self, at: Repository, path: str = ".github/workflows/ci.yml", *, fork: bool = False) -> Run:
        head = None if fork else {"id": at.id, "full_name": at.full_name}
        run = Run(self.new_id(), path, f"{self.new_id():040x}", self.now, head)
        run.attempts.append(Attempt(1, "queued", None, self.now, self.now))
        at.runs.append(run)
        return run

    def proceed(self, run: Run, conclusion: str = "success") -> None:
        """Queued becomes in progress, in progress becomes completed with its jobs."""
        attempt = run.attempts[-1]
        if attempt.status == "completed":
            return
        attempt.updated_at = self.now
        if attempt.status == "queued":
            attempt.status = "in_progress"
            return
        attempt.status, attempt.conclusion = "completed", conclusion
        attempt.jobs += [self._job(run, attempt, name, conclusion, attempt.started_at) for name in ("test",)]
        if attempt.number == 1:
            attempt.jobs.append(self._job(run, attempt, "lint", "success", attempt.started_at))
        else:
            # "Re-run failed jobs" shows the passed ones again, with the times they had.
            passed = run.attempts[0].jobs[-1]
            attempt.jobs.append({**passed, "id": self.new_id(), "run_attempt": attempt.number,
                                 "created_at": text(attempt.started_at)})  # fmt: skip

    def _job(self, run: Run, attempt: Attempt, name: str, conclusion: str, created: datetime) -> dict[str, Any]:
        return {
            "id": self.new_id(), "run_id": run.id, "run_attempt": attempt.number, "name": name, "status": "completed",
            "conclusion": conclusion, "created_at": text(created), "started_at": text(created),
            "completed_at": text(self.now), "runner_name": "runner-1", "labels": ["ubuntu-latest"],
        }  # fmt: skip

    def run_again(self, run: Run) -> None:
        if run.attempts[-1].status == "completed":
            run.attempts.append(Attempt(len(run.attempts) + 1, "queued", None, self.now, self.now))

    # --- deployments, issues, releases -------------------------------------------------------------------------------

    def deploy(self, at: Repository, environment: str = "production") -> Deployment:
        made = Deployment(self.new_id(), environment, f"{self.new_id():040x}", self.now, self.now, "ada")
        at.deployments.append(made)
        return made

    def set_status(self, at: Repository, deployment: Deployment, state: str, run: Run | None = None) -> None:
        """A success turns the earlier successes of the same environment inactive."""
        log = f"https://github.test/{at.full_name}/actions/runs/{run.id}/job/1" if run else None
        deployment.statuses.append((state, self.now, log))
        deployment.updated_at = self.now
        if state == "SUCCESS":
            for other in at.deployments:
                if other is deployment or other.environment != deployment.environment or not other.statuses:
                    continue
                if other.statuses[-1][0] == "SUCCESS":
                    other.statuses.append(("INACTIVE", self.now, None))
                    other.updated_at = self.now

    def open_issue(self, at: Repository, labels: list[str]) -> Issue:
        number = len(at.pulls) + len(at.issues) + 1
        issue = Issue(self.new_id(), number, f"Trouble {number}", labels, self.now, self.now)
        at.issues.append(issue)
        return issue

    def close_issue(self, issue: Issue) -> None:
        issue.closed_at = issue.updated_at = self.now

    def release(self, at: Repository, tag: str, *, draft: bool = False) -> Release:
        made = Release(self.new_id(), tag, self.now, self.now, None if draft else self.now, draft)
        at.releases.append(made)
        return made

    def upload(self, release: Release, name: str) -> None:
        digest = f"sha256:{self.new_id():064x}"
        asset = {"id": self.new_id(), "name": name, "digest": digest, "created_at": text(self.now)}
        release.assets.append({**asset, "updated_at": text(self.now)})
        release.updated_at = self.now
