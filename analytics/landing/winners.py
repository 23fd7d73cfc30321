"""What is landed, over all sources: the winning item per key.

For one key the greatest (updated_at, source, origin, generation, line) wins, a record without `updated_at` being older
than any with one, so that neither the order of arrival nor reading something twice can change a table. Source:
contract.md section 4, metrics.md invariant I5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from analytics import engine
from analytics.landing.names import create_former_names, under_present_names
from analytics.landing.schema import TABLES, check_version, landing_path
from analytics.landing.waiting import DEADLINE_SECONDS, wait_for_file
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES

WINNERS = "winners"
# An item's place in one number: 24 bits of source, 40 of row.
_ROW_BITS = 40
# Order of items in one number: 58 bits of time, 30 of file and generation, 38 of line. A number is compared and kept
# in a hash table far more cheaply than a tuple of texts. Times before 1970 by an offset stay positive by two days.
_LINE_BITS, _READING_BITS = 38, 30
_TWO_DAYS_US = 2 * 86_400_000_000


@contextmanager
def open_landing(settings: Settings, deadline_seconds: float = DEADLINE_SECONDS) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in memory that sees what every configured source landed, read only.

    Views: `landed_pages`, `landed_items` (with `place`, one number per item), `landed_quarantine`, `landed_cursors`,
    `landed_collected`, `landed_meta`, each with `source` in front. A source that was never pulled has no rows. Raises
    LandingError when a file is held by a writer past the deadline, or is of another version.
    """
    with engine.connect(settings) as con:
        attached: list[tuple[str, str]] = []
        for source in settings.sources:
            path = landing_path(settings, source.name)
            if not path.exists():
                continue
            catalog = f"landing_{len(attached)}"
            literal = str(path).replace("'", "''")

            def attach(literal: str = literal, catalog: str = catalog) -> None:
                con.execute(f"ATTACH '{literal}' AS {catalog} (READ_ONLY)")

            wait_for_file(path, attach, deadline_seconds)
            if check_version(con, path, catalog):
                attached.append((source.name, catalog))
            else:
                con.execute(f"DETACH {catalog}")
        renamed = create_former_names(con, attached)
        for table, columns in TABLES.items():
            con.execute(f"CREATE VIEW landed_{table} AS {_over_sources(table, columns, attached, renamed)}")
        yield con


def _over_sources(table: str, columns: str, attached: list[tuple[str, str]], renamed: set[str]) -> str:
    place = ", CAST(0 AS BIGINT) AS place" if table == "items" else ""
    nothing = ", ".join(
        f"CAST(NULL AS {kind}) AS {name}" for name, kind in (column.split(" ") for column in columns.split(", "))
    )
    parts = [f"SELECT CAST(NULL AS VARCHAR) AS source, {nothing}{place} WHERE false"]
    for number, (source, catalog) in enumerate(attached):
        # Names of sources are letters, digits, - and _ (settings).
        if table != "items":
            parts.append(f"SELECT '{source}' AS source, * FROM {catalog}.{table}")
        elif source in renamed:
            place = f"({number} * {2**_ROW_BITS} + row) AS place"
            parts.append(
                f"SELECT '{source}' AS source, * EXCLUDE (row), {place} FROM {under_present_names(source, catalog)}"
            )
        else:
            place = f"({number} * {2**_ROW_BITS} + rowid) AS place"
            parts.append(f"SELECT '{source}' AS source, *, {place} FROM {catalog}.{table}")
    return " UNION ALL ".join(parts)


def create_winners(con: duckdb.DuckDBPyConnection, entity: str) -> str:
    """Create the temporary view `winners` of one entity on a connection of `open_landing`, and give its name.

    Columns: source, origin, line, key, updated_at, occurred_at (naive UTC), payload (JSON text). The next call replaces
    it.
    """
    assert entity in ENTITIES
    # Keys that occur once need no comparing; nearly all do. Hashes of keys find the others in little memory.
    con.execute(
        "CREATE OR REPLACE TEMP TABLE repeated AS "
        "SELECT hash(key) AS key_hash FROM landed_items WHERE entity = $entity GROUP BY 1 HAVING count(*) > 1",
        {"entity": entity},
    )
    (repeated,) = con.execute("SELECT count(*) FROM repeated").fetchall()[0]
    without_losers = ""
    if repeated:
        _find_losers(con, entity)
        without_losers = "ANTI JOIN losers USING (place)"
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW {WINNERS} AS "
        "SELECT source, origin, line, key, updated_at, occurred_at, payload "
        f"FROM (SELECT * FROM landed_items WHERE entity = '{entity}') {without_losers}"
    )
    return WINNERS


def _find_losers(con: duckdb.DuckDBPyConnection, entity: str) -> None:
    con.execute(
        "CREATE OR REPLACE TEMP TABLE readings AS SELECT source, page_id, "
        "dense_rank() OVER (ORDER BY source, request_key, generation) AS reading FROM landed_pages"
    )
    time = f"CAST(coalesce(epoch_us(item.updated_at) + {_TWO_DAYS_US}, 0) AS HUGEINT)"
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE contenders AS
        SELECT item.place, item.key,
               ({time} * {2**_READING_BITS} + reading.reading) * {2**_LINE_BITS} + item.line AS standing
        FROM (SELECT source, place, key, page_id, line, updated_at FROM landed_items WHERE entity = $entity) AS item
        SEMI JOIN repeated ON repeated.key_hash = hash(item.key)
        JOIN readings AS reading ON reading.source = item.source AND reading.page_id = item.page_id
        """,
        {"entity": entity},
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE losers AS SELECT place FROM contenders "
        "ANTI JOIN (SELECT arg_max(place, standing) AS place FROM contenders GROUP BY key) USING (place)"
    )
    con.execute("DROP TABLE contenders")
