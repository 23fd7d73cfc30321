"""Tests of many pairs at once: each has scipy's p-value, whatever else is asked in the same pass."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from analytics import change_tests
from analytics.change_tests import (
    Changes,
    Groups,
    fisher_mid_p,
    proportions_changed,
    quantiles_changed,
    rates_changed,
    samples_changed,
)
from analytics.statistics import poisson_dispersions, quantile_interval, weekly_deviations, weekly_dispersion

Array = npt.NDArray[np.float64]
NOTHING = Groups(np.empty(0), np.zeros(121, dtype=np.int64))


def samples(seed: int, most: int) -> list[Array]:
    """Durations of 120 quarters of very different sizes; every third in whole hours, so that many are equal."""
    random = np.random.default_rng(seed)
    drawn = [random.exponential(40, random.integers(0, most)) for _ in range(120)]
    return [np.round(sample / 8) if number % 3 == 0 else sample for number, sample in enumerate(drawn)]


def grouped(drawn: list[Array]) -> Groups:
    """The same in any order, as they come from a query."""
    numbers = np.repeat(np.arange(len(drawn)), [sample.size for sample in drawn])
    order = np.random.default_rng(0).permutation(numbers.size)
    return Groups.of(np.concatenate(drawn)[order], numbers[order], len(drawn))


def asked(tested: Changes) -> list[tuple[int, float, int]]:
    """The pairs that were tested."""
    rows = zip(tested.p_values.tolist(), tested.directions.tolist(), strict=True)
    return [(place, p, direction) for place, (p, direction) in enumerate(rows) if not math.isnan(p)]


@pytest.fixture(params=[40, 1_000_000])
def pass_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many passes as pairs, and one pass."""
    monkeypatch.setattr(change_tests, "_VALUES_PER_PASS", request.param)


@pytest.mark.usefixtures("pass_size")
@pytest.mark.parametrize("most", [22, 60])
def test_each_pair_of_many_has_scipys_mann_whitney(most: int) -> None:
    drawn = samples(most, most)
    tested = asked(samples_changed(grouped(drawn), NOTHING, np.arange(119), np.arange(1, 120)))
    assert {place for place, _, _ in tested} == {
        place for place in range(119) if min(drawn[place].size, drawn[place + 1].size) >= 6
    }
    for place, p_value, direction in tested:
        old, new = drawn[place], drawn[place + 1]
        untied = np.unique(np.concatenate([old, new])).size == old.size + new.size
        exact = untied and max(old.size, new.size) <= 20
        expected = stats.mannwhitneyu(new, old, method="exact" if exact else "asymptotic")
        assert p_value == pytest.approx(expected.pvalue, rel=1e-12)
        assert direction == np.sign(expected.statistic - old.size * new.size / 2)


def test_a_period_is_held_against_several_others_at_once() -> None:
    drawn = samples(9, 50)
    random = np.random.default_rng(9)
    old, new = random.integers(0, 120, (2, 200))
    tested = samples_changed(grouped(drawn), NOTHING, old, new)
    for place, (before, after) in enumerate(zip(old.tolist(), new.tolist(), strict=True)):
        alone = samples_changed(grouped([drawn[before], drawn[after]]), Groups.of([], [], 2), [0], [1])
        np.testing.assert_array_equal(
            [tested.p_values[place], tested.directions[place]], [alone.p_values[0], alone.directions[0]]
        )


@pytest.mark.usefixtures("pass_size")
@pytest.mark.parametrize("p", [0.5, 0.75, 0.95])
def test_each_quantile_of_many_is_held_against_the_pooled_one(p: float) -> None:
    drawn = samples(3, 200)
    tested = asked(quantiles_changed(grouped(drawn), np.arange(119), np.arange(1, 120), p))
    assert len(tested) == sum(
        None not in (quantile_interval(old, p), quantile_interval(new, p)) for old, new in itertools.pairwise(drawn)
    )
    for place, p_value, direction in tested:
        old, new = drawn[place], drawn[place + 1]
        pooled = np.quantile(np.concatenate([old, new]), p)
        above = (old > pooled).sum(), (new > pooled).sum()
        assert p_value == pytest.approx(fisher_mid_p(above[0], old.size, above[1], new.size), rel=1e-12)
        assert direction == np.sign(above[1] / new.size - above[0] / old.size)


def test_each_pair_with_open_durations_has_scipys_log_rank() -> None:
    drawn, open_ones = samples(4, 30), [sample[:3] for sample in samples(5, 6)]
    tested = asked(samples_changed(grouped(drawn), grouped(open_ones), np.arange(119), np.arange(1, 120)))
    seen = 0
    for place, p_value, direction in tested:
        old, new = (stats.CensoredData(uncensored=drawn[at], right=open_ones[at]) for at in (place, place + 1))
        if open_ones[place].size or open_ones[place + 1].size:
            expected = stats.logrank(new, old)
            assert p_value == pytest.approx(expected.pvalue, rel=1e-12)
            assert direction == -np.sign(expected.statistic)
            seen += 1
    assert seen > 50


def test_each_pair_of_counts_has_scipys_poisson_means_test() -> None:
    random = np.random.default_rng(6)
    old, new = random.integers(0, 70, 150), random.integers(0, 70, 150)
    days_old, days_new = random.integers(1, 93, 150), random.integers(89, 93, 150)
    old[:20], days_old[:20] = new[:20], days_new[:20]
    new[20:25], old[-1], new[-1] = 0, 2900, 2990
    tested = rates_changed(old, days_old, new, days_new)
    for place, (p_value, direction) in enumerate(zip(*tested, strict=True)):
        counts = int(new[place]), int(days_new[place]), int(old[place]), int(days_old[place])
        if counts[0] + counts[2] < 6:
            assert (math.isnan(p_value), direction) == (True, 0)
            continue
        expected = min(1.0, stats.poisson_means_test(*counts).pvalue)
        assert p_value == pytest.approx(expected, rel=1e-9, abs=1e-11)
        assert direction == np.sign(counts[0] / counts[1] - counts[2] / counts[3])


def test_each_small_table_has_scipys_boschloo_and_each_large_one_fishers_mid_p() -> None:
    tables = [(0, 17, 6, 20), (3, 38, 12, 33), (1, 6, 6, 6), (1, 4, 3, 4), (10, 200, 40, 210), (0, 13, 10, 33)]
    p_values, directions = proportions_changed(*np.array(tables).T)
    assert directions.tolist() == [1, 1, 1, 0, 1, 1]
    for p_value, (k1, n1, k2, n2) in zip(p_values, tables, strict=True):
        if min(n1, n2) < 6:
            assert math.isnan(p_value)
        elif n1 + n2 <= 80:
            assert p_value == pytest.approx(stats.boschloo_exact([[k1, k2], [n1 - k1, n2 - k2]]).pvalue, rel=1e-9)
        else:
            assert p_value == fisher_mid_p(k1, n1, k2, n2)


@pytest.mark.usefixtures("pass_size")
def test_fishers_mid_p_is_made_of_scipys_hypergeometric_distribution() -> None:
    random = np.random.default_rng(7)
    n1, n2 = random.integers(0, [[12], [200], [4_000]], (2, 3, 400)).reshape(2, -1)
    n2[n1 + n2 == 0] = 1
    share = random.random(n1.size) ** 3
    k1, k2 = random.binomial(n1, share), random.binomial(n2, np.minimum(share * random.choice([0.5, 1, 3], n1.size), 1))
    margins = (n1 + n2, k1 + k2, n1)
    half = stats.hypergeom.pmf(k1, *margins) / 2
    lower, upper = stats.hypergeom.cdf(k1, *margins) - half, stats.hypergeom.sf(k1, *margins) + half
    found = fisher_mid_p(k1, n1, k2, n2)
    assert (found < 1e-20).sum() > 20
    assert found == pytest.approx(np.clip(2 * np.minimum(lower, upper), 0, 1), rel=1e-12, abs=1e-300)
    assert found[-1] == fisher_mid_p(k1[-1], n1[-1], k2[-1], n2[-1])


def test_fishers_mid_p_of_large_tables_is_known_to_the_last_digits() -> None:
    # Sums of 60 digits; scipy has 0.26249856602 and 0.60725379888524.
    found = fisher_mid_p([829, 50_000], [175_221, 150_000], [798, 50_200], [159_571, 151_000])
    assert found == pytest.approx([0.26249856604115046, 0.6072537988822402], rel=1e-13)


def test_a_small_table_has_the_same_p_alone_and_among_many_of_other_sizes() -> None:
    random = np.random.default_rng(8)
    n1, n2 = random.integers(6, 41, (2, 150))
    k1, k2 = random.integers(0, n1 + 1), random.integers(0, n2 + 1)
    together = proportions_changed(k1, n1, k2, n2).p_values
    asked = np.flatnonzero(together <= 0.1)
    assert asked.size > change_tests._TABLES_PER_PASS
    for place in asked.tolist():
        alone = proportions_changed(*(column[place : place + 1] for column in (k1, n1, k2, n2))).p_values[0]
        swapped = proportions_changed(*(column[place : place + 1] for column in (k2, n2, k1, n1))).p_values[0]
        assert together[place] == pytest.approx(alone, rel=1e-12)
        assert together[place] == pytest.approx(swapped, rel=1e-10)


def test_weeks_of_many_periods_vary_as_each_alone() -> None:
    weeks = np.random.default_rng(7).negative_binomial(3, 0.3, size=(30, 13)).astype(float)
    weeks[3], weeks[4] = 0, 5
    deviations, degrees = weekly_deviations(weeks)
    ratios, freedom = poisson_dispersions(deviations[:-1] + deviations[1:], degrees[:-1] + degrees[1:])
    for place, (old, new) in enumerate(itertools.pairwise(weeks)):
        assert (ratios[place], freedom[place]) == weekly_dispersion(old, new)
    assert weekly_deviations(weeks[:, :5])[1].tolist() == [0] * 30


def test_values_without_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        Groups.of([1.0, 2.0], [0], 1)
