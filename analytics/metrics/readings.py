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

from analytics.comparisons import (
    Comparison,
    Direction,
    Reading,
    compare_proportions_array,
    compare_quantile,
    compare_rates,
    compare_samples,
    group_medians,
    read,
)
from analytics.engines.port import Engine
from analytics.metrics.aggregates import Key, Measured
from analytics.metrics.coverage import Covered
from analytics.metrics.metric import MICROSECONDS, TRILLION, Metric
from analytics.periods import Quarter
from analytics.statistics import MIN_N_MEDIAN

TOO_FEW: Reading = "too few data"
# The same few things counted in both quarters, or windows that overlap, are no independent trials.
NOT_TESTED = "not tested"
STANDS_OUT = frozenset({"better", "worse", "changed"})
# Older quarters were read when they were new; their packs keep the word.
READ_QUARTERS = 9


@dataclass(frozen=True)
class Family:
    """Comparisons of one measure that a reader sees together: the same scope, quarter and series."""

    metric: str
    scope: str
    quarter: str
    keys: Sequence[Key]
    comparisons: Sequence[Comparison | None]
    better: Direction | None


def families(
    metric: Metric,
    quarters: Sequence[Quarter],
    found: Mapping[Key, Measured],
    covered: Mapping[tuple[str, str, str], Covered],
    samples: Samples,
    weekly: Mapping[Key, Sequence[float]],
) -> list[Family]:
    """Compare each value of the newest quarters with the quarter before; nothing where a metric is not tested."""
    made: list[Family] = []
    if not metric.tested:
        return made
    chosen = list(quarters)[-READ_QUARTERS:]
    # One scope at a time, because the samples of one scope are in memory at a time.
    for scope in ("service", "team", "organization"):
        for quarter in chosen:
            before = str(quarter.plus(-1))
            for series in metric.series:
                names = sorted(n for (s, n, q) in covered if s == scope and q == str(quarter))
                keys: list[Key] = [(scope, name, str(quarter), series) for name in names]
                pairs = [((scope, name, before, series), key) for name, key in zip(names, keys, strict=True)]
                comparisons: list[Comparison | None]
                if metric.kind in ("quantile", "recovery_median", "mean"):
                    comparisons = samples.compare(metric, scope, pairs, found)
                elif metric.kind in ("per_day", "count"):
                    comparisons = [_rates(old, new, found, covered, weekly) for old, new in pairs]
                elif metric.kind == "rate":
                    comparisons = [_per_trial(found.get(old), found.get(new)) for old, new in pairs]
                else:
                    comparisons = _proportions(pairs, found)
                made.append(Family(metric.name, scope, str(quarter), keys, comparisons, metric.direction))
    return made


def read_families(made: Iterable[Family]) -> dict[tuple[str, Key], Reading]:
    """A word for each metric and key of the families of every metric."""
    together: dict[tuple[str, str], list[Family]] = {}
    for family in made:
        together.setdefault((family.scope, family.quarter), []).append(family)
    words: dict[tuple[str, Key], Reading] = {}
    for (scope, _), seen in together.items():
        keys = [(family.metric, key) for family in seen for key in family.keys]
        comparisons = [one for family in seen for one in family.comparisons]
        better = [family.better for family in seen for _ in family.keys]
        pooled = read(comparisons, better)
        if scope == "organization" or not any(word in STANDS_OUT for word in pooled):
            words.update(zip(keys, pooled, strict=True))
            continue
        for family in seen:
            own = [(family.metric, key) for key in family.keys]
            words.update(zip(own, read(family.comparisons, family.better), strict=True))
    return words


def _testable(found: Mapping[Key, Measured], *keys: Key) -> bool:
    """Whether each quarter has enough durations, ended and running, for any test."""
    return all(key in found and found[key].n + found[key].open >= MIN_N_MEDIAN for key in keys)


def _proportions(pairs: Sequence[tuple[Key, Key]], found: Mapping[Key, Measured]) -> list[Comparison | None]:
    results: list[Comparison | None] = [None] * len(pairs)
    known = [
        (number, found[old], found[new])
        for number, (old, new) in enumerate(pairs)
        if old in found and new in found and found[old].value is not None and found[new].value is not None
    ]
    if known:
        columns = np.array(
            [[o.numerator, o.denominator, n.numerator, n.denominator] for _, o, n in known], dtype=np.int64
        )
        for (number, _, _), comparison in zip(known, compare_proportions_array(*columns.T), strict=True):
            results[number] = comparison
    return results


def _rates(
    old: Key,
    new: Key,
    found: Mapping[Key, Measured],
    covered: Mapping[tuple[str, str, str], Covered],
    weekly: Mapping[Key, Sequence[float]],
) -> Comparison | None:
    days_old, days_new = covered.get(old[:3]), covered.get(new[:3])
    if days_old is None or days_new is None or not days_old.days or not days_new.days:
        return None
    counts = [found[key].n if key in found else 0 for key in (old, new)]
    return compare_rates(counts[0], days_old.days, counts[1], days_new.days, weekly.get(old, ()), weekly.get(new, ()))


def _per_trial(old: Measured | None, new: Measured | None) -> Comparison | None:
    """Counts per deployment, where both quarters have deployments."""
    if old is None or new is None or not old.denominator or not new.denominator:
        return None
    return compare_rates(int(old.numerator or 0), old.denominator, int(new.numerator or 0), new.denominator)


def weekly_counts(engine: Engine, metric: Metric) -> dict[Key, list[float]]:
    """Counts per whole ISO week of a quarter, weeks without any counted as zero; needs the view `dated`."""
    weeks: dict[str, list[str]] = {}
    for quarter, week in engine.rows(
        "SELECT quarter, iso_week FROM calendar GROUP BY quarter, iso_week HAVING count(*) = 7 "
        "ORDER BY quarter, iso_week"
    ):
        weeks.setdefault(quarter, []).append(week)
    counts: dict[Key, dict[str, int]] = {}
    for scope, name, quarter, week, count in engine.rows(
        "SELECT m.scope, m.name, c.quarter, c.iso_week, count(*) AS seen "
        "FROM observations AS o JOIN calendar AS c ON c.day = o.day "
        f"JOIN members AS m ON m.subject_kind = '{metric.subject}' AND m.subject = o.subject WHERE o.excluded IS NULL "
        "GROUP BY m.scope, m.name, c.quarter, c.iso_week"
    ):
        counts.setdefault((scope, name, quarter, None), {})[week] = count
    return {key: [float(found.get(week, 0)) for week in weeks.get(key[2], ())] for key, found in counts.items()}


class Samples:
    """Durations (shares) behind the metrics of one query, in microseconds (trillionths), for the newest quarters."""

    def __init__(self, engine: Engine, metric: Metric, quarters: Sequence[Quarter]) -> None:
        self.engine = engine
        self.subject = metric.subject
        self.quarters = [str(quarter) for quarter in list(quarters)[-READ_QUARTERS - 1 :]]
        self.scopes: dict[str, tuple[dict[tuple[Any, ...], Any], dict[tuple[Any, ...], Any]]] = {}

    def compare(
        self, metric: Metric, scope: str, pairs: Sequence[tuple[Key, Key]], found: Mapping[Key, Measured]
    ) -> list[Comparison | None]:
        """Test each pair of quarters, in the metric's unit; durations are read only when there are enough somewhere."""
        if not any(_testable(found, old, new) for old, new in pairs):
            return [None] * len(pairs)
        if scope not in self.scopes:
            self.scopes[scope] = self._load(scope)
        ended, running = self.scopes[scope]
        unit = TRILLION if metric.kind == "mean" else MICROSECONDS[metric.unit]
        empty = np.array([], dtype=np.float64)
        results: list[Comparison | None] = []
        for old, new in pairs:
            before, after = ended.get(old[1:], empty) / unit, ended.get(new[1:], empty) / unit
            if metric.kind == "quantile" and metric.quantile != 0.5:
                results.append(compare_quantile(before, after, metric.quantile))
            else:
                open_before, open_after = running.get(old[1:], empty) / unit, running.get(new[1:], empty) / unit
                results.append(compare_samples(before, after, open_before, open_after))
        return results

    def _load(self, scope: str) -> tuple[dict[tuple[Any, ...], Any], dict[tuple[Any, ...], Any]]:
        ended: dict[tuple[Any, ...], Any] = {}
        running: dict[tuple[Any, ...], Any] = {}
        columns = set(self.engine.columns("SELECT * FROM observations"))
        amount = "o.amount_us" if "amount_us" in columns else "o.amount_trillionths"
        cluster = "o.cluster" if "cluster" in columns else "CAST(NULL AS String)"
        is_open = "o.open" if "open" in columns else "false"
        newest = ", ".join(f"'{quarter}'" for quarter in self.quarters)
        # Commits of one deployment are no independent values: their median stands for them (see group_medians).
        rows = self.engine.rows(
            f"SELECT m.name, o.quarter, o.series, {is_open} AS running, collect_list({amount}) AS amounts, "
            f"collect_list({cluster}) AS clusters FROM dated AS o "
            f"JOIN members AS m ON m.subject_kind = '{self.subject}' AND m.subject = o.subject AND m.scope = '{scope}' "
            f"WHERE o.excluded IS NULL AND o.quarter IN ({newest}) GROUP BY m.name, o.quarter, o.series, {is_open}"
        )
        for name, quarter, series, running_still, amounts, clusters in rows:
            values = np.sort(np.array(amounts, dtype=np.float64))
            if clusters and clusters[0] is not None:
                values = group_medians(np.array(amounts, dtype=np.float64), np.array(clusters))
            (running if running_still else ended)[name, quarter, series] = values
        return ended, running
