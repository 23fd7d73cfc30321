"""The sensors: what starts a run, or tells a person, when something happens.

Belongs here: thin Dagster functions over `sensors.watching`. What was told is remembered in the sensor's cursor only
after it was delivered, so that an alert that fails is sent again and one that was delivered is not.
"""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

from analytics.settings import Settings
from assets.pack import PACK
from assets.resources import Workspace
from sensors import watching
from sensors.alerts import Alert, deliver
from sensors.jobs import NIGHTLY_JOB
from sensors.schedules import default_status, request

MINUTE, HOUR = 60, 3600
_MOST_PACKS = 20
_MOST_STEPS = 10

Watch = Callable[[Settings, str | None], tuple[Alert | None, str]]


def sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Every sensor, running by itself unless `now` is fixed or schedules are switched off."""
    status = dg.DefaultSensorStatus.RUNNING if default_status(settings) else dg.DefaultSensorStatus.STOPPED
    return [
        _new_feed_files(status),
        _alerting(
            "critical_findings", watching.critical_findings, MINUTE, status, "Tell of each new critical finding."
        ),
        _alerting("ending_waivers", watching.ending_waivers, HOUR, status, "Tell of waivers that end soon."),
        _alerting("stale_sources", watching.stale_sources, HOUR, status, "Tell of sources that went quiet."),
        _pack_published(status),
        _run_failed(status),
    ]


def _new_feed_files(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="new_feed_files",
        job_name=NIGHTLY_JOB,
        minimum_interval_seconds=30,
        default_status=status,
        description="Pull, build, verify and measure when feed files came or changed, once they are quiet.",
    )
    def new_feed_files(context: dg.SensorEvaluationContext, workspace: Workspace) -> dg.SensorResult | dg.SkipReason:
        settings = workspace.settings()
        now = settings.now()
        state = watching.feeds_state(settings)
        if not state.files:
            return dg.SkipReason("No feed file is there.")
        if state.digest == context.cursor:
            return dg.SkipReason(f"{state.files} feed files, none of them new or changed.")
        if not state.is_quiet(now):
            return dg.SkipReason("A feed file changed a moment ago; it may still be being written.")
        run = request(settings, settings.calendar.quarter_of(now), now, f"feeds {state.digest}")
        return dg.SensorResult(run_requests=[run], cursor=state.digest)

    return new_feed_files


def _alerting(
    name: str, watch: Watch, seconds: int, status: dg.DefaultSensorStatus, description: str
) -> dg.SensorDefinition:
    @dg.sensor(
        name=name,
        minimum_interval_seconds=seconds,
        default_status=status,
        description=description,
    )
    def alerting(context: dg.SensorEvaluationContext, workspace: Workspace) -> dg.SkipReason:
        settings = workspace.settings()
        alert, memory = watch(settings, context.cursor)
        said = "Nothing new."
        if alert is not None:
            said = deliver(settings, alert)
            context.log.warning(said)
        context.update_cursor(memory)
        return dg.SkipReason(said)

    return alerting


def _pack_published(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="pack_published",
        minimum_interval_seconds=MINUTE,
        default_status=status,
        description="Tell where each new pack lies; one that was kept unchanged is no news.",
    )
    def pack_published(context: dg.SensorEvaluationContext, workspace: Workspace) -> dg.SkipReason:
        if context.cursor is None:
            # What was published before anybody looked is no news.
            newest = context.instance.fetch_materializations(PACK, limit=1).records
            context.update_cursor(str(newest[0].storage_id if newest else 0))
            return dg.SkipReason("Looking from now on.")
        filters = dg.AssetRecordsFilter(PACK, after_storage_id=int(context.cursor))
        records = context.instance.fetch_materializations(filters, limit=_MOST_PACKS, ascending=True).records
        told = 0
        for record in records:
            made = record.asset_materialization
            metadata = {name: value.value for name, value in made.metadata.items()} if made else {}
            # The step's own event, beside those of its partitions, says nothing of a pack.
            if "folder" in metadata and not metadata.get("unchanged"):
                revision = f", revision {metadata['revision']}" if metadata.get("revision") else ""
                title = f"the pack of {metadata['quarter']} is published{revision}"
                said = deliver(workspace.settings(), Alert("pack_published", title, [str(metadata["folder"])]))
                context.log.info(said)
                told += 1
            context.update_cursor(str(record.storage_id))
        return dg.SkipReason(f"{told} new packs." if told else "No new pack.")

    return pack_published


def _run_failed(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="run_failed",
        minimum_interval_seconds=30,
        default_status=status,
        description="Tell of each run that failed: which step, why, and what to do.",
    )
    def run_failed(context: dg.RunFailureSensorContext, workspace: Workspace) -> None:
        run = context.dagster_run
        lines = []
        for event in context.get_step_failure_events()[:_MOST_STEPS]:
            data = event.step_failure_data
            said = data.user_failure_data.description if data.user_failure_data else None
            cause = (data.error.cause or data.error).message.strip() if data.error else "no reason was recorded"
            lines += [f"{event.step_key}: {line}" for line in (said or cause).splitlines()[:3]]
        if not lines:
            lines = [context.failure_event.message or "no step failed; the run's process may have died"]
        quarter = run.tags.get("quarter") or run.tags.get("dagster/partition")
        title = f"run {run.run_id[:8]} of {run.job_name}{f' ({quarter})' if quarter else ''} failed"
        context.log.error(deliver(workspace.settings(), Alert("run_failed", title, lines)))

    return run_failed
