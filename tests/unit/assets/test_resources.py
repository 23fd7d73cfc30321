from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from analytics.progress import report
from analytics.settings import Settings
from assets.build import build_assets
from assets.resources import Workspace


def run(settings: Settings, instance: dg.DagsterInstance, now: str | None = None) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        build_assets(settings),
        instance=instance,
        resources={"workspace": Workspace(settings_path=str(settings.settings_path), now=now)},
        raise_on_error=False,
    )


def test_an_error_for_a_reader_is_the_failures_description(
    settings: Settings, stages: Any, instance: dg.DagsterInstance
) -> None:
    settings.settings_path.write_text("organisation: Acme\n")
    result = run(settings, instance)
    [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    description = failure.user_failure_data.description
    assert description is not None
    assert "quarterdeck.yaml:1" in description
    assert "organization" in description


def test_a_signal_that_met_a_query_is_what_dagster_knows_as_an_interruption(
    settings: Settings, stages: Any, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(now: Settings) -> None:
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr("analytics.delivery.build.build", build)
    [failure] = [event.step_failure_data for event in run(settings, instance).all_events if event.is_step_failure]
    assert failure.error is not None
    # `quarterdeck run` looks for either.
    names = (failure.error.cls_name, failure.error.cause.cls_name if failure.error.cause else None)
    assert dg.DagsterExecutionInterruptedError.__name__ in names


def test_a_changed_settings_file_needs_no_restart(
    settings: Settings, stages: Any, instance: dg.DagsterInstance
) -> None:
    settings.settings_path.write_text("{organization: Acme, now: 2026-07-01T00:00:00Z}")
    assert run(settings, instance).success
    assert stages.nows == [datetime(2026, 7, 1, tzinfo=UTC)]


def test_all_steps_of_a_run_share_the_cut_off_it_was_given(
    settings: Settings, stages: Any, instance: dg.DagsterInstance
) -> None:
    run(settings, instance, now="2026-05-05T05:05:05+00:00")
    assert stages.nows == [datetime(2026, 5, 5, 5, 5, 5, tzinfo=UTC)]


def test_progress_stands_in_the_runs_log_but_not_each_step(
    settings: Settings, stages: Any, instance: dg.DagsterInstance, monkeypatch: Any
) -> None:
    def build(now: Settings) -> Any:
        for done in range(1, 501):
            report("build", "services", done, 500)
        return stages.build(now)

    monkeypatch.setattr("analytics.delivery.build.build", build)
    result = run(settings, instance)
    said = [
        entry.user_message
        for entry in instance.all_logs(result.run_id)
        if entry.user_message.startswith("build: services")
    ]
    assert said[0] == "build: services (1/500)"
    assert said[-1] == "build: services (500/500)"
    assert len(said) < 50
