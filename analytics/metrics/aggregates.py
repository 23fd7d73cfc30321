"""Rows that count, reduced to one value per scope, name, quarter and series: pooled, never averages of averages.

Source: metrics.md sections 2, 3 and 8; intervals by reports.md section 2.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from analytics.metrics.metric import MICROSECONDS, TRILLION, Metric
from analytics.periods import Quarter
from analytics.statistics import (
    clustered_mean_interval,
    kaplan_meier_median,
    poisson_rate_interval,
    quantile_ranks_array,
    wilson_array,
)

Key = tuple[str, str, str, str | None]
"""scope, name, quarter, series"""
SCOPES = ("service", "team", "organization")


@dataclass
class Measured:
    """A value with its parts and interval, in the metric's unit; None where there is none."""

    value: float | None = None
    n: int = 0
    numerator: float | None = None
    denominator: float | None = None
    low: float | None = None
    high: float | None = None
    open: int = 0


class Aggregation:
    """Reduces the view `observations` over the tables `calendar` and `members` of a connection."""

    def __init__(self, con: duckdb.DuckDBPyConnection, quarters: Sequence[Quarter]) -> None:
        self.con = con
        self.quarters = quarters

    def values(self, metrics: Sequence[Metric]) -> dict[str, dict[Key, Measured]]:
        """Values of the metrics that share one query and one kind, by metric."""
        first = metrics[0]
        if first.kind == "quantile":
            return self._quantiles(metrics)
        if first.kind == "recovery_median":
            return {first.name: self._recovery(first)}
        if first.kind == "utilization":
            return {first.name: self._utilization(first)}
        if first.kind == "mean":
            return {first.name: self._means(first)}
        if first.kind in ("per_day", "count"):
            return {first.name: self._counts(first)}
        return {first.name: self._sums(first)}

    def rows(self, metric: Metric) -> dict[Key, Counter[str | None]]:
        """Rows by scope, name, quarter, series and the reason why they are left out, None for those that count."""
        counts: dict[Key, Counter[str | None]] = defaultdict(Counter)
        for scope, name, quarter, series, reason, count in self.con.execute(
            "SELECT m.scope, m.name, o.quarter, o.series, o.excluded, sum(o.rows)::BIGINT FROM "
            "(SELECT subject, c.quarter, series, excluded, count(*) AS rows FROM observations "
            "JOIN calendar c USING (day) GROUP BY ALL) o "
            "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject GROUP BY ALL",
            [metric.subject],
        ).fetchall():
            counts[scope, name, quarter, series][reason] += count
        return counts

    def _counts(self, metric: Metric) -> dict[Key, Measured]:
        found = self.con.execute(
            "SELECT m.scope, m.name, o.quarter, o.series, sum(o.rows)::BIGINT FROM "
            "(SELECT subject, c.quarter, series, count(*) AS rows "
            "FROM observations JOIN calendar c USING (day) WHERE excluded IS NULL GROUP BY ALL) o "
            "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject GROUP BY ALL",
            [metric.subject],
        ).fetchall()
        return {(scope, name, quarter, series): Measured(n=count) for scope, name, quarter, series, count in found}

    def _sums(self, metric: Metric) -> dict[Key, Measured]:
        found = self.con.execute(
            "SELECT m.scope, m.name, o.quarter, o.series, sum(o.numerator)::BIGINT, sum(o.denominator)::BIGINT FROM "
            "(SELECT subject, c.quarter, series, sum(numerator)::BIGINT AS numerator, "
            "sum(denominator)::BIGINT AS denominator "
            "FROM observations JOIN calendar c USING (day) WHERE excluded IS NULL GROUP BY ALL) o "
            "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject GROUP BY ALL",
            [metric.subject],
        ).fetchall()
        found = [row for row in found if row[5]]
        measured = {
            (scope, name, quarter, series): Measured(
                value=hits / trials, n=trials, numerator=float(hits), denominator=float(trials)
            )
            for scope, name, quarter, series, hits, trials in found
        }
        if metric.census or not found:
            return measured
        if metric.kind == "rate":
            # Interventions are counts and may outnumber the deployments.
            for value in measured.values():
                value.low, value.high = poisson_rate_interval(int(value.numerator or 0), value.n)
            return measured
        low, high = wilson_array([row[4] for row in found], [row[5] for row in found])
        for value, lower, upper in zip(measured.values(), low.tolist(), high.tolist(), strict=True):
            value.low, value.high = lower, upper
        return measured

    def _means(self, metric: Metric) -> dict[Key, Measured]:
        """Means of trillionths; the interval allows for several rows of one cluster being alike."""
        found: dict[Key, Measured] = {}
        for scope, name, quarter, series, total, amounts, clusters in self.con.execute(
            "SELECT m.scope, m.name, c.quarter, o.series, sum(o.amount_trillionths), "
            "list(o.amount_trillionths ORDER BY o.amount_trillionths, o.cluster), "
            "list(o.cluster ORDER BY o.amount_trillionths, o.cluster) "
            "FROM observations o JOIN calendar c ON c.day = o.day "
            "JOIN members m ON m.subject_kind = ? AND m.subject = o.subject WHERE o.excluded IS NULL GROUP BY ALL",
            [metric.subject],
        ).fetchall():
            shares = np.array(amounts, dtype=np.float64) / TRILLION
            interval = clustered_mean_interval(shares, clusters)
            found[scope, name, quarter, series] = Measured(
                value=int(total) / (len(amounts) * TRILLION),
                n=len(amounts),
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
            )
        return found

    def _quantiles(self, metrics: Sequence[Metric]) -> dict[str, dict[Key, Measured]]:
        """Every quantile of one query, by metric: each scope is sorted once."""
        first = metrics[0]
        unit = MICROSECONDS[first.unit]
        results: dict[str, dict[Key, Measured]] = {metric.name: {} for metric in metrics}
        for scope in SCOPES:
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
