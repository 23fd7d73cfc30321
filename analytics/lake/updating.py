"""Updating a lake table by what left it and what came: only quarters whose rows have changed are written again."""

from __future__ import annotations

import duckdb

from analytics.lake.schemas import TABLES
from analytics.lake.tables import UNDATED, lake_relation, write_partitions
from analytics.settings import Settings


def replace_rows(
    con: duckdb.DuckDBPyConnection, settings: Settings, name: str, *, leaving: str, coming: str
) -> set[str]:
    """Take some rows out of a table and put others in; gives the quarters that were written.

    `leaving` is a condition on a row of the table, whose alias is `kept`, and must be true or false; `coming` is a
    query of rows. What leaves and comes again unchanged writes nothing. Needs a `calendar` as `write_table` does.
    """
    table = lake_relation(settings, name)
    columns = TABLES[name].columns
    listed = ", ".join(f'CAST("{column}" AS {kind}) AS "{column}"' for column, kind in columns.items())
    con.execute(f"CREATE OR REPLACE TEMP TABLE coming AS {_dated(name, f'SELECT {listed} FROM ({coming})')}")
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE leaving AS {_dated(name, f'SELECT * FROM {table} AS kept WHERE {leaving}')}"
    )
    row = ", ".join(f'"{column}"' for column in columns)
    sums = f"count(*) AS counted, bit_xor(hash({row})) AS folded, sum(hash({row}) % {2**32}) AS summed"
    changed = {
        str(quarter)
        for (quarter,) in con.execute(
            f"""
            SELECT coalesce(gone.partition, come.partition)
            FROM (SELECT partition, {sums} FROM leaving GROUP BY partition) AS gone
            FULL JOIN (SELECT partition, {sums} FROM coming GROUP BY partition) AS come
              ON come.partition = gone.partition
            WHERE (gone.counted, gone.folded, gone.summed) IS DISTINCT FROM (come.counted, come.folded, come.summed)
            """
        ).fetchall()
    }
    if changed:
        quarters = ", ".join(f"'{quarter}'" for quarter in sorted(changed))
        held = lake_relation(settings, name, changed)
        staying = _dated(name, f"SELECT * FROM {held} AS kept WHERE NOT ({leaving})")
        write_partitions(
            con,
            settings,
            name,
            f"SELECT {row} FROM ({staying}) UNION ALL SELECT {row} FROM coming WHERE partition IN ({quarters})",
            changed,
        )
    con.execute("DROP TABLE coming")
    con.execute("DROP TABLE leaving")
    return changed


def count_rows(con: duckdb.DuckDBPyConnection, settings: Settings, name: str) -> int:
    """How many rows a table has, from what its files say of themselves."""
    (rows,) = con.execute(f"SELECT count(*) FROM {lake_relation(settings, name)}").fetchall()[0]
    return int(rows)


def _dated(name: str, query: str) -> str:
    """A query's rows with the `partition` that each belongs to."""
    dated_by = TABLES[name].dated_by
    if dated_by is None:
        return f"SELECT *, '{UNDATED}' AS partition FROM ({query})"
    return (
        f"SELECT dated.*, coalesce(calendar.quarter, '{UNDATED}') AS partition FROM ({query}) AS dated "
        f'LEFT JOIN calendar ON calendar.day = CAST(dated."{dated_by}" AS DATE)'
    )
