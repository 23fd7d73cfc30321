"""Corners between the rows of the edge-case table, each with its answer worked out by hand."""

from __future__ import annotations

from typing import Any


def test_an_incident_without_service_finds_its_deployment_by_the_version_it_names(world: Any) -> None:
    world.service()
    world.seed()
    world.commit("c1", 1, "c0")
    world.deploy("d1", "c1", 10, ref="v2")
    world.incident("i1", 500, service=None, labels=["version:v2"], resolved=501)
    world.measure().ratio("change_fail_rate", 1, 1)
    assert world.failed() == {"d1": "explicit"}


def test_an_incident_without_service_blames_no_service_that_the_named_commit_does_not_touch(world: Any) -> None:
    for name in ("a", "b"):
        world.service(name, paths=[f"{name}/**"])
    world.commit("c0", -300, files=["a/x", "b/x"])
    world.commit("c1", 1, "c0", files=["a/x"])
    world.commit("c2", 2, "c1", files=["b/x"])
    for name in ("a", "b"):
        world.deploy(f"seed-{name}", "c0", -299, service=name)
        world.deploy(f"d-{name}", "c2", 10, service=name)
    world.incident("i1", 200, service=None, sha=world.sha("c1"), resolved=201)
    metrics = world.measure()
    metrics.ratio("change_fail_rate", 1, 1, name="a")
    metrics.ratio("change_fail_rate", 0, 1, name="b")


def test_a_deployment_without_any_status_is_counted_with_an_unknown_finish(world: Any) -> None:
    world.seed()
    world.commit("c1", 1, "c0")
    world.add(
        "deployments",
        deployment_id="d1",
        repository="acme/shop",
        environment="production",
        sha=world.sha("c1"),
        statuses=[],
        created_at=world.stamp(10),
    )
    metrics = world.measure()
    metrics.deployments(1)
    metrics.expect("change_lead_time", n=0, value=None)


def test_a_failed_attempt_joins_the_fail_rate_where_the_service_says_so(world: Any) -> None:
    world.service(failed_attempt_is_failure=True)
    world.seed()
    world.commit("c1", 1, "c0")
    world.deploy("d1", "c1", 10, run_id="r1", attempt=1, status="failure")
    world.deploy("d1", "c1", 12, run_id="r1", attempt=2)
    world.measure().ratio("change_fail_rate", 1, 2)


def test_a_rerun_that_starts_after_the_cut_off_changes_nothing_yet(world: Any) -> None:
    world.at(100)
    world.pipeline_run("r1", "failure", 10)
    world.pipeline_run("r1", "success", 10, attempt=2, started_at=world.stamp(150), completed_at=world.stamp(151))
    metrics = world.measure()
    metrics.ratio("pipeline_success_rate_final", 0, 1)
    metrics.ratio("pipeline_rerun_rate", 0, 1)


def test_one_failure_makes_one_run_flaky(world: Any) -> None:
    world.pipeline_run("r1", "failure", 10)
    world.pipeline_run("r1", "success", 10, attempt=2)
    world.pipeline_run("r2", "success", 12)
    world.measure().ratio("pipeline_flake_rate", 1, 2)


def test_a_failed_run_and_then_a_new_one_of_the_same_commit_is_flaky(world: Any) -> None:
    world.pipeline_run("r1", "failure", 10)
    world.pipeline_run("r2", "success", 12)
    world.pipeline_run("r3", "success", 14)
    world.measure().ratio("pipeline_flake_rate", 1, 2)


def test_a_duration_runs_from_the_first_start_to_the_last_completion(world: Any) -> None:
    world.pipeline_run("r1", "success", 10)
    world.job("r1", "j1", (10, 10, None))
    world.job("r1", "j2", (10, 12, 15))
    world.measure().expect("pipeline_duration_median", value=300, n=1)


def test_overlapping_jobs_of_one_runner_never_make_it_busier_than_its_window(world: Any) -> None:
    world.pipeline_run("r1", "success", 10)
    for number in (1, 2):
        world.job("r1", f"j{number}", (10, 10, 20), runner="pool")
    world.measure().expect("runner_utilization", value=1.0, n=1)


def test_a_digest_finds_its_service_though_the_configuration_repository_is_a_service_too(world: Any) -> None:
    world.service(artifacts=["ghcr.io/acme/shop"])
    world.service("config", repository="acme/config", deploys={"tags": "v*"})
    world.commit("c0", -300)
    world.add(
        "artifacts",
        digest=world.digest("image"),
        name="ghcr.io/acme/shop",
        repository="acme/shop",
        sha=world.sha("c0"),
    )
    world.deploy("d1", "g1", 10, repository="acme/config", digest="image")
    world.measure().deployments(1)
    assert world.kinds() == {"d1": "seed"}
