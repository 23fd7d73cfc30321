from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics.settings import Settings, load_settings
from assets.build import build_assets
from assets.pull import QUARANTINE_SHARE, SOURCE_READ, landing_key, pull_assets, quarantine_result
from assets.resources import Workspace
from sensors.running import _problems


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


# Sources that are cut


SHARDED = """
organization: Acme
now: 2026-04-10T00:00:00Z
sources:
  - {name: a-b, type: git, repositories: {}, shards: 2}
  - {name: a_b, type: git, repositories: {}, shards: 2}
  - {name: a-b-1, type: files, path: ./feeds}
"""


@pytest.fixture
def sharded(tmp_path: Path) -> Settings:
    """Two sources in two shards each, and one that is not cut, with names that are hard to tell apart."""
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(SHARDED, encoding="utf-8")
    return load_settings(path)


def test_each_shard_is_an_asset_that_is_pulled_by_itself(
    sharded: Settings, stages: Any, instance: dg.DagsterInstance
) -> None:
    stages.errors["a_b"] = "unreachable"
    result = run(sharded, instance)
    assert result.success
    # One after the other, in one process: each may keep the whole pace.
    assert sorted(stages.calls) == [
        "pull a-b shard 1 of 1 at once",
        "pull a-b shard 2 of 1 at once",
        "pull a-b-1",
        "pull a_b shard 1 of 1 at once",
        "pull a_b shard 2 of 1 at once",
    ]
    keys = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert keys == {"landing/a-b/1", "landing/a-b/2", "landing/a-b-1", "landing/a_b/1", "landing/a_b/2"}
    said = [problem for event in result.all_events for problem, _ in _problems(event)]
    assert said == ["source a_b, shard 1: unreachable", "source a_b, shard 2: unreachable"]


def test_shards_are_pulled_in_a_pool_of_their_source_and_other_sources_in_none(sharded: Settings) -> None:
    pools = {assets.key.to_user_string(): assets.op.pool for assets in pull_assets(sharded)}
    assert pools == {
        "landing/a-b/1": "pull_a-b",
        "landing/a-b/2": "pull_a-b",
        "landing/a_b/1": "pull_a_b",
        "landing/a_b/2": "pull_a_b",
        "landing/a-b-1": None,
    }


def test_no_two_steps_have_one_name(sharded: Settings) -> None:
    names = [assets.op.name for assets in pull_assets(sharded)]
    assert len(set(names)) == len(names) == 5


def test_what_is_built_waits_for_every_shard(sharded: Settings) -> None:
    deployments = next(spec for spec in build_assets(sharded)[0].specs if spec.key.path[-1] == "deployments")
    assert {dep.asset_key for dep in deployments.deps} == {assets.key for assets in pull_assets(sharded)}
