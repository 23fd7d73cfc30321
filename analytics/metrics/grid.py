"""Where each value of a measuring stands: scope by scope, quarter by quarter and series by series, in whole columns.

A place is a number. Queries give it beside what they count, so that no name is compared row by row, and everything
that is asked of all values is asked of columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analytics.engines import Engine
from analytics.metrics.coverage import SCOPES
from analytics.metrics.metric import Metric, observations_sql
from analytics.periods import Quarter
from analytics.samples import IntArray, ranges

BoolArray = npt.NDArray[np.bool_]

DAYS = {"day": "DATE", "quarter_number": "BIGINT", "week_number": "BIGINT"}


@dataclass(frozen=True)
class Belonging:
    """The scopes of each subject: those of subject s are `scopes[starts[s] : starts[s + 1]]`, of one kind of scope."""

    scopes: IntArray
    starts: IntArray

    def places(self, cells: IntArray, width: int) -> tuple[IntArray | None, IntArray]:
        """Places of rows whose cell is `subject * width +` the rest of a place: which row (None: each once), and where.

        A row stands in every scope that its subject belongs to.
        """
        sizes = np.diff(self.starts)
        if (sizes <= 1).all():
            scope = np.full(sizes.size, -1)
            scope[sizes == 1] = self.scopes
            table = np.where(scope[:, None] < 0, -1, scope[:, None] * width + np.arange(width)).reshape(-1)
            if table.max(initial=0) < 1 << 31:  # half the memory of millions of rows
                table = table.astype(np.int32)
            place = table[cells]
            if place.min(initial=0) >= 0:
                return None, place
            known = np.flatnonzero(place >= 0)
            return known, place[known]
        subjects = cells // width
        row = np.repeat(np.arange(cells.size), sizes[subjects])
        return row, self.scopes[ranges(self.starts[subjects], sizes[subjects])] * width + cells[row] % width


class Grid:
    """The scopes in the order of `members.scope_number`, the quarters in time, and the places that they make."""

    def __init__(self, scopes: Sequence[tuple[str, str]], quarters: Sequence[Quarter]) -> None:
        self.scopes = list(scopes)
        self.quarters = list(quarters)
        kinds = np.array([SCOPES.index(scope) for scope, _ in scopes], dtype=np.int64)
        self.of_scope = {scope: np.flatnonzero(kinds == number) for number, scope in enumerate(SCOPES)}
        # Whole ISO weeks of each quarter: those of seven days.
        self.weeks = np.zeros(len(self.quarters), dtype=np.int64)
        # By kind of subject and of scope.
        self.belonging: dict[tuple[str, str], Belonging] = {}

    def read_members(self, engine: Engine) -> None:
        """Learn from `members` which subjects belong to which scopes, and make the table `subjects` of numbers."""
        engine.create_table("subjects", "SELECT DISTINCT subject_kind, subject, subject_number FROM members")
        found = engine.rows("SELECT subject_kind, scope, subject_number, scope_number FROM members")
        count = 1 + max((subject for _, _, subject, _ in found), default=-1)
        by_kind: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for kind, scope, subject, number in found:
            by_kind.setdefault((kind, scope), []).append((subject, number))
        for key, pairs in by_kind.items():
            subjects, scopes = np.array(sorted(pairs), dtype=np.int64).T
            self.belonging[key] = Belonging(
                scopes, np.concatenate([[0], np.cumsum(np.bincount(subjects, minlength=count))])
            )

    @property
    def shape(self) -> tuple[int, int]:
        """How many scopes and quarters."""
        return len(self.scopes), len(self.quarters)

    def places_by_scope(self, metric: Metric, cells: IntArray) -> Iterator[tuple[str, IntArray | None, IntArray]]:
        """`Belonging.places` of rows for each kind of scope that the metric's subjects belong to."""
        width = len(self.quarters) * len(metric.series)
        for scope in SCOPES:
            if (belonging := self.belonging.get((metric.subject, scope))) is not None:
                yield scope, *belonging.places(cells, width)

    def size(self, metric: Metric) -> int:
        """How many values a metric has."""
        return len(self.scopes) * len(self.quarters) * len(metric.series)

    def places(self, metric: Metric, scopes: npt.ArrayLike, quarter: int, series: int) -> IntArray:
        """The places of some scopes in one quarter and series."""
        return (np.asarray(scopes, dtype=np.int64) * len(self.quarters) + quarter) * len(metric.series) + series

    def places_of(self, metric: Metric, scope: str) -> IntArray:
        """All places of one kind of scope."""
        width = len(self.quarters) * len(metric.series)
        return (self.of_scope[scope][:, None] * width + np.arange(width)).reshape(-1)

    def spread(self, metric: Metric, of_scopes: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A table of scopes (by quarters) as one entry per place."""
        table = of_scopes if of_scopes.ndim == 2 else np.repeat(of_scopes[:, None], len(self.quarters), axis=1)
        return np.repeat(table.reshape(-1), len(metric.series))

    def create_days(self, engine: Engine, wanted: Iterable[int]) -> None:
        """Make the table `measured_days`: the days of the wanted quarters with their numbers.

        `week_number` counts the whole weeks of a quarter from 0, and is -1 for a day of another week.
        """
        numbers = {str(self.quarters[number]): number for number in wanted}
        by_week: dict[tuple[int, str], list[object]] = {}
        listed = ", ".join(f"'{name}'" for name in numbers) or "''"
        rows = engine.rows(f"SELECT day, quarter, iso_week FROM calendar WHERE quarter IN ({listed}) ORDER BY day")
        for day, quarter, week in rows:
            by_week.setdefault((numbers[quarter], week), []).append(day)
        self.weeks[:] = 0
        made: list[tuple[object, int, int]] = []
        for (number, _), days in by_week.items():
            whole = len(days) == 7
            made += [(day, number, int(self.weeks[number]) if whole else -1) for day in days]
            self.weeks[number] += whole
        engine.create_values("measured_days", DAYS, made)


def create_observations(engine: Engine, metric: Metric) -> None:
    """Make the view `dated`: the metric's rows of measured days, with the numbers of their places."""
    series = "0"
    if metric.series != (None,):
        series = (
            "CASE " + " ".join(f"WHEN o.series = '{name}' THEN {n}" for n, name in enumerate(metric.series)) + " END"
        )
    engine.create_shared(
        "dated",
        f"SELECT o.*, d.quarter_number, d.week_number, CAST({series} AS BIGINT) AS series_number, "
        f"s.subject_number FROM ({observations_sql(metric.query)}) AS o JOIN measured_days AS d ON d.day = o.day "
        f"JOIN subjects AS s ON s.subject_kind = '{metric.subject}' AND s.subject = o.subject",
    )


def cell_sql(grid: Grid, metric: Metric, rows: str = "o") -> str:
    """SQL for the cell of a row, which is its subject where a place has its scope (`Belonging.places`)."""
    width = len(grid.quarters) * len(metric.series)
    return f"({rows}.subject_number * {width} + {rows}.quarter_number * {len(metric.series)} + {rows}.series_number)"


def place_sql(grid: Grid, metric: Metric, rows: str = "o") -> str:
    """SQL for the place of a value, from `members` as m and rows with the numbers of their quarter and series."""
    return (
        f"(m.scope_number * {len(grid.quarters)} + {rows}.quarter_number) * {len(metric.series)} + {rows}.series_number"
    )


def members_join(metric: Metric, rows: str = "o") -> str:
    """SQL that joins rows with the scopes that their subject belongs to."""
    return f"JOIN members AS m ON m.subject_kind = '{metric.subject}' AND m.subject_number = {rows}.subject_number"
