"""Which quarter a fact belongs to and what an empty or a cut one reads: metrics.md sections 1, 6 and 8."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

NEED_DEPLOYMENTS = [
    "change_lead_time",
    "change_fail_rate",
    "change_fail_rate_changes_only",
    "failed_deployment_recovery_time",
    "deployment_rework_rate",
    "deployment_success_rate",
]


def test_e17_no_deployments_is_zero_frequency_and_nothing_else(world: World) -> None:
    measured = world.measure()
    measured.deployments(0)
    for metric in NEED_DEPLOYMENTS:
        measured.undefined(metric, "no_deployments")


def test_e17_a_quarter_without_deployments_in_a_live_service(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    measured = world.measure()
    measured.deployments(0)
    for metric in NEED_DEPLOYMENTS:
        measured.undefined(metric, "no_deployments")


@pytest.mark.parametrize(
    ("zone", "finished", "quarter"),
    [
        ("UTC", "2026-03-31T23:30:00Z", "2026-Q1"),
        ("Europe/Berlin", "2026-03-31T23:30:00Z", "2026-Q2"),
        ("Europe/Berlin", "2026-03-31T21:59:59Z", "2026-Q1"),
        ("Europe/Berlin", "2026-03-31T22:00:00Z", "2026-Q2"),
        ("UTC", "2026-03-31T23:59:59.999999Z", "2026-Q1"),
        ("UTC", "2026-04-01T00:00:00Z", "2026-Q2"),
        ("America/New_York", "2026-04-01T03:59:59Z", "2026-Q1"),
        ("UTC", "2026-04-01T00:30:00+02:00", "2026-Q1"),
    ],
)
def test_e19_a_quarter_is_cut_at_local_midnights(world: World, zone: str, finished: str, quarter: str) -> None:
    world.seed()
    world.set(time_zone=zone, now="2026-07-05T00:00:00Z")
    world.deploy("d1", "c0", finished)
    for name, days in (("2026-Q1", 90), ("2026-Q2", 91)):
        world.measure(name).deployments(int(name == quarter), days)


def test_e20_a_quarter_with_a_clock_change_is_divided_by_calendar_days(world: World) -> None:
    world.seed()
    world.set(time_zone="Europe/Berlin")
    for i in range(9):
        world.deploy(f"d{i}", "c0", 10 + i)
    measured = world.measure()
    measured.deployments(9, 90)
    measured.expect("deployment_frequency", value=0.1, unit="per_day")


@pytest.mark.parametrize(
    ("start_month", "quarter", "days"),
    [(1, "2026-Q2", 91), (4, "2027-Q1", 91), (7, "2026-Q4", 91), (10, "2026-Q3", 91), (5, "2027-Q1", 92)],
)
def test_a_fiscal_quarter_is_named_by_the_year_it_ends_in(
    world: World, start_month: int, quarter: str, days: int
) -> None:
    world.seed()
    world.set(fiscal_year_start_month=start_month, now="2026-09-01T00:00:00Z")
    world.deploy("d1", "c0", "2026-05-20T12:00:00Z")
    measured = world.measure(quarter)
    measured.deployments(1, days)
    assert {row["quarter"] for row in measured.rows} == {quarter}


def test_a_quarter_cut_by_now_is_divided_by_its_covered_days(world: World) -> None:
    world.seed()
    world.set(now="2026-01-31T00:00:00Z")
    world.deploy("d1", "c0", 10)
    world.deploy("later", "c0", "2026-02-20T00:00:00Z")
    world.measure().deployments(1, 30)


def test_a_quarter_cut_by_the_start_of_the_service_is_divided_by_its_covered_days(world: World) -> None:
    world.service(since="2026-03-02")
    world.commit("c0", 5)
    world.deploy("d1", "c0", "2026-03-05T12:00:00Z")
    world.measure().deployments(1, 30)


def test_deployments_before_the_start_of_the_service_are_on_no_covered_day(world: World) -> None:
    world.service(since="2026-03-22")
    world.service("older", repository="acme/older")
    world.commit("c0", 5)
    world.commit("o0", 5, repository="acme/older")
    for day in (1, 2, 3, 21, 22):
        world.deploy(f"d{day}", "c0", f"2026-03-{day:02}T12:00:00Z")
    world.deploy("o1", "o0", "2026-03-01T12:00:00Z", repository="acme/older")
    measured = world.measure()
    measured.deployments(1, 10)
    for scope, name in (("team", "payments"), ("organization", "Acme")):
        measured.deployments(2, 90, name, scope=scope)
    rows = world.explain("deployment_frequency")["rows"]
    assert [row["excluded"] for row in rows] == [None, *["before_since"] * 4]
    [kept] = world.facts("metric_values", metric="deployment_frequency", name="checkout", quarter="2026-Q1")
    assert json.loads(kept["excluded"]) == {"before_since": 4}


def test_what_is_not_live_yet_has_no_answers_either(world: World) -> None:
    world.service(since="2026-03-02")
    world.collected("survey_responses")
    for person in ("a", "b"):
        world.add(
            "survey_responses",
            respondent=person,
            question="q",
            team="payments",
            score=4,
            max_score=5,
            answered_at="2025-11-05T12:00:00Z",
        )
    measured = world.measure("2025-Q4")
    for metric in ("satisfaction_score", "satisfaction_response_count"):
        measured.undefined(metric, "not_yet_live", n=0, numerator=None, denominator=None)
    rows = world.explain("satisfaction_response_count", quarter="2025-Q4")["rows"]
    assert [row["excluded"] for row in rows] == ["not_yet_live"] * 2


def test_a_quarter_before_the_start_of_the_service_is_not_yet_live(world: World) -> None:
    world.service(since="2026-03-02")
    world.commit("c0", 5)
    measured = world.measure("2025-Q4")
    for metric in ("deployment_frequency", *NEED_DEPLOYMENTS):
        measured.undefined(metric, "not_yet_live")


def test_deployments_without_a_file_are_not_collected(world: World) -> None:
    world.not_collected("deployments")
    world.commit("c0", 5)
    measured = world.measure()
    for metric in ("deployment_frequency", *NEED_DEPLOYMENTS):
        measured.undefined(metric, "not_collected")


def test_commits_without_a_file_leave_lead_time_not_collected(world: World) -> None:
    world.not_collected("commits")
    world.deploy("d1", "c1", 10)
    measured = world.measure()
    measured.deployments(1)
    measured.undefined("change_lead_time", "not_collected")


def test_runs_without_a_file_are_not_collected_and_an_empty_file_has_no_runs(world: World) -> None:
    metrics = ("pipeline_success_rate", "pipeline_success_rate_final", "pipeline_flake_rate", "pipeline_rerun_rate")
    missing = world.measure()
    for metric in metrics:
        missing.undefined(metric, "not_collected")
    missing.undefined("queue_time_median", "not_collected")
    world.collected("pipeline_runs", "pipeline_jobs")
    empty = world.measure()
    for metric in metrics:
        empty.undefined(metric, "no_runs")
    empty.undefined("queue_time_median", "no_jobs")


# Every name of contract.md section 5.
METRICS = [
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
    "policy_compliance_rate",
    "config_drift_incidents",
    "manual_interventions_per_deployment",
    "satisfaction_score",
    "satisfaction_response_count",
    "services_onboarded",
    "runbook_freshness",
    "signature_coverage",
    "provenance_coverage",
    "sbom_coverage",
]
FIELDS = [
    "metric",
    "scope",
    "name",
    "quarter",
    "series",
    "value",
    "unit",
    "n",
    "numerator",
    "denominator",
    "low",
    "high",
    "open",
    "reason",
    "reading",
    "definition",
]


def test_every_indicator_is_there_for_every_scope_and_never_silently_empty(world: World) -> None:
    world.service("checkout")
    world.service("billing", repository="acme/billing", team="money")
    world.seed()
    measured = world.measure()
    names = {("service", "checkout"), ("service", "billing"), ("team", "payments"), ("team", "money")}
    lead = {metric for metric in METRICS if metric.startswith("change_lead_time")}
    wanted = {
        (metric, scope, name, series)
        for metric in METRICS
        for scope, name in {*names, ("organization", "Acme")}
        for series in (("human", "all") if metric in lead else (None,))
    }
    assert set(measured.by_key) == wanted
    for row in measured.rows:
        assert set(FIELDS) <= set(row)
        assert (row["value"] is None) == (row["reason"] is not None), row
        assert row["definition"].startswith(f"{row['metric']}@"), row


@pytest.mark.parametrize("scope", ["service", "team", "organization"])
def test_one_scope_may_be_asked_for(world: World, scope: str) -> None:
    world.measure()
    rows = json.loads(world.command("metrics", "--quarter", "2026-Q1", "--scope", scope, "--format", "json"))
    assert {row["scope"] for row in rows} == {scope}
