"""The DORA metrics and what stands beside them. Source: metrics.md section 2 and rows 1 to 4 and 14 of section 4."""

from __future__ import annotations

from analytics.metrics.metric import Metric

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

DELIVERY: tuple[Metric, ...] = (
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
            "counted, nor are deployments on them. Zero is said only when deployments were collected."
        ),
        query="deployment_frequency",
        tables=("service_deployments", "services"),
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
        definition=(
            _FAIL
            + " Where the catalog says that a service's failed attempts are failures, each of them joins both sides."
        ),
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
)
