"""Counting deployments and naming their kind: metrics.md sections 1, 6 and 8."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

LEAD = "change_lead_time"


def test_e01_first_deployment_counts_but_has_no_lead_time(world: World) -> None:
    world.commit("c1", 5)
    world.deploy("d1", "c1", 10)
    measured = world.measure()
    measured.deployments(1)
    measured.undefined(LEAD, "seed_only", n=0)
    assert world.kinds() == {"d1": "seed"}


def test_e01_first_deployment_may_be_a_failure(world: World) -> None:
    world.commit("c1", 5)
    world.deploy("d1", "c1", 10)
    world.incident("i1", 12, resolved=13)
    measured = world.measure()
    measured.ratio("change_fail_rate", 1, 1)
    measured.undefined("change_fail_rate_changes_only", "no_changes")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"name": "d1", "attempt": 1}, {"name": "d1", "attempt": 2}, id="same deployment, next attempt"),
        pytest.param({"name": "d1", "run_id": "7"}, {"name": "d2", "run_id": "7"}, id="same run"),
        pytest.param({"name": "d1"}, {"name": "d2"}, id="a new deployment"),
    ],
)
def test_e03_failed_then_retried_with_the_same_sha(world: World, first: dict[str, Any], second: dict[str, Any]) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy(commit="c1", finished=10, status="failure", **first)
    world.deploy(commit="c1", finished=12, **second)
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=7, n=1)
    measured.ratio("change_fail_rate", 0, 1)
    measured.ratio("deployment_success_rate", 1, 2)


def versions(world: World, *order: str) -> None:
    """Deploy commits of the line v1, v2, v3 in this order, ten hours apart; each was authored five hours earlier."""
    world.history(("v1", 5), ("v2", 15), ("v3", 25))
    for index, version in enumerate(order, start=1):
        world.deploy(f"d{index}", version, 10 * index)


def test_e04_going_back_is_a_rollback_that_blames_the_deployment_after_its_target(world: World) -> None:
    versions(world, "v1", "v2", "v3", "v1")
    measured = world.measure()
    assert world.kinds() == {"d1": "seed", "d2": "change", "d3": "change", "d4": "rollback"}
    assert world.failed() == {"d2": "rollback"}
    measured.deployments(4)
    measured.ratio("change_fail_rate", 1, 4)
    measured.ratio("change_fail_rate_changes_only", 1, 2)
    measured.ratio("deployment_rework_rate", 1, 4)
    measured.expect(LEAD, value=5, n=2)


def test_e04_recovery_without_an_incident_ends_with_the_rollback(world: World) -> None:
    versions(world, "v1", "v2", "v3", "v1")
    world.measure().expect("failed_deployment_recovery_time", value=20, n=1, open=0)


def test_e04_a_rate_stands_with_its_wilson_interval(world: World) -> None:
    versions(world, "v1", "v2", "v3", "v1")
    p, n, z = 0.25, 4, 1.959963984540054
    middle = p + z * z / (2 * n)
    spread = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    scale = 1 + z * z / n
    world.measure().expect("change_fail_rate", low=(middle - spread) / scale, high=(middle + spread) / scale)


def test_e05_rolling_forward_again_is_a_redeploy_that_owns_nothing(world: World) -> None:
    versions(world, "v1", "v2", "v1", "v2")
    measured = world.measure()
    assert world.kinds() == {"d1": "seed", "d2": "change", "d3": "rollback", "d4": "redeploy"}
    measured.expect(LEAD, value=5, n=1)
    rows = world.explain(LEAD)["rows"]
    assert {row["deployment_key"] for row in rows if row["excluded"] is None} == {"d2"}
    measured.ratio("change_fail_rate", 1, 4)
    measured.ratio("deployment_rework_rate", 1, 4)


def test_a_second_rollback_targets_the_latest_earlier_deployment_of_its_sha(world: World) -> None:
    versions(world, "v1", "v2", "v1", "v3", "v1")
    measured = world.measure()
    assert world.failed() == {"d2": "rollback", "d4": "rollback"}
    measured.ratio("change_fail_rate", 2, 5)
    measured.ratio("deployment_rework_rate", 2, 5)


def test_a_second_rollback_blames_the_first_change_and_no_redeploy(world: World) -> None:
    # d5 goes back to d3; d4 brought nothing new, d2 was blamed by d3 already.
    versions(world, "v1", "v2", "v1", "v2", "v1")
    measured = world.measure()
    assert world.kinds()["d5"] == "rollback"
    assert world.failed() == {"d2": "rollback"}
    measured.ratio("deployment_rework_rate", 2, 5)


def test_e06_an_older_sha_that_finishes_later_is_a_downgrade(world: World) -> None:
    world.seed()
    world.history(("c1", 5), ("c2", 6), onto="c0")
    world.deploy("newer", "c2", 20)
    world.deploy("older", "c1", 21, started=18)
    measured = world.measure()
    assert world.kinds() == {"newer": "change", "older": "downgrade"}
    measured.ratio("change_fail_rate", 0, 2)
    measured.ratio("deployment_rework_rate", 0, 2)
    measured.expect(LEAD, value=14.5, n=2)
    [older] = world.facts("service_deployments", deployment_key="older")
    assert older["warning"]
    assert older["new_commits"] == 0


def test_e07_the_same_sha_again_is_a_noop(world: World) -> None:
    versions(world, "v1", "v2", "v2")
    measured = world.measure()
    assert world.kinds() == {"d1": "seed", "d2": "change", "d3": "noop"}
    measured.deployments(3)
    measured.expect(LEAD, value=5, n=1)


def test_e07_a_noop_after_a_rollback_is_no_second_rollback(world: World) -> None:
    versions(world, "v1", "v2", "v1", "v1")
    measured = world.measure()
    assert world.kinds() == {"d1": "seed", "d2": "change", "d3": "rollback", "d4": "noop"}
    measured.ratio("change_fail_rate", 1, 4)
    measured.ratio("deployment_rework_rate", 1, 4)


def test_e11_regions_of_one_run_are_one_deployment_with_lead_to_the_first(world: World) -> None:
    world.seed()
    world.commit("c1", 4, "c0")
    for region, finished in (("us", 12), ("eu", 10), ("ap", 14)):
        world.deploy(f"d-{region}", "c1", finished, run_id="77", region=region)
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=6, n=1)
    measured.ratio("deployment_success_rate", 3, 3)


def test_e11_environments_of_one_class_are_one_deployment(world: World) -> None:
    world.service(deploys={"environments": ["production-eu", "production-us"]})
    world.seed(environment="production-eu")
    world.commit("c1", 4, "c0")
    world.deploy("d-eu", "c1", 10, run_id="77", environment="production-eu")
    world.deploy("d-us", "c1", 12, run_id="77", environment="production-us")
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=6, n=1)


def test_e11_lead_may_be_set_to_run_to_the_last_region(world: World) -> None:
    world.service(deploys={"environments": ["production"], "lead_to": "last_region"})
    world.seed()
    world.commit("c1", 4, "c0")
    for region, finished in (("us", 12), ("eu", 10), ("ap", 14)):
        world.deploy(f"d-{region}", "c1", finished, run_id="77", region=region)
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=10, n=1)


def test_a_run_that_failed_in_one_region_has_succeeded(world: World) -> None:
    world.seed()
    world.commit("c1", 4, "c0")
    world.deploy("d-eu", "c1", 10, run_id="77", region="eu", status="failure")
    world.deploy("d-us", "c1", 12, run_id="77", region="us")
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=8, n=1)
    measured.ratio("deployment_success_rate", 1, 2)


def test_e37_an_unreachable_sha_is_unresolved(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10)
    world.deploy("d2", "forced away", 20)
    measured = world.measure()
    measured.deployments(2)
    measured.expect(LEAD, value=5, n=1)
    assert world.kinds() == {"d1": "change", "d2": "unresolved"}


def test_e37_with_nothing_resolved_lead_time_has_no_history(world: World) -> None:
    world.seed()
    world.deploy("d1", "forced away", 20)
    measured = world.measure()
    measured.deployments(1)
    measured.undefined(LEAD, "no_history")


def test_the_seed_is_the_first_resolved_deployment(world: World) -> None:
    world.history(("c1", 5), ("c2", 25))
    world.deploy("d1", "forced away", 10)
    world.deploy("d2", "c1", 20)
    world.deploy("d3", "c2", 30)
    measured = world.measure()
    assert world.kinds() == {"d1": "unresolved", "d2": "seed", "d3": "change"}
    measured.expect(LEAD, value=5, n=1)


def test_no_new_commits_is_told_from_a_seed(world: World) -> None:
    world.seed()
    world.deploy("d1", "c0", 10)
    world.measure().undefined(LEAD, "no_new_commits")


def test_the_same_digest_with_another_sha_is_a_noop_that_owns_nothing(world: World) -> None:
    world.seed()
    world.history(("c1", 5), ("c2", 15), onto="c0")
    world.deploy("d1", "c1", 10, digest="image 1")
    world.deploy("d2", "c2", 20, digest="image 1")
    world.deploy("d3", "c2", 30, digest="image 2")
    measured = world.measure()
    assert world.kinds() == {"d1": "change", "d2": "noop", "d3": "change"}
    measured.deployments(3)
    owners = {row["sha"]: row["deployment_key"] for row in world.facts("change_lead")}
    assert owners == {world.sha("c1"): "d1", world.sha("c2"): "d3"}


def test_outcome_and_time_come_from_the_first_success_of_the_statuses(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    statuses = [("inactive", 90), ("success", 12), ("failure", 8), ("in_progress", 7), ("success", 10)]
    world.deploy("d1", "c1", None, created=6, statuses=statuses)
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=5, n=1)
    measured.ratio("deployment_success_rate", 1, 1)


@pytest.mark.parametrize("state", ["failure", "error"])
def test_without_a_success_the_first_failure_or_error_is_the_outcome(world: World, state: str) -> None:
    world.seed()
    world.deploy("d1", "c0", None, created=6, statuses=[("pending", 6), (state, 8), ("inactive", 9)])
    measured = world.measure()
    measured.deployments(0)
    measured.ratio("deployment_success_rate", 0, 1)


def test_a_status_that_only_turned_inactive_is_no_success(world: World) -> None:
    world.seed()
    world.deploy("d1", "c0", None, created=6, statuses=[("pending", 6), ("inactive", 9)])
    measured = world.measure()
    measured.deployments(0)
    measured.undefined("deployment_success_rate", "no_deployments")


def test_an_unknown_finish_counts_by_its_creation_and_has_no_lead_time(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", None, created=10)
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=None, n=0)
    [fact] = world.facts("service_deployments", deployment_key="d1")
    assert fact["finish_unknown"]


def test_an_unknown_finish_belongs_to_the_period_of_its_creation(world: World) -> None:
    world.seed()
    world.set(now="2026-07-05T00:00:00Z")
    world.deploy("d1", "c0", None, created="2026-03-31T23:59:00Z")
    world.measure("2026-Q1").deployments(1)
    world.measure("2026-Q2").deployments(0, 91)


def test_only_declared_environments_are_production(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d0", "c1", 8, environment="staging")
    world.deploy("d1", "c1", 10)
    world.deploy("d2", "c1", 11, environment="Production-like")
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=5, n=1)
    unmapped = {row["name"] for row in world.facts("unmapped", kind="environment")}
    assert any("staging" in name for name in unmapped)
    assert any("Production-like" in name for name in unmapped)
    told = json.loads(world.command("coverage", "--format", "json"))["unmapped"]
    assert {row["name"] for row in told if row["kind"] == "environment"} == unmapped
    assert "Production-like" in world.command("coverage")


def test_a_status_that_nobody_knows_is_kept_as_unknown_and_shown(world: World) -> None:
    world.seed()
    world.deploy("d1", "c0", 10)
    world.deploy("d2", "c0", 11, status="sucess")
    world.measure().deployments(1)
    [shown] = json.loads(world.command("coverage", "--format", "json"))["quarantine"]
    assert (shown["origin"], shown["line"], shown["reason"]) == ("deployments.jsonl", 3, "unknown_enum")
    assert (shown["json_path"], shown["kept"]) == ("$.status", True)
    assert [row["excluded"] for row in world.explain("deployment_frequency")["rows"]] == [None, "unknown"]


def test_a_late_deployment_takes_its_commits_from_the_one_after_it(world: World) -> None:
    world.seed()
    world.history(("c1", 5), ("c2", 15), onto="c0")
    world.deploy("d2", "c2", 20)
    world.measure().expect(LEAD, value=10, n=2)
    world.deploy("d1", "c1", 10)
    world.measure().expect(LEAD, value=5, n=2)
