"""Run attempts, jobs and deployments that are known by a job: metrics.md sections 1, 3, 6 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

SUCCESS = "pipeline_success_rate"
FINAL = "pipeline_success_rate_final"


def runs(world: World, **outcomes: int) -> None:
    """So many runs of each conclusion, each of another commit."""
    number = 0
    for conclusion, count in outcomes.items():
        for _ in range(count):
            number += 1
            ended = None if conclusion == "running" else conclusion
            world.pipeline_run(f"r{number}", ended, number, commit=f"commit {number}")


def test_e24_cancelled_skipped_and_running_are_in_no_rate(world: World) -> None:
    runs(world, success=6, failure=2, cancelled=3, skipped=4, timed_out=1, running=1)
    measured = world.measure()
    measured.ratio(SUCCESS, 6, 9)
    measured.ratio(FINAL, 6, 9)


def test_a_startup_failure_is_a_failure_and_other_conclusions_are_in_no_rate(world: World) -> None:
    runs(world, success=3, startup_failure=1, neutral=1, stale=1, action_required=1)
    world.measure().ratio(SUCCESS, 3, 4)


def test_only_excluded_runs_leave_the_rate_undefined(world: World) -> None:
    runs(world, cancelled=2, skipped=1)
    row = world.measure().of(SUCCESS)
    assert row.value is None
    assert row.reason


def test_e25_a_run_that_passed_at_its_second_attempt(world: World) -> None:
    world.pipeline_run("r1", "failure", 10, attempt=1)
    world.pipeline_run("r1", "success", 10, attempt=2)
    measured = world.measure()
    measured.ratio(SUCCESS, 0, 1)
    measured.ratio(FINAL, 1, 1)
    measured.ratio("pipeline_flake_rate", 1, 1)
    measured.ratio("pipeline_rerun_rate", 1, 1)


def test_flakes_are_counted_among_runs_that_succeeded_and_reruns_among_all(world: World) -> None:
    runs(world, success=2)
    world.pipeline_run("flaky", "failure", 10, attempt=1, commit="f")
    world.pipeline_run("flaky", "success", 10, attempt=2, commit="f")
    world.pipeline_run("broken", "failure", 11, attempt=1, commit="b")
    world.pipeline_run("broken", "failure", 11, attempt=2, commit="b")
    measured = world.measure()
    measured.ratio("pipeline_flake_rate", 1, 3)
    measured.ratio("pipeline_rerun_rate", 2, 4)
    measured.ratio(SUCCESS, 2, 4)
    measured.ratio(FINAL, 3, 4)


def test_e26_the_queue_of_a_second_attempt_comes_from_its_jobs(world: World) -> None:
    world.pipeline_run("r1", "failure", 0, attempt=1, started_at=world.stamp(0))
    world.pipeline_run("r1", "success", 0, attempt=2, started_at=world.stamp(168))
    world.job("r1", "j1", (0, 0.1, 1), attempt=1, conclusion="failure")
    world.job("r1", "j2", (168, 168.05, 169), attempt=2)
    measured = world.measure()
    measured.expect("queue_time_median", value=4.5, n=2, unit="minutes")
    measured.expect("queue_time_p95", value=5.85, n=2)


def test_a_job_carried_over_from_an_earlier_attempt_is_in_no_duration(world: World) -> None:
    world.pipeline_run("r1", "failure", 0, attempt=1)
    world.pipeline_run("r1", "success", 0, attempt=2)
    world.job("r1", "passed", (0, 0.1, 0.6), attempt=1)
    world.job("r1", "failed", (0, 0.1, 1.1), attempt=1, conclusion="failure", name="test")
    world.job("r1", "passed again", (10, 0.1, 0.6), attempt=2)
    world.job("r1", "fixed", (10, 10.1, 10.6), attempt=2, name="test")
    measured = world.measure()
    measured.expect("queue_time_median", value=6, n=3)
    measured.expect("pipeline_duration_median", value=45, n=2, unit="minutes")  # 60 and 30


def test_a_job_without_its_creation_has_no_queue(world: World) -> None:
    world.pipeline_run("r1", "success", 0)
    world.job("r1", "j1", (None, 0.5, 1))
    world.job("r1", "j2", (0, 0.2, 1))
    world.measure().expect("queue_time_median", value=12, n=1)


def test_the_duration_of_an_attempt_spans_its_jobs(world: World) -> None:
    late = world.stamp(99)
    for number, conclusion in enumerate(("success", "failure", "cancelled"), start=1):
        world.pipeline_run(f"r{number}", conclusion, 0, completed_at=late, updated_at=late, commit=f"c{number}")
    world.job("r1", "a", (0, 1, 1.5))
    world.job("r1", "b", (0, 1.25, 2))
    world.job("r2", "c", (0, 1, 1.5), conclusion="failure")
    world.job("r3", "d", (0, 1, 9), conclusion="cancelled")
    measured = world.measure()
    measured.expect("pipeline_duration_median", value=45, n=2)
    measured.expect("pipeline_duration_p95", value=58.5, n=2)


def test_a_run_belongs_to_the_period_of_its_creation(world: World) -> None:
    world.set(now="2026-07-05T00:00:00Z")
    world.pipeline_run("r1", "success", "2026-03-31T23:50:00Z", completed_at="2026-04-01T00:10:00Z")
    world.measure("2026-Q1").ratio(SUCCESS, 1, 1)
    world.measure("2026-Q2").undefined(SUCCESS, "no_runs")


def test_runs_of_a_shared_repository_count_for_each_service_and_once_for_the_organization(world: World) -> None:
    world.service("checkout")
    world.service("billing")
    world.service("search", repository="acme/search")
    runs(world, success=3, failure=1)
    world.pipeline_run("other", "success", 1, repository="acme/search")
    measured = world.measure()
    measured.ratio(SUCCESS, 3, 4, "checkout")
    measured.ratio(SUCCESS, 3, 4, "billing")
    measured.ratio(SUCCESS, 1, 1, "search")
    measured.expect(SUCCESS, "Acme", scope="organization", value=4 / 5, numerator=4, denominator=5)
    measured.expect(SUCCESS, "payments", scope="team", value=4 / 5, numerator=4, denominator=5)


def by_job(world: World) -> None:
    """A service whose deployments are the job deploy-prod of deploy.yml; the first was in the quarter before."""
    world.service(deploys={"workflow": "deploy.yml", "job": "deploy-prod"})
    world.not_collected("deployments")
    world.commit("c0", -300)
    world.commit("c1", 10, "c0")
    world.pipeline_run("r0", "success", -299, workflow="deploy.yml", commit="c0")
    world.job("r0", "j0", (-299, -299, -298), name="deploy-prod")


def test_e34_the_deploy_job_is_found_among_many_of_parent_and_child(world: World) -> None:
    by_job(world)
    world.pipeline_run("parent", "success", 11, commit="c1")
    world.pipeline_run("child", "failure", 11, workflow="deploy.yml", commit="c1", completed_at=world.stamp(30))
    for number in range(60):
        world.job("parent", f"p{number}", (11, 12, 13), name=f"unit {number}")
    for number in range(119):
        conclusion = "failure" if number == 118 else "success"
        world.job("child", f"j{number}", (11, 12, 13), name=f"check {number}", conclusion=conclusion)
    world.job("child", "j119", (19, 19.5, 20), name="deploy-prod")
    measured = world.measure()
    measured.deployments(1)
    measured.expect("change_lead_time", value=10, n=1)
    measured.ratio("deployment_success_rate", 1, 1)


@pytest.mark.parametrize(
    ("run", "job", "deployments", "attempts"),
    [
        pytest.param("success", "skipped", 0, None, id="green run, skipped deploy"),
        pytest.param("failure", "success", 1, (1, 1), id="red run, successful deploy"),
        pytest.param("failure", "failure", 0, (0, 1), id="red run, failed deploy"),
    ],
)
def test_the_outcome_is_taken_at_the_deploy_job(
    world: World, run: str, job: str, deployments: int, attempts: tuple[int, int] | None
) -> None:
    by_job(world)
    world.pipeline_run("r1", run, 11, workflow="deploy.yml", commit="c1")
    world.job("r1", "j1", (11, 12, 20), name="deploy-prod", conclusion=job)
    measured = world.measure()
    measured.deployments(deployments)
    if attempts:
        measured.ratio("deployment_success_rate", *attempts)
    else:
        measured.undefined("deployment_success_rate", "no_deployments")


def test_a_run_without_the_deploy_job_is_no_deployment(world: World) -> None:
    by_job(world)
    world.pipeline_run("r1", "success", 11, workflow="deploy.yml", commit="c1")
    world.job("r1", "j1", (11, 12, 20), name="build")
    world.pipeline_run("r2", "success", 11, workflow="ci.yml", commit="c1")
    world.job("r2", "j2", (11, 12, 20), name="deploy-prod")
    world.measure().deployments(0)


def test_attempts_of_one_deploy_run_are_one_deployment(world: World) -> None:
    by_job(world)
    world.pipeline_run("r1", "failure", 11, workflow="deploy.yml", commit="c1", attempt=1)
    world.job("r1", "j1", (11, 12, 13), name="deploy-prod", attempt=1, conclusion="failure")
    world.pipeline_run("r1", "success", 11, workflow="deploy.yml", commit="c1", attempt=2)
    world.job("r1", "j2", (15, 16, 20), name="deploy-prod", attempt=2)
    measured = world.measure()
    measured.deployments(1)
    measured.expect("change_lead_time", value=10, n=1)
    measured.ratio("deployment_success_rate", 1, 2)


def test_a_deploy_job_carried_over_keeps_the_time_of_its_first_success(world: World) -> None:
    by_job(world)
    world.pipeline_run("r1", "failure", 11, workflow="deploy.yml", commit="c1", attempt=1)
    world.job("r1", "j1", (11, 12, 20), name="deploy-prod", attempt=1)
    world.pipeline_run("r1", "success", 11, workflow="deploy.yml", commit="c1", attempt=2)
    world.job("r1", "j2", (40, 12, 20), name="deploy-prod", attempt=2)
    measured = world.measure()
    measured.deployments(1)
    measured.expect("change_lead_time", value=10, n=1)
