"""Running the `quarter` job in this process, on the instance whose runs the UI lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from analytics.periods import Quarter
from analytics.progress import report
from analytics.settings import Settings
from assets.pack import PACK
from assets.partitions import key_of_quarter
from assets.pull import SOURCE_READ
from sensors.instance import open_instance
from sensors.jobs import QUARTER_JOB


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: the pack's folder if there is one, and what went wrong, in words and in traces."""

    pack_path: Path | None
    problems: tuple[str, ...]
    traces: tuple[str, ...]


def run_quarter(definitions: dg.Definitions, settings: Settings, quarter: Quarter) -> RunOutcome:
    """Materialize every asset for one quarter and run every check; all steps share one cut-off.

    A source that cannot be read is a problem, and the rest goes on without it.
    """
    report("run", f"starting {quarter}")
    workspace = {"settings_path": str(settings.settings_path), "now": settings.now().isoformat()}
    with open_instance(settings) as instance:
        try:
            result = definitions.resolve_job_def(QUARTER_JOB).execute_in_process(
                partition_key=key_of_quarter(settings.calendar, quarter),
                instance=instance,
                raise_on_error=False,
                run_config={
                    "resources": {"workspace": {"config": workspace}},
                    # The run's events are in the UI; the console is for progress and for errors in words.
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
            )
        except dg.DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error
    if any(_was_interrupted(event) for event in result.all_events):
        raise KeyboardInterrupt
    problems: list[str] = []
    traces: list[str] = []
    for event in result.all_events:
        for problem, trace in _problems(event):
            problems.append(problem)
            traces.append(trace)
    return RunOutcome(_pack_path(result), tuple(problems), tuple(trace for trace in traces if trace))


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    """Whether Ctrl-C ended a step, which Dagster records as its failure."""
    error = event.step_failure_data.error if event.is_step_failure else None
    name = dg.DagsterExecutionInterruptedError.__name__
    return error is not None and name in (error.cls_name, error.cause.cls_name if error.cause else None)


def _problems(event: dg.DagsterEvent) -> Iterator[tuple[str, str]]:
    if event.is_step_failure:
        failure = event.step_failure_data
        trace = failure.error.to_string() if failure.error else ""
        if failure.user_failure_data and failure.user_failure_data.description:
            yield failure.user_failure_data.description, trace
        else:
            cause = failure.error.cause or failure.error if failure.error else None
            message = cause.message.strip().splitlines()[0] if cause else "no reason was recorded"
            yield f"step {event.step_key} failed: {message}", trace
    elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        check = event.asset_check_evaluation_data
        if check.check_name == SOURCE_READ and not check.passed:
            _, source, *shard = check.asset_key.path
            part = f", shard {shard[0]}" if shard else ""
            yield f"source {source}{part}: {check.metadata['error'].value}", ""


def _pack_path(result: dg.ExecuteInProcessResult) -> Path | None:
    for event in result.get_asset_materialization_events():
        if event.asset_key == PACK:
            folder = event.materialization.metadata["folder"]
            return Path(str(folder.value))
    return None
