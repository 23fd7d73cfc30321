"""The REST half of the fake: routes by repository id, strict about what it does not know."""

from __future__ import annotations

import base64
import heapq
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from tests.fakes.github.world import Attempt, Commit, Issue, Release, Repository, Run, World, text

# A list of runs that is filtered shows no more than this, and one that is not no more than that.
REACHABLE = 1000
REACHABLE_UNFILTERED = 40_000
BULK_DIGESTS = 1024
ACCESS_TOKENS = re.compile(r"/app/installations/(\d{1,18})/access_tokens")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(Z|\+00:00))?")

Listed = tuple[Any, list[int]]


class ProblemError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, location: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.location = location


def answer(world: World, method: str, path: str, query: dict[str, str], sent: Any = None) -> Listed:
    """The JSON of a request, and the numbers of the present and the last page where it is a list."""
    if match := re.fullmatch(r"/repos/([^/]+)/([^/]+)(/.*)?", path):
        repository, moved = world.named(match[2])
        if repository is None or match[1].lower() != world.organization.lower():
            raise ProblemError(404, "Not Found")
        target = f"/repositories/{repository.id}{match[3] or ''}"
        if moved:
            # Without the query: whoever follows blindly reads another list.
            raise ProblemError(301, "Moved Permanently", target)
        return answer(world, method, target, query, sent)
    if match := re.fullmatch(r"/orgs/([^/]+)/attestations/bulk-list", path):
        if method != "POST" or match[1].lower() != world.organization.lower():
            raise ProblemError(404, "Not Found")
        known(query, "per_page", "before", "after")
        return _attestations(world, query, sent), []
    if match := re.fullmatch(r"/orgs/([^/]+)/artifacts/(sha256:[0-9a-f]{64})/metadata/deployment-records", path):
        if method != "GET" or match[1].lower() != world.organization.lower():
            raise ProblemError(404, "Not Found")
        if world.records_refused:
            raise ProblemError(403, "Resource not accessible by integration")
        known(query)
        told = [record for record in world.deployment_records.values() if record["digest"] == match[2]]
        return {"total_count": len(told), "deployment_records": told}, []
    match = re.fullmatch(r"/repositories/(\d{1,18})(/.*)?", path)
    if method != "GET" or not match or int(match[1]) not in world.repositories:
        raise ProblemError(404, "Not Found")
    return _of_repository(world, world.repositories[int(match[1])], match[2] or "", query)


def _of_repository(world: World, repository: Repository, rest: str, query: dict[str, str]) -> Listed:
    if not rest:
        known(query)
        return repository_json(repository), []
    if rest == "/actions/runs":
        known(query, "created", "status", "event", "branch", "head_sha", "per_page", "page")
        return _runs(repository, query)
    if match := re.fullmatch(r"/actions/runs/(\d{1,18})(?:/attempts/(\d{1,9}))?", rest):
        known(query)
        run = _run(world, repository, int(match[1]))
        number = int(match[2] or len(run.attempts))
        if not 1 <= number <= len(run.attempts):
            raise ProblemError(404, "Not Found")
        return run_json(repository, run, run.attempts[number - 1]), []
    if match := re.fullmatch(r"/actions/runs/(\d{1,18})/jobs", rest):
        known(query, "filter", "per_page", "page")
        run = _run(world, repository, int(match[1]))
        if query.get("filter", "latest") not in ("latest", "all"):
            raise ProblemError(422, "filter is latest or all")
        attempts = run.attempts if query.get("filter") == "all" else run.attempts[-1:]
        jobs = [job for attempt in attempts for job in attempt.jobs]
        page, numbers = _page(jobs, query)
        return {"total_count": len(jobs), "jobs": page}, numbers
    if rest == "/issues":
        known(query, "labels", "state", "sort", "direction", "since", "per_page", "page")
        return _issues(repository, query)
    if rest == "/releases":
        known(query, "per_page", "page")
        newest = sorted(repository.releases, key=lambda one: (one.created_at, one.id), reverse=True)
        page, numbers = _page(newest, query)
        return [release_json(one) for one in page], numbers
    if rest == "/commits":
        known(query, "sha", "path", "per_page", "page")
        found = _history(repository, query.get("sha", repository.default_branch))
        if "path" in query:
            found = [one for one in found if any(file["filename"] == query["path"] for file in one.files)]
        page, numbers = _page(found, query)
        return [commit_json(one) for one in page], numbers
    if match := re.fullmatch(r"/commits/([0-9a-f]{40})", rest):
        known(query, "per_page", "page")
        if match[1] not in repository.graph:
            raise ProblemError(422, f"No commit found for SHA: {match[1]}")
        one = repository.graph[match[1]]
        page, numbers = _page(one.files, query)
        return {**commit_json(one), "files": page}, numbers
    if match := re.fullmatch(r"/contents/(.+)", rest):
        known(query, "ref")
        for one in _history(repository, query["ref"]):
            for file in one.files:
                if file["filename"] == unquote(match[1]) and file["status"] != "removed":
                    return {"type": "file", "path": file["filename"]}, []
                if unquote(match[1]) in (file["filename"], file.get("previous_filename")):
                    raise ProblemError(404, "Not Found")
        raise ProblemError(404, "Not Found")
    raise ProblemError(404, "Not Found")


def rate_limits(budget: Callable[[str], tuple[int, int, int]]) -> dict[str, Any]:
    resources = {}
    for resource in ("core", "graphql"):
        limit, left, resets_at = budget(resource)
        resources[resource] = {"limit": limit, "remaining": left, "used": limit - left, "reset": resets_at}
    return {"resources": resources, "rate": resources["core"]}


# --- items -----------------------------------------------------------------------------------------------------------


def repository_json(repository: Repository) -> dict[str, Any]:
    return {
        "id": repository.id, "node_id": repository.node_id, "name": repository.name,
        "full_name": repository.full_name, "owner": {"login": repository.owner},
        "default_branch": repository.default_branch, "clone_url": repository.clone_url,
        "created_at": text(repository.created_at), "pushed_at": text(repository.pushed_at),
        "archived": repository.archived,
    }  # fmt: skip


def run_json(repository: Repository, run: Run, attempt: Attempt) -> dict[str, Any]:
    return {
        "id": run.id, "name": "CI", "path": run.path, "head_branch": run.branch, "head_sha": run.sha,
        "event": run.event, "status": attempt.status, "conclusion": attempt.conclusion,
        "run_attempt": attempt.number, "created_at": text(run.created_at),
        "run_started_at": text(attempt.started_at), "updated_at": text(attempt.updated_at),
        "actor": {"login": "ada"}, "triggering_actor": {"login": "ada"}, "head_repository": run.head_repository,
        "referenced_workflows": [], "repository": {"id": repository.id, "full_name": repository.full_name},
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


def commit_json(commit: Commit) -> dict[str, Any]:
    person = {"name": commit.author or "ghost", "email": f"{commit.author}@acme.test"}
    return {
        "sha": commit.sha,
        "commit": {
            "message": commit.message,
            "author": {**person, "date": text(commit.authored_at)},
            "committer": {**person, "date": text(commit.committed_at)},
        },
        "author": {"login": commit.author} if commit.author else None,
        "parents": [{"sha": parent} for parent in commit.parents],
    }


# --- lists -----------------------------------------------------------------------------------------------------------


def known(query: dict[str, str], *names: str) -> None:
    for name in query:
        if name not in names:
            raise ProblemError(422, f"unknown parameter {name}")


def _run(world: World, repository: Repository, identity: int) -> Run:
    run = world.runs_by_id.get(identity)
    # By identity: that it is of this repository, and was not deleted.
    if run is None or not any(one is run for one in repository.runs):
        raise ProblemError(404, "Not Found")
    return run


def _moment(value: str, *, is_end: bool = False) -> datetime:
    if not _TIME.fullmatch(value):
        raise ProblemError(422, f"not a day, nor a time of UTC: {value}")
    try:
        if "T" in value:
            return datetime.fromisoformat(value)
        return datetime.fromisoformat(value + ("T23:59:59" if is_end else "T00:00:00")).replace(tzinfo=UTC)
    except ValueError:
        raise ProblemError(422, f"no such day or time: {value}") from None


def _window(created: str) -> tuple[datetime | None, datetime | None]:
    """Both ends are inside, and `*` is no end."""
    if created.startswith(">="):
        return _moment(created[2:]), None
    if created.startswith("<="):
        return None, _moment(created[2:], is_end=True)
    start, dots, end = created.partition("..")
    if not dots:
        # One day, or one second.
        return _moment(created), _moment(created, is_end=True)
    return None if start == "*" else _moment(start), None if end == "*" else _moment(end, is_end=True)


def _runs(repository: Repository, query: dict[str, str]) -> Listed:
    runs = repository.runs
    if "created" in query:
        start, end = _window(query["created"])
        runs = [one for one in runs if (not start or one.created_at >= start) and (not end or one.created_at <= end)]
    if status := query.get("status"):
        runs = [one for one in runs if status in (one.attempts[-1].status, one.attempts[-1].conclusion)]
    for name, field in (("event", "event"), ("branch", "branch"), ("head_sha", "sha")):
        if name in query:
            runs = [one for one in runs if getattr(one, field) == query[name]]
    runs = sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)
    filtered = query.keys() - {"per_page", "page"}
    page, numbers = _page(runs[: REACHABLE if filtered else REACHABLE_UNFILTERED], query)
    shown = [run_json(repository, run, run.attempts[-1]) for run in page]
    return {"total_count": len(runs), "workflow_runs": shown}, numbers


def _issues(repository: Repository, query: dict[str, str]) -> Listed:
    issues = [*repository.issues]
    for pull in repository.pulls:
        issues.append(
            Issue(pull.id, pull.number, pull.title, pull.labels, pull.created_at, pull.updated_at, pull.closed_at, True)
        )
    labels = [label.lower() for label in query.get("labels", "").split(",") if label]
    issues = [issue for issue in issues if all(label in map(str.lower, issue.labels) for label in labels)]
    state = _choice(query, "state", "open", "closed", "all")
    if state != "all":
        issues = [issue for issue in issues if (issue.closed_at is None) == (state == "open")]
    if "since" in query:
        since = _moment(query["since"])
        issues = [issue for issue in issues if issue.updated_at >= since]
    by = f"{_choice(query, 'sort', 'created', 'updated')}_at"
    falling = _choice(query, "direction", "desc", "asc") == "desc"
    issues.sort(key=lambda issue: (getattr(issue, by), issue.id), reverse=falling)
    page, numbers = _page(issues, query)
    return [issue_json(repository, issue) for issue in page], numbers


def _choice(query: dict[str, str], name: str, default: str, *others: str) -> str:
    value = query.get(name, default)
    if value not in (default, *others):
        raise ProblemError(422, f"{name} cannot be {value}")
    return value


def _history(repository: Repository, reference: str) -> list[Commit]:
    if reference == repository.default_branch and not repository.head:
        raise ProblemError(409, "Git Repository is empty.")
    start = repository.branches.get(reference, reference)
    if start not in repository.graph:
        raise ProblemError(404, "Not Found")
    key = (repository.id, start)
    if key not in _HISTORIES:
        _HISTORIES[key] = (repository, _walk(repository, start))
    at, found = _HISTORIES[key]
    # Ids are counted anew in each world.
    if at is not repository:
        _HISTORIES[key] = (repository, found := _walk(repository, start))
    return found


# A commit's history never changes.
_HISTORIES: dict[tuple[int, str], tuple[Repository, list[Commit]]] = {}


def _walk(repository: Repository, start: str) -> list[Commit]:
    """Newest first, as git's log."""
    seen, found = {start}, []
    waiting = [(-repository.graph[start].committed_at.timestamp(), 0, start)]
    while waiting:
        _, _, sha = heapq.heappop(waiting)
        commit = repository.graph[sha]
        found.append(commit)
        for parent in commit.parents:
            if parent not in seen:
                seen.add(parent)
                moment = repository.graph[parent].committed_at.timestamp()
                heapq.heappush(waiting, (-moment, len(seen), parent))
    return found


def _attestations(world: World, query: dict[str, str], sent: Any) -> dict[str, Any]:
    digests = sent.get("subject_digests") if isinstance(sent, dict) else None
    if not isinstance(digests, list) or not 1 <= len(digests) <= BULK_DIGESTS:
        raise ProblemError(422, f"subject_digests holds 1 to {BULK_DIGESTS} digests")
    if unknown := sent.keys() - {"subject_digests"}:
        raise ProblemError(422, f"unknown field {sorted(unknown)[0]}")
    if "before" in query:
        raise ProblemError(422, "this fake reads forward only")
    every = [(digest, told) for digest in digests for told in world.attestations.get(digest, ())]
    size = _number(query, "per_page", 30, 100)
    start = _place(query["after"]) if "after" in query else 0
    found: dict[str, list[Any]] = {}
    for digest, told in every[start : start + size]:
        found.setdefault(digest, []).append(told)
    following = start + size < len(every)
    after = base64.urlsafe_b64encode(f"p:{start + size}".encode()).decode() if following else None
    info = {"has_next": following, "has_previous": start > 0, "next": after, "previous": None}
    return {"attestations_subject_digests": found, "page_info": info}


def _place(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("p:"))
    except ValueError:
        raise ProblemError(422, "no such cursor") from None


def _number(query: dict[str, str], name: str, default: int, highest: int) -> int:
    value = query.get(name, str(default))
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= highest:
        raise ProblemError(422, f"{name} must be between 1 and {highest}")
    return int(value)


def _page(items: list[Any], query: dict[str, str]) -> tuple[list[Any], list[int]]:
    size, number = _number(query, "per_page", 30, 100), _number(query, "page", 1, 1_000_000)
    return items[(number - 1) * size : number * size], [number, max(1, -(-len(items) // size))]
