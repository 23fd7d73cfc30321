from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from analytics.lake.version import note_begun
from analytics.metrics.registry import METRICS
from analytics.settings import Settings
from assets.build import build_assets
from assets.measure import PUBLISHED, measure_assets, metric_key
from assets.pack import PACK, pack_assets
from assets.partitions import quarter_partitions
from assets.resources import Workspace
from assets.verify import verify_assets

RATE = metric_key("change_fail_rate")
FREQUENCY = metric_key("deployment_frequency")
# A few assets stand for all of them: each event costs time.
FEW = (RATE, FREQUENCY, PUBLISHED, PACK)


@pytest.fixture
def own_instance() -> Any:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run(
    settings: Settings, instance: dg.DagsterInstance, selection: Any = FEW, key: str = "2026-01-01", **tags: str
) -> dg.ExecuteInProcessResult:
    partitions = quarter_partitions(settings)
    return dg.materialize(
        [*measure_assets(settings, partitions), *pack_assets(settings, partitions)],
        instance=instance,
        resources={"workspace": Workspace(settings_path=str(settings.settings_path))},
        partition_key=None if tags else key,
        tags=tags,
        selection=list(selection),
        raise_on_error=False,
    )


def shown(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> dict[str, Any]:
    [record, *_] = instance.fetch_materializations(
        dg.AssetRecordsFilter(key, asset_partitions=[partition]), limit=1
    ).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def events(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> list[str | None]:
    return [event.partition for event in result.get_asset_materialization_events() if event.asset_key == key]


def test_there_is_one_asset_per_metric_of_the_registry(settings: Settings) -> None:
    [measure] = measure_assets(settings, quarter_partitions(settings))
    assert set(measure.keys) == {PUBLISHED, *(metric_key(metric.name) for metric in METRICS)}


def test_each_metric_says_what_it_is_who_owns_it_and_what_it_reads(settings: Settings) -> None:
    [measure] = measure_assets(settings, quarter_partitions(settings))
    stages = (*build_assets(settings), *verify_assets(settings))
    facts = {key for assets in stages for key in assets.keys}
    for spec in measure.specs:
        assert spec.description
        assert not spec.description.startswith("#")
        assert spec.owners
        assert spec.kinds
        assert spec.tags["stage"] == spec.group_name == "measure"
        if spec.key != PUBLISHED:
            assert {dep.asset_key for dep in spec.deps} <= facts
            assert spec.deps


def test_values_are_numbers_that_the_ui_can_plot(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    assert run(settings, own_instance).success
    metadata = shown(own_instance, RATE, "2026-01-01")
    assert (metadata["value"], metadata["n"], metadata["low"], metadata["high"]) == (0.1, 10, 0.05, 0.5)
    assert metadata["quarter"] == "2026-Q1"
    assert list(metadata)[:4] == ["value", "n", "low", "high"]


def test_every_measured_quarter_is_shown_so_that_there_is_a_trend(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    run(settings, own_instance)
    assert own_instance.get_materialized_partitions(RATE) == {
        "2025-07-01",
        "2025-10-01",
        "2026-01-01",
        "2026-04-01",
    }
    assert shown(own_instance, RATE, "2025-07-01")["value"] == 0.3
    trend = shown(own_instance, RATE, "2026-01-01")["trend in words"]
    assert [part.split()[0] for part in trend.split(", ")] == ["2025-Q3", "2025-Q4", "2026-Q1"]


def test_every_key_is_emitted_when_the_value_is_undefined(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    stages.changed["change_fail_rate", "2026-Q1"] = {
        "value": None,
        "low": None,
        "high": None,
        "reason": "no_deployments",
        "reading": None,
    }
    run(settings, own_instance)
    undefined, defined = shown(own_instance, RATE, "2026-01-01"), shown(own_instance, RATE, "2025-10-01")
    assert undefined["value"] is None
    assert undefined["reason"] == "no_deployments"
    assert set(undefined) == set(defined)


def test_an_earlier_quarter_is_reported_again_only_when_it_was_restated(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    run(settings, own_instance)
    stages.changed["change_fail_rate", "2025-Q4"] = {"value": 0.9}
    result = run(settings, own_instance)
    assert sorted(map(str, events(result, RATE))) == ["2025-10-01", "2026-01-01"]
    assert events(result, FREQUENCY) == ["2026-01-01"]
    assert shown(own_instance, RATE, "2025-10-01")["value"] == 0.9


def test_a_range_of_quarters_is_one_run_with_a_value_each(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    bounds = {"dagster/asset_partition_range_start": "2025-10-01", "dagster/asset_partition_range_end": "2026-01-01"}
    result = run(settings, own_instance, selection=[RATE], **bounds)
    assert result.success
    assert stages.calls == ["measure"]
    assert shown(own_instance, RATE, "2025-10-01")["value"] == 0.4
    assert shown(own_instance, RATE, "2026-01-01")["value"] == 0.1


def test_one_metric_can_be_chosen(settings: Settings, stages: Any, own_instance: dg.DagsterInstance) -> None:
    result = run(settings, own_instance, selection=[RATE])
    assert result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {RATE}


def test_a_metric_leads_to_the_newest_pack_of_its_quarter(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    (settings.packs_dir / "2026-Q1.r2").mkdir(parents=True)
    run(settings, own_instance)
    assert shown(own_instance, RATE, "2026-01-01")["pack"] == f"{settings.packs_dir.as_uri()}/2026-Q1.r2/index.html"
    # Of a quarter without one it is where the first will lie.
    assert shown(own_instance, RATE, "2025-07-01")["pack"] == f"{settings.packs_dir.as_uri()}/2025-Q3/index.html"


def test_services_are_listed_with_hostile_names_as_text(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    run(settings, own_instance)
    assert "| a\\|b |" in shown(own_instance, RATE, "2026-01-01")["services"]


def test_a_pack_is_made_of_the_asked_quarter_alone(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance
) -> None:
    run(settings, own_instance)
    assert [call for call in stages.calls if call.startswith("pack")] == ["pack 2026-Q1"]
    assert shown(own_instance, PACK, "2026-01-01")["pack"].endswith("/packs/2026-Q1/index.html")


@pytest.mark.parametrize(
    "impossible",
    [
        {"value": 1.5},
        {"value": None, "reason": None},
        {"value": 0.5, "numerator": 1, "denominator": 10},
    ],
)
def test_a_value_that_cannot_be_true_stops_the_pack(
    settings: Settings, stages: Any, own_instance: dg.DagsterInstance, impossible: dict[str, Any]
) -> None:
    stages.changed["change_fail_rate", "2026-Q1"] = impossible
    result = run(settings, own_instance)
    assert not result.success
    assert stages.calls == ["measure"]
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert "change\\_fail\\_rate" in str(check.description)


def test_a_lake_that_a_build_left_half_written_fails_with_what_to_run(
    own_instance: dg.DagsterInstance, settings: Settings
) -> None:
    note_begun(settings, "build")
    result = run(settings, own_instance)
    [failed] = result.get_step_failure_events()
    failure = failed.step_failure_data.user_failure_data
    assert failure is not None
    assert "the last build has not come to its end" in str(failure.description)
    assert "Run `quarterdeck build`" in str(failure.description)
