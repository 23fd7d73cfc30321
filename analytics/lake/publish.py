"""Publishing: the database people open, made from the lake in a fresh file and then renamed.

Nobody writes to a file that is read. The fresh file is a copy of the published one in which the quarters that the lake
has written again are replaced. Without a published file that is, byte for byte, what was written last, or where
anything else about it is in doubt, it is made from the whole lake. Source: spec architecture.md section 2.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
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

Parts = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Note:
    """What was published last: the file's digest, of which tables it is, and what of the lake they were made from.

    `size` is that of the file when it was last made from the whole lake, in bytes; `parts` are digests by table and
    quarter.
    """

    sha256: str
    size: int
    form: str
    parts: Parts


def publish(settings: Settings) -> None:
    """Write `analytics.duckdb`: every table of the lake that readers ask for."""
    present = {table.name: table_digests(settings, table.name) for table in TABLES.values() if table.published}
    note_path = settings.temp_dir / "published.json"
    with scratch(settings) as folder:
        target = folder / "analytics.duckdb"
        note = _read_note(note_path)
        with connect(settings) as con:
            size = None if note is None else _update(con, settings, target, note, present)
            if size is None:
                target.unlink(missing_ok=True)
                size = _make(con, settings, target)
        written = folder / "published.json"
        written.write_text(json.dumps(asdict(Note(_sha256(target), size, _form(), present))), encoding="utf-8")
        settings.published_path.parent.mkdir(parents=True, exist_ok=True)
        target.replace(settings.published_path)
        written.replace(note_path)


def _read_note(path: Path) -> Note | None:
    try:
        return Note(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, or one of another version
        return None


def _make(con: duckdb.DuckDBPyConnection, settings: Settings, target: Path) -> int:
    """Make a file from the whole lake; its size."""
    _attach(con, target)
    con.execute("BEGIN")
    for table in TABLES.values():
        if table.published:
            _create(con, settings, table)
    _finish(con)
    return target.stat().st_size


def _update(con: duckdb.DuckDBPyConnection, settings: Settings, target: Path, note: Note, present: Parts) -> int | None:
    """Make a copy of the published file what the lake is now; None where that cannot be relied upon."""
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
    _attach(con, target)
    con.execute("BEGIN")
    for table in TABLES.values():
        if table.published and not _bring_up(con, settings, table, note.parts[table.name], present[table.name]):
            con.execute("ROLLBACK")
            con.execute("DETACH published")
            return None
    _finish(con)
    return note.size


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


def _finish(con: duckdb.DuckDBPyConnection) -> None:
    """Say which values these are, and let the file be whole."""
    con.execute("INSERT INTO published.snapshot VALUES ('snapshot_id', ?)", [_snapshot_id(con)])
    con.execute("COMMIT")
    con.execute("CHECKPOINT published")
    con.execute("DETACH published")


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


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
