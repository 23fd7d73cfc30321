"""Reads the rows of a batch of services from the typed tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import duckdb

from analytics.catalog import Service
from analytics.delivery.attempts import ATTEMPT_COLUMNS
from analytics.delivery.batch import COMMIT_COLUMNS, PULL_REQUEST_COLUMNS
from analytics.delivery.queries import create_tables, sql
from analytics.engines.port import Engine

# Bounds the commits that stand in memory at one time.
COMMITS_PER_BATCH = 100_000
# On Spark a batch is a task, and a cluster has many cores to keep at work.
COMMITS_PER_TASK = 20_000


def prepare_history(engine: Engine, path_filtered: Collection[str]) -> None:
    """Create the tables `commit_facts` and `pull_request_facts`: what was known at the cut-off, by folded repository.

    Needs `commits`, `pull_requests` and the prelude.
    """
    prepare_commits(engine, path_filtered)
    create_tables(engine, "pull_request_facts")


def prepare_commits(engine: Engine, path_filtered: Collection[str]) -> None:
    """Create the table `commit_facts`; files are kept only for the repositories with a path filter."""
    engine.create_values("path_filtered", {"repository": "VARCHAR"}, [(name,) for name in sorted(path_filtered)])
    create_tables(engine, "commit_facts")


def service_repositories(engine: Engine, services: Iterable[Service]) -> dict[str, set[str]]:
    """Folded names of every repository whose history a service's deployments touch."""
    repositories = {service.name: {service.repository.casefold()} for service in services}
    engine.create_unnested("attempt_revisions", "matched_attempts", ["service"], "revisions", "revision")
    for service, repository in engine.rows(sql("service_repositories.sql")):
        repositories.setdefault(service, set()).add(repository)
    return repositories


def batches(
    engine: Engine,
    services: Iterable[Service],
    repositories: Mapping[str, set[str]],
    most_commits: int = COMMITS_PER_BATCH,
) -> Iterator[list[Service]]:
    """Services in batches whose histories fit in memory together, neighbours in a repository kept together."""
    sizes = dict(engine.rows("SELECT folded, count(*) AS commits FROM commit_facts GROUP BY folded"))
    batch: list[Service] = []
    loaded: set[str] = set()
    for service in sorted(services, key=lambda s: (s.repository.casefold(), s.name)):
        more = loaded | repositories[service.name]
        if batch and sum(sizes.get(name, 0) for name in more) > most_commits:
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


def read_attempts(
    con: duckdb.DuckDBPyConnection, services: Iterable[str], table: str = "matched_attempts"
) -> Iterator[tuple[Any, ...]]:
    """Rows of ATTEMPT_COLUMNS of some services."""
    cursor = con.execute(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM {table} WHERE list_contains(?, service)", [list(services)]
    )
    yield from _rows(cursor)


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(10_000):
        yield from rows
