"""One real repository, from its git exports to the answer that is known for it.

The exports are turned into feeds as any user would: pull requests are the squash merges whose subject ends in (#n), a
run without an end has none here either.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

EXPORTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "github" / "rate_ukma"
REPOSITORY = "ukma/rate"
SQUASHED = re.compile(r"\(#(\d+)\)$")

pytestmark = pytest.mark.skipif(not EXPORTS.is_dir(), reason="the shared real data is not beside this checkout")


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXPORTS / name).read_text(encoding="utf-8").splitlines()]


def commit_records() -> list[dict[str, Any]]:
    """Commits of branches and tags, then the pull requests' own ones, each behind the one before it."""
    records = {
        commit["sha"]: {"parents": commit["parents"], **commit} for commit in read("commits_branches_tags.jsonl")
    }
    for pull in read("pull_heads.jsonl"):
        parent = pull["merge_base"]
        for commit in pull["commits"]:
            records.setdefault(commit["sha"], {"parents": [parent] if parent else [], **commit})
            parent = commit["sha"]
    return [
        {
            "repository": REPOSITORY,
            "sha": commit["sha"],
            "parents": commit["parents"],
            "author": commit["author"],
            "authored_at": commit["authored_at"],
            "committed_at": commit["committed_at"],
            "message": commit["subject"],
        }
        for commit in records.values()
    ]


def pull_request_records() -> list[dict[str, Any]]:
    main = set((EXPORTS / "main_first_parent.txt").read_text(encoding="utf-8").split())
    merges = {
        int(match[1]): commit
        for commit in read("commits_branches_tags.jsonl")
        if commit["sha"] in main and (match := SQUASHED.search(commit["subject"]))
    }
    return [
        {
            "repository": REPOSITORY,
            "number": pull["pull"],
            "created_at": pull["commits"][0]["authored_at"],
            "merged_at": merges[pull["pull"]]["committed_at"],
            "merge_commit_sha": merges[pull["pull"]]["sha"],
            "commits": [commit["sha"] for commit in pull["commits"]],
        }
        for pull in read("pull_heads.jsonl")
        if pull["commits"] and pull["pull"] in merges
    ]


def run_records() -> list[dict[str, Any]]:
    return [
        {
            "repository": REPOSITORY,
            "run_id": run["id"],
            "attempt": 1,
            "workflow": "main-pipeline.yml",
            "event": run["event"],
            "head_sha": run["head_sha"],
            "status": run["status"],
            "conclusion": run["conclusion"],
            "created_at": run["created_at"],
            **({"completed_at": run["updated_at"]} if run.get("updated_at") else {}),
        }
        for run in read("workflow_runs_main_pipeline.jsonl")
    ]


@pytest.fixture(scope="module")
def rate_ukma(new_world: Any) -> Any:
    world = new_world()
    world.service("rate", repository=REPOSITORY, deploys={"workflow": "main-pipeline.yml"})
    world.not_collected("deployments", "incidents")
    world.records.update(commits=commit_records(), pull_requests=pull_request_records(), pipeline_runs=run_records())
    world.measure("2025-Q4")
    return world


def first_commit_hours(world: Any) -> list[float]:
    """One observation per pull request: its first commit authored until it was deployed first."""
    rows = [row for row in world.facts("change_lead") if row["pull_request"] and row["first_commit_us"] is not None]
    return list({row["pull_request"]: row["first_commit_us"] / 3.6e9 for row in rows}.values())


def test_first_commit_to_deployed_has_the_known_median_where_the_team_reports_two_minutes(rate_ukma: Any) -> None:
    observations = first_commit_hours(rate_ukma)
    assert len(observations) == 45
    hours = statistics.median(observations)
    assert (int(hours), round(hours % 1 * 60)) == (5, 43)
    # Its report measures a run from start to end and calls that the lead time for changes.
    report = (EXPORTS / "dora-summary-report.md").read_text(encoding="utf-8")
    assert "| Lead Time for Changes | 2m 1s |" in report


def test_ninety_four_runs_have_an_end_and_one_success_without_is_counted_but_in_no_duration(rate_ukma: Any) -> None:
    successes = rate_ukma.facts("service_deployments", outcome="success")
    assert len(successes) == 95
    unknown = [row["deployment_key"] for row in successes if row["finish_unknown"]]
    assert unknown == ["19433646028"]
    assert {row["excluded"] for row in rate_ukma.facts("change_lead", deployment_key=unknown[0])} == {
        "finish_unknown",
        "squashed",
    }


def test_each_commit_is_owned_once_and_the_first_deployment_owns_none(rate_ukma: Any) -> None:
    rows = rate_ukma.facts("change_lead")
    assert len({row["sha"] for row in rows}) == len(rows)
    (seed,) = rate_ukma.facts("service_deployments", kind="seed")
    assert not [row for row in rows if row["deployment_key"] == seed["deployment_key"]]


def test_failed_deploy_runs_count_as_attempts_and_not_as_change_failures(rate_ukma: Any) -> None:
    metrics = rate_ukma.metrics("2025-Q4")
    metrics.ratio("deployment_success_rate", 95, 129, name="rate")
    metrics.undefined("change_fail_rate", "no_incident_source", name="rate")
