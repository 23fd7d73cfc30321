"""Reads the rows of a batch of services from the typed tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import duckdb

from analytics.catalog import Service
from analytics.delivery.attempts import ATTEMPT_COLUMNS
from analytics.delivery.batch import COMMIT_COLUMNS, PULL_REQUEST_COLUMNS
from analytics.delivery.records import Rules

# Bounds the commits that stand in memory at one time.
COMMITS_PER_BATCH = 100_000


def prepare_commits(con: duckdb.DuckDBPyConnection, rules: Rules, path_filtered: Collection[str]) -> None:
    """Create the temp table `commit_facts`: commits known at the cut-off, with what their messages say extracted.

    Files are kept only for repositories with a path filter: they are most of a commit's bytes.
    """
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE commit_facts AS
        SELECT lower(repository) AS folded, sha, parents, author, is_bot, authored_at, patch_id,
               CASE WHEN list_contains($filtered, lower(repository)) THEN files END AS files,
               regexp_extract_all(message, '(?i)this reverts commit ([0-9a-f]{7,64})', 1) AS reverts,
               regexp_extract_all(message, '(?i)\\breverts (?:pull request )?(?:[\\w.-]+/[\\w.-]+)?[#!]([0-9]{1,9})', 1)
                   AS reverts_pull_requests,
               regexp_extract_all(message, '(?i)cherry[ -]picked from commit ([0-9a-f]{7,64})', 1) AS picked_from
        FROM commits
        WHERE committed_at <= $now
        ORDER BY folded
        """,
        {"filtered": sorted(path_filtered), "now": rules.now},
    )
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE pull_request_facts AS
        SELECT lower(repository) AS folded, * FROM pull_requests WHERE created_at <= $now ORDER BY folded
        """,
        {"now": rules.now},
    )


def service_repositories(con: duckdb.DuckDBPyConnection, services: Iterable[Service]) -> dict[str, set[str]]:
    """Folded names of every repository whose history a service's deployments touch."""
    repositories = {service.name: {service.repository.casefold()} for service in services}
    rows = con.execute(
        """
        SELECT DISTINCT service, lower(repository) FROM matched_attempts
        UNION SELECT DISTINCT service, lower(artifact_repository) FROM matched_attempts
        WHERE artifact_repository IS NOT NULL
        UNION SELECT DISTINCT service, lower(p.repository)
        FROM matched_attempts AS m JOIN proven_repositories AS p ON p.digest = lower(m.digest)
        UNION SELECT DISTINCT service, lower(r.repository)
        FROM (SELECT service, unnest(revisions) AS r FROM matched_attempts WHERE len(revisions) > 0)
        """
    ).fetchall()
    for service, repository in rows:
        repositories.setdefault(service, set()).add(repository)
    return repositories


def batches(
    con: duckdb.DuckDBPyConnection, services: Iterable[Service], repositories: dict[str, set[str]]
) -> Iterator[list[Service]]:
    """Services in batches whose histories fit in memory together, neighbours in a repository kept together."""
    sizes = dict(con.execute("SELECT folded, count(*) FROM commit_facts GROUP BY folded").fetchall())
    batch: list[Service] = []
    loaded: set[str] = set()
    for service in sorted(services, key=lambda s: (s.repository.casefold(), s.name)):
        more = loaded | repositories[service.name]
        if batch and sum(sizes.get(name, 0) for name in more) > COMMITS_PER_BATCH:
            yield batch
            batch, more = [], set(repositories[service.name])
        batch.append(service)
        loaded = more
    if batch:
        yield batch


def read_commits(con: duckdb.DuckDBPyConnection, repositories: Collection[str]) -> Iterator[tuple[Any, ...]]:
    """Rows of COMMIT_COLUMNS of some repositories, by their folded names."""
    cursor = con.execute(
        f"SELECT {', '.join(COMMIT_COLUMNS)} FROM commit_facts WHERE list_contains(?, folded)", [sorted(repositories)]
    )
    yield from _rows(cursor)


def read_pull_requests(con: duckdb.DuckDBPyConnection, repositories: Collection[str]) -> Iterator[tuple[Any, ...]]:
    """Rows of PULL_REQUEST_COLUMNS of some repositories, by their folded names."""
    cursor = con.execute(
        f"SELECT {', '.join(PULL_REQUEST_COLUMNS)} FROM pull_request_facts WHERE list_contains(?, folded)",
        [sorted(repositories)],
    )
    yield from _rows(cursor)


def read_attempts(con: duckdb.DuckDBPyConnection, services: Iterable[str]) -> Iterator[tuple[Any, ...]]:
    """Rows of ATTEMPT_COLUMNS of some services."""
    cursor = con.execute(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM matched_attempts WHERE list_contains(?, service)", [list(services)]
    )
    yield from _rows(cursor)


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(10_000):
        yield from rows
