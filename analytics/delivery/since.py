"""What has changed since the last completed build, and whether that is all that can have changed.

A build notes in the lake how far it read every landing file, and under what: code, settings, catalog, overrides, names,
cut-off. The next one may then update what new items touch. Anything else (another version or setting, a landing file
that is not as it was, a build that did not end) lets everything be made anew: an update must never show.
Source: spec architecture.md section 4, metrics.md section 1 (a late or corrected event).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import duckdb

from analytics.catalog import Catalog
from analytics.delivery.summary import STAGE
from analytics.lake.schemas import TABLES
from analytics.lake.tables import UNDATED, clear_table, lake_relation, quarters_of, write_table
from analytics.lake.typed import typed_query
from analytics.lake.updating import count_tables
from analytics.lake.version import LAKE_VERSION, note_begun
from analytics.landing.growth import Reach, create_changed_winners, read_reach
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES

NOTE = "build_note"
# What the settings say of other stages, or what is compared in another way.
_ELSEWHERE = {
    *("fixed_now", "stored", "catalog", "sources", "engine", "targets", "reports", "schedules", "alerts", "retention")
}
# With more new items than this share of all, and than this number, making everything anew is as fast.
MOST_NEW = 0.25
MANY = 100_000


@dataclass(frozen=True)
class Since:
    """An update: what a completed build knew at its cut-off (naive UTC) is known again, but for `entities`.

    For each of these, the tables `ENTITY_before` and `ENTITY_now` hold the typed rows that left and came.
    """

    cut_off: datetime
    now: datetime
    entities: frozenset[str]
    # Whether verified provenance told of artifacts.
    proven: bool = False

    def passed(self, *columns: str) -> str:
        """A condition: one of some times lies between the two cut-offs, so that it has only now come to pass.

        It may be NULL where it is not true. With its constants a reader skips the quarters that lie elsewhere.
        """
        earlier, later = (f"CAST('{at.isoformat(sep=' ')}' AS TIMESTAMP)" for at in (self.cut_off, self.now))
        return "(" + " OR ".join(f"{column} > {earlier} AND {column} <= {later}" for column in columns) + ")"


@dataclass
class Note:
    """What a build under way will note when it is complete; `whole` says why it makes everything anew, if it does."""

    terms: dict[str, str]
    cut_off: datetime
    reach: dict[int, Reach] = field(default_factory=dict)
    new_items: int = 0
    whole: str | None = None
    proven: bool = False

    def write(self, con: duckdb.DuckDBPyConnection, settings: Settings, rows: Mapping[str, int]) -> None:
        """Note that the build is complete, with the rows of each table."""
        noted = [("terms", name, value) for name, value in self.terms.items()]
        noted += [("cut_off", "", self.cut_off.isoformat()), ("proven", "", str(self.proven))]
        noted += [("landed", str(number), json.dumps(asdict(reach))) for number, reach in self.reach.items()]
        noted += [("rows", table, str(count)) for table, count in rows.items() if table != NOTE]
        columns = [list(column) for column in zip(*noted, strict=True)]
        con.execute("CREATE OR REPLACE TEMP TABLE noted (kind VARCHAR, name VARCHAR, value VARCHAR)")
        con.execute("INSERT INTO noted SELECT unnest(?), unnest(?), unnest(?)", columns)
        write_table(con, settings, NOTE, "SELECT * FROM noted")


def begin(
    con: duckdb.DuckDBPyConnection, settings: Settings, catalog: Catalog, now: datetime, *, full: bool
) -> tuple[Note, Since | None]:
    """Compare with the last completed build: what to note at the end, and the update, None where all is made anew.

    Needs a connection of `open_landing` with `calendar` and `params`. From here on the lake counts as half built.
    """
    note = Note(_terms(con, settings, catalog), now)
    found: dict[tuple[str, str], str] = {
        (kind, name): value
        for kind, name, value in con.execute(
            f"SELECT kind, name, value FROM {lake_relation(settings, NOTE)}"
        ).fetchall()
    }
    before = {int(n): Reach(**json.loads(value)) for (kind, n), value in found.items() if kind == "landed"}
    note.reach, as_noted = read_reach(con, {} if full else before)
    note.new_items = sum(reach.items for reach in note.reach.values()) - sum(reach.items for reach in before.values())
    note.whole = "asked for" if full else _why_whole(con, settings, note, found, as_noted)
    since = None
    if note.whole is None:
        proven = found["proven", ""] == "True"
        since = _read_changes(con, settings, datetime.fromisoformat(found["cut_off", ""]), now, proven)
        if since is None:
            note.whole = "new items cannot be told from those before"
    note_begun(settings, STAGE)
    clear_table(settings, NOTE)
    return note, since


def _why_whole(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    note: Note,
    found: Mapping[tuple[str, str], str],
    as_noted: bool,
) -> str | None:
    if ("cut_off", "") not in found:
        return "no build has been completed before"
    for name, value in note.terms.items():
        if found.get(("terms", name)) != value:
            return f"{name} not as before"
    if datetime.fromisoformat(found["cut_off", ""]) > note.cut_off:
        return "the cut-off is earlier than before"
    if not as_noted:
        return "landed items are not as they were"
    if note.new_items > MANY and note.new_items > MOST_NEW * sum(reach.items for reach in note.reach.values()):
        return "most items are new"
    noted = {table: int(rows) for (kind, table), rows in found.items() if kind == "rows"}
    present = count_tables(con, settings, [table for table in noted if table in TABLES])
    for table, rows in noted.items():
        if present.get(table) != rows:
            return f"the table {table} is not as it was"
    for kind, name in found:
        dated_by = TABLES[name].dated_by if kind == "rows" else None
        if dated_by and UNDATED in quarters_of(settings, name):
            # The calendar has grown, and rows that lay behind it belong to a quarter now.
            undated = lake_relation(settings, name, {UNDATED})
            if con.execute(
                f'SELECT 1 FROM {undated} AS r JOIN calendar ON calendar.day = CAST(r."{dated_by}" AS DATE) LIMIT 1'
            ).fetchall():
                return f"rows of {name} have come into the calendar"
    return None


def _read_changes(
    con: duckdb.DuckDBPyConnection, settings: Settings, cut_off: datetime, now: datetime, proven: bool
) -> Since | None:
    entities = {row[0] for row in con.execute("SELECT DISTINCT entity FROM fresh_items").fetchall()}
    for name in sorted(entities):
        if not create_changed_winners(con, name):
            return None
        con.execute(f"CREATE OR REPLACE TABLE {name}_now AS {typed_query(ENTITIES[name], 'winners_now')}")
        # Mostly nothing leaves, and then nothing is read.
        gone = con.execute("SELECT 1 FROM winners_before LIMIT 1").fetchall()
        held = lake_relation(settings, name, None if gone else ())
        con.execute(
            f"CREATE OR REPLACE TABLE {name}_before AS "
            f"SELECT * FROM {held} SEMI JOIN winners_before USING (source, origin, line)"
        )
        others = con.execute(f"SELECT (SELECT count(*) FROM {name}_before) - (SELECT count(*) FROM winners_before)")
        if others.fetchall() != [(0,)]:
            return None
    return Since(cut_off, now, frozenset(entities), proven)


def _terms(con: duckdb.DuckDBPyConnection, settings: Settings, catalog: Catalog) -> dict[str, str]:
    """What a result depends on beside the landed items and the cut-off, in fingerprints."""
    overrides = settings.incidents.overrides
    names = con.execute("SELECT source, request_key, former, present FROM former_names ORDER BY ALL").fetchall()
    return {
        "lake": str(LAKE_VERSION),
        "code": code_fingerprint(),
        "engines": f"{sys.version} {duckdb.__version__}",
        "settings": _digest(settings.model_dump_json(exclude=_ELSEWHERE)),
        "sources": _digest(json.dumps([source.name for source in settings.sources])),
        "catalog": _digest("\n".join(service.model_dump_json() for service in catalog.services)),
        "overrides": _digest(overrides.read_text(encoding="utf-8")) if overrides else "none",
        "names": _digest(json.dumps(names)),
    }


@cache
def code_fingerprint() -> str:
    """A digest of the code that facts are made by: a version alone does not tell a corrected one."""
    digest = hashlib.sha256()
    for path, text in sorted(_texts(resources.files("analytics"), "")):
        digest.update(f"{path}\n{len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


def _texts(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _texts(entry, f"{path}{entry.name}/")
        elif entry.name.endswith((".py", ".sql")):
            found.append((f"{path}{entry.name}", entry.read_bytes()))
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
