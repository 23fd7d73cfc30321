"""Every metric, defined once: this list drives the assets, `metrics`, `explain`, the pack and docs/metrics.md.

A metric's query stands in `observations/<query>.sql`; it yields the rows that count and the rows that were left out.
A change of meaning bumps `version` and the CHANGELOG. Source: metrics.md; names and units: contract.md section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Literal

Statistic = Literal["per_day", "ratio", "quantile", "recovery_median", "utilization"]
MICROSECONDS = {"hours": 3_600_000_000, "minutes": 60_000_000}


@dataclass(frozen=True)
class Metric:
    """One indicator: how it is named, what it means, and from which rows it is made."""

    name: str
    title: str
    unit: str
    # Which way is better; None where neither is.
    direction: Literal["lower", "higher"] | None
    kind: Statistic
    # The number of observations below which packs print no value (reports.md section 2).
    minimum_n: int
    definition: str
    query: str
    # Lake tables that the query reads, and feed entities without which the metric is undefined.
    tables: tuple[str, ...]
    entities: tuple[str, ...]
    # What an undefined value says when the sources are there and no earlier reason applies.
    empty_reason: str
    version: int = 1
    quantile: float = 0.5
    series: tuple[str | None, ...] = (None,)
    subject: Literal["service", "repository"] = "service"
    needs_deployments: bool = False
    # The row of metrics.md section 4 that the metric belongs to.
    indicator: int = 0

    @property
    def definition_id(self) -> str:
        """The name and version that stand beside every value."""
        return f"{self.name}@{self.version}"

    @property
    def statistic(self) -> str:
        """The headline statistic in words."""
        if self.kind == "quantile":
            return "median" if self.quantile == 0.5 else f"{round(self.quantile * 100)}th percentile"
        return {
            "per_day": "count per calendar day",
            "ratio": "share",
            "recovery_median": "median, open ones censored",
            "utilization": "share of time",
        }[self.kind]

    def observations_sql(self) -> str:
        """The query's text."""
        return observations_sql(self.query)


def observations_sql(query: str) -> str:
    """The text of one observations query."""
    return resources.files("analytics.metrics").joinpath("observations", f"{query}.sql").read_text(encoding="utf-8")


_SERVICE_DEPLOYMENTS = ("service_deployments",)
_LEAD = (
    "From the author date of a commit to the end of the production deployment that first contained it, one observation "
    "per commit and service, in the period of the deployment. A squash merge counts the pull request's own commits, a "
    "cherry-pick counts once with its first author date, merge commits are left out. A service's first deployment owns "
    "no commits. The series 'human' leaves out bots; 'all' keeps them."
)
_FAIL = (
    "Successful production deployments with evidence of failure, divided by successful production deployments. "
    "Evidence is, in this order: a link that an incident names; the first change behind the target of a rollback; the"
    " deployment whose change was reverted, or that a hotfix followed; else the latest deployment that had started "
    "when the impact began, if it had finished no longer ago than the link window. Each deployment fails at most "
    "once."
)

METRICS: tuple[Metric, ...] = (
    Metric(
        name="deployment_frequency",
        title="Deployment frequency",
        unit="per_day",
        direction="higher",
        kind="per_day",
        minimum_n=0,
        definition=(
            "Successful production deployments of any kind per calendar day of the period. Attempts, retries and "
            "regions of one run are one deployment. Days before a service was live or after the cut-off are not "
            "counted. Zero is said only when deployments were collected."
        ),
        query="deployment_frequency",
        tables=_SERVICE_DEPLOYMENTS,
        entities=("deployments",),
        empty_reason="no_deployments",
        indicator=1,
    ),
    *(
        Metric(
            name=f"change_lead_time{suffix}",
            title=f"Change lead time{title}",
            unit="hours",
            direction="lower",
            kind="quantile",
            quantile=p,
            minimum_n=minimum,
            definition=_LEAD,
            query="change_lead_time",
            tables=("change_lead",),
            entities=("deployments", "commits"),
            empty_reason="no_new_commits",
            series=("human", "all"),
            needs_deployments=True,
            indicator=2,
        )
        for suffix, title, p, minimum in (
            ("", "", 0.5, 6),
            ("_p75", ", 75th percentile", 0.75, 13),
            ("_p95", ", 95th percentile", 0.95, 20),
        )
    ),
    Metric(
        name="change_fail_rate",
        title="Change fail rate",
        unit="ratio",
        direction="lower",
        kind="ratio",
        minimum_n=1,
        definition=_FAIL,
        query="change_fail_rate",
        tables=("service_deployments", "deployment_attempts", "services"),
        entities=("deployments", "incidents"),
        empty_reason="no_deployments",
        needs_deployments=True,
        indicator=3,
    ),
    Metric(
        name="change_fail_rate_changes_only",
        title="Change fail rate, changes only",
        unit="ratio",
        direction="lower",
        kind="ratio",
        minimum_n=1,
        definition=_FAIL + " Only deployments that shipped at least one new commit are counted.",
        query="change_fail_rate_changes_only",
        tables=_SERVICE_DEPLOYMENTS,
        entities=("deployments", "incidents"),
        empty_reason="no_changes",
        needs_deployments=True,
        indicator=3,
    ),
    Metric(
        name="failed_deployment_recovery_time",
        title="Failed deployment recovery time",
        unit="hours",
        direction="lower",
        kind="recovery_median",
        minimum_n=6,
        definition=(
            "From the finish of a failed deployment to the latest mitigation of its incidents or, without incidents, "
            "to the finish of the deployment that remedied it, in the failed deployment's period. What has not "
            "recovered at the cut-off is counted as open and censored: then the median is Kaplan and Meier's."
        ),
        query="failed_deployment_recovery_time",
        tables=_SERVICE_DEPLOYMENTS,
        entities=("deployments", "incidents"),
        empty_reason="no_failed_deployments",
        needs_deployments=True,
        indicator=4,
    ),
    Metric(
        name="incident_time_to_restore",
        title="Incident time to restore",
        unit="hours",
        direction="lower",
        kind="quantile",
        minimum_n=6,
        definition=(
            "From the start of an incident's impact to its resolution (mitigation where there is none), for all "
            "incidents of a service, linked to a deployment or not, in the period of the resolution."
        ),
        query="incident_time_to_restore",
        tables=("service_incidents",),
        entities=("incidents",),
        empty_reason="no_incidents",
        indicator=4,
    ),
    Metric(
        name="deployment_rework_rate",
        title="Deployment rework rate",
        unit="ratio",
        direction="lower",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Unplanned remediation among successful production deployments: rollbacks, reverts of a deployed change, "
            "hotfixes by the settings' labels, branches and titles, and deployments that an incident names as its fix."
        ),
        query="deployment_rework_rate",
        tables=_SERVICE_DEPLOYMENTS,
        entities=("deployments",),
        empty_reason="no_deployments",
        needs_deployments=True,
        indicator=14,
    ),
    Metric(
        name="deployment_success_rate",
        title="Deployment success rate",
        unit="ratio",
        direction="higher",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Successful attempts among the successful and failed attempts to deploy to production, by their finish. "
            "Cancelled, skipped, unfinished and carried-over attempts are left out."
        ),
        query="deployment_success_rate",
        tables=("deployment_attempts",),
        entities=("deployments",),
        empty_reason="no_deployments",
        indicator=1,
    ),
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
    ),
)

BY_NAME = {metric.name: metric for metric in METRICS}
