from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analytics.engine import connect
from analytics.lake.tables import write_table
from analytics.metrics import quality
from analytics.metrics.quality import Share
from analytics.periods import Quarter
from analytics.settings import Settings, load_settings

SOUND: dict[str, Any] = {
    "metric": "change_fail_rate",
    "scope": "service",
    "name": "checkout",
    "value": 0.25,
    "unit": "ratio",
    "numerator": 1,
    "denominator": 4,
    "reason": None,
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("organization: Acme\n", encoding="utf-8")
    return load_settings(path)


def write(settings: Settings, table: str, query: str) -> None:
    with connect(settings) as con:
        con.execute("CREATE TABLE calendar AS SELECT DATE '2026-01-01' AS day, '2026-Q1' AS quarter")
        write_table(con, settings, table, query)


def contradictions(settings: Settings, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[str]:
    monkeypatch.setattr(quality, "metric_values", lambda *_: [{**SOUND, **fields}])
    return quality.contradictions(settings, [Quarter(2026, 1)])


def test_nothing_deployed_is_a_share_of_nothing(settings: Settings) -> None:
    assert quality.resolved_deployments(settings) == Share(0, 0)
    assert Share(0, 0).value == 0.0


def test_resolved_deployments_are_counted_among_the_successful_ones(settings: Settings) -> None:
    rows = "('success', 'change'), ('success', 'unresolved'), ('failure', NULL), ('success', 'seed')"
    write(settings, "service_deployments", f"SELECT * FROM (VALUES {rows}) AS t(outcome, kind)")
    assert quality.resolved_deployments(settings) == Share(2, 3)


def test_commits_dated_after_their_deployment_are_counted_among_all(settings: Settings) -> None:
    rows = "('authored_after_deploy'), ('merge_commit'), (NULL), (NULL)"
    write(settings, "change_lead", f"SELECT * FROM (VALUES {rows}) AS t(excluded)")
    assert quality.negative_lead_times(settings) == Share(1, 4)


def test_undeclared_names_come_with_their_kind_the_most_frequent_first(settings: Settings) -> None:
    rows = "('environment', 'stage', 2), ('repository', 'a/b', 9)"
    write(settings, "unmapped", f"SELECT * FROM (VALUES {rows}) AS t(kind, name, rows)")
    assert quality.undeclared_names(settings) == ["repository a/b", "environment stage"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"value": None, "reason": "no_deployments", "numerator": 0, "denominator": 0},
        {"unit": "hours", "value": 0.0, "numerator": None, "denominator": None},
        {"metric": "manual_interventions_per_deployment", "value": 1.5, "numerator": 3, "denominator": 2},
    ],
)
def test_possible_values_are_no_contradiction(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    assert contradictions(settings, monkeypatch, **fields) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"value": None}, "without a reason"),
        ({"value": 1.25, "numerator": 5, "denominator": 4}, "no share"),
        ({"value": -0.1, "numerator": None}, "no share"),
        ({"value": 0.5}, "its parts are 1 of 4"),
        ({"unit": "hours", "value": -1.0}, "negative"),
    ],
)
def test_impossible_values_are_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str
) -> None:
    [found] = contradictions(settings, monkeypatch, **fields)
    assert "change_fail_rate of service checkout in 2026-Q1" in found
    assert said in found
