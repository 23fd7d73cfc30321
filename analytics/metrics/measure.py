"""The measure stage: every metric for every service, team and organisation, by quarter, then the published database.

The rows of a metric's observations are reduced once per subject and quarter; services, teams and the organisation pool
those rows, never averages of averages. Source: metrics.md sections 2, 3 and 8.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np

from analytics import progress
from analytics.engine import connect
from analytics.lake.parts import TableParts
from analytics.lake.publish import publish
from analytics.lake.schemas import FACT_TABLES
from analytics.lake.tables import create_views, lake_relation, scratch, write_table
from analytics.lake.turns import taking_turns
from analytics.metrics.aggregates import Key, Measured
from analytics.metrics.coverage import Covered, Snapshot, covered, has_begun, missing_entities, read_snapshot
from analytics.metrics.readings import Samples, readings, weekly_counts
from analytics.metrics.registry import METRICS, MICROSECONDS, Metric, observations_sql
from analytics.periods import Calendar, Quarter
from analytics.settings import Settings
from analytics.statistics import (
    kaplan_meier_median,
    poisson_rate_interval,
    quantile_ranks_array,
    wilson_array,
)

STAGE = "measure"
# Six years; older quarters are measured when they are asked for.
MOST_QUARTERS = 24
NO_INCIDENT_SOURCE = "no_incident_source"


@dataclass
class MeasureSummary:
    """Which quarters were measured, and how many values were written."""

    quarters: list[Quarter] = field(default_factory=list)
    values: int = 0


@taking_turns(STAGE)
def measure(settings: Settings, quarters: Sequence[Quarter] | None = None) -> MeasureSummary:
    """Measure every quarter with data (and those asked for), write `metric_values` and publish the database.

    Raises LakeError when nothing has been built yet.
    """
    with connect(settings) as con, scratch(settings) as folder:
        create_views(con, settings, *(name for name in FACT_TABLES if name != "calendar"))
        con.execute(f"CREATE OR REPLACE TEMP TABLE calendar AS SELECT * FROM {lake_relation(settings, 'calendar')}")
        con.execute(f"CREATE OR REPLACE TEMP TABLE members AS SELECT * FROM {lake_relation(settings, 'scope_members')}")
        snapshot = read_snapshot(con)
        measured = _quarters(con, settings.calendar, snapshot, quarters or ())
        context = MeasureContext(con, settings.calendar, snapshot, measured)
        parts = TableParts(folder)
        for query in dict.fromkeys(metric.query for metric in METRICS):
            metrics = [metric for metric in METRICS if metric.query == query]
            for row in context.rows(metrics):
                parts.add("metric_values", row)
            progress.report(STAGE, metrics[0].title)
        for metric in METRICS:
            parts.add("metric_definitions", _definition(metric))
        count = write_table(con, settings, "metric_values", parts.relation("metric_values"))
        write_table(con, settings, "metric_definitions", parts.relation("metric_definitions"))
    publish(settings)
    progress.report(STAGE, f"{count:,} values over {len(measured)} quarters")
    return MeasureSummary(measured, count)


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
        "SELECT min(day) FROM run_attempts UNION ALL SELECT min(opened_day) FROM service_incidents)"
    ).fetchone()
    last = calendar.quarter_of(snapshot.now)
    first = calendar.quarter_of_day(row[0]) if row and row[0] else last
    first = max(first, last.plus(1 - MOST_QUARTERS))
    return sorted({*calendar.quarters_between(first, last), *asked})


class MeasureContext:
    """One pass over the facts: what is collected, who belongs to whom, and the queries' connection."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, calendar: Calendar, snapshot: Snapshot, quarters: Sequence[Quarter]
    ) -> None:
        self.con = con
        self.snapshot = snapshot
        self.quarters = list(quarters)
        self.covered: dict[tuple[str, str, str], Covered] = {
            (scope, name, str(quarter)): covered(snapshot, calendar, members, quarter)
            for (scope, name), members in snapshot.scopes.items()
            for quarter in self.quarters
        }
        self.begun = {str(quarter): has_begun(snapshot, calendar, quarter) for quarter in self.quarters}
        self.kinds = self._kinds()

    def _kinds(self) -> dict[tuple[str, str, str], Counter[str]]:
        """Successful deployments by scope, quarter and kind: the reasons of undefined values need them."""
        kinds: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        for scope, name, quarter, kind, resolved, count in self.con.execute(
            "SELECT m.scope, m.name, c.quarter, d.kind, d.resolved, count(*) FROM service_deployments d "
            "JOIN members m ON m.subject_kind = 'service' AND m.subject = d.service JOIN calendar c ON c.day = d.day "
            "WHERE d.outcome = 'success' GROUP BY ALL"
        ).fetchall():
            kinds[scope, name, quarter][kind if resolved else "unresolved"] += count
        return kinds

    def rows(self, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
        """Output rows of the metrics that share one query."""
        first = metrics[0]
        series = "" if first.series != (None,) else "CAST(NULL AS VARCHAR) AS series, "
        self.con.execute(
            f"CREATE OR REPLACE TEMP VIEW observations AS SELECT {series}* FROM ({observations_sql(first.query)})"
        )
        excluded = self._excluded(first)
        samples = Samples(self.con, first, self.quarters)
        weekly = weekly_counts(self.con, first) if first.kind == "per_day" else {}
        rows: list[dict[str, Any]] = []
        aggregates = self._aggregate(metrics)
        for metric in metrics:
            found = aggregates[metric.name]
            words = readings(metric, self.quarters, found, self.covered, samples, weekly)
            for (scope, name), members in self.snapshot.scopes.items():
                for quarter in map(str, self.quarters):
                    for series_name in metric.series:
                        key = (scope, name, quarter, series_name)
                        rows.append(self._row(metric, key, members, found.get(key), excluded, words, weekly))
        return rows

    def _row(
        self,
        metric: Metric,
        key: Key,
        members: frozenset[str],
        found: Measured | None,
        excluded: dict[Key, Counter[str]],
        words: dict[Key, str | None],
        weekly: dict[Key, list[float]],
    ) -> dict[str, Any]:
        scope, name, quarter, series = key
        days = self.covered[scope, name, quarter]
        result = found or Measured()
        reason = self._reason(metric, key, members, result)
        if metric.kind == "per_day" and reason is None:
            result.numerator, result.denominator = float(result.n), float(days.days)
            result.value = result.n / days.days
            interval = poisson_rate_interval(result.n, days.days, weekly.get(key, ()))
            result.low, result.high = interval.low, interval.high
        if reason is not None:
            result.value = result.low = result.high = None
        if metric.kind == "ratio" and result.denominator is None:
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
            "reading": words.get(key, "too few data"),
            "definition": metric.definition_id,
            "covered_from": days.start if days.live_services else None,
            "covered_to": days.end if days.live_services else None,
            "excluded": json.dumps(dict(sorted(excluded.get(key, {}).items()))),
        }

    # Reasons -------------------------------------------------------------------------------------------------

    def _reason(self, metric: Metric, key: Key, members: frozenset[str], result: Measured) -> str | None:
        """Why there is no value: the first reason that applies in the order of metrics.md section 8."""
        scope, name, quarter, _ = key
        if not self.begun[quarter]:
            return "not_collected"
        live = self.covered[scope, name, quarter].live_services
        if members and not live:
            return "not_yet_live"
        missing = missing_entities(self.snapshot, members, metric.entities)
        # That nothing was deployed is said before that commits or incidents are missing (metrics.md E17).
        if not members or any(entity not in ("incidents", "commits") for entity in missing):
            return "not_collected"
        kinds = self.kinds.get((scope, name, quarter), Counter())
        if metric.needs_deployments and not kinds.total() and not result.n and not result.open:
            return "no_deployments"
        if "commits" in missing:
            return "not_collected"
        evidence = self.snapshot.rollback_is_evidence and metric.name != "incident_time_to_restore"
        if "incidents" in missing and not evidence:
            return NO_INCIDENT_SOURCE
        if metric.kind == "per_day" or result.value is not None:
            return None
        return self._own_reason(metric, kinds, result)

    @staticmethod
    def _own_reason(metric: Metric, kinds: Counter[str], result: Measured) -> str:
        if metric.kind == "recovery_median" and result.open:
            return "median_not_reached" if result.n else "all_open"
        if metric.query == "change_lead_time":
            resolved = {kind for kind in kinds if kind != "unresolved"}
            if not resolved:
                return "no_history"
            if resolved == {"seed"}:
                return "seed_only"
        return metric.empty_reason

    # Aggregates ----------------------------------------------------------------------------------------------

    def _aggregate(self, metrics: Sequence[Metric]) -> dict[str, dict[Key, Measured]]:
        """Values of the metrics that share one query (and so one kind), by metric."""
        first = metrics[0]
        if first.kind == "quantile":
            return self._quantiles(metrics)
        if first.kind == "recovery_median":
            return {first.name: self._recovery(first)}
        if first.kind == "utilization":
            return {first.name: self._utilization(first)}
        return {first.name: self._sums(first)}

    def _excluded(self, metric: Metric) -> dict[Key, Counter[str]]:
        """Left-out rows by scope, quarter, series and reason."""
        counts: dict[Key, Counter[str]] = defaultdict(Counter)
        for scope, name, quarter, series, reason, count in self.con.execute(
            "SELECT m.scope, m.name, o.quarter, o.series, o.excluded, sum(o.rows)::BIGINT FROM "
            "(SELECT subject, c.quarter, series, excluded, count(*) AS rows FROM observations "
            "JOIN calendar c USING (day) WHERE excluded IS NOT NULL GROUP BY ALL) o "
            "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject GROUP BY ALL",
            [metric.subject],
        ).fetchall():
            counts[scope, name, quarter, series][reason] += count
        return counts

    def _sums(self, metric: Metric) -> dict[Key, Measured]:
        denominator = "sum(denominator)::BIGINT" if metric.kind == "ratio" else "count(*)"
        found = self.con.execute(
            "SELECT m.scope, m.name, o.quarter, o.series, sum(o.numerator)::BIGINT, sum(o.denominator)::BIGINT FROM "
            f"(SELECT subject, c.quarter, series, sum(numerator)::BIGINT AS numerator, {denominator} AS denominator "
            "FROM observations JOIN calendar c USING (day) WHERE excluded IS NULL GROUP BY ALL) o "
            "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject GROUP BY ALL",
            [metric.subject],
        ).fetchall()
        if metric.kind == "per_day":
            return {(s, name, q, series): Measured(n=int(total)) for s, name, q, series, total, _ in found}
        low, high = wilson_array([row[4] for row in found], [row[5] for row in found])
        return {
            (scope, name, quarter, series): Measured(
                value=hits / trials,
                n=trials,
                numerator=float(hits),
                denominator=float(trials),
                low=float(low[number]),
                high=float(high[number]),
            )
            for number, (scope, name, quarter, series, hits, trials) in enumerate(found)
        }

    def _quantiles(self, metrics: Sequence[Metric]) -> dict[str, dict[Key, Measured]]:
        """Every quantile of one query, by metric: each scope is sorted once."""
        first = metrics[0]
        unit = MICROSECONDS[first.unit]
        results: dict[str, dict[Key, Measured]] = {metric.name: {} for metric in metrics}
        for scope in ("service", "team", "organization"):
            # One scope at a time: sorted lists of ten million durations for three scopes at once would not fit.
            self.con.execute(
                "CREATE OR REPLACE TEMP TABLE sorted_amounts AS "
                "SELECT m.name, c.quarter, o.series, count(*) AS n, "
                f"quantile_cont(o.amount_us, {[metric.quantile for metric in metrics]}) AS quantiles, "
                "list_sort(list(o.amount_us)) AS amounts "
                "FROM observations o JOIN calendar c ON c.day = o.day "
                "JOIN members m ON m.subject_kind = $kind AND m.subject = o.subject AND m.scope = $scope "
                "WHERE o.excluded IS NULL GROUP BY ALL",
                {"kind": first.subject, "scope": scope},
            )
            sizes = [row[0] for row in self.con.execute("SELECT DISTINCT n FROM sorted_amounts").fetchall()]
            if not sizes:
                continue
            for number, metric in enumerate(metrics, start=1):
                low, high = quantile_ranks_array(sizes, metric.quantile)
                for name, quarter, series, n, middle, lower, upper in self.con.execute(
                    f"SELECT name, quarter, series, n, quantiles[{number}], CASE WHEN low > 0 THEN amounts[low] END, "
                    "CASE WHEN low > 0 THEN amounts[high] END FROM sorted_amounts JOIN "
                    "(SELECT unnest(?) AS n, unnest(?) AS low, unnest(?) AS high) USING (n)",
                    [sizes, low.tolist(), high.tolist()],
                ).fetchall():
                    results[metric.name][scope, name, quarter, series] = Measured(
                        value=middle / unit,
                        n=n,
                        low=None if lower is None else lower / unit,
                        high=None if upper is None else upper / unit,
                    )
        if "incident_time_to_restore" in results:
            for key, count in self._open_incidents().items():
                results["incident_time_to_restore"].setdefault(key, Measured()).open = count
        return results

    def _open_incidents(self) -> dict[Key, int]:
        """Incidents that were opened in or before a quarter and had not ended at the cut-off."""
        opened: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
        for scope, name, quarter, count in self.con.execute(
            "SELECT m.scope, m.name, c.quarter, count(*) FROM service_incidents i "
            "JOIN members m ON m.subject_kind = 'service' AND m.subject = i.service "
            "JOIN calendar c ON c.day = i.opened_day WHERE i.restored_at IS NULL GROUP BY ALL"
        ).fetchall():
            opened[scope, name].append((quarter, count))
        return {
            (scope, name, str(quarter), None): total
            for (scope, name), counts in opened.items()
            for quarter in self.quarters
            if (total := sum(count for at, count in counts if at <= str(quarter)))
        }

    def _recovery(self, metric: Metric) -> dict[Key, Measured]:
        unit = MICROSECONDS[metric.unit]
        ended: dict[Key, list[float]] = defaultdict(list)
        running: dict[Key, list[float]] = defaultdict(list)
        for scope, name, quarter, amount, is_open in self.con.execute(
            "SELECT m.scope, m.name, c.quarter, o.amount_us, o.open FROM observations o "
            "JOIN calendar c ON c.day = o.day "
            "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject WHERE o.excluded IS NULL",
            [metric.subject],
        ).fetchall():
            (running if is_open else ended)[scope, name, quarter, None].append(amount / unit)
        found = {}
        for key in {*ended, *running}:
            median = kaplan_meier_median(np.array(sorted(ended[key])), np.array(sorted(running[key])))
            found[key] = Measured(value=median.value, n=median.n, low=median.low, high=median.high, open=median.open)
        return found

    def _utilization(self, metric: Metric) -> dict[Key, Measured]:
        return {
            (scope, name, quarter, None): Measured(
                value=busy / window, n=runners, numerator=float(busy / hour), denominator=float(window / hour)
            )
            for hour in (MICROSECONDS["hours"],)
            for scope, name, quarter, busy, window, runners in self.con.execute(
                "SELECT scope, name, quarter, sum(busy)::BIGINT, sum(window_us)::BIGINT, count(*) FROM "
                "(SELECT m.scope, m.name, c.quarter, o.runner, least(sum(o.numerator), max(o.denominator)) AS busy, "
                "max(o.denominator) AS window_us FROM observations o JOIN calendar c ON c.day = o.day "
                "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject WHERE o.excluded IS NULL GROUP BY ALL) "
                "GROUP BY ALL",
                [metric.subject],
            ).fetchall()
            if window
        }
