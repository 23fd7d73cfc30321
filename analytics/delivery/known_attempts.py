"""Attempts as an update asks for them: of all of them what names them, and whole rows only of what is derived again.

An update looks at some thousands of attempts among many. Their rows come from the queries of a build of everything,
over the records of these alone. Needs what `attempts.match_places` makes.
"""

from __future__ import annotations

from analytics.delivery.queries import sql
from analytics.engines.duck import DuckEngine
from analytics.lake.tables import lake_relation
from analytics.settings import Settings

# A deployment's key before it is told apart from a run of the same id.
RAW_KEY = "coalesce(run_id, source_id)"
_NAMING = (
    "service, kind, source_id, run_id, repository, digest, artifact_repository, artifact_sha, created_at, started_at, "
    "finished_at, source, origin, line"
)


def create_attempt_names(engine: DuckEngine) -> None:
    """Create the table `matched_attempts`: all attempts, with what tells one from another and when it happened."""
    engine.create_table(
        "matched_attempts",
        f"SELECT {_NAMING}, revisions FROM matched_deployments "
        f"UNION ALL BY NAME SELECT {_NAMING} FROM matched_runs UNION ALL BY NAME SELECT {_NAMING} FROM matched_tags",
    )


def create_whole_attempts(engine: DuckEngine, settings: Settings, name: str, keys: str) -> None:
    """Create the table `name`: rows of ATTEMPT_COLUMNS of the deployments that a table `keys` names.

    `keys` has the columns service and deployment_key (RAW_KEY).
    """
    engine.create_table(
        "wanted_records",
        "SELECT DISTINCT m.source, m.origin, m.line, m.source_id, m.created_at FROM matched_attempts AS m "
        f"SEMI JOIN {keys} AS k ON k.service = m.service AND k.deployment_key = coalesce(m.run_id, m.source_id) "
        "WHERE m.kind = 'deployment'",
    )
    ((first, last),) = engine.rows("SELECT min(created_at), max(created_at) FROM wanted_records")
    # With its constants a reader skips the quarters that lie elsewhere.
    near = "false" if first is None else f"told.created_at BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"
    engine.create_table(
        "wanted_deployments",
        f"SELECT told.* FROM {lake_relation(settings, 'deployments')} AS told SEMI JOIN wanted_records AS w "
        "ON w.source = told.source AND w.origin = told.origin AND w.line = told.line "
        f"AND w.source_id = told.deployment_id WHERE {near}",
    )
    engine.create_table(
        name,
        f"WITH deployments AS (SELECT * FROM wanted_deployments), "
        f"matched_deployments AS ({sql('matched_deployments.sql')}) "
        f"SELECT attempts.* FROM ({sql('matched_attempts.sql')}) AS attempts SEMI JOIN {keys} AS k "
        "ON k.service = attempts.service AND k.deployment_key = coalesce(attempts.run_id, attempts.source_id)",
    )
