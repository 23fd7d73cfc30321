"""The worked examples of docs/metrics.md give the values that were computed by hand: one run measures them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from analytics.engine import connect
from analytics.lake.tables import write_table
from analytics.metrics.examples import CUT_OFF, QUARTER, Answer, examples
from analytics.metrics.registry import METRICS
from analytics.settings import load_settings

if TYPE_CHECKING:
    from tests.pipeline.conftest import Metrics, World

ANSWERS = [answer for example in examples() for answer in example.answers]


@pytest.fixture(scope="module")
def worked(new_world: Callable[[], World]) -> World:
    """A world with the records of every example."""
    world = new_world()
    world.at(CUT_OFF)
    world.set(supply_chain={"policies": "policies.yaml"})
    world.collected("attestations", "sboms")
    for example in examples():
        for service in example.services:
            world.service(**service)
        for entity in example.records:
            for record in example.full_records(entity):
                world.add(entity, **record)
    world.write()
    world.command("pull")
    world.command("build")
    write_rows(world)
    world.command("measure", "--quarter", QUARTER)
    return world


def write_rows(world: World) -> None:
    """Write the rows that `verify` would write, on the day of their deployment."""
    settings = load_settings(world.settings_path)
    rows: dict[str, list[dict[str, Any]]] = {}
    for example in examples():
        for table in example.tables:
            rows.setdefault(table, []).extend(example.full_records(table))
    with connect(settings) as con:
        con.execute("CREATE TABLE calendar AS SELECT DATE '2026-02-03' AS day, '2026-Q1' AS quarter")
        for table, given in rows.items():
            columns = list(dict.fromkeys(column for row in given for column in row))
            values = ", ".join("(" + ", ".join(literal(row.get(column)) for column in columns) + ")" for row in given)
            query = f"SELECT *, DATE '2026-02-03' AS day FROM (VALUES {values}) AS t({', '.join(columns)})"
            write_table(con, settings, table, query)


def literal(value: Any) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, bool) else f"'{value}'"


@pytest.fixture(scope="module")
def measured(worked: World) -> Metrics:
    return worked.metrics(QUARTER)


def test_every_metric_has_a_worked_example() -> None:
    assert sorted(answer.metric for answer in ANSWERS) == sorted(metric.name for metric in METRICS)


def test_no_record_of_an_example_was_refused(worked: World) -> None:
    assert worked.facts("quarantine") == []


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.metric)
def test_the_value_is_the_one_computed_by_hand(answer: Answer, measured: Metrics) -> None:
    measured.expect(answer.metric, answer.name, scope=answer.scope, reason=None, **answer.parts)


def test_the_bots_commit_of_the_example_is_in_the_series_of_all(measured: Metrics) -> None:
    measured.expect("change_lead_time", "orders", series="all", value=8.0, n=3)
