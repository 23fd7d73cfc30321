"""Where each value of a measuring stands: scope by scope, quarter by quarter and series by series, in whole columns.

A place is a number. Queries give it beside what they count, so that no name is compared row by row, and everything
that is asked of all values is asked of columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from analytics.engines import Engine
from analytics.metrics.coverage import SCOPES
from analytics.metrics.metric import Metric, observations_sql
from analytics.periods import Quarter

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DAYS = {"day": "DATE", "quarter_number": "BIGINT", "week_number": "BIGINT"}


class Grid:
    """The scopes in the order of `members.scope_number`, the quarters in time, and the places that they make."""

    def __init__(self, scopes: Sequence[tuple[str, str]], quarters: Sequence[Quarter]) -> None:
        self.scopes = list(scopes)
        self.quarters = list(quarters)
        kinds = np.array([SCOPES.index(scope) for scope, _ in scopes], dtype=np.int64)
        self.of_scope = {scope: np.flatnonzero(kinds == number) for number, scope in enumerate(SCOPES)}
        # Whole ISO weeks of each quarter: those of seven days.
        self.weeks = np.zeros(len(self.quarters), dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """How many scopes and quarters."""
        return len(self.scopes), len(self.quarters)

    def size(self, metric: Metric) -> int:
        """How many values a metric has."""
        return len(self.scopes) * len(self.quarters) * len(metric.series)

    def places(self, metric: Metric, scopes: npt.ArrayLike, quarter: int, series: int) -> IntArray:
        """The places of some scopes in one quarter and series."""
        return (np.asarray(scopes, dtype=np.int64) * len(self.quarters) + quarter) * len(metric.series) + series

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
        rows = engine.rows("SELECT day, quarter, iso_week FROM calendar ORDER BY day")
        for day, quarter, week in rows:
            if quarter in numbers:
                by_week.setdefault((numbers[quarter], week), []).append(day)
        self.weeks[:] = 0
        made: list[tuple[object, int, int]] = []
        for (number, _), days in by_week.items():
            whole = len(days) == 7
            made += [(day, number, int(self.weeks[number]) if whole else -1) for day in days]
            self.weeks[number] += whole
        engine.create_values("measured_days", DAYS, made)


def create_observations(engine: Engine, metric: Metric) -> None:
    """Make the views `observations`, a metric's rows, and `dated`, those of measured days with their numbers."""
    engine.create_view("observations", observations_sql(metric.query))
    series = "0"
    if metric.series != (None,):
        series = (
            "CASE " + " ".join(f"WHEN o.series = '{name}' THEN {n}" for n, name in enumerate(metric.series)) + " END"
        )
    engine.create_shared(
        "dated",
        f"SELECT o.*, d.quarter_number, d.week_number, CAST({series} AS BIGINT) AS series_number "
        "FROM observations AS o JOIN measured_days AS d ON d.day = o.day",
    )


def place_sql(grid: Grid, metric: Metric, rows: str = "o") -> str:
    """SQL for the place of a value, from `members` as m and rows with the numbers of their quarter and series."""
    return (
        f"(m.scope_number * {len(grid.quarters)} + {rows}.quarter_number) * {len(metric.series)} + {rows}.series_number"
    )


def members_join(metric: Metric, rows: str = "o") -> str:
    """SQL that joins rows with the scopes that their subject belongs to."""
    return f"JOIN members AS m ON m.subject_kind = '{metric.subject}' AND m.subject = {rows}.subject"
