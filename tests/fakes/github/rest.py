"""The REST half of the fake: routes by repository id, strict about what it does not know."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from tests.fakes.github.world import Attempt, Issue, Release, Repository, Run, World, text

REACHABLE = 1000


class ProblemError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, location: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.location = location


def answer(world: World, path: str, query: dict[str, str]) -> tuple[Any, list[int]]:
    """The JSON of a GET, and the numbers of the present and the last page where it is a list."""
    if path == "/rate_limit":
        return {"resources": {"core": {"limit": 5000, "remaining": 4999, "reset": 0}}}, []
    if match := re.fullmatch(r"/repos/([^/]+)/([^/]+)(/.*)?", path):
        for repository in world.repositories.values():
            if match[2] in repository.former_names:
                raise ProblemError(301, "Moved Permanently", f"/repositories/{repository.id}{match[3] or ''}")
            if match[2] == repository.name:
                return answer(world, f"/repositories/{repository.id}{match[3] or ''}", query)
        raise ProblemError(404, "Not Found")
    match = re.fullmatch(r"/repositories/(\d+)(/.*)?", path)
    if not match or int(match[1]) not in world.repositories:
        raise ProblemError(404, "Not Found")
    repository, rest = world.repositories[int(match[1])], match[2] or ""
    if not rest:
        return {"id": repository.id, "full_name": repository.full_name}, []
    if rest == "/actions/runs":
        _known(query, "created", "per_page", "page")
        return _runs(repository, query)
    if match := re.fullmatch(r"/actions/runs/(\d+)(?:/attempts/(\d+))?", rest):
        run = _run(repository, int(match[1]))
        number = int(match[2] or len(run.attempts))
        if not 1 <= number <= len(run.attempts):
            raise ProblemError(404, "Not Found")
        return run_json(repository, run, run.attempts[number - 1]), []
    if match := re.fullmatch(r"/actions/runs/(\d+)/jobs", rest):
        _known(query, "filter", "per_page", "page")
        run = _run(repository, int(match[1]))
        attempts = run.attempts if query.get("filter") == "all" else run.attempts[-1:]
        jobs = [job for attempt in attempts for job in attempt.jobs]
        page, numbers = _page(jobs, query)
        return {"total_count": len(jobs), "jobs": page}, numbers
    if rest == "/issues":
        _known(query, "labels", "state", "sort", "direction", "since", "per_page", "page")
        return _issues(repository, query)
    if rest == "/releases":
        _known(query, "per_page", "page")
        newest = sorted(repository.releases, key=lambda one: (one.created_at, one.id), reverse=True)
        return _page([release_json(one) for one in newest], query)
    raise ProblemError(404, "Not Found")


def run_json(repository: Repository, run: Run, attempt: Attempt) -> dict[str, Any]:
    return {
        "id": run.id, "name": "CI", "path": run.path, "head_branch": "main", "head_sha": run.sha, "event": "push",
        "status": attempt.status, "conclusion": attempt.conclusion, "run_attempt": attempt.number,
        "created_at": text(run.created_at), "run_started_at": text(attempt.started_at),
        "updated_at": text(attempt.updated_at), "actor": {"login": "ada"}, "triggering_actor": {"login": "ada"},
        "head_repository": run.head_repository, "referenced_workflows": [],
        "repository": {"id": repository.id, "full_name": repository.full_name},
    }  # fmt: skip


def issue_json(repository: Repository, issue: Issue) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": issue.id, "number": issue.number, "title": issue.title,
        "labels": [{"id": 1, "name": label} for label in issue.labels],
        "state": "closed" if issue.closed_at else "open", "created_at": text(issue.created_at),
        "updated_at": text(issue.updated_at), "closed_at": text(issue.closed_at),
        "html_url": f"https://github.test/{repository.full_name}/issues/{issue.number}", "user": None,
    }  # fmt: skip
    if issue.is_pull_request:
        found["pull_request"] = {"url": "https://github.test/pulls"}
    return found


def release_json(release: Release) -> dict[str, Any]:
    return {
        "id": release.id, "tag_name": release.tag, "name": release.tag, "draft": release.draft,
        "target_commitish": "main", "created_at": text(release.created_at), "updated_at": text(release.updated_at),
        "published_at": text(release.published_at), "assets": list(release.assets),
    }  # fmt: skip


def _known(query: dict[str, str], *names: str) -> None:
    for name in query:
        if name not in names:
            raise ProblemError(422, f"unknown parameter {name}")


def _run(repository: Repository, identity: int) -> Run:
    for run in repository.runs:
        if run.id == identity:
            return run
    raise ProblemError(404, "Not Found")


def _moment(value: str, *, is_end: bool = False) -> datetime:
    if "T" in value:
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is None or moment.utcoffset() != UTC.utcoffset(None):
            raise ProblemError(422, f"not a UTC time: {value}")
        return moment
    return datetime.fromisoformat(value + ("T23:59:59+00:00" if is_end else "T00:00:00+00:00"))


def _runs(repository: Repository, query: dict[str, str]) -> tuple[Any, list[int]]:
    runs = sorted(repository.runs, key=lambda run: (run.created_at, run.id), reverse=True)
    created = query.get("created")
    if created:
        if created.startswith(">="):
            runs = [run for run in runs if run.created_at >= _moment(created[2:])]
        elif ".." in created:
            start, end = created.split("..")
            runs = [run for run in runs if _moment(start) <= run.created_at <= _moment(end, is_end=True)]
        else:
            raise ProblemError(422, f"unknown window {created}")
    shown = runs[:REACHABLE] if created else runs
    page, numbers = _page([run_json(repository, run, run.attempts[-1]) for run in shown], query)
    return {"total_count": len(runs), "workflow_runs": page}, numbers


def _issues(repository: Repository, query: dict[str, str]) -> tuple[Any, list[int]]:
    issues = [*repository.issues]
    for pull in repository.pulls:
        issues.append(
            Issue(pull.id, pull.number, pull.title, pull.labels, pull.created_at, pull.updated_at, pull.closed_at, True)
        )
    labels = [label for label in query.get("labels", "").split(",") if label]
    issues = [issue for issue in issues if all(label in issue.labels for label in labels)]
    if query.get("state", "open") != "all":
        issues = [issue for issue in issues if issue.closed_at is None]
    if "since" in query:
        issues = [issue for issue in issues if issue.updated_at >= _moment(query["since"])]
    if query.get("sort") != "updated" or query.get("direction") != "asc":
        raise ProblemError(422, "this fake sorts by updated, ascending")
    issues.sort(key=lambda issue: (issue.updated_at, issue.id))
    return _page([issue_json(repository, issue) for issue in issues], query)


def _page(items: list[Any], query: dict[str, str]) -> tuple[list[Any], list[int]]:
    size, number = int(query.get("per_page", 30)), int(query.get("page", 1))
    if not 1 <= size <= 100:
        raise ProblemError(422, "per_page must be between 1 and 100")
    return items[(number - 1) * size : number * size], [number, max(1, -(-len(items) // size))]
