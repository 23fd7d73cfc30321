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
    held = files_relation(name, files if leaving else [], numbered=True)
    con.execute(f"CREATE OR REPLACE TEMP TABLE coming AS {_dated(name, f'SELECT {typed} FROM ({coming})')}")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE leaving AS "
        + _dated(name, f"SELECT * FROM {held} AS kept WHERE {leaving or 'false'}")
    )
    changed = _changed_quarters(con, row)
    if changed:
        within = f"partition IN ({_listed(changed)})"
        touched = _touched_files(con, name, files, changed, row)
        numbers = ", ".join(map(str, touched)) or "-1"
        gone = [files[number] for number in touched]
        exchange_files(
            con,
            settings,
            name,
            f"SELECT {row} FROM {files_relation(name, gone)} AS kept WHERE NOT ({leaving or 'false'}) UNION ALL "
            f"(SELECT {row} FROM coming WHERE {within} EXCEPT ALL "
            f"SELECT {row} FROM leaving WHERE {within} AND number NOT IN ({numbers}))",
            gone,
        )
    con.execute("DROP TABLE coming")
    con.execute("DROP TABLE leaving")
    return changed


def _changed_quarters(con: duckdb.DuckDBPyConnection, row: str) -> set[str]:
    """Quarters in which not the same rows come as leave."""
    sums = f"count(*) AS counted, bit_xor(hash({row})) AS folded, sum(hash({row}) % {2**32}) AS summed"
    found = con.execute(
        f"""
        SELECT coalesce(gone.partition, come.partition)
        FROM (SELECT partition, {sums} FROM leaving GROUP BY partition) AS gone
        FULL JOIN (SELECT partition, {sums} FROM coming GROUP BY partition) AS come
          ON come.partition = gone.partition
        WHERE (gone.counted, gone.folded, gone.summed) IS DISTINCT FROM (come.counted, come.folded, come.summed)
        """
    ).fetchall()
    return {str(quarter) for (quarter,) in found}


def _touched_files(
    con: duckdb.DuckDBPyConnection, name: str, files: Sequence[LakeFile], changed: Collection[str], row: str
) -> list[int]:
    """Numbers of the files that are written again: they lose a row, or their quarter has too many files."""
    within = f"partition IN ({_listed(changed)})"
    found = con.execute(
        f"""
        WITH lost AS (SELECT {row} FROM leaving WHERE {within} EXCEPT ALL SELECT {row} FROM coming WHERE {within})
        SELECT DISTINCT number FROM leaving WHERE {within} AND hash({row}) IN (SELECT hash({row}) FROM lost)
        """
    ).fetchall()
    touched = {int(number) for (number,) in found}
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
    (rows,) = con.execute(f"SELECT count(*) FROM {lake_relation(settings, name)}").fetchall()[0]
    return int(rows)


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
