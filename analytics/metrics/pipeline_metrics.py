"""How reliable and fast pipelines are. Source: metrics.md section 3 and rows 5 to 7 of section 4."""

from __future__ import annotations

from analytics.metrics.metric import Metric

PIPELINE: tuple[Metric, ...] = (
    Metric(
        name="pipeline_success_rate",
        title="Pipeline success rate, first attempt",
        unit="ratio",
        direction="higher",
        kind="ratio",
        minimum_n=1,
        definition=(
            "First attempts that succeeded among those that succeeded, failed, timed out or failed to start: success "
            "without manual intervention. Cancelled, skipped, neutral and unfinished attempts are left out."
        ),
        query="pipeline_success_rate",
        tables=("run_attempts",),
        entities=("pipeline_runs",),
        empty_reason="no_runs",
        subject="repository",
        indicator=5,
    ),
    Metric(
        name="pipeline_success_rate_final",
        title="Pipeline success rate, final attempt",
        unit="ratio",
        direction="higher",
        kind="ratio",
        minimum_n=1,
        definition="As the first-attempt rate, by the last attempt of each run.",
        query="pipeline_success_rate_final",
        tables=("run_attempts",),
        entities=("pipeline_runs",),
        empty_reason="no_runs",
        subject="repository",
        indicator=5,
    ),
    *(
        Metric(
            name=f"pipeline_duration_{name}",
            title=f"Pipeline duration, {title}",
            unit="minutes",
            direction="lower",
            kind="quantile",
            quantile=p,
            minimum_n=minimum,
            definition=(
                "From the start of an attempt's first job to the completion of its last, for attempts that succeeded "
                "or failed. Jobs carried over from an earlier attempt are left out."
            ),
            query="pipeline_duration",
            tables=("run_attempts",),
            entities=("pipeline_runs", "pipeline_jobs"),
            empty_reason="no_jobs",
            subject="repository",
            indicator=6,
        )
        for name, title, p, minimum in (("median", "median", 0.5, 6), ("p95", "95th percentile", 0.95, 20))
    ),
    Metric(
        name="pipeline_flake_rate",
        title="Pipeline flake rate",
        unit="ratio",
        direction="lower",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Runs that succeeded after an attempt of the same workflow at the same commit had failed, among runs that "
            "succeeded in the end."
        ),
        query="pipeline_flake_rate",
        tables=("run_attempts",),
        entities=("pipeline_runs",),
        empty_reason="no_runs",
        subject="repository",
        indicator=5,
    ),
    Metric(
        name="pipeline_rerun_rate",
        title="Pipeline re-run rate",
        unit="ratio",
        direction="lower",
        kind="ratio",
        minimum_n=1,
        definition="Runs with more than one attempt among all runs.",
        query="pipeline_rerun_rate",
        tables=("run_attempts",),
        entities=("pipeline_runs",),
        empty_reason="no_runs",
        subject="repository",
        indicator=5,
    ),
    *(
        Metric(
            name=f"queue_time_{name}",
            title=f"Queue time, {title}",
            unit="minutes",
            direction="lower",
            kind="quantile",
            quantile=p,
            minimum_n=minimum,
            definition=(
                "From the creation of a job to its start, per job. Jobs without a creation time and jobs carried over "
                "from an earlier attempt (started before they were created) are left out."
            ),
            query="queue_time",
            tables=("job_times",),
            entities=("pipeline_jobs",),
            empty_reason="no_jobs",
            subject="repository",
            indicator=7,
        )
        for name, title, p, minimum in (("median", "median", 0.5, 6), ("p95", "95th percentile", 0.95, 20))
    ),
    Metric(
        name="runner_utilization",
        title="Runner utilisation",
        unit="ratio",
        direction=None,
        kind="utilization",
        minimum_n=1,
        definition=(
            "Busy time of the runners that a service's jobs ran on, divided by the windows in which those runners were "
            "seen at work in the quarter. n is the number of runners."
        ),
        query="runner_utilization",
        tables=("runner_windows",),
        entities=("pipeline_jobs",),
        empty_reason="no_jobs",
        subject="repository",
        indicator=7,
        tested=False,
    ),
)
