"""Readiness, verification, budgets, gates, drift, interventions, surveys, templates, runbooks.

Source: metrics.md section 4, rows 8 to 11 and 13 to 17; the settings `practices:` hold windows and names.
"""

from __future__ import annotations

from analytics.metrics.metric import Metric

PRACTICE: tuple[Metric, ...] = (
    Metric(
        name="rollback_readiness",
        title="Rollback readiness",
        unit="ratio",
        direction="higher",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Critical services (tier 0 and 1, or the settings' `critical_tiers`) that can be rolled back: the catalog "
            "names a rollback runbook and an automation, the runbook is not known to be missing from the repository, "
            "and a rollback drill succeeded in the 180 days (`drill_window_days`) before the quarter's end or the "
            "cut-off; divided by all critical services. Other services have no value."
        ),
        query="rollback_readiness",
        tables=("services", "service_runbooks", "rollback_drills", "quarters"),
        entities=("drills",),
        empty_reason="no_catalog_entry",
        indicator=8,
        census=True,
        tested=False,
        reason_of_rows=True,
    ),
    Metric(
        name="verification_coverage",
        title="Deployment verification coverage",
        unit="ratio",
        direction="higher",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Successful production deployments that a smoke or synthetic check passed at or after their finish, "
            "divided by all of them. A check names the deployment or its run; a job counts when it ran in the "
            "deployment's own run and the settings' `check_jobs` name it. Which kinds of checks count is `check_kinds`."
        ),
        query="verification_coverage",
        tables=("service_deployments", "deployment_checks"),
        entities=("deployments", "checks"),
        empty_reason="no_deployments",
        needs_deployments=True,
        indicator=9,
        census=True,
    ),
    Metric(
        name="error_budget_impact",
        title="Error budget impact of a deployment",
        unit="ratio",
        direction="lower",
        kind="mean",
        minimum_n=6,
        definition=(
            "Error budget burnt from just before a deployment to 24 hours (`budget_window_hours`) after its finish, "
            "less what the 24 hours before it had burnt: the mean over successful production deployments and "
            "objectives, as a share of the whole budget. A sample holds until the next; one outside the windows says "
            "nothing. Below zero where less was burnt after than before. It is a mean, not a median, because most "
            "deployments burn nothing and the few that do are what matters."
        ),
        query="error_budget_impact",
        tables=("budget_impacts",),
        entities=("deployments", "slo_samples"),
        empty_reason="no_slo",
        needs_deployments=True,
        indicator=10,
        reason_of_rows=True,
    ),
    Metric(
        name="gate_false_positive_rate",
        title="Security gate false positives",
        unit="ratio",
        direction="lower",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Runs that a security gate blocked and that were later resolved as a false positive, divided by all that "
            "it blocked, in the period in which the gate spoke. Without a resolution a block counts as right."
        ),
        query="gate_false_positive_rate",
        tables=("gate_outcomes",),
        entities=("gate_results",),
        empty_reason="no_blocked_runs",
        subject="repository",
        indicator=11,
    ),
    Metric(
        name="config_drift_incidents",
        title="Configuration drift incidents",
        unit="count",
        direction="lower",
        kind="count",
        minimum_n=0,
        definition=(
            "Incidents opened in the period that carry a label of drift (the settings' `drift_labels`), merged "
            "duplicates once. Zero is said only when incidents were collected."
        ),
        query="config_drift_incidents",
        tables=("drift_incidents", "service_incidents"),
        entities=("incidents",),
        empty_reason="no_incidents",
        indicator=13,
    ),
    Metric(
        name="manual_interventions_per_deployment",
        title="Manual interventions per deployment",
        unit="ratio",
        direction="lower",
        kind="rate",
        minimum_n=1,
        definition=(
            "What was done by hand to get releases out, divided by successful production deployments: each attempt of "
            "a deployment's run after the first, each overridden gate, each hotfix. It may exceed one. Overrides are "
            "counted where gate results are collected; an override belongs to the deployment of its run, else to the "
            "only service of its repository."
        ),
        query="manual_interventions_per_deployment",
        tables=("service_deployments", "manual_interventions"),
        entities=("deployments",),
        optional=("gate_results",),
        empty_reason="no_deployments",
        needs_deployments=True,
        indicator=14,
    ),
    Metric(
        name="satisfaction_score",
        title="Stakeholder satisfaction",
        unit="ratio",
        direction="higher",
        kind="mean",
        minimum_n=6,
        definition=(
            "Mean of score divided by highest score over the answers given in the period. A service shows the answers "
            "about its team; the organisation counts every answer once, also those about no team of the catalog."
        ),
        query="satisfaction_score",
        tables=("survey_answers",),
        entities=("survey_responses",),
        empty_reason="no_survey",
        subject="team",
        indicator=15,
    ),
    Metric(
        name="satisfaction_response_count",
        title="Survey answers",
        unit="count",
        direction="higher",
        kind="count",
        minimum_n=0,
        definition=(
            "Answers to survey questions given in the period, one per person, question and time. Zero is said only "
            "when survey responses were collected."
        ),
        query="satisfaction_score",
        tables=("survey_answers",),
        entities=("survey_responses",),
        empty_reason="no_survey",
        subject="team",
        indicator=15,
        census=True,
        tested=False,
    ),
    Metric(
        name="services_onboarded",
        title="Services onboarded to standard templates",
        unit="count",
        direction="higher",
        kind="count",
        minimum_n=0,
        definition=(
            "Services whose first collected run that calls a standard pipeline template falls in the period. A "
            "template is a reusable workflow that the settings' `templates` name or, without any, one that lies in "
            "another repository than the run. Undefined where runs do not say which workflows they call."
        ),
        query="services_onboarded",
        tables=("services", "template_adoption", "quarters"),
        entities=("pipeline_runs", "referenced_workflows"),
        empty_reason="no_runs",
        indicator=16,
        census=True,
        tested=False,
    ),
    Metric(
        name="runbook_freshness",
        title="Runbook freshness",
        unit="ratio",
        direction="higher",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Runbooks of the catalog (`runbooks`) that a commit changed in the 6 months (`runbook_months`) before the "
            "quarter's end or the cut-off, divided by all of them. One that is named and never changed is not fresh; "
            "one whose first known change is later was not known then and is left out."
        ),
        query="runbook_freshness",
        tables=("services", "service_runbooks", "runbook_changes", "quarters"),
        entities=("file_revisions",),
        empty_reason="no_catalog_entry",
        indicator=17,
        census=True,
        tested=False,
        reason_of_rows=True,
    ),
)
