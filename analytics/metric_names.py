"""The public names of all metrics, for settings that speak of them before any is defined.

What each means stands in `analytics.metrics.registry`. Source: contract.md section 5.
"""

from __future__ import annotations

METRIC_NAMES = (
    "deployment_frequency",
    "change_lead_time",
    "change_lead_time_p75",
    "change_lead_time_p95",
    "change_fail_rate",
    "change_fail_rate_changes_only",
    "failed_deployment_recovery_time",
    "incident_time_to_restore",
    "deployment_rework_rate",
    "deployment_success_rate",
    "pipeline_success_rate",
    "pipeline_success_rate_final",
    "pipeline_duration_median",
    "pipeline_duration_p95",
    "pipeline_flake_rate",
    "pipeline_rerun_rate",
    "queue_time_median",
    "queue_time_p95",
    "runner_utilization",
    "rollback_readiness",
    "verification_coverage",
    "error_budget_impact",
    "gate_false_positive_rate",
    "config_drift_incidents",
    "manual_interventions_per_deployment",
    "satisfaction_score",
    "satisfaction_response_count",
    "services_onboarded",
    "runbook_freshness",
    "policy_compliance_rate",
    "signature_coverage",
    "provenance_coverage",
    "sbom_coverage",
)
