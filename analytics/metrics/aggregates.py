"""Rows that count, reduced to one value per scope, quarter and series: pooled, never averages of averages.

Source: metrics.md sections 2, 3 and 8; intervals by reports.md section 2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analytics.change_tests import Groups
from analytics.engines import Engine
from analytics.metrics.coverage import SCOPES
from analytics.metrics.grid import FloatArray, Grid, IntArray, create_observations, members_join, place_sql
from analytics.metrics.metric import MICROSECONDS, TRILLION, Metric
from analytics.statistics import (
    clustered_mean_interval,
    interpolated,
    kaplan_meier_median,
    poisson_limits_array,
    quantile_ranks_array,
    wilson_array,
)

# Up to so many durations are sorted here, in some 500 MB; more stay with the engine.
MOST_ROWS_HERE = 4_000_000


@dataclass
class Measured:
    """Values with their parts and intervals, in the metric's unit, by place; NaN where there is none."""

    value: FloatArray
    n: IntArray
    numerator: FloatArray
    denominator: FloatArray
    low: FloatArray
    high: FloatArray
    open: IntArray

    @classmethod
    def nothing(cls, size: int) -> Measured:
        """Nothing measured at any place."""
        value, numerator, denominator, low, high = np.full((5, size), np.nan)
        n, still_open = np.zeros((2, size), dtype=np.int64)
        return cls(value, n, numerator, denominator, low, high, still_open)


@dataclass
class Tally:
    """Rows by place and the reason why they are left out: the counted ones by place, the others one by one."""

    counted: IntArray
    places: IntArray
    reasons: list[str]
    rows: IntArray


class Aggregation:
    """Reduces the observations of one query on an engine's session, over its tables `measured_days` and `members`."""

    def __init__(self, engine: Engine, grid: Grid, metric: Metric) -> None:
        self.engine = engine
        self.grid = grid
        self.metric = metric
        self.size = grid.size(metric)
        self._sums: tuple[IntArray, IntArray] | None = None
        # By scope: durations in order, where they were fetched.
        self.ordered: dict[str, Groups] = {}
        create_observations(engine, metric)

    def tally(self) -> Tally:
        """Rows by place and reason; what can be summed is summed in the same pass over the observations."""
        summed = self.metric.kind in ("ratio", "rate")
        parts = ("numerator", "denominator") if summed else ()
        inner, outer = (
            "".join(f", CAST(sum({rows}{part}) AS BIGINT) AS {part}" for part in parts) for rows in ("", "o.")
        )
        # By subject first: three scopes then join thousands of rows instead of millions.
        inside = "subject_number, quarter_number, series_number, excluded"
        found = self.engine.rows(
            f"SELECT {place_sql(self.grid, self.metric)} AS place, o.excluded, CAST(sum(o.seen) AS BIGINT) AS seen"
            f"{outer} FROM (SELECT {inside}, count(*) AS seen{inner} FROM dated GROUP BY {inside}) AS o "
            f"{members_join(self.metric)} GROUP BY m.scope_number, o.quarter_number, o.series_number, o.excluded"
        )
        place, reasons, *numbers = zip(*found, strict=True) if found else ((), (), (), *((),) * len(parts))
        places, said = np.array(place, dtype=np.int64), np.array(reasons, dtype=object)
        counts = np.zeros((3, self.size), dtype=np.int64)
        left_out = np.array([reason is not None for reason in reasons], dtype=bool)
        for row, column in enumerate(numbers):
            counts[row, places[~left_out]] = np.array(column, dtype=np.int64)[~left_out]
        self._sums = (counts[1], counts[2]) if summed else None
        rows = np.array(numbers[0], dtype=np.int64)[left_out]
        return Tally(counts[0], places[left_out], said[left_out].tolist(), rows)

    def values(self, metrics: Sequence[Metric], tally: Tally) -> dict[str, Measured]:
        """Values of the metrics that share this query and one kind, by metric."""
        kind = self.metric.kind
        if kind == "quantile":
            return self._quantiles(metrics, int(tally.counted[self.grid.places_of(self.metric, "organization")].sum()))
        if kind == "recovery_median":
            return {self.metric.name: self._recovery()}
        if kind == "utilization":
            return {self.metric.name: self._utilization()}
        if kind == "mean":
            return {self.metric.name: self._means()}
        found = Measured.nothing(self.size)
        if kind in ("per_day", "count"):
            found.n = tally.counted.copy()
        elif self._sums is not None:
            self._shares(found, *self._sums)
        return {self.metric.name: found}

    def weekly(self) -> FloatArray:
        """Counted rows per place and whole ISO week of its quarter, weeks without any as zero."""
        weeks = np.zeros((self.size, int(self.grid.weeks.max(initial=0))))
        place, week, count = self.engine.arrays(
            f"SELECT {place_sql(self.grid, self.metric)} AS place, o.week_number, CAST(sum(o.seen) AS BIGINT) AS seen "
            "FROM (SELECT subject_number, quarter_number, series_number, week_number, count(*) AS seen FROM dated "
            "WHERE excluded IS NULL AND week_number >= 0 "
            f"GROUP BY subject_number, quarter_number, series_number, week_number) AS o {members_join(self.metric)} "
            "GROUP BY m.scope_number, o.quarter_number, o.series_number, o.week_number"
        )
        weeks[place, week] = count
        return weeks

    def _shares(self, found: Measured, hits: IntArray, trials: IntArray) -> None:
        known = np.flatnonzero(trials)
        k, n = hits[known], trials[known]
        found.value[known], found.n[known] = k / n, n
        found.numerator[known], found.denominator[known] = k, n
        if self.metric.census or not known.size:
            return
        if self.metric.kind == "rate":
            # Interventions are counts and may outnumber the deployments.
            low, high = poisson_limits_array(k, np.ones(k.size), np.zeros(k.size))
            found.low[known], found.high[known] = low / n, high / n
        else:
            found.low[known], found.high[known] = wilson_array(k, n)

    def _means(self) -> Measured:
        """Means of trillionths; the interval allows for several rows of one cluster being alike."""
        found = Measured.nothing(self.size)
        gathered: dict[int, list[tuple[int, str | None]]] = defaultdict(list)
        for place, amount, cluster in self.engine.rows(
            f"SELECT {place_sql(self.grid, self.metric)} AS place, o.amount_trillionths, o.cluster "
            f"FROM dated AS o {members_join(self.metric)} WHERE o.excluded IS NULL"
        ):
            gathered[place].append((amount, cluster))
        for place, rows in gathered.items():
            rows.sort(key=lambda row: (row[0], row[1] or ""))
            amounts, clusters = [row[0] for row in rows], [row[1] for row in rows]
            shares = np.array(amounts, dtype=np.float64) / TRILLION
            found.value[place], found.n[place] = sum(amounts) / (len(amounts) * TRILLION), len(amounts)
            if (interval := clustered_mean_interval(shares, clusters)) is not None:
                found.low[place], found.high[place] = interval
        return found

    def _quantiles(self, metrics: Sequence[Metric], rows: int) -> dict[str, Measured]:
        """Every quantile of one query, by metric: each scope is sorted once."""
        results = {metric.name: Measured.nothing(self.size) for metric in metrics}
        if rows <= MOST_ROWS_HERE:
            self._order_here(results, metrics)
        else:
            self._order_there(results, metrics)
        if "incident_time_to_restore" in results:
            results["incident_time_to_restore"].open = self._open_incidents()
        return results

    def _order_here(self, results: dict[str, Measured], metrics: Sequence[Metric]) -> None:
        """Fetch every duration once and sort it: fewer passes than an engine needs for as many scopes."""
        unit = MICROSECONDS[self.metric.unit]
        width = len(self.grid.quarters) * len(self.metric.series)
        cell, amount = self.engine.arrays(
            f"SELECT subject_number * {width} + quarter_number * {len(self.metric.series)} + series_number AS cell, "
            "amount_us FROM dated WHERE excluded IS NULL"
        )
        if not cell.size:
            return
        cell, amount = _ascending(cell.astype(np.int64), amount.astype(np.int64))
        for scope in SCOPES:
            if (belonging := self.grid.belonging.get((self.metric.subject, scope))) is None:
                continue
            row, place = belonging.places(cell, width)
            ordered = amount if row is None else amount[row]
            groups = self.ordered[scope] = Groups.of_ascending(ordered.astype(np.float64), place, self.size)
            places = np.flatnonzero(groups.sizes)
            starts, n, values = groups.starts[places], groups.sizes[places], groups.values
            for metric in metrics:
                between, measured = metric.quantile * (n - 1), results[metric.name]
                below, above = (
                    values[starts + np.floor(between).astype(np.int64)],
                    values[starts + np.ceil(between).astype(np.int64)],
                )
                measured.n[places] = n
                measured.value[places] = (below + (above - below) * (between - np.floor(between))) / unit
                low, high = quantile_ranks_array(n, metric.quantile)
                known = low > 0
                measured.low[places[known]] = values[starts[known] + low[known] - 1] / unit
                measured.high[places[known]] = values[starts[known] + high[known] - 1] / unit

    def _order_there(self, results: dict[str, Measured], metrics: Sequence[Metric]) -> None:
        """Let the engine sort each scope, and bring only what a quantile and its interval are read from."""
        unit = MICROSECONDS[self.metric.unit]
        for scope in SCOPES:
            # One scope at a time: sorted lists of ten million durations for three scopes at once would not fit.
            self.engine.create_table(
                "sorted_amounts",
                f"SELECT {place_sql(self.grid, self.metric)} AS place, count(*) AS n, "
                "sort_array(collect_list(o.amount_us)) AS amounts "
                f"FROM dated AS o {members_join(self.metric)} AND m.scope = '{scope}' "
                "WHERE o.excluded IS NULL GROUP BY m.scope_number, o.quarter_number, o.series_number",
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
            picked = ", ".join(f"coalesce(nth(s.amounts, r.{name}), 0) AS {name}" for name in ranks if name != "n")
            ranked = ", ".join(f"r.low_{number} AS rank_{number}" for number in range(len(metrics)))
            place, n, *found = self.engine.arrays(
                f"SELECT s.place, s.n, {picked}, {ranked} FROM sorted_amounts AS s JOIN ranks AS r ON r.n = s.n"
            )
            for number, metric in enumerate(metrics):
                lower, upper, below, above = found[4 * number : 4 * number + 4]
                known = found[4 * len(metrics) + number] > 0
                at_place, measured = metric.quantile * (n - 1), results[metric.name]
                measured.n[place] = n
                measured.value[place] = (below + (above - below) * (at_place - np.floor(at_place))) / unit
                measured.low[place] = np.where(known, lower / unit, np.nan)
                measured.high[place] = np.where(known, upper / unit, np.nan)

    def _open_incidents(self) -> IntArray:
        """Incidents that were opened in or before a quarter and had not ended at the cut-off."""
        opened = np.zeros(self.grid.shape, dtype=np.int64)
        names = [str(quarter) for quarter in self.grid.quarters]
        for scope, quarter, count in self.engine.rows(
            "SELECT m.scope_number, c.quarter, count(*) AS seen FROM service_incidents AS i "
            "JOIN members AS m ON m.subject_kind = 'service' AND m.subject = i.service "
            "JOIN calendar AS c ON c.day = i.opened_day WHERE i.restored_at IS NULL "
            "GROUP BY m.scope_number, c.quarter"
        ):
            for number, name in enumerate(names):
                opened[scope, number] += count if quarter <= name else 0
        return opened.reshape(-1)

    def _recovery(self) -> Measured:
        unit = MICROSECONDS[self.metric.unit]
        found = Measured.nothing(self.size)
        place, amount, running = self.engine.arrays(
            f"SELECT {place_sql(self.grid, self.metric)} AS place, o.amount_us, "
            "CASE WHEN o.open THEN 1 ELSE 0 END AS running "
            f"FROM dated AS o {members_join(self.metric)} WHERE o.excluded IS NULL"
        )
        hours = amount / unit
        ended, running_still = (
            Groups.of(hours[running == state], place[running == state], self.size) for state in (0, 1)
        )
        found.n, found.open = ended.sizes, running_still.sizes
        self._medians(found, ended, np.flatnonzero((ended.sizes > 0) & (running_still.sizes == 0)))
        for at in np.flatnonzero(running_still.sizes).tolist():
            median = kaplan_meier_median(ended[at], running_still[at])
            for column, number in ((found.value, median.value), (found.low, median.low), (found.high, median.high)):
                column[at] = np.nan if number is None else number
        return found

    def _medians(self, found: Measured, groups: Groups, places: IntArray) -> None:
        """Where nothing is open: the interpolated median and its exact interval, of many samples at once."""
        starts, sizes = groups.starts[places], groups.sizes[places]
        middle = (sizes - 1) / 2
        low = np.floor(middle).astype(np.int64)
        values = groups.values
        found.value[places] = interpolated(
            values[starts + low], values[starts + np.ceil(middle).astype(np.int64)], middle - low
        )
        lower, upper = quantile_ranks_array(sizes, 0.5)
        known = lower > 0
        found.low[places[known]] = values[starts[known] + lower[known] - 1]
        found.high[places[known]] = values[starts[known] + upper[known] - 1]

    def _utilization(self) -> Measured:
        hour = MICROSECONDS["hours"]
        found = Measured.nothing(self.size)
        for place, busy, window, runners in self.engine.rows(
            "SELECT place, CAST(sum(busy) AS BIGINT) AS busy, "
            "CAST(sum(window_us) AS BIGINT) AS window_us, count(*) AS runners FROM "
            f"(SELECT {place_sql(self.grid, self.metric)} AS place, o.runner, "
            "least(sum(o.numerator), max(o.denominator)) AS busy, max(o.denominator) AS window_us "
            f"FROM dated AS o {members_join(self.metric)} WHERE o.excluded IS NULL "
            "GROUP BY m.scope_number, o.quarter_number, o.series_number, o.runner) AS runner_quarters GROUP BY place"
        ):
            if window:
                found.value[place], found.n[place] = busy / window, runners
                found.numerator[place], found.denominator[place] = busy / hour, window / hour
        return found


def _ascending(cell: IntArray, amount: IntArray) -> tuple[IntArray, IntArray]:
    """Both by ascending amount."""
    bits, least = int(cell.max()).bit_length(), int(amount.min())
    if (int(amount.max()) - least).bit_length() + bits > 62:
        order = np.argsort(amount)
        return cell[order], amount[order]
    # Both in one number: sorting numbers is some ten times as fast as finding their order.
    joined = np.sort(((amount - least) << bits) | cell)
    return joined & ((1 << bits) - 1), (joined >> bits) + least
