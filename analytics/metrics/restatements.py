"""Values of closed quarters that were published and have changed since: old value, new value, and why.

A quarter is published by the pack of it or of a later one. The values compared are those of the measuring before, so
that each change is told once; what is measured for the first time restates nothing. Source: metrics.md section 5 (I3),
E21, E39; reports.md section 1, item 17.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from analytics.lake.parts import TableParts
from analytics.lake.tables import lake_relation
from analytics.metrics.metric import Metric
from analytics.periods import Quarter
from analytics.settings import Settings

# A sum of the same rows may end differently in its last digits.
SAME = 1e-12
ANY_QUARTER = ""
_PACK = re.compile(r"(\d{4}-Q[1-4])(\.r\d+)?")
# What an entity named by a metric may be made of.
_STANDS_FOR = {
    "deployments": (
        "deployments",
        "pipeline_runs",
        "pipeline_jobs",
        "tags",
        "releases",
        "artifacts",
        "commits",
        "pull_requests",
    ),
    "commits": ("commits", "pull_requests"),
    "checks": ("checks", "pipeline_jobs"),
    "file_revisions": ("file_revisions", "commits"),
    "referenced_workflows": ("pipeline_runs",),
}
_KINDS = {
    "settings": "settings changed",
    "catalog": "catalog changed",
    "overrides": "overrides changed",
    "verification": "verification changed",
    "code": "version of Quarterdeck changed",
}


@dataclass(frozen=True)
class Changes:
    """What differs between the inputs of two measurings: entities by quarter of their facts, other names by kind."""

    entities: Mapping[str, frozenset[str]]
    new_entities: frozenset[str]
    others: Mapping[str, tuple[str, ...]]
    cut_off_moved: bool

    def cause(self, metric: Metric, quarter: str, old_definition: str) -> str:
        """Why a value of a metric may have changed, as far as it can be told."""
        said: list[str] = []
        if old_definition != metric.definition_id:
            said.append(f"definition changed from {old_definition}")
        wanted = {name for entity in (*metric.entities, *metric.optional) for name in _made_of(entity)}
        for words, names in (
            ("newly collected", [name for name in self._of(quarter) if name in self.new_entities]),
            ("later facts", [name for name in self._of(quarter) if name not in self.new_entities]),
        ):
            related = [name for name in names if name in wanted] or names
            if related:
                said.append(f"{words}: {', '.join(related)}")
        for kind, words in _KINDS.items():
            if kind == "verification" and "deployments" not in metric.entities:
                continue
            if kinds := self.others.get(kind):
                said.append(f"{words}: {', '.join(kinds)}" if any(kinds) else words)
        if not said and self.cut_off_moved:
            said.append("a later cut-off")
        return "; ".join(said) or "nothing that was noted differs"

    def _of(self, quarter: str) -> list[str]:
        """Entities with other facts in the quarter; where there are none, with other facts at all."""
        here = [name for name, quarters in self.entities.items() if quarters & {quarter, ANY_QUARTER}]
        return sorted(here or self.entities)


def _made_of(entity: str) -> tuple[str, ...]:
    return _STANDS_FOR.get(entity, (entity,))


def compare_inputs(old: Mapping[tuple[str, str, str], str], new: Mapping[tuple[str, str, str], str]) -> Changes:
    """What differs between two states of `measure_inputs`: (kind, name, quarter) to fingerprint."""
    differing = [key for key in {*old, *new} if old.get(key) != new.get(key)]
    entities: dict[str, set[str]] = {}
    others: dict[str, set[str]] = {}
    for kind, name, quarter in differing:
        if kind == "entity":
            entities.setdefault(name, set()).add(quarter)
        elif kind not in ("cut_off", "collected"):
            others.setdefault(kind, set()).add(name)
    known = {name for kind, name, _ in old if kind == "collected"}
    return Changes(
        entities={name: frozenset(quarters) for name, quarters in entities.items()},
        new_entities=frozenset(name for name in entities if name not in known),
        others={kind: tuple(sorted(names)) for kind, names in others.items()},
        cut_off_moved=any(kind == "cut_off" for kind, _, _ in differing),
    )


def published_quarters(settings: Settings, measured_at: datetime) -> list[str]:
    """Quarters that a pack has told, and that were over when they were last measured."""
    if not settings.packs_dir.is_dir():
        return []
    told = [match[1] for path in settings.packs_dir.iterdir() if (match := _PACK.fullmatch(path.name))]
    if not told:
        return []
    newest = max(map(Quarter.parse, told))
    while settings.calendar.bounds_utc(newest)[1] > measured_at:
        newest = newest.plus(-1)
    # Every pack tells of the quarters before its own too.
    return [str(newest.plus(-back)) for back in range(4 * 30)]


def restate(
    con: duckdb.DuckDBPyConnection, settings: Settings, parts: TableParts, metrics: Iterable[Metric]
) -> tuple[str, int]:
    """Compare the new rows of `metric_values` with the ones in the lake.

    Gives SQL for all rows of `restatements`, earlier ones included, and how many are new. Leaves the temporary table
    `restated` behind, and reads `present_inputs` (what these values were measured from) and the view `measure_inputs`.
    """
    earlier = f"SELECT * FROM {lake_relation(settings, 'restatements')}"
    con.execute(f"CREATE OR REPLACE TEMP TABLE restated AS {earlier}")
    old = _inputs(con, "measure_inputs")
    cut_off = old.get(("cut_off", "", ANY_QUARTER))
    quarters = published_quarters(settings, datetime.fromisoformat(cut_off)) if cut_off else []
    if not quarters:
        return "SELECT * FROM restated", 0
    rows = con.execute(
        f"""
        SELECT new.metric, new.scope, new.name, new.quarter, new.series, new.definition, old.definition,
               old.value, new.value, old.n, new.n
        FROM ({parts.relation("metric_values")}) AS new
        JOIN {lake_relation(settings, "metric_values")} AS old
          ON old.metric = new.metric AND old.scope = new.scope AND old.name = new.name AND old.quarter = new.quarter
         AND old.series IS NOT DISTINCT FROM new.series
        WHERE list_contains($quarters, new.quarter)
          AND (old.n IS DISTINCT FROM new.n OR (old.value IS NULL) <> (new.value IS NULL)
               OR abs(old.value - new.value) > $same * greatest(abs(old.value), abs(new.value)))
        ORDER BY ALL
        """,
        {"quarters": quarters, "same": SAME},
    ).fetchall()
    told = _last_told(con)
    changes = compare_inputs(old, _inputs(con, "present_inputs"))
    by_name = {metric.name: metric for metric in metrics}
    recorded_at = _after_all(con, settings.now().astimezone(UTC).replace(tzinfo=None))
    added = 0
    for metric, scope, name, quarter, series, definition, old_definition, old_value, value, old_n, n in rows:
        if told.get((metric, scope, name, quarter, series)) == (old_value, value, old_n, n):
            continue  # a measuring that was killed after telling it
        parts.add(
            "restatements",
            {
                "metric": metric,
                "scope": scope,
                "name": name,
                "quarter": quarter,
                "series": series,
                "definition": definition,
                "old_value": old_value,
                "new_value": value,
                "old_n": old_n,
                "new_n": n,
                "cause": changes.cause(by_name[metric], quarter, old_definition),
                "recorded_at": recorded_at,
            },
        )
        added += 1
    return f"SELECT * FROM restated UNION ALL BY NAME {parts.relation('restatements')}", added


def _inputs(con: duckdb.DuckDBPyConnection, table: str) -> dict[tuple[str, str, str], str]:
    rows = con.execute(f"SELECT kind, name, quarter, fingerprint FROM {table}").fetchall()
    return {(kind, name, quarter): fingerprint for kind, name, quarter, fingerprint in rows}


def _last_told(con: duckdb.DuckDBPyConnection) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = con.execute(
        "SELECT metric, scope, name, quarter, series, old_value, new_value, old_n, new_n FROM restated "
        "ORDER BY recorded_at"
    ).fetchall()
    return {row[:5]: row[5:] for row in rows}


def _after_all(con: duckdb.DuckDBPyConnection, now: datetime) -> datetime:
    """The cut-off, or a moment behind the last record where a fixed cut-off has not moved."""
    (last,) = con.execute("SELECT max(recorded_at) FROM restated").fetchall()[0]
    return now if last is None or last < now else last + timedelta(microseconds=1)
