"""The word beside a value: whether it changed against the quarter before, by a test and never by its sign.

What a reader sees together is corrected together. One page holds every measure of the organisation: one family.
Services (teams) are seen beside each other, measure by measure: each measure is a family. But all services and all
measures are also seen at once, so everything is first tested together, and only where something stands out there are
the families read. Where nothing has changed, at most 5 % of quarters say that anything did, however many measures there
are (`python -m benchmarks.readings`). Source: reports.md section 2; Benjamini and Hochberg 1995
(doi:10.1111/j.2517-6161.1995.tb02031.x); families read only after a test of all of them: Benjamini and Bogomolov 2014
(doi:10.1111/rssb.12028).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.change_tests import (
    Changes,
    proportions_changed,
    quantiles_changed,
    rates_changed,
    samples_changed,
)
from analytics.comparisons import Direction, Reading, read_changes
from analytics.engines import Engine
from analytics.metrics.aggregates import Durations, Measured, ended_and_open
from analytics.metrics.coverage import SCOPES
from analytics.metrics.grid import Grid, cell_sql, create_observations, members_join, place_sql
from analytics.metrics.metric import Metric
from analytics.samples import FloatArray, Groups, IntArray, PackedGroups, first_runs
from analytics.statistics import MIN_N_MEDIAN, poisson_dispersions, weekly_deviations

TOO_FEW: Reading = "too few data"
# The same few things counted in both quarters, or windows that overlap, are no independent trials.
NOT_TESTED = "not tested"
STANDS_OUT = frozenset({"better", "worse", "changed"})
# Older quarters were read when they were new; their packs keep the word.
READ_QUARTERS = 9


@dataclass(frozen=True)
class Family:
    """Comparisons of one measure that a reader sees together: the same scope, quarter and series.

    `rows` says whose comparisons they are; a p-value is NaN where there are too few data.
    """

    metric: str
    scope: str
    quarter: str
    rows: Sequence[int] | IntArray
    p_values: FloatArray
    directions: IntArray
    better: Direction | None


def read_families(made: Iterable[Family], count: int) -> npt.NDArray[np.object_]:
    """A word for each row from 0 to `count` - 1, from the families of every metric; None for a row of no family."""
    together: dict[tuple[str, str], list[Family]] = {}
    for family in made:
        together.setdefault((family.scope, family.quarter), []).append(family)
    words: npt.NDArray[np.object_] = np.full(count, None, dtype=object)
    for (scope, _), seen in together.items():
        changes = Changes(
            np.concatenate([family.p_values for family in seen]), np.concatenate([family.directions for family in seen])
        )
        better = [one for family in seen for one in [family.better] * len(family.rows)]
        pooled = read_changes(changes, better)
        if scope == "organization" or STANDS_OUT.isdisjoint(pooled.tolist()):
            words[np.concatenate([family.rows for family in seen])] = pooled
            continue
        for family in seen:
            words[family.rows] = read_changes(Changes(family.p_values, family.directions), family.better)
    return words


class Comparing:
    """Holds each value of the chosen quarters against the quarter before; nothing is said where a metric is not tested.

    Needs the view of `create_observations` and the days of each chosen quarter and of the one before.
    """

    def __init__(
        self,
        engine: Engine,
        grid: Grid,
        metric: Metric,
        days: IntArray,
        weekly: FloatArray | None,
        samples: Mapping[str, tuple[Groups, Groups]],
        medians: Future[Values | None] | None = None,
    ) -> None:
        """`medians` are what `median_by_cluster` gives, where the durations are here."""
        self.engine = engine
        self.grid = grid
        self.metric = metric
        self.days = days
        self.weekly = weekly
        self.samples = samples
        self._groups: dict[str, tuple[Groups, Groups]] = {}
        self._medians = medians
        self._spelling: Spelling | None = None
        self._values: tuple[Values | None] | None = None

    def changes(self, metric: Metric, found: Measured, quarters: Sequence[int]) -> Changes:
        """A p-value and direction by place; `metric` is one of those that share the query."""
        size = found.n.size
        made = Changes(np.full(size, np.nan), np.zeros(size, dtype=np.int64))
        if not metric.tested:
            return made
        for scope in SCOPES:
            scopes = self.grid.of_scope[scope]
            pairs = [
                (
                    self.grid.places(metric, scopes, quarter - 1, series),
                    self.grid.places(metric, scopes, quarter, series),
                )
                for quarter in quarters
                if quarter > 0 and self.grid.quarters[quarter - 1] == self.grid.quarters[quarter].plus(-1)
                for series in range(len(metric.series))
            ]
            if not pairs:
                continue
            old, new = (np.concatenate(side) for side in zip(*pairs, strict=True))
            asked = self._ask(metric, scope, found, old, new)
            made.p_values[new], made.directions[new] = asked
        return made

    def _ask(self, metric: Metric, scope: str, found: Measured, old: IntArray, new: IntArray) -> Changes:
        if metric.kind in ("quantile", "recovery_median", "mean"):
            return self._samples(metric, scope, found, old, new)
        if metric.kind in ("per_day", "count"):
            known = (self.days[old] > 0) & (self.days[new] > 0)
            exposure, weekly = self.days, self.weekly
            counts = found.n
        elif metric.kind == "rate":
            # Counts per deployment, where both quarters have deployments.
            known = (np.nan_to_num(found.denominator[old]) > 0) & (np.nan_to_num(found.denominator[new]) > 0)
            exposure, weekly = found.n, None
            counts = np.nan_to_num(found.numerator).astype(np.int64)
        else:
            known = ~np.isnan(found.value[old]) & ~np.isnan(found.value[new])
            k, n = np.nan_to_num(found.numerator).astype(np.int64), np.nan_to_num(found.denominator).astype(np.int64)
            return _at(known, proportions_changed(k[old[known]], n[old[known]], k[new[known]], n[new[known]]))
        first, second = old[known], new[known]
        ratios = degrees = None
        if weekly is not None:
            ratios, degrees = self._dispersions(weekly, first, second)
        return _at(
            known, rates_changed(counts[first], exposure[first], counts[second], exposure[second], ratios, degrees)
        )

    def _dispersions(self, weekly: FloatArray, old: IntArray, new: IntArray) -> tuple[FloatArray, IntArray]:
        deviations, degrees = deviations_by_place(self.grid, self.metric, weekly)
        return poisson_dispersions(deviations[old] + deviations[new], degrees[old] + degrees[new])

    def _samples(self, metric: Metric, scope: str, found: Measured, old: IntArray, new: IntArray) -> Changes:
        """Test each pair; durations are read only when there are enough somewhere for any test."""
        size = found.n + found.open
        if not (np.minimum(size[old], size[new]) >= MIN_N_MEDIAN).any():
            return Changes(np.full(old.size, np.nan), np.zeros(old.size, dtype=np.int64))
        if scope not in self._groups:
            self._groups[scope] = self._load(scope)
        ended, running = self._groups[scope]
        # A rank knows no unit: microseconds and trillionths stay what they are.
        if metric.kind == "quantile" and metric.quantile != 0.5:
            return quantiles_changed(ended, old, new, metric.quantile)
        return samples_changed(ended, running, old, new)

    def _load(self, scope: str) -> tuple[Groups, Groups]:
        """Durations (shares) of a scope by place: those that ended, and open ones; in any unit, as ranks know none."""
        if self._spelling is None:
            self._spelling = Spelling.of(self.engine, self.metric)
        if not self._spelling.clustered and scope in self.samples:
            return self.samples[scope]
        if self._values is None:
            self._values = (self._independent(),)
        size = self.grid.size(self.metric)
        (values,) = self._values
        if values is None:
            return self._load_spanning(scope, self._spelling)
        cells, amounts, running = values
        for of_scope, row, place in self.grid.places_by_scope(self.metric, cells):
            if of_scope == scope:
                chosen = slice(None) if row is None else row
                return ended_and_open(place, amounts[chosen], running[chosen], size, ascending=True)
        return Groups.nothing(size), Groups.nothing(size)

    def _independent(self) -> Values | None:
        if self._medians is not None:
            return self._medians.result()
        return independent_values(self.engine, self.grid, self.metric)

    def _load_spanning(self, scope: str, spelling: Spelling) -> tuple[Groups, Groups]:
        """The same where clusters span subjects, so that each scope has medians of its own."""
        of_scope = f"FROM dated AS o {members_join(self.metric)} AND m.scope = '{scope}' WHERE o.excluded IS NULL"
        amount, running = spelling.amount, spelling.running
        place, amounts, still = self.engine.arrays(
            f"SELECT {place_sql(self.grid, self.metric)} AS place, percentile({amount}, 0.5e0) AS amount, "
            f"max({running}) AS running {of_scope} AND o.cluster IS NOT NULL "
            "GROUP BY m.scope_number, o.quarter_number, o.series_number, o.cluster UNION ALL "
            f"SELECT {place_sql(self.grid, self.metric)} AS place, CAST({amount} AS DOUBLE) AS amount, "
            f"{running} AS running {of_scope} AND o.cluster IS NULL"
        )
        return ended_and_open(place, amounts, still, self.grid.size(self.metric))


# Cells, amounts, and whether they are still running (1) or not (0), by ascending amount.
Values = tuple[IntArray, FloatArray, IntArray]


@dataclass(frozen=True)
class Spelling:
    """How a query spells its amounts, which of them are still running, and whether it says what belongs together."""

    amount: str
    running: str
    clustered: bool

    @classmethod
    def of(cls, engine: Engine, metric: Metric) -> Spelling:
        """Of the metric's observations."""
        columns = engine.columns(metric.observations_sql())
        amount = "o.amount_us" if "amount_us" in columns else "o.amount_trillionths"
        running = "CASE WHEN o.open THEN 1 ELSE 0 END" if "open" in columns else "0"
        return cls(amount, running, "cluster" in columns)


def independent_values(engine: Engine, grid: Grid, metric: Metric) -> Values | None:
    """Values that a test may take for independent, by cell; None where no values by subject are.

    Commits of one deployment are not: their median stands for them (`group_medians`). Where a cluster (one deployment
    of several services) spans subjects, even that is not enough: a team's median is of all. Makes the view of
    `create_observations`.
    """
    create_observations(engine, metric)
    spelling = Spelling.of(engine, metric)
    query = (
        f"SELECT {cell_sql(grid, metric)} AS cell, CAST({spelling.amount} AS DOUBLE) AS amount, "
        f"{spelling.running} AS running, 0 AS spanning FROM dated AS o WHERE o.excluded IS NULL"
    )
    if spelling.clustered:
        query = (
            f"SELECT {cell_sql(grid, metric)} AS cell, o.amount, o.running, "
            "CASE WHEN o.subject_number < o.last_subject THEN 1 ELSE 0 END AS spanning FROM ("
            "SELECT min(o.subject_number) AS subject_number, max(o.subject_number) AS last_subject, o.quarter_number, "
            f"o.series_number, percentile({spelling.amount}, 0.5e0) AS amount, max({spelling.running}) AS running "
            "FROM dated AS o WHERE o.excluded IS NULL AND o.cluster IS NOT NULL "
            f"GROUP BY o.quarter_number, o.series_number, o.cluster) AS o UNION ALL {query} AND o.cluster IS NULL"
        )
    cells, amounts, running, spanning = engine.arrays(query)
    if _any_spans(spanning):
        return None
    # Whatever is made of them wants them in order.
    order = np.argsort(amounts)
    return cells[order], amounts[order], running[order]


def median_by_cluster(durations: Durations, width: int) -> Values | None:
    """`independent_values` of durations that are here; of each subject there are `width` cells in a row."""
    cells, amounts, clusters = durations
    assert clusters is not None
    if not cells.size:
        return cells, amounts.astype(np.float64), np.zeros(0, dtype=np.int64)
    # Cluster, quarter and series, and below them the row: sorting numbers is faster than finding their order.
    key = first_runs(clusters)
    alone = np.flatnonzero(clusters < 0)
    key[alone] = key.max() + 1 + np.arange(alone.size)
    bits = cells.size.bit_length()
    key *= width
    key += np.tile(np.arange(width, dtype=np.int16), int(cells.max()) // width + 1)[cells]
    key <<= bits
    key |= np.arange(cells.size, dtype=np.int32)
    key.sort()
    row = key & ((1 << bits) - 1)
    key >>= bits
    begins = np.ones(key.size, dtype=bool)
    np.not_equal(key[1:], key[:-1], out=begins[1:])
    mine = cells[row]
    if _any_spans((mine[1:] != mine[:-1]) & ~begins[1:]):
        return None
    starts = np.append(np.flatnonzero(begins), key.size)
    first, sizes = starts[:-1], np.diff(starts)
    np.cumsum(begins, out=key)
    key -= 1
    by_cluster = PackedGroups.of(amounts[row], key, first.size, key, starts)
    low, high = (by_cluster.at(first + at) for at in ((sizes - 1) // 2, sizes // 2))
    medians = low + (high - low) / 2
    order = np.argsort(medians)
    return mine[first][order], medians[order], np.zeros(first.size, dtype=np.int64)


def _any_spans(spanning: npt.NDArray[Any]) -> bool:
    return bool(spanning.any())


def deviations_by_place(grid: Grid, metric: Metric, weekly: FloatArray) -> tuple[FloatArray, IntArray]:
    """How much the whole weeks of each value's quarter vary, as `weekly_deviations`, by place."""
    deviations, degrees = np.zeros(weekly.shape[0]), np.zeros(weekly.shape[0], dtype=np.int64)
    for quarter in range(len(grid.quarters)):
        for series in range(len(metric.series)):
            places = grid.places(metric, np.arange(len(grid.scopes)), quarter, series)
            weeks = np.ascontiguousarray(weekly[places, : grid.weeks[quarter]])
            deviations[places], degrees[places] = weekly_deviations(weeks)
    return deviations, degrees


def _at(known: npt.NDArray[np.bool_], asked: Changes) -> Changes:
    """Changes of the known pairs among all of them."""
    made = Changes(np.full(known.size, np.nan), np.zeros(known.size, dtype=np.int64))
    made.p_values[known], made.directions[known] = asked
    return made
