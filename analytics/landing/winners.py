"""What is landed, over all sources: the winning item per key.

For one key the greatest (updated_at, source, origin, generation, line) wins, a record without `updated_at` being older
than any with one, so that neither the order of arrival nor reading something twice can change a table. Source:
contract.md section 4, metrics.md invariant I5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from analytics import engine
from analytics.errors import LandingError
from analytics.landing.names import create_former_names, under_present_names
from analytics.landing.schema import TABLES, check_version
from analytics.landing.shards import Shard, landing_path, present_count, present_paths
from analytics.landing.waiting import DEADLINE_SECONDS, wait_for_file
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES

WINNERS = "winners"
# An item's place in one number: 24 bits of file, 40 of row. Numbers of pages are told apart in the same way.
ROW_BITS = 40
# Order of items in one number: 58 bits of time, 30 of file and generation, 38 of line. A number is compared and kept
# in a hash table far more cheaply than a tuple of texts. Times before 1970 by an offset stay positive by two days.
_LINE_BITS, _READING_BITS = 38, 30
_TWO_DAYS_US = 2 * 86_400_000_000


@dataclass(frozen=True)
class _File:
    """A landing file that is attached: `first` counts the files of its source from 0."""

    source: str
    shard: Shard
    catalog: str
    number: int
    first: int


@contextmanager
def open_landing(
    settings: Settings, deadline_seconds: float = DEADLINE_SECONDS, shard: Shard | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in memory that sees what every configured source landed, read only.

    Views: `landed_pages`, `landed_items` (with `place`, one number per item), `landed_quarantine`, `landed_cursors`,
    `landed_collected`, `landed_meta`, each with `source` in front: all shards of a source are one. A source that was
    never pulled has no rows; table `absent_shards` (source, shard) names the shards of pulled sources that never were.
    Table `landed_files` (number, source, file) tells where an item is: `place` is number * 2^40 + row.

    With `shard`, only that one of each source is seen. Raises LandingError when a file is held by a writer past the
    deadline, or is of another version.
    """
    with engine.connect(settings) as con:
        con.execute("CREATE TABLE landed_files (number BIGINT, source VARCHAR, file VARCHAR)")
        con.execute("CREATE TABLE absent_shards (source VARCHAR, shard INTEGER)")
        attached: list[_File] = []
        for source in settings.sources:
            attached += _attach(con, settings, source.name, len(attached), deadline_seconds, shard)
        renamed = create_former_names(con, [(file.source, file.catalog) for file in attached])
        for table, columns in TABLES.items():
            con.execute(f"CREATE VIEW landed_{table} AS {_over_files(table, columns, attached, renamed)}")
        yield con


def _attach(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    name: str,
    number: int,
    deadline_seconds: float,
    only: Shard | None,
) -> list[_File]:
    """Attach the files of one source; while they are replaced by those of another cut, look again."""
    while True:
        count = present_count(settings, name)
        files: list[_File] = []
        absent: list[Shard] = []
        for shard, path in present_paths(settings, name):
            if only is not None and shard != only:
                continue
            file = _File(name, shard, f"landing_{number + len(files)}", number + len(files), len(files))
            if not _attach_file(con, path, file.catalog, deadline_seconds):
                absent.append(shard)
                continue
            files.append(file)
            if shard.count > 1 and not _is_offered(con, file.catalog):
                absent.append(shard)
        if present_count(settings, name) == count:
            break
        for file in files:
            con.execute(f"DETACH {file.catalog}")
    for file in files:
        path = landing_path(settings, name, file.shard)
        con.execute("INSERT INTO landed_files VALUES (?, ?, ?)", [file.number, name, path.name])
    if files:
        for shard in absent:
            con.execute("INSERT INTO absent_shards VALUES (?, ?)", [name, shard.number])
    return files


def _attach_file(con: duckdb.DuckDBPyConnection, path: Path, catalog: str, deadline_seconds: float) -> bool:
    """Whether there is a file with landing tables, which is attached then."""
    if not path.exists():
        return False
    literal = str(path).replace("'", "''")
    try:
        wait_for_file(path, lambda: con.execute(f"ATTACH '{literal}' AS {catalog} (READ_ONLY)"), deadline_seconds)
    except LandingError:
        if path.exists():
            raise
        return False
    if check_version(con, path, catalog):
        return True
    con.execute(f"DETACH {catalog}")
    return False


def _is_offered(con: duckdb.DuckDBPyConnection, catalog: str) -> bool:
    """Whether a shard was ever told which requests are its own."""
    return bool(con.execute(f"SELECT 1 FROM {catalog}.meta WHERE key = 'offered'").fetchall())


def _over_files(table: str, columns: str, attached: list[_File], renamed: set[str]) -> str:
    place = ", CAST(0 AS BIGINT) AS place" if table == "items" else ""
    nothing = ", ".join(
        f"CAST(NULL AS {kind}) AS {name}" for name, kind in (column.split(" ") for column in columns.split(", "))
    )
    parts = [f"SELECT CAST(NULL AS VARCHAR) AS source, {nothing}{place} WHERE false"]
    for file in attached:
        # Names of sources are letters, digits, - and _ (settings). Each file counts its pages from 1.
        own = (
            f" REPLACE (page_id + {file.first * 2**ROW_BITS} AS page_id)" if file.first and "page_id" in columns else ""
        )
        if table != "items":
            parts.append(f"SELECT '{file.source}' AS source, *{own} FROM {file.catalog}.{table}")
        elif file.source in renamed:
            place = f"({file.number} * {2**ROW_BITS} + row) AS place"
            parts.append(
                f"SELECT '{file.source}' AS source, * EXCLUDE (row){own}, {place} "
                f"FROM {under_present_names(file.source, file.catalog)}"
            )
        else:
            place = f"({file.number} * {2**ROW_BITS} + rowid) AS place"
            parts.append(f"SELECT '{file.source}' AS source, *{own}, {place} FROM {file.catalog}.{table}")
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
    create_contenders(con, entity, "repeated")
    con.execute(
        "CREATE OR REPLACE TEMP TABLE losers AS SELECT place FROM contenders "
        "ANTI JOIN (SELECT arg_max(place, standing) AS place FROM contenders GROUP BY key) USING (place)"
    )
    con.execute("DROP TABLE contenders")


def create_contenders(con: duckdb.DuckDBPyConnection, entity: str, hashes: str) -> None:
    """Create the temporary table `contenders` (place, key, standing): the greatest standing of a key wins.

    `hashes` names a table whose `key_hash` says which keys are compared (others may be among them).
    """
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
        SEMI JOIN {hashes} AS wanted ON wanted.key_hash = hash(item.key)
        JOIN readings AS reading ON reading.source = item.source AND reading.page_id = item.page_id
        """,
        {"entity": entity},
    )
