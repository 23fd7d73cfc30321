"""Which landed records must be read again by their id: those not settled yet, and those that no list shows.

Source: ingestion.md section 5 (runs, jobs, deployments).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from fnmatch import fnmatchcase

import duckdb

from analytics.sources.port import Wanted

# The newest version of each record that an API showed, as it was last landed.
_NEWEST = (
    "SELECT origin, key, arg_max(payload, line) AS payload FROM items WHERE entity = '{entity}' GROUP BY origin, key"
)
# States in which a deployment gets no further ones but that of being superseded.
SETTLED_STATES = ("success", "failure", "error", "inactive", "abandoned", "destroyed")


def wanted(
    con: duckdb.DuckDBPyConnection, entity: str, now: datetime, first_workflows: Collection[str] = ()
) -> list[Wanted]:
    """The records of an entity to read again, in the order of their worth; `now` is naive UTC.

    Commits: those that landed commits and pull requests name and no list showed, each asked for once. Runs: attempts
    not completed, and earlier attempts never seen completed. Deployments: without a settled state. Jobs: of completed
    attempts whose jobs were never read, deploy workflows first, then newest first. Attestations: of digests of
    artifacts and deployments that were never asked for; again within their first week when a run of the repository
    moved since, and a last time when that week is over. Deployment records: of artifacts made within 90 days that were
    never asked for; within 30 days again when a deployment of the repository moved since.
    """
    if entity == "pipeline_jobs":
        return _jobs(con, first_workflows)
    if entity == "attestations":
        return _attestations(con, now)
    if entity == "deployment_records":
        return _deployment_records(con, now)
    return _FINDERS[entity](con) if entity in _FINDERS else []


def _commits(con: duckdb.DuckDBPyConnection) -> list[Wanted]:
    # Of a pull request the last commit first: the list that starts there holds the others.
    rows = con.execute(
        f"""
        WITH landed AS (
            SELECT split_part(origin, '/', 1) AS repository, payload ->> '$.sha' AS sha,
                   from_json(payload -> '$.parents', '["VARCHAR"]') AS parents
            FROM items WHERE entity = 'commits'
        ), named AS (
            SELECT repository, unnest(parents) AS sha, 0 AS place FROM landed
            UNION ALL
            SELECT repository, shas[-1 - place] AS sha, place FROM (
                SELECT split_part(origin, '/', 1) AS repository,
                       from_json(payload -> '$.commits', '["VARCHAR"]') AS shas, unnest(range(len(shas))) AS place
                FROM ({_NEWEST.format(entity="pull_requests")})
            )
        )
        SELECT repository, sha FROM named
        ANTI JOIN landed USING (repository, sha)
        ANTI JOIN (SELECT request_key FROM pages WHERE entity = 'commits') AS asked
            ON asked.request_key = repository || '/commits/' || sha
        WHERE sha IS NOT NULL GROUP BY repository, sha ORDER BY repository, min(place), sha
        """
    ).fetchall()
    return [Wanted(repository, sha) for repository, sha in rows]


def _runs(con: duckdb.DuckDBPyConnection) -> list[Wanted]:
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


def _deployments(con: duckdb.DuckDBPyConnection) -> list[Wanted]:
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


def _attestations(con: duckdb.DuckDBPyConnection, now: datetime) -> list[Wanted]:
    # Who attests does so in a run: while none moves, there is nothing to ask again.
    rows = con.execute(
        """
        WITH digests AS (
            SELECT payload ->> '$.digest' AS digest, min(split_part(origin, '/', 1)) AS repository,
                   coalesce(max(occurred_at), TIMESTAMP '1970-01-01') + INTERVAL 7 DAY AS until
            FROM items WHERE entity IN ('artifacts', 'deployments') AND payload ->> '$.digest' LIKE 'sha%:%'
            GROUP BY digest
        ), asked AS (
            SELECT digest, max(fetched_at) AS fetched_at, max(page_id) AS page_id FROM (
                SELECT unnest(from_json(request, '["VARCHAR"]')) AS digest, fetched_at, page_id
                FROM pages WHERE entity = 'attestations' AND kind = 'attestations'
            ) GROUP BY digest
        ), moved AS (
            SELECT request_key AS repository, max(page_id) AS page_id
            FROM pages WHERE entity = 'pipeline_runs' AND items > 0 GROUP BY request_key
        )
        SELECT repository, digest FROM digests
        LEFT JOIN asked USING (digest)
        LEFT JOIN moved USING (repository)
        WHERE asked.page_id IS NULL
           OR asked.fetched_at < until AND (moved.page_id > asked.page_id OR until <= $now)
        ORDER BY ALL
        """,
        {"now": now},
    ).fetchall()
    return [Wanted(repository, digest) for repository, digest in rows]


def _deployment_records(con: duckdb.DuckDBPyConnection, now: datetime) -> list[Wanted]:
    # Each costs a request: who records a deployment deploys, and most of what is deployed was made lately.
    rows = con.execute(
        """
        WITH digests AS (
            SELECT lower(payload ->> '$.digest') AS digest, min(split_part(origin, '/', 1)) AS repository,
                   max(occurred_at) AS made_at
            FROM items WHERE entity = 'artifacts'
              AND regexp_full_match(payload ->> '$.digest', 'sha256:[0-9a-f]{64}', 'i')
            GROUP BY 1 HAVING max(occurred_at) >= $now - INTERVAL 90 DAY
        ), asked AS (
            SELECT request AS digest, max(page_id) AS page_id
            FROM pages WHERE entity = 'deployment_records' AND kind = 'deployment_records' GROUP BY ALL
        ), moved AS (
            SELECT request_key AS repository, max(page_id) AS page_id
            FROM pages WHERE entity = 'deployments' AND items > 0 GROUP BY ALL
        )
        SELECT repository, digest FROM digests
        LEFT JOIN asked USING (digest)
        LEFT JOIN moved USING (repository)
        WHERE asked.page_id IS NULL OR (made_at >= $now - INTERVAL 30 DAY AND moved.page_id > asked.page_id)
        ORDER BY made_at DESC, repository, digest
        """,
        {"now": now},
    ).fetchall()
    return [Wanted(repository, digest) for repository, digest in rows]


_FINDERS: dict[str, Callable[[duckdb.DuckDBPyConnection], list[Wanted]]] = {
    "commits": _commits,
    "pipeline_runs": _runs,
    "deployments": _deployments,
}
