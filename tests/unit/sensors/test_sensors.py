from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics.errors import QuarterdeckError
from analytics.settings import Settings
from assets.pack import PACK
from assets.resources import Workspace
from quarterdeck.definitions import build_definitions
from sensors import alerts
from sensors.flash import flash_job
from sensors.sensors import sensors
from tests.unit.sensors.ops_world import finding, webhook, workspace, write_findings


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def tick(instance: dg.DagsterInstance) -> Callable[..., Any]:
    """Asks a sensor of the code location once: (settings, name, cursor) -> what it says, with its new cursor."""

    def ask(settings: Settings, name: str, cursor: str | None = None) -> Any:
        # Only what asks for runs needs to know the partitions.
        repository = build_definitions(settings).get_repository_def() if name == "new_feed_files" else None
        [sensor] = [each for each in sensors(settings) if each.name == name]
        with dg.build_sensor_context(
            cursor=cursor,
            instance=instance,
            repository_def=repository,
            resources={"workspace": Workspace(settings_path=str(settings.settings_path))},
        ) as context:
            return sensor.evaluate_tick(context)

    return ask


def feed(settings: Settings, name: str = "deployments.jsonl", age: int = 60) -> None:
    path = settings.settings_path.parent / "feeds" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    at = settings.now().timestamp() - age
    os.utime(path, (at, at))


def test_every_sensor_runs_by_itself_unless_now_is_fixed(tmp_path: Path, tick: Any) -> None:
    made = sensors(workspace(tmp_path))
    assert {each.name for each in made} == {
        "new_feed_files",
        "critical_findings",
        "ending_waivers",
        "stale_sources",
        "pack_published",
        "run_failed",
    }
    assert {each.default_status for each in made} == {dg.DefaultSensorStatus.RUNNING}
    fixed = sensors(workspace(tmp_path, now="2026-01-01T00:00:00Z"))
    assert {each.default_status for each in fixed} == {dg.DefaultSensorStatus.STOPPED}


def test_a_new_feed_file_starts_one_run_for_the_quarter_in_progress(tmp_path: Path, tick: Any) -> None:
    settings = workspace(tmp_path)
    assert "No feed file" in tick(settings, "new_feed_files").skip_message
    feed(settings)
    first = tick(settings, "new_feed_files")
    [run] = first.run_requests
    assert run.tags["quarter"] == str(settings.calendar.quarter_of(settings.now()))
    assert "none of them new" in tick(settings, "new_feed_files", first.cursor).skip_message
    feed(settings, "incidents.jsonl")
    [second] = tick(settings, "new_feed_files", first.cursor).run_requests
    assert second.run_key != run.run_key


def test_a_feed_file_that_is_being_written_is_waited_for(tmp_path: Path, tick: Any) -> None:
    settings = workspace(tmp_path)
    feed(settings, age=0)
    assert "a moment ago" in tick(settings, "new_feed_files").skip_message


def test_a_critical_finding_is_delivered_and_remembered(tmp_path: Path, tick: Any) -> None:
    settings = workspace(tmp_path)
    write_findings(settings, finding("a"))
    said = tick(settings, "critical_findings")
    assert "1 new critical finding" in said.skip_message
    assert tick(settings, "critical_findings", said.cursor).skip_message == "Nothing new."


def test_an_alert_that_was_not_delivered_is_not_remembered(
    tmp_path: Path, tick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_PAUSE_SECONDS", 0)
    with webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        settings = workspace(tmp_path, alerts={"webhook": "${ALERT_WEBHOOK}"})
        write_findings(settings, finding("a"))
        hook.answers = [500] * 3
        with pytest.raises(Exception, match="could not be delivered") as caught:
            tick(settings, "critical_findings")
        assert isinstance(caught.value.__cause__ or caught.value, QuarterdeckError)
        # The next tick begins where the last that went well ended.
        assert "finding a" in tick(settings, "critical_findings").skip_message
    assert len(hook.posts) == 4


def test_a_stale_source_and_an_ending_waiver_are_told(tmp_path: Path, tick: Any) -> None:
    (tmp_path / "waivers.yaml").write_text("waivers: [{rule: runner, owner: ada, reason: x, until: 2000-01-01}]")
    settings = workspace(tmp_path, supply_chain={"waivers": "waivers.yaml"})
    assert "drops: was never read" in tick(settings, "stale_sources").skip_message
    assert "ended on 2000-01-01: runner" in tick(settings, "ending_waivers").skip_message


def pack_event(instance: dg.DagsterInstance, **metadata: Any) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(PACK, metadata=metadata))


def test_a_pack_is_told_once_and_one_that_was_kept_is_not(
    tmp_path: Path, tick: Any, instance: dg.DagsterInstance
) -> None:
    settings = workspace(tmp_path)
    pack_event(instance, folder="/packs/2026-Q1", quarter="2026-Q1", revision=0, unchanged=False)
    first = tick(settings, "pack_published", None)
    assert first.skip_message == "Looking from now on."
    pack_event(instance, folder="/packs/2026-Q2", quarter="2026-Q2", revision=0, unchanged=True)
    pack_event(instance, folder="/packs/2026-Q2.r1", quarter="2026-Q2", revision=1, unchanged=False)
    second = tick(settings, "pack_published", first.cursor)
    assert second.skip_message == "1 new packs."
    assert tick(settings, "pack_published", second.cursor).skip_message == "No new pack."


def test_a_failed_run_is_told_with_its_step_and_reason(
    tmp_path: Path, tick: Any, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    @dg.op
    def build() -> None:
        raise dg.Failure(description="catalog.yaml:3: unknown key\n  Did you mean 'name'?")

    @dg.job
    def broken() -> None:
        build()

    result = broken.execute_in_process(instance=instance, raise_on_error=False)
    settings = workspace(tmp_path)
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failed",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        resources={"workspace": Workspace(settings_path=str(settings.settings_path))},
    ).for_run_failure()
    [sensor] = [each for each in sensors(settings) if each.name == "run_failed"]
    sensor(context)
    [said] = [record.message for record in caplog.records if record.name == "quarterdeck.alerts"]
    assert said.startswith("run_failed: Acme: run ")
    assert "of broken failed | build: catalog.yaml:3: unknown key | build:   Did you mean 'name'?" in said


def test_a_flash_tells_the_headline_values(
    tmp_path: Path, tick: Any, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance, caplog: Any
) -> None:
    settings = workspace(tmp_path)
    monkeypatch.setattr("sensors.flash.flash_lines", lambda settings, quarter: [f"lead time of {quarter}: 3 h"])
    result = flash_job.execute_in_process(
        instance=instance,
        resources={"workspace": Workspace(settings_path=str(settings.settings_path))},
        run_config={"ops": {"tell_flash": {"config": {"quarter": "2026-Q3"}}}},
    )
    assert result.success
    assert "flash: Acme: 2026-Q3 so far | lead time of 2026-Q3: 3 h" in [record.message for record in caplog.records]
