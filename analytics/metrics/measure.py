"""The measure stage: every metric for every service, team and organisation, by quarter, then the published database.

The rows of a metric's observations are reduced once per subject and quarter; services, teams and the organisation pool
those rows, never averages of averages. Source: metrics.md sections 2, 3 and 8.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import duckdb

from analytics import progress
from analytics.delivery.queries import insert_rows
from analytics.engine import connect
from analytics.engines import Engine, open_engine
from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import CALENDAR, create_functions
from analytics.lake.parts import TableParts
from analytics.lake.publish import publish
from analytics.lake.schemas import FACT_TABLES
from analytics.lake.tables import create_views, lake_relation, scratch, write_table
from analytics.lake.turns import taking_turns
from analytics.metrics.aggregates import Aggregation, Key, Measured, create_observations
from analytics.metrics.coverage import (
    MEMBERS,
    OF_NOTHING,
    Covered,
    Snapshot,
    covered,
    create_members,
    has_begun,
    read_snapshot,
)
from analytics.metrics.readings import NOT_TESTED, TOO_FEW, Family, Samples, families, read_families, weekly_counts
from analytics.metrics.reasons import Reasons
from analytics.metrics.registry import METRICS, Metric
from analytics.metrics.restatements import restate
from analytics.periods import Calendar, Quarter
from analytics.settings import Settings
from analytics.statistics import poisson_rate_interval

STAGE = "measure"
# Six years; older quarters are measured when they are asked for.
MOST_QUARTERS = 24


@dataclass
class MeasureSummary:
    """Which quarters were measured, how many values were written and how many published ones were restated."""

    quarters: list[Quarter] = field(default_factory=list)
    values: int = 0
    restated: int = 0


@taking_turns(STAGE)
def measure(settings: Settings, quarters: Sequence[Quarter] | None = None) -> MeasureSummary:
    """Measure every quarter with data (and those asked for), write `metric_values` and publish the database.

    Raises LakeError when nothing has been built yet.
    """
    with connect(settings) as con, scratch(settings) as folder, ExitStack() as opened:
        create_views(con, settings, *(name for name in FACT_TABLES if name != "calendar"))
        con.execute(f"CREATE OR REPLACE TEMP TABLE calendar AS SELECT * FROM {lake_relation(settings, 'calendar')}")
        snapshot = read_snapshot(con)
        create_members(con)
        measured = _quarters(con, settings.calendar, snapshot, quarters or ())
        engine = opened.enter_context(open_engine(settings, con))
        create_functions(engine, settings.time_zone)
        prepare(engine, con)
        context = MeasureContext(engine, settings.calendar, snapshot, measured)
        parts = TableParts(folder)
        for query, kind in dict.fromkeys((metric.query, metric.kind) for metric in METRICS):
            metrics = [metric for metric in METRICS if (metric.query, metric.kind) == (query, kind)]
            for row in context.rows(metrics):
                parts.add("metric_values", row)
            progress.report(STAGE, metrics[0].title)
        for metric in METRICS:
            parts.add("metric_definitions", _definition(metric))
        inputs = (
            "SELECT * FROM build_inputs UNION ALL SELECT 'verification', key, '', value FROM verification "
            "WHERE key <> 'cut_off'"
        )
        con.execute(f"CREATE OR REPLACE TEMP TABLE present_inputs AS {inputs}")
        values = _with_readings(con, parts.relation("metric_values"), read_families(context.families))
        restated, changed = restate(con, settings, parts, METRICS)
        # Told before the values are replaced: a measuring that is killed between must not lose what changed.
        write_table(con, settings, "restatements", restated)
        count = write_table(con, settings, "metric_values", values)
        write_table(con, settings, "metric_definitions", parts.relation("metric_definitions"))
        write_table(con, settings, "measure_inputs", "SELECT * FROM present_inputs")
    publish(settings)
    progress.report(STAGE, f"{count:,} values over {len(measured)} quarters, {changed:,} restated")
    return MeasureSummary(measured, count, changed)


def prepare(engine: Engine, con: duckdb.DuckDBPyConnection) -> None:
    """Give an engine what the queries read: the lake's facts, and from the connection `calendar` and `members`."""
    if isinstance(engine, DuckEngine):
        return  # it is that connection
    for name, columns in (("calendar", CALENDAR), ("members", MEMBERS)):
        engine.create_values(name, columns, con.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall())
    engine.read_lake(*(name for name in FACT_TABLES if name != "calendar"))


def _with_readings(con: duckdb.DuckDBPyConnection, values: str, words: Mapping[tuple[str, Key], str]) -> str:
    """SQL for the values with their reading, which is known only when all of them have been compared."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE words "
        "(metric VARCHAR, scope VARCHAR, name VARCHAR, quarter VARCHAR, series VARCHAR, reading VARCHAR)"
    )
    insert_rows(con, "words", [(metric, *key, word) for (metric, key), word in words.items()])
    return (
        f"SELECT v.* REPLACE (coalesce(w.reading, v.reading) AS reading) FROM ({values}) AS v LEFT JOIN words AS w "
        "ON w.metric = v.metric AND w.scope = v.scope AND w.name = v.name AND w.quarter = v.quarter "
        "AND w.series IS NOT DISTINCT FROM v.series"
    )


def _definition(metric: Metric) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "title": metric.title,
        "unit": metric.unit,
        "direction": metric.direction,
        "statistic": metric.statistic,
        "minimum_n": metric.minimum_n,
        "definition": metric.definition,
        "version": metric.version,
        "sources": ", ".join(metric.entities),
        "series": metric.series[0],
        "indicator": metric.indicator,
    }


def _quarters(
    con: duckdb.DuckDBPyConnection, calendar: Calendar, snapshot: Snapshot, asked: Iterable[Quarter]
) -> list[Quarter]:
    """From the first quarter with a fact to the one in progress, at most six years, and every quarter asked for."""
    row = con.execute(
        "SELECT min(day) FROM (SELECT min(day) AS day FROM service_deployments UNION ALL "
        "SELECT min(day) FROM run_attempts UNION ALL SELECT min(opened_day) FROM service_incidents UNION ALL "
        "SELECT min(day) FROM gate_outcomes UNION ALL SELECT min(day) FROM survey_answers)"
    ).fetchone()
    last = calendar.quarter_of(snapshot.now)
    first = calendar.quarter_of_day(row[0]) if row and row[0] else last
    first = max(first, last.plus(1 - MOST_QUARTERS))
    return sorted({*calendar.quarters_between(first, last), *asked})


class MeasureContext:
    """One pass over the facts: what is collected, who belongs to whom, and the queries' engine."""

    def __init__(self, engine: Engine, calendar: Calendar, snapshot: Snapshot, quarters: Sequence[Quarter]) -> None:
        self.engine = engine
        self.snapshot = snapshot
        self.quarters = list(quarters)
        self.covered: dict[tuple[str, str, str], Covered] = {
            (scope, name, str(quarter)): covered(snapshot, calendar, members, quarter)
            for (scope, name), members in snapshot.scopes.items()
            for quarter in self.quarters
        }
        self.begun = {str(quarter): has_begun(snapshot, calendar, quarter) for quarter in self.quarters}
        self.reasons = Reasons(snapshot, self.covered, self.begun, self._kinds())
        self.aggregation = Aggregation(engine, self.quarters)
        self.families: list[Family] = []

    def _kinds(self) -> dict[tuple[str, str, str], Counter[str]]:
        """Successful deployments by scope, quarter and kind: the reasons of undefined values need them."""
        kinds: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        for scope, name, quarter, kind, resolved, count in self.engine.rows(
            "SELECT m.scope, m.name, c.quarter, d.kind, d.resolved, count(*) AS seen FROM service_deployments AS d "
            "JOIN members AS m ON m.subject_kind = 'service' AND m.subject = d.service "
            "JOIN calendar AS c ON c.day = d.day WHERE d.outcome = 'success' "
            "GROUP BY m.scope, m.name, c.quarter, d.kind, d.resolved"
        ):
            kinds[scope, name, quarter][kind if resolved else "unresolved"] += count
        return kinds

    def rows(self, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
        """Output rows of the metrics that share one query and one kind."""
        first = metrics[0]
        create_observations(self.engine, first)
        seen = self.aggregation.rows(first)
        samples = Samples(self.engine, first, self.quarters)
        weekly = weekly_counts(self.engine, first) if first.kind in ("per_day", "count") and first.tested else {}
        rows: list[dict[str, Any]] = []
        aggregates = self.aggregation.values(metrics)
        for metric in metrics:
            found = aggregates[metric.name]
            self.families += families(metric, self.quarters, found, self.covered, samples, weekly)
            for (scope, name), members in self.snapshot.scopes.items():
                for quarter in map(str, self.quarters):
                    for series_name in metric.series:
                        key = (scope, name, quarter, series_name)
                        rows.append(self._row(metric, key, members, found.get(key), seen, weekly))
        return rows

    def _row(
        self,
        metric: Metric,
        key: Key,
        members: frozenset[str],
        found: Measured | None,
        seen: dict[Key, Counter[str | None]],
        weekly: dict[Key, list[float]],
    ) -> dict[str, Any]:
        scope, name, quarter, series = key
        days = self.covered[scope, name, quarter]
        result = found or Measured()
        rows = seen.get(key, Counter[str | None]())
        left_out = Counter({why: count for why, count in rows.items() if why is not None})
        reason = self.reasons.of(metric, key, members, result, left_out)
        if reason in OF_NOTHING:
            result = Measured()
            if rows[None]:
                left_out[reason] += rows[None]
        elif reason is not None:
            result.value = result.low = result.high = None
        elif metric.kind == "per_day":
            result.numerator, result.denominator = float(result.n), float(days.days)
            result.value = result.n / days.days
            result.low, result.high = poisson_rate_interval(result.n, days.days, weekly.get(key, ()))
        elif metric.kind == "count":
            result.value = float(result.n)
            if not metric.census:
                result.low, result.high = poisson_rate_interval(result.n, 1, weekly.get(key, ()))
        if metric.kind in ("ratio", "rate") and result.denominator is None:
            result.numerator = result.denominator = 0.0
        return {
            "metric": metric.name,
            "scope": scope,
            "name": name,
            "quarter": quarter,
            "series": series,
            "value": result.value,
            "unit": metric.unit,
            "n": result.n,
            "numerator": result.numerator,
            "denominator": result.denominator,
            "low": result.low,
            "high": result.high,
            "open": result.open,
            "reason": reason,
            # Read when every metric has been compared.
            "reading": TOO_FEW if metric.tested else NOT_TESTED,
            "definition": metric.definition_id,
            "covered_from": days.start if days.live_services else None,
            "covered_to": days.end if days.live_services else None,
            "excluded": json.dumps(dict(sorted(left_out.items()))) if left_out else "{}",
            "missing": ", ".join(self.reasons.missing(metric, members)) or None,
            "blended": len(days.live_services) > 1 and (metric.subject != "team" or scope == "organization"),
        }
