"""Reads the records of a batch of services from the typed tables into plain objects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import duckdb

from analytics.catalog import Service
from analytics.delivery.history import CommitFacts, History
from analytics.delivery.records import PullRequestFacts, Rules
from analytics.globs import name_matches

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


def read_histories(
    con: duckdb.DuckDBPyConnection, repositories: Collection[str], bots: Collection[str]
) -> dict[str, History]:
    """Commit graphs by folded repository name."""
    cursor = con.execute(
        "SELECT folded, sha, parents, author, is_bot, authored_at, patch_id, files, reverts, reverts_pull_requests, "
        "picked_from FROM commit_facts WHERE list_contains(?, folded)",
        [sorted(repositories)],
    )
    commits: dict[str, list[CommitFacts]] = {name: [] for name in repositories}
    bot_names: dict[str | None, bool] = {}
    while rows := cursor.fetchmany(10_000):
        for folded, sha, parents, author, is_bot, authored_at, patch, files, reverts, pulls, picked in rows:
            if is_bot is None:
                if author not in bot_names:
                    bot_names[author] = name_matches(author, bots)
                is_bot = bot_names[author]
            commits[folded].append(
                CommitFacts(
                    sha=sha,
                    parents=tuple(parents or ()),
                    author=author,
                    is_bot=is_bot,
                    authored_at=authored_at,
                    patch_id=patch,
                    files=None if files is None else tuple(files),
                    reverts=tuple(reverts or ()),
                    reverts_pull_requests=tuple(int(number) for number in pulls or ()),
                    picked_from=tuple(picked or ()),
                )
            )
    return {name: History(found) for name, found in commits.items()}


def read_pull_requests(
    con: duckdb.DuckDBPyConnection, repositories: Collection[str], rules: Rules
) -> dict[str, list[PullRequestFacts]]:
    """Pull requests by folded repository name; what happened after the cut-off has not happened."""
    cursor = con.execute(
        "SELECT folded, number, title, labels, head_ref, created_at, first_review_at, approved_at, merged_at, "
        "merge_commit_sha, commits FROM pull_request_facts WHERE list_contains(?, folded) ORDER BY folded, number",
        [sorted(repositories)],
    )

    def known(at: Any) -> Any:
        return at if at is not None and at <= rules.now else None

    requests: dict[str, list[PullRequestFacts]] = {}
    while rows := cursor.fetchmany(10_000):
        for folded, number, title, labels, head_ref, created, reviewed, approved, merged, merge_sha, shas in rows:
            requests.setdefault(folded, []).append(
                PullRequestFacts(
                    repository=folded,
                    number=number,
                    title=title,
                    labels=tuple(labels or ()),
                    head_ref=head_ref,
                    created_at=created,
                    first_review_at=known(reviewed),
                    approved_at=known(approved),
                    merged_at=known(merged),
                    merge_commit_sha=merge_sha,
                    commits=tuple(shas or ()),
                )
            )
    return requests
