"""Publishing: the database people open, made from the lake in a fresh file and then renamed.

Nobody writes to a file that is read. The fresh file is a copy of the published one to which the rows of files that came
to the lake are added; where a quarter's files were written again, the rows that differ are replaced. Without a
published file that is, byte for byte, what was written last, or where anything else about it is in doubt, it is made
from the whole lake. Source: spec architecture.md section 2.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from analytics.engine import connect
from analytics.lake.schemas import TABLES, Table
from analytics.lake.tables import UNDATED, added_files, files_relation, lake_relation, scratch, table_digests
from analytics.settings import Settings

# Readable by DuckDB 1.2 and newer, not only by the version that wrote it.
STORAGE_VERSION = "v1.2.0"
# Of a row `one`, and of rows in any order.
_LINE = "sha256(CAST(to_json(one) AS VARCHAR))"
_DIGEST = "sha256(coalesce(string_agg(line, '' ORDER BY line), ''))"
# Replaced rows leave room behind in a copy: one that has grown so many times is made anew.
MOST_TIMES_AS_LARGE = 1.5

Parts = dict[str, dict[str, str]]
# The size of a file that was made whole, and the digests of its values.
Made = tuple[int, dict[str, str]]


@dataclass(frozen=True)
class Note:
    """What was published last: the file's digest, of which tables it is, and what of the lake they were made from.

    `size` is that of the file when it was last made from the whole lake, in bytes; `parts` are digests by table and
    quarter, `values` those of the rows of `metric_values` by quarter.
    """

    sha256: str
    size: int
    form: str
    parts: Parts
    values: dict[str, str]


def publish(settings: Settings) -> None:
    """Write `analytics.duckdb`: every table of the lake that readers ask for."""
    with connect(settings) as con, publishing(con, settings, ()) as finish:
        finish()


@contextmanager
def publishing(
    con: duckdb.DuckDBPyConnection, settings: Settings, changing: Collection[str]
) -> Iterator[Callable[[], None]]:
    """Bring up the published file beside what the block does, in a session of its own of the same database in memory.

    `changing` are the tables that the block may write; all others must stay as they are while it lasts. To be called
    when they are written is what is given: it brings up these tables too, and lets the file be seen. Without that call,
    or where the block fails, nothing is.
    """
    note_path = settings.temp_dir / "published.json"
    with scratch(settings) as folder, closing(con.cursor()) as own, ThreadPoolExecutor(1) as beside:
        own.execute("SET TimeZone = 'UTC'")
        target = folder / "analytics.duckdb"
        begun = beside.submit(_begin, own, settings, target, _read_note(note_path), changing)

        def finish() -> None:
            update = begun.result()
            present = _digests(settings, changing) | ({} if update is None else update.present)
            made = None if update is None else _end(own, settings, update, present, changing)
            if made is None:
                target.unlink(missing_ok=True)
                present |= _digests(settings, present.keys() ^ _published())
                made = _make(own, settings, target)
            size, values = made
            written = folder / "published.json"
            note = Note(_sha256(target), size, _form(), present, values)
            written.write_text(json.dumps(asdict(note)), encoding="utf-8")
            settings.published_path.parent.mkdir(parents=True, exist_ok=True)
            target.replace(settings.published_path)
            written.replace(note_path)

        try:
            yield finish
        finally:
            if not begun.done():
                own.interrupt()
            wait([begun])
            _abandon(own)


def _read_note(path: Path) -> Note | None:
    try:
        return Note(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or one of another version
        return None


def _make(con: duckdb.DuckDBPyConnection, settings: Settings, target: Path) -> Made:
    """Make a file from the whole lake."""
    _attach(con, target)
    con.execute("BEGIN")
    for table in TABLES.values():
        if table.published:
            _create(con, settings, table)
    values = _finish(con, {})
    return target.stat().st_size, values


@dataclass(frozen=True)
class _Update:
    """A copy of the published file in which some tables are what they are in the lake, not yet committed."""

    note: Note
    present: Parts


def _begin(
    con: duckdb.DuckDBPyConnection, settings: Settings, target: Path, note: Note | None, changing: Collection[str]
) -> _Update | None:
    """Make a copy of the published file what the lake is, but for some tables; None where it cannot be relied upon."""
    if note is None:
        return None
    try:
        shutil.copyfile(settings.published_path, target)
    except FileNotFoundError:
        return None
    if (
        note.form != _form()
        or target.stat().st_size > MOST_TIMES_AS_LARGE * note.size
        or _sha256(target) != note.sha256  # damaged, or written by somebody else
    ):
        return None
    present = _digests(settings, _published() - {*changing})
    _attach(con, target)
    con.execute("BEGIN")
    if _are_brought_up(con, settings, note, present):
        return _Update(note, present)
    _abandon(con)
    return None


def _end(
    con: duckdb.DuckDBPyConnection, settings: Settings, update: _Update, present: Parts, changing: Collection[str]
) -> Made | None:
    """Bring up the other tables too and let the copy be whole; None where it cannot be relied upon."""
    note = update.note
    if not _are_brought_up(con, settings, note, {name: present[name] for name in changing}):
        _abandon(con)
        return None
    old, new = note.parts["metric_values"], present["metric_values"]
    unchanged = {quarter for quarter in new if old.get(quarter) == new[quarter]}
    values = _finish(con, {quarter: digest for quarter, digest in note.values.items() if quarter in unchanged})
    return note.size, values


def _are_brought_up(con: duckdb.DuckDBPyConnection, settings: Settings, note: Note, present: Parts) -> bool:
    return all(_bring_up(con, settings, TABLES[name], note.parts[name], parts) for name, parts in present.items())


def _abandon(con: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.TransactionException):  # where none is open
        con.execute("ROLLBACK")
    con.execute("DETACH DATABASE IF EXISTS published")


def _published() -> set[str]:
    return {table.name for table in TABLES.values() if table.published}


def _digests(settings: Settings, names: Collection[str]) -> Parts:
    return {name: table_digests(settings, name) for name in TABLES if name in names}


def _bring_up(
    con: duckdb.DuckDBPyConnection, settings: Settings, table: Table, old: dict[str, str], new: dict[str, str]
) -> bool:
    """Replace what the lake has written again; whether the table has as many rows as in the lake then."""
    changed = {quarter for quarter in {*old, *new} if old.get(quarter) != new.get(quarter)}
    if table.name == "snapshot":  # it says which values it stands beside
        _create(con, settings, table)
        return True
    if not changed:
        return True
    added = added_files(settings, table.name, {quarter: old.get(quarter, "") for quarter in changed})
    others = changed - added.keys()
    is_parted = table.dated_by is not None or table.quarter_in is not None
    if others and (not is_parted or UNDATED in others or len(others) > len(new) / 2):
        _create(con, settings, table)
        return True
    if came := [file for files in added.values() for file in files]:
        con.execute(f'INSERT INTO published."{table.name}" SELECT * FROM {files_relation(table.name, came)}')
    for quarter, of_quarter in (_rows_of(con, settings, table, others) if others else {}).items():
        _exchange(con, table, lake_relation(settings, table.name, {quarter}), of_quarter)
    counts = con.execute(
        f'SELECT (SELECT count(*) FROM published."{table.name}"), '
        f"(SELECT count(*) FROM {lake_relation(settings, table.name)})"
    ).fetchone()
    return counts is not None and counts[0] == counts[1]


def _exchange(con: duckdb.DuckDBPyConnection, table: Table, written: str, of_quarter: str) -> None:
    """Make a quarter's rows those that the lake has written; a row that is in both stays where it is.

    Most of a quarter in progress is as it was the day before, and rows that stay cost no room and no compression.
    """
    columns = ", ".join(f'"{column}"' for column in table.columns)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE coming AS SELECT {columns}, hash({columns}) AS row_hash "
        f"FROM {written} WHERE {of_quarter}"
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE held AS SELECT rowid AS row_id, hash({columns}) AS row_hash "
        f'FROM published."{table.name}" WHERE {of_quarter}'
    )
    # The same row may be there several times.
    con.execute(
        "CREATE OR REPLACE TEMP TABLE differing AS SELECT coalesce(c.row_hash, h.row_hash) AS row_hash "
        "FROM (SELECT row_hash, count(*) AS rows FROM coming GROUP BY row_hash) AS c "
        "FULL JOIN (SELECT row_hash, count(*) AS rows FROM held GROUP BY row_hash) AS h ON h.row_hash = c.row_hash "
        "WHERE c.rows IS DISTINCT FROM h.rows"
    )
    con.execute(
        f'DELETE FROM published."{table.name}" WHERE rowid IN (SELECT row_id FROM held SEMI JOIN differing '
        "USING (row_hash))"
    )
    con.execute(
        f'INSERT INTO published."{table.name}" SELECT {columns} FROM coming SEMI JOIN differing USING (row_hash)'
    )


def _rows_of(con: duckdb.DuckDBPyConnection, settings: Settings, table: Table, quarters: set[str]) -> dict[str, str]:
    """By quarter: SQL that is true for its rows of a table."""
    if table.quarter_in is not None:
        return {quarter: f"\"{table.quarter_in}\" = '{quarter}'" for quarter in sorted(quarters)}
    spans = con.execute(
        f"SELECT quarter, min(day), max(day) + 1 FROM {lake_relation(settings, 'calendar')} "
        "WHERE list_contains(?, quarter) GROUP BY quarter",
        [sorted(quarters)],
    ).fetchall()
    date = table.dated_by
    return {
        quarter: f"\"{date}\" >= CAST('{first}' AS DATE) AND \"{date}\" < CAST('{after}' AS DATE)"
        for quarter, first, after in spans
    }


def _attach(con: duckdb.DuckDBPyConnection, target: Path) -> None:
    literal = str(target).replace("'", "''")
    con.execute(f"ATTACH '{literal}' AS published (STORAGE_VERSION '{STORAGE_VERSION}')")


def _create(con: duckdb.DuckDBPyConnection, settings: Settings, table: Table) -> None:
    con.execute(
        f'CREATE OR REPLACE TABLE published."{table.name}" AS SELECT * FROM {lake_relation(settings, table.name)}'
    )
    words = table.description.replace("'", "''")
    con.execute(f"COMMENT ON TABLE published.\"{table.name}\" IS '{words}'")


def _finish(con: duckdb.DuckDBPyConnection, known: dict[str, str]) -> dict[str, str]:
    """Say which values these are, and let the file be whole; gives the digests of the values by quarter."""
    values = _value_digests(con, known)
    con.execute("INSERT INTO published.snapshot VALUES ('snapshot_id', ?)", [_snapshot_id(con, values)])
    con.execute("COMMIT")
    con.execute("CHECKPOINT published")
    con.execute("DETACH published")
    return values


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _form() -> str:
    """A digest of what tables a published file has, and of who writes it."""
    tables = [
        (table.name, table.columns, table.dated_by, table.description, table.published) for table in TABLES.values()
    ]
    return hashlib.sha256(json.dumps([STORAGE_VERSION, duckdb.__version__, tables]).encode()).hexdigest()


def _value_digests(con: duckdb.DuckDBPyConnection, known: dict[str, str]) -> dict[str, str]:
    """A digest of the values of each quarter; what is known of a quarter that has not changed is not made again."""
    quarter = f"coalesce(quarter, '{UNDATED}')"
    made = con.execute(
        f"SELECT quarter, {_DIGEST} FROM (SELECT {quarter} AS quarter, {_LINE} AS line "
        f"FROM published.metric_values AS one WHERE NOT list_contains(?, {quarter})) GROUP BY quarter",
        [sorted(known)],
    ).fetchall()
    return known | dict(made)


def _snapshot_id(con: duckdb.DuckDBPyConnection, values: dict[str, str]) -> str:
    """A digest of every value and of what it was measured from, equal for equal content."""
    digest = hashlib.sha256(json.dumps(sorted(values.items())).encode())
    for rows in (
        "SELECT key, value FROM published.snapshot WHERE key NOT IN ('cut_off', 'snapshot_id')",
        "SELECT source, entity, items, quarantined FROM published.collection",
    ):
        ((found,),) = con.execute(f"SELECT {_DIGEST} FROM (SELECT {_LINE} AS line FROM ({rows}) AS one)").fetchall()
        digest.update(found.encode())
    return digest.hexdigest()
