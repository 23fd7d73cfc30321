"""Metrics measured into rows: the values of each query for every scope, as whole columns.

Source: metrics.md sections 2, 3 and 8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from queue import SimpleQueue
from threading import Condition
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from analytics.change_tests import Changes
from analytics.engines import Engine
from analytics.lake.parts import POLARS
from analytics.lake.schemas import TABLES
from analytics.metrics.aggregates import MOST_ROWS_HERE, Aggregation, LeftOut, Measured, Tally, read_left_out
from analytics.metrics.coverage import OF_NOTHING, Coverage, Snapshot, coverage, has_begun
from analytics.metrics.grid import Grid
from analytics.metrics.metric import Metric
from analytics.metrics.readings import (
    NOT_TESTED,
    READ_QUARTERS,
    TOO_FEW,
    Comparing,
    Family,
    deviations_by_place,
    median_by_cluster,
    read_families,
)
from analytics.metrics.reasons import Reasoning, Reasons, read_deployed
from analytics.periods import Calendar, Quarter
from analytics.samples import FloatArray, IntArray
from analytics.statistics import poisson_dispersions, poisson_limits_array

Found = TypeVar("Found")
# More than these would want more memory than time they save.
MOST_SESSIONS = 4
SCHEMA = {column: POLARS[kind] for column, kind in TABLES["metric_values"].columns.items()}


@dataclass(frozen=True)
class Ground:
    """What values stand on: the covered days, and what says why there is none."""

    coverage: Coverage
    reasoning: Reasoning


class Measuring:
    """What all metrics share: who belongs to whom, which days are covered, and the session that counts rows."""

    def __init__(self, engine: Engine, calendar: Calendar, snapshot: Snapshot, quarters: Sequence[Quarter]) -> None:
        self.engine = engine
        self.snapshot = snapshot
        self.calendar = calendar
        self.grid = Grid(list(snapshot.scopes), quarters)
        self.grid.read_members(engine)
        self._room = _Room(MOST_ROWS_HERE)

    def frames(self, groups: Sequence[Sequence[Metric]], wanted: Iterable[int]) -> Iterator[pl.DataFrame]:
        """Rows of `metric_values` in the wanted quarters, for groups of metrics that share one query and one kind.

        Groups are measured side by side; `reading` waits for `with_readings`, which compares every metric.
        """
        quarters = sorted(wanted)
        days = sorted({near for quarter in quarters for near in (quarter - 1, quarter) if near >= 0})
        self.grid.create_days(self.engine, days)
        clustered = {group[0].query: group[0] for group in groups if self.is_clustered(group[0])}
        with (
            self.engine.sessions(MOST_SESSIONS) as sessions,
            ThreadPoolExecutor(len(sessions)) as threads,
            ThreadPoolExecutor(1) as aside,
        ):
            # Known by the time that anything is counted.
            ground = aside.submit(self._ground)
            idle: SimpleQueue[Engine] = SimpleQueue()
            for session in sessions:
                idle.put(session)

            def in_session(work: Callable[[Engine], Found]) -> Future[Found]:
                def run() -> Found:
                    session = idle.get()
                    try:
                        return work(session)
                    finally:
                        idle.put(session)

                return threads.submit(run)

            # The longest first, and part of its work beside it: what counts is fetched while the rest is counted.
            left_out = {
                query: in_session(partial(read_left_out, grid=self.grid, metric=metric))
                for query, metric in clustered.items()
            }
            order = sorted(range(len(groups)), key=lambda number: groups[number][0].query not in left_out)
            found = {
                number: in_session(
                    partial(
                        self._rows,
                        metrics=groups[number],
                        quarters=quarters,
                        left_out=left_out.get(groups[number][0].query),
                        ground=ground,
                    )
                )
                for number in order
            }
            for number in range(len(groups)):
                yield found[number].result()

    def is_clustered(self, metric: Metric) -> bool:
        """Whether durations come in clusters that a test has to know, as commits in deployments do."""
        return (
            metric.kind == "quantile" and metric.tested and "cluster" in self.engine.columns(metric.observations_sql())
        )

    def _rows(
        self,
        engine: Engine,
        metrics: Sequence[Metric],
        quarters: Sequence[int],
        left_out: Future[LeftOut] | None,
        ground: Future[Ground],
    ) -> pl.DataFrame:
        first = metrics[0]
        aggregation = Aggregation(engine, self.grid, first, clustered=left_out is not None)
        by_week = first.kind in ("per_day", "count") and first.tested
        rows = aggregation.rows_at_most()
        with self._room.taken(rows), ThreadPoolExecutor(1) as beside:
            aggregation.fetch(rows)
            medians = None
            if left_out is not None and aggregation.durations is not None:
                # Beside the quantiles, for which the same durations are sorted otherwise.
                width = len(self.grid.quarters) * len(first.series)
                medians = beside.submit(median_by_cluster, aggregation.durations, width)
            tally = aggregation.tally(by_week=by_week, left_out=None if left_out is None else left_out.result)
            found = aggregation.values(metrics, tally)
            weekly = aggregation.weekly() if by_week else None
            covered, reasoning = ground.result().coverage, ground.result().reasoning
            days = np.asarray(self.grid.spread(first, covered.days), dtype=np.int64)
            comparing = Comparing(engine, self.grid, first, days, weekly, aggregation.samples, medians)
            newest = range(len(self.grid.quarters))[-READ_QUARTERS:]
            frames = []
            for metric in metrics:
                measured = found[metric.name]
                changes = comparing.changes(metric, measured, [quarter for quarter in quarters if quarter in newest])
                reasons = reasoning.of(metric, measured, tally)
                self._finish(metric, measured, reasons, days, weekly)
                frames.append(self._frame(metric, quarters, ground.result(), measured, reasons, tally, changes))
        return pl.concat(frames)

    def _ground(self) -> Ground:
        covered = coverage(self.snapshot, self.calendar, self.grid.quarters)
        begun = np.array(
            [has_begun(self.snapshot, self.calendar, quarter) for quarter in self.grid.quarters], dtype=bool
        )
        deployed = read_deployed(self.engine, self.grid)
        return Ground(covered, Reasoning(self.snapshot, self.grid, covered.live > 0, begun, deployed))

    def _finish(
        self, metric: Metric, measured: Measured, reasons: Reasons, days: IntArray, weekly: FloatArray | None
    ) -> None:
        """Rates of counts over covered days; and no value where there is a reason for none."""
        undefined = np.array([reason is not None for reason in reasons.tolist()], dtype=bool)
        nothing = np.isin(reasons, list(OF_NOTHING))
        if metric.kind in ("per_day", "count"):
            n = measured.n
            exposure = np.where(days > 0, days, 1) if metric.kind == "per_day" else np.ones(n.size, dtype=np.int64)
            measured.value = n / exposure
            if metric.kind == "per_day":
                measured.numerator, measured.denominator = n.astype(np.float64), exposure.astype(np.float64)
                measured.numerator[undefined] = measured.denominator[undefined] = np.nan
            if not metric.census:
                ratios, degrees = np.ones(n.size), np.zeros(n.size, dtype=np.int64)
                if weekly is not None:
                    ratios, degrees = poisson_dispersions(*deviations_by_place(self.grid, metric, weekly))
                low, high = poisson_limits_array(n, ratios, degrees)
                measured.low, measured.high = low / exposure, high / exposure
        for column in (measured.value, measured.low, measured.high):
            column[undefined] = np.nan
        for column in (measured.numerator, measured.denominator):
            column[nothing] = np.nan
            if metric.kind in ("ratio", "rate"):
                column[np.isnan(column)] = 0.0
        measured.n[nothing] = measured.open[nothing] = 0

    def _frame(
        self,
        metric: Metric,
        quarters: Sequence[int],
        ground: Ground,
        measured: Measured,
        reasons: Reasons,
        tally: Tally,
        changes: Changes,
    ) -> pl.DataFrame:
        """The rows of one metric: scope by scope, quarter by quarter, series by series."""
        scopes, series = len(self.grid.scopes), len(metric.series)
        scope = np.repeat(np.arange(scopes), len(quarters) * series)
        quarter = np.tile(np.repeat(np.array(quarters, dtype=np.int64), series), scopes)
        of_series = np.tile(np.arange(series), scopes * len(quarters))
        place = (scope * len(self.grid.quarters) + quarter) * series + of_series
        missing = [", ".join(names) or None for names in ground.reasoning.missing((*metric.entities, *metric.optional))]
        live = ground.coverage.live[scope, quarter]
        blended = live > 1
        if metric.subject == "team":
            blended &= np.isin(scope, self.grid.of_scope["organization"])
        columns: dict[str, pl.Series] = {
            "scope": pl.Series([kind for kind, _ in self.grid.scopes], dtype=pl.String).gather(scope),
            "name": pl.Series([name for _, name in self.grid.scopes], dtype=pl.String).gather(scope),
            "quarter": pl.Series([str(one) for one in self.grid.quarters], dtype=pl.String).gather(quarter),
            "series": pl.Series(metric.series, dtype=pl.String).gather(of_series),
            "reason": _texts(reasons[place]),
            "missing": pl.Series(missing, dtype=pl.String).gather(scope),
            "covered_from": _dates(ground.coverage.first[scope, quarter], live),
            "covered_to": _dates(ground.coverage.after[scope, quarter], live),
            "excluded": _left_out(measured.n.size, reasons, tally).gather(place),
            "blended": pl.Series(blended),
            "n": pl.Series(measured.n[place]),
            "open": pl.Series(measured.open[place]),
            "direction": pl.Series(np.where(np.isnan(changes.p_values), np.nan, changes.directions)[place]).fill_nan(
                None
            ),
            **{
                name: pl.Series(column[place], nan_to_null=True)
                for name, column in (
                    ("value", measured.value),
                    ("numerator", measured.numerator),
                    ("denominator", measured.denominator),
                    ("low", measured.low),
                    ("high", measured.high),
                    ("p_value", changes.p_values),
                )
            },
        }
        return (
            pl.DataFrame(columns)
            .with_columns(
                metric=pl.lit(metric.name),
                unit=pl.lit(metric.unit),
                definition=pl.lit(metric.definition_id),
                reading=pl.lit(TOO_FEW if metric.tested else NOT_TESTED),
            )
            .select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        )


class _Room:
    """Lets rows into memory while there is room for them; whoever has more than fit waits until all others are done."""

    def __init__(self, rows: int) -> None:
        self._most = self._free = max(rows, 0)
        self._changed = Condition()

    @contextmanager
    def taken(self, rows: int) -> Iterator[None]:
        """Wait for room, and give it back."""
        wanted = min(rows, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


def with_readings(values: pl.DataFrame, metrics: Iterable[Metric], quarters: Sequence[Quarter]) -> pl.DataFrame:
    """The values with the word of each, which is known only when all of them have been compared.

    Values may come from an earlier measuring: then their words are found anew, beside the others of their family.
    """
    tested = {metric.name: metric.direction for metric in metrics if metric.tested}
    newest = [str(quarter) for quarter in quarters[-READ_QUARTERS:]]
    is_read = pl.col("metric").is_in(list(tested)) & pl.col("quarter").is_in(newest)
    values = values.with_columns(
        reading=pl.when(pl.col("metric").is_in(list(tested))).then(pl.lit(TOO_FEW)).otherwise(pl.lit(NOT_TESTED)),
        p_value=pl.when(is_read).then(pl.col("p_value")),
        direction=pl.when(is_read).then(pl.col("direction")),
    )
    p_values = values["p_value"].fill_null(float("nan")).to_numpy()
    directions = values["direction"].fill_null(0).to_numpy()
    seen = (
        values.select("metric", "scope", "quarter", "series")
        .with_row_index("row")
        .filter(is_read)
        .group_by("metric", "scope", "quarter", "series")
        .agg("row")
    )
    families = []
    for metric, scope, quarter, _, rows in seen.iter_rows():
        places = np.asarray(rows, dtype=np.int64)
        families.append(Family(metric, scope, quarter, places, p_values[places], directions[places], tested[metric]))
    words = _texts(read_families(families, values.height))
    return values.with_columns(reading=pl.coalesce(words.alias("reading"), pl.col("reading")))


def _dates(ordinals: IntArray, live: IntArray) -> pl.Series:
    """A column of days, without one where nothing was live."""
    since_1970 = np.where(live > 0, ordinals - date(1970, 1, 1).toordinal(), 0)
    days = pl.Series(since_1970.astype(np.int32)).cast(pl.Date)
    return days if (live > 0).all() else pl.select(pl.when(pl.Series(live > 0)).then(days)).to_series()


def _texts(words: npt.NDArray[np.object_]) -> pl.Series:
    return pl.Series(words.tolist(), dtype=pl.String)


def _left_out(size: int, reasons: Reasons, tally: Tally) -> pl.Series:
    """By place: how many rows were left out for which reason, as JSON; all of them where nothing counts."""
    known = sorted({*tally.reasons, *OF_NOTHING})
    number = np.array([known.index(reason) for reason in tally.reasons], dtype=np.int64)
    entries, rows = [tally.places * len(known) + number[tally.why]], [tally.rows]
    for reason in OF_NOTHING:
        of_nothing = np.flatnonzero((reasons == reason) & (tally.counted > 0))
        entries.append(of_nothing * len(known) + known.index(reason))
        rows.append(tally.counted[of_nothing])
    entry, of_entry = np.unique(np.concatenate(entries), return_inverse=True)
    summed = np.zeros(entry.size, dtype=np.int64)
    np.add.at(summed, of_entry, np.concatenate(rows))
    said = pl.Series([f"{json.dumps(reason)}: " for reason in known], dtype=pl.String)
    texts = (
        pl.DataFrame({"place": entry // len(known), "text": said.gather(entry % len(known)), "rows": summed})
        .group_by("place", maintain_order=True)
        .agg((pl.col("text") + pl.col("rows").cast(pl.String)).str.join(", "))
    )
    chosen = np.zeros(size, dtype=np.int64)
    chosen[texts["place"].to_numpy()] = np.arange(1, texts.height + 1)
    return pl.concat([pl.Series(["{}"]), "{" + texts["text"] + "}"]).gather(chosen)
