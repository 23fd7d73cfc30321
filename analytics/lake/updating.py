"""Updating a lake table by what left it and what came: only files whose rows have changed are written again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import duckdb

from analytics.lake.places import lake_of
from analytics.lake.port import LakeFile
from analytics.lake.schemas import TABLES
from analytics.lake.tables import UNDATED, exchange_files, files_relation, lake_relation
from analytics.settings import Settings

# A quarter's files are made one when they would be more.
MOST_FILES = 8


def replace_rows(
    con: duckdb.DuckDBPyConnection, settings: Settings, name: str, *, leaving: str | None, coming: str
) -> set[str]:
    """Take some rows out of a table and put others in; gives the quarters that were written.

    `leaving` is a condition on a row of the table, whose alias is `kept`, and must be true or false; None where no row
    leaves. `coming` is a query of rows. What leaves and comes again unchanged writes nothing: files that lose no row
    stay as they are, and what is new comes beside them. Needs a `calendar` as `write_table` does.
    """
    columns = TABLES[name].columns
    row = ", ".join(f'"{column}"' for column in columns)
    files = lake_of(settings).files(name)
    typed = ", ".join(f'CAST("{column}" AS {kind}) AS "{column}"' for column, kind in columns.items())
    queries = {"coming": f"SELECT {typed} FROM ({coming})"}
    if leaving:
        queries["leaving"] = f"SELECT * FROM {files_relation(name, files, numbered=True)} AS kept WHERE {leaving}"
    for table, query in queries.items():
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT *, hash({row}) AS row_hash FROM ({_dated(name, query)})"
        )
    changed, losing, others = _changes(con) if leaving else (_partitions(con), set(), set())
    if changed:
        touched = _touched(name, files, changed, losing)
        gone = [files[number] for number in touched]
        within = f"partition IN ({_listed(changed)})"
        came = f"SELECT {row} FROM coming WHERE {within}"
        if again := others - set(touched):
            # What leaves files that stay comes again, and is there already.
            staying = ", ".join(map(str, sorted(again)))
            came = f"({came} EXCEPT ALL SELECT {row} FROM leaving WHERE {within} AND number IN ({staying}))"
        if gone:
            stays = f"SELECT {row} FROM {files_relation(name, gone)} AS kept WHERE NOT ({leaving or 'false'})"
            came = f"{stays} UNION ALL {came}"
        exchange_files(con, settings, name, came, gone)
    for table in queries:
        con.execute(f"DROP TABLE {table}")
    return changed


def _partitions(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Quarters in which rows come."""
    return {str(quarter) for (quarter,) in con.execute("SELECT DISTINCT partition FROM coming").fetchall()}


def _changes(con: duckdb.DuckDBPyConnection) -> tuple[set[str], set[int], set[int]]:
    """Quarters in which not the same rows come as leave; numbers of the files that lose a row, and of the others.

    The others have rows that leave and come again. Of quarters that do not change no file is told.
    """
    rows = con.execute(
        """
        WITH moved AS MATERIALIZED (
            SELECT partition, row_hash, sum(moved) AS more FROM (
                SELECT partition, row_hash, 1 AS moved FROM coming
                UNION ALL SELECT partition, row_hash, -1 FROM leaving
            ) GROUP BY partition, row_hash HAVING sum(moved) <> 0
        )
        SELECT DISTINCT partition, CAST(NULL AS BIGINT), false FROM moved
        UNION ALL
        SELECT l.partition, l.number, bool_or(m.more IS NOT NULL AND m.more < 0) FROM leaving AS l
        LEFT JOIN moved AS m ON m.partition = l.partition AND m.row_hash = l.row_hash
        WHERE l.partition IN (SELECT partition FROM moved) GROUP BY l.partition, l.number
        """
    ).fetchall()
    losing = {int(number) for _, number, loses in rows if loses}
    read = {int(number) for _, number, _ in rows if number is not None}
    return {str(quarter) for quarter, _, _ in rows}, losing, read - losing


def _touched(name: str, files: Sequence[LakeFile], changed: Collection[str], losing: Collection[int]) -> list[int]:
    """Numbers of the files that are written again: they lose a row, or their quarter has too many files."""
    touched = set(losing)
    staying = Counter(file.quarter for number, file in enumerate(files) if number not in touched)
    columns = set(TABLES[name].columns)
    # A quarter's files all have the same columns, which those of an earlier version may lack.
    others = {file.quarter for file in files if file.columns != columns}
    for number, file in enumerate(files):
        if file.quarter in changed and (staying[file.quarter] >= MOST_FILES or file.quarter in others):
            touched.add(number)
    return sorted(touched)


def _listed(quarters: Collection[str]) -> str:
    return ", ".join(f"'{quarter}'" for quarter in sorted(quarters))


def count_rows(con: duckdb.DuckDBPyConnection, settings: Settings, name: str) -> int:
    """How many rows a table has, from what its files say of themselves."""
    return count_tables(con, settings, [name])[name]


def count_tables(con: duckdb.DuckDBPyConnection, settings: Settings, names: Collection[str]) -> dict[str, int]:
    """How many rows tables have, all asked at once."""
    counts = (f"SELECT '{name}', count(*) FROM {lake_relation(settings, name)}" for name in names)
    found = con.execute(" UNION ALL ".join(counts)).fetchall() if names else []
    return {str(name): int(rows) for name, rows in found}


def _dated(name: str, query: str) -> str:
    """A query's rows with the `partition` that each belongs to."""
    dated_by, quarter_in = TABLES[name].dated_by, TABLES[name].quarter_in
    if dated_by is None:
        named = "NULL" if quarter_in is None else f'"{quarter_in}"'
        return f"SELECT *, coalesce({named}, '{UNDATED}') AS partition FROM ({query})"
    return (
        f"SELECT dated.*, coalesce(calendar.quarter, '{UNDATED}') AS partition FROM ({query}) AS dated "
        f'LEFT JOIN calendar ON calendar.day = CAST(dated."{dated_by}" AS DATE)'
    )
