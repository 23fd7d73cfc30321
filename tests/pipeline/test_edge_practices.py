"""Corners of the indicators 8 to 17: what counts, what is left out and why, what is missing.

Two worlds are measured once each: one in which everything is collected, one in which nearly nothing is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.sources.git_world import Repository

if TYPE_CHECKING:
    from tests.pipeline.conftest import Metrics, World

TEMPLATE = "acme/templates/.github/workflows/build.yml@v2"


@pytest.fixture(scope="module")
def rich(new_world: Callable[[], World]) -> World:
    """Everything is collected; each service plays one part."""
    world = new_world()
    world.set(supply_chain={"policies": "policies.yaml"})
    ready = {"runbook": "docs/rollback.md", "automation": "rollback.yml"}
    for name, entry in {
        "failed-drill": {"tier": 0, "rollback": ready},
        "other-drill": {"tier": 0, "rollback": ready},
        "future-drill": {"tier": 1, "rollback": ready},
        "no-automation": {"tier": 1, "rollback": {"runbook": "docs/rollback.md"}},
        "nothing-named": {"tier": 0},
        "tier-two": {"tier": 2, "rollback": ready},
        "no-tier": {"rollback": ready},
        "checked": {},
        "burnt": {},
        "no-slo": {},
        "shared-a": {"repository": "acme/shared"},
        "shared-b": {"repository": "acme/shared"},
        "own-workflows": {},
        "onboarded": {},
        "onboarded-before": {},
        "teamless": {"team": None},
        "books": {"runbooks": ["docs/new.md", "docs/folder"]},
        "untold-books": {"runbooks": ["docs/runbook.md"]},
    }.items():
        world.service(name, **{"repository": f"acme/{name}", "team": "payments", **entry})
    for service, day, kind, outcome in (
        ("failed-drill", "2026-02-01", "rollback", "failure"),
        ("other-drill", "2026-02-01", "failover", "success"),
        ("future-drill", "2026-04-02", "rollback", "success"),
        ("no-automation", "2026-02-01", "rollback", "Passed"),
        ("nothing-named", "2026-02-01", "rollback", "success"),
        ("stranger", "2026-02-01", "rollback", "success"),
    ):
        world.add("drills", service=service, performed_at=f"{day}T10:00:00Z", kind=kind, outcome=outcome)

    def deployed(service: str, name: str, finished: float, **fields: Any) -> None:
        world.deploy(name, "c0", finished, service=service, repository=f"acme/{service}", **fields)

    for name in ("by-id", "by-run", "failed-then-passed", "manual-test"):
        deployed("checked", name, 100, run_id=f"run of {name}")
    for target, look, kind, conclusion, at in (
        ("by-id", "smoke", "smoke", "success", 101),
        ("run of by-run", "smoke", "Synthetic-API", "passed", 101),
        ("failed-then-passed", "smoke", "smoke", "failure", 101),
        ("failed-then-passed", "pages", "synthetic", "success", 102),
        ("manual-test", "look", "manual", "success", 101),
        ("nobody's", "smoke", "smoke", "success", 101),
    ):
        world.add(
            "checks", deployment_id=target, name=look, kind=kind, conclusion=conclusion, completed_at=world.stamp(at)
        )
    deployed("burnt", "before-unknown", 100)
    deployed("burnt", "after-unknown", 500)
    deployed("burnt", "refilled", 1000)
    deployed("no-slo", "unseen", 100)
    for at, remaining in ((110, 0.9), (499, 0.8), (980, 0.2), (990, 0.1), (1010, 0.9)):
        world.add("slo_samples", service="burnt", slo="api", at=world.stamp(at), error_budget_remaining=remaining)
    world.deploy("by-hand", "c0", 100, service="shared-a", repository="acme/shared", run_id="shared-run")
    for repository, run, outcome in (
        ("acme/shared", "shared-run", "overridden"),
        ("acme/shared", "another-run", "overridden"),
        ("ACME/Checked", "a-run", "blocked"),
        ("acme/nobodys", "a-run", "blocked"),
    ):
        world.add("gate_results", repository=repository, run_id=run, gate="scan", outcome=outcome, at=world.stamp(90))
    for service, incident, labels in (
        ("checked", "drift-1", ["Config-Drift"]),
        ("burnt", "drift-2", ["network"]),
        (None, "drift-3", ["drift"]),
    ):
        world.incident(incident, 200, service=service, labels=labels, mitigated=201)
    for who, team, score in (("p1", "Payments", 4), ("p2", "marketing", 2), ("p3", None, 3), ("p4", "payments", 9)):
        world.add(
            "survey_responses",
            respondent=who,
            question="q",
            answered_at=world.stamp(300),
            team=team,
            score=score,
            max_score=5,
        )
    for service, at, called in (
        ("own-workflows", 50, ["acme/own-workflows/.github/workflows/build.yml@main", "./local.yml"]),
        ("onboarded", 40, []),
        ("onboarded", 50, [TEMPLATE]),
        ("onboarded-before", -100, [TEMPLATE]),
        ("onboarded-before", 50, [TEMPLATE]),
    ):
        world.pipeline_run(
            f"run {service} {at}", "success", at, repository=f"acme/{service}", referenced_workflows=called
        )
    world.commit("c0", -400, repository="acme/checked")
    world.commit("b0", -9000, repository="acme/books", files=["docs/folder/a.md"])
    world.commit("b1", "2026-04-05T00:00:00Z", repository="acme/books", files=["docs/new.md"])
    world.measure()
    return world


@pytest.fixture(scope="module")
def told(rich: World) -> Metrics:
    return rich.metrics()


def rows(world: World, metric: str, service: str | None, **where: Any) -> list[dict[str, Any]]:
    found = world.explain(metric, service)["rows"]
    return [row for row in found if all(row[key] == value for key, value in where.items())]


def test_what_nobody_declared_is_listed(rich: World) -> None:
    found = {(row["kind"], row["name"], row["detail"]) for row in rich.facts("unmapped")}
    assert {("service", "stranger", "drills"), ("repository", "acme/nobodys", "gate_results")} <= found


# Rollback readiness


@pytest.mark.parametrize("name", ["failed-drill", "other-drill", "future-drill", "no-automation", "nothing-named"])
def test_a_critical_service_that_lacks_one_thing_is_not_ready(name: str, told: Metrics) -> None:
    told.ratio("rollback_readiness", 0, 1, name)


def test_a_service_that_is_not_critical_or_of_no_tier_has_no_readiness(told: Metrics) -> None:
    told.undefined("rollback_readiness", "not_critical", "tier-two")
    told.undefined("rollback_readiness", "no_catalog_entry", "no-tier")
    told.expect("rollback_readiness", "Acme", scope="organization", numerator=0, denominator=5)


# Verification


def test_a_check_names_a_deployment_by_its_id_or_its_run_and_one_that_passed_is_enough(told: Metrics) -> None:
    told.ratio("verification_coverage", 3, 4, "checked")


def test_a_check_that_names_nothing_known_is_left_out_with_the_reason(rich: World) -> None:
    [row] = rows(rich, "verification_coverage", None, excluded="no_such_deployment")
    assert row["deployment_key"] == "nobody's"


# Error budgets


def test_a_deployment_without_samples_around_it_is_left_out_and_a_refill_counts_as_less_than_nothing(
    rich: World, told: Metrics
) -> None:
    excluded = {row["deployment_key"]: row["excluded"] for row in rows(rich, "error_budget_impact", "burnt")}
    assert excluded == {
        "before-unknown": "no_sample_before",
        "after-unknown": "no_sample_after",
        "refilled": None,
    }
    # (0.1 - 0.9) after, less (0.2 - 0.1) before.
    told.expect("error_budget_impact", "burnt", value=-0.9, n=1)


def test_a_service_without_an_objective_says_so(told: Metrics) -> None:
    told.undefined("error_budget_impact", "no_slo", "no-slo")


# Gates and interventions


def test_a_gate_without_a_block_has_no_rate_and_letter_case_does_not_matter(rich: World, told: Metrics) -> None:
    told.undefined("gate_false_positive_rate", "no_blocked_runs", "shared-a")
    told.ratio("gate_false_positive_rate", 0, 1, "checked")
    told.expect("gate_false_positive_rate", "Acme", scope="organization", denominator=1)
    [row] = rows(rich, "gate_false_positive_rate", None, excluded="no_catalog_entry")
    assert row["repository"] == ""


def test_an_override_belongs_to_the_deployment_of_its_run_else_to_the_only_service(rich: World, told: Metrics) -> None:
    told.ratio("manual_interventions_per_deployment", 1, 1, "shared-a")
    told.undefined("manual_interventions_per_deployment", "no_deployments", "shared-b")
    [row] = rows(rich, "manual_interventions_per_deployment", None, excluded="shared_repository")
    assert row["run_id"] == "another-run"


# Drift


def test_drift_is_known_by_its_label_and_zero_where_incidents_were_collected(rich: World, told: Metrics) -> None:
    told.expect("config_drift_incidents", "checked", value=1.0, n=1)
    told.expect("config_drift_incidents", "burnt", value=0.0, n=0, low=0.0)
    told.expect("config_drift_incidents", "Acme", scope="organization", value=1.0)
    [row] = rows(rich, "config_drift_incidents", None, excluded="no_service")
    assert row["incident_key"] == "incident:drift-3"


# Surveys


def test_the_organisation_counts_answers_of_no_team_and_a_team_only_its_own(rich: World, told: Metrics) -> None:
    told.expect("satisfaction_score", "payments", scope="team", value=0.8, n=1)
    told.expect("satisfaction_score", "checked", value=0.8, n=1)
    told.expect("satisfaction_score", "Acme", scope="organization", value=(0.8 + 0.4 + 0.6) / 3, n=3)
    told.undefined("satisfaction_score", "no_survey", "teamless")
    told.expect("satisfaction_response_count", "teamless", value=0.0)
    told.expect("satisfaction_response_count", "Acme", scope="organization", value=3.0)
    [row] = rows(rich, "satisfaction_score", None, excluded="out_of_range")
    assert row["score"] == 9


def test_who_answered_is_not_shown(rich: World) -> None:
    assert "p1" not in rich.command("explain", "satisfaction_score", "--quarter", "2026-Q1", "--format", "json")


# Templates and runbooks


def test_a_workflow_of_the_own_repository_is_no_template_and_only_the_first_run_counts(told: Metrics) -> None:
    for name, count in (("onboarded", 1.0), ("own-workflows", 0.0), ("onboarded-before", 0.0), ("checked", 0.0)):
        told.expect("services_onboarded", name, value=count)
    told.expect("services_onboarded", "Acme", scope="organization", value=1.0)


def test_a_runbook_may_be_a_folder_and_one_that_was_not_known_then_is_left_out(rich: World, told: Metrics) -> None:
    told.ratio("runbook_freshness", 0, 1, "books")
    [row] = rows(rich, "runbook_freshness", "books", excluded="not_known_then")
    assert row["path"] == "docs/new.md"
    told.undefined("runbook_freshness", "no_history", "untold-books")
    told.undefined("runbook_freshness", "no_catalog_entry", "checked")


def test_git_tells_of_earlier_changes_and_of_runbooks_that_are_not_there(new_world: Callable[[], World]) -> None:
    world = new_world()
    clone = Repository(world.path / "clone")
    clone.hours = -4000  # in July
    clone.commit("written", {"docs/runbook.md": "1"})
    clone.hours = 24 * 60
    clone.commit("changed", {"docs/runbook.md": "2"})
    world.set(
        sources=[
            {"name": "drops", "type": "files", "path": "./feeds"},
            {"name": "clones", "type": "git", "repositories": {"acme/shop": "./clone"}},
        ]
    )
    missing = {"runbook": "docs/rollback.md", "automation": "rollback.yml"}
    world.service(tier=0, runbooks=["docs/runbook.md"], rollback=missing)
    world.not_collected("commits")
    world.add("drills", service="checkout", performed_at="2026-02-01T10:00:00Z", kind="rollback", outcome="success")
    measured = world.measure("2025-Q4")
    measured.ratio("runbook_freshness", 1, 1)
    [row] = world.explain("runbook_freshness", quarter="2025-Q4")["rows"]
    assert row["last_changed_at"].startswith("2025-07-")
    world.command("measure", "--quarter", "2026-Q1")
    world.metrics().ratio("rollback_readiness", 0, 1)
    [row] = rows(world, "rollback_readiness", "checkout")
    assert (row["runbook_state"], row["rollback_runbook"]) == ("not_found", "docs/rollback.md")


# Supply chain


def test_deployments_that_were_not_verified_yet_say_so(told: Metrics) -> None:
    told.undefined("policy_compliance_rate", "not_verified", "checked")


# What is missing


@pytest.fixture(scope="module")
def bare(new_world: Callable[[], World]) -> Metrics:
    """Only deployments and runs are collected, and runs do not say which workflows they call."""
    world = new_world()
    world.not_collected("incidents", "commits", "pull_requests")
    world.service(tier=0, runbooks=["docs/runbook.md"])
    world.deploy("d1", "c1", 10)
    world.pipeline_run("r1", "success", 5)
    world.set(practices={"drift_labels": ["drift"], "check_jobs": []})
    return world.measure()


@pytest.mark.parametrize(
    ("metric", "reason", "missing"),
    [
        ("rollback_readiness", "not_collected", "drills"),
        ("verification_coverage", "not_collected", "checks"),
        ("error_budget_impact", "not_collected", "slo_samples"),
        ("gate_false_positive_rate", "not_collected", "gate_results"),
        ("config_drift_incidents", "no_incident_source", "incidents"),
        ("satisfaction_score", "not_collected", "survey_responses"),
        ("satisfaction_response_count", "not_collected", "survey_responses"),
        ("services_onboarded", "not_collected", "referenced_workflows"),
        ("runbook_freshness", "not_collected", "file_revisions"),
        ("policy_compliance_rate", "no_policy", None),
        ("signature_coverage", "not_collected", "attestations"),
        ("provenance_coverage", "not_collected", "attestations"),
        ("sbom_coverage", "not_collected", "sboms"),
        ("change_lead_time", "not_collected", "commits"),
        ("change_fail_rate", "no_incident_source", "incidents"),
    ],
)
def test_a_missing_source_is_named(metric: str, reason: str, missing: str | None, bare: Metrics) -> None:
    bare.undefined(metric, reason, missing=missing)
    if reason == "not_collected":
        # The rows that are there, such as deployments that no attestation speaks of, count nowhere.
        row = bare.of(metric)
        assert (row.n, row.numerator or 0, row.denominator or 0) == (0, 0, 0)


def test_a_source_that_would_add_to_a_value_is_named_beside_it(bare: Metrics) -> None:
    bare.ratio("manual_interventions_per_deployment", 0, 1, missing="gate_results")
