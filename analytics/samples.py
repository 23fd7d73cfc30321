"""Many samples at once: those of every scope, quarter and series side by side in whole columns.

What is asked of each sample is then asked of all of them in a few passes; one by one, a quarter of five hundred
services would spend its time on calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
# Whole numbers of any width.
Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Groups:
    """Samples side by side: those of group g, ascending, are `values[starts[g] : starts[g + 1]]`."""

    values: FloatArray
    starts: IntArray
    # Every value of all groups, ascending, and where each of `values` stands among them: known where they came so.
    ordered: tuple[FloatArray, IntArray] | None = None

    @classmethod
    def of(cls, values: npt.ArrayLike, groups: npt.ArrayLike, count: int) -> Groups:
        """Values with the number of the group of each, from 0 to `count` - 1, in any order."""
        sample, numbers = np.asarray(values, dtype=np.float64), np.asarray(groups)
        if sample.shape != numbers.shape:
            raise ValueError("values and groups must have the same length")
        order = np.argsort(sample)
        return cls.of_ascending(sample[order], numbers[order], count)

    @classmethod
    def of_ascending(cls, values: FloatArray, groups: Numbers, count: int) -> Groups:
        """The same of values that ascend already."""
        numbers = small_numbers(groups, count)
        starts = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=count))])
        order = stable_order(numbers, count)
        return cls(values[order], starts, (values, order))

    @classmethod
    def nothing(cls, count: int) -> Groups:
        """So many groups without a value."""
        return cls(np.empty(0), np.zeros(count + 1, dtype=np.int64))

    @property
    def sizes(self) -> IntArray:
        """How many values each group has."""
        return np.diff(self.starts)

    @property
    def ranked(self) -> tuple[FloatArray, IntArray]:
        """Every different value of all groups, ascending, and the place among them of each of `values`."""
        if self.ordered is None:
            distinct, ranks = np.unique(self.values, return_inverse=True)
            return distinct, ranks
        ascending, order = self.ordered
        begins = np.ones(ascending.size, dtype=bool)
        begins[1:] = ascending[1:] != ascending[:-1]
        return ascending[begins], (np.cumsum(begins) - 1)[order]

    def at(self, places: IntArray) -> FloatArray:
        """The values at some places."""
        return self.values[places]

    def chosen(self, groups: IntArray) -> Groups:
        """Some of the groups, in the given order."""
        sizes = self.sizes[groups]
        return Groups(self.values[ranges(self.starts[groups], sizes)], np.concatenate([[0], np.cumsum(sizes)]))

    def __getitem__(self, group: int) -> FloatArray:
        return self.values[self.starts[group] : self.starts[group + 1]]


@dataclass(frozen=True)
class PackedGroups:
    """`Groups` of whole numbers, each in one number with its group: sorted in one go, and unpacked where it is read."""

    keys: IntArray
    starts: IntArray
    bits: int
    least: int

    @classmethod
    def of(
        cls,
        values: IntArray,
        groups: Numbers,
        count: int,
        keys: IntArray | None = None,
        starts: IntArray | None = None,
    ) -> Groups | PackedGroups:
        """Values with the number of the group of each, in any order; not packed where both have no room in one.

        `keys` is memory that may be overwritten: to have new memory takes as long as to sort it. `starts` is given
        where it is known.
        """
        least = int(values.min(initial=0))
        bits = (int(values.max(initial=0)) - least).bit_length()
        if bits + count.bit_length() > 63:
            return Groups.of(values, groups, count)
        if keys is None:
            keys = np.empty(groups.size, dtype=np.int64)
        np.left_shift(groups, bits, out=keys, dtype=np.int64)
        keys += values
        keys -= least
        keys.sort()
        if starts is None:
            starts = np.searchsorted(keys, np.arange(count + 1) << bits)
        return cls(keys, starts, bits, least)

    @property
    def sizes(self) -> IntArray:
        """How many values each group has."""
        return np.diff(self.starts)

    def at(self, places: IntArray) -> FloatArray:
        """The values at some places."""
        return ((self.keys[places] & ((1 << self.bits) - 1)) + self.least).astype(np.float64)


def small_numbers(numbers: Numbers, count: int) -> Numbers:
    """Numbers below `count` in as few bytes as they need."""
    return numbers.astype(np.uint16 if count <= 1 << 16 else np.int64, copy=False)


def stable_order(numbers: Numbers, count: int) -> IntArray:
    """The order that brings numbers below `count` together and leaves what is equal as it stood."""
    # Small numbers are sorted by their digits, which is a tenth of the work.
    return np.argsort(small_numbers(numbers, count), kind="stable")


def first_runs(numbers: IntArray) -> IntArray:
    """For each number which run of equal ones was the first with it: small, and the same for the same number."""
    if not numbers.size:
        return np.zeros(0, dtype=np.int64)
    begins = np.concatenate([[0], np.flatnonzero(numbers[1:] != numbers[:-1]) + 1])
    of_run = numbers[begins]
    order = np.argsort(of_run)
    ascending = of_run[order]
    groups = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    first = np.empty(order.size, dtype=np.int64)
    first[order] = np.repeat(np.minimum.reduceat(order, groups), np.diff(groups, append=order.size))
    return np.repeat(first, np.diff(begins, append=numbers.size))


def running_by_group(step: np.ufunc, values: npt.NDArray[Any], sizes: IntArray) -> npt.NDArray[Any]:
    """Running sums (`np.add`) or products (`np.multiply`) that begin anew with each group of so many values."""
    found = np.empty_like(values)
    begins = np.cumsum(sizes) - sizes
    widths = 1 << np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    # Groups of like size stand below each other in a table: a sum must not depend on the groups before.
    for width in np.unique(widths[sizes > 0]).tolist():
        rows = np.flatnonzero((widths == width) & (sizes > 0))
        places = ranges(begins[rows], sizes[rows])
        inside = np.arange(width) < sizes[rows, None]
        table = np.full((rows.size, width), step.identity, dtype=values.dtype)
        table[inside] = values[places]
        found[places] = step.accumulate(table, axis=1)[inside]
    return found


def ranges(starts: IntArray, sizes: IntArray) -> IntArray:
    """The numbers starts[i], starts[i] + 1, … (sizes[i] of them) for every i, one after another."""
    before = np.cumsum(sizes) - sizes
    return np.asarray(np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes), dtype=np.int64)
