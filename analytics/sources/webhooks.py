"""Saved deliveries of GitHub's webhooks as records of the house, by the event that they are saved under.

A line is the payload as it came, or the delivery as GitHub's API shows it again (its `request.payload`). Source:
ingestion.md section 2 (files).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from analytics.sources.github import translate
from analytics.sources.port import RawRecord

Record = dict[str, Any]

# The entity that each event tells of.
EVENTS = {
    "workflow_run": "pipeline_runs",
    "workflow_job": "pipeline_jobs",
    "pull_request": "pull_requests",
    "pull_request_review": "reviews",
    "deployment_status": "deployments",
    "issues": "incidents",
    "release": "releases",
}
_STATES = {"success": "success", "failure": "failure", "error": "failure"}


def records_of(event: str, lines: Collection[RawRecord], incident_labels: Collection[str]) -> Iterator[RawRecord]:
    """The record of each delivery that tells one, on the line of its delivery.

    Left out are what tells nothing of its entity: a deployment that was superseded, an issue without a label of
    incidents, a draft. A line that is no delivery stays as it is, to be refused.
    """
    for line in lines:
        try:
            delivery = msgspec.json.decode(line.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield line
            continue
        payload = _payload(delivery)
        if payload is None:
            yield line
            continue
        record = _record(event, payload, incident_labels)
        if record is not None:
            known = {name: value for name, value in record.items() if value is not None}
            yield RawRecord(line.line, msgspec.json.encode(known))


def _payload(delivery: Any) -> Record | None:
    if not isinstance(delivery, dict):
        return None
    request = delivery.get("request")
    inner = request.get("payload") if isinstance(request, dict) else None
    return inner if isinstance(inner, dict) else delivery


def _record(event: str, payload: Record, incident_labels: Collection[str]) -> Record | None:
    repository = _at(payload, "repository", "full_name")
    if event == "workflow_run":
        return translate.pipeline_run(_mapping(payload.get("workflow_run")), repository)
    if event == "workflow_job":
        return _job(_mapping(payload.get("workflow_job")), repository)
    if event == "pull_request":
        return translate.pull_request_rest(_mapping(payload.get("pull_request")), repository)
    if event == "pull_request_review":
        raw = _mapping(payload.get("review"))
        return translate.review_rest(raw, repository) | {"number": _at(payload, "pull_request", "number")}
    if event == "release":
        raw = _mapping(payload.get("release"))
        return None if raw.get("draft") is True else translate.release(raw, repository)
    if event == "issues":
        found = translate.incident(_mapping(payload.get("issue")), repository)
        labels = [str(label).casefold() for label in found["labels"] or ()]
        wanted = [label.casefold() for label in incident_labels]
        return found if any(fnmatchcase(label, one) for label in labels for one in wanted) else None
    return _deployment(payload, repository)


def _job(raw: Record, repository: Any) -> Record:
    """A job tells no time of its last change: the last of its times orders its deliveries."""
    record = translate.pipeline_job(raw, repository)
    times = [str(record[name]) for name in ("created_at", "started_at", "completed_at") if record.get(name)]
    return record | {"updated_at": max(times, default=None)}


def _deployment(payload: Record, repository: Any) -> Record | None:
    """A deployment by the newest of its statuses; to be superseded is no end."""
    raw, status = _mapping(payload.get("deployment")), _mapping(payload.get("deployment_status"))
    state = status.get("state")
    if state == "inactive":
        return None
    outcome = _STATES.get(str(state), "in_progress")
    return {
        "deployment_id": raw.get("id"),
        "repository": repository,
        "environment": status.get("environment") or raw.get("environment"),
        "sha": raw.get("sha"),
        "ref": raw.get("ref"),
        "digest": translate.payload_digest(raw.get("payload")),
        "run_id": _at(payload, "workflow_run", "id"),
        "status": outcome,
        "created_at": raw.get("created_at"),
        "finished_at": status.get("created_at") if outcome != "in_progress" else None,
        "creator": _at(raw, "creator", "login"),
        "updated_at": status.get("created_at"),
    }


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
