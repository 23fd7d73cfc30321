"""Tables of how people work, of which a build has nothing to write where nobody told of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from analytics.catalog import Catalog, Service
from analytics.delivery.practices import COME_FROM, practice_facts
from analytics.engine import connect
from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import create_prelude
from analytics.lake.schemas import TABLES
from analytics.lake.tables import clear_table, lake_relation, quarters_of
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES

AT = datetime(2026, 2, 1, 10)
AN_EXAMPLE = {"VARCHAR": "'shop'", "TIMESTAMP": f"TIMESTAMP '{AT}'", "DATE": "DATE '2026-02-01'", "BOOLEAN": "true"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(organization="Acme").model_copy(update={"storage": tmp_path})


@pytest.fixture
def engine(settings: Settings) -> Iterator[DuckEngine]:
    with connect(settings) as con:
        made = DuckEngine(con, settings)
        create_prelude(made, settings)
        yield made


def example(columns: dict[str, str]) -> str:
    """A query of one row, in which all texts are the same, so that whatever is joined by one meets."""
    values = (
        f"CAST([] AS {kind})" if kind.endswith("[]") else f"CAST({AN_EXAMPLE.get(kind, '2')} AS {kind})"
        for kind in columns.values()
    )
    return "SELECT " + ", ".join(f'{value} AS "{name}"' for name, value in zip(columns, values, strict=True))


def written(engine: DuckEngine, settings: Settings) -> dict[str, int]:
    engine.read_lake(*ENTITIES)
    engine.create_values("runbook_changed", TABLES["runbook_changes"].columns, [])
    rows: dict[str, int] = {}
    catalog = Catalog([Service(name="shop", repository="shop", team="shop")])
    practice_facts(engine, settings, catalog, lambda name: name, rows)
    return rows


@pytest.mark.parametrize(
    ("entity", "table"),
    [
        ("drills", "rollback_drills"),
        ("checks", "deployment_checks"),
        ("gate_results", "gate_outcomes"),
        ("survey_responses", "survey_answers"),
    ],
)
def test_a_table_loses_its_rows_with_the_last_record_that_they_come_from(
    engine: DuckEngine, settings: Settings, entity: str, table: str
) -> None:
    assert entity in COME_FROM[table]
    for name in ("service_deployments", "deployment_attempts", entity):
        engine.write_lake(name, example(TABLES[name].columns))
    assert written(engine, settings)[table] > 0
    clear_table(settings, entity)
    assert written(engine, settings)[table] == 0
    assert quarters_of(settings, table) == []
    assert engine.rows(f"SELECT * FROM {lake_relation(settings, table)}") == []


def test_what_is_told_of_deployments_alone_is_written_without_any_other_record(
    engine: DuckEngine, settings: Settings
) -> None:
    shipped = example(TABLES["service_deployments"].columns)
    changed = "* REPLACE ('success' AS outcome, 'hotfix' AS rework)"
    engine.write_lake("service_deployments", f"SELECT {changed} FROM ({shipped})")
    rows = written(engine, settings)
    assert {table for table, count in rows.items() if count} == {"budget_impacts", "manual_interventions"}
    assert not COME_FROM.keys() & {"budget_impacts", "manual_interventions"}
