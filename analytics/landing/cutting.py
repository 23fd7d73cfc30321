"""A source cut into another number of shards: every row goes to the file of its repository, and nothing is asked again.

The new files are made beside the old ones and take their place at one stroke; a cut that is killed leaves the old ones.
Pages keep their order, so that what was landed later still wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from analytics import engine, progress
from analytics.errors import FileInUseError, LandingError
from analytics.landing import shards as layout
from analytics.landing.schema import check_version, create_tables, landing_columns
from analytics.landing.shards import Shard, landing_path, shard_number, shards_of, subject_of
from analytics.landing.store import work_folder
from analytics.landing.waiting import DEADLINE_SECONDS, wait_for_file
from analytics.settings import GitSource, Settings, Source

STAGE = "landing"
# By the column that names the request.
_TABLES = {"pages": "request_key", "items": "origin", "quarantine": "origin", "cursors": "request_key"}
# What `meta` notes of requests ([entity, key], …), and of keys.
_NOTED_REQUESTS = ("offered", "unfinished")


@contextmanager
def cut_as_wanted(settings: Settings, source: Source, deadline_seconds: float = DEADLINE_SECONDS) -> Iterator[None]:
    """Keep a source cut as the settings want it while the block lasts; cut it so first where it is not.

    Others may pull other shards meanwhile. Raises FileInUseError while a process pulls it that began with another
    number of shards.
    """
    wanted, name = shards_of(source), source.name
    while True:
        with layout.held(settings, name, alone=False, deadline_seconds=layout.CUT_DEADLINE_SECONDS):
            present = layout.present_count(settings, name)
            if present == wanted or (present is None and wanted == 1):
                yield
                return
        with layout.held(settings, name, alone=True, deadline_seconds=deadline_seconds):
            _cut(settings, source, deadline_seconds)


def remove_left_over(settings: Settings, source: Source) -> None:
    """Remove what a cut that was killed left; while somebody pulls, it is left to the next one."""
    if layout.left_over(settings, source.name):
        with suppress(FileInUseError), layout.held(settings, source.name, alone=True, deadline_seconds=0):
            _remove(layout.left_over(settings, source.name))


def _cut(settings: Settings, source: Source, deadline_seconds: float) -> None:
    name, wanted = source.name, shards_of(source)
    present = layout.present_count(settings, name)
    if present == wanted:
        return  # another process was faster
    if present is not None:
        old = [path for _, path in layout.present_paths(settings, name)]
        progress.report(STAGE, f"{name}: cutting what is landed into {wanted} shards (it was {present})")
        with work_folder(settings) as work:
            made = _made(settings, source, old, work, deadline_seconds)
            for shard, path in made:
                place = landing_path(settings, name, shard)
                # The log of a file that stood there before speaks of that one.
                _remove([place])
                path.replace(place)
    layout.note_count(settings, name, wanted)
    _remove(layout.left_over(settings, name))


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _made(
    settings: Settings, source: Source, old: Sequence[Path], work: Path, deadline_seconds: float
) -> list[tuple[Shard, Path]]:
    """The new files, whole and closed."""
    count = shards_of(source)
    made = [(Shard(number, count), work / f"{number}.duckdb") for number in range(1, count + 1)]
    # Before anything else is open: whatever DuckDB closes takes this process's spilled files with it.
    for _, path in made:
        with engine.connect(settings, path) as new:
            create_tables(new)
    with engine.connect(settings) as con, ExitStack() as stack:
        # Rows keep their order without being sorted.
        con.execute("SET preserve_insertion_order = true")
        attached: list[str] = []
        is_whole = True
        for number, path in enumerate(old):
            catalog = f"old_{number}"
            if path.exists() and _attached(con, path, catalog, deadline_seconds):
                attached.append(catalog)
            else:
                is_whole = False
        _find_homes(con, source, attached, count)
        for shard, path in made:
            literal = str(path).replace("'", "''")
            con.execute(f"ATTACH '{literal}' AS new_{shard.number}")
            con.begin()
            stack.callback(con.execute, f"DETACH new_{shard.number}")
            _fill(con, source, attached, shard, is_whole=is_whole)
            con.commit()
        for table in _TABLES:
            before = sum(_rows(con, f"{catalog}.{table}") for catalog in attached)
            after = sum(_rows(con, f"new_{shard.number}.{table}") for shard, _ in made)
            if before != after:
                raise LandingError(
                    f"could not be cut into {count} shards: {before:,} rows of {table} became {after:,}",
                    where=f"source {source.name}",
                    fix="The old files are as they were; set `shards` back, and report it.",
                )
    return made


def _attached(con: duckdb.DuckDBPyConnection, path: Path, catalog: str, deadline_seconds: float) -> bool:
    literal = str(path).replace("'", "''")
    # Reading keeps writers away until all of it is copied.
    wait_for_file(path, lambda: con.execute(f"ATTACH '{literal}' AS {catalog} (READ_ONLY)"), deadline_seconds)
    return check_version(con, path, catalog)


def _subject(source: Source, column: str) -> str:
    return column if isinstance(source, GitSource) else f"split_part({column}, '/', 1)"


def _find_homes(con: duckdb.DuckDBPyConnection, source: Source, attached: Sequence[str], count: int) -> None:
    """Create the table `homes` (subject, shard)."""
    con.execute("CREATE TABLE homes (subject VARCHAR, shard INTEGER)")
    subjects: set[str] = set()
    for catalog in attached:
        for table, column in _TABLES.items():
            found = con.execute(f"SELECT DISTINCT {_subject(source, column)} FROM {catalog}.{table}").fetchall()
            subjects |= {subject for (subject,) in found}
    ordered = sorted(subjects)
    if ordered:
        con.execute(
            "INSERT INTO homes SELECT unnest(?), unnest(?)",
            [ordered, [shard_number(subject, count) for subject in ordered]],
        )


def _fill(
    con: duckdb.DuckDBPyConnection, source: Source, attached: Sequence[str], shard: Shard, *, is_whole: bool
) -> None:
    new = f"new_{shard.number}"
    behind = 0
    for catalog in attached:
        for table, column in _TABLES.items():
            # Pages of one file stand behind those of the other, in their own order.
            columns = ", ".join(
                f"page_id + {behind} AS page_id" if name == "page_id" else name for name in landing_columns(table)
            )
            con.execute(
                f"INSERT INTO {new}.{table} SELECT {columns} FROM {catalog}.{table} AS old "
                f"SEMI JOIN (SELECT subject FROM homes WHERE shard = {shard.number}) AS home "
                f"ON home.subject = {_subject(source, f'old.{column}')}"
            )
        ((last,),) = con.execute(f"SELECT coalesce(max(page_id), 0) FROM {catalog}.pages").fetchall()
        behind += int(last)
    if attached:
        each = " UNION ALL ".join(f"SELECT * FROM {catalog}.collected" for catalog in attached)
        con.execute(
            f"INSERT INTO {new}.collected SELECT entity, min(first_seen_at), min(last_seen_at) "
            f"FROM ({each}) GROUP BY entity ORDER BY entity"
        )
    for key, value in _notes(con, source, attached, shard, is_whole=is_whole).items():
        con.execute(f"INSERT INTO {new}.meta VALUES (?, ?)", [key, json.dumps(value)])


def _notes(
    con: duckdb.DuckDBPyConnection, source: Source, attached: Sequence[str], shard: Shard, *, is_whole: bool
) -> dict[str, Any]:
    """What `meta` says of the requests of one shard; what a missing file would have said is left open."""
    requests: dict[str, list[Any]] = {}
    names: dict[str, str] = {}
    former: list[Any] = []

    def is_here(request_key: str) -> bool:
        return shard_number(subject_of(source, request_key), shard.count) == shard.number

    for catalog in attached:
        noted = dict(con.execute(f"SELECT key, value FROM {catalog}.meta").fetchall())
        is_whole = is_whole and set(_NOTED_REQUESTS) <= noted.keys()
        for key in _NOTED_REQUESTS:
            requests.setdefault(key, []).extend(one for one in json.loads(noted.get(key, "[]")) if is_here(one[1]))
        names |= {key: name for key, name in json.loads(noted.get("names", "{}")).items() if is_here(key)}
        former += [entry for entry in json.loads(noted.get("former_names", "[]")) if is_here(entry[0])]
    found: dict[str, Any] = {**(requests if is_whole else {})}
    if names:
        found |= {"names": names, "former_names": sorted(former)}
    return found


def _rows(con: duckdb.DuckDBPyConnection, table: str) -> int:
    ((rows,),) = con.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(rows)
