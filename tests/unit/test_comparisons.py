"""Tests of two periods and readings of many, against scipy, published examples, hand-made numbers and simulation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analytics import change_tests
from analytics.comparisons import (
    Comparison,
    Direction,
    compare_proportions,
    compare_proportions_array,
    compare_quantile,
    compare_rates,
    compare_samples,
    group_medians,
    read,
)
from analytics.statistics import poisson_rate_interval, quantile_interval, wilson

# Weeks of remission under 6-mercaptopurine and placebo (Freireich and others 1963).
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
TREATED_RUNNING = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def made(p_value: float | None, direction: int = 1) -> Comparison:
    return Comparison(p_value, direction, None, None, None, 10, 10)


# samples


def test_six_against_six_without_overlap_have_the_smallest_exact_p() -> None:
    comparison = compare_samples([1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16])
    assert comparison.p_value == pytest.approx(2 / math.comb(12, 6))
    assert (comparison.direction, comparison.effect) == (1, 10)


def test_the_shift_is_the_median_of_all_differences_with_the_interval_of_the_test() -> None:
    old, new = [1, 2, 4, 8, 16, 32], [3.1, 9.2, 27.3, 81.4, 243.5, 729.6]  # no two differences are equal
    differences = sorted(b - a for a in old for b in new)
    comparison = compare_samples(old, new)
    assert comparison.effect == (differences[17] + differences[18]) / 2
    # The 5 % table of Mann-Whitney rejects up to U = 5 for 6 and 6: the sixth difference from either end.
    assert (comparison.low, comparison.high) == (differences[5], differences[-6])


@pytest.mark.parametrize(("n_old", "n_new"), [(5, 6), (6, 5), (0, 100)])
def test_fewer_than_six_durations_are_too_few(n_old: int, n_new: int) -> None:
    comparison = compare_samples(range(n_old), range(100, 100 + n_new))
    assert comparison == Comparison(None, 0, None, None, None, n_old, n_new)


def test_shorter_durations_point_down() -> None:
    assert compare_samples([5, 6, 7, 8, 9, 10], [1, 2, 3, 4, 5, 6]).direction == -1


def test_equal_durations_are_no_change() -> None:
    comparison = compare_samples([3] * 10, [3] * 10)
    assert (comparison.p_value, comparison.direction, comparison.effect) == (1, 0, 0)


def test_ties_and_long_samples_take_the_normal_approximation() -> None:
    tied = [1, 1, 2, 2, 3, 3], [2, 3, 3, 4, 4, 5]
    long = list(range(30)), [value + 0.5 for value in range(10, 18)]
    for old, new in (tied, long):
        expected = stats.mannwhitneyu(new, old, method="asymptotic")
        assert compare_samples(old, new).p_value == expected.pvalue


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=6, max_size=40), st.lists(numbers, min_size=6, max_size=40))
def test_swapping_the_periods_turns_the_change_around(old: list[float], new: list[float]) -> None:
    there, back = compare_samples(old, new), compare_samples(new, old)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.direction == -back.direction
    assert there.effect is not None
    assert back.low is not None
    assert back.high is not None
    assert (there.effect, there.low, there.high) == (-(back.effect or 0), -back.high, -back.low)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(numbers, min_size=21, max_size=40, unique=True), st.lists(numbers, min_size=21, max_size=40, unique=True)
)
def test_the_interval_leaves_out_zero_exactly_when_the_test_rejects(old: list[float], new: list[float]) -> None:
    new = [value + 0.0005 for value in new]  # no ties between the periods
    comparison = compare_samples(old, new)
    assert comparison.p_value is not None
    assert comparison.low is not None
    assert comparison.high is not None
    if abs(comparison.p_value - 0.05) > 1e-6:
        assert (comparison.low > 0 or comparison.high < 0) == (comparison.p_value < 0.05)


def test_thinning_long_samples_moves_the_shift_by_less_than_a_hundredth_of_its_interval() -> None:
    random = np.random.default_rng(5)
    old, new = random.lognormal(size=1500), random.lognormal(0.1, size=1700)
    comparison = compare_samples(old, new)
    differences = np.sort(np.subtract.outer(new, old).ravel())
    spread = 1.959964 * math.sqrt(differences.size * (old.size + new.size + 1) / 12)
    low, high = differences[[int(differences.size / 2 - spread), int(differences.size / 2 + spread)]]
    assert comparison.effect == pytest.approx(float(np.median(differences)), abs=0.01 * (high - low))
    assert (comparison.low, comparison.high) == pytest.approx((low, high), abs=0.01 * (high - low))


def test_long_samples_are_thinned_alike_in_any_order_and_at_both_ends() -> None:
    old, new = np.random.default_rng(1).lognormal(size=(2, 3000))
    comparison = compare_samples(old, new)
    assert comparison == compare_samples(old[::-1], np.sort(new))
    mirrored = compare_samples(-old, -new)
    assert mirrored.effect == pytest.approx(-(comparison.effect or 0))
    assert mirrored.low == pytest.approx(-(comparison.high or 0))


# samples with open durations


def test_the_textbook_sample_has_its_log_rank_p() -> None:
    comparison = compare_samples(PLACEBO, TREATED, [], TREATED_RUNNING)
    # The published chi-squared is 16.79.
    assert comparison.p_value == pytest.approx(stats.chi2.sf(16.79, 1), rel=0.01)
    assert (comparison.direction, comparison.effect) == (1, 23 - 8)
    assert (comparison.n_old, comparison.n_new) == (21, 21)


def test_open_durations_can_turn_a_better_quarter_into_a_worse_one() -> None:
    ended_old, ended_new = [10.0, 11, 12, 13, 14, 15, 16, 17], [6.0, 7, 8, 9, 9.5, 9.6]
    open_new = [100.0] * 20
    assert compare_samples(ended_old, ended_new).direction == -1
    comparison = compare_samples(ended_old, ended_new, [], open_new)
    assert comparison.direction == 1
    assert comparison.p_value is not None
    assert comparison.p_value < 0.05
    # The new median is not reached, so no shift can be named.
    assert comparison.effect is None


def test_a_difference_of_medians_has_an_interval_where_both_sides_have_one() -> None:
    random = np.random.default_rng(2)
    old, new = random.exponential(10, 80), random.exponential(30, 80)
    comparison = compare_samples(old, new, [80.0], [90.0])
    assert comparison.effect is not None
    assert comparison.low is not None
    assert comparison.high is not None
    assert 0 < comparison.low < comparison.effect < comparison.high


@pytest.mark.parametrize(
    ("old", "new", "open_old", "open_new"),
    [
        ([], [], [1.0] * 6, [2.0] * 6),  # nothing ended
        ([1.0, 2, 3, 4, 5, 6], [], [], [0.5] * 6),  # the new ones were watched for less than any end took
        ([1.0, 2, 3], [1.0] * 6, [4.0, 5], [6.0]),  # five in all
    ],
)
def test_open_durations_that_cannot_be_compared_are_too_few(
    old: list[float], new: list[float], open_old: list[float], open_new: list[float]
) -> None:
    assert compare_samples(old, new, open_old, open_new).p_value is None


# independence


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9)), min_size=1, max_size=40))
def test_group_medians_are_numpys_median_of_each_group(rows: list[tuple[str, int]]) -> None:
    names = [name for name, _ in rows]
    expected = [np.median([v for n, v in rows if n == name]) for name in sorted(set(names))]
    assert group_medians([value for _, value in rows], names).tolist() == expected


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        group_medians([1, 2], ["a"])


def test_medians_per_deployment_keep_the_promised_error_where_commits_do_not() -> None:
    random = np.random.default_rng(11)

    def quarter() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        deployment = np.repeat(np.arange(25), random.geometric(1 / 6, 25))
        return random.lognormal(2, 1, 25)[deployment] * random.lognormal(0, 0.3, deployment.size), deployment

    commits = deployments = 0
    for _ in range(150):
        (old, old_of), (new, new_of) = quarter(), quarter()
        commits += (compare_samples(old, new).p_value or 0) <= 0.05
        deployments += (compare_samples(group_medians(old, old_of), group_medians(new, new_of)).p_value or 0) <= 0.05
    assert commits > 50
    assert deployments <= 15


# quantiles


def test_a_longer_tail_changes_p95_and_not_the_middle() -> None:
    old = np.arange(200.0)
    new = np.where(old >= 170, old * 10, old)
    assert (compare_samples(old, new).p_value or 0) > 0.05
    comparison = compare_quantile(old, new, 0.95)
    assert (comparison.p_value or 1) < 0.01
    assert comparison.direction == 1
    assert comparison.effect == pytest.approx(np.quantile(new, 0.95) - np.quantile(old, 0.95))


def test_the_tail_test_counts_values_above_the_pooled_quantile() -> None:
    # The pooled p75 of 1..26 is 19.75: none of 13 old ones lie above it, seven of 13 new ones do.
    comparison = compare_quantile(range(1, 14), range(14, 27), 0.75)
    one_sided_mid_p = math.comb(13, 7) / math.comb(26, 7) / 2
    assert comparison.p_value == pytest.approx(2 * one_sided_mid_p)
    assert comparison.effect == 13


def test_values_tied_with_the_pooled_quantile_are_not_above_it() -> None:
    comparison = compare_quantile([1] * 100, [1] * 92 + [2] * 8, 0.95)
    assert comparison.direction == 1
    assert (comparison.p_value or 1) < 0.01


@pytest.mark.parametrize(("n", "p"), [(5, 0.5), (12, 0.75), (71, 0.95)])
def test_a_quantile_without_an_interval_has_no_reading(n: int, p: float) -> None:
    assert quantile_interval(range(n), p) is None
    assert compare_quantile(range(n), range(1000, 1500), p).p_value is None
    assert compare_quantile(range(n + 1), range(1000, 1500), p).p_value is not None


# proportions


def test_all_against_none_has_boschloos_p_by_hand() -> None:
    # Only this table is as extreme; p^6 (1 - p)^6 is largest at one half.
    assert compare_proportions(0, 6, 6, 6).p_value == pytest.approx(2 * 0.5**12, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 25), st.integers(6, 25), st.data())
def test_small_tables_that_may_matter_have_scipys_boschloo(n1: int, n2: int, data: st.DataObject) -> None:
    k1, k2 = data.draw(st.integers(0, n1)), data.draw(st.integers(0, n2))
    exact = stats.boschloo_exact([[k1, k2], [n1 - k1, n2 - k2]]).pvalue
    p_value = compare_proportions(k1, n1, k2, n2).p_value
    assert p_value is not None
    if exact <= 0.05:
        assert p_value == pytest.approx(exact)
    else:
        assert p_value > 0.05


def test_large_tables_have_fishers_mid_p() -> None:
    # Six failures, all in one of two halves: probability C(41, 6) / C(82, 6), half of it counted, on both sides.
    comparison = compare_proportions(0, 41, 6, 41)
    assert comparison.p_value == pytest.approx(math.comb(41, 6) / math.comb(82, 6))
    assert comparison.direction == 1


def test_millions_of_runs_are_compared() -> None:
    comparison = compare_proportions(2_000_000, 10_000_000, 2_001_000, 10_000_000)
    normal = 1e-4 / math.sqrt(2 * 0.2 * 0.8 / 10_000_000)
    assert comparison.p_value == pytest.approx(2 * stats.norm.sf(normal), rel=0.01)


@pytest.mark.parametrize(
    ("k_old", "n_old", "k_new", "n_new", "expected"),
    # Newcombe 1998, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    [(48, 80, 56, 70, (0.2, 0.0524, 0.3339)), (3, 10, 9, 10, (0.6, 0.1705, 0.8090))],
)
def test_a_difference_of_shares_has_newcombes_interval(
    k_old: int, n_old: int, k_new: int, n_new: int, expected: tuple[float, float, float]
) -> None:
    comparison = compare_proportions(k_old, n_old, k_new, n_new)
    assert (comparison.effect, comparison.low, comparison.high) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("k_new", "n_new"), [(3, 10), (20, 40)])
def test_a_falling_share_points_down_though_the_count_may_rise(k_new: int, n_new: int) -> None:
    assert compare_proportions(9, 10, k_new, n_new).direction == -1


def test_no_failure_of_nine_twice_leaves_the_change_as_open_as_either_rate() -> None:
    comparison = compare_proportions(0, 9, 0, 9)
    assert (comparison.p_value, comparison.effect) == (1, 0)
    assert comparison.high == pytest.approx(wilson(0, 9).high)


@pytest.mark.parametrize(("n_old", "n_new"), [(0, 0), (5, 600), (600, 5)])
def test_fewer_than_six_trials_are_too_few(n_old: int, n_new: int) -> None:
    assert compare_proportions(0, n_old, n_new, n_new) == Comparison(None, 0, None, None, None, n_old, n_new)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and n"):
        compare_proportions(7, 6, 1, 6)


def test_many_rows_are_compared_as_each_alone() -> None:
    rows = [(0, 9, 4, 9), (3, 5, 3, 5), (10, 200, 40, 210), (0, 0, 0, 9), (5, 50, 6, 50)]
    many = compare_proportions_array(*(list(column) for column in zip(*rows, strict=True)))
    assert many == [compare_proportions(*row) for row in rows]
    assert compare_proportions_array([], [], [], []) == []


def test_boschloo_could_not_have_spoken_where_it_is_not_asked() -> None:
    for n1, n2 in ((6, 6), (6, 20), (12, 12), (9, 30)):
        for k1 in range(n1 + 1):
            for k2 in range(n2 + 1):
                if change_tests.fisher_mid_p(k1, n1, k2, n2) > change_tests.BOSCHLOO_SCREEN:
                    assert boschloo_on_a_grid(k1, n1, k2, n2) > 0.05


def boschloo_on_a_grid(k1: int, n1: int, k2: int, n2: int) -> float:
    """Boschloo's test once more, by summing the tables that Fisher's test finds as extreme; never too large."""
    x1, x2 = np.meshgrid(np.arange(n1 + 1), np.arange(n2 + 1), indexing="ij")
    share = np.linspace(0.01, 0.99, 50)[:, None]
    first, second = stats.binom.pmf(np.arange(n1 + 1), n1, share), stats.binom.pmf(np.arange(n2 + 1), n2, share)
    sides = []
    for fisher in (stats.hypergeom.cdf(x1, n1 + n2, x1 + x2, n1), stats.hypergeom.sf(x1 - 1, n1 + n2, x1 + x2, n1)):
        extreme = (fisher <= fisher[k1, k2] * (1 + 1e-12)).astype(float)
        sides.append(((first @ extreme) * second).sum(axis=1).max())
    return float(min(1, 2 * min(sides)))


# rates


def test_counts_are_compared_by_the_poisson_means_test() -> None:
    comparison = compare_rates(20, 90, 40, 92)
    assert comparison.p_value == pytest.approx(stats.poisson_means_test(40, 92, 20, 90).pvalue)
    assert comparison.direction == 1
    assert comparison.effect == pytest.approx(40 / 92 - 20 / 90)
    assert comparison.low is not None
    assert comparison.low > 0


def test_the_same_rate_over_another_number_of_days_is_no_change() -> None:
    comparison = compare_rates(10, 30, 30, 90)
    assert comparison.p_value == pytest.approx(1, abs=0.05)
    assert comparison.effect == 0


def test_a_falling_rate_points_down_though_the_count_rises() -> None:
    assert compare_rates(10, 30, 20, 90).direction == -1


def test_the_interval_of_a_difference_of_rates_is_put_together_from_both() -> None:
    old, new = poisson_rate_interval(20, 90), poisson_rate_interval(40, 92)
    comparison = compare_rates(20, 90, 40, 92)
    change = 40 / 92 - 20 / 90
    assert comparison.low == pytest.approx(change - math.sqrt((40 / 92 - new.low) ** 2 + (old.high - 20 / 90) ** 2))
    assert comparison.high == pytest.approx(change + math.sqrt((new.high - 40 / 92) ** 2 + (20 / 90 - old.low) ** 2))


def test_five_events_are_too_few() -> None:
    assert compare_rates(0, 90, 5, 90) == Comparison(None, 0, None, None, None, 0, 5)
    assert compare_rates(0, 90, 6, 90).p_value is not None


def test_large_counts_take_the_normal_limit_without_a_jump() -> None:
    below, above = compare_rates(2800, 90, 2999, 90), compare_rates(2803, 90, 3002, 90)
    assert above.p_value == pytest.approx(below.p_value, rel=0.03)
    assert compare_rates(50_000, 90, 51_000, 90).p_value == pytest.approx(
        2 * stats.norm.sf(1000 / math.sqrt(101_000)), rel=1e-9
    )


def test_one_burst_does_not_make_a_quarter_busier() -> None:
    calm, burst = [2] * 13, [2] * 12 + [26]
    plain = compare_rates(sum(calm), 91, sum(burst), 91)
    aware = compare_rates(sum(calm), 91, sum(burst), 91, calm, burst)
    assert plain.p_value is not None
    assert aware.p_value is not None
    assert plain.p_value < 0.01
    assert aware.p_value > 0.05
    assert plain.low is not None
    assert aware.low is not None
    assert aware.low < 0 < plain.low


def test_even_weeks_never_make_a_change_more_certain() -> None:
    plain = compare_rates(26, 91, 52, 91)
    assert compare_rates(26, 91, 52, 91, [2] * 13, [4] * 13) == plain


def test_clustered_weeks_keep_the_promised_error() -> None:
    random = np.random.default_rng(4)
    plain = aware = 0
    for old, new in random.negative_binomial(5, 1 / 3, size=(400, 2, 13)).tolist():
        plain += (compare_rates(sum(old), 91, sum(new), 91).p_value or 1) <= 0.05
        aware += (compare_rates(sum(old), 91, sum(new), 91, old, new).p_value or 1) <= 0.05
    assert plain > 70
    assert aware <= 32


@pytest.mark.parametrize(("count", "days"), [(-1, 90), (10, 0)])
def test_a_rate_without_days_is_refused(count: int, days: int) -> None:
    with pytest.raises(ValueError, match="days"):
        compare_rates(count, days, 10, 90)


# readings


@pytest.mark.parametrize(
    ("direction", "better", "word"),
    [
        (1, "higher", "better"),
        (-1, "higher", "worse"),
        (1, "lower", "worse"),
        (-1, "lower", "better"),
        (1, None, "changed"),
        (0, "higher", "no clear change"),
    ],
)
def test_a_clear_change_is_read_in_the_metrics_direction(direction: int, better: Direction | None, word: str) -> None:
    assert read([made(0.001, direction)], better) == [word]


def test_a_change_that_chance_could_make_is_no_reading_whatever_its_sign() -> None:
    assert read([made(0.2, 1), made(0.2, -1)], "lower") == ["no clear change", "no clear change"]


def test_a_p_that_stands_alone_falls_among_many() -> None:
    assert read([made(0.04)], "higher") == ["better"]
    assert read([made(0.04)] + [made(0.5)] * 9, "higher")[0] == "no clear change"


def test_benjamini_and_hochberg_by_hand() -> None:
    # Sorted against 0.05 i / 5 = 0.01 0.02 0.03 0.04 0.05: the third is the last below its bar.
    p_values = [0.030, 0.2, 0.009, 0.041, 0.015]
    assert read([made(p) for p in p_values], "higher") == [
        "better",
        "no clear change",
        "better",
        "no clear change",
        "better",
    ]


def test_what_was_not_tested_neither_speaks_nor_weakens_the_others() -> None:
    untested = [None, made(None), made(math.nan)] * 30
    assert read([made(0.04), *untested], "higher") == ["better"] + ["too few data"] * 90


def test_a_family_of_nothing_has_no_readings() -> None:
    assert read([], "higher") == []
    assert read([None], "lower") == ["too few data"]


def test_each_comparison_may_have_its_own_direction() -> None:
    assert read([made(0.001)] * 3, ["higher", "lower", None]) == ["better", "worse", "changed"]


def test_directions_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="2 comparisons need 2 directions, not 1"):
        read([made(0.5)] * 2, ["higher"])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 0.2))
def test_the_family_is_corrected_as_scipy_does(p_values: list[float], rate: float) -> None:
    flagged = [word == "better" for word in read([made(p) for p in p_values], "higher", rate)]
    assert flagged == (stats.false_discovery_control(p_values) <= rate).tolist()


# two hundred services


def test_unchanged_lead_times_of_200_services_are_left_alone_where_a_bare_rule_cries_wolf() -> None:
    random = np.random.default_rng(2026)
    quarters = random.lognormal(3, 1, size=(200, 2, 40))
    readings = read([compare_samples(old, new) for old, new in quarters], "lower")
    moved = np.abs(np.median(quarters[:, 1], axis=1) / np.median(quarters[:, 0], axis=1) - 1) >= 0.2
    assert moved.sum() > 60
    assert readings == ["no clear change"] * 200


def test_ten_services_that_slowed_by_30_percent_are_found_among_200() -> None:
    random = np.random.default_rng(2027)
    quarters = random.lognormal(3, 0.5, size=(200, 2, 300))
    quarters[:10, 1] *= 1.3
    readings = read([compare_samples(old, new) for old, new in quarters], "lower")
    assert readings[:10] == ["worse"] * 10
    assert sum(reading != "no clear change" for reading in readings[10:]) <= 1


def test_unchanged_failure_rates_of_200_services_are_left_alone_where_a_bare_rule_cries_wolf() -> None:
    random = np.random.default_rng(2028)
    deployments = random.integers(8, 60, size=(2, 200))
    failures = random.binomial(deployments, 0.12)
    family = compare_proportions_array(failures[0], deployments[0], failures[1], deployments[1])
    assert sum(abs(comparison.effect or 0) >= 0.05 for comparison in family) > 80
    assert read(family, "lower") == ["no clear change"] * 200
