"""Which landed records must be read again by their id: those not settled yet, and those that no list shows.

Source: ingestion.md section 5 (runs, jobs, deployments).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase

import duckdb

from analytics.sources.port import Wanted

# The newest version of each record that an API showed, as it was last landed.
_NEWEST = (
    "SELECT origin, key, arg_max(payload, line) AS payload FROM items WHERE entity = '{entity}' GROUP BY origin, key"
)
# States in which a deployment gets no further ones but that of being superseded.
SETTLED_STATES = ("success", "failure", "error", "inactive", "abandoned", "destroyed")


def wanted(con: duckdb.DuckDBPyConnection, entity: str, first_workflows: Collection[str] = ()) -> list[Wanted]:
    """The records of an entity to read again, in the order of their worth.

    Runs: attempts not completed, and earlier attempts never seen completed. Deployments: without a settled state.
    Jobs: of completed attempts whose jobs were never read, deploy workflows first, then newest first.
    """
    return _FINDERS[entity](con, first_workflows) if entity in _FINDERS else []


def _runs(con: duckdb.DuckDBPyConnection, first_workflows: Collection[str]) -> list[Wanted]:
    rows = con.execute(
        f"""
        WITH attempts AS (
            SELECT origin, payload ->> '$.run_id' AS run_id, CAST(payload ->> '$.attempt' AS INTEGER) AS attempt,
                   payload ->> '$.status' = 'completed' AS completed
            FROM ({_NEWEST.format(entity="pipeline_runs")})
        ), expected AS (
            SELECT origin, run_id, unnest(range(1, max(attempt) + 1)) AS attempt
            FROM attempts GROUP BY origin, run_id HAVING max(attempt) > 1 OR NOT bool_and(completed)
        )
        SELECT origin, run_id, attempt FROM expected
        LEFT JOIN attempts USING (origin, run_id, attempt)
        WHERE NOT coalesce(completed, false) ORDER BY origin, run_id, attempt
        """
    ).fetchall()
    return [Wanted(origin, run_id, attempt) for origin, run_id, attempt in rows]


def _deployments(con: duckdb.DuckDBPyConnection, first_workflows: Collection[str]) -> list[Wanted]:
    rows = con.execute(
        f"""
        SELECT origin, coalesce(payload ->> '$.node_id', payload ->> '$.deployment_id') AS native_id
        FROM ({_NEWEST.format(entity="deployments")})
        WHERE NOT list_has_any(coalesce(payload ->> '$.statuses[*].state', []), $settled)
        ORDER BY ALL
        """,
        {"settled": list(SETTLED_STATES)},
    ).fetchall()
    return [Wanted(origin, native_id) for origin, native_id in rows]


def _jobs(con: duckdb.DuckDBPyConnection, first_workflows: Collection[str]) -> list[Wanted]:
    rows = con.execute(
        f"""
        WITH attempts AS (
            SELECT origin, payload ->> '$.run_id' AS run_id, CAST(payload ->> '$.attempt' AS INTEGER) AS attempt,
                   payload ->> '$.workflow' AS workflow, payload ->> '$.created_at' AS created_at
            FROM ({_NEWEST.format(entity="pipeline_runs")})
            WHERE payload ->> '$.status' = 'completed'
        ), newest AS (
            SELECT origin, run_id, max(attempt) AS attempt, max(workflow) AS workflow, max(created_at) AS created_at
            FROM attempts GROUP BY origin, run_id
        )
        SELECT newest.origin, newest.run_id, newest.attempt, workflow FROM newest
        LEFT JOIN (
            SELECT request_key, max(generation) AS attempt FROM pages
            WHERE entity = 'pipeline_jobs' AND next_url IS NULL GROUP BY request_key
        ) AS read ON read.request_key = newest.origin || '/runs/' || newest.run_id
        WHERE coalesce(read.attempt, 0) < newest.attempt
        ORDER BY created_at DESC, newest.run_id
        """
    ).fetchall()
    names = [name.casefold() for name in first_workflows]

    def is_first(workflow: str) -> bool:
        folded = (workflow or "").casefold()
        return any(fnmatchcase(folded, name) or fnmatchcase(folded.rsplit("/", 1)[-1], name) for name in names)

    return [Wanted(row[0], row[1], row[2]) for row in sorted(rows, key=lambda row: not is_first(row[3]))]


_FINDERS: dict[str, Callable[[duckdb.DuckDBPyConnection, Collection[str]], list[Wanted]]] = {
    "pipeline_runs": _runs,
    "deployments": _deployments,
    "pipeline_jobs": _jobs,
}
