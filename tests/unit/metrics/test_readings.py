from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analytics.metrics.readings import Family, read_families
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
