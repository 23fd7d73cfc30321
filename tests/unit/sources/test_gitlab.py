"""GitLab behind the port: what lands is what happened, retries are attempts, and trouble has words."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.doctor import examine
from analytics.errors import SettingsError
from analytics.landing.pull import PullResult, pull, reprocess
from analytics.landing.winners import create_winners, open_landing
from analytics.secrets import Secret
from analytics.settings import Settings, load_settings
from analytics.sources import answers
from analytics.sources.gitlab.client import GitLabClient
from analytics.sources.limits import Budget
from tests.fakes.gitlab.server import TOKEN, FakeGitLab, Fault
from tests.fakes.gitlab.world import Project, World
from tests.unit.sources import git_world


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitLab]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    monkeypatch.setattr("gitlab.utils.time.sleep", lambda seconds: None)
    with FakeGitLab(World()) as server:
        yield server


@pytest.fixture
def shop(fake: FakeGitLab, tmp_path: Path) -> Project:
    return project_of(fake.world, tmp_path)


@pytest.fixture
def workspace(fake: FakeGitLab, tmp_path: Path) -> Settings:
    return workspace_of(tmp_path, fake)


def project_of(world: World, folder: Path) -> Project:
    repository = git_world.Repository(folder / "shop")
    repository.commit("first")
    return world.project("shop", str(repository.path))


def workspace_of(folder: Path, fake: FakeGitLab, **more: Any) -> Settings:
    (folder / "catalog.yaml").write_text("services: [{name: shop, repository: acme/shop}]", "utf-8")
    source = {
        "name": "lab", "type": "gitlab", "group": "acme", "token": "${QD_FAKE_TOKEN}", "base_url": fake.url,
        "max_wait_seconds": 0, "workers": 1, **more,
    }  # fmt: skip
    path = folder / "quarterdeck.yaml"
    # A handful of rows is read faster by one thread.
    settings = {"organization": "Acme", "sources": [source], "engine": {"threads": 1}}
    path.write_text(json.dumps(settings), "utf-8")
    return load_settings(path)


def pulled(workspace: Settings) -> PullResult:
    (result,) = pull(workspace, only=["lab"])
    return result


def landed(workspace: Settings, entity: str) -> list[dict[str, Any]]:
    with open_landing(workspace) as con:
        rows = con.execute(f"SELECT payload FROM {create_winners(con, entity)}").fetchall()
    return sorted((json.loads(payload) for (payload,) in rows), key=lambda one: json.dumps(one, sort_keys=True))


def one(workspace: Settings, entity: str) -> dict[str, Any]:
    (record,) = landed(workspace, entity)
    return record


def test_a_merge_request_tells_its_commits_first_word_and_approval(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    world = fake.world
    request = world.merge_request(shop, author="ada")
    world.advance(60)
    world.note(shop, request, "ada", "please look")
    world.advance(60)
    world.note(shop, request, "bob", "added 1 commit", system=True)
    world.advance(60)
    world.note(shop, request, "bob", "why a till?")
    world.advance(60)
    world.note(shop, request, "eve", "approved this merge request", system=True)
    world.advance(60)
    world.merge(request)
    assert pulled(workspace).ok
    record = one(workspace, "pull_requests")
    assert record["first_review_at"] == "2026-01-05T09:03:00.000Z"
    assert record["approved_at"] == "2026-01-05T09:04:00.000Z"
    assert record["merged_at"] == record["closed_at"] == "2026-01-05T09:05:00.000Z"
    assert record["merge_commit_sha"] == request["merge_commit_sha"]
    assert record["commits"][-1] == request["sha"]
    states = {review["reviewer"]: review["state"] for review in landed(workspace, "reviews")}
    assert states == {"bob": "COMMENTED", "eve": "APPROVED"}


def test_a_squashed_or_fast_forwarded_request_names_the_commit_it_became(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    squashed, forwarded = fake.world.merge_request(shop), fake.world.merge_request(shop)
    for request in (squashed, forwarded):
        fake.world.merge(request)
        request["merge_commit_sha"] = None
    squashed["squash_commit_sha"] = "5" * 40
    pulled(workspace)
    assert {record["number"]: record["merge_commit_sha"] for record in landed(workspace, "pull_requests")} == {
        1: "5" * 40,
        2: forwarded["sha"],
    }


def test_a_retried_job_makes_a_second_attempt_with_the_job_in_it(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    world = fake.world
    pipeline = world.pipeline(shop)
    world.job(shop, pipeline, "build", "success")
    world.job(shop, pipeline, "test", "failed")
    world.finish(pipeline, "failed")
    world.advance(600)
    world.job(shop, pipeline, "test", "success")
    # A later stage runs for the first time, in the second attempt.
    world.job(shop, pipeline, "deploy", "success")
    world.finish(pipeline, "success")
    pulled(workspace)
    runs = {run["attempt"]: run for run in landed(workspace, "pipeline_runs")}
    assert {attempt: run["conclusion"] for attempt, run in runs.items()} == {1: "failure", 2: "success"}
    assert runs[1]["completed_at"] == "2026-01-05T09:03:00.000Z"
    assert (runs[2]["started_at"], runs[2]["completed_at"]) == ("2026-01-05T09:13:30.000Z", "2026-01-05T09:16:00.000Z")
    jobs = sorted((job["name"], job["attempt"], job["conclusion"]) for job in landed(workspace, "pipeline_jobs"))
    assert jobs == [("build", 1, "success"), ("deploy", 2, "success"), ("test", 1, "failure"), ("test", 2, "success")]


def test_an_attempt_is_not_failed_by_a_job_that_may_fail(fake: FakeGitLab, shop: Project, workspace: Settings) -> None:
    pipeline = fake.world.pipeline(shop)
    fake.world.job(shop, pipeline, "lint", "failed", allow_failure=True)
    fake.world.job(shop, pipeline, "lint", "failed", allow_failure=True)
    fake.world.finish(pipeline, "success")
    pulled(workspace)
    assert [run["conclusion"] for run in landed(workspace, "pipeline_runs")] == ["success", "success"]


def test_a_job_queues_from_when_it_could_start_and_not_from_when_its_pipeline_was_made(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    pipeline = fake.world.pipeline(shop)
    job = fake.world.job(shop, pipeline, "deploy", "success")
    job["created_at"] = pipeline["created_at"] = "2026-01-05T01:00:00.000Z"
    fake.world.finish(pipeline, "success")
    pulled(workspace)
    assert one(workspace, "pipeline_jobs")["created_at"] == "2026-01-05T09:00:00+00:00"


def test_a_pipeline_seen_running_is_completed_by_a_later_pull(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    pipeline = fake.world.pipeline(shop)
    pulled(workspace)
    assert one(workspace, "pipeline_runs")["status"] == "in_progress"
    fake.world.job(shop, pipeline, "test", "success")
    fake.world.finish(pipeline, "success")
    pulled(workspace)
    assert one(workspace, "pipeline_runs")["conclusion"] == "success"


def test_a_deployment_ends_when_its_job_ended_or_else_with_its_last_change(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    world = fake.world
    by_job = world.deploy(shop, pipeline=world.pipeline(shop))
    by_api = world.deploy(shop)
    world.advance(300)
    world.settle(by_job, "success")
    by_job["updated_at"] = world.advance(86_400)
    world.settle(by_api, "failed")
    world.deploy(shop, status="blocked")
    pulled(workspace)
    found = {record["deployment_id"]: record for record in landed(workspace, "deployments")}
    first, second = found[f"gitlab:{by_job['id']}"], found[f"gitlab:{by_api['id']}"]
    assert (first["status"], first["finished_at"]) == ("success", "2026-01-05T09:05:00.000Z")
    assert (second["status"], second["finished_at"]) == ("failure", "2026-01-06T09:05:00.000Z")
    assert sorted(record["status"] for record in found.values()) == ["failure", "in_progress", "success"]
    assert first["run_id"] == by_job["deployable"]["pipeline"]["id"]


def test_incidents_are_issues_of_that_type_and_those_with_a_named_label(
    fake: FakeGitLab, shop: Project, tmp_path: Path
) -> None:
    typed, labelled = fake.world.issue(shop), fake.world.issue(shop, "issue", ("outage",))
    fake.world.issue(shop, "issue")
    fake.world.advance(60)
    fake.world.close(typed)
    workspace = workspace_of(tmp_path, fake, incident_labels=["outage"])
    pulled(workspace)
    found = {record["incident_id"]: record for record in landed(workspace, "incidents")}
    assert found.keys() == {f"gitlab:{typed['id']}", f"gitlab:{labelled['id']}"}
    assert found[f"gitlab:{typed['id']}"]["resolved_at"] == "2026-01-05T09:01:00.000Z"
    assert found[f"gitlab:{typed['id']}"]["severity"] == "high"


def test_a_pull_of_what_did_not_change_asks_for_four_lists_and_no_details(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    for _ in range(3):
        fake.world.merge_request(shop)
        fake.world.finish(fake.world.pipeline(shop), "success")
    pulled(workspace)
    fake.asked.clear()
    result = pulled(workspace)
    assert result.items == 0
    # The group's projects and one page each of four lists.
    assert len(fake.asked) == 5


def test_more_than_a_page_lands_whole_also_where_all_have_one_time(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    for _ in range(250):
        fake.world.deploy(shop)
    for number in range(45):
        fake.world.pipeline(shop)
        fake.world.advance(number % 2)
    result = pulled(workspace)
    assert result.ok
    assert len(landed(workspace, "deployments")) == 250
    assert len(landed(workspace, "pipeline_runs")) == 45


def test_a_project_keeps_its_history_when_it_is_renamed(fake: FakeGitLab, shop: Project, workspace: Settings) -> None:
    fake.world.deploy(shop)
    pulled(workspace)
    shop.path = "acme/market"
    (workspace.storage.parent / "catalog.yaml").write_text("services: [{name: shop, repository: acme/market}]", "utf-8")
    fake.world.advance(60)
    fake.world.deploy(shop)
    pulled(workspace)
    assert len(landed(workspace, "deployments")) == 2


def test_what_a_project_has_switched_off_is_not_asked_for(fake: FakeGitLab, shop: Project, workspace: Settings) -> None:
    shop.off.add("builds")
    assert pulled(workspace).ok
    assert fake.count("/pipelines") == 0


def test_a_refusal_for_pace_ends_the_pull_and_says_when_it_goes_on(
    fake: FakeGitLab, shop: Project, workspace: Settings
) -> None:
    fake.world.deploy(shop)
    fake.faults.append(Fault(429, "Retry later", {"Retry-After": "120", "RateLimit-Remaining": "0"}))
    result = pulled(workspace)
    assert result.resume_at is not None
    assert "GitLab's rate limit is used up" in str(result.error)
    assert pulled(workspace).ok
    assert len(landed(workspace, "deployments")) == 1


def test_trouble_that_passes_is_asked_through(fake: FakeGitLab, shop: Project, workspace: Settings) -> None:
    fake.world.deploy(shop)
    fake.faults.extend([Fault(502, "<html>bad gateway</html>"), Fault(503)])
    assert pulled(workspace).ok
    assert len(landed(workspace, "deployments")) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, '{"message": "401 Unauthorized"}'), "QD_FAKE_TOKEN"),
        (Fault(403, '{"message": "insufficient_scope"}'), "read_api"),
        (Fault(404), "must not see it"),
        (Fault(200, "<html>sign in</html>"), "html_body"),
        (Fault(200, '[{"id": 1'), "json_truncated"),
        (Fault(200, '{"id": 1}'), "no list of records"),
        (Fault(301, "", {"Location": "http://127.0.0.1:9/stolen"}), "another address"),
        (Fault(200, "[" * 100_000), "no JSON"),
    ],
)
def test_a_refusal_says_what_to_do(
    fake: FakeGitLab, shop: Project, workspace: Settings, fault: Fault, words: str
) -> None:
    fake.faults.append(fault)
    result = pulled(workspace)
    assert words in str(result.error)


def test_an_answer_without_an_end_is_left(
    fake: FakeGitLab, shop: Project, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MAX_BODY_BYTES", 1000)
    fake.faults.append(Fault(200, "[" + " " * 2000 + "]"))
    assert "longer than 1,000 bytes" in str(pulled(workspace).error)


def test_one_project_that_fails_stops_no_other(
    fake: FakeGitLab, shop: Project, tmp_path: Path, workspace: Settings
) -> None:
    other = fake.world.project("gone", str(tmp_path / "nowhere"))
    fake.world.deploy(shop)
    fake.world.deploy(other)
    result = pulled(workspace)
    assert not result.ok
    assert len(landed(workspace, "deployments")) == 2


def test_bad_records_go_to_quarantine_and_the_rest_lands(fake: FakeGitLab, shop: Project, workspace: Settings) -> None:
    fake.world.deploy(shop)
    fake.world.deploy(shop)["sha"] = None
    result = pulled(workspace)
    assert (len(landed(workspace, "deployments")), result.quarantined) == (1, 1)


def test_records_can_be_made_anew_from_kept_answers(fake: FakeGitLab, shop: Project, workspace: Settings) -> None:
    pipeline = fake.world.pipeline(shop)
    fake.world.job(shop, pipeline, "test", "success")
    fake.world.merge_request(shop)
    pulled(workspace)
    before = {entity: landed(workspace, entity) for entity in ("pipeline_runs", "pipeline_jobs", "pull_requests")}
    fake.answers_left = 0
    (result,) = reprocess(workspace)
    assert result.translated == 0
    assert before == {entity: landed(workspace, entity) for entity in before}


def test_the_token_is_in_no_log_and_no_file_and_no_pickle(
    fake: FakeGitLab, shop: Project, workspace: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.world.merge_request(shop, title=f"use {TOKEN} here")
    fake.faults.append(Fault(403, json.dumps({"message": f"token {TOKEN} lacks read_api"})))
    words = f"{pulled(workspace)} {pulled(workspace)} {caplog.text}"
    assert TOKEN not in words
    for file in workspace.storage.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(GitLabClient(Secret("${QD_FAKE_TOKEN}"), fake.url, Budget()))


def test_the_doctor_says_whether_the_group_can_be_read(fake: FakeGitLab, shop: Project, tmp_path: Path) -> None:
    workspace_of(tmp_path, fake, projects=["acme/shop"])
    (finding,) = [one for one in examine(tmp_path / "quarterdeck.yaml") if one.subject == "source lab"]
    assert (finding.state, "reads acme/shop" in finding.detail) == ("ok", True)
    workspace_of(tmp_path, fake, projects=["acme/nowhere"])
    (finding,) = [one for one in examine(tmp_path / "quarterdeck.yaml") if one.subject == "source lab"]
    assert (finding.state, "acme/nowhere is not there" in finding.detail) == ("fail", True)


@pytest.mark.parametrize(
    "wrong",
    [{"group": None}, {"base_url": "http://gitlab.example.com"}, {"token": "glpat-written-out-here"}],
    ids=["nothing to read", "without encryption", "a secret written out"],
)
def test_settings_that_cannot_work_are_refused(fake: FakeGitLab, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        workspace_of(tmp_path, fake, **wrong)


STEPS = st.lists(
    st.sampled_from(["request", "note", "merge", "pipeline", "job", "retry", "finish", "deploy", "settle", "pull"])
    | st.integers(1, 12),
    min_size=3,
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_for_any_interleaving_with_pulls_and_crashes_the_tables_equal_the_world(
    monkeypatch: pytest.MonkeyPatch, steps: list[str | int]
) -> None:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    monkeypatch.setattr("gitlab.utils.time.sleep", lambda seconds: None)
    with tempfile.TemporaryDirectory() as name, FakeGitLab(World()) as fake:
        folder, world = Path(name), fake.world
        shop, workspace = project_of(world, folder), workspace_of(folder, fake)
        for step in steps:
            world.advance(45)
            if isinstance(step, int):
                # The source falls silent after so many answers.
                fake.answers_left = step
                pulled(workspace)
                fake.answers_left = None
            else:
                happen(world, shop, step, workspace)
        assert pulled(workspace).ok
        assert tables(workspace) == told(shop)


def happen(world: World, shop: Project, step: str, workspace: Settings) -> None:
    if step == "pull":
        pulled(workspace)
    elif step == "request":
        world.merge_request(shop)
    elif step == "pipeline":
        world.job(shop, world.pipeline(shop), "test", "failed")
    elif step == "deploy":
        world.deploy(shop, pipeline=shop.pipelines[-1] if shop.pipelines else None)
    elif step in ("note", "merge") and shop.merge_requests:
        request = shop.merge_requests[0]
        world.merge(request) if step == "merge" else world.note(shop, request, "bob", "hm")
    elif step in ("job", "retry", "finish") and shop.pipelines:
        pipeline = shop.pipelines[0]
        if step == "finish":
            world.finish(pipeline, "success")
        else:
            world.job(shop, pipeline, "test" if step == "retry" else f"job-{world.new_id()}", "success")
    elif step == "settle" and shop.deployments:
        world.settle(shop.deployments[0], "success")


def tables(workspace: Settings) -> dict[str, Any]:
    return {
        "requests": {
            (one["number"], one.get("merged_at"), one.get("first_review_at"))
            for one in landed(workspace, "pull_requests")
        },
        "runs": {one["run_id"]: one.get("conclusion") for one in landed(workspace, "pipeline_runs")},
        "jobs": {(one["run_id"], one["job_id"]) for one in landed(workspace, "pipeline_jobs")},
        "deployments": {(one["deployment_id"], one["status"]) for one in landed(workspace, "deployments")},
    }


def told(shop: Project) -> dict[str, Any]:
    notes = {number: [note["created_at"] for note in found] for number, found in shop.notes.items()}
    return {
        "requests": {
            (one["iid"], one["merged_at"], min(notes[one["iid"]], default=None)) for one in shop.merge_requests
        },
        "runs": {one["id"]: "success" if one["status"] == "success" else None for one in shop.pipelines},
        "jobs": {(run, job["id"]) for run, jobs in shop.jobs.items() for job in jobs},
        "deployments": {
            (f"gitlab:{one['id']}", "success" if one["status"] == "success" else "in_progress")
            for one in shop.deployments
        },
    }
