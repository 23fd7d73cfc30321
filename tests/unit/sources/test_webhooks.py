"""Saved webhook deliveries in a feed folder: each tells its entity, and what tells nothing is left out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from analytics.landing.coverage import quarantined
from analytics.settings import FilesSource
from tests.unit.landing.landing_world import Workspace, jsonl

SHOP = {"id": 1, "full_name": "acme/shop"}
RUN = {
    "id": 9001, "run_attempt": 2, "path": ".github/workflows/deploy.yml@refs/heads/main", "event": "push",
    "head_sha": "a" * 40, "head_branch": "main", "status": "completed", "conclusion": "success",
    "created_at": "2026-08-03T09:00:00Z", "run_started_at": "2026-08-03T09:10:00Z",
    "updated_at": "2026-08-03T09:20:00Z",
}  # fmt: skip
JOB = {
    "id": 77, "run_id": 9001, "run_attempt": 2, "name": "deploy", "status": "in_progress", "conclusion": None,
    "created_at": "2026-08-03T09:10:00Z", "started_at": "2026-08-03T09:11:00Z", "completed_at": None,
    "runner_name": "r-1", "labels": ["linux"],
}  # fmt: skip
PULL = {
    "number": 12, "title": "Add a till", "user": {"login": "ada"}, "labels": [{"name": "hotfix"}],
    "created_at": "2026-08-01T09:00:00Z", "merged_at": None, "closed_at": None, "merge_commit_sha": "f" * 40,
    "head": {"ref": "till"}, "updated_at": "2026-08-01T09:00:00Z",
}  # fmt: skip
DEPLOYMENT = {
    "id": 4711, "sha": "a" * 40, "ref": "main", "environment": "production", "creator": {"login": "ada"},
    "created_at": "2026-08-03T09:12:00Z", "updated_at": "2026-08-03T09:12:00Z",
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def status(state: str, at: str) -> dict[str, Any]:
    said = {"state": state, "environment": "production", "created_at": at, "updated_at": at}
    return {"action": "created", "deployment_status": said, "deployment": DEPLOYMENT, "repository": SHOP,
            "workflow_run": {"id": 9001}}  # fmt: skip


def issue(number: int, *labels: str) -> dict[str, Any]:
    raw = {"id": number, "title": "The till is down", "labels": [{"name": label} for label in labels],
           "created_at": "2026-08-03T10:00:00Z", "closed_at": None, "updated_at": "2026-08-03T10:00:00Z"}  # fmt: skip
    return {"action": "opened", "issue": raw, "repository": SHOP}


def test_runs_and_jobs_are_told_by_their_last_delivery(workspace: Workspace) -> None:
    begun = RUN | {"status": "in_progress", "conclusion": None, "updated_at": "2026-08-03T09:10:00Z"}
    ended = JOB | {"status": "completed", "conclusion": "success", "completed_at": "2026-08-03T09:19:00Z"}
    # The last one to come need not be the last one sent.
    deliveries = [{"workflow_run": raw, "repository": SHOP} for raw in (RUN, begun)]
    workspace.drops.write("webhooks/workflow_run.jsonl", jsonl(*deliveries))
    jobs = jsonl(*({"workflow_job": raw, "repository": SHOP} for raw in (ended, JOB)))
    workspace.drops.write("webhooks/workflow_job/2026-08.jsonl.gz", gzip.compress(jobs))
    workspace.pull()
    (run,), (job,) = workspace.winners("pipeline_runs"), workspace.winners("pipeline_jobs")
    assert (run["workflow"], run["attempt"], run["conclusion"]) == ("deploy.yml", 2, "success")
    assert run["completed_at"] == "2026-08-03T09:20:00Z"
    assert (job["conclusion"], job["completed_at"]) == ("success", "2026-08-03T09:19:00Z")


def test_a_deployment_ends_with_its_status_and_not_when_it_is_superseded(workspace: Workspace) -> None:
    deliveries = [
        status("in_progress", "2026-08-03T09:13:00Z"),
        status("success", "2026-08-03T09:18:00Z"),
        status("inactive", "2026-08-09T08:00:00Z"),
    ]
    workspace.drops.write("webhooks/deployment_status.jsonl", jsonl(*deliveries))
    workspace.pull()
    (record,) = workspace.winners("deployments")
    assert (record["status"], record["finished_at"]) == ("success", "2026-08-03T09:18:00Z")
    assert (record["deployment_id"], record["run_id"], record["environment"]) == (4711, 9001, "production")


def test_a_delivery_that_the_api_shows_again_is_read_as_well(workspace: Workspace) -> None:
    merged = PULL | {"merged_at": "2026-08-02T09:00:00Z", "updated_at": "2026-08-02T09:00:00Z"}
    shown = {
        "id": 5,
        "event": "pull_request",
        "request": {"headers": {}, "payload": {"pull_request": merged, "repository": SHOP}},
    }
    workspace.drops.write("webhooks/pull_request.jsonl", jsonl({"pull_request": PULL, "repository": SHOP}, shown))
    review = {"user": {"login": "bob"}, "state": "approved", "submitted_at": "2026-08-01T12:00:00Z"}
    said = {"review": review, "pull_request": PULL, "repository": SHOP}
    workspace.drops.write("webhooks/pull_request_review.jsonl", jsonl(said))
    workspace.pull()
    (pull,), (given,) = workspace.winners("pull_requests"), workspace.winners("reviews")
    # GitHub writes a commit for a merge that nobody made; only a merged one's counts.
    assert (pull["merged_at"], pull["merge_commit_sha"]) == ("2026-08-02T09:00:00Z", "f" * 40)
    assert (given["number"], given["reviewer"], given["state"]) == (12, "bob", "approved")


def test_issues_are_incidents_by_their_labels(workspace: Workspace, tmp_path: Path) -> None:
    workspace.drops.write("webhooks/issues.jsonl", jsonl(issue(1, "Incident"), issue(2, "bug"), issue(3, "outage-eu")))
    workspace.pull()
    assert [record["incident_id"] for record in workspace.winners("incidents")] == [1]
    source = FilesSource(type="files", name="other", path=tmp_path / "drops", incident_labels=["outage*"])
    workspace.settings = workspace.settings.model_copy(update={"sources": [source], "storage": tmp_path / "again"})
    workspace.pull()
    assert [record["incident_id"] for record in workspace.winners("incidents")] == [3]


def test_what_cannot_be_read_is_refused_where_it_stands(workspace: Workspace) -> None:
    release = {"tag_name": "v1", "name": "One", "draft": False, "published_at": "2026-08-03T09:00:00Z"}
    lines = jsonl({"release": release, "repository": SHOP}, {"release": release | {"draft": True}, "repository": SHOP})
    workspace.drops.write("webhooks/release.jsonl", lines + b'{"release"\n[1]\n{"zen": "Keep it simple"}\n')
    workspace.drops.write("webhooks/push.jsonl", jsonl({"ref": "refs/heads/main"}))
    workspace.drops.write("webhooks/issues.csv", b"id\n1\n")
    workspace.pull()
    assert [record["tag"] for record in workspace.winners("releases")] == ["v1"]
    refused = {(row.origin, row.line): row.reason for row in quarantined(workspace.settings)}
    assert refused == {
        ("webhooks/push.jsonl", 0): "unknown_event",
        ("webhooks/issues.csv", 0): "unknown_format",
        ("webhooks/release.jsonl", 3): "json_truncated",
        ("webhooks/release.jsonl", 4): "not_an_object",
        ("webhooks/release.jsonl", 5): "missing_id",
    }


def test_a_file_that_grew_is_read_from_where_it_ended(workspace: Workspace) -> None:
    workspace.drops.write("webhooks/issues.jsonl", jsonl(issue(1, "incident")))
    workspace.pull()
    workspace.drops.append("webhooks/issues.jsonl", json.dumps(issue(2, "incident")).encode() + b"\n")
    (result,) = workspace.pull()
    assert result.items == 1
    assert [record["incident_id"] for record in workspace.winners("incidents")] == [1, 2]
