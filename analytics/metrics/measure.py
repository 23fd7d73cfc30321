"""The measure stage: every metric for every service, team and organisation, by quarter, then the published database.

The rows of a metric's observations are reduced once per subject and quarter; services, teams and the organisation pool
those rows, never averages of averages. Source: metrics.md sections 2, 3 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import polars as pl

from analytics import progress
from analytics.engine import connect
from analytics.engines import Engine, open_engine
from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import CALENDAR, create_functions, create_params
from analytics.errors import LakeError
from analytics.lake.parts import TableParts
from analytics.lake.publish import publishing
from analytics.lake.tables import lake_place, lake_relations, name_relations, scratch, write_partitions, write_table
from analytics.lake.turns import taking_turns
from analytics.lake.updating import count_rows
from analytics.metrics.carrying import (
    carried_values,
    changed_quarters,
    forget_basis,
    held_values,
    note_basis,
    noted_basis,
    present_basis,
    stale_quarters,
    touched_quarters,
)
from analytics.metrics.coverage import MEMBERS, Snapshot, create_members, read_snapshot
from analytics.metrics.measuring import Measuring, with_readings
from analytics.metrics.registry import METRICS, Metric
from analytics.metrics.restatements import restate
from analytics.periods import Calendar, Quarter
from analytics.settings import Settings
from analytics.uncollected import uncollected

STAGE = "measure"
# Six years; older quarters are measured when they are asked for.
MOST_QUARTERS = 24
# What is read whatever is measured: what was collected, when facts began, and what the facts were built from.
OF_EVERY_MEASURING = frozenset(
    {
        "attestation_places",
        "build_inputs",
        "collection",
        "deployment_checks",
        "gate_outcomes",
        "measure_inputs",
        "measured_from",
        "run_attempts",
        "sbom_documents",
        "scope_members",
        "service_deployments",
        "service_incidents",
        "service_runbooks",
        "services",
        "snapshot",
        "survey_answers",
        "verification",
    }
)
# What a measuring writes of the tables that are published; the others are published beside it.
PUBLISHED_BY_MEASURE = ("metric_definitions", "metric_values", "restatements")


@dataclass
class MeasureSummary:
    """Which quarters were measured, how many values there are now and how many published ones were restated."""

    quarters: list[Quarter] = field(default_factory=list)
    values: int = 0
    restated: int = 0


@taking_turns(STAGE)
def measure(settings: Settings, quarters: Sequence[Quarter] | None = None) -> MeasureSummary:
    """Measure every quarter with data (and those asked for), write `metric_values` and publish the database.

    Raises LakeError when nothing has been built yet.
    """
    with (
        open_facts(settings, METRICS) as facts,
        scratch(settings) as folder,
        publishing(facts.con, settings, PUBLISHED_BY_MEASURE) as publish,
    ):
        con = facts.con
        measured = measured_quarters(facts, settings.calendar, quarters or ())
        parts = TableParts(folder)
        before = noted_basis(con, settings)
        basis = present_basis(con, settings, facts.snapshot, METRICS, measured, before)
        if before is not None and before.rules != basis.rules:
            before = None  # nothing holds, and who wrote it may have parted the table otherwise
        stale = stale_quarters(before, basis, settings.calendar, METRICS, measured)
        touched = [measured[number] for number in sorted(touched_quarters(before, stale, measured))]
        held = held_values(settings, touched)
        kept = carried_values(held, stale, measured)
        values = measured_values(facts, settings.calendar, measured, METRICS, stale, kept)
        # Of what was measured again not much need have changed, and what has not is neither written nor published.
        changing = (
            None if before is None else changed_quarters(held, values) | {*before.quarters} - {*map(str, measured)}
        )
        if changing is not None:
            values = values.filter(pl.col("quarter").is_in(sorted(changing)))
        parts.add_frame("metric_values", values)
        for metric in METRICS:
            parts.add("metric_definitions", _definition(metric))
        inputs = (
            "SELECT * FROM build_inputs UNION ALL SELECT 'verification', key, '', value FROM verification "
            "WHERE key <> 'cut_off'"
        )
        con.execute(f"CREATE OR REPLACE TEMP TABLE present_inputs AS {inputs}")
        restated, changed = restate(con, settings, parts, METRICS)
        # Told before the values are replaced: a measuring that is killed between must not lose what changed.
        write_table(con, settings, "restatements", restated)
        forget_basis(settings)
        if changing is None:
            write_table(con, settings, "metric_values", parts.relation("metric_values"))
        else:
            write_partitions(con, settings, "metric_values", parts.relation("metric_values"), changing)
        count = count_rows(con, settings, "metric_values")
        write_table(con, settings, "metric_definitions", parts.relation("metric_definitions"))
        write_table(con, settings, "measure_inputs", "SELECT * FROM present_inputs")
        note_basis(con, settings, basis)
        publish()
    progress.report(STAGE, f"{count:,} values over {len(measured)} quarters, {changed:,} restated")
    return MeasureSummary(measured, count, changed)


@dataclass(frozen=True)
class Facts:
    """An opened lake: the connection of what is small, the engine of what is counted, and what the build noted."""

    con: duckdb.DuckDBPyConnection
    engine: Engine
    snapshot: Snapshot


@contextmanager
def open_facts(settings: Settings, metrics: Iterable[Metric]) -> Iterator[Facts]:
    """Make the facts readable that metrics are measured from, with the tables `calendar` and `members`.

    Raises LakeError when nothing has been built yet.
    """
    read = {table for metric in metrics for table in metric.tables} | OF_EVERY_MEASURING
    with ThreadPoolExecutor(1) as beside, ExitStack() as opened:
        # What the lake holds is looked up while DuckDB starts.
        asked = beside.submit(lake_relations, settings, sorted(read | {"calendar"}))
        con = opened.enter_context(connect(settings))
        relations = asked.result()
        con.execute(f"CREATE OR REPLACE TABLE calendar AS SELECT * FROM {relations.pop('calendar')}")
        # Other sessions see them too: metrics are measured side by side.
        name_relations(con, relations, shared=True)
        if not con.execute("SELECT 1 FROM snapshot LIMIT 1").fetchall():
            raise LakeError(
                "nothing has been built yet", where=lake_place(settings), fix="Run `quarterdeck build` first."
            )
        snapshot = read_snapshot(con)
        create_members(con, snapshot.scopes, shared=True)
        engine = opened.enter_context(open_engine(settings, con, shared=True))
        create_functions(engine, settings.time_zone, shared=True)
        create_params(engine, snapshot.now)
        if not isinstance(engine, DuckEngine):  # which is that connection
            for name, columns in (("calendar", CALENDAR), ("members", MEMBERS)):
                engine.create_values(name, columns, con.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall())
            engine.read_lake(*sorted(read))
        yield Facts(con, engine, snapshot)


def measured_values(
    facts: Facts,
    calendar: Calendar,
    quarters: Sequence[Quarter],
    metrics: Sequence[Metric],
    stale: Mapping[str, frozenset[int]] | None = None,
    kept: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Rows of `metric_values` for the given metrics and quarters, read against the quarter before.

    Where `stale` says which quarters of each metric to measure, `kept` has the rows of all others.
    """
    measuring = Measuring(facts.engine, calendar, facts.snapshot, quarters)
    everything = frozenset(range(len(quarters)))
    frames = [] if kept is None else [kept]
    groups: dict[frozenset[int], dict[tuple[str, str], list[Metric]]] = {}
    for metric in metrics:
        wanted = everything if stale is None else stale[metric.name]
        groups.setdefault(wanted, {}).setdefault((metric.query, metric.kind), []).append(metric)
    # Arrays and frames have no cycles, and the collector would stop every thread to look for some.
    with uncollected():
        # Those of the same quarters at once: the days are made once for them.
        for wanted, alike in groups.items():
            if wanted:
                for group, rows in zip(alike.values(), measuring.frames(list(alike.values()), wanted), strict=True):
                    frames.append(rows)
                    progress.report(STAGE, group[0].title)
        return with_readings(pl.concat(frames), metrics, quarters)


def _definition(metric: Metric) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "title": metric.title,
        "unit": metric.unit,
        "direction": metric.direction,
        "statistic": metric.statistic,
        "minimum_n": metric.minimum_n,
        "definition": metric.definition,
        "version": metric.version,
        "sources": ", ".join(metric.entities),
        "series": metric.series[0],
        "indicator": metric.indicator,
    }


def measured_quarters(facts: Facts, calendar: Calendar, asked: Iterable[Quarter] = ()) -> list[Quarter]:
    """From the first quarter with a fact to the one in progress, at most six years, and every quarter asked for."""
    row = facts.con.execute(
        "SELECT min(day) FROM (SELECT min(day) AS day FROM service_deployments UNION ALL "
        "SELECT min(day) FROM run_attempts UNION ALL SELECT min(opened_day) FROM service_incidents UNION ALL "
        "SELECT min(day) FROM gate_outcomes UNION ALL SELECT min(day) FROM survey_answers)"
    ).fetchone()
    last = calendar.quarter_of(facts.snapshot.now)
    first = calendar.quarter_of_day(row[0]) if row and row[0] else last
    first = max(first, last.plus(1 - MOST_QUARTERS))
    return sorted({*calendar.quarters_between(first, last), *asked})
