"""Whether a change between two periods is more than chance, and the word for it.

Source: reports.md section 2; each function names the paper behind its method. scipy is imported only where it is used,
because commands that read finished values need none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from analytics.change_tests import (
    Changes,
    proportions_changed,
    quantiles_changed,
    rates_changed,
    samples_changed,
)
from analytics.samples import FloatArray, Groups
from analytics.statistics import (
    CONFIDENCE,
    MIN_N_MEDIAN,
    Interval,
    finite_sample,
    kaplan_meier_median,
    normal_quantile,
    poisson_limits,
    quantile_interval,
    weekly_dispersion,
    wilson_array,
)

Reading = Literal["better", "worse", "changed", "no clear change", "too few data"]
Direction = Literal["lower", "higher"]

# Share of wrong "better" and "worse" among all that a family prints.
FALSE_DISCOVERY_RATE = 0.05
# Values per sample that the shift is found from: 160,000 differences, 1.5 ms.
SHIFT_MAX_N = 400


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a test says about two periods.

    `p_value` is None when there are too few data to ask. `direction` is 1 when the test finds the new period higher,
    -1 when lower, 0 when neither. `effect` is new minus old in the metric's own unit, with its 95 % interval; the
    reading comes from the test, and near its edge the interval may disagree.
    """

    p_value: float | None
    direction: int
    effect: float | None
    low: float | None
    high: float | None
    n_old: int
    n_new: int


def group_medians(values: npt.ArrayLike, groups: npt.ArrayLike) -> FloatArray:
    """One median per group, in the order of the sorted groups: independent values for a test.

    Commits of one deployment share most of their lead time. A simulation with six commits a deployment, where nothing
    had changed, gave p <= 0.05 in 56 % of cases on commits and in 5 % on medians per deployment.
    """
    sample, names = finite_sample(values), np.asarray(groups)
    if names.shape != sample.shape:
        raise ValueError("values and groups must have the same length")
    _, place, sizes = np.unique(names, return_inverse=True, return_counts=True)
    ordered = sample[np.lexsort((sample, place))]
    first = np.cumsum(sizes) - sizes
    middle: FloatArray = (ordered[first + (sizes - 1) // 2] + ordered[first + sizes // 2]) / 2
    return middle


def compare_samples(
    old: npt.ArrayLike, new: npt.ArrayLike, open_old: npt.ArrayLike = (), open_new: npt.ArrayLike = ()
) -> Comparison:
    """Did durations shift between two periods? Values must be independent (see `group_medians`).

    Mann-Whitney, exact up to 20 values a side without ties, else with the normal approximation and tie correction;
    the effect is the Hodges-Lehmann shift. Where durations are still running (`open_*`) it is the log-rank test, and
    the effect is the difference of the Kaplan-Meier medians: dropping what is open would make its quarter look good.
    At least six durations a side.
    Source: reports.md section 2; Mann and Whitney 1947 (doi:10.1214/aoms/1177730491); Hodges and Lehmann 1963
    (doi:10.1214/aoms/1177704172); Peto and Peto 1972 (doi:10.2307/2344317).
    """
    before, after = np.sort(finite_sample(old)), np.sort(finite_sample(new))
    running_before, running_after = np.sort(finite_sample(open_old)), np.sort(finite_sample(open_new))
    n_before, n_after = before.size + running_before.size, after.size + running_after.size
    if min(n_before, n_after) < MIN_N_MEDIAN:
        return _too_few(n_before, n_after)
    ended = Groups(np.concatenate([before, after]), np.cumsum([0, before.size, after.size]))
    running = Groups(
        np.concatenate([running_before, running_after]), np.cumsum([0, running_before.size, running_after.size])
    )
    tested = samples_changed(ended, running, [0], [1])
    p_value, direction = float(tested.p_values[0]), int(tested.directions[0])
    if math.isnan(p_value):  # at no end were durations of both periods still running
        return _too_few(n_before, n_after)
    if not running_before.size and not running_after.size:
        return Comparison(p_value, direction, *_hodges_lehmann(before, after), n_before, n_after)
    middle_before = kaplan_meier_median(before, running_before)
    middle_after = kaplan_meier_median(after, running_after)
    if middle_before.value is None or middle_after.value is None:
        return Comparison(p_value, direction, None, None, None, n_before, n_after)
    around_before, around_after = middle_before.interval, middle_after.interval
    if around_before is None or around_after is None:
        change = middle_after.value - middle_before.value
        return Comparison(p_value, direction, change, None, None, n_before, n_after)
    effect = _difference(middle_before.value, around_before, middle_after.value, around_after)
    return Comparison(p_value, direction, *effect, n_before, n_after)


def _hodges_lehmann(before: FloatArray, after: FloatArray) -> tuple[float, float, float]:
    """The median of all differences and its interval from the Mann-Whitney distribution (Hollander and Wolfe, 4.3).

    Large samples are first thinned to evenly spaced quantiles, which is deterministic and moved no bound by more than
    0.4 % of the interval's width for 2,000 values a side of three shapes.
    """
    pairs = before.size * after.size
    spread = math.sqrt(pairs * (before.size + after.size + 1) / 12)
    # The rank at which the test, with its continuity correction, stops rejecting; the same share of a thinned grid.
    outside = math.floor(pairs / 2 + 0.5 - normal_quantile(CONFIDENCE) * spread)
    differences = np.subtract.outer(_thinned(after), _thinned(before)).ravel()
    last = differences.size - 1
    edge = int((outside - 0.5) / pairs * differences.size)
    wanted = [edge, last // 2, (last + 1) // 2, last - edge]
    low, below, above, high = np.partition(differences, wanted)[wanted]
    return float((below + above) / 2), float(low), float(high)


def _thinned(sample: FloatArray) -> FloatArray:
    if sample.size <= SHIFT_MAX_N:
        return sample
    return np.quantile(sample, (np.arange(SHIFT_MAX_N) + 0.5) / SHIFT_MAX_N, method="hazen")


def compare_quantile(old: npt.ArrayLike, new: npt.ArrayLike, p: float) -> Comparison:
    """Did one quantile (p75, p95) move? Values must be independent (see `group_medians`).

    A shift of the middle says nothing about the tail, so this counts the values above the pooled quantile in each
    period: Mood's median test at another quantile. Both periods must be large enough for an interval (n >= 13 for
    p75, 72 for p95); the effect's interval is put together from the two (MOVER).
    Source: reports.md section 2; Mood 1954 (doi:10.1214/aoms/1177728719); Zou and Donner 2008 (doi:10.1002/sim.3095).
    """
    before, after = np.sort(finite_sample(old)), np.sort(finite_sample(new))
    around_before, around_after = quantile_interval(before, p), quantile_interval(after, p)
    if around_before is None or around_after is None:
        return _too_few(before.size, after.size)
    groups = Groups(np.concatenate([before, after]), np.cumsum([0, before.size, after.size]))
    tested = quantiles_changed(groups, [0], [1], p)
    effect = _difference(float(np.quantile(before, p)), around_before, float(np.quantile(after, p)), around_after)
    return Comparison(float(tested.p_values[0]), int(tested.directions[0]), *effect, before.size, after.size)


def compare_proportions(k_old: int, n_old: int, k_new: int, n_new: int) -> Comparison:
    """Did a rate (failures of deployments, successes of runs) change? At least six trials a period.

    Boschloo's exact test up to 80 trials together. Above that, and where it could not come near significance, the
    mid-p of Fisher's exact test, which Lydersen, Fagerland and Laake advise where Boschloo's is too slow; over 80 + 80
    trials its p lay within 0.8 to 1.1 times Boschloo's in nine tables of ten. The effect is the difference of the
    shares with Newcombe's interval.
    Source: reports.md section 2; Boschloo 1970 (doi:10.1111/j.1467-9574.1970.tb00104.x); Lydersen, Fagerland and
    Laake 2009 (doi:10.1002/sim.3531); Newcombe 1998 (PMID 9595617).
    """
    return compare_proportions_array([k_old], [n_old], [k_new], [n_new])[0]


def compare_proportions_array(
    k_old: npt.ArrayLike, n_old: npt.ArrayLike, k_new: npt.ArrayLike, n_new: npt.ArrayLike
) -> list[Comparison]:
    """`compare_proportions` for many rows at once."""
    k1, n1, k2, n2 = (np.asarray(counts, dtype=np.int64) for counts in (k_old, n_old, k_new, n_new))
    limits1, limits2 = zip(*wilson_array(k1, n1), strict=True), zip(*wilson_array(k2, n2), strict=True)
    tested = proportions_changed(k1, n1, k2, n2)
    comparisons = []
    for a, trials_a, b, trials_b, p_value, direction, around_a, around_b in zip(
        *(column.tolist() for column in (k1, n1, k2, n2, *tested)), limits1, limits2, strict=True
    ):
        if math.isnan(p_value):
            comparisons.append(_too_few(trials_a, trials_b))
            continue
        effect = _difference(a / trials_a, Interval(*around_a), b / trials_b, Interval(*around_b))
        comparisons.append(Comparison(p_value, direction, *effect, trials_a, trials_b))
    return comparisons


def compare_rates(
    count_old: int,
    days_old: float,
    count_new: int,
    days_new: float,
    weekly_old: Sequence[float] = (),
    weekly_new: Sequence[float] = (),
) -> Comparison:
    """Did events per day change? At least six events in both periods together; the effect is per day.

    Poisson means test (up to 3,000 events a period, else its normal limit). Where the weekly counts vary more than
    Poisson counts, the score statistic is divided by the root of that ratio and read from Student's t, and the larger
    p counts: variation never makes a change more certain. Simulated on 13 + 13 clustered weeks with ratios up to 6 it
    flagged 3 to 6 % where nothing had changed, the Poisson test up to 42 %.
    Source: reports.md section 2; Krishnamoorthy and Thomson 2004 (doi:10.1016/S0378-3758(02)00408-1); Zou and Donner
    2008 (doi:10.1002/sim.3095) for the interval.
    """
    dispersion = weekly_dispersion(weekly_old, weekly_new)
    tested = rates_changed([count_old], [days_old], [count_new], [days_new], [dispersion.ratio], [dispersion.degrees])
    if math.isnan(tested.p_values[0]):
        return _too_few(count_old, count_new)
    limits = []
    for count, days in ((count_old, days_old), (count_new, days_new)):
        low, high = poisson_limits(count, dispersion)
        limits.append(Interval(low / days, high / days))
    effect = _difference(count_old / days_old, limits[0], count_new / days_new, limits[1])
    return Comparison(float(tested.p_values[0]), int(tested.directions[0]), *effect, count_old, count_new)


def _difference(old: float, around_old: Interval, new: float, around_new: Interval) -> tuple[float, float, float]:
    """New minus old with an interval recovered from each side's own (MOVER; for Wilson limits it is Newcombe's)."""
    change = new - old
    low = change - math.hypot(new - around_new.low, around_old.high - old)
    high = change + math.hypot(around_new.high - new, old - around_old.low)
    return change, low, high


def read(
    comparisons: Sequence[Comparison | None],
    better: Direction | Sequence[Direction | None] | None,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> list[Reading]:
    """One word per comparison, corrected for how many were made at once; never from the sign of a change alone.

    `comparisons` is the whole family that a reader sees together, such as one metric over all services of a quarter;
    None or a missing p reads "too few data" and does not count towards the family. `better` says which way is good,
    for all or one by one; where it is None a change reads "changed".
    Source: reports.md section 2; Benjamini and Hochberg 1995 (doi:10.1111/j.2517-6161.1995.tb02031.x).
    """
    changes = Changes(
        np.array([np.nan if c is None or c.p_value is None else c.p_value for c in comparisons], dtype=np.float64),
        np.array([0 if c is None else c.direction for c in comparisons], dtype=np.int64),
    )
    return list(read_changes(changes, better, false_discovery_rate))


def read_changes(
    changes: Changes,
    better: Direction | Sequence[Direction | None] | None,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> npt.NDArray[np.object_]:
    """`read` for whole columns; a p-value of NaN reads "too few data"."""
    count = changes.p_values.size
    wanted = [better] * count if better is None or isinstance(better, str) else better
    if len(wanted) != count:
        raise ValueError(f"{count} comparisons need {count} directions, not {len(wanted)}")
    readings: npt.NDArray[np.object_] = np.full(count, "too few data", dtype=object)
    places = np.flatnonzero(~np.isnan(changes.p_values))
    readings[places] = "no clear change"
    p_values, directions = changes.p_values[places], changes.directions[places]
    # Benjamini and Hochberg: a p-value times how many there are over its rank, never above that of a greater p-value.
    order = np.argsort(p_values)
    scaled = p_values[order] * (places.size / np.arange(1, places.size + 1))
    corrected = np.empty(places.size)
    corrected[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    for place, direction in zip(
        *(column[(corrected <= false_discovery_rate) & (directions != 0)].tolist() for column in (places, directions)),
        strict=True,
    ):
        good = wanted[place]
        if good is None:
            readings[place] = "changed"
        else:
            readings[place] = "better" if (direction > 0) == (good == "higher") else "worse"
    return readings


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _too_few(n_old: int, n_new: int) -> Comparison:
    return Comparison(None, 0, None, None, None, n_old, n_new)
