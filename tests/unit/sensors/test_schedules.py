from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics.errors import SettingsError
from analytics.settings import Settings
from assets.resources import Workspace
from quarterdeck.definitions import build_definitions
from sensors.schedules import pack_cron, schedules
from tests.unit.sensors.ops_world import workspace

# Partitions exist up to the quarter of `now`, so that it is fixed where a test names quarters.
LATER = "2027-02-10T00:00:00Z"


def requested(settings: Settings, name: str, at: datetime) -> dg.RunRequest:
    """What a schedule of the code location asks for at a time."""
    repository = build_definitions(settings).get_repository_def()
    context = dg.build_schedule_context(
        scheduled_execution_time=at,
        resources={"workspace": Workspace(settings_path=str(settings.settings_path))},
        repository_def=repository,
    )
    with context:
        [run] = repository.get_schedule_def(name).evaluate_tick(context).run_requests or []
    return run


def cut_off(run: dg.RunRequest) -> str:
    return str(run.run_config["resources"]["workspace"]["config"]["now"])


def test_a_night_measures_the_quarter_in_progress_with_one_cut_off(tmp_path: Path) -> None:
    settings = workspace(tmp_path)
    at = datetime.now(UTC).replace(microsecond=0)
    run = requested(settings, "nightly", at)
    assert run.tags["quarter"] == str(settings.calendar.quarter_of(at))
    assert cut_off(run) == at.isoformat()


def test_a_fixed_now_is_the_cut_off_of_every_run(tmp_path: Path) -> None:
    run = requested(workspace(tmp_path, now=LATER), "nightly", datetime(2026, 10, 1, tzinfo=UTC))
    assert cut_off(run) == "2027-02-10T00:00:00+00:00"


def test_a_quarter_begins_at_midnight_of_the_settings_zone(tmp_path: Path) -> None:
    at = datetime(2026, 9, 30, 22, 30, tzinfo=UTC)
    assert requested(workspace(tmp_path, now=LATER), "nightly", at).partition_key == "2026-10-01"
    assert requested(workspace(tmp_path, now=LATER, time_zone="UTC"), "nightly", at).partition_key == "2026-07-01"


def test_the_pack_of_a_quarter_comes_some_days_after_its_end(tmp_path: Path) -> None:
    settings = workspace(tmp_path, now=LATER)
    assert pack_cron(settings) == "0 6 6 1,4,7,10 *"
    run = requested(settings, "quarter_pack", datetime(2026, 10, 6, 4, tzinfo=UTC))
    assert (run.partition_key, run.run_key) == ("2026-07-01", "pack 2026-Q3")


def test_a_fiscal_year_moves_the_pack_and_its_quarter(tmp_path: Path) -> None:
    plan = {"pack_days_after_quarter": 0, "pack_hour": 9}
    settings = workspace(tmp_path, now=LATER, fiscal_year_start_month=2, schedules=plan)
    assert pack_cron(settings) == "0 9 1 2,5,8,11 *"
    run = requested(settings, "quarter_pack", datetime(2026, 11, 1, 8, tzinfo=UTC))
    assert (run.partition_key, run.tags["quarter"]) == ("2026-08-01", "2027-Q3")


@pytest.mark.parametrize(("day", "quarter"), [((2026, 10, 1), "2026-Q3"), ((2026, 11, 1), "2026-Q4")])
def test_a_flash_is_about_the_month_that_ended(tmp_path: Path, day: tuple[int, int, int], quarter: str) -> None:
    run = requested(workspace(tmp_path), "monthly_flash", datetime(*day, 6, tzinfo=UTC))
    assert run.run_config["ops"] == {"tell_flash": {"config": {"quarter": quarter}}}


def test_every_schedule_keeps_the_settings_zone_and_runs_by_itself(tmp_path: Path) -> None:
    made = schedules(workspace(tmp_path))
    assert {each.name for each in made} == {"nightly", "quarter_pack", "monthly_flash"}
    for each in made:
        assert each.execution_timezone == "Europe/Berlin"
        assert each.default_status == dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize("more", [{"now": "2026-01-01T00:00:00Z"}, {"schedules": {"enabled": False}}, {"sources": []}])
def test_nothing_runs_by_itself_where_nothing_can_change(tmp_path: Path, more: dict[str, Any]) -> None:
    statuses = {each.default_status for each in schedules(workspace(tmp_path, **more))}
    assert statuses == {dg.DefaultScheduleStatus.STOPPED}


@pytest.mark.parametrize("cron", ["99 2 * * *", "0 2 31 2 *x"])
def test_a_cron_line_that_names_no_time_is_an_error_of_the_settings(tmp_path: Path, cron: str) -> None:
    with pytest.raises(SettingsError, match="schedules"):
        schedules(workspace(tmp_path, schedules={"nightly": cron}))
