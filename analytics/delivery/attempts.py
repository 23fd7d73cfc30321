"""Production attempts of every service, from whichever feed its catalog entry names.

Deployments, deploy jobs of pipeline runs, tags and releases all become the same `Attempt`. Globs are matched here, once
per distinct name, and joined in SQL. Source: metrics.md section 1 (attempt, outcome) and section 8 (statuses, key).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import duckdb

from analytics.catalog import Catalog, Service
from analytics.delivery.records import Attempt
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


def match_attempts(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    """Create the temp table `matched_attempts`: raw rows with the service each belongs to, sorted by service.

    Needs the views `deployments`, `pipeline_runs`, `pipeline_jobs`, `tags`, `releases`, `artifacts`, `commits` and the
    temp table `proven_repositories` (digest in small letters, repository that its provenance names). Also creates
    `unmatched_environments` (repository, environment, service, rows, first_at, last_at): never guessed.
    """
    # One artifact row per digest; which name it has only matters for matching.
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE artifact_of AS
        WITH recorded AS (
            SELECT digest, min(name) AS name, arg_min(repository, name) FILTER (sha IS NOT NULL) AS repository,
                   arg_min(sha, name) FILTER (sha IS NOT NULL) AS sha
            FROM artifacts GROUP BY digest
        ), named AS (
            SELECT digest FROM recorded UNION SELECT digest FROM deployments WHERE digest IS NOT NULL
        )
        SELECT named.digest, r.name, r.repository, r.sha, coalesce(p.repository, r.repository) AS built_in
        FROM named LEFT JOIN recorded AS r ON r.digest = named.digest
        LEFT JOIN proven_repositories AS p ON p.digest = lower(named.digest)
        """
    )
    _match_deployments(con, catalog)
    _match_runs(con, catalog)
    _match_tags(con, catalog)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE matched_attempts AS "
        f"SELECT {_COLUMNS} FROM matched_deployments UNION ALL BY NAME SELECT {_COLUMNS} FROM matched_runs "
        f"UNION ALL BY NAME SELECT {_COLUMNS} FROM matched_tags ORDER BY service"
    )


def _match_deployments(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    combinations = con.execute(
        "SELECT DISTINCT d.service, d.repository, d.environment, a.name, a.built_in "
        "FROM deployments d LEFT JOIN artifact_of a ON a.digest = d.digest"
    ).fetchall()
    con.execute(
        "CREATE OR REPLACE TEMP TABLE deployment_match "
        "(declared VARCHAR, repository VARCHAR, environment VARCHAR, artifact VARCHAR, built_in VARCHAR, "
        "service VARCHAR)"
    )
    rows = [
        (declared, repository, environment, artifact, artifact_repository, service.name)
        for declared, repository, environment, artifact, artifact_repository in combinations
        for service in _services_of(catalog, declared, repository, artifact, artifact_repository)
        if service.deploys.environments and name_matches(environment, service.deploys.environments)
    ]
    _insert(con, "deployment_match", rows)
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE matched_deployments AS
        SELECT m.service, 'deployment' AS kind, d.deployment_id AS source_id, d.run_id,
               coalesce(d.attempt, 1) AS attempt,
               d.region, d.repository, d.environment, d.sha, d.digest, a.repository AS artifact_repository,
               a.sha AS artifact_sha, d.ref, d.status, d.statuses, d.created_at, d.started_at, d.finished_at, d.labels,
               d.creator, d.revisions, d.origin, d.line
        FROM deployments d
        LEFT JOIN artifact_of a ON a.digest = d.digest
        JOIN deployment_match m ON m.declared IS NOT DISTINCT FROM d.service AND m.repository = d.repository
         AND m.environment = d.environment AND m.artifact IS NOT DISTINCT FROM a.name
         AND m.built_in IS NOT DISTINCT FROM a.built_in
        """
    )
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE unmatched_environments AS
        SELECT d.repository, d.environment, d.service, count(*) AS rows, min(d.created_at) AS first_at,
               max(d.created_at) AS last_at
        FROM deployments d LEFT JOIN artifact_of a ON a.digest = d.digest
        WHERE NOT EXISTS (SELECT 1 FROM deployment_match m WHERE m.declared IS NOT DISTINCT FROM d.service
          AND m.repository = d.repository AND m.environment = d.environment
          AND m.artifact IS NOT DISTINCT FROM a.name AND m.built_in IS NOT DISTINCT FROM a.built_in)
        GROUP BY ALL
        """
    )


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


def _match_runs(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    by_workflow = [service for service in catalog.services if service.deploys.workflow]
    con.execute(
        "CREATE OR REPLACE TEMP TABLE run_match "
        "(repository VARCHAR, workflow VARCHAR, service VARCHAR, has_job BOOLEAN)"
    )
    if by_workflow:
        names = con.execute("SELECT DISTINCT repository, workflow FROM pipeline_runs").fetchall()
        _insert(
            con,
            "run_match",
            [
                (repository, workflow, service.name, service.deploys.job is not None)
                for repository, workflow in names
                for service in by_workflow
                if service.repository.casefold() == repository.casefold()
                and _workflow_matches(workflow, service.deploys.workflow or "")
            ],
        )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE deploy_runs AS SELECT r.*, m.service, m.has_job FROM pipeline_runs r "
        "JOIN run_match m ON m.repository = r.repository AND m.workflow = r.workflow"
    )
    con.execute("CREATE OR REPLACE TEMP TABLE job_match (service VARCHAR, name VARCHAR)")
    if by_workflow:
        con.execute(
            "CREATE OR REPLACE TEMP TABLE deploy_jobs AS SELECT j.*, r.service FROM pipeline_jobs j JOIN deploy_runs r "
            "ON r.repository = j.repository AND r.run_id = j.run_id AND r.attempt = j.attempt WHERE r.has_job"
        )
        found = con.execute("SELECT DISTINCT service, name FROM deploy_jobs").fetchall()
        _insert(
            con,
            "job_match",
            [
                (service, name)
                for service, name in found
                if _job_matches(name, catalog.by_name[service].deploys.job or "")
            ],
        )
        jobs = """
            UNION ALL BY NAME
            SELECT r.service, 'run' AS kind, j.run_id AS source_id, j.run_id, j.attempt, j.name AS region, r.repository,
                   'production' AS environment, r.head_sha AS sha, r.head_branch AS ref, j.status, j.conclusion,
                   coalesce(j.created_at, j.started_at, r.created_at) AS created_at, j.started_at,
                   j.completed_at AS finished_at, r.actor AS creator, j.origin, j.line
            FROM deploy_jobs j
            JOIN job_match m ON m.service = j.service AND m.name = j.name
            JOIN deploy_runs r ON r.service = j.service AND r.repository = j.repository AND r.run_id = j.run_id
             AND r.attempt = j.attempt
        """
    else:
        jobs = ""
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE matched_runs AS
        SELECT * REPLACE (CASE WHEN status = 'completed' OR conclusion IS NOT NULL
                               THEN 'run:' || coalesce(conclusion, '') ELSE 'run:' END AS status),
               NULL::VARCHAR AS digest, NULL::VARCHAR AS artifact_repository, NULL::VARCHAR AS artifact_sha,
               NULL::STRUCT(state VARCHAR, "at" TIMESTAMP)[] AS statuses, NULL::VARCHAR[] AS labels,
               NULL::STRUCT(repository VARCHAR, sha VARCHAR)[] AS revisions
        FROM (
            SELECT service, 'run' AS kind, run_id AS source_id, run_id, attempt, NULL::VARCHAR AS region, repository,
                   'production' AS environment, head_sha AS sha, head_branch AS ref, status, conclusion, created_at,
                   started_at, completed_at AS finished_at, actor AS creator, origin, line
            FROM deploy_runs WHERE NOT has_job
            {jobs}
        )
        """
    )


def _match_tags(con: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    con.execute(
        "CREATE OR REPLACE TEMP TABLE tag_match (repository VARCHAR, kind VARCHAR, name VARCHAR, service VARCHAR)"
    )
    rows: list[tuple[str, str, str, str]] = []
    if any(service.deploys.tags for service in catalog.services):
        for repository, name in con.execute("SELECT DISTINCT repository, name FROM tags").fetchall():
            rows += [
                (repository, "tag", name, service.name)
                for service in catalog.of_repository(repository)
                if service.deploys.tags and name_matches(name, [service.deploys.tags])
            ]
    if any(service.deploys.releases for service in catalog.services):
        for repository, name in con.execute("SELECT DISTINCT repository, tag FROM releases").fetchall():
            rows += [
                (repository, "release", name, service.name)
                for service in catalog.of_repository(repository)
                if service.deploys.releases
            ]
    _insert(con, "tag_match", rows)
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE matched_tags AS
        SELECT m.service, m.kind, t.name AS source_id, NULL::VARCHAR AS run_id, 1 AS attempt, NULL::VARCHAR AS region,
               t.repository, 'production' AS environment, t.sha, NULL::VARCHAR AS digest,
               NULL::VARCHAR AS artifact_repository, NULL::VARCHAR AS artifact_sha, t.name AS ref, 'success' AS status,
               NULL::STRUCT(state VARCHAR, "at" TIMESTAMP)[] AS statuses, t.tagged_at AS created_at,
               NULL::TIMESTAMP AS started_at,
               t.tagged_at AS finished_at, NULL::VARCHAR[] AS labels, NULL::VARCHAR AS creator,
               NULL::STRUCT(repository VARCHAR, sha VARCHAR)[] AS revisions, t.origin, t.line
        FROM (
            SELECT 'tag' AS kind, g.repository, g.name, g.sha, coalesce(g.tagged_at, c.committed_at) AS tagged_at,
                   g.origin, g.line
            FROM tags g LEFT JOIN commits c ON c.repository = g.repository AND c.sha = g.sha
            UNION ALL
            SELECT 'release', r.repository, r.tag, coalesce(r.sha, g.sha), r.published_at, r.origin, r.line
            FROM releases r LEFT JOIN tags g ON lower(g.repository) = lower(r.repository) AND g.name = r.tag
        ) t
        JOIN tag_match m ON m.kind = t.kind AND m.repository = t.repository AND m.name = t.name
        WHERE t.tagged_at IS NOT NULL
        """
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


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        con.execute(f"INSERT INTO {table} SELECT {', '.join('unnest(?)' for _ in columns)}", columns)
