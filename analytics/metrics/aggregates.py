"""Rows that count, reduced to one value per scope, quarter and series: pooled, never averages of averages.

Source: metrics.md sections 2, 3 and 8; intervals by reports.md section 2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.engines import Engine
from analytics.metrics.coverage import SCOPES
from analytics.metrics.grid import Grid, cell_sql, create_observations, members_join, place_sql
from analytics.metrics.metric import MICROSECONDS, TRILLION, Metric
from analytics.samples import FloatArray, Groups, IntArray, PackedGroups
from analytics.statistics import (
    clustered_mean_interval,
    interpolated,
    kaplan_meier_medians,
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


class LeftOut(NamedTuple):
    """Rows that do not count: how many of each cell for which reason."""

    cells: IntArray
    reasons: npt.NDArray[np.object_]
    rows: IntArray


class Durations(NamedTuple):
    """Durations that count, the cell of each, and a number that it shares with its cluster alone (-1: it has none)."""

    cells: IntArray
    amounts: IntArray
    clusters: IntArray | None


@dataclass
class Tally:
    """Rows by place: the counted ones, and the others by the reason why they are left out.

    Of entry i, `rows[i]` rows of `places[i]` were left out for `reasons[why[i]]`; entries are in the order of place and
    reason.
    """

    counted: IntArray
    places: IntArray
    why: IntArray
    rows: IntArray
    reasons: list[str]


class Aggregation:
    """Reduces the observations of one query on an engine's session, over its tables `measured_days` and `members`."""

    def __init__(self, engine: Engine, grid: Grid, metric: Metric, *, clustered: bool = False) -> None:
        """`clustered`: durations are asked for with what belongs together, for a test of them."""
        self.engine = engine
        self.grid = grid
        self.metric = metric
        self.size = grid.size(metric)
        self._sums: tuple[IntArray, IntArray] | None = None
        self._weekly: FloatArray | None = None
        self._clustered = clustered
        # What was fetched instead of counted.
        self.durations: Durations | None = None
        # By scope, where they were fetched: durations that ended, and those still running.
        self.samples: dict[str, tuple[Groups, Groups]] = {}
        create_observations(engine, metric)

    def rows_at_most(self) -> int:
        """At least as many as will be fetched, from a count that reads no row; 0 where rows are only counted."""
        if self.metric.kind not in ("quantile", "recovery_median", "mean"):
            return 0
        ((rows,),) = self.engine.rows(f"SELECT count(*) AS seen FROM ({self.metric.observations_sql()}) AS o")
        return int(rows)

    def tally(
        self,
        *,
        by_week: bool = False,
        left_out: Callable[[], LeftOut] | None = None,
    ) -> Tally:
        """Rows by place and reason; what else can be counted is counted in the same pass over the observations.

        `left_out` gives what `read_left_out` gives, where somebody asks for it already.
        """
        if self.durations is not None:
            out = left_out() if left_out else read_left_out(self.engine, self.grid, self.metric)
            seen = np.bincount(self.durations.cells)
            cells = np.flatnonzero(seen)
            excluded = np.concatenate([np.full(cells.size, None, dtype=object), out.reasons])
            rows = np.concatenate([seen[cells], out.rows])
            return self._pooled(np.concatenate([cells, out.cells]), excluded, [rows], by_week=False)
        summed = self.metric.kind in ("ratio", "rate")
        parts = ("numerator", "denominator") if summed else ()
        sums = "".join(f", CAST(sum(o.{part}) AS BIGINT) AS {part}" for part in parts)
        week = ", o.week_number" if by_week else ""
        # By subject: scopes then pool some thousand rows instead of millions.
        cells, excluded, *numbers = self.engine.arrays(
            f"SELECT {cell_sql(self.grid, self.metric)} AS cell, o.excluded, count(*) AS seen{sums}{week} "
            f"FROM dated AS o GROUP BY o.subject_number, o.quarter_number, o.series_number, o.excluded{week}"
        )
        return self._pooled(cells, excluded, numbers, by_week=by_week)

    def _pooled(
        self, cells: IntArray, excluded: npt.NDArray[np.object_], numbers: Sequence[IntArray], *, by_week: bool
    ) -> Tally:
        """Counts by cell as counts by place: rows, and where they are asked for numerators, denominators and weeks."""
        summed = self.metric.kind in ("ratio", "rate")
        why, reasons = _numbered(excluded.tolist())
        counts = np.zeros((3, self.size), dtype=np.int64)
        self._weekly = np.zeros((self.size, int(self.grid.weeks.max(initial=0)))) if by_week else None
        kept = np.flatnonzero(why < 0)
        for _, row, place in self.grid.places_by_scope(self.metric, cells[kept]):
            mine = [number[kept if row is None else kept[row]] for number in numbers]
            for count, number in zip(counts, mine[: 3 if summed else 1], strict=False):
                np.add.at(count, place, number)
            if self._weekly is not None:
                whole = mine[-1] >= 0
                at = place[whole].astype(np.int64) * self._weekly.shape[1] + mine[-1][whole]
                counted = np.bincount(at, weights=mine[0][whole], minlength=self._weekly.size)
                self._weekly += counted.reshape(self._weekly.shape)
        self._sums = (counts[1], counts[2]) if summed else None
        out = np.flatnonzero(why >= 0)
        rows, why = numbers[0][out], why[out]
        entries: list[tuple[IntArray, IntArray]] = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
        for _, row, place in self.grid.places_by_scope(self.metric, cells[out]):
            chosen = slice(None) if row is None else row
            entries.append((place.astype(np.int64) * max(len(reasons), 1) + why[chosen], rows[chosen]))
        entry, number = (np.concatenate(column) for column in zip(*entries, strict=True))
        known, of_entry = np.unique(entry, return_inverse=True)
        summed_rows = np.zeros(known.size, dtype=np.int64)
        np.add.at(summed_rows, of_entry, number)
        places, why = np.divmod(known, max(len(reasons), 1))
        return Tally(counts[0], places, why, summed_rows, reasons)

    def values(self, metrics: Sequence[Metric], tally: Tally) -> dict[str, Measured]:
        """Values of the metrics that share this query and one kind, by metric."""
        kind = self.metric.kind
        if kind == "quantile":
            return self._quantiles(metrics)
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
        """Counted rows per place and whole ISO week of its quarter, from a tally by week."""
        assert self._weekly is not None
        return self._weekly

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

    def _quantiles(self, metrics: Sequence[Metric]) -> dict[str, Measured]:
        """Every quantile of one query, by metric: each scope is sorted once."""
        results = {metric.name: Measured.nothing(self.size) for metric in metrics}
        if self.durations is not None:
            self._order_here(results, metrics, self.durations)
        else:
            self._order_there(results, metrics)
        if "incident_time_to_restore" in results:
            results["incident_time_to_restore"].open = self._open_incidents()
        return results

    def fetch(self, rows_at_most: int) -> None:
        """Bring every duration here once, if they are few; an engine would sort them for each scope."""
        if self.metric.kind != "quantile" or rows_at_most > MOST_ROWS_HERE:
            return
        # A million texts take as long to bring here as all the rest. That two of one subject and quarter share a number
        # is not to be expected; a test would take them for one deployment.
        cluster = ", CASE WHEN o.cluster IS NULL THEN -1 ELSE text_number(o.cluster) END AS cluster"
        cells, amounts, *clusters = self.engine.numbers(
            f"SELECT {cell_sql(self.grid, self.metric)} AS cell, o.amount_us{cluster if self._clustered else ''} "
            "FROM dated AS o WHERE o.excluded IS NULL"
        )
        self.durations = Durations(cells, amounts, clusters[0] if clusters else None)

    def _order_here(self, results: dict[str, Measured], metrics: Sequence[Metric], durations: Durations) -> None:
        """Sort the durations of each scope; where tests take them as they are, from all of them by ascending amount."""
        unit = MICROSECONDS[self.metric.unit]
        cells, amounts, clusters = durations
        if clusters is None:
            cells, amounts = _ascending(cells, amounts)
        keys = np.empty(0 if clusters is None else cells.size, dtype=np.int64)
        for scope, row, place in self.grid.places_by_scope(self.metric, cells):
            mine = amounts if row is None else amounts[row]
            groups: Groups | PackedGroups
            if clusters is None:
                groups = Groups.of_ascending(mine.astype(np.float64), place, self.size)
                self.samples[scope] = groups, Groups.nothing(self.size)
            else:
                groups = PackedGroups.of(mine, place, self.size, keys[: place.size] if row is None else None)
            places = np.flatnonzero(groups.sizes)
            for metric in metrics:
                self._quantile(results[metric.name], groups, places, metric.quantile, unit)

    def _quantile(self, found: Measured, groups: Groups | PackedGroups, places: IntArray, p: float, unit: int) -> None:
        """An interpolated quantile and its exact interval, of many samples at once."""
        starts, n, value_at = groups.starts[places], groups.sizes[places], groups.at
        between = p * (n - 1)
        below, above = (value_at(starts + bound(between).astype(np.int64)) for bound in (np.floor, np.ceil))
        found.n[places] = n
        found.value[places] = (below + (above - below) * (between - np.floor(between))) / unit
        low, high = quantile_ranks_array(n, p)
        known = low > 0
        found.low[places[known]] = value_at(starts[known] + low[known] - 1) / unit
        found.high[places[known]] = value_at(starts[known] + high[known] - 1) / unit

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
        cell, amount, running = self.engine.arrays(
            f"SELECT {cell_sql(self.grid, self.metric)} AS cell, o.amount_us, "
            "CASE WHEN o.open THEN 1 ELSE 0 END AS running FROM dated AS o WHERE o.excluded IS NULL"
        )
        hours = amount / unit
        for scope, row, place in self.grid.places_by_scope(self.metric, cell):
            chosen = slice(None) if row is None else row
            ended, open_ones = self.samples[scope] = ended_and_open(place, hours[chosen], running[chosen], self.size)
            found.n += ended.sizes
            found.open += open_ones.sizes
            self._medians(found, ended, np.flatnonzero((ended.sizes > 0) & (open_ones.sizes == 0)))
            censored = np.flatnonzero(open_ones.sizes)
            medians = kaplan_meier_medians(ended.chosen(censored), open_ones.chosen(censored))
            found.value[censored], found.low[censored], found.high[censored] = medians
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


def read_left_out(engine: Engine, grid: Grid, metric: Metric) -> LeftOut:
    """Count the rows that a metric leaves out. Makes the view of `create_observations`."""
    create_observations(engine, metric)
    return LeftOut(
        *engine.arrays(
            f"SELECT {cell_sql(grid, metric)} AS cell, o.excluded, count(*) AS seen FROM dated AS o "
            "WHERE o.excluded IS NOT NULL GROUP BY o.subject_number, o.quarter_number, o.series_number, o.excluded"
        )
    )


def ended_and_open(
    place: IntArray, amounts: npt.NDArray[Any], running: npt.NDArray[Any], size: int, *, ascending: bool = False
) -> tuple[Groups, Groups]:
    """Durations by place: those that ended, and those still running (1, not 0)."""
    group = Groups.of_ascending if ascending else Groups.of
    if not running.any():
        return group(amounts, place, size), Groups.nothing(size)
    ended, open_ones = (group(amounts[running == state], place[running == state], size) for state in (0, 1))
    return ended, open_ones


def _numbered(texts: Sequence[str | None]) -> tuple[IntArray, list[str]]:
    """The number of each text among those that occur, which are sorted; -1 for None."""
    known = sorted(text for text in set(texts) if text is not None)
    numbers: dict[str | None, int] = {text: number for number, text in enumerate(known)}
    numbers[None] = -1
    return np.array([numbers[text] for text in texts], dtype=np.int64), known


def _ascending(cell: IntArray, amount: IntArray) -> tuple[IntArray, IntArray]:
    """Both by ascending amount."""
    if not cell.size:
        return cell, amount
    bits, least = int(cell.max()).bit_length(), int(amount.min())
    if (int(amount.max()) - least).bit_length() + bits > 62:
        order = np.argsort(amount)
        return cell[order], amount[order]
    # Both in one number: sorting numbers is some ten times as fast as finding their order.
    joined = amount - least
    joined <<= bits
    joined |= cell
    joined.sort()
    cell = joined & ((1 << bits) - 1)
    joined >>= bits
    joined += least
    return cell, joined
