"""Facts of a service as rows of the lake's tables (analytics/lake/schemas.py says which columns)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

from analytics.delivery.records import Deployment, FailureLink, IncidentRow, OwnedCommit, PullRequestFacts, ServiceFacts

Row = dict[str, Any]
LocalDay = Callable[[datetime], date]
_MICROSECOND = timedelta(microseconds=1)


def fact_rows(facts: ServiceFacts, local_day: LocalDay) -> Iterator[tuple[str, Row]]:
    """Every row of one service as (table, row)."""
    for deployment in facts.deployments:
        yield "service_deployments", _deployment(deployment, local_day)
        for attempt in deployment.attempts:
            row: Row = {name: getattr(attempt, name) for name in _ATTEMPT_FIELDS}
            row["day"] = local_day(attempt.finished_at or attempt.created_at)
            yield "deployment_attempts", row
    names = {name.casefold(): name for d in facts.deployments for name in d.revisions}
    for commit in facts.commits:
        yield "change_lead", _commit(commit, names, local_day)
    for link in _distinct(facts.links):
        yield "failure_links", _link(link, local_day)
    for incident in facts.incidents:
        yield "service_incidents", _incident(incident, local_day)


_ATTEMPT_FIELDS = (
    "service",
    "deployment_key",
    "source_deployment_id",
    "run_id",
    "attempt",
    "region",
    "repository",
    "environment",
    "sha",
    "digest",
    "ref",
    "outcome",
    "created_at",
    "started_at",
    "finished_at",
    "carried_over",
    "creator",
    "origin",
    "line",
)


def _us(start: datetime | None, end: datetime | None) -> int | None:
    return None if start is None or end is None else (end - start) // _MICROSECOND


def _span(start: datetime | None, end: datetime | None) -> int | None:
    """Length of a stage; a stage that would end before it began is unknown."""
    length = _us(start, end)
    return length if length is not None and length >= 0 else None


def _deployment(d: Deployment, local_day: LocalDay) -> Row:
    return {
        "service": d.service,
        "deployment_key": d.key,
        "repository": d.repository,
        "environment": d.environment,
        "sha": d.sha,
        "digest": d.digest,
        "ref": d.ref,
        "outcome": d.outcome,
        "created_at": d.created_at,
        "started_at": d.started_at,
        "finished_at": d.finished_at,
        "finish_unknown": d.finish_unknown,
        "attempts": len(d.attempts),
        "failed_attempts": sum(attempt.outcome == "failure" for attempt in d.attempts),
        "day": local_day(d.at),
        "sequence": d.sequence,
        "kind": d.kind,
        "resolved": d.resolved if d.outcome == "success" else None,
        "identity": d.identity,
        "previous_deployment_key": d.previous.key if d.previous else None,
        "rollback_target_key": d.rollback_target.key if d.rollback_target else None,
        "new_commits": len(d.new_commits) if d.outcome == "success" else None,
        "rework": d.rework,
        "rework_evidence": d.rework_evidence,
        "counts_as_failed_attempt": d.counts_as_failed_attempt,
        "failed": d.failed,
        "failure_method": d.failure_method,
        "failure_evidence": d.failure_evidence,
        "blamed_key": d.blames.key if d.blames else None,
        "recovery_us": _us(d.at, d.recovered_at) if d.failed else None,
        "recovery_open": d.recovery_open,
        "recovered_at": d.recovered_at,
        "recovery_excluded": d.recovery_excluded,
        "revisions": len(d.revisions),
        "warning": d.warning,
    }


def _commit(c: OwnedCommit, names: dict[str, str], local_day: LocalDay) -> Row:
    d = c.deployment
    request: PullRequestFacts | None = c.pull_request
    return {
        "service": d.service,
        "deployment_key": d.key,
        "repository": names.get(c.repository, c.repository),
        "sha": c.sha,
        "author": c.author,
        "is_bot": c.is_bot,
        "authored_at": c.authored_at,
        "finished_at": d.finished_at,
        "day": local_day(d.at),
        "lead_us": _us(c.authored_at, d.finished_at),
        "excluded": c.excluded,
        "pull_request": request.number if request else None,
        "original_of": c.original_of,
        "coding_us": _span(c.authored_at, request.created_at) if request else None,
        "pickup_us": _span(request.created_at, request.first_review_at) if request else None,
        "review_us": _span(request.first_review_at, request.approved_at) if request else None,
        "merge_us": _span(request.approved_at, request.merged_at) if request else None,
        "deploy_us": _span(request.merged_at, d.finished_at) if request else None,
        "first_commit_us": _span(c.first_authored_at, d.finished_at),
        "path_unknown": c.path_unknown,
    }


def _distinct(links: Iterable[FailureLink]) -> list[FailureLink]:
    seen: dict[tuple[str, str, str | None, str | None], FailureLink] = {}
    for link in links:
        seen.setdefault((link.deployment.key, link.method, link.incident_key, link.by.key if link.by else None), link)
    return list(seen.values())


def _link(link: FailureLink, local_day: LocalDay) -> Row:
    return {
        "service": link.deployment.service,
        "deployment_key": link.deployment.key,
        "method": link.method,
        "confidence": link.confidence,
        "evidence": link.evidence,
        "incident_key": link.incident_key,
        "by_deployment_key": link.by.key if link.by else None,
        "evidence_at": link.at,
        "day": local_day(link.deployment.at),
        "counted": link.counted,
    }


def _incident(row: IncidentRow, local_day: LocalDay) -> Row:
    incident = row.incident
    return {
        "service": row.service,
        "incident_key": incident.key,
        "incident_ids": list(incident.ids),
        "title": incident.title,
        "severity": incident.severity,
        "labels": list(incident.labels),
        "opened_at": incident.opened_at,
        "impact_started_at": incident.impact_started_at,
        "ended_at": incident.ended_at,
        "restored_at": incident.restored_at,
        "restore_us": _us(incident.impact_started_at, incident.restored_at),
        "day": local_day(incident.restored_at) if incident.restored_at else None,
        "opened_day": local_day(incident.opened_at),
        "linked": row.deployment_key is not None,
        "unlinked_reason": row.unlinked_reason,
        "deployment_key": row.deployment_key,
        "url": incident.url,
    }
