from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from itertools import pairwise

from analytics.sample.timeline import NOW
from analytics.sources.entities import ENTITIES, Record
from tests.unit.sample.sample_world import World, success_at


def test_only_the_planted_lines_are_refused(world: World) -> None:
    assert sorted(world.refused) == sorted(line.rsplit(":", 1)[0] for line in world.planted["bad_records"])
    assert len(world.refused) == 5


def test_every_parent_is_known(world: World) -> None:
    unknown = [commit.sha for commit in world.commits.values() for p in commit.parents if p not in world.commits]
    assert unknown == []


def test_every_repository_has_one_beginning(world: World) -> None:
    roots = [commit.repository for commit in world.commits.values() if not commit.parents]
    assert sorted(roots) == sorted({commit.repository for commit in world.commits.values()})


def test_no_commit_is_older_than_its_parents(world: World) -> None:
    wrong = [
        commit.sha
        for commit in world.commits.values()
        for parent in commit.parents
        if world.commits[parent].committed_at > commit.committed_at
    ]
    assert wrong == []


def test_nothing_has_happened_after_now(world: World) -> None:
    late = [
        (name, field, getattr(record, field))
        for name, entity in ENTITIES.items()
        for record in world.records(name)
        for field in entity.columns
        if isinstance(at := getattr(record, field), datetime) and at > NOW
    ]
    assert late == []


def test_a_pull_request_names_known_commits_and_goes_through_its_stages_in_order(world: World) -> None:
    for request in world.records("pull_requests"):
        assert request.commits
        assert all(sha in world.commits for sha in request.commits)
        first = world.commits[request.commits[0]].authored_at
        stages = [first, request.created_at, request.first_review_at, request.approved_at, request.merged_at]
        known = [at for at in stages if at is not None]
        assert known == sorted(known), request
        assert (request.merge_commit_sha is not None) == (request.merged_at is not None)
        if request.merge_commit_sha:
            assert world.commits[request.merge_commit_sha].committed_at >= request.merged_at


def test_a_deployed_commit_was_committed_before_its_rollout_began(world: World) -> None:
    for key, rows in world.attempts.items():
        sha = world.deployed_sha(key)
        if sha in world.commits:
            assert all(world.commits[sha].committed_at <= row.created_at for row in rows), key


def test_tags_and_releases_follow_their_commit(world: World) -> None:
    assert world.records("tags")
    assert world.records("releases")
    assert all(world.commits[tag.sha].committed_at <= tag.tagged_at for tag in world.records("tags"))
    assert all(world.commits[one.sha].committed_at <= one.published_at for one in world.records("releases"))


def test_a_rollout_is_created_then_started_then_finished(world: World) -> None:
    for row in world.records("deployments"):
        times = [row.created_at, row.started_at, row.finished_at or success_at(row)]
        known = [at for at in times if at is not None]
        assert known == sorted(known)


def test_what_names_a_deployment_names_a_known_one(world: World) -> None:
    known = {row.deployment_id for row in world.records("deployments")}
    assert {check.deployment_id for check in world.records("checks")} <= known
    assert {approval.deployment_id for approval in world.records("approvals")} <= known
    named = {
        name
        for incident in world.records("incidents")
        for name in (incident.deployment_id, incident.fixed_by_deployment_id)
        if name is not None
    }
    assert named - known == {"deploy-of-yesterday"}


def test_runs_are_of_known_commits_and_jobs_of_known_runs(world: World) -> None:
    runs = {(run.repository, run.run_id, run.attempt): run for run in world.records("pipeline_runs")}
    lost = {run.head_sha for run in runs.values()} - set(world.commits)
    # Two deployments, and nothing else, are of a commit that a force push removed.
    assert len(lost) == 2
    assert all((job.repository, job.run_id, job.attempt) in runs for job in world.records("pipeline_jobs"))


def test_a_first_attempt_exists_for_every_later_one(world: World) -> None:
    attempts = defaultdict(set)
    for run in world.records("pipeline_runs"):
        attempts[run.repository, run.run_id].add(run.attempt)
    assert all(sorted(seen) == list(range(1, len(seen) + 1)) for seen in attempts.values())


def test_a_machine_of_the_pool_does_one_job_at_a_time(world: World) -> None:
    busy = defaultdict(set)
    for job in world.records("pipeline_jobs"):
        if job.runner and "-runner-" in job.runner and job.completed_at and job.started_at >= job.created_at:
            busy[job.runner].add((job.started_at, job.completed_at))
    assert len(busy) > 10
    for spans in busy.values():
        ordered = sorted(spans)
        assert all(end <= start for (_, end), (start, _) in pairwise(ordered))


def test_a_later_attempt_keeps_the_run_s_creation_time(world: World) -> None:
    created = {
        (run.repository, run.run_id): run.created_at for run in world.records("pipeline_runs") if run.attempt == 1
    }
    later = [run for run in world.records("pipeline_runs") if run.attempt > 1]
    assert later
    assert all(run.created_at == created[run.repository, run.run_id] < run.started_at for run in later)


def test_jobs_wait_and_run_in_order_unless_they_were_carried_over(world: World) -> None:
    carried = set(world.planted["carried_over_jobs"])
    backwards = {
        str(job.job_id)
        for job in world.records("pipeline_jobs")
        if job.started_at is not None and job.created_at > job.started_at
    }
    assert backwards == carried


def test_reviews_and_gates_belong_to_known_pull_requests_and_runs(world: World) -> None:
    numbers = {(request.repository, request.number) for request in world.records("pull_requests")}
    assert all((review.repository, review.number) in numbers for review in world.records("reviews"))
    runs = {(run.repository, run.run_id) for run in world.records("pipeline_runs")}
    gates = world.records("gate_results")
    assert all((gate.repository, gate.run_id) in runs for gate in gates)
    assert {gate.outcome for gate in gates} == {"passed", "blocked", "overridden"}


def test_a_runbook_s_newest_commit_changed_it(world: World) -> None:
    revisions = world.records("file_revisions")
    assert revisions
    for revision in revisions:
        commit = world.commits[revision.sha]
        assert revision.path in (commit.files or ())
        assert revision.committed_at == commit.committed_at


def test_no_login_is_of_a_real_person(world: World) -> None:
    invented = {review.reviewer for review in world.records("reviews")}
    assert all("-" in login and len(login.split("-")[1]) == 2 for login in invented)


def test_the_newer_version_of_a_record_is_the_finished_one(world: World) -> None:
    twice = set(world.planted["written_twice"])
    finished: list[Record] = [
        record
        for name, field in (("pipeline_runs", "run_id"), ("deployments", "deployment_id"))
        for record in world.records(name)
        if str(getattr(record, field)) in twice and record.updated_at is not None
    ]
    assert len(finished) == len(world.planted["written_twice"])
    for record in finished:
        assert getattr(record, "status", None) != "in_progress"
