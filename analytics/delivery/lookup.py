"""Commits looked up by their names among millions: what a day asks of is nearly always in the newest quarters."""

from __future__ import annotations

import duckdb

from analytics.engines.duck import DuckEngine
from analytics.lake.tables import UNDATED, lake_relation, quarters_of
from analytics.settings import Settings


def create_spellings(engine: DuckEngine) -> None:
    """Create the table `repository_spellings` (folded, repository) of the repositories of `commits`."""
    engine.create_table(
        "repository_spellings",
        "SELECT lower(repository) AS folded, repository FROM (SELECT DISTINCT repository FROM commits)",
    )


def spellings(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """How repositories of commits are spelled, by their names in small letters; needs `repository_spellings`."""
    found: dict[str, list[str]] = {}
    for folded, name in con.execute("SELECT folded, repository FROM repository_spellings").fetchall():
        found.setdefault(folded, []).append(name)
    return found


def create_named_commits(
    con: duckdb.DuckDBPyConnection, settings: Settings, name: str, wanted: str, columns: str = "*"
) -> None:
    """Create the temp table `name`: the commits that a table or query `wanted` (folded, sha) names.

    Quarters are read from the newest on, and the older ones only while a commit is missing. A repository that is
    spelled in two ways may have a commit twice, and then all are read. Needs `repository_spellings`.
    """
    con.execute(f"CREATE OR REPLACE TEMP TABLE sought AS SELECT DISTINCT folded, sha FROM {wanted}")
    ((missing,),) = con.execute("SELECT count(*) FROM sought").fetchall()
    quarters = sorted(quarters_of(settings, "commits"), key=lambda quarter: (quarter != UNDATED, quarter), reverse=True)
    steps = [quarters[:1], quarters[1:2], quarters[2:]]
    if any(len(names) > 1 for names in spellings(con).values()):
        steps = [quarters]
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {columns} FROM {lake_relation(settings, 'commits', ())}"
    )
    for step in steps:
        if missing > 0 and step:
            found = con.execute(
                f"INSERT INTO {name} SELECT {columns} FROM {lake_relation(settings, 'commits', step)} AS entry "
                "SEMI JOIN sought ON sought.sha = entry.sha AND sought.folded = lower(entry.repository)"
            ).fetchall()
            missing -= found[0][0]
