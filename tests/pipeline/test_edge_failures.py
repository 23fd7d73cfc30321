"""Which deployments failed and on what evidence: metrics.md sections 2, 6 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

FAIL = "change_fail_rate"
REWORK = "deployment_rework_rate"
RESTORE = "incident_time_to_restore"


def one_deployment(world: World, **fields: Any) -> None:
    """A change that finished at t = 10."""
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10, **fields)


def two_deployments(world: World) -> None:
    """Changes that finished at t = 10 and t = 20."""
    one_deployment(world)
    world.commit("c2", 15, "c1")
    world.deploy("d2", "c2", 20)


def test_e12_an_incident_blames_its_own_service_only(world: World) -> None:
    for service in ("checkout", "billing"):
        repository = f"acme/{service}"
        world.service(service, repository=repository)
        world.seed(f"{service} 0", repository=repository, service=service)
        world.commit(f"{service} 1", 5, f"{service} 0", repository=repository)
    world.deploy("d-billing", "billing 1", 8, repository="acme/billing")
    world.deploy("d-checkout", "checkout 1", 10, repository="acme/checkout")
    world.incident("i1", 11, service="billing", resolved=12)
    measured = world.measure()
    assert world.failed("billing") == {"d-billing": "time"}
    assert world.failed("checkout") == {}
    measured.ratio(FAIL, 1, 1, "billing")
    measured.ratio(FAIL, 0, 1, "checkout")
    measured.expect(FAIL, "Acme", scope="organization", value=0.5, numerator=1, denominator=2)


@pytest.mark.parametrize(
    ("impact", "rules", "linked"),
    [
        pytest.param(10 + 24, {}, True, id="exactly 24 h"),
        pytest.param(10 + 24 + 1 / 3600, {}, False, id="a second more"),
        pytest.param(10 + 25, {}, False, id="25 h"),
        pytest.param(10 + 25, {"service": 48}, True, id="25 h, the service says 48"),
        pytest.param(10 + 25, {"settings": 48}, True, id="25 h, the settings say 48"),
        pytest.param(10 + 25, {"settings": 48, "service": 24}, False, id="the service's own window wins"),
    ],
)
def test_e13_an_incident_outside_the_window_is_unlinked(
    world: World, impact: float, rules: dict[str, int], linked: bool
) -> None:
    if "service" in rules:
        world.service(link_window_hours=rules["service"])
    if "settings" in rules:
        world.set(incidents={"link_window_hours": rules["settings"]})
    one_deployment(world)
    world.incident("i1", impact, resolved=60)
    measured = world.measure()
    measured.ratio(FAIL, int(linked), 1)
    measured.expect(RESTORE, value=60 - impact, n=1)
    assert world.failed() == ({"d1": "time"} if linked else {})
    [incident] = world.facts("service_incidents")
    assert incident["linked"] is linked
    assert bool(incident["unlinked_reason"]) is not linked


def test_e14_an_incident_during_the_rollout_blames_the_deployment_in_flight(world: World) -> None:
    one_deployment(world)
    world.commit("c2", 15, "c1")
    world.deploy("d2", "c2", 22, started=20)
    world.incident("i1", 21, mitigated=23)
    measured = world.measure()
    assert world.failed() == {"d2": "time"}
    measured.ratio(FAIL, 1, 2)
    measured.expect("failed_deployment_recovery_time", value=1, n=1)


def test_an_incident_before_a_rollout_starts_blames_the_deployment_before(world: World) -> None:
    one_deployment(world)
    world.commit("c2", 15, "c1")
    world.deploy("d2", "c2", 22, started=20)
    world.incident("i1", 19.5, mitigated=23)
    world.measure()
    assert world.failed() == {"d1": "time"}


def test_the_impact_of_an_incident_defaults_to_its_opening(world: World) -> None:
    one_deployment(world)
    world.incident("i1", 11, resolved=14)
    del world.records["incidents"][0]["impact_started_at"]
    measured = world.measure()
    measured.ratio(FAIL, 1, 1)
    measured.expect(RESTORE, value=3, n=1)


@pytest.mark.parametrize("link", ["deployment_id", "sha", "pull_request"])
def test_an_explicit_link_wins_over_time(world: World, link: str) -> None:
    two_deployments(world)
    world.pull_request(7, created=6, merged=8, merge="c1", commits=["c1"])
    named = {"deployment_id": "d1", "sha": world.sha("c1"), "pull_request": 7}[link]
    world.incident("i1", 21, resolved=22, **{link: named})
    measured = world.measure()
    assert world.failed() == {"d1": "explicit"}
    measured.ratio(FAIL, 1, 2)


def test_an_explicit_link_that_names_nothing_known_stays_unlinked(world: World) -> None:
    one_deployment(world)
    world.incident("i1", 11, resolved=12, deployment_id="nobody knows it")
    measured = world.measure()
    measured.ratio(FAIL, 0, 1)
    measured.expect(RESTORE, value=1, n=1)
    [incident] = world.facts("service_incidents")
    assert not incident["linked"]
    assert incident["unlinked_reason"]


def test_an_explicit_link_knows_no_window(world: World) -> None:
    one_deployment(world)
    world.incident("i1", 500, resolved=501, deployment_id="d1")
    world.measure().ratio(FAIL, 1, 1)


def test_a_deployment_failed_by_several_evidences_counts_once(world: World) -> None:
    world.history(("v1", 5), ("v2", 15))
    for index, version in enumerate(("v1", "v2", "v1"), start=1):
        world.deploy(f"d{index}", version, 10 * index)
    world.incident("i1", 21, resolved=31)
    world.incident("i2", 22, resolved=32, deployment_id="d2")
    measured = world.measure()
    assert set(world.failed()) == {"d2"}
    measured.ratio(FAIL, 1, 3)


def test_a_hotfix_blames_the_successful_deployment_before_it(world: World) -> None:
    two_deployments(world)
    world.commit("c3", 25, "c2")
    world.deploy("d3", "c3", 30, labels=["hotfix"])
    measured = world.measure()
    assert world.failed() == {"d2": "hotfix"}
    measured.ratio(FAIL, 1, 3)
    measured.ratio(REWORK, 1, 3)
    measured.expect("failed_deployment_recovery_time", value=10, n=1)


@pytest.mark.parametrize(
    ("pull_request", "deployment", "rules"),
    [
        pytest.param({"labels": ["bug", "hotfix"]}, {}, None, id="label of the pull request"),
        pytest.param({"head_ref": "hotfix/cart"}, {}, None, id="branch of the pull request"),
        pytest.param({"title": "hotfix: the cart"}, {}, None, id="title of the pull request"),
        pytest.param({}, {"labels": ["hotfix"]}, None, id="label of the deployment"),
        pytest.param({}, {"ref": "hotfix/cart"}, None, id="branch of the deployment"),
        pytest.param({"labels": ["urgent[1]"]}, {}, {"labels": ["urgent[1]"]}, id="a label with brackets"),
    ],
)
def test_a_hotfix_is_known_by_rule(
    world: World, pull_request: dict[str, Any], deployment: dict[str, Any], rules: dict[str, Any] | None
) -> None:
    if rules:
        world.set(rework=rules)
    one_deployment(world)
    world.commit("c2", 15, "c1")
    world.pull_request(2, created=16, merged=17, merge="c2", commits=["c2"], **pull_request)
    world.deploy("d2", "c2", 20, **deployment)
    measured = world.measure()
    measured.ratio(REWORK, 1, 2)
    assert world.failed() == {"d1": "hotfix"}


def test_brackets_of_a_label_are_no_pattern(world: World) -> None:
    world.set(rework={"labels": ["urgent[1]"]})
    one_deployment(world)
    world.commit("c2", 15, "c1")
    world.deploy("d2", "c2", 20, labels=["urgent1"])
    world.measure().ratio(REWORK, 0, 2)


def test_a_rule_that_was_changed_replaces_the_default(world: World) -> None:
    world.set(rework={"labels": ["urgent"], "branches": [], "titles": []})
    one_deployment(world)
    world.commit("c2", 15, "c1")
    world.deploy("d2", "c2", 20, labels=["hotfix"], ref="hotfix/cart")
    world.measure().ratio(REWORK, 0, 2)


def test_a_deployment_that_fixes_an_incident_is_rework(world: World) -> None:
    two_deployments(world)
    world.incident("i1", 11, mitigated=20, deployment_id="d1", fixed_by_deployment_id="d2")
    measured = world.measure()
    measured.ratio(REWORK, 1, 2)
    measured.ratio(FAIL, 1, 2)
    measured.expect("failed_deployment_recovery_time", value=10, n=1)


def test_e27_one_rollback_and_two_hotfixes_of_ten(world: World) -> None:
    world.seed()
    world.history(*((f"v{i}", 10 * i - 5) for i in range(1, 10)), onto="c0")
    for i in range(1, 10):
        world.deploy(f"d{i}", f"v{i}", 10 * i, labels=["hotfix"] if i in (6, 8) else None)
    world.deploy("d10", "v8", 100)
    measured = world.measure()
    measured.deployments(10)
    measured.ratio(REWORK, 3, 10)
    assert world.failed() == {"d5": "hotfix", "d7": "hotfix", "d9": "rollback"}


def revert_of(world: World, name: str) -> str:
    return f'Revert "Work on {name}"\n\nThis reverts commit {world.sha(name)}.'


def test_e36_a_change_and_its_revert_in_one_deployment_are_no_failure(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.commit("r1", 6, "c1", message=revert_of(world, "c1"))
    world.deploy("d1", "r1", 10)
    measured = world.measure()
    measured.ratio(FAIL, 0, 1)
    measured.ratio(REWORK, 0, 1)
    assert world.failed() == {}
    assert world.kinds() == {"d1": "change"}


def test_a_revert_of_a_deployed_change_blames_its_deployment(world: World) -> None:
    two_deployments(world)
    world.commit("r1", 25, "c2", message=revert_of(world, "c1"))
    world.deploy("d3", "r1", 30)
    measured = world.measure()
    assert world.failed() == {"d1": "revert"}
    measured.ratio(FAIL, 1, 3)
    measured.ratio(REWORK, 1, 3)
    measured.expect("failed_deployment_recovery_time", value=20, n=1)


@pytest.mark.parametrize("counts", [True, False])
def test_a_failed_attempt_that_never_reached_production(world: World, counts: bool) -> None:
    world.service(failed_attempt_is_failure=counts)
    one_deployment(world)
    world.commit("c2", 15, "c1")
    world.deploy("d2", "c2", 20, status="failure")
    measured = world.measure()
    measured.deployments(1)
    measured.ratio("deployment_success_rate", 1, 2)
    measured.ratio(FAIL, *((1, 2) if counts else (0, 1)))


def test_cancelled_and_skipped_attempts_are_in_no_rate(world: World) -> None:
    one_deployment(world)
    for status in ("cancelled", "skipped", "in_progress", "unknown"):
        world.deploy(f"d-{status}", "c1", 12, status=status)
    measured = world.measure()
    measured.deployments(1)
    measured.ratio("deployment_success_rate", 1, 1)
    measured.ratio(FAIL, 0, 1)


def test_e18_without_an_incident_source_the_fail_rate_is_undefined(world: World) -> None:
    world.not_collected("incidents")
    one_deployment(world)
    measured = world.measure()
    for metric in (FAIL, "change_fail_rate_changes_only", "failed_deployment_recovery_time"):
        measured.undefined(metric, "no_incident_source")
    measured.deployments(1)


def test_e18_rollbacks_may_be_set_as_evidence_enough(world: World) -> None:
    world.not_collected("incidents")
    world.set(incidents={"rollback_is_evidence": True})
    world.history(("v1", 5), ("v2", 15))
    for index, version in enumerate(("v1", "v2", "v1"), start=1):
        world.deploy(f"d{index}", version, 10 * index)
    world.measure().ratio(FAIL, 1, 3)


def test_an_empty_incident_source_means_no_incident(world: World) -> None:
    one_deployment(world)
    measured = world.measure()
    measured.ratio(FAIL, 0, 1)
    measured.undefined("failed_deployment_recovery_time", "no_failed_deployments", n=0, open=0)
    measured.undefined(RESTORE, "no_incidents")


def test_e32_an_incident_linked_to_no_deployment_counts_in_time_to_restore_only(world: World) -> None:
    one_deployment(world)
    world.incident("i1", 100, resolved=103)
    measured = world.measure()
    measured.ratio(FAIL, 0, 1)
    measured.undefined("failed_deployment_recovery_time", "no_failed_deployments")
    measured.expect(RESTORE, value=3, n=1)
    [incident] = world.facts("service_incidents")
    assert not incident["linked"]


def test_e38_the_pagers_incident_and_the_tickets_are_one(world: World) -> None:
    one_deployment(world)
    world.incident("pager", 11, resolved=13, dedupe_key="INC-7")
    world.incident("ticket", 12, resolved=15, dedupe_key="INC-7")
    measured = world.measure()
    measured.ratio(FAIL, 1, 1)
    measured.expect(RESTORE, value=4, n=1)
    measured.expect("failed_deployment_recovery_time", value=5, n=1)
    assert len(world.explain(RESTORE)["rows"]) == 1
    [incident] = world.facts("service_incidents")
    assert incident["linked"]


def test_merged_incidents_are_open_only_if_none_has_ended(world: World) -> None:
    one_deployment(world)
    world.incident("pager", 11, resolved=13, dedupe_key="INC-7")
    world.incident("ticket", 12, dedupe_key="INC-7")
    world.measure().expect("failed_deployment_recovery_time", value=3, n=1, open=0)


def test_merged_incidents_keep_all_links(world: World) -> None:
    two_deployments(world)
    world.incident("pager", 21, resolved=23, dedupe_key="INC-7")
    world.incident("ticket", 22, resolved=23, dedupe_key="INC-7", deployment_id="d1")
    world.measure()
    assert world.failed() == {"d1": "explicit"}
