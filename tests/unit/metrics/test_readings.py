from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.metrics.aggregates import Durations
from analytics.metrics.readings import Family, median_by_cluster, read_families
from analytics.metrics.registry import METRICS
from benchmarks.readings import simulate

LOW_ENOUGH = 1e-9


def family(metric: str, *p_values: float | None, scope: str = "service", quarter: str = "2026-Q1") -> Family:
    found = np.array([np.nan if p is None else p for p in p_values])
    return Family(metric, scope, quarter, range(len(p_values)), found, np.ones(found.size, dtype=np.int64), "lower")


def words(*made: Family) -> dict[str, list[str]]:
    """The words of each measure; every family has rows of its own in one table."""
    first, placed = 0, []
    for one in made:
        placed.append(dataclasses.replace(one, rows=np.arange(first, first + len(one.rows))))
        first += len(one.rows)
    read = read_families(placed, first)
    return {one.metric: read[one.rows].tolist() for one in placed}


def test_services_of_one_measure_are_corrected_among_themselves() -> None:
    assert words(family("lead", 0.02, *[0.9] * 9)) == {"lead": ["no clear change"] * 10}
    assert words(family("lead", 0.002, *[0.9] * 9)) == {"lead": ["worse", *["no clear change"] * 9]}


def test_what_chance_makes_in_one_of_many_measures_is_not_read() -> None:
    quiet = [family(f"measure {number}", *[0.6] * 20) for number in range(20)]
    assert words(family("lead", 0.002, *[0.9] * 9), *quiet)["lead"] == ["no clear change"] * 10


def test_where_something_stands_out_each_measure_is_read_by_itself() -> None:
    quiet = [family(f"measure {number}", *[0.6] * 20) for number in range(20)]
    loud = family("fails", LOW_ENOUGH, *[0.6] * 19)
    read = words(family("lead", 0.002, *[0.9] * 9), *quiet, loud)
    assert read["lead"][0] == read["fails"][0] == "worse"
    assert read["measure 0"] == ["no clear change"] * 20


def test_all_measures_of_the_organisation_are_one_family() -> None:
    """A page with thirty measures shows one p of 0.03 by chance, also beside one that did change."""
    made = [family(f"measure {number}", 0.5, scope="organization") for number in range(28)]
    loud = family("fails", LOW_ENOUGH, scope="organization")
    read = words(*made, loud, family("lead", 0.03, scope="organization"))
    assert (read["fails"], read["lead"]) == (["worse"], ["no clear change"])


def test_another_quarter_or_scope_says_nothing_about_this_one() -> None:
    quiet = [family(f"measure {number}", *[0.6] * 20) for number in range(20)]
    loud = [
        family("earlier", LOW_ENOUGH, quarter="2025-Q4"),
        family("teams", LOW_ENOUGH, scope="team"),
    ]
    assert words(family("lead", 0.002, *[0.9] * 9), *quiet, *loud)["lead"] == ["no clear change"] * 10


def test_what_could_not_be_compared_has_too_few_data_and_does_not_count() -> None:
    assert words(family("lead", None))["lead"] == ["too few data"]
    assert words(family("lead", 0.04, None, None))["lead"] == ["worse", "too few data", "too few data"]


def test_a_metric_without_a_test_or_an_interval_says_why() -> None:
    """What has neither is a census of the same few things, or windows that overlap."""
    for metric in METRICS:
        assert metric.tested or metric.census or metric.kind == "utilization", metric.name
        if metric.census:
            assert metric.kind in ("ratio", "count"), metric.name


@pytest.mark.slow
def test_two_hundred_services_are_left_alone_and_ten_that_slowed_by_30_percent_are_found() -> None:
    """A glance: `python -m benchmarks.readings` makes 200 rounds and prints both rates."""
    rates = simulate(seed=7, unchanged=3, shifted=1)
    assert rates.false_alarms == 0
    assert rates.power >= 0.95
    assert rates.wrong_discoveries <= 0.1


# Subject, quarter and series, cluster (-1: none), microseconds.
COMMITS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-1, 4), st.integers(-9, 9)), max_size=40)


@given(COMMITS)
def test_a_deployment_stands_for_its_commits_by_their_median(commits: list[tuple[int, int, int, int]]) -> None:
    # Every cluster in one subject: a cluster's number says whose it is.
    rows = [(cluster % 4 if cluster >= 0 else subject, rest, cluster, us) for subject, rest, cluster, us in commits]
    cells, clusters, amounts = (
        np.array(column, dtype=np.int64)
        for column in ([3 * row[0] + row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows])
    )
    found = median_by_cluster(Durations(cells, amounts, clusters), width=3)
    assert found is not None
    together: dict[object, list[int]] = {}
    for number, (subject, rest, cluster, us) in enumerate(rows):
        together.setdefault((subject, rest, cluster if cluster >= 0 else f"row {number}"), []).append(us)
    expected = sorted((float(np.median(us)), 3 * key[0] + key[1]) for key, us in together.items())  # type: ignore[index]
    assert sorted(zip(found[1].tolist(), found[0].tolist(), strict=True)) == expected
    assert found[1].tolist() == sorted(found[1])
    assert not found[2].any()


def test_a_deployment_of_several_services_has_no_median_by_service() -> None:
    both = Durations(np.array([0, 3]), np.array([5, 7]), np.array([0, 0]))
    assert median_by_cluster(both, width=3) is None
    other_quarters = Durations(np.array([0, 4]), np.array([5, 7]), np.array([0, 0]))
    assert median_by_cluster(other_quarters, width=3) is not None
