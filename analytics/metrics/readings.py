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
from analytics.metrics.aggregates import Measured, ended_and_open
from analytics.metrics.coverage import SCOPES
from analytics.metrics.grid import Grid, cell_sql, members_join, place_sql
from analytics.metrics.metric import Metric
from analytics.samples import FloatArray, Groups, IntArray
from analytics.statistics import MIN_N_MEDIAN, poisson_dispersions, weekly_deviations

TOO_FEW: Reading = "too few data"
# The same few things counted in both quarters, or windows that overlap, are no independent trials.
NOT_TESTED = "not tested"
STANDS_OUT = ("better", "worse", "changed")
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
        better = [family.better for family in seen for _ in family.rows]
        pooled = read_changes(changes, better)
        if scope == "organization" or not np.isin(pooled, STANDS_OUT).any():
            words[np.concatenate([family.rows for family in seen])] = pooled
            continue
        for family in seen:
            words[family.rows] = read_changes(Changes(family.p_values, family.directions), family.better)
    return words


class Comparing:
    """Holds each value of the chosen quarters against the quarter before; nothing is said where a metric is not tested.

    Needs the views of `create_observations` and the days of each chosen quarter and of the one before.
    """

    def __init__(
        self,
        engine: Engine,
        grid: Grid,
        metric: Metric,
        days: IntArray,
        weekly: FloatArray | None,
        samples: Mapping[str, tuple[Groups, Groups]],
    ) -> None:
        self.engine = engine
        self.grid = grid
        self.metric = metric
        self.days = days
        self.weekly = weekly
        self.samples = samples
        self._groups: dict[str, tuple[Groups, Groups]] = {}
        self._columns: frozenset[str] | None = None
        self._independent: bool | None = None
        self._rows: list[npt.NDArray[Any]] | None = None

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
        if self._columns is None:
            self._columns = frozenset(self.engine.columns("SELECT * FROM observations"))
        clustered = "cluster" in self._columns
        if not clustered and scope in self.samples:
            return self.samples[scope]
        amount = "o.amount_us" if "amount_us" in self._columns else "o.amount_trillionths"
        is_open = "o.open" if "open" in self._columns else "o.excluded IS NOT NULL"
        running = f"CASE WHEN {is_open} THEN 1 ELSE 0 END"
        size = self.grid.size(self.metric)
        cell = f"{cell_sql(self.grid, self.metric)} AS cell"
        plain = (
            f"SELECT {cell}, CAST({amount} AS DOUBLE) AS amount, {running} AS running FROM dated AS o "
            "WHERE o.excluded IS NULL"
        )
        query = plain
        if clustered:
            # Commits of one deployment are no independent values: their median stands for them (`group_medians`).
            query = f"SELECT {cell}, o.amount, o.running FROM clustered AS o UNION ALL {plain} AND o.cluster IS NULL"
            if not self._one_subject_per_cluster(amount, running):
                return self._load_spanning(scope, amount, running)
        if self._rows is None:
            self._rows = self.engine.arrays(query)
        cells, amounts, still = self._rows
        for of_scope, row, place in self.grid.places_by_scope(self.metric, cells):
            if of_scope == scope:
                chosen = slice(None) if row is None else row
                return ended_and_open(place, amounts[chosen], still[chosen], size)
        return Groups.nothing(size), Groups.nothing(size)

    def _load_spanning(self, scope: str, amount: str, running: str) -> tuple[Groups, Groups]:
        """The same where clusters span subjects, so that each scope has medians of its own."""
        of_scope = f"FROM dated AS o {members_join(self.metric)} AND m.scope = '{scope}' WHERE o.excluded IS NULL"
        place, amounts, still = self.engine.arrays(
            f"SELECT {place_sql(self.grid, self.metric)} AS place, percentile({amount}, 0.5e0) AS amount, "
            f"{running} AS running {of_scope} AND o.cluster IS NOT NULL "
            f"GROUP BY m.scope_number, o.quarter_number, o.series_number, o.cluster, {running} UNION ALL "
            f"SELECT {place_sql(self.grid, self.metric)} AS place, CAST({amount} AS DOUBLE) AS amount, "
            f"{running} AS running {of_scope} AND o.cluster IS NULL"
        )
        return ended_and_open(place, amounts, still, self.grid.size(self.metric))

    def _one_subject_per_cluster(self, amount: str, running: str) -> bool:
        """Make the table `clustered`, a median per subject and cluster, and say whether it serves every scope.

        It does not where a cluster (one deployment of several services) spans subjects: a team's median is of all.
        """
        if self._independent is None:
            self.engine.create_table(
                "clustered",
                "SELECT o.subject_number, o.quarter_number, o.series_number, o.cluster, "
                f"percentile({amount}, 0.5e0) AS amount, {running} AS running "
                "FROM dated AS o WHERE o.excluded IS NULL AND o.cluster IS NOT NULL "
                f"GROUP BY o.subject_number, o.quarter_number, o.series_number, o.cluster, {running}",
            )
            ((spanning,),) = self.engine.rows(
                "SELECT count(*) AS spanning FROM (SELECT cluster FROM clustered GROUP BY cluster "
                "HAVING min(subject_number) <> max(subject_number)) AS known"
            )
            self._independent = spanning == 0
        return self._independent


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
