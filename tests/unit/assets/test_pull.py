from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from analytics.settings import Settings
from assets.pull import QUARANTINE_SHARE, SOURCE_READ, landing_key, pull_assets, quarantine_result
from assets.resources import Workspace


def run(settings: Settings, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    resources = {"workspace": Workspace(settings_path=str(settings.settings_path))}
    return dg.materialize(pull_assets(settings), instance=instance, resources=resources, raise_on_error=False)


def checks(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {(c.asset_key.path[-1], c.check_name): c for c in result.get_asset_check_evaluations()}


def test_each_source_is_pulled_by_itself(settings: Settings, stages: Any, instance: dg.DagsterInstance) -> None:
    result = run(settings, instance)
    assert result.success
    assert sorted(stages.calls) == ["pull drops", "pull other-drops"]
    keys = {event.asset_key for event in result.get_asset_materialization_events()}
    assert keys == {landing_key("drops"), landing_key("other-drops")}


def test_a_source_that_cannot_be_read_fails_its_check_and_stops_nothing(
    settings: Settings, stages: Any, instance: dg.DagsterInstance
) -> None:
    stages.errors["drops"] = "./feeds: no such folder"
    result = run(settings, instance)
    assert result.success
    found = checks(result)
    assert not found["drops", SOURCE_READ].passed
    assert found["drops", SOURCE_READ].severity == dg.AssetCheckSeverity.ERROR
    assert found["drops", SOURCE_READ].metadata["error"].value == "./feeds: no such folder"
    assert found["other-drops", SOURCE_READ].passed


@pytest.mark.parametrize(
    ("refused", "passed", "severity"),
    [(0, True, "WARN"), (10, True, "WARN"), (11, False, "WARN"), (200, False, "WARN"), (201, False, "ERROR")],
)
def test_refused_records_warn_above_one_percent_and_are_an_error_above_twenty(
    refused: int, passed: bool, severity: str
) -> None:
    result = quarantine_result(landing_key("drops"), 1000 - refused, refused)
    assert (result.passed, result.severity.value) == (passed, severity)
    assert result.metadata["share"] == dg.MetadataValue.float(refused / 1000)


def test_nothing_landed_is_no_quarantine(settings: Settings) -> None:
    assert quarantine_result(landing_key("drops"), 0, 0).passed


def test_the_quarantine_check_never_blocks(settings: Settings, stages: Any, instance: dg.DagsterInstance) -> None:
    stages.quarantined = 90
    result = run(settings, instance)
    assert result.success
    assert checks(result)["drops", QUARANTINE_SHARE].severity == dg.AssetCheckSeverity.ERROR
