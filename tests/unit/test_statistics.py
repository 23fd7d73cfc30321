"""Intervals and limits against scipy, published examples and numbers worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analytics import statistics
from analytics.samples import Groups
from analytics.statistics import (
    clustered_mean_interval,
    funnel_limits,
    kaplan_meier_median,
    kaplan_meier_medians,
    poisson_rate_interval,
    process_limits,
    quantile,
    quantile_interval,
    quantile_ranks,
    quantile_ranks_array,
    weekly_dispersion,
    wilson,
    wilson_array,
)

# Weeks of remission under 6-mercaptopurine and placebo (Freireich and others 1963), the textbook censored sample.
REMISSION = [6, 6, 6, 7, 10, 13, 16, 22, 23]
REMISSION_RUNNING = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
# Twelve of 24 have ended: the float product of the survival steps is 0.5000000000000001.
HALF = 12


def test_importing_it_does_not_load_scipy() -> None:
    code = "import sys, analytics.statistics, analytics.comparisons; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# means


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.2, 0.4, 0.4, 0.6, 0.8, 0.8, 1.0]
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert clustered_mean_interval(values) == pytest.approx((wanted.low, wanted.high))


def test_answers_of_the_same_people_widen_the_interval_and_are_no_more_evidence() -> None:
    values = [0.2, 0.4, 0.4, 0.6, 0.8, 0.8, 1.0]
    people = list("abcdefg")
    # Each person answers three questions alike: as sure as seven answers, not as twenty-one.
    assert clustered_mean_interval(values * 3, people * 3) == pytest.approx(clustered_mean_interval(values))
    alone = clustered_mean_interval(values * 3)
    assert alone is not None
    assert alone.high < 0.8


@pytest.mark.parametrize(("values", "clusters"), [([], None), ([0.5] * 5, None), ([0.1, 0.9] * 10, ["a", "b"] * 10)])
def test_a_mean_of_fewer_than_six_has_no_interval(values: list[float], clusters: list[str] | None) -> None:
    assert clustered_mean_interval(values, clusters) is None


def test_every_value_needs_its_cluster() -> None:
    with pytest.raises(ValueError, match="the same length"):
        clustered_mean_interval([1, 2, 3], ["a"])


# quantiles


def test_the_median_of_1_2_3_4_is_interpolated() -> None:
    assert quantile([1, 2, 3, 4], 0.5) == 2.5


def test_p95_interpolates_between_the_two_nearest_values() -> None:
    # Position 0.95 * (10 - 1) = 8.55 from zero: 9 + 0.55 * (100 - 9).
    assert quantile([1, 2, 3, 4, 5, 6, 7, 8, 9, 100], 0.95) == pytest.approx(59.05)


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.5) is None


@pytest.mark.parametrize("values", [[1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_a_sample_that_is_no_list_of_finite_numbers_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        quantile(values, 0.5)


@pytest.mark.parametrize(
    ("p", "smallest"),
    [
        (0.5, statistics.MIN_N_MEDIAN_INTERVAL),
        (0.75, statistics.MIN_N_P75_INTERVAL),
        (0.95, statistics.MIN_N_P95_INTERVAL),
    ],
)
def test_an_interval_exists_from_the_smallest_n_of_the_report_rules(p: float, smallest: int) -> None:
    assert [n for n in range(200) if quantile_ranks(n, p)] == list(range(smallest, 200))


@pytest.mark.parametrize(("n", "ranks"), [(6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))])
def test_the_ranks_of_a_median_are_those_of_the_sign_test_tables(n: int, ranks: tuple[int, int]) -> None:
    assert quantile_ranks(n, 0.5) == ranks


def test_ranks_of_ten_million_rows_follow_the_normal_limit() -> None:
    lower, upper = quantile_ranks(10_000_000, 0.5) or (0, 0)
    assert lower + upper == 10_000_001
    assert upper - lower == pytest.approx(2 * 1.959964 * math.sqrt(10_000_000) / 2, rel=1e-3)


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.one_of(st.integers(-5, 5), st.floats(-1e6, 1e6)), min_size=1, max_size=160),
    p=st.sampled_from([0.05, 0.25, 0.5, 0.75, 0.95]),
    confidence=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_the_interval_is_the_one_of_scipys_quantile_test(values: list[float], p: float, confidence: float) -> None:
    expected = stats.quantile_test(values, p=p).confidence_interval(confidence)
    interval = quantile_interval(values, p, confidence)
    if math.isnan(expected.low) or math.isnan(expected.high):
        assert interval is None
    else:
        assert interval == (expected.low, expected.high)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 100_000), max_size=30), p=st.sampled_from([0.05, 0.5, 0.75, 0.95]))
def test_ranks_of_many_sizes_are_those_of_each(sizes: list[int], p: float) -> None:
    sizes = [*sizes, 3, 20]
    lower, upper = quantile_ranks_array(sizes, p)
    assert list(zip(lower.tolist(), upper.tolist(), strict=True)) == [quantile_ranks(n, p) or (0, 0) for n in sizes]


@pytest.mark.parametrize("p", [0.01, 0.5, 0.75, 0.95])
def test_ranks_are_those_of_scipys_binomial_distribution(p: float) -> None:
    sizes = np.concatenate([np.arange(3_000), np.random.default_rng(1).integers(3_000, 10**8, 1_000)])
    lower, upper = quantile_ranks_array(sizes, p)
    low, high = stats.binom.ppf(0.025, sizes, p), stats.binom.isf(0.025, sizes, p) + 1
    known = (low >= 1) & (high <= sizes)
    assert lower.tolist() == np.where(known, low, 0).tolist()
    assert upper.tolist() == np.where(known, high, 0).tolist()


# shares


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # The four examples of Newcombe 1998, and the 0 of 9 of the report rules.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 9, 0, 0.2991),
    ],
)
def test_wilson_gives_the_published_examples(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_wilson_agrees_with_scipy(k_of_n: tuple[int, int], confidence: float) -> None:
    expected = stats.binomtest(*k_of_n).proportion_ci(confidence, method="wilson")
    assert wilson(*k_of_n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_none_and_all_reach_the_ends_exactly() -> None:
    trials = np.arange(1, 3000)
    assert set(wilson_array(0 * trials, trials)[0]) == {0.0}
    assert set(wilson_array(trials, trials)[1]) == {1.0}


@settings(deadline=None)
@given(st.lists(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1))
def test_wilson_of_many_rows_is_that_of_each(rows: list[tuple[int, int]]) -> None:
    low, high = wilson_array([k for k, _ in rows], [n for _, n in rows])
    assert list(zip(low, high, strict=True)) == [wilson(k, n) for k, n in rows]


def test_rows_without_trials_have_no_interval_and_leave_the_others_alone() -> None:
    low, high = wilson_array([0, 0], [0, 9])
    assert (math.isnan(low[0]), math.isnan(high[0])) == (True, True)
    assert (low[1], high[1]) == wilson(0, 9)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_share(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="must"):
        wilson(k, n)


# counts


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904)])
def test_a_count_has_garwoods_exact_limits(count: int, low: float, high: float) -> None:
    assert poisson_rate_interval(count, 1) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)
@given(count=st.integers(1, 10_000), days=st.integers(1, 92))
def test_a_rate_has_the_chi_squared_limits_per_day(count: int, days: int) -> None:
    expected = stats.chi2.ppf(0.025, 2 * count) / 2 / days, stats.chi2.ppf(0.975, 2 * count + 2) / 2 / days
    assert poisson_rate_interval(count, days) == pytest.approx(expected, rel=1e-9)


def test_dispersion_is_variance_over_mean() -> None:
    # Mean 2, squared deviations 4 * 6 = 24 over five degrees of freedom: variance 4.8.
    assert weekly_dispersion([0, 4, 0, 4, 0, 4]) == pytest.approx((2.4, 5))


def test_dispersion_pools_periods_around_their_own_means() -> None:
    # The second period adds 24 / 102 on five degrees of freedom; its level of 102 is no variation.
    ratio, degrees = weekly_dispersion([0, 4, 0, 4, 0, 4], [100, 104, 100, 104, 100, 104])
    assert (ratio, degrees) == (pytest.approx((12 + 24 / 102) / 10), 10)


@pytest.mark.parametrize("weeks", [[3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0], [0, 50, 0, 0, 0], []])
def test_even_empty_and_few_weeks_are_taken_as_poisson(weeks: list[int]) -> None:
    assert weekly_dispersion(weeks) == (1.0, 0)
    assert poisson_rate_interval(20, 91, weeks) == poisson_rate_interval(20, 91)


def test_the_interval_of_clustered_counts_covers_where_the_exact_one_does_not() -> None:
    random = np.random.default_rng(7)
    # Negative binomial weeks: mean 10, variance 30.
    quarters = random.negative_binomial(5, 1 / 3, size=(600, 13))
    true_rate = 130 / 91

    def coverage(with_weeks: bool) -> float:
        covered = 0
        for weeks in quarters.tolist():
            low, high = poisson_rate_interval(sum(weeks), 91, weeks if with_weeks else ())
            covered += low <= true_rate <= high
        return covered / len(quarters)

    assert coverage(with_weeks=True) >= 0.93
    assert coverage(with_weeks=False) < 0.82


@pytest.mark.parametrize(("count", "exposure"), [(-1, 91), (3, 0), (3, math.nan)])
def test_a_rate_without_exposure_is_refused(count: int, exposure: float) -> None:
    with pytest.raises(ValueError, match="exposure"):
        poisson_rate_interval(count, exposure)


# recovery


def test_without_open_durations_the_median_is_interpolated_with_its_exact_interval() -> None:
    result = kaplan_meier_median([6, 1, 5, 2, 4, 3])
    assert (result.value, result.n, result.open, result.interval) == (3.5, 6, 0, (1, 6))


def test_five_durations_have_a_median_and_no_interval() -> None:
    assert kaplan_meier_median([1, 2, 3, 4, 5]).interval is None


def test_the_median_of_the_textbook_sample_is_23_weeks() -> None:
    result = kaplan_meier_median(REMISSION, REMISSION_RUNNING)
    assert (result.value, result.n, result.open) == (23, 9, 12)
    # The upper survival bound never falls to one half: the interval has no upper end.
    assert (result.low, result.high, result.interval) == (13, None, None)


def test_survival_that_misses_one_half_only_by_rounding_reaches_the_median() -> None:
    ended, running = list(range(1, HALF + 1)), [100] * HALF
    at_risk = np.arange(2 * HALF, HALF, -1)
    assert np.cumprod((at_risk - 1) / at_risk)[-1] > 0.5
    assert kaplan_meier_median(ended, running).value == HALF


def test_the_interval_with_open_durations_is_taken_on_the_log_log_scale() -> None:
    # Eight of ten have ended, one a day. S = 0.9 on day 1: exp(-exp(ln(-ln 0.9) + 1.96 * 0.0949 / 0.1054)) = 0.473;
    # S = 0.2 on day 8 has the upper bound 0.475 and S = 0.3 on day 7 has 0.578. Plain Greenwood would begin on day 3.
    result = kaplan_meier_median([1, 2, 3, 4, 5, 6, 7, 8], [10, 10])
    assert (result.value, result.interval) == (5, (1, 8))


def test_five_durations_have_no_interval_when_one_is_open() -> None:
    result = kaplan_meier_median([1, 2, 3, 4], [5])
    assert (result.value, result.low, result.high) == (3, None, None)


def test_a_median_that_is_not_reached_is_none() -> None:
    result = kaplan_meier_median([1], [2, 2])
    assert (result.value, result.n, result.open) == (None, 1, 2)


def test_only_open_durations_have_no_median() -> None:
    result = kaplan_meier_median([], [5] * 8)
    assert (result.value, result.n, result.open, result.low, result.high) == (None, 0, 8, None, None)


def test_nothing_at_all_has_no_median() -> None:
    assert kaplan_meier_median([]).value is None


def test_an_end_at_the_moment_of_censoring_still_had_the_other_at_risk() -> None:
    # Three at risk at t = 2, one ends: survival 2/3; leaving the running one out would give 1/2.
    assert kaplan_meier_median([2], [2, 3]).value is None


def test_the_interval_of_a_median_whose_last_duration_ended_has_a_lower_end() -> None:
    result = kaplan_meier_median([4, 4, 4, 4, 4, 4, 4], [1])
    assert (result.value, result.low) == (4, 4)


def test_open_durations_do_not_drag_the_median_down() -> None:
    random = np.random.default_rng(3)
    true_median = 336.0
    durations = random.exponential(true_median / math.log(2), 4000)
    watched = random.uniform(0, 3 * true_median, 4000)
    ended = durations[durations <= watched]
    result = kaplan_meier_median(ended, watched[durations > watched])
    dropped = quantile(ended, 0.5)
    assert dropped is not None
    assert dropped < 0.75 * true_median
    assert result.value == pytest.approx(true_median, rel=0.06)
    assert result.interval is not None
    assert result.interval.low < true_median < result.interval.high


@settings(max_examples=60, deadline=None)
@given(
    ended=st.lists(st.integers(0, 50), max_size=25),
    running=st.lists(st.integers(0, 50), min_size=1, max_size=25),
)
def test_the_kaplan_meier_median_is_where_half_of_the_exact_product_is_gone(
    ended: list[int], running: list[int]
) -> None:
    from fractions import Fraction

    survival, expected = Fraction(1), None
    for time in sorted(set(ended)):
        at_risk = sum(t >= time for t in ended + running)
        survival *= 1 - Fraction(ended.count(time), at_risk)
        if survival <= Fraction(1, 2):
            expected = time
            break
    result = kaplan_meier_median(ended, running)
    assert result.value == expected
    if result.value is not None and result.interval is not None:
        assert result.interval.low <= result.value <= result.interval.high


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 30), max_size=25), st.lists(st.integers(0, 30), min_size=1, max_size=9)),
        min_size=1,
        max_size=9,
    )
)
def test_medians_of_many_samples_are_those_of_each_alone(samples: list[tuple[list[int], list[int]]]) -> None:
    sides = []
    for side in (0, 1):
        numbers = np.repeat(np.arange(len(samples)), [len(sample[side]) for sample in samples])
        sides.append(Groups.of([value for sample in samples for value in sample[side]], numbers, len(samples)))
    for found, (ended, running) in zip(zip(*kaplan_meier_medians(*sides), strict=True), samples, strict=True):
        alone = kaplan_meier_median(ended, running)
        expected = [math.nan if one is None else one for one in (alone.value, alone.low, alone.high)]
        np.testing.assert_array_equal(found, expected)


# limits of charts


def test_a_funnel_limit_is_interpolated_by_hand() -> None:
    # One trial at 10 %: the 97.5 % point is 1, and (1 - 0.975) / 0.1 of it is given back.
    limits = funnel_limits([1], 0.1)
    assert (limits.low_95[0], limits.high_95[0]) == (0, pytest.approx(0.75))
    assert (limits.low_998[0], limits.high_998[0]) == (0, pytest.approx(0.99))


@settings(deadline=None)
@given(n=st.integers(1, 2000), pooled=st.floats(0.01, 0.99))
def test_funnel_limits_leave_at_most_their_share_outside(n: int, pooled: float) -> None:
    limits = funnel_limits([n], pooled)
    for high, tail in ((limits.high_95[0], 0.025), (limits.high_998[0], 0.001)):
        # Counts above the limit rounded up; the interpolated limit lies within one count of it.
        assert stats.binom.sf(math.ceil(high * n), n, pooled) <= tail + 1e-9
    assert 0 <= limits.low_998[0] <= limits.low_95[0] <= limits.high_95[0] <= limits.high_998[0] <= 1


def test_a_funnel_narrows_to_the_normal_limits() -> None:
    limits = funnel_limits([1_000_000], 0.2)
    error = math.sqrt(0.2 * 0.8 / 1_000_000)
    assert limits.high_95[0] == pytest.approx(0.2 + 1.96 * error, rel=1e-5)
    assert limits.low_998[0] == pytest.approx(0.2 - 3.09 * error, rel=1e-5)


@pytest.mark.parametrize("pooled", [0.0, 1.0])
def test_a_funnel_around_none_or_all_has_no_width(pooled: float) -> None:
    limits = funnel_limits([5, 50], pooled)
    assert limits.low_95.tolist() == limits.high_998.tolist() == [pooled, pooled]


@pytest.mark.parametrize(("denominators", "pooled"), [([0], 0.1), ([5], 1.1), ([5], math.nan)])
def test_a_funnel_refuses_what_is_no_share(denominators: list[int], pooled: float) -> None:
    with pytest.raises(ValueError, match="share"):
        funnel_limits(denominators, pooled)


def test_process_limits_are_worked_out_by_hand() -> None:
    # Mean 5.5; moving ranges 1, 1, 2, 1, 2 with mean 1.4; 2.66 * 1.4 = 3.724.
    limits = process_limits([5, 6, 7, 5, 4, 6])
    assert limits is not None
    assert (limits.centre, limits.low, limits.high) == pytest.approx((5.5, 1.776, 9.224))


def test_a_week_without_a_value_breaks_the_moving_range() -> None:
    # The jump from 7 to 17 spans the gap and is no moving range: ranges 1, 1, 1, 1.
    limits = process_limits([5, 6, 7, None, 17, 18, 19])
    assert limits is not None
    assert limits.high - limits.centre == pytest.approx(2.66)


def test_limits_stop_where_the_number_cannot_go() -> None:
    limits = process_limits([0, 1, 0, 1, 0, 1], smallest=0, largest=1)
    assert limits is not None
    assert (limits.low, limits.high) == (0, 1)


@pytest.mark.parametrize("weeks", [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, None, None], []])
def test_five_weeks_make_no_chart(weeks: list[float | None]) -> None:
    assert process_limits(weeks) is None
