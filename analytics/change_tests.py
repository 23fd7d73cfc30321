"""The tests behind readings, for many pairs of periods at once: p-values and directions as whole columns.

A quarter of five hundred services is some ten thousand comparisons; called one by one, scipy's tests spend their time
on checking arguments. These give scipy's p-values (tests hold them together) from a few passes over all samples. Which
test is right for which number, and why: `analytics.comparisons`. A p-value is NaN where there are too few data to ask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.samples import FloatArray, Groups, IntArray, ranges, running_by_group
from analytics.statistics import MIN_N_MEDIAN, interpolated, quantile_ranks_array

# Five events all in one of two equal periods still have an exact p of 2 / 2^5 = 0.06.
MIN_EVENTS = 6
# scipy's exact Mann-Whitney needs 2 minutes for 8 against 100,000 values; at 20 against 20 it needs 2 ms.
MANN_WHITNEY_EXACT_MAX_N = 20
# The E-test sums as many terms as the counts spread: above, its normal limit is as good.
E_TEST_MAX_COUNT = 3000
# Trials of both periods together; above, the mid-p is as good and costs no search.
BOSCHLOO_MAX_N = 80
# Over all tables of 17 sizes from 6 + 6 to 80 + 80, Boschloo's p was at least 0.09 where the mid-p was above 0.10.
BOSCHLOO_SCREEN = 0.10
# Shares at which Boschloo's chance is first asked; its peaks for 80 trials are some ten of them wide.
_ANGLES: FloatArray = np.asarray((np.arange(128) + 0.5) * (np.pi / 256), dtype=np.float64)
# How many ways there are to choose so many of so many; 0 where there are not as many.
_CHOOSE = np.array(
    [[math.comb(n, k) for k in range(BOSCHLOO_MAX_N + 1)] for n in range(BOSCHLOO_MAX_N + 1)], dtype=np.float64
)
# Tables that are looked at together: each has some 5,000 cells.
_TABLES_PER_PASS = 32
# Chances of the terms that are left out: below as scipy does, and above, where its own are 1e-16, as a logarithm.
_E_TEST_LOWER_TAIL = 1e-10
_E_TEST_LOG_UPPER_TAIL = 16 * math.log(10)
# Tables that Fisher's test weighs on either side of the likeliest and of the one that was seen: beyond 13 standard
# deviations a table weighs less than 1e-16 of these, and where there is hardly any spread a few more do.
_WEIGHED_DEVIATIONS = 13
_WEIGHED_TABLES = 30
# Nearer to a whole number a root may be on either side of it by rounding; it is known a million times better than that.
_NEAR = 1e-3
# Values that are compared in one pass: some fifteen columns of them are in memory.
_VALUES_PER_PASS = 2_000_000


class Changes(NamedTuple):
    """A p-value and a direction per pair: 1 where the test finds the new period higher, -1 lower, 0 neither."""

    p_values: FloatArray
    directions: IntArray


def samples_changed(ended: Groups, running: Groups, old: npt.ArrayLike, new: npt.ArrayLike) -> Changes:
    """`compare_samples` of group old[i] with group new[i] for every i; `running` are durations that have not ended."""
    before, after = np.asarray(old, dtype=np.int64), np.asarray(new, dtype=np.int64)
    tested = Changes(np.full(before.shape, np.nan), np.zeros(before.shape, dtype=np.int64))
    sizes = ended.sizes + running.sizes
    enough = np.minimum(sizes[before], sizes[after]) >= MIN_N_MEDIAN
    censored = running.sizes[before] + running.sizes[after] > 0
    for places in _passes(np.flatnonzero(enough & censored), sizes[before] + sizes[after]):
        tested.p_values[places], tested.directions[places] = _log_rank(ended, running, before[places], after[places])
    for places in _passes(np.flatnonzero(enough & ~censored), sizes[before] + sizes[after]):
        tested.p_values[places], tested.directions[places] = _mann_whitney(ended, before[places], after[places])
    return tested


def quantiles_changed(groups: Groups, old: npt.ArrayLike, new: npt.ArrayLike, p: float) -> Changes:
    """`compare_quantile` of group old[i] with group new[i] for every i."""
    before, after = np.asarray(old, dtype=np.int64), np.asarray(new, dtype=np.int64)
    tested = Changes(np.full(before.shape, np.nan), np.zeros(before.shape, dtype=np.int64))
    known = quantile_ranks_array(groups.sizes, p)[0] > 0
    for places in _passes(np.flatnonzero(known[before] & known[after]), groups.sizes[before] + groups.sizes[after]):
        tested.p_values[places], tested.directions[places] = _mood(groups, before[places], after[places], p)
    return tested


def _passes(places: IntArray, sizes: IntArray) -> Iterator[IntArray]:
    """The pairs at `places` in portions that hold a bounded number of values; `sizes` are those of all pairs."""
    values = np.cumsum(sizes[places])
    for portion in np.unique(values // _VALUES_PER_PASS):
        yield places[values // _VALUES_PER_PASS == portion]


class _Pooled(NamedTuple):
    """Both samples of each pair as one: those of pair i, ascending, are at `starts[i] : starts[i + 1]`.

    `ranked` has the pair and, in its lowest `bits`, the place of a value in `distinct`: equal where both are.
    """

    ranked: IntArray
    is_new: npt.NDArray[np.bool_]
    starts: IntArray
    distinct: FloatArray
    bits: int

    @property
    def values(self) -> FloatArray:
        """Each value."""
        values: FloatArray = self.distinct[self.ranked & ((1 << self.bits) - 1)]
        return values

    @property
    def pair(self) -> IntArray:
        """The pair of each value."""
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts))


def _pool(groups: Groups, old: IntArray, new: IntArray) -> _Pooled:
    """Rank the samples of each pair together; a group may be in several pairs, most are the old one and the new one."""
    distinct, ranks = groups.ranked
    bits = distinct.size.bit_length()
    sizes = groups.sizes
    # Old and new of the first pair, of the second, and so on.
    sides = np.column_stack([old, new]).reshape(-1)
    # Pair, rank and side in one number: sorting numbers is some ten times as fast as finding their order.
    key = ranks[ranges(groups.starts[sides], sizes[sides])]
    key <<= 1
    key |= np.repeat((np.arange(sides.size) >> 1 << (bits + 1)) | (np.arange(sides.size) & 1), sizes[sides])
    key.sort()
    is_new = (key & 1).astype(bool)
    key >>= 1
    return _Pooled(key, is_new, np.concatenate([[0], np.cumsum(sizes[old] + sizes[new])]), distinct, bits)


def _sums(pair: IntArray, weights: npt.ArrayLike, count: int) -> FloatArray:
    return np.asarray(np.bincount(pair, weights=np.asarray(weights), minlength=count), dtype=np.float64)


def _mann_whitney(groups: Groups, old: IntArray, new: IntArray) -> tuple[FloatArray, IntArray]:
    from scipy import special

    pooled = _pool(groups, old, new)
    n_old, n_new = groups.sizes[old].astype(np.float64), groups.sizes[new].astype(np.float64)
    # The ranks of the new values: their places, counted from the start of their pair.
    places = np.flatnonzero(pooled.is_new)
    ends = np.cumsum(groups.sizes[new])
    sums = np.concatenate([[0], np.cumsum(places)])
    ranks = sums[ends] - sums[ends - groups.sizes[new]] - groups.sizes[new] * (pooled.starts[:-1] - 1)
    # Runs of equal values of one pair share the middle of their ranks.
    again = np.flatnonzero(pooled.ranked[1:] == pooled.ranked[:-1])
    begins = np.flatnonzero(np.diff(again, prepend=-2) != 1)
    first, lengths = again[begins], np.diff(begins, append=again.size) + 1
    pair = pooled.ranked[first] >> pooled.bits
    ties = _sums(pair, lengths.astype(np.float64) ** 3 - lengths, old.size)
    beyond = (np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)) * 2
    moved = (np.repeat(lengths - 1, lengths) - beyond) * pooled.is_new[ranges(first, lengths)] / 2
    above = ranks + _sums(np.repeat(pair, lengths), moved, old.size) - n_new * (n_new + 1) / 2
    middle, total = n_old * n_new / 2, n_old + n_new
    extreme = np.maximum(above, n_old * n_new - above)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(n_old * n_new / 12 * ((total + 1) - ties / (total * (total - 1))))
        # All values equal: no test finds anything.
        score = np.where(spread > 0, (extreme - middle - 0.5) / spread, -np.inf)
    p_values = np.minimum(2 * special.ndtr(-score), 1)
    exact = np.flatnonzero((np.maximum(n_old, n_new) <= MANN_WHITNEY_EXACT_MAX_N) & (ties == 0))
    fewer, more = (bound(n_old, n_new)[exact].astype(np.int64) for bound in (np.minimum, np.maximum))
    for sizes in np.unique(more * (MANN_WHITNEY_EXACT_MAX_N + 1) + fewer).tolist():
        m, n = divmod(sizes, MANN_WHITNEY_EXACT_MAX_N + 1)
        places = exact[(fewer == n) & (more == m)]
        p_values[places] = np.minimum(2 * _u_tails(m)[n - 1][extreme[places].astype(np.int64)], 1)
    return p_values, np.sign(above - middle).astype(np.int64)


@lru_cache(maxsize=MANN_WHITNEY_EXACT_MAX_N)
def _u_tails(m: int) -> tuple[FloatArray, ...]:
    """P(U >= u), u from 0 to n m, for n from 1 to m, when every order of n + m different values is equally likely."""
    # The numbers of orders with each U are the coefficients of a Gaussian binomial: that of n from that of n - 1.
    orders = np.zeros(m * m + 1, dtype=np.int64)
    orders[0] = 1
    tails = []
    for n in range(1, m + 1):
        orders[m + n :] -= orders[: -m - n].copy()
        rows = -(-orders.size // n)
        table = np.zeros(rows * n, dtype=np.int64)
        table[: orders.size] = orders
        orders = np.cumsum(table.reshape(rows, n), axis=0).reshape(-1)[: orders.size]
        upward = np.cumsum(orders[: n * m + 1][::-1].astype(np.float64))[::-1]
        tails.append(np.asarray(upward / upward[0], dtype=np.float64))
    return tuple(tails)


def _mood(groups: Groups, old: IntArray, new: IntArray, p: float) -> tuple[FloatArray, IntArray]:
    pooled = _pool(groups, old, new)
    n_old, n_new = groups.sizes[old], groups.sizes[new]
    wanted = (n_old + n_new - 1) * p
    lower = np.floor(wanted).astype(np.int64)
    values = pooled.values
    below, above = (values[pooled.starts[:-1] + at] for at in (lower, np.minimum(lower + 1, n_old + n_new - 1)))
    pair = pooled.pair
    beyond = values > interpolated(below, above, wanted - lower)[pair]
    k_old, k_new = (np.bincount(pair[beyond & side], minlength=old.size) for side in (~pooled.is_new, pooled.is_new))
    return fisher_mid_p(k_old, n_old, k_new, n_new), np.sign(k_new / n_new - k_old / n_old).astype(np.int64)


def proportions_changed(
    k_old: npt.ArrayLike, n_old: npt.ArrayLike, k_new: npt.ArrayLike, n_new: npt.ArrayLike
) -> Changes:
    """`compare_proportions` for many pairs."""
    k1, n1, k2, n2 = (np.asarray(counts, dtype=np.int64) for counts in (k_old, n_old, k_new, n_new))
    enough = np.minimum(n1, n2) >= MIN_N_MEDIAN
    p_values = np.where(enough, fisher_mid_p(k1, n1, k2, n2), np.nan)
    small = np.flatnonzero(enough & (n1 + n2 <= BOSCHLOO_MAX_N) & (p_values <= BOSCHLOO_SCREEN))
    p_values[small] = _boschloo(k1[small], n1[small], k2[small], n2[small])
    return Changes(p_values, np.where(enough, np.sign(k2 * n1 - k1 * n2), 0))


def _boschloo(k1: IntArray, n1: IntArray, k2: IntArray, n2: IntArray) -> FloatArray:
    """Twice the smaller one-sided p of Boschloo's exact test, as `scipy.stats.boschloo_exact` has it, for many tables.

    The chance of a table at least as extreme is a polynomial in the share that both periods have; its greatest value
    is sought around every peak of a grid that is finer where a share has less spread. scipy's optimiser takes 30 ms.
    """
    key = ((k1 << 7 | n1) << 7 | k2) << 7 | n2
    _, tables, asked = np.unique(key, return_index=True, return_inverse=True)
    p_values = np.empty(tables.size)
    for begin in range(0, tables.size, _TABLES_PER_PASS):
        here = slice(begin, begin + _TABLES_PER_PASS)
        chosen = tables[here]
        trials = np.tile(n1[chosen] + n2[chosen], 2)
        ways = np.concatenate(_extreme_ways(k1[chosen], n1[chosen], k2[chosen], n2[chosen]))
        grid = _chances_on_grid(ways, trials)
        least = grid.max(axis=1)
        other = np.roll(np.arange(trials.size), chosen.size)
        # The side that is not smaller need not be known better than that.
        greatest = np.full(trials.size, np.inf)
        first = np.flatnonzero(least <= least[other])
        greatest[first] = _greatest_chances(ways[first], trials[first], grid[first])
        second = np.flatnonzero(np.isinf(greatest) & (least < greatest[other]))
        greatest[second] = _greatest_chances(ways[second], trials[second], grid[second])
        p_values[here] = np.minimum(2 * np.minimum(*np.split(greatest, 2)), 1)
    return p_values[asked]


def _extreme_ways(k1: IntArray, n1: IntArray, k2: IntArray, n2: IntArray) -> tuple[FloatArray, FloatArray]:
    """By table, and by how many hits both periods have: the ways to a table whose one-sided p by Fisher is no greater.

    The first are those with few hits among n1, the other those with many.
    """
    hits, first = np.arange(int((n1 + n2).max()) + 1), np.arange(int(n1.max()) + 1)
    second = hits[:, None] - first
    both = _CHOOSE[n1][:, None, first] * np.where(second < 0, 0, _CHOOSE[n2][:, second])
    of_hits = _CHOOSE[n1 + n2][:, hits, None]
    found = []
    for ways in (np.cumsum(both, axis=2), np.cumsum(both[:, :, ::-1], axis=2)[:, :, ::-1]):
        seen = ways[np.arange(k1.size), k1 + k2, k1] / _CHOOSE[n1 + n2, k1 + k2]
        extreme = ways <= seen[:, None, None] * (1 + 1e-13) * of_hits
        found.append(np.where(extreme, ways, 0).max(axis=2))
    return found[0], found[1]


def _chances_on_grid(ways: FloatArray, trials: IntArray) -> FloatArray:
    """By table and share of the grid: the chance of the ways."""
    chances = np.empty((trials.size, _ANGLES.size))
    for n in np.unique(trials).tolist():
        # No matrix product: libraries for those start threads of their own.
        chances[trials == n] = np.einsum("th,hg->tg", ways[trials == n, : n + 1], _grid_powers(n))
    return chances


@lru_cache(maxsize=BOSCHLOO_MAX_N)
def _grid_powers(n: int) -> FloatArray:
    return np.ascontiguousarray(_powers(_ANGLES, np.full(_ANGLES.size, n)).T)


def _powers(angles: FloatArray, trials: IntArray) -> FloatArray:
    """The chance of one way to each number of hits, a row per share: share^hits (1 - share)^misses."""
    hits = np.arange(int(trials.max()) + 1)
    misses = np.maximum(trials[:, None] - hits, 0)
    share, rest = 2 * np.log(np.sin(angles)), 2 * np.log(np.cos(angles))
    return np.asarray(np.exp(hits * share[:, None] + misses * rest[:, None]), dtype=np.float64)


def _greatest_chances(ways: FloatArray, trials: IntArray, grid: FloatArray) -> FloatArray:
    """By table: the greatest chance of the ways over all shares, from the chances on the grid."""
    if not trials.size:
        return np.empty(0)
    edge = np.full((trials.size, 1), -np.inf)
    higher = np.concatenate([edge, grid, edge], axis=1)
    table, peak = np.nonzero(
        (grid >= higher[:, :-2]) & (grid >= higher[:, 2:]) & (grid >= 0.9 * grid.max(axis=1, keepdims=True))
    )
    peaks, found = _ANGLES[peak], grid[table, peak][:, None]
    step = float(_ANGLES[1] - _ANGLES[0])
    while step > 1e-6:
        # Not quite to the ends, where nothing or everything is certain and logarithms are not finite.
        around = np.clip(peaks[:, None] + np.linspace(-step, step, 17), 1e-9, np.pi / 2 - 1e-9)
        powers = _powers(around.ravel(), np.repeat(trials[table], 17)).reshape(*around.shape, -1)
        found = np.einsum("psh,ph->ps", powers, ways[table, : powers.shape[2]])
        peaks = around[np.arange(peaks.size), found.argmax(axis=1)]
        step /= 8
    return np.asarray(np.maximum.reduceat(found.max(axis=1), np.searchsorted(table, np.arange(trials.size))))


def fisher_mid_p(k1: npt.ArrayLike, n1: npt.ArrayLike, k2: npt.ArrayLike, n2: npt.ArrayLike) -> FloatArray:
    """Twice the smaller one-sided mid-p of Fisher's exact test, as scipy doubles Boschloo's.

    `scipy.stats.hypergeom` takes longer to load than a day's measuring, and knows large tables to ten digits only.
    """
    given = np.broadcast_arrays(*(np.asarray(counts, dtype=np.int64) for counts in (k1, n1, k2, n2)))
    seen, first, other, second = (np.ravel(counts) for counts in given)
    hits, total = seen + other, first + second
    likeliest = (hits + 1) * (first + 1) // (total + 2)
    share = hits / np.maximum(total, 1)
    spread = np.sqrt(share * (1 - share) * first * second / np.maximum(total - 1, 1))
    reach = np.ceil(_WEIGHED_DEVIATIONS * spread).astype(np.int64) + _WEIGHED_TABLES
    least = np.maximum(np.maximum(hits - second, 0), np.minimum(likeliest, seen) - reach)
    most = np.minimum(np.minimum(hits, first), np.maximum(likeliest, seen) + reach)
    p_values = np.empty(seen.size)
    for some in _passes(np.arange(seen.size), most - least + 1):
        p_values[some] = _mid_p(*(of[some] for of in (seen, first, second, hits, likeliest, least, most)))
    return p_values.reshape(given[0].shape)


def _mid_p(
    seen: IntArray,
    first: IntArray,
    second: IntArray,
    hits: IntArray,
    likeliest: IntArray,
    least: IntArray,
    most: IntArray,
) -> FloatArray:
    """`fisher_mid_p` from the tables with `least` to `most` hits in the first period.

    Each is weighed against the likeliest, by the ratios of neighbours on the way there.
    """
    # Of tables with fewer hits in the first period than were seen, as many, and more.
    weights = np.zeros((3, seen.size))
    weights[np.sign(likeliest - seen) + 1, np.arange(seen.size)] = 1.0
    for steps, sign in ((most - likeliest, 1), (likeliest - least, -1)):
        table = np.repeat(np.arange(seen.size), steps)
        before = likeliest[table] + sign * ranges(np.zeros_like(steps), steps)
        rest = hits[table] - before
        missed, missed_rest = first[table] - before, second[table] - rest
        ratio = (
            rest * missed / ((before + 1.0) * (missed_rest + 1.0))
            if sign > 0
            else before * missed_rest / ((rest + 1.0) * (missed + 1.0))
        )
        weighed = running_by_group(np.multiply, ratio, steps)
        side = np.sign(before + sign - seen[table]) + 1
        for row in range(3):
            weights[row] += _sums(table, np.where(side == row, weighed, 0.0), seen.size)
    fewer, same, more = weights
    return np.asarray(np.minimum((2 * np.minimum(fewer, more) + same) / (fewer + same + more), 1), dtype=np.float64)


def _log_rank(ended: Groups, running: Groups, old: IntArray, new: IntArray) -> tuple[FloatArray, IntArray]:
    """The log-rank test of durations of which some are still running; NaN where at no end both periods had any."""
    from scipy import special

    used, place = np.unique(np.concatenate([old, new]), return_inverse=True)
    sides = place[: old.size], place[old.size :]
    samples = [(one.starts[used], one.sizes[used]) for one in (ended, running)]
    values = np.concatenate(
        [one.values[ranges(*sample)] for one, sample in zip((ended, running), samples, strict=True)]
    )
    _, rank = np.unique(values, return_inverse=True)
    span = int(rank.max(initial=0)) + 1
    # Group and rank in one ascending number, for those that ended and for those still running.
    keys, ends, left = [], [], 0
    for _, sizes in samples:
        keys.append(np.repeat(np.arange(used.size), sizes) * span + rank[left : left + int(sizes.sum())])
        ends.append(np.cumsum(sizes))
        left += int(sizes.sum())
    sizes_ended = samples[0][1]
    pooled = []
    for side in sides:
        mine = ranges((ends[0] - sizes_ended)[side], sizes_ended[side])
        pooled.append(np.repeat(np.arange(side.size), sizes_ended[side]) * span + keys[0][mine] % span)
    times, died = np.unique(np.concatenate(pooled), return_counts=True)
    pair, at = times // span, times % span
    # Doubles: products of four counts outgrow integers.
    in_old, in_new = (
        sum(
            (
                end[side[pair]] - np.searchsorted(key, side[pair] * span + at)
                for key, end in zip(keys, ends, strict=True)
            ),
            np.zeros(times.size),
        )
        for side in sides
    )
    both = in_new + in_old
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(both > 1, in_new * in_old * died * (both - died) / (both**2 * (both - 1)), 0.0)
    variance = _sums(pair, parts, old.size)
    expected = _sums(pair, in_new * (died / both), old.size)
    known = variance > 0
    score = np.where(known, sizes_ended[sides[1]] - expected, 0.0) / np.sqrt(np.where(known, variance, 1.0))
    # The score counts ends above expectation in the new period: more ends mean shorter durations.
    return np.where(known, 2 * special.ndtr(-np.abs(score)), np.nan), np.where(known, -np.sign(score), 0).astype(
        np.int64
    )


def rates_changed(
    count_old: npt.ArrayLike,
    days_old: npt.ArrayLike,
    count_new: npt.ArrayLike,
    days_new: npt.ArrayLike,
    ratios: npt.ArrayLike | None = None,
    degrees: npt.ArrayLike | None = None,
) -> Changes:
    """`compare_rates` for many pairs; ratios and degrees of `poisson_dispersions` say how much weekly counts vary."""
    from scipy import special

    k1, k2 = np.asarray(count_old, dtype=np.int64), np.asarray(count_new, dtype=np.int64)
    t1, t2 = np.asarray(days_old, dtype=np.float64), np.asarray(days_new, dtype=np.float64)
    if (k1 < 0).any() or (k2 < 0).any() or not ((t1 > 0).all() and (t2 > 0).all()):
        raise ValueError("counts must not be negative and days must be above 0")
    total = k1 + k2
    enough = total >= MIN_EVENTS
    share = t2 / (t1 + t2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = (k2 - total * share) / np.sqrt(total * share * (1 - share))
    p_values = np.full(total.shape, np.nan)
    large = enough & (np.maximum(k1, k2) > E_TEST_MAX_COUNT)
    p_values[large] = 2 * special.ndtr(-np.abs(scores[large]))
    small = np.flatnonzero(enough & ~large)
    if small.size:
        # Services without weekends and holidays of their own have many pairs in common.
        pairs, place = np.unique(
            np.column_stack([k2[small], t2[small], k1[small], t1[small]]), axis=0, return_inverse=True
        )
        p_values[small] = _poisson_means(*pairs.T)[place.ravel()]
    if ratios is not None and degrees is not None:
        spread = np.asarray(degrees, dtype=np.int64)
        clustered = enough & (spread > 0)
        scaled = -np.abs(scores[clustered]) / np.sqrt(np.asarray(ratios, dtype=np.float64)[clustered])
        p_values[clustered] = np.maximum(p_values[clustered], 2 * special.stdtr(spread[clustered], scaled))
    return Changes(p_values, np.where(enough, np.sign(scores), 0).astype(np.int64))


def _poisson_means(k1: FloatArray, n1: FloatArray, k2: FloatArray, n2: FloatArray) -> FloatArray:
    """The two-sided E-test of `scipy.stats.poisson_means_test`, in sums of one row instead of a grid.

    For a count x1 the statistic falls as x2 grows, so that the counts x2 which say no more than what was seen lie side
    by side: what is outside them is left of one number and right of another, and its probability is read from a
    running sum. The two numbers come from a quadratic equation and are then held against the statistic itself.
    """
    from scipy import special

    def least(expected: FloatArray) -> IntArray:
        count = np.ceil(special.pdtrik(_E_TEST_LOWER_TAIL, expected))
        before = np.maximum(count - 1, 0)
        return np.where(special.pdtr(before, expected) >= _E_TEST_LOWER_TAIL, before, count).astype(np.int64)

    def most(expected: FloatArray) -> IntArray:
        # By Bernstein's inequality: a sum loses nothing by more terms, and to find the last takes longer.
        beyond = _E_TEST_LOG_UPPER_TAIL
        return np.ceil(expected + beyond / 3 + np.sqrt(beyond**2 / 9 + 2 * beyond * expected)).astype(np.int64)

    mean = (k1 + k2) / (n1 + n2)
    seen = np.abs((k1 / n1 - k2 / n2) / np.sqrt(k1 / n1**2 + k2 / n2**2))
    (low1, high1), (low2, high2) = ((least(exposure * mean), most(exposure * mean)) for exposure in (n1, n2))
    sizes1, sizes2 = high1 - low1 + 1, high2 - low2 + 1
    pair1 = np.repeat(np.arange(k1.size), sizes1)
    x1 = ranges(low1, sizes1)

    widths = 1 << np.ceil(np.log2(sizes2)).astype(np.int64)
    # Logarithms of factorials, once for every count that occurs.
    factorials = special.gammaln(np.arange(1, max(int(high1.max()), int((low2 + widths).max())) + 2))

    def chance(counts: IntArray, expected: FloatArray, logarithm: FloatArray) -> FloatArray:
        return np.asarray(np.exp(counts * logarithm - factorials[counts] - expected))

    expected1, expected2 = n1 * mean, n2 * mean
    chance1 = chance(x1, expected1[pair1], np.log(expected1)[pair1])
    # Each pair's running sum begins at 0: a p-value must not depend on who else is asked. Rows of like width together.
    begins = np.cumsum(sizes2 + 1) - sizes2 - 1
    running = np.zeros(int((sizes2 + 1).sum()))
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        x2 = low2[chosen, None] + np.arange(width)
        sums = np.cumsum(chance(x2, expected2[chosen, None], np.log(expected2)[chosen, None]), axis=1)
        inside = np.arange(width) < sizes2[chosen, None]
        running[(begins[chosen, None] + 1 + np.arange(width))[inside]] = sums[inside]
    a, e1, e2, limit = x1 / n1[pair1], n1[pair1], n2[pair1], seen[pair1]

    def statistic(x: IntArray, at: IntArray) -> FloatArray:
        b = x / e2[at]
        with np.errstate(divide="ignore", invalid="ignore"):
            found: FloatArray = (a[at] - b) / np.sqrt(a[at] / e1[at] + b / e2[at])
        return found

    half = limit**2 / (2 * e2)
    root = np.sqrt(np.maximum((a + half) ** 2 - a**2 + limit**2 * a / e1, 0))
    # The greatest x2 that is as extreme from below, and the smallest from above; near a whole number rounding decides.
    lower, upper = e2 * (a + half - root), e2 * (a + half + root)
    left, right = np.floor(lower).astype(np.int64), np.ceil(upper).astype(np.int64)
    near = np.flatnonzero(np.abs(lower - np.rint(lower)) < _NEAR)
    left[near] += 1
    for _ in range(2):
        left[near] -= ~(statistic(left[near], near) >= limit[near]) | (left[near] < 0)
    near = np.flatnonzero(np.abs(upper - np.rint(upper)) < _NEAR)
    right[near] -= 1
    for _ in range(2):
        right[near] += ~(statistic(right[near], near) <= -limit[near])
    first, last = begins[pair1], begins[pair1] + sizes2[pair1]
    upto_left = np.clip(first + left - low2[pair1] + 1, first, last)
    from_right = np.clip(first + right - low2[pair1], upto_left, last)
    outside = (running[upto_left] - running[first]) + (running[last] - running[from_right])
    return np.clip(_sums(pair1, chance1 * outside, k1.size), 0, 1)
