"""What GitLab answers, as records of our entities.

GitLab keeps one pipeline where GitHub keeps attempts: a retried job is a further job of the same name in it. Attempts
are told apart here, so that retries, flakes and final results mean the same for both. Source: ingestion.md section 5,
metrics.md section 4 (pipeline rows).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from analytics.sources.port import RawRecord

Record = dict[str, Any]

# GitLab has no names of workflows but the one that a pipeline may give itself.
UNNAMED_WORKFLOW = ".gitlab-ci.yml"
_COMPLETED = {"success": "success", "failed": "failure", "canceled": "cancelled", "skipped": "skipped"}
_DEPLOYED = {**_COMPLETED, "running": "in_progress", "created": "in_progress", "blocked": "in_progress"}
# GitLab writes what reviewers did into system notes, in English whatever the reader's language.
_REVIEWED = (
    ("approved this merge request", "APPROVED"),
    ("requested changes", "CHANGES_REQUESTED"),
    ("unapproved this merge request", "DISMISSED"),
)


def records_of(kind: str, body: str, repository: str) -> dict[str, list[RawRecord]]:
    """The records of a kept answer by their entity.

    Kinds: merge_requests (each with its `commits` and `notes`), pipelines (each with its `jobs`), deployments, issues.
    """
    records: dict[str, list[RawRecord]] = {}
    items = msgspec.json.decode(body) if body else []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        for entity, record in _TRANSLATORS[kind](item, repository):
            found = records.setdefault(entity, [])
            known = {name: value for name, value in record.items() if value is not None}
            found.append(RawRecord(len(found) + 1, msgspec.json.encode(known)))
    return records


def merge_request(raw: Record, commits: Sequence[Any], notes: Sequence[Any], repository: str) -> Record:
    """A merge request; the first review is the first word of somebody who is not its author."""
    given = [(at, state) for at, _, state in _reviews(raw, notes)]
    return {
        "repository": repository,
        "number": raw.get("iid"),
        "title": raw.get("title"),
        "author": _at(raw, "author", "username"),
        "labels": raw.get("labels"),
        "created_at": raw.get("created_at"),
        "first_review_at": given[0][0] if given else None,
        "approved_at": next((at for at, state in given if state == "APPROVED"), None),
        "merged_at": raw.get("merged_at"),
        "closed_at": raw.get("closed_at") or raw.get("merged_at"),
        "merge_commit_sha": _landed_as(raw),
        # GitLab lists the newest first.
        "commits": [_at(commit, "id") for commit in reversed(commits)],
        "head_ref": raw.get("source_branch"),
        "updated_at": raw.get("updated_at"),
    }


def reviews(raw: Record, notes: Sequence[Any], repository: str) -> list[Record]:
    """The newest word of each reviewer."""
    newest = {reviewer: (at, state) for at, reviewer, state in _reviews(raw, notes)}
    return [
        {
            "repository": repository,
            "number": raw.get("iid"),
            "reviewer": reviewer,
            "state": state,
            "submitted_at": at,
            "updated_at": at,
        }
        for reviewer, (at, state) in newest.items()
    ]


def attempts(raw: Record, jobs: Sequence[Record], repository: str) -> tuple[list[Record], list[Record]]:
    """The attempts of a pipeline and their jobs.

    An attempt begins when a job is made that was there before; a job belongs to the last attempt that had begun when
    it started. Only the last attempt's result is GitLab's own: those before it failed where a job failed that may not.
    """
    numbered = _numbered(jobs)
    begun = _beginnings(raw, numbered)
    placed = [(job, max(number, _attempt_at(begun, job))) for job, number in numbered]
    last = len(begun)
    runs = []
    for number, begun_at in enumerate(begun, start=1):
        own = [job for job, attempt in placed if attempt == number]
        runs.append(_run(raw, repository, number, begun_at, own, is_last=number == last, is_only=last == 1))
    return runs, [_job(raw, job, attempt, repository) for job, attempt in placed]


def deployment(raw: Record, repository: str) -> Record:
    """A deployment; its end is that of the job that made it, else the time of its last change."""
    status = _DEPLOYED.get(str(raw.get("status")), "unknown")
    is_over = status in ("success", "failure", "cancelled", "skipped")
    finished_at = _at(raw, "deployable", "finished_at") or raw.get("updated_at")
    return {
        "deployment_id": _own(raw.get("id")),
        "repository": repository,
        "environment": _at(raw, "environment", "name"),
        "sha": raw.get("sha"),
        "ref": raw.get("ref"),
        "run_id": _at(raw, "deployable", "pipeline", "id"),
        "status": status,
        "created_at": raw.get("created_at"),
        "started_at": _at(raw, "deployable", "started_at"),
        "finished_at": finished_at if is_over else None,
        "creator": _at(raw, "user", "username"),
        "updated_at": raw.get("updated_at"),
    }


def incident(raw: Record, repository: str) -> Record:
    """An issue of the type incident, or one with a label that says so."""
    severity = str(raw.get("severity") or "").lower()
    return {
        "incident_id": _own(raw.get("id")),
        "repository": repository,
        "title": raw.get("title"),
        "severity": severity if severity not in ("", "unknown") else None,
        "labels": raw.get("labels"),
        "opened_at": raw.get("created_at"),
        "resolved_at": raw.get("closed_at"),
        "url": raw.get("web_url"),
        "updated_at": raw.get("updated_at"),
    }


def _of_merge_request(item: Record, repository: str) -> Iterator[tuple[str, Record]]:
    raw, commits, notes = _mapping(item.get("merge_request")), _list(item.get("commits")), _list(item.get("notes"))
    yield "pull_requests", merge_request(raw, commits, notes, repository)
    for review in reviews(raw, notes, repository):
        yield "reviews", review


def _of_pipeline(item: Record, repository: str) -> Iterator[tuple[str, Record]]:
    runs, jobs = attempts(_mapping(item.get("pipeline")), _list(item.get("jobs")), repository)
    for run in runs:
        yield "pipeline_runs", run
    for job in jobs:
        yield "pipeline_jobs", job


def _of_deployment(item: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "deployments", deployment(item, repository)


def _of_issue(item: Record, repository: str) -> Iterator[tuple[str, Record]]:
    yield "incidents", incident(item, repository)


_TRANSLATORS = {
    "merge_requests": _of_merge_request,
    "pipelines": _of_pipeline,
    "deployments": _of_deployment,
    "issues": _of_issue,
}


def _landed_as(raw: Record) -> Any:
    """The commit as which it came to its target: a merge, else the squashed one, else (fast-forward) its own last."""
    if not raw.get("merged_at"):
        return None
    return raw.get("merge_commit_sha") or raw.get("squash_commit_sha") or raw.get("sha")


def _reviews(raw: Record, notes: Sequence[Any]) -> list[tuple[str, str, str]]:
    """Time, reviewer and state of every word of others, oldest first."""
    author = _at(raw, "author", "username")
    found = []
    for note in notes:
        at = _at(note, "created_at")
        if not isinstance(at, str):
            continue
        # The account of a reviewer who left is gone.
        reviewer = str(_at(note, "author", "username") or "ghost")
        text = str(_at(note, "body") or "")
        state: str | None = "COMMENTED"
        if _at(note, "system"):
            state = next((state for words, state in _REVIEWED if text.startswith(words)), None)
        if state is not None and reviewer != author:
            found.append((at, reviewer, state))
    return sorted(found)


def _numbered(jobs: Sequence[Any]) -> list[tuple[Record, int]]:
    """Each job, and the how-manieth of its name it is."""
    counts: dict[str, int] = {}
    numbered = []
    for job in sorted((job for job in jobs if isinstance(job, dict)), key=lambda job: _number(job.get("id"))):
        name = str(job.get("name"))
        counts[name] = counts.get(name, 0) + 1
        numbered.append((job, counts[name]))
    return numbered


def _beginnings(raw: Record, numbered: Sequence[tuple[Record, int]]) -> list[str | None]:
    count = max((number for _, number in numbered), default=1)
    begun: list[str | None] = [raw.get("started_at")]
    for attempt in range(2, count + 1):
        times = [str(job["created_at"]) for job, number in numbered if number == attempt and job.get("created_at")]
        begun.append(min(times, default=None))
    return begun


def _attempt_at(begun: Sequence[str | None], job: Record) -> int:
    started_at = _moment(job.get("started_at"))
    number = 1
    for attempt, at in enumerate(begun, start=1):
        moment = _moment(at)
        if attempt > 1 and started_at is not None and moment is not None and started_at >= moment:
            number = attempt
    return number


def _run(
    raw: Record,
    repository: str,
    attempt: int,
    begun_at: str | None,
    jobs: Sequence[Record],
    *,
    is_last: bool,
    is_only: bool,
) -> Record:
    status = str(raw.get("status"))
    if is_last:
        conclusion = _COMPLETED.get(status)
        completed_at = (raw.get("finished_at") or raw.get("updated_at")) if conclusion else None
    else:
        results = {_COMPLETED.get(str(job.get("status"))) for job in jobs if not job.get("allow_failure")}
        conclusion = next((one for one in ("failure", "cancelled") if one in results), "success")
        completed_at = max((str(job["finished_at"]) for job in jobs if job.get("finished_at")), default=None)
    started = min((str(job["started_at"]) for job in jobs if job.get("started_at")), default=None)
    return {
        "repository": repository,
        "run_id": raw.get("id"),
        "attempt": attempt,
        "workflow": raw.get("name") or UNNAMED_WORKFLOW,
        "event": raw.get("source"),
        "head_sha": raw.get("sha"),
        "head_branch": raw.get("ref"),
        "status": "completed" if conclusion else "in_progress" if status == "running" else "queued",
        "conclusion": conclusion,
        "created_at": raw.get("created_at"),
        "started_at": begun_at if is_only or attempt == 1 else started or begun_at,
        "completed_at": completed_at,
        "actor": _at(raw, "user", "username"),
        "updated_at": raw.get("updated_at"),
    }


def _job(raw: Record, job: Record, attempt: int, repository: str) -> Record:
    status = str(job.get("status"))
    conclusion = _COMPLETED.get(status)
    return {
        "repository": repository,
        "run_id": raw.get("id"),
        "attempt": attempt,
        "job_id": job.get("id"),
        "name": job.get("name"),
        "status": "completed" if conclusion else "in_progress" if status == "running" else "queued",
        "conclusion": conclusion,
        "created_at": _queued_at(job),
        "started_at": job.get("started_at"),
        "completed_at": job.get("finished_at"),
        "runner": _at(job, "runner", "description") or None,
        "runner_labels": job.get("tag_list"),
        "updated_at": raw.get("updated_at"),
    }


def _queued_at(job: Record) -> Any:
    """When the job was free to start: it is made with its pipeline, and later stages wait for earlier ones."""
    started_at, seconds = _moment(job.get("started_at")), job.get("queued_duration")
    if (
        started_at is None
        or not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 0 <= seconds < 1e8
    ):
        return job.get("created_at")
    return (started_at - timedelta(seconds=seconds)).isoformat()


def _own(native_id: Any) -> Any:
    """Ids of deployments and incidents stand beside those of other hosts, which count from one as well."""
    return f"gitlab:{native_id}" if isinstance(native_id, int) and not isinstance(native_id, bool) else None


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo else None


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
