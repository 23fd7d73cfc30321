"""Rows that count, reduced to one value per scope, name, quarter and series: pooled, never averages of averages.

Source: metrics.md sections 2, 3 and 8; intervals by reports.md section 2.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analytics.engines.port import Engine
from analytics.metrics.metric import MICROSECONDS, TRILLION, Metric, observations_sql
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


def create_observations(engine: Engine, metric: Metric) -> None:
    """Make the views `observations`, a metric's rows with `series`, and `dated`, the same with their quarter."""
    series = "" if metric.series != (None,) else "CAST(NULL AS String) AS series, "
    engine.create_view("observations", f"SELECT {series}seen.* FROM ({observations_sql(metric.query)}) AS seen")
    engine.create_shared("dated", "SELECT o.*, c.quarter FROM observations AS o JOIN calendar AS c ON c.day = o.day")


def _of_members(metric: Metric) -> str:
    """The join of rows `o` with the scopes that their subject belongs to."""
    return f"JOIN members AS m ON m.subject_kind = '{metric.subject}' AND m.subject = o.subject"


class Aggregation:
    """Reduces the view `observations` over the tables `calendar` and `members` of an engine's session."""

    def __init__(self, engine: Engine, quarters: Sequence[Quarter]) -> None:
        self.engine = engine
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
        for scope, name, quarter, series, reason, count in self.engine.rows(
            "SELECT m.scope, m.name, o.quarter, o.series, o.excluded, CAST(sum(o.seen) AS BIGINT) AS seen FROM "
            "(SELECT subject, quarter, series, excluded, count(*) AS seen FROM dated "
            f"GROUP BY subject, quarter, series, excluded) AS o {_of_members(metric)} "
            "GROUP BY m.scope, m.name, o.quarter, o.series, o.excluded"
        ):
            counts[scope, name, quarter, series][reason] += count
        return counts

    def _counts(self, metric: Metric) -> dict[Key, Measured]:
        found = self.engine.rows(
            "SELECT m.scope, m.name, o.quarter, o.series, CAST(sum(o.seen) AS BIGINT) AS seen FROM "
            "(SELECT subject, quarter, series, count(*) AS seen "
            f"FROM dated WHERE excluded IS NULL GROUP BY subject, quarter, series) AS o {_of_members(metric)} "
            "GROUP BY m.scope, m.name, o.quarter, o.series"
        )
        return {(scope, name, quarter, series): Measured(n=count) for scope, name, quarter, series, count in found}

    def _sums(self, metric: Metric) -> dict[Key, Measured]:
        found = self.engine.rows(
            "SELECT m.scope, m.name, o.quarter, o.series, CAST(sum(o.numerator) AS BIGINT) AS numerator, "
            "CAST(sum(o.denominator) AS BIGINT) AS denominator FROM "
            "(SELECT subject, quarter, series, CAST(sum(numerator) AS BIGINT) AS numerator, "
            "CAST(sum(denominator) AS BIGINT) AS denominator "
            f"FROM dated WHERE excluded IS NULL GROUP BY subject, quarter, series) AS o {_of_members(metric)} "
            "GROUP BY m.scope, m.name, o.quarter, o.series"
        )
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
        gathered: dict[Key, list[tuple[int, str | None]]] = defaultdict(list)
        for scope, name, quarter, series, amount, cluster in self.engine.rows(
            "SELECT m.scope, m.name, o.quarter, o.series, o.amount_trillionths, o.cluster "
            f"FROM dated AS o {_of_members(metric)} WHERE o.excluded IS NULL"
        ):
            gathered[scope, name, quarter, series].append((amount, cluster))
        for key, rows in gathered.items():
            rows.sort(key=lambda row: (row[0], row[1] or ""))
            amounts, clusters = [row[0] for row in rows], [row[1] for row in rows]
            shares = np.array(amounts, dtype=np.float64) / TRILLION
            interval = clustered_mean_interval(shares, clusters)
            found[key] = Measured(
                value=sum(amounts) / (len(amounts) * TRILLION),
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
            self.engine.create_table(
                "sorted_amounts",
                "SELECT m.name, o.quarter, o.series, count(*) AS n, sort_array(collect_list(o.amount_us)) AS amounts "
                f"FROM dated AS o {_of_members(first)} AND m.scope = '{scope}' "
                "WHERE o.excluded IS NULL GROUP BY m.name, o.quarter, o.series",
            )
            sizes = sorted(row[0] for row in self.engine.rows("SELECT DISTINCT n FROM sorted_amounts"))
            if not sizes:
                continue
            ranks: dict[str, list[Any]] = {"n": sizes}
            for number, metric in enumerate(metrics):
                low, high = quantile_ranks_array(sizes, metric.quantile)
                # Interpolated between the two values around the place; a rank of 0 gives NULL.
                at = [metric.quantile * (n - 1) for n in sizes]
                ranks |= {f"low_{number}": low.tolist(), f"high_{number}": high.tolist()}
                ranks |= {
                    f"below_{number}": [math.floor(a) + 1 for a in at],
                    f"above_{number}": [math.ceil(a) + 1 for a in at],
                }
            self.engine.create_values("ranks", dict.fromkeys(ranks, "BIGINT"), list(zip(*ranks.values(), strict=True)))
            picked = ", ".join(f"nth(s.amounts, r.{name}) AS {name}" for name in ranks if name != "n")
            for name, quarter, series, n, *found in self.engine.rows(
                f"SELECT s.name, s.quarter, s.series, s.n, {picked} "
                "FROM sorted_amounts AS s JOIN ranks AS r ON r.n = s.n"
            ):
                for number, metric in enumerate(metrics):
                    lower, upper, below, above = found[4 * number : 4 * number + 4]
                    share = math.modf(metric.quantile * (n - 1))[0]
                    results[metric.name][scope, name, quarter, series] = Measured(
                        value=(below + (above - below) * share) / unit,
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
        for scope, name, quarter, count in self.engine.rows(
            "SELECT m.scope, m.name, c.quarter, count(*) AS seen FROM service_incidents AS i "
            "JOIN members AS m ON m.subject_kind = 'service' AND m.subject = i.service "
            "JOIN calendar AS c ON c.day = i.opened_day WHERE i.restored_at IS NULL "
            "GROUP BY m.scope, m.name, c.quarter"
        ):
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
        for scope, name, quarter, amount, is_open in self.engine.rows(
            "SELECT m.scope, m.name, o.quarter, o.amount_us, o.open "
            f"FROM dated AS o {_of_members(metric)} WHERE o.excluded IS NULL"
        ):
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
            for scope, name, quarter, busy, window, runners in self.engine.rows(
                "SELECT scope, name, quarter, CAST(sum(busy) AS BIGINT) AS busy, "
                "CAST(sum(window_us) AS BIGINT) AS window_us, count(*) AS runners FROM "
                "(SELECT m.scope, m.name, o.quarter, o.runner, least(sum(o.numerator), max(o.denominator)) AS busy, "
                f"max(o.denominator) AS window_us FROM dated AS o {_of_members(metric)} "
                "WHERE o.excluded IS NULL GROUP BY m.scope, m.name, o.quarter, o.runner) AS runner_quarters "
                "GROUP BY scope, name, quarter"
            )
            if window
        }
