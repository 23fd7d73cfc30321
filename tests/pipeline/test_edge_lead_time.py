"""Which commits a deployment owns and how long each took: metrics.md sections 2, 6 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

LEAD = "change_lead_time"


def excluded(world: World) -> dict[str, str]:
    """Commit to the reason it was left out, as the drill-down shows it."""
    return {row["sha"]: row["excluded"] for row in world.explain(LEAD)["rows"] if row["excluded"]}


def two_commits(world: World) -> None:
    world.seed()
    world.history(("c1", 11), ("c2", 12), onto="c0")
    world.deploy("d1", "c2", 20)


def test_e02_each_commit_is_one_observation(world: World) -> None:
    two_commits(world)
    measured = world.measure()
    measured.expect(LEAD, value=8.5, n=2, unit="hours", reason=None, open=0)
    measured.expect("change_lead_time_p75", value=8.75, n=2)
    measured.expect("change_lead_time_p95", value=8.95, n=2)
    measured.expect(LEAD, "payments", scope="team", value=8.5, n=2)
    measured.expect(LEAD, "Acme", scope="organization", value=8.5, n=2)


def test_e02_from_a_shell(shell_world: World) -> None:
    two_commits(shell_world)
    shell_world.measure().expect(LEAD, value=8.5, n=2)


def test_e08_a_squash_counts_the_pull_requests_own_commits(world: World) -> None:
    world.seed()
    world.history(("a1", 1), ("a2", 2), onto="c0")
    world.commit("squash", 5, "c0")
    world.pull_request(1, created=3, merged=5, merge="squash", commits=["a1", "a2"])
    world.deploy("d1", "squash", 8)
    measured = world.measure()
    measured.expect(LEAD, value=6.5, n=2)
    measured.expect("change_lead_time_p95", value=6.95)


def test_a_squash_whose_originals_are_unknown_counts_itself(world: World) -> None:
    world.seed()
    world.commit("squash", 5, "c0")
    world.pull_request(1, created=3, merged=5, merge="squash", commits=["a1", "a2"])
    world.deploy("d1", "squash", 8)
    world.measure().expect(LEAD, value=3, n=1)


def test_commits_merged_without_a_squash_are_not_counted_twice(world: World) -> None:
    world.seed()
    world.history(("a1", 1), ("a2", 2), onto="c0")
    world.pull_request(1, created=3, merged=5, merge="a2", commits=["a1", "a2"])
    world.deploy("d1", "a2", 8)
    world.measure().expect(LEAD, value=6.5, n=2)


def test_a_rebased_merge_shares_patches_and_keeps_its_author_dates(world: World) -> None:
    world.seed()
    world.commit("a1", 1, "c0", patch_id="p1")
    world.commit("a2", 2, "a1", patch_id="p2")
    world.commit("r1", 1, "c0", patch_id="p1", committed_at=5)
    world.commit("r2", 2, "r1", patch_id="p2", committed_at=5)
    world.pull_request(1, created=3, merged=5, merge="r2", commits=["a1", "a2"])
    world.deploy("d1", "r2", 8)
    world.measure().expect(LEAD, value=6.5, n=2)
    assert {row["sha"] for row in world.facts("change_lead")} == {world.sha("r1"), world.sha("r2")}


def test_the_files_of_the_squash_decide_the_path_filter(world: World) -> None:
    world.service("shop", paths=["services/shop/**"])
    world.service("mail", paths=["services/mail/**"])
    world.commit("c0", -300)
    for service in ("shop", "mail"):
        world.deploy(f"seed-{service}", "c0", -299, service=service)
    world.commit("a1", 1, "c0", files=["services/mail/sent.py"])
    world.commit("a2", 2, "a1", files=["services/mail/sent.py", "services/shop/cart.py"])
    world.commit("squash", 5, "c0", files=["services/shop/cart.py"])
    world.pull_request(1, created=3, merged=5, merge="squash", commits=["a1", "a2"])
    for service in ("shop", "mail"):
        world.deploy(f"d-{service}", "squash", 8, service=service)
    measured = world.measure()
    measured.expect(LEAD, "shop", value=6.5, n=2)
    measured.undefined(LEAD, "no_new_commits", "mail")


@pytest.mark.parametrize("told_by", ["patch", "message"])
def test_e09_a_cherry_picked_hotfix_counts_once_from_its_original_author_date(world: World, told_by: str) -> None:
    original: dict[str, Any] = {"patch_id": "p1"} if told_by == "patch" else {}
    message = f"Fix it\n\n(cherry picked from commit {world.sha('m1')})"
    picked: dict[str, Any] = {"patch_id": "p1"} if told_by == "patch" else {"message": message}
    world.seed()
    world.commit("m1", 1, "c0", **original)
    world.commit("m2", 10, "m1")
    world.commit("picked", 4, "c0", **picked)
    world.deploy("fix", "picked", 6)
    world.deploy("main", "m2", 20)
    measured = world.measure()
    # 6 - 1 for the fix, 20 - 10 for the other commit; the fix is not seen again in main.
    measured.expect(LEAD, value=7.5, n=2)
    measured.expect("change_lead_time_p95", value=9.75)
    assert excluded(world) == {world.sha("m1"): "cherry_picked"}


def test_e09_a_change_picked_after_it_was_deployed_is_not_seen_again(world: World) -> None:
    world.seed()
    world.commit("m1", 1, "c0", patch_id="p1")
    world.commit("picked", 15, "c0", patch_id="p1")
    world.deploy("main", "m1", 6)
    world.deploy("branch", "picked", 20)
    world.measure().expect(LEAD, value=5, n=1)


def test_e10_a_commit_of_a_shared_repository_counts_for_each_service_it_touches(world: World) -> None:
    world.commit("c0", -300)
    for service in ("a", "b", "c"):
        world.service(service, paths=[f"services/{service}/**"])
        world.deploy(f"seed-{service}", "c0", -299, service=service)
    world.commit("c1", 10, "c0", files=["services/a/main.py", "services/b/main.py"])
    world.commit("c2", 11, "c1", files=["README.md"])
    for service, finished in (("a", 13), ("b", 18), ("c", 19)):
        world.deploy(f"d-{service}", "c2", finished, service=service)
    measured = world.measure()
    measured.expect(LEAD, "a", value=3, n=1)
    measured.expect(LEAD, "b", value=8, n=1)
    measured.undefined(LEAD, "no_new_commits", "c")
    measured.expect(LEAD, "Acme", scope="organization", value=5.5, n=2)
    measured.deployments(1, name="c")


def test_a_commit_without_files_is_owned_and_flagged_under_a_path_filter(world: World) -> None:
    world.service(paths=["services/checkout/**"])
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10)
    world.measure().expect(LEAD, value=5, n=1)
    assert [row["path_unknown"] for row in world.facts("change_lead", sha=world.sha("c1"))] == [True]


def test_e22_the_median_of_an_even_number_is_interpolated(world: World) -> None:
    world.seed()
    world.history(("c1", 16), ("c2", 17), ("c3", 18), ("c4", 19), onto="c0")
    world.deploy("d1", "c4", 20)
    measured = world.measure()
    measured.expect(LEAD, value=2.5, n=4)
    measured.expect("change_lead_time_p75", value=3.25, n=4)
    measured.expect("change_lead_time_p95", value=3.85, n=4)


def test_services_are_pooled_and_never_a_median_of_medians(world: World) -> None:
    for service, repository in (("a", "acme/a"), ("b", "acme/b")):
        world.service(service, repository=repository)
        world.seed(f"{service}0", repository=repository, service=service)
    world.commit("a1", 19, "a0", repository="acme/a")
    world.deploy("d-a", "a1", 20, repository="acme/a")
    world.history(("b1", 10), ("b2", 11), ("b3", 12), ("b4", 13), onto="b0", repository="acme/b")
    world.deploy("d-b", "b4", 20, repository="acme/b")
    measured = world.measure()
    measured.expect(LEAD, "a", value=1, n=1)
    measured.expect(LEAD, "b", value=8.5, n=4)
    measured.expect(LEAD, "Acme", scope="organization", value=8, n=5)


def test_e23_a_commit_dated_after_its_deployment_is_an_anomaly(world: World) -> None:
    world.seed()
    world.history(("c1", 11), ("late", 25), onto="c0")
    world.deploy("d1", "late", 20)
    world.measure().expect(LEAD, value=9, n=1)
    assert excluded(world) == {world.sha("late"): "authored_after_deploy"}


def test_a_commit_deployed_in_the_moment_it_was_authored_took_no_time(world: World) -> None:
    world.seed()
    world.commit("c1", 20, "c0")
    world.deploy("d1", "c1", 20)
    world.measure().expect(LEAD, value=0, n=1, reason=None)


def test_e28_a_merge_commit_is_excluded(world: World) -> None:
    world.seed()
    world.commit("c1", 11, "c0")
    world.commit("b1", 12, "c0")
    world.commit("merge", 13, "c1", "b1")
    world.deploy("d1", "merge", 20)
    world.measure().expect(LEAD, value=8.5, n=2)
    assert excluded(world) == {world.sha("merge"): "merge_commit"}


def test_e29_a_bots_commit_is_in_all_and_not_in_human(world: World) -> None:
    world.seed()
    world.commit("c1", 10, "c0")
    world.commit("c2", 16, "c1", author="dependabot[bot]")
    world.deploy("d1", "c2", 20)
    measured = world.measure()
    for metric, everyone in ((LEAD, 7), ("change_lead_time_p75", 8.5), ("change_lead_time_p95", 9.7)):
        measured.expect(metric, series="human", value=10, n=1)
        measured.expect(metric, series="all", value=everyone, n=2)


def test_a_bot_is_known_by_its_record_too(world: World) -> None:
    world.seed()
    world.commit("c1", 10, "c0", author="release robot", is_bot=True)
    world.deploy("d1", "c1", 20)
    measured = world.measure()
    measured.expect(LEAD, series="human", value=None, n=0)
    measured.expect(LEAD, series="all", value=10, n=1)


def test_brackets_of_a_bots_name_are_no_pattern(world: World) -> None:
    world.set(bots=["svc[ab]"])
    world.seed()
    world.commit("c1", 10, "c0", author="svc[ab]")
    world.commit("c2", 12, "c1", author="svca")
    world.deploy("d1", "c2", 20)
    measured = world.measure()
    measured.expect(LEAD, series="human", value=8, n=1)
    measured.expect(LEAD, series="all", value=9, n=2)


STAGES = ("coding_us", "pickup_us", "review_us", "merge_us", "deploy_us")


def test_e30_a_direct_push_counts_with_no_stages(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10)
    world.measure().expect(LEAD, value=5, n=1)
    [fact] = world.facts("change_lead", sha=world.sha("c1"))
    assert [fact[stage] for stage in STAGES] == [None] * 5
    assert fact["pull_request"] is None


def test_the_stages_of_a_pull_request_add_up_to_its_lead_time(world: World) -> None:
    world.seed()
    world.commit("a1", 1, "c0")
    world.commit("merge", 10, "c0", "a1")
    times = {"created": 5, "first_review_at": 7, "approved_at": 9, "merged": 10}
    world.pull_request(1, merge="merge", commits=["a1"], **times)
    world.deploy("d1", "merge", 20)
    world.measure().expect(LEAD, value=19, n=1)
    [fact] = world.facts("change_lead", sha=world.sha("a1"))
    assert [fact[stage] / 3_600_000_000 for stage in STAGES] == [4, 2, 2, 1, 10]
    assert fact["first_commit_us"] == 19 * 3_600_000_000


def test_e31_commits_of_skipped_deployments_are_owned_by_the_next_success(world: World) -> None:
    world.seed()
    world.history(*((f"c{i}", i) for i in range(1, 9)), onto="c0")
    for i in range(1, 8):
        world.deploy(f"d{i}", f"c{i}", i + 0.5, status="skipped")
    world.deploy("d8", "c8", 10)
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=5.5, n=8)
    measured.ratio("deployment_success_rate", 1, 1)
    assert {row["deployment_key"] for row in world.explain(LEAD)["rows"]} == {"d8"}


def gitops(world: World) -> None:
    world.service(artifacts=["ghcr.io/acme/checkout"])
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "manifests 1", 10, repository="acme/gitops", service="checkout", digest="image 1")


def test_e33_a_digest_leads_from_the_gitops_sha_to_the_commit(world: World) -> None:
    gitops(world)
    name = "ghcr.io/acme/checkout"
    world.add("artifacts", digest=world.digest("image 1"), name=name, repository="acme/shop", sha=world.sha("c1"))
    world.measure().expect(LEAD, value=5, n=1)
    assert world.kinds() == {"d1": "change"}
    [row] = world.explain(LEAD)["rows"]
    assert (row["deployment_key"], row["sha"]) == ("d1", world.sha("c1"))
    [fact] = world.facts("service_deployments", deployment_key="d1")
    assert fact["identity"] == "artifact_unverified"


def test_e33_without_a_known_digest_the_gitops_sha_is_unresolved(world: World) -> None:
    gitops(world)
    world.collected("artifacts")
    measured = world.measure()
    measured.deployments(1)
    measured.undefined(LEAD, "no_history")
    assert world.kinds() == {"d1": "unresolved"}


def test_e35_several_repositories_in_one_deployment(world: World) -> None:
    def revisions(shop: str, lib: str) -> list[dict[str, str]]:
        return [
            {"repository": "acme/shop", "sha": world.sha(shop)},
            {"repository": "acme/lib", "sha": world.sha(lib)},
        ]

    world.commit("l0", -300, repository="acme/lib")
    world.seed(revisions=revisions("c0", "l0"))
    world.commit("c1", 7, "c0")
    world.commit("l1", 5, "l0", repository="acme/lib")
    world.deploy("d1", "c1", 10, revisions=revisions("c1", "l1"))
    measured = world.measure()
    measured.deployments(1)
    measured.expect(LEAD, value=4, n=2)
    rows = world.explain(LEAD)["rows"]
    hours = {(row["repository"], row["hours"]) for row in rows if row["excluded"] is None}
    assert hours == {("acme/shop", 3), ("acme/lib", 5)}
