"""Which values of the measuring before still hold, so that a day's new facts make only what they can change.

A measuring notes what it was made from: a digest of every quarter of every table that it read, and of everything else
that a value depends on. A value is carried over only where nothing differs that could reach it; whatever is doubtful is
measured again, so that the values are those of a measuring of everything (a test holds them together).

A change of `OWN_DAY` tables reaches the values of its own quarter, because a row of theirs is counted on its own day,
or on one of its `OWN_DAYS`, or in the quarter that it is about (`OWN_QUARTER`); a change of any other table of a query
reaches all quarters. A quarter is compared with the one before, so a change reaches the next one too. Quarters that are
not over at either cut-off are always measured again, and so are those with rows that last until the cut-off and are not
yet longer than everything they are held against (`LASTING`), by the metrics that ask for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

import duckdb
import polars as pl

from analytics.lake.frames import polars_frame
from analytics.lake.schemas import TABLES
from analytics.lake.tables import UNDATED, clear_table, table_digests, write_table
from analytics.metrics.coverage import Snapshot
from analytics.metrics.metric import Metric
from analytics.metrics.readings import READ_QUARTERS
from analytics.periods import Calendar, Quarter
from analytics.settings import Settings

NOTE = "measured_from"
# In every query that reads one of these, the day of an observation is the day that dates the row.
OWN_DAY = frozenset(
    {
        "budget_impacts",
        "change_lead",
        "deployment_attempts",
        "gate_outcomes",
        "job_times",
        "manual_interventions",
        "run_attempts",
        "runner_windows",
        "service_deployments",
        "survey_answers",
    }
)
# The same of tables whose rows are counted on one of several days.
OWN_DAYS = {"service_incidents": ("opened_day", "day")}
# Each row tells of a quarter, and in every query what is made of it is counted in that quarter.
OWN_QUARTER = frozenset({"quarters"})


class Lasting(NamedTuple):
    """What says of a row that it lasts until the cut-off and since when, and how long the others took."""

    column: str
    since: str
    ended_us: str


# What is made of such a row and of the cut-off (the table `params`) moves with it though nothing has happened: until it
# has lasted longer than any other took. From then on it is longer than whatever a median or a test counts.
LASTING = {"service_deployments": Lasting("recovery_open", "coalesce(finished_at, created_at)", "recovery_us")}
_COUNTS_SHORTER = "recovery_median"
_PARAMS = re.compile(r"\bparams\b")
# Told in full by the snapshot that a measuring begins with.
_IN_SNAPSHOT = frozenset({"services"})
_CODE = (".py", ".sql")


@dataclass(frozen=True)
class Basis:
    """What values are made from: digests of the tables by quarter, of everything else, and the quarters themselves.

    `facts` of tables whose rows reach quarters of their own are digests of rows, in whatever order and file. Of a table
    with `LASTING` rows there are also those of `TABLE.COLUMN`: the cut-off in a quarter in which it counts. `files` are
    digests of the tables' bytes: the same bytes need no second look. `spans` are when the youngest lasting row of a
    quarter began and how long the longest other one took, in microseconds, -1 where there is none.
    """

    cut_off: str
    rules: Mapping[str, str]
    facts: Mapping[tuple[str, str], str]
    quarters: tuple[str, ...]
    files: Mapping[tuple[str, str], str] = field(default_factory=dict)
    spans: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """As rows of the table `measured_from`: kind, name, quarter, fingerprint."""
        return [
            ("cut_off", "", "", self.cut_off),
            *(("rule", name, "", digest) for name, digest in self.rules.items()),
            *(("facts", name, quarter, digest) for (name, quarter), digest in self.facts.items()),
            *(("files", name, quarter, digest) for (name, quarter), digest in self.files.items()),
            *(("span", name, quarter, json.dumps(span)) for (name, quarter), span in self.spans.items()),
            *(("quarter", "", quarter, "") for quarter in self.quarters),
        ]

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[str, str, str, str]]) -> Basis | None:
        """What such rows say; None where nothing was noted."""
        noted = list(rows)
        cut_offs = [digest for kind, _, _, digest in noted if kind == "cut_off"]
        if len(cut_offs) != 1:
            return None
        return cls(
            cut_offs[0],
            {name: digest for kind, name, _, digest in noted if kind == "rule"},
            {(name, quarter): digest for kind, name, quarter, digest in noted if kind == "facts"},
            tuple(sorted(quarter for kind, _, quarter, _ in noted if kind == "quarter")),
            {(name, quarter): digest for kind, name, quarter, digest in noted if kind == "files"},
            {(name, quarter): _span(digest) for kind, name, quarter, digest in noted if kind == "span"},
        )


def present_basis(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    snapshot: Snapshot,
    metrics: Sequence[Metric],
    quarters: Sequence[Quarter],
    old: Basis | None,
) -> Basis:
    """What a measuring of these quarters would be made from now; needs the views that `open_facts` makes."""
    tables = {table for metric in metrics for table in metric.tables} | {"service_deployments"}
    rules = {
        "code": _code(),
        "engine": settings.engine.type,
        "metrics": _digest([repr(metric) for metric in metrics]),
        "catalog": _digest(con.execute("SELECT * FROM services ORDER BY ALL").fetchall()),
        "members": _digest(con.execute("SELECT * FROM scope_members ORDER BY ALL").fetchall()),
        "snapshot": _digest(
            con.execute("SELECT key, value FROM snapshot WHERE key <> 'cut_off' ORDER BY ALL").fetchall()
        ),
        "collected": _digest(sorted(snapshot.collected)),
    }
    if old is not None and old.rules != rules:
        old = None  # who wrote it may have made digests otherwise
    files = {
        (table, quarter): digest
        for table in sorted(tables - _IN_SNAPSHOT)
        for quarter, digest in table_digests(settings, table).items()
    }
    facts: dict[tuple[str, str], str] = {}
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    for table in sorted(tables - _IN_SNAPSHOT):
        present = _only(table, files)
        if table in OWN_DAY:
            digests, of_table = _of_rows(con, table, present, old)
            facts |= digests
            spans |= of_table
        elif table in OWN_DAYS:
            facts |= _of_days(con, table, present, old)
        elif table in OWN_QUARTER:
            facts |= _of_quarters(con, table)
        else:
            facts |= present
    cut_off = snapshot.now.isoformat()
    return Basis(cut_off, rules, facts | _moving(spans, snapshot.now), tuple(map(str, quarters)), files, spans)


def _only(table: str, digests: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    return {key: digest for key, digest in digests.items() if key[0] == table}


def _moving(spans: Mapping[tuple[str, str], tuple[int, int]], cut_off: datetime) -> dict[tuple[str, str], str]:
    """By quarter, of tables with `LASTING` rows: the cut-off where any of them may be shorter than another row took."""
    now = (cut_off - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    longest: dict[str, int] = {}
    for (table, _), (_, ended) in spans.items():
        longest[table] = max(longest.get(table, -1), ended)
    return {
        (f"{table}.{LASTING[table].column}", quarter): (
            cut_off.isoformat() if began >= 0 and now - began <= longest[table] else ""
        )
        for (table, quarter), (began, _) in spans.items()
    }


def _of_rows(
    con: duckdb.DuckDBPyConnection, table: str, files: Mapping[tuple[str, str], str], old: Basis | None
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], tuple[int, int]]]:
    """Digests of a table's rows by quarter, and their spans; as before where the files are."""
    lasting = LASTING.get(table)
    found: dict[tuple[str, str], str] = {}
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    wanted = []
    for key, digest in files.items():
        if old is not None and old.files.get(key) == digest and key in old.facts and (not lasting or key in old.spans):
            found[key] = old.facts[key]
            if lasting:
                spans[key] = old.spans[key]
        elif key[1] == UNDATED:
            found[key] = digest
            if lasting:
                spans[key] = (-1, -1)  # reaches every quarter anyway
        else:
            wanted.append(key[1])
    if not wanted:
        return found, spans
    began = f"max(epoch_us(CASE WHEN {lasting.column} THEN {lasting.since} END))" if lasting else "NULL"
    ended = f"max({lasting.ended_us})" if lasting else "NULL"
    rows = con.execute(
        f"SELECT c.quarter, {_rows_digest(table)}, coalesce({began}, -1), coalesce({ended}, -1) FROM {table} AS t "
        "JOIN (SELECT day, quarter FROM calendar WHERE list_contains(?, quarter)) AS c ON c.day = t.day GROUP BY 1",
        [wanted],
    ).fetchall()
    for quarter, digest, youngest, longest in rows:
        found[table, quarter] = digest
        if lasting:
            spans[table, quarter] = (int(youngest), int(longest))
    return found, spans


def _of_days(
    con: duckdb.DuckDBPyConnection, table: str, files: Mapping[tuple[str, str], str], old: Basis | None
) -> dict[tuple[str, str], str]:
    """Digests of the rows of `OWN_DAYS` tables by quarter: a row is one of each quarter that has one of its days."""
    if old is not None and _only(table, old.files) == files:
        return _only(table, old.facts)
    found = {key: digest for key, digest in files.items() if key[1] == UNDATED}
    first, *others = OWN_DAYS[table]
    days = [f"SELECT *, {first} AS own_day FROM {table}"]
    days += [f"SELECT *, {other} AS own_day FROM {table} WHERE {other} IS DISTINCT FROM {first}" for other in others]
    rows = con.execute(
        f"SELECT c.quarter, {_rows_digest(table, 't.own_day')} FROM ({' UNION ALL '.join(days)}) AS t "
        "JOIN calendar AS c ON c.day = t.own_day GROUP BY 1"
    ).fetchall()
    return found | {(table, quarter): digest for quarter, digest in rows}


def _of_quarters(con: duckdb.DuckDBPyConnection, table: str) -> dict[tuple[str, str], str]:
    """Digests of the rows of `OWN_QUARTER` tables by the quarter that they tell of."""
    rows = con.execute(f"SELECT t.quarter, {_rows_digest(table)} FROM {table} AS t GROUP BY 1").fetchall()
    return {(table, quarter): digest for quarter, digest in rows}


def _rows_digest(table: str, *more: str) -> str:
    """SQL of a digest of rows `t`, in any order: a sum and an exclusive or of 64 bits each, and how many."""
    columns = ", ".join([*(f't."{column}"' for column in TABLES[table].columns), *more])
    return f"concat_ws('-', count(*), sum(hash({columns})), bit_xor(hash({columns})))"


def _span(text: str) -> tuple[int, int]:
    began, ended = json.loads(text)
    return int(began), int(ended)


def noted_basis(con: duckdb.DuckDBPyConnection, settings: Settings) -> Basis | None:
    """What the values in the lake were made from; None where nobody knows, as after a measuring that was killed."""
    rows = con.execute(f"SELECT kind, name, quarter, fingerprint FROM {NOTE}").fetchall()
    values = [digest for kind, _, _, digest in rows if kind == "values"]
    if values != [_digest(sorted(table_digests(settings, "metric_values").items()))]:
        return None
    return Basis.of_rows(rows)


def forget_basis(settings: Settings) -> None:
    """Forget it before values are replaced: should that be killed, nothing is taken for granted."""
    clear_table(settings, NOTE)


def note_basis(con: duckdb.DuckDBPyConnection, settings: Settings, basis: Basis) -> None:
    """Note what the values now in the lake were made from."""
    values = _digest(sorted(table_digests(settings, "metric_values").items()))
    rows = [*basis.rows(), ("values", "", "", values)]
    con.execute(
        "CREATE OR REPLACE TEMP TABLE basis_rows (kind VARCHAR, name VARCHAR, quarter VARCHAR, fingerprint VARCHAR)"
    )
    con.execute(
        "INSERT INTO basis_rows SELECT unnest(?), unnest(?), unnest(?), unnest(?)",
        list(map(list, zip(*rows, strict=True))),
    )
    write_table(con, settings, NOTE, "SELECT * FROM basis_rows")


def stale_quarters(
    old: Basis | None, new: Basis, calendar: Calendar, metrics: Sequence[Metric], quarters: Sequence[Quarter]
) -> dict[str, frozenset[int]]:
    """By metric: the numbers of the quarters whose values may differ from those that were measured before."""
    everything = frozenset(range(len(quarters)))
    if old is None or old.rules != new.rules:
        return {metric.name: everything for metric in metrics}
    names = [str(quarter) for quarter in quarters]
    earlier = min(datetime.fromisoformat(basis.cut_off) for basis in (old, new))
    known, read = set(old.quarters), set(old.quarters[-READ_QUARTERS:])
    always = {
        number
        for number, quarter in enumerate(quarters)
        if names[number] not in known
        or calendar.bounds_utc(quarter)[1] > earlier
        # What it is compared with, and whether it is, must be as before.
        or (str(quarter.plus(-1)) in known) != (str(quarter.plus(-1)) in names)
        or (names[number] in names[-READ_QUARTERS:] and names[number] not in read)
    }
    changed: dict[str, set[str]] = {}
    for table, quarter in {key for key in {*old.facts, *new.facts} if old.facts.get(key) != new.facts.get(key)}:
        changed.setdefault(table, set()).add(quarter)
    found = {}
    own = OWN_DAY | OWN_DAYS.keys() | OWN_QUARTER
    for metric in metrics:
        # Reasons ask whether anything was deployed.
        tables = {*metric.tables, "service_deployments"} if metric.needs_deployments else set(metric.tables)
        reached = set(always)
        if asks_for_cut_off(metric):
            if metric.kind != _COUNTS_SHORTER:
                reached = set(everything)
            tables |= {f"{table}.{lasting.column}" for table, lasting in LASTING.items() if table in tables}
        for table in tables & changed.keys():
            if table.split(".")[0] not in own or UNDATED in changed[table]:
                reached = set(everything)
                break
            reached |= {number for number, name in enumerate(names) if name in changed[table]}
        found[metric.name] = frozenset(
            number
            for number in everything
            if number in reached or (number - 1 in reached and quarters[number - 1] == quarters[number].plus(-1))
        )
    return found


def asks_for_cut_off(metric: Metric) -> bool:
    """Whether a metric's rows are made of the cut-off too."""
    return _PARAMS.search(metric.observations_sql()) is not None


def touched_quarters(
    old: Basis | None, stale: Mapping[str, frozenset[int]], quarters: Sequence[Quarter]
) -> frozenset[int]:
    """The numbers of the quarters of which any row may differ: of all others everything holds, words included.

    Words are found within a quarter, of the p-values of that quarter.
    """
    names = [str(quarter) for quarter in quarters]
    was_read = set(old.quarters[-READ_QUARTERS:]) if old is not None else set()
    return frozenset().union(*stale.values()) | {
        number
        for number, name in enumerate(names)
        if old is None or (name in was_read) != (name in names[-READ_QUARTERS:])
    }


def held_values(settings: Settings, quarters: Iterable[Quarter]) -> pl.DataFrame:
    """The rows of `metric_values` in the lake, of some quarters."""
    return polars_frame(settings, "metric_values").filter(pl.col("quarter").is_in([*map(str, quarters)])).collect()


def carried_values(
    held: pl.DataFrame, stale: Mapping[str, frozenset[int]], quarters: Sequence[Quarter]
) -> pl.DataFrame:
    """Those of the held rows that still hold; their words are of the measuring before."""
    kept = [
        {"metric": metric, "quarter": str(quarter)}
        for metric, numbers in stale.items()
        for number, quarter in enumerate(quarters)
        if number not in numbers
    ]
    wanted = pl.DataFrame(kept, schema={"metric": pl.String, "quarter": pl.String})
    return held.join(wanted, on=["metric", "quarter"], how="semi")


def changed_quarters(held: pl.DataFrame, values: pl.DataFrame) -> set[str]:
    """The quarters whose rows are not the same in both, in whatever order."""
    one = pl.struct(pl.all()).hash()
    sums = [
        frame.select("quarter", one.alias("row"))
        .group_by("quarter")
        .agg(pl.len().alias("rows"), pl.col("row").sum().alias("summed"), pl.col("row").bitwise_xor().alias("folded"))
        for frame in (held, values)
    ]
    told = [{row[0]: row[1:] for row in frame.iter_rows()} for frame in sums]
    return {quarter for quarter in {*told[0], *told[1]} if told[0].get(quarter) != told[1].get(quarter)}


@lru_cache(maxsize=1)
def _code() -> str:
    """A digest of this program as far as values depend on it."""
    digest = hashlib.sha256()
    for package in ("quarterdeck", "duckdb", "numpy", "scipy"):
        digest.update(metadata.version(package).encode())

    def add(folder: Traversable) -> None:
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                add(entry)
            elif entry.name.endswith(_CODE):
                digest.update(entry.name.encode() + b"\0" + entry.read_bytes())

    for room in ("metrics", "engines"):
        add(resources.files("analytics").joinpath(room))
    for file in ("change_tests.py", "comparisons.py", "statistics.py", "periods.py"):
        digest.update(resources.files("analytics").joinpath(file).read_bytes())
    return digest.hexdigest()


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
