"""Production attempts of every service, from whichever feed its catalog entry names.

Deployments, deploy jobs of pipeline runs, tags and releases all become the same `Attempt`. Globs are matched here, once
per distinct name, and joined in SQL. Source: metrics.md section 1 (attempt, outcome) and section 8 (statuses, key).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from analytics.catalog import Catalog, Service
from analytics.delivery.queries import create_tables, sql
from analytics.delivery.records import Attempt
from analytics.engines.port import Engine
from analytics.globs import name_matches

# Of a service and an artifact's digest: the (repository, sha) pairs that verified provenance says it was built of.
BuiltOf = Callable[[str, str], tuple[tuple[str, str], ...]]

_FAILED_STATES = ("failure", "failed", "error")
_RUN_OUTCOMES = {
    "success": "success",
    "failure": "failure",
    "timed_out": "failure",
    "startup_failure": "failure",
    "cancelled": "cancelled",
    "skipped": "skipped",
    "neutral": "skipped",
}
# What an attempt is made of, of a row of `matched_attempts`.
ATTEMPT_COLUMNS = (
    "service",
    "kind",
    "source_id",
    "run_id",
    "attempt",
    "region",
    "repository",
    "environment",
    "sha",
    "digest",
    "artifact_repository",
    "artifact_sha",
    "ref",
    "status",
    "statuses",
    "created_at",
    "started_at",
    "finished_at",
    "labels",
    "creator",
    "revisions",
    "origin",
    "line",
)
_COLUMNS = ", ".join(ATTEMPT_COLUMNS)
_ORDERED_BY = tuple(
    ATTEMPT_COLUMNS.index(name) for name in ("service", "source_id", "attempt", "region", "origin", "line")
)


def match_attempts(engine: Engine, catalog: Catalog) -> None:
    """Create the table `matched_attempts`: raw rows with the service each belongs to, sorted by service.

    Needs the views `deployments`, `pipeline_runs`, `pipeline_jobs`, `tags`, `releases`, `artifacts`, `commits` and the
    table `proven_repositories` (digest in small letters, repository that its provenance names). Also creates
    `unmatched_environments` (repository, environment, service, rows, first_at, last_at): never guessed.
    """
    match_places(engine, catalog)
    create_tables(engine, "matched_attempts")


def match_places(engine: Engine, catalog: Catalog) -> None:
    """As `match_attempts`, without `matched_attempts`: `matched_deployments`, `matched_runs` and `matched_tags`."""
    _match_deployments(engine, catalog)
    _match_runs(engine, catalog)
    _match_tags(engine, catalog)
    engine.create_shared("matched_deployments", sql("matched_deployments.sql"))
    create_tables(engine, "matched_runs", "matched_tags")


def _match_deployments(engine: Engine, catalog: Catalog) -> None:
    create_tables(engine, "artifact_of", "deployment_places")
    places = engine.rows("SELECT declared, repository, environment, artifact, built_in FROM deployment_places")
    engine.create_values(
        "deployment_match",
        {
            "declared": "VARCHAR",
            "repository": "VARCHAR",
            "environment": "VARCHAR",
            "artifact": "VARCHAR",
            "built_in": "VARCHAR",
            "service": "VARCHAR",
        },
        [
            (declared, repository, environment, artifact, built_in, service.name)
            for declared, repository, environment, artifact, built_in in places
            for service in _services_of(catalog, declared, repository, artifact, built_in)
            if service.deploys.environments and name_matches(environment, service.deploys.environments)
        ],
    )
    create_tables(engine, "unmatched_environments")


def _services_of(
    catalog: Catalog, declared: str | None, repository: str, artifact: str | None, artifact_repository: str | None
) -> Sequence[Service]:
    if declared is not None:
        service = catalog.by_name.get(declared)
        return [service] if service else []
    # A GitOps record names the configuration repository; the artifact says whose bytes they are.
    by_artifact = [s for s in catalog.services if artifact and name_matches(artifact, s.artifacts)]
    of_repository = [s for s in catalog.of_repository(repository) if s.deploys.environments]
    return of_repository or by_artifact or catalog.of_repository(artifact_repository or "")


def _match_runs(engine: Engine, catalog: Catalog) -> None:
    by_workflow = [service for service in catalog.services if service.deploys.workflow]
    # All names of all runs are asked for only where a workflow deploys something.
    names = engine.rows("SELECT DISTINCT repository, workflow FROM pipeline_runs") if by_workflow else []
    engine.create_values(
        "run_match",
        {"repository": "VARCHAR", "workflow": "VARCHAR", "service": "VARCHAR", "has_job": "BOOLEAN"},
        [
            (repository, workflow, service.name, service.deploys.job is not None)
            for repository, workflow in names
            for service in by_workflow
            if service.repository.casefold() == repository.casefold()
            and _workflow_matches(workflow, service.deploys.workflow or "")
        ],
    )
    create_tables(engine, "deploy_runs", "deploy_jobs")
    engine.create_values(
        "job_match",
        {"service": "VARCHAR", "name": "VARCHAR"},
        [
            (service, name)
            for service, name in engine.rows("SELECT DISTINCT service, name FROM deploy_jobs")
            if _job_matches(name, catalog.by_name[service].deploys.job or "")
        ],
    )


def _match_tags(engine: Engine, catalog: Catalog) -> None:
    rows: list[tuple[str, str, str, str]] = []
    if any(service.deploys.tags for service in catalog.services):
        for repository, name in engine.rows("SELECT DISTINCT repository, name FROM tags"):
            rows += [
                (repository, "tag", name, service.name)
                for service in catalog.of_repository(repository)
                if service.deploys.tags and name_matches(name, [service.deploys.tags])
            ]
    if any(service.deploys.releases for service in catalog.services):
        for repository, name in engine.rows("SELECT DISTINCT repository, tag FROM releases"):
            rows += [
                (repository, "release", name, service.name)
                for service in catalog.of_repository(repository)
                if service.deploys.releases
            ]
    engine.create_values(
        "tag_match", {"repository": "VARCHAR", "kind": "VARCHAR", "name": "VARCHAR", "service": "VARCHAR"}, rows
    )


def attempts_of(
    rows: Iterable[Sequence[Any]], now: datetime, built_of: BuiltOf | None = None
) -> dict[str, list[Attempt]]:
    """Attempts by service from rows of ATTEMPT_COLUMNS, judged at the cut-off; what began later is ignored."""
    attempts: dict[str, list[Attempt]] = {}
    for values in sorted(rows, key=_row_order):
        row = dict(zip(ATTEMPT_COLUMNS, values, strict=True))
        if row["created_at"] <= now:
            proven = built_of(row["service"], row["digest"]) if built_of and row["digest"] else ()
            attempts.setdefault(row["service"], []).append(_attempt(row, now, proven))
    return {service: _distinct_keys(found) for service, found in attempts.items()}


def _row_order(values: Sequence[Any]) -> tuple[tuple[bool, Any], ...]:
    """An order that no engine, plan or arrival can change."""
    return tuple((values[at] is None, 0 if values[at] is None else values[at]) for at in _ORDERED_BY)


def _distinct_keys(attempts: list[Attempt]) -> list[Attempt]:
    """Keep a deployment apart from a run that happens to have the same id."""
    runs = {attempt.run_id for attempt in attempts if attempt.run_id}
    return [
        attempt
        if attempt.run_id or attempt.deployment_key not in runs
        else replace(attempt, deployment_key=f"deployment:{attempt.deployment_key}")
        for attempt in attempts
    ]


def _attempt(row: Mapping[str, Any], now: datetime, proven: tuple[tuple[str, str], ...]) -> Attempt:
    outcome, finished_at = _verdict(row, now)
    run_id = row["run_id"]
    started_at = row["started_at"] if row["started_at"] and row["started_at"] <= now else None
    return Attempt(
        service=row["service"],
        deployment_key=run_id or row["source_id"],
        source_deployment_id=row["source_id"] if row["kind"] == "deployment" else None,
        run_id=run_id,
        attempt=row["attempt"],
        region=row["region"],
        repository=row["repository"],
        environment=row["environment"],
        sha=row["sha"],
        digest=row["digest"],
        ref=row["ref"],
        outcome=outcome,
        created_at=row["created_at"],
        started_at=started_at,
        finished_at=finished_at,
        # A re-run emits passed jobs again under the new attempt, with their old start (ingestion.md section 4).
        carried_over=row["kind"] == "run" and started_at is not None and started_at < row["created_at"],
        creator=row["creator"],
        labels=tuple(row["labels"] or ()),
        revisions=tuple((r["repository"], r["sha"]) for r in row["revisions"] or ()),
        artifact=(row["artifact_repository"], row["artifact_sha"]) if row["artifact_sha"] else None,
        provenance=proven,
        origin=row["origin"],
        line=row["line"],
    )


def _verdict(row: Mapping[str, Any], now: datetime) -> tuple[str, datetime | None]:
    """Outcome and finish: of the status history where there is one, else of the status itself."""
    history = sorted((s["at"], s["state"].lower()) for s in row["statuses"] or () if s["at"] <= now)
    if row["statuses"]:
        for at, state in history:
            if state == "success":
                return "success", at
        for at, state in history:
            if state in _FAILED_STATES:
                return "failure", at
        for at, state in history:
            if state in ("cancelled", "canceled"):
                return "cancelled", at
        only_superseded = bool(history) and all(state == "inactive" for _, state in history)
        return ("unknown" if only_superseded else "in_progress"), None
    if row["statuses"] is not None and row["status"] is None:
        # A deployment that never got a status is kept in the counts; nobody knows when it finished.
        return "success", None
    status = (row["status"] or "unknown").lower()
    finished_at = row["finished_at"]
    if status.startswith("run:"):
        conclusion = status.removeprefix("run:")
        outcome = _RUN_OUTCOMES.get(conclusion, "unknown" if conclusion else "in_progress")
    elif status in ("success", "inactive"):
        # An inactive deployment was live until a newer one replaced it.
        outcome = "success"
    elif status in _FAILED_STATES:
        outcome = "failure"
    elif status in ("cancelled", "canceled"):
        outcome = "cancelled"
    elif status in ("skipped", "unknown"):
        outcome = status
    elif status in ("in_progress", "queued", "pending", "waiting"):
        outcome = "in_progress"
    else:
        outcome = "unknown"
    if finished_at is not None and finished_at > now:
        return "in_progress", None
    return outcome, finished_at if outcome != "in_progress" else None


def _workflow_matches(workflow: str, selector: str) -> bool:
    """A workflow is known by its name, its path or its file's name."""
    return name_matches(workflow, [selector]) or name_matches(workflow.rsplit("/", 1)[-1], [selector])


def _job_matches(name: str, selector: str) -> bool:
    """A job is found by its own name inside a called workflow (`ship / deploy`) or a matrix (`deploy (eu)`)."""
    leaf = name.rsplit(" / ", 1)[-1]
    return any(
        name_matches(candidate, [selector])
        for candidate in (name, leaf, name.split(" (", 1)[0], leaf.split(" (", 1)[0])
    )
