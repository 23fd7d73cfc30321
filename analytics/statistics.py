"""How sure a number is: quantiles, intervals and the limits of charts. `analytics.comparisons` asks what changed.

Source: reports.md section 2; each function names the paper behind its method. Everything is a pure function of its
arguments, and scipy is imported only where it is used, because commands that read finished values need none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.samples import FloatArray, Groups, IntArray, running_by_group

CONFIDENCE = 0.95

# Below these a pack prints no such number (reports.md section 2).
MIN_N_MEDIAN = 6
MIN_N_P95 = 20
MIN_N_PERCENTAGE_CHANGE = 20
# Below it a failure rate is printed as k of n.
MIN_N_RATIO = 30
# Below these no two-sided 95 % interval exists.
MIN_N_MEDIAN_INTERVAL = 6
MIN_N_P75_INTERVAL = 13
MIN_N_P95_INTERVAL = 72
# Fewer weeks say nothing about how much a week varies.
MIN_WEEKS = 6


class Interval(NamedTuple):
    """A two-sided interval in the unit of its number."""

    low: float
    high: float


def quantile(values: npt.ArrayLike, p: float) -> float | None:
    """The interpolated quantile that every headline uses, None without values.

    Source: metrics.md section 8; definition 7 of Hyndman and Fan 1996 (doi:10.2307/2684934).
    """
    sample = finite_sample(values)
    return float(np.quantile(sample, p, method="linear")) if sample.size else None


@lru_cache(maxsize=1 << 16)
def quantile_ranks(n: int, p: float, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Ranks (from 1, ascending) of the two order statistics that bound a quantile; None when n is too small.

    They are the ranks of `scipy.stats.quantile_test(x, p=p).confidence_interval()`, exact for any distribution, so
    that SQL can pick both bounds from sorted rows.
    Source: reports.md section 2; Conover 1999, Practical Nonparametric Statistics, section 3.2.
    """
    lower, upper = quantile_ranks_array([n], p, confidence)
    return (int(lower[0]), int(upper[0])) if lower[0] else None


def quantile_ranks_array(n: npt.ArrayLike, p: float, confidence: float = CONFIDENCE) -> tuple[IntArray, IntArray]:
    """The ranks of `quantile_ranks` for many sample sizes at once; both are 0 where no interval exists."""
    sizes = np.asarray(n, dtype=np.int64)
    if not 0 < p < 1 or not 0 < confidence < 1 or (sizes < 0).any():
        raise ValueError("n must not be negative; p and confidence must lie between 0 and 1")
    distinct, place = np.unique(sizes, return_inverse=True)
    tail = (1 - confidence) / 2
    lower, upper = _binomial_bounds(distinct, p, tail)
    upper = upper + 1
    none = (lower < 1) | (upper > distinct)
    lower[none] = upper[none] = 0
    return lower[place].reshape(sizes.shape), upper[place].reshape(sizes.shape)


def _binomial_bounds(trials: IntArray, p: float, tail: float) -> tuple[IntArray, IntArray]:
    """`scipy.stats.binom.ppf(tail, trials, p)` and its `isf`: counts with at most that chance below, and above.

    Loading `scipy.stats` for these two takes longer than measuring a day does. A normal approximation is a step or two
    away at most; from there on the distribution itself decides.
    """
    from scipy import special

    def chance(of: np.ufunc, counts: IntArray) -> FloatArray:
        inside = np.clip(counts, 0, np.maximum(trials - 1, 0))
        return np.asarray(of(inside + 1.0, np.maximum(trials - inside, 1.0), p), dtype=np.float64)

    def reached(counts: IntArray) -> npt.NDArray[np.bool_]:
        return (counts >= trials) | (chance(special.betaincc, counts) >= tail)

    def beyond(counts: IntArray) -> npt.NDArray[np.bool_]:
        return (counts >= trials) | (chance(special.betainc, counts) <= tail)

    score = float(special.ndtri(tail))
    spread, skew = np.sqrt(trials * p * (1 - p)), (score**2 - 1) * (1 - 2 * p) / 6
    found = []
    for holds, reach in ((reached, score), (beyond, -score)):
        count = np.clip(np.floor(trials * p + reach * spread + skew), 0, trials).astype(np.int64)
        while (fewer := (count > 0) & holds(count - 1)).any():
            count = count - fewer
        while (more := ~holds(count)).any():
            count = count + more
        found.append(count)
    return found[0], found[1]


def quantile_interval(values: npt.ArrayLike, p: float, confidence: float = CONFIDENCE) -> Interval | None:
    """The exact interval of a quantile, for values at hand; None when there are too few.

    Source: reports.md section 2, as `quantile_ranks`.
    """
    sample = np.sort(finite_sample(values))
    ranks = quantile_ranks(sample.size, p, confidence)
    return Interval(float(sample[ranks[0] - 1]), float(sample[ranks[1] - 1])) if ranks else None


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The Wilson interval of k of n, as a share from 0 to 1; ValueError unless 0 <= k <= n and n >= 1.

    The numbers of `scipy.stats.binomtest(k, n).proportion_ci(method="wilson")`, without its cost.
    Source: reports.md section 2; Wilson 1927 (doi:10.1080/01621459.1927.10502953).
    """
    if n < 1:
        raise ValueError("a share of nothing has no interval: n must be at least 1")
    low, high = wilson_array([k], [n], confidence)
    return Interval(float(low[0]), float(high[0]))


def wilson_array(k: npt.ArrayLike, n: npt.ArrayLike, confidence: float = CONFIDENCE) -> tuple[FloatArray, FloatArray]:
    """The bounds of `wilson` for many rows at once; NaN where n is 0."""
    hits, trials = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if (hits < 0).any() or (hits > trials).any():
        raise ValueError("k must lie between 0 and n")
    z = normal_quantile(confidence)
    with np.errstate(invalid="ignore"):
        share = hits / trials
    width = 2 * (trials + z**2)
    centre = (2 * trials * share + z**2) / width
    reach = z / width * np.sqrt(4 * trials * share * (1 - share) + z**2)
    # At the ends the formula is 0 and 1 but for rounding.
    low = np.where(hits == 0, 0.0, centre - reach)
    high = np.where(hits == trials, 1.0, centre + reach)
    nothing = trials == 0
    return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def clustered_mean_interval(
    values: npt.ArrayLike, clusters: Sequence[object] | None = None, confidence: float = CONFIDENCE
) -> Interval | None:
    """Student's interval of a mean, widened where values of one cluster are alike; None with fewer than six clusters.

    Answers of one person, or objectives hit by one deployment, are no independent values: deviations are summed per
    cluster before they are squared. Without clusters it is the interval of `scipy.stats.ttest_1samp`.
    Source: reports.md section 2 has no method for means; Liang and Zeger 1986 (doi:10.1093/biomet/73.1.13), with the
    correction G / (G - 1).
    """
    from scipy import special

    sample = finite_sample(values)
    names = np.arange(sample.size) if clusters is None else np.array([str(cluster) for cluster in clusters])
    if names.shape != sample.shape:
        raise ValueError("values and clusters must have the same length")
    _, place = np.unique(names, return_inverse=True)
    groups = int(place.max()) + 1 if sample.size else 0
    if groups < MIN_N_MEDIAN:
        return None
    mean = float(sample.mean())
    sums = np.bincount(place, weights=sample - mean, minlength=groups)
    error = math.sqrt(groups / (groups - 1) * float((sums**2).sum())) / sample.size
    reach = float(special.stdtrit(groups - 1, (1 + confidence) / 2)) * error
    return Interval(mean - reach, mean + reach)


def interpolated(below: npt.ArrayLike, above: npt.ArrayLike, share: npt.ArrayLike) -> FloatArray:
    """The numbers that far from the one below to the one above, to the last bit as numpy's quantiles have them."""
    low, high, part = (np.asarray(numbers, dtype=np.float64) for numbers in (below, above, share))
    with np.errstate(invalid="ignore"):
        return np.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1 - part))


class Dispersion(NamedTuple):
    """Variance of weekly counts over their mean, at least 1, and the degrees of freedom behind it (0: assumed)."""

    ratio: float
    degrees: int


def weekly_dispersion(*periods: Sequence[float]) -> Dispersion:
    """How much more weekly counts vary than Poisson counts would, pooled over periods that may have other means.

    Pass full weeks only. A period of fewer than six weeks, or without an event, says nothing.
    Source: reports.md section 2; Pearson's estimate, McCullagh and Nelder 1989, Generalized Linear Models, chapter 6.
    """
    chi_squared, degrees = 0.0, 0
    for period in periods:
        weeks = finite_sample(period)
        if weeks.size >= MIN_WEEKS and weeks.sum() > 0:
            chi_squared += float(((weeks - weeks.mean()) ** 2).sum() / weeks.mean())
            degrees += weeks.size - 1
    ratio = chi_squared / degrees if degrees else 1.0
    return Dispersion(ratio, degrees) if ratio > 1 else Dispersion(1.0, 0)


def weekly_deviations(weeks: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Squared deviations over the mean, and their degrees of freedom, of many periods with the same full weeks.

    `weeks` has a row per period. `poisson_dispersions` puts them together; source: `weekly_dispersion`.
    """
    counts = np.atleast_2d(np.asarray(weeks, dtype=np.float64))
    periods, number = counts.shape
    total = counts.sum(axis=1)
    speaks = (total > 0) if number >= MIN_WEEKS else np.zeros(periods, dtype=bool)
    mean = np.where(speaks, total, 1.0) / max(number, 1)
    deviations = np.where(speaks, ((counts - mean[:, None]) ** 2).sum(axis=1) / mean, 0.0)
    return deviations, np.where(speaks, number - 1, 0)


def poisson_dispersions(deviations: npt.ArrayLike, degrees: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Ratio and degrees of `weekly_dispersion` for many sums of `weekly_deviations` at once."""
    squares, freedom = np.asarray(deviations, dtype=np.float64), np.asarray(degrees, dtype=np.int64)
    ratio = np.where(freedom > 0, squares / np.maximum(freedom, 1), 1.0)
    wide = ratio > 1
    return np.where(wide, ratio, 1.0), np.where(wide, freedom, 0)


def poisson_limits_array(
    counts: npt.ArrayLike, ratios: npt.ArrayLike, degrees: npt.ArrayLike, confidence: float = CONFIDENCE
) -> tuple[FloatArray, FloatArray]:
    """`poisson_limits` for many counts at once; ratios and degrees as `poisson_dispersions` gives them."""
    from scipy import special

    seen, ratio = np.asarray(counts, dtype=np.float64), np.asarray(ratios, dtype=np.float64)
    freedom = np.asarray(degrees, dtype=np.int64)
    t = special.stdtrit(np.maximum(freedom, 1), (1 + confidence) / 2)
    scale = np.where(freedom > 0, ratio * (t / normal_quantile(confidence)) ** 2, 1.0)
    tail = (1 - confidence) / 2
    # chi2.ppf(q, 2 k) / 2 is the inverse of the incomplete gamma function, some fifty times cheaper to call.
    low = np.where(seen > 0, scale * special.gammaincinv(np.where(seen > 0, seen, 1.0) / scale, tail), 0.0)
    return low, scale * special.gammainccinv(seen / scale + 1, tail)


def poisson_rate_interval(
    count: int, exposure: float, weekly_counts: Sequence[float] = (), confidence: float = CONFIDENCE
) -> Interval:
    """The interval of count / exposure, per unit of the exposure (days, or 1 for a bare count).

    Exact Poisson limits. Where the weekly counts vary more than Poisson counts (variance / mean > 1) the count is
    divided, and the limits multiplied, by that ratio, which is first widened by (t / z)^2 because it is itself an
    estimate. In a simulation of 13 clustered weeks with ratios 1.5, 3 and 6 and ten events a week this covered the
    truth in 95 to 96 % of cases, the exact limits in 90, 76 and 58 %.
    Source: reports.md section 2; Garwood 1936 (doi:10.1093/biomet/28.3-4.437).
    """
    if count < 0 or not exposure > 0:
        raise ValueError("count must not be negative and exposure must be above 0")
    low, high = poisson_limits(count, weekly_dispersion(weekly_counts), confidence)
    return Interval(low / exposure, high / exposure)


def poisson_limits(count: float, dispersion: Dispersion, confidence: float = CONFIDENCE) -> Interval:
    """The interval of an expected count, for a dispersion that is already known; source: `poisson_rate_interval`."""
    low, high = poisson_limits_array([count], [dispersion.ratio], [dispersion.degrees], confidence)
    return Interval(float(low[0]), float(high[0]))


@dataclass(frozen=True, slots=True)
class MedianResult:
    """A median where some durations are still running: n have ended, `open` have not.

    `value` is None when too few have ended (reason median_not_reached) or nothing is there. `low` and `high` are its
    95 % interval; either is None where it cannot be told.
    """

    value: float | None
    n: int
    open: int
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> Interval | None:
        """Both bounds, or None when one cannot be told."""
        return None if self.low is None or self.high is None else Interval(self.low, self.high)


def kaplan_meier_median(durations: npt.ArrayLike, open_durations: npt.ArrayLike = ()) -> MedianResult:
    """The median of ended durations and of those still running, in their unit.

    With nothing open it is the interpolated median with its exact interval. Otherwise it is the first time at which
    Kaplan-Meier survival is at most one half, with the interval of Brookmeyer and Crowley on the log-log scale:
    leaving open incidents out would make a bad quarter look good.
    Source: metrics.md section 8, "Recovery median"; reports.md section 2; Kaplan and Meier 1958
    (doi:10.1080/01621459.1958.10501452); Brookmeyer and Crowley 1982 (doi:10.2307/2530286).
    """
    ended, running = finite_sample(durations), finite_sample(open_durations)
    if not running.size:
        interval = quantile_interval(ended, 0.5) or (None, None)
        return MedianResult(quantile(ended, 0.5), ended.size, 0, *interval)
    samples = (Groups(np.sort(sample), np.array([0, sample.size])) for sample in (ended, running))
    value, low, high = (None if math.isnan(one) else one for (one,) in map(list, kaplan_meier_medians(*samples)))
    return MedianResult(value, ended.size, running.size, low, high)


def kaplan_meier_medians(ended: Groups, running: Groups) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Value, low and high of `kaplan_meier_median` for many samples of which each has open ones; NaN where None."""
    # Survival falls only where something ended, so that the other times need no place of their own.
    group = np.repeat(np.arange(ended.sizes.size), ended.sizes)
    begins = np.ones(group.size, dtype=bool)
    begins[1:] = (ended.values[1:] != ended.values[:-1]) | (group[1:] != group[:-1])
    first = np.flatnonzero(begins)
    times, died, group = ended.values[first], np.diff(first, append=begins.size), group[first]
    # The open ones that are shorter, from places among group and time in one ascending number.
    distinct, rank = np.unique(np.concatenate([times, running.values]), return_inverse=True)
    keys = np.repeat(np.arange(running.sizes.size), running.sizes) * distinct.size + rank[times.size :]
    shorter = np.searchsorted(keys, group * distinct.size + rank[: times.size]) - running.starts[group]
    at_risk = (ended.starts[group + 1] - first) + (running.sizes[group] - shorter)
    sizes = np.bincount(group, minlength=ended.sizes.size)
    survival = running_by_group(np.multiply, (at_risk - died) / at_risk, sizes)
    # At survival 1 and 0 the formula has no value; there the band is shut.
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log(survival)
        variance = running_by_group(np.add, died / (at_risk * (at_risk - died)), sizes)
        error = np.sqrt(1 / logarithm**2 * variance)
        middle, reach = np.log(-logarithm), normal_quantile(CONFIDENCE) * error
        low, high = np.exp(-np.exp(middle + reach)), np.exp(-np.exp(middle - reach))
    lower = np.where(survival > 0, np.nan_to_num(low, nan=1.0), 0.0)
    upper = np.nan_to_num(high, nan=1.0)
    value, low, high = (_first_at_most_half(times, one, group, sizes.size) for one in (survival, lower, upper))
    too_few = ended.sizes + running.sizes < MIN_N_MEDIAN_INTERVAL
    low[too_few] = high[too_few] = np.nan
    return value, low, high


def _first_at_most_half(times: FloatArray, survival: FloatArray, group: IntArray, count: int) -> FloatArray:
    # Survival is a product of fractions: 0.75 * 2 / 3 must count as one half.
    reached = np.flatnonzero(survival <= 0.5 + 1e-9)
    groups, first = np.unique(group[reached], return_index=True)
    found = np.full(count, np.nan)
    found[groups] = times[reached[first]]
    return found


@dataclass(frozen=True, slots=True)
class FunnelLimits:
    """Shares between which 95 % and 99.8 % of services lie when all are alike; one entry per denominator."""

    low_95: FloatArray
    high_95: FloatArray
    low_998: FloatArray
    high_998: FloatArray


def funnel_limits(denominators: npt.ArrayLike, pooled: float) -> FunnelLimits:
    """Limits of a funnel plot around a pooled share: exact binomial, interpolated between counts.

    ValueError when a denominator is below 1 or `pooled` is no share.
    Source: reports.md section 2; Spiegelhalter 2005, appendix (doi:10.1002/sim.1970).
    """
    trials = np.asarray(denominators, dtype=np.int64)
    if (trials < 1).any() or not 0 <= pooled <= 1:
        raise ValueError("denominators must be at least 1 and the pooled share must lie between 0 and 1")
    return FunnelLimits(*(_funnel_limit(trials, pooled, tail) for tail in (0.025, 0.975, 0.001, 0.999)))


def _funnel_limit(trials: IntArray, pooled: float, tail: float) -> FloatArray:
    from scipy import stats

    if pooled in (0, 1):
        return np.full(trials.shape, float(pooled))
    count = stats.binom.ppf(tail, trials, pooled)
    back = (stats.binom.cdf(count, trials, pooled) - tail) / stats.binom.pmf(count, trials, pooled)
    return np.asarray(np.clip((count - back) / trials, 0, 1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Centre line and natural process limits of a chart of weeks."""

    centre: float
    low: float
    high: float


def process_limits(
    weeks: Sequence[float | None], smallest: float = -math.inf, largest: float = math.inf
) -> ProcessLimits | None:
    """Limits of an XmR chart, mean +- 2.66 x mean moving range; None with fewer than six weeks.

    A week without a value (None or NaN) breaks the moving range instead of being bridged. `smallest` and `largest`
    cut limits that the number cannot reach, such as a negative count. A moving range, unlike a standard deviation,
    is not blown up by the very shift that the chart is there to show.
    Source: reports.md section 2; NHS Making Data Count; Wheeler 1993, Understanding Variation.
    """
    series = np.array([math.nan if week is None else week for week in weeks], dtype=np.float64)
    if np.isinf(series).any():
        raise ValueError("a week must be a finite number, or None")
    ranges = np.abs(np.diff(series))
    ranges = ranges[~np.isnan(ranges)]
    present = series[~np.isnan(series)]
    if present.size < MIN_WEEKS or not ranges.size:
        return None
    centre, reach = float(present.mean()), 2.66 * float(ranges.mean())
    return ProcessLimits(centre, max(smallest, centre - reach), min(largest, centre + reach))


def finite_sample(values: npt.ArrayLike) -> FloatArray:
    """Numbers as an array; ValueError for NaN, infinity or a table, which no order statistic survives unnoticed."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not np.isfinite(sample).all():
        raise ValueError("a sample must be one list of finite numbers")
    return sample


@lru_cache(maxsize=16)
def normal_quantile(confidence: float) -> float:
    """Half the width, in standard errors, of a two-sided normal interval: 1.96 for 95 %."""
    from scipy import special

    return float(special.ndtri((1 + confidence) / 2))
