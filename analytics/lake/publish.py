"""Publishing: the database people open, made from the lake in a fresh file and then renamed.

Nobody writes to a file that is read. The fresh file is a copy of the published one in which the quarters that the lake
has written again are replaced; without such a file, or where anything about it is in doubt, it is made from the whole
lake. Its schema `lake` says what it was made from. Source: spec architecture.md section 2.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import duckdb

from analytics.engine import connect
from analytics.lake.schemas import TABLES, Table
from analytics.lake.tables import UNDATED, lake_relation, scratch, table_digests
from analytics.settings import Settings

# Readable by DuckDB 1.2 and newer, not only by the version that wrote it.
STORAGE_VERSION = "v1.2.0"
# Replaced rows leave room behind in a copy: one that has grown so many times is made anew.
MOST_TIMES_AS_LARGE = 1.5
_MADE_FROM = "published.lake.made_from"

Digests = dict[tuple[str, str], str]


def publish(settings: Settings) -> None:
    """Write `analytics.duckdb`: every table of the lake that readers ask for."""
    present = {
        (table.name, quarter): digest
        for table in TABLES.values()
        if table.published
        for quarter, digest in table_digests(settings, table.name).items()
    }
    with scratch(settings) as folder:
        target = folder / "analytics.duckdb"
        with connect(settings) as con:
            if not _update(con, settings, target, present):
                target.unlink(missing_ok=True)
                _make(con, settings, target, present)
        settings.published_path.parent.mkdir(parents=True, exist_ok=True)
        target.replace(settings.published_path)


def _make(con: duckdb.DuckDBPyConnection, settings: Settings, target: Path, present: Digests) -> None:
    """Make a file from the whole lake."""
    _attach(con, target)
    con.execute("BEGIN")
    for table in TABLES.values():
        if table.published:
            _create(con, settings, table)
    _finish(con, present)
    con.execute("COMMIT")
    con.execute("CHECKPOINT published")
    # Copies are held against the size of a file without room between its rows.
    con.execute(f"INSERT INTO {_MADE_FROM} VALUES ('', 'size', ?)", [str(target.stat().st_size)])
    con.execute("CHECKPOINT published")
    con.execute("DETACH published")


def _update(con: duckdb.DuckDBPyConnection, settings: Settings, target: Path, present: Digests) -> bool:
    """Make a copy of the published file what the lake is now; False where that cannot be relied upon."""
    if not settings.published_path.is_file():
        return False
    shutil.copyfile(settings.published_path, target)
    try:
        _attach(con, target)
    except duckdb.Error:  # damaged, or of a version that this one does not read
        return False
    try:
        con.execute("BEGIN")
        before = _made_from(con)
        size = int(before.pop(("", "size"), "0"))
        done = (
            before.pop(("", "form"), None) == _form()
            and target.stat().st_size <= MOST_TIMES_AS_LARGE * size
            and all(_bring_up(con, settings, table, before, present) for table in TABLES.values() if table.published)
        )
        if done:
            _finish(con, present)
            con.execute(f"INSERT INTO {_MADE_FROM} VALUES ('', 'size', ?)", [str(size)])
    except duckdb.CatalogException:  # of a version that noted nothing
        done = False
    con.execute("COMMIT" if done else "ROLLBACK")
    if done:
        con.execute("CHECKPOINT published")
    con.execute("DETACH published")
    return done


def _bring_up(
    con: duckdb.DuckDBPyConnection, settings: Settings, table: Table, before: Digests, present: Digests
) -> bool:
    """Replace what the lake has written again; whether the table has as many rows as in the lake then."""
    old, new = (
        {quarter: digest for (name, quarter), digest in digests.items() if name == table.name}
        for digests in (before, present)
    )
    changed = {quarter for quarter in {*old, *new} if old.get(quarter) != new.get(quarter)}
    if table.name == "snapshot":  # it says which values it stands beside
        _create(con, settings, table)
        return True
    if not changed:
        return True
    if table.dated_by is None or UNDATED in changed or len(changed) > len(new) / 2:
        _create(con, settings, table)
        return True
    relation, date = lake_relation(settings, table.name), table.dated_by
    for first, after in con.execute(
        f"SELECT min(day), max(day) + 1 FROM {lake_relation(settings, 'calendar')} "
        "WHERE list_contains(?, quarter) GROUP BY quarter",
        [sorted(changed)],
    ).fetchall():
        of_quarter = f"\"{date}\" >= CAST('{first}' AS DATE) AND \"{date}\" < CAST('{after}' AS DATE)"
        con.execute(f'DELETE FROM published."{table.name}" WHERE {of_quarter}')
        con.execute(f'INSERT INTO published."{table.name}" SELECT * FROM {relation} WHERE {of_quarter}')
    counts = con.execute(
        f'SELECT (SELECT count(*) FROM published."{table.name}"), (SELECT count(*) FROM {relation})'
    ).fetchone()
    return counts is not None and counts[0] == counts[1]


def _attach(con: duckdb.DuckDBPyConnection, target: Path) -> None:
    literal = str(target).replace("'", "''")
    con.execute(f"ATTACH '{literal}' AS published (STORAGE_VERSION '{STORAGE_VERSION}')")


def _create(con: duckdb.DuckDBPyConnection, settings: Settings, table: Table) -> None:
    con.execute(
        f'CREATE OR REPLACE TABLE published."{table.name}" AS SELECT * FROM {lake_relation(settings, table.name)}'
    )
    words = table.description.replace("'", "''")
    con.execute(f"COMMENT ON TABLE published.\"{table.name}\" IS '{words}'")


def _finish(con: duckdb.DuckDBPyConnection, present: Digests) -> None:
    """Say which values these are, and what the file was made from."""
    con.execute("INSERT INTO published.snapshot VALUES ('snapshot_id', ?)", [_snapshot_id(con)])
    con.execute("CREATE SCHEMA IF NOT EXISTS published.lake")
    con.execute(f"CREATE OR REPLACE TABLE {_MADE_FROM} (name VARCHAR, part VARCHAR, digest VARCHAR)")
    rows = [("", "form", _form()), *((name, part, digest) for (name, part), digest in sorted(present.items()))]
    con.execute(
        f"INSERT INTO {_MADE_FROM} SELECT unnest(?), unnest(?), unnest(?)",
        [list(column) for column in zip(*rows, strict=True)],
    )


def _made_from(con: duckdb.DuckDBPyConnection) -> Digests:
    rows = con.execute(f"SELECT name, part, digest FROM {_MADE_FROM}").fetchall()
    return {(name, part): digest for name, part, digest in rows}


def _form() -> str:
    """A digest of what tables a published file has, and of who writes it."""
    tables = [
        (table.name, table.columns, table.dated_by, table.description, table.published) for table in TABLES.values()
    ]
    return hashlib.sha256(json.dumps([STORAGE_VERSION, duckdb.__version__, tables]).encode()).hexdigest()


def _snapshot_id(con: duckdb.DuckDBPyConnection) -> str:
    """A digest of every value and of what it was measured from, equal for equal content."""
    digest = hashlib.sha256()
    for rows in (
        "SELECT * FROM published.metric_values",
        "SELECT key, value FROM published.snapshot WHERE key NOT IN ('cut_off', 'snapshot_id')",
        "SELECT source, entity, items, quarantined FROM published.collection",
    ):
        found = con.execute(
            "SELECT sha256(coalesce(string_agg(line, '' ORDER BY line), '')) FROM "
            f"(SELECT sha256(CAST(to_json(one) AS VARCHAR)) AS line FROM ({rows}) AS one)"
        ).fetchone()
        digest.update(str(found).encode())
    return digest.hexdigest()
