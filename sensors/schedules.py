"""The schedules: every night, some days after a quarter's end, every month; all in the settings' zone.

They run by themselves (Dagster's own default is off), but not where `now` is fixed: nothing changes there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from analytics.errors import SettingsError
from analytics.periods import Quarter
from analytics.settings import Settings
from assets.partitions import key_of_quarter
from assets.resources import Workspace
from sensors.flash import FLASH_JOB, FLASH_OP
from sensors.jobs import NIGHTLY_JOB, QUARTER_JOB


def default_status(settings: Settings) -> bool:
    """Whether schedules and sensors run by themselves in this workspace."""
    return settings.schedules.enabled and settings.fixed_now is None and bool(settings.sources)


def run_config(settings: Settings, now: datetime) -> dict[str, Any]:
    """What makes all steps of a run share one cut-off: the settings' own `now`, else the given time."""
    cut_off = settings.fixed_now or now
    return {
        "resources": {
            "workspace": {
                "config": {
                    "settings_path": str(settings.settings_path),
                    "now": cut_off.astimezone(UTC).isoformat(),
                }
            }
        }
    }


def request(
    settings: Settings, quarter: Quarter, now: datetime, run_key: str, tags: Mapping[str, str] | None = None
) -> dg.RunRequest:
    """A run of a partitioned job for a quarter."""
    return dg.RunRequest(
        run_key=run_key,
        partition_key=key_of_quarter(settings.calendar, quarter),
        run_config=run_config(settings, now),
        tags={"quarter": str(quarter), **(tags or {})},
    )


def pack_cron(settings: Settings) -> str:
    """The quarter's pack as a cron line: day 1 + `pack_days_after_quarter` of each quarter's first month."""
    first = (settings.fiscal_year_start_month - 1) % 3 + 1
    months = ",".join(str(first + 3 * index) for index in range(4))
    plan = settings.schedules
    return f"0 {plan.pack_hour} {1 + plan.pack_days_after_quarter} {months} *"


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Nightly, quarterly and monthly; raises SettingsError for a cron line that names no time."""
    plan = settings.schedules
    status = dg.DefaultScheduleStatus.RUNNING if default_status(settings) else dg.DefaultScheduleStatus.STOPPED
    shared: dict[str, Any] = {"execution_timezone": settings.time_zone, "default_status": status}

    def nightly(context: dg.ScheduleEvaluationContext, workspace: Workspace) -> dg.RunRequest:
        now, settings = context.scheduled_execution_time, workspace.settings()
        return request(settings, settings.calendar.quarter_of(now), now, f"nightly {now.isoformat()}")

    def quarter_pack(context: dg.ScheduleEvaluationContext, workspace: Workspace) -> dg.RunRequest:
        now, settings = context.scheduled_execution_time, workspace.settings()
        ended = settings.calendar.quarter_of(now).plus(-1)
        return request(settings, ended, now, f"pack {ended}")

    def flash(context: dg.ScheduleEvaluationContext, workspace: Workspace) -> dg.RunRequest:
        now, settings = context.scheduled_execution_time, workspace.settings()
        # On the first of a quarter it is about the quarter that ended the day before.
        quarter = settings.calendar.quarter_of(now - timedelta(days=1))
        return dg.RunRequest(
            run_key=f"flash {now:%Y-%m-%d}",
            run_config={**run_config(settings, now), "ops": {FLASH_OP: {"config": {"quarter": str(quarter)}}}},
            tags={"quarter": str(quarter)},
        )

    made = []
    for name, cron, job, function, words in (
        (
            "nightly",
            plan.nightly,
            NIGHTLY_JOB,
            nightly,
            "Pull, build, verify and measure what came in since yesterday.",
        ),
        ("quarter_pack", pack_cron(settings), QUARTER_JOB, quarter_pack, "The pack of the quarter that has ended."),
        ("monthly_flash", plan.flash, FLASH_JOB, flash, "The quarter so far, in a few lines."),
    ):
        try:
            made.append(dg.schedule(name=name, cron_schedule=cron, job_name=job, description=words, **shared)(function))
        except dg.DagsterInvalidDefinitionError as error:
            raise SettingsError(
                f"schedules: '{cron}' is no time of a cron line",
                where=str(settings.settings_path),
                fix="Write minute, hour, day, month, weekday, such as 30 2 * * *.",
            ) from error
    return made
