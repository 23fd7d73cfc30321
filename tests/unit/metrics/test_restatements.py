from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.engine import connect
from analytics.lake.parts import TableParts
from analytics.lake.tables import create_views, scratch, write_table
from analytics.metrics.registry import BY_NAME
from analytics.metrics.restatements import compare_inputs, published_quarters, restate
from analytics.settings import Settings, load_settings

RATE = BY_NAME["change_fail_rate"]
VALUE = {
    "metric": RATE.name,
    "scope": "service",
    "name": "checkout",
    "quarter": "2026-Q1",
    "definition": RATE.definition_id,
}
Inputs = dict[tuple[str, str, str], str]
BEFORE: Inputs = {
    ("cut_off", "", ""): "2026-04-10T00:00:00+00:00",
    ("code", "", ""): "1",
    ("collected", "incidents", ""): "yes",
    ("collected", "commits", ""): "yes",
    ("entity", "incidents", "2026-Q1"): "4",
    ("entity", "commits", "2025-Q4"): "9",
    ("settings", "rework", ""): "a",
    ("verification", "policy", ""): "a",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("{organization: Acme, now: 2026-07-05T00:00:00Z}", encoding="utf-8")
    settings = load_settings(path)
    (settings.packs_dir / "2026-Q1").mkdir(parents=True)
    return settings


@contextmanager
def measured(settings: Settings, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[Any]:
    """A lake with old values, and new ones about to replace them."""
    with connect(settings) as con, scratch(settings) as folder:
        parts = TableParts(folder)
        for row in old:
            parts.add("metric_values", {**VALUE, **row})
        for (kind, name, quarter), fingerprint in BEFORE.items():
            parts.add("measure_inputs", {"kind": kind, "name": name, "quarter": quarter, "fingerprint": fingerprint})
        for table in ("metric_values", "measure_inputs"):
            write_table(con, settings, table, parts.relation(table))
        create_views(con, settings, "measure_inputs")
        con.execute("CREATE TEMP TABLE present_inputs AS SELECT * FROM measure_inputs")
        yield con, [{**VALUE, **row} for row in new]


def told(
    con: duckdb.DuckDBPyConnection, settings: Settings, new: list[dict[str, Any]], metric: Any = RATE
) -> list[tuple[Any, ...]]:
    with scratch(settings) as folder:
        parts = TableParts(folder)
        for row in new:
            parts.add("metric_values", row)
        query, _ = restate(con, settings, parts, [metric])
        con.execute("CREATE OR REPLACE TEMP TABLE all_told AS " + query)
    return con.execute("SELECT old_value, new_value, old_n, new_n, cause FROM all_told ORDER BY recorded_at").fetchall()


def test_a_value_that_is_measured_for_the_first_time_restates_nothing(settings: Settings) -> None:
    with measured(settings, [], [{"value": 0.5, "n": 2}]) as (con, values):
        assert told(con, settings, values) == []


@pytest.mark.parametrize("new", [{"value": 0.5, "n": 2}, {"value": 0.5 + 1e-14, "n": 2}])
def test_the_same_value_restates_nothing(settings: Settings, new: dict[str, Any]) -> None:
    with measured(settings, [{"value": 0.5, "n": 2}], [new]) as (con, values):
        assert told(con, settings, values) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"value": 0.5, "n": 2}, {"value": 0.25, "n": 4}),
        ({"value": 0.5, "n": 2}, {"value": 0.5, "n": 4}),
        ({"value": 0.5, "n": 2}, {"value": None, "n": 0}),
        ({"value": None, "n": 0}, {"value": 0.0, "n": 3}),
    ],
)
def test_another_value_or_another_n_is_told_once(settings: Settings, old: dict[str, Any], new: dict[str, Any]) -> None:
    with measured(settings, [old], [new]) as (con, values):
        [row] = told(con, settings, values)
        assert row[:4] == (old["value"], new["value"], old["n"], new["n"])
        # A measuring that was killed here has told it, and has not replaced the values yet.
        con.execute("CREATE TABLE calendar AS SELECT DATE '2026-01-01' AS day, '2026-Q1' AS quarter")
        write_table(con, settings, "restatements", "SELECT * FROM all_told")
        assert told(con, settings, values) == [row]


def test_a_new_version_of_the_definition_is_the_cause(settings: Settings) -> None:
    bumped = replace(RATE, version=2)
    with measured(settings, [{"value": 0.5}], [{"value": 0.4, "definition": bumped.definition_id}]) as (con, values):
        [row] = told(con, settings, values, bumped)
    assert row[-1] == "definition changed from change_fail_rate@1"


# Which quarters


def test_a_quarter_is_told_by_its_pack_or_a_later_one_once_it_is_over(settings: Settings) -> None:
    after = datetime(2026, 4, 10, tzinfo=UTC)
    assert published_quarters(settings, after)[:2] == ["2026-Q1", "2025-Q4"]
    (settings.packs_dir / "2026-Q2.r1").mkdir()
    # A flash pack of the quarter in progress tells no final value.
    assert published_quarters(settings, after)[0] == "2026-Q1"
    assert published_quarters(settings, datetime(2026, 7, 1, tzinfo=UTC))[0] == "2026-Q2"


def test_without_a_pack_nothing_was_told(settings: Settings) -> None:
    (settings.packs_dir / "2026-Q1").rmdir()
    (settings.packs_dir / "notes").mkdir()
    assert published_quarters(settings, datetime(2026, 7, 1, tzinfo=UTC)) == []


# Causes


def cause(changed: Inputs, metric: str = RATE.name, quarter: str = "2026-Q1") -> str:
    new = {**BEFORE, **changed}
    return compare_inputs(BEFORE, new).cause(BY_NAME[metric], quarter, BY_NAME[metric].definition_id)


def test_the_entity_with_other_facts_in_the_quarter_is_the_cause() -> None:
    changed = {("entity", "incidents", "2026-Q1"): "5", ("entity", "commits", "2025-Q4"): "10"}
    assert cause(changed) == "later facts: incidents"
    assert cause(changed, quarter="2025-Q4") == "later facts: commits"


def test_older_facts_are_the_cause_where_the_quarters_own_are_the_same() -> None:
    assert cause({("entity", "commits", "2025-Q4"): "10"}) == "later facts: commits"


def test_an_entity_that_the_metric_does_not_read_is_not_blamed_beside_one_that_it_reads() -> None:
    changed = {
        ("entity", "incidents", "2026-Q1"): "5",
        ("entity", "drills", "2026-Q1"): "1",
        ("collected", "drills", ""): "yes",
    }
    assert cause(changed, "rollback_readiness") == "newly collected: drills; later facts: incidents"
    assert cause({**changed, ("entity", "commits", "2026-Q1"): "1"}).startswith(
        "newly collected: drills; later facts: com"
    )


def test_settings_are_named_by_their_key_and_verification_only_where_deployments_are_judged() -> None:
    changed = {("settings", "rework", ""): "b", ("verification", "policy", ""): "b"}
    assert cause(changed) == "settings changed: rework; verification changed: policy"
    assert cause(changed, "satisfaction_score") == "settings changed: rework"


def test_a_cut_off_that_moved_is_the_cause_where_nothing_else_differs() -> None:
    assert cause({("cut_off", "", ""): "2026-07-05T00:00:00+00:00"}) == "a later cut-off"
    assert cause({}) == "nothing that was noted differs"
