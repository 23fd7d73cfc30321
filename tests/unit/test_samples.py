"""Samples side by side: each is what it would be alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analytics.samples import Groups, PackedGroups, first_runs, running_by_group

SAMPLES = st.lists(st.lists(st.integers(-50, 50), max_size=20), min_size=1, max_size=12)


@given(SAMPLES)
def test_values_stand_in_their_group_ascending(samples: list[list[int]]) -> None:
    rows = [(value, number) for number, sample in enumerate(samples) for value in sample]
    groups = Groups.of([value for value, _ in rows], [number for _, number in rows], len(samples))
    assert [groups[number].tolist() for number in range(len(samples))] == [sorted(sample) for sample in samples]
    last = np.array([len(samples) - 1, 0])
    assert [groups.chosen(last)[place].tolist() for place in (0, 1)] == [sorted(samples[-1]), sorted(samples[0])]
    for known in (groups, Groups(groups.values, groups.starts)):
        distinct, ranks = known.ranked
        assert distinct.tolist() == sorted({value for value, _ in rows})
        assert distinct[ranks].tolist() == groups.values.tolist()


@given(SAMPLES, st.sampled_from([1, -1, 1 << 40, 1 << 56]))
def test_packed_values_stand_in_their_group_ascending_however_large(samples: list[list[int]], scale: int) -> None:
    rows = [(value * scale, number) for number, sample in enumerate(samples) for value in sample]
    values = np.array([value for value, _ in rows], dtype=np.int64)
    numbers = np.array([number for _, number in rows], dtype=np.int32)
    packed = PackedGroups.of(values, numbers, len(samples))
    groups = Groups.of(values, numbers, len(samples))
    np.testing.assert_array_equal(packed.starts, groups.starts)
    np.testing.assert_array_equal(packed.sizes, groups.sizes)
    places = np.arange(values.size)
    np.testing.assert_array_equal(packed.at(places), groups.at(places))


@given(st.lists(st.sampled_from([-1, 0, 7, 1 << 62])))
def test_equal_numbers_become_the_place_of_their_first_run(given: list[int]) -> None:
    numbers = np.array(given, dtype=np.int64)
    runs = [number for place, number in enumerate(given) if place == 0 or given[place - 1] != number]
    assert first_runs(numbers).tolist() == [runs.index(number) for number in given]


@given(SAMPLES)
def test_running_sums_begin_anew_with_each_group(samples: list[list[int]]) -> None:
    values = np.array([value / 7 for sample in samples for value in sample])
    sizes = np.array([len(sample) for sample in samples])
    alone = np.concatenate([np.cumsum(np.array(sample) / 7) for sample in samples])
    np.testing.assert_array_equal(running_by_group(np.add, values, sizes), alone)
    alone = np.concatenate([np.cumprod(np.array(sample) / 7) for sample in samples])
    np.testing.assert_array_equal(running_by_group(np.multiply, values, sizes), alone)
