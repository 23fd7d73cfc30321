"""Reading and writing lake tables: Parquet files by quarter, in a folder or an object store (`analytics.lake.places`).

A file appears whole and is then never changed; writing a table again replaces its files and removes the ones it no
longer has. One writer per table, or per quarter of one; readers need no lock. Source: spec architecture.md section 2.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, timedelta
from pathlib import Path

import duckdb

from analytics.lake.places import lake_of
from analytics.lake.port import LakeFile
from analytics.lake.schemas import TABLES, Table
from analytics.settings import Settings

UNDATED = "undated"
STALE_SECONDS = 86_400
_ASKED_AT_ONCE = 8
# Longer ago than most records come late, and short enough for a small file.
_SETTLED_AFTER = timedelta(days=14)
# Higher levels take a quarter more time, and the files are no smaller for it: most bytes are names made of digits.
_FORMAT = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"


@contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """Give a private folder on the storage's file system, removed in any case."""
    folder = settings.temp_dir / f"write-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    for left in [*settings.temp_dir.glob("write-*"), *settings.temp_dir.glob("spill-*")]:
        # A killed stage cannot tidy up; nothing that still runs leaves its folder untouched for a day.
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_table(con: duckdb.DuckDBPyConnection, settings: Settings, name: str, query: str) -> int:
    """Write a query's rows as a table and return how many there are.

    The query gives the table's columns by name (missing ones become NULL); dated tables are split by the quarter of
    their date, for which the connection needs a `calendar` table; rows without one, or far outside it, go to `undated`.
    A table whose rows name their quarter is split by that.
    """
    with scratch(settings) as folder:
        count = _copy(con, settings, TABLES[name], query, folder)
        lake_of(settings).replace(name, folder)
    return count


def write_partitions(
    con: duckdb.DuckDBPyConnection, settings: Settings, name: str, query: str, partitions: Collection[str]
) -> int:
    """Replace some quarters of a table (`2026-Q1`, `undated`) by a query's rows and return how many there are.

    The query gives every row of these quarters, as for `write_table`; a quarter without rows is removed, and all other
    quarters stay. Raises ValueError for a row of another quarter, and then nothing is changed.
    """
    with scratch(settings) as folder:
        count = _copy(con, settings, TABLES[name], query, folder)
        found = {built.name.split("=", 1)[1] for built in folder.iterdir()}
        if not found <= set(partitions):
            raise ValueError(f"{name}: rows of {sorted(found - set(partitions))} are not of {sorted(partitions)}")
        lake_of(settings).replace(name, folder, partitions)
    return count


def exchange_files(
    con: duckdb.DuckDBPyConnection, settings: Settings, name: str, query: str, gone: Collection[LakeFile]
) -> None:
    """Put a query's rows in the place of some of a table's files; all other files stay, also of the same quarters.

    The query gives the rows of these files that stay and those that come, with every column of the table.
    """
    with scratch(settings) as folder:
        _copy(con, settings, TABLES[name], query, folder, given=TABLES[name].columns)
        lake_of(settings).exchange(name, folder, gone)


def _copy(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    table: Table,
    query: str,
    folder: Path,
    given: Collection[str] | None = None,
) -> int:
    """Write a query's rows below an empty folder, one folder per quarter; who knows their columns says what is `given`.

    The last days before the cut-off have a file of their own: nearly all that a day's records change is there, and
    what an update does not touch it need not write again.
    """
    if given is None:
        given = {str(row[0]) for row in con.execute(f"DESCRIBE {query}").fetchall()}
    rows = f"SELECT {_projection(table, given)} FROM ({query}) AS written"
    if table.dated_by is None and table.quarter_in is None:
        return _copy_undated(con, table, rows, folder)
    parts = "quarter_partition"
    if table.dated_by:
        day = f"CAST(dated.{_quoted(table.dated_by)} AS DATE)"
        settled = (settings.now().astimezone(UTC) - _SETTLED_AFTER).date()
        rows = (
            f"SELECT dated.*, coalesce(calendar.quarter, '{UNDATED}') AS quarter_partition, "
            f"coalesce({day} > DATE '{settled}', false) AS recent_partition FROM ({rows}) AS dated "
            f"LEFT JOIN calendar ON calendar.day = {day}"
        )
        parts = "quarter_partition, recent_partition"
    else:
        assert table.quarter_in is not None
        rows = f"SELECT *, coalesce({_quoted(table.quarter_in)}, '{UNDATED}') AS quarter_partition FROM ({rows})"
    # Sorted row groups let a reader of one service or repository skip the rest of a file.
    order = f" ORDER BY {parts}, {', '.join(table.sorted_by)}" if table.sorted_by else ""
    copied = con.execute(
        f"COPY ({rows}{order}) TO '{_literal(folder)}' ({_FORMAT}, PARTITION_BY ({parts}), OVERWRITE_OR_IGNORE)"
    ).fetchone()
    for number, file in enumerate(sorted(folder.glob("*/*/*.parquet"))):
        file.replace(file.parents[1] / f"{number:04d}.parquet")
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
    return int(copied[0]) if copied else 0


def _copy_undated(con: duckdb.DuckDBPyConnection, table: Table, rows: str, folder: Path) -> int:
    """Write rows of no quarter as one file, which takes half of what it takes to tell partitions apart."""
    partition = folder / f"quarter_partition={UNDATED}"
    partition.mkdir()
    order = f" ORDER BY {', '.join(table.sorted_by)}" if table.sorted_by else ""
    file = partition / "0000.parquet"
    ((count,),) = con.execute(f"COPY ({rows}{order}) TO '{_literal(file)}' ({_FORMAT})").fetchall()
    if not count:
        shutil.rmtree(partition)
    return int(count)


def lake_place(settings: Settings, name: str = "") -> str:
    """The folder or URL of a table, or of the whole lake."""
    return lake_of(settings).place(name)


def quarters_of(settings: Settings, name: str) -> list[str]:
    """The quarters that a table has rows of, as `2026-Q1` or `undated`; raises LakeError as `lake_relation` does."""
    return lake_of(settings).quarters(name)


def table_digests(settings: Settings, name: str) -> dict[str, str]:
    """A digest of each quarter of a table: where it is the same, so are the rows; other bytes may be the same rows."""
    found = lake_of(settings).digests(name)
    return {quarter: " ".join(digest for _, digest in files) for quarter, files in found.items()}


def added_files(settings: Settings, name: str, before: Mapping[str, str]) -> dict[str, list[LakeFile]]:
    """By quarter, of those given with their digest of then: the files that it has more now, if it lost none since."""
    lake = lake_of(settings)
    now = lake.digests(name)
    paths: dict[str, str] = {}
    found: dict[str, list[LakeFile]] = {}
    for quarter, digest in before.items():
        known = Counter(digest.split())
        came = []
        for path, of_file in now.get(quarter, ()):
            if known[of_file]:
                known[of_file] -= 1
            else:
                came.append(path)
        if not known.total():
            found[quarter] = []
            paths |= dict.fromkeys(came, quarter)
    for file in lake.files(name) if paths else ():
        if file.path in paths:
            found[paths[file.path]].append(file)
    return found


def place_table(settings: Settings, name: str, built: Path, partitions: Collection[str] | None = None) -> None:
    """Make files that somebody wrote the rows of a table, or of the named quarters of it.

    `built`, a folder of `scratch`, holds a folder `…=QUARTER` per partition, whose files have the same columns.
    """
    lake_of(settings).replace(name, built, partitions)


def clear_table(settings: Settings, name: str) -> None:
    """Leave a table without rows."""
    if not quarters_of(settings, name):
        return
    with scratch(settings) as folder:
        lake_of(settings).replace(name, folder)


def lake_relation(settings: Settings, name: str, partitions: Collection[str] | None = None) -> str:
    """SQL that reads a table, or some quarters of it; an empty relation with its columns where nothing was written.

    A column that an earlier version did not write is NULL. Raises LakeError for a file that is damaged. A lake in an
    object store is read by a connection of `analytics.engine`.
    """
    lake = lake_of(settings)
    files = lake.files(name)
    if partitions is not None:
        return files_relation(name, [file for file in files if file.quarter in partitions])
    return files_relation(name, files, lake.read_list(name, files) if files else None)


def files_relation(name: str, files: Sequence[LakeFile], listed: str | None = None, *, numbered: bool = False) -> str:
    """SQL that reads some files of a table, as `lake_relation` does.

    `listed` is what `read_parquet` is given, if it is not the files one by one. With `numbered` each row has the
    `number` of its file, from 0 in the order of `files`.
    """
    table = TABLES[name]
    number = ["CAST(file_index AS BIGINT) AS number"] if numbered else []
    if not files:
        number = ["CAST(NULL AS BIGINT) AS number"] if numbered else []
        nothing = (f"CAST(NULL AS {kind}) AS {_quoted(column)}" for column, kind in table.columns.items())
        return f"(SELECT {', '.join([*nothing, *number])} WHERE false)"
    # Of different versions where a write was killed between them.
    written = frozenset().union(*(file.columns for file in files))
    columns = (
        _quoted(column) if column in written else f"CAST(NULL AS {kind}) AS {_quoted(column)}"
        for column, kind in table.columns.items()
    )
    by_name = "" if all(set(table.columns) <= file.columns for file in files) else ", union_by_name = true"
    listed = listed or "[" + ", ".join("'" + file.path.replace("'", "''") + "'" for file in files) + "]"
    read = f"read_parquet({listed}, hive_partitioning = false{by_name})"
    return f"(SELECT {', '.join([*columns, *number])} FROM {read})"


def create_views(con: duckdb.DuckDBPyConnection, settings: Settings, *names: str, shared: bool = False) -> None:
    """Make lake tables readable by their names on a connection; `shared`: on every connection to its database."""
    name_relations(con, lake_relations(settings, names), shared=shared)


def lake_relations(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    """SQL that reads each of some tables, as `lake_relation` does; no connection is needed yet."""
    if settings.lake_url is None:
        return {name: lake_relation(settings, name) for name in names}
    # Each waits for an answer or two.
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        return dict(zip(names, threads.map(lambda name: lake_relation(settings, name), names), strict=True))


def name_relations(con: duckdb.DuckDBPyConnection, relations: Mapping[str, str], *, shared: bool = False) -> None:
    """Make what `lake_relations` gave readable by the names."""
    for name, relation in relations.items():
        con.execute(f"CREATE OR REPLACE {'' if shared else 'TEMP '}VIEW {_quoted(name)} AS SELECT * FROM {relation}")


def _projection(table: Table, given: Collection[str]) -> str:
    return ", ".join(
        f"CAST({_quoted(column) if column in given else 'NULL'} AS {kind}) AS {_quoted(column)}"
        for column, kind in table.columns.items()
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")
