"""Apache DevLake's own end-to-end tables: the same answers where the definitions agree, named differences elsewhere."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

TABLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "devlake-dora"

pytestmark = pytest.mark.skipif(not TABLES.is_dir(), reason="the shared real data is not beside this checkout")

# The scopes of project1; cicd3 belongs to another project.
PROJECT_SCOPES = ("cicd1", "cicd2")


def read(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def in_utc(text: str) -> str:
    """DevLake writes naive times in UTC; a feed must say so."""
    return text if "+" in text else text.replace(" ", "T") + "Z"


DEPLOYMENT_COMMITS = "prev_success_deployment_commit/cicd_deployment_commits_{}.csv"


def deployment_records(**more: Any) -> list[dict[str, Any]]:
    """One deployment per row of DevLake's deployment commits that says an environment."""
    return [
        {
            "deployment_id": row["id"],
            "repository": row["repo_url"],
            "environment": row["environment"],
            "sha": row["commit_sha"],
            "status": row["result"].lower(),
            "created_at": in_utc(row["started_date"]),
            "started_at": in_utc(row["started_date"]),
            "finished_at": in_utc(row["finished_date"]),
            "service": f"{row['cicd_scope_id']}:{row['repo_url']}",
        }
        | {key: make(row) for key, make in more.items()}
        for row in read(DEPLOYMENT_COMMITS.format("before"))
        if row["environment"]
    ]


# Previous successful deployment ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chains(new_world: Any) -> Any:
    """DevLake chains deployments by scope and repository: those are services here."""
    world = new_world()
    world.not_collected("commits", "pull_requests", "incidents")
    world.records["deployments"] = deployment_records()
    for name in sorted({record["service"] for record in world.records["deployments"]}):
        world.service(name, repository=name.split(":")[1], deploys={"environments": ["PRODUCTION"]})
    world.measure("2022-Q3")
    return world


def test_the_previous_successful_deployment_is_devlakes_for_every_production_row(chains: Any) -> None:
    expected = {
        row["id"]: row["prev_success_deployment_commit_id"] or None
        for row in read(DEPLOYMENT_COMMITS.format("after"))
        if row["environment"] == "PRODUCTION"
    }
    found = {row["deployment_key"]: row["previous_deployment_key"] for row in chains.facts("service_deployments")}
    assert found == expected
    assert expected["13"] == "3"


def test_staging_is_chained_by_devlake_and_is_no_production_deployment_here(chains: Any) -> None:
    after = {row["id"]: row for row in read(DEPLOYMENT_COMMITS.format("after"))}
    assert after["8"]["prev_success_deployment_commit_id"] == "7"
    assert {row["name"]: row["rows"] for row in chains.facts("unmapped", kind="environment")} == {"STAGING": 2}


# Incident to deployment -----------------------------------------------------------------------------------------


def linked(new_world: Any, *, rollout: bool, window_hours: float) -> dict[str, tuple[str | None, str | None]]:
    """Incident to (deployment, reason), with DevLake's project as one service and its pipelines as runs."""
    world = new_world()
    world.set(incidents={"link_window_hours": window_hours})
    world.service("project1", repository="REPO111", deploys={"environments": ["PRODUCTION"]})
    world.not_collected("commits", "pull_requests")
    world.records["deployments"] = [
        record | {} if rollout else record | {"started_at": record["finished_at"]}
        for record in deployment_records(
            service=lambda row: "project1" if row["cicd_scope_id"] in PROJECT_SCOPES else "project2",
            run_id=lambda row: row["cicd_deployment_id"],
        )
    ]
    mapped = {
        row["row_id"]
        for row in read("connect_incident_to_deployment/raw_tables/project_mapping.csv")
        if row["project_name"] == "project1"
    }
    world.records["incidents"] = [
        {
            "incident_id": row["id"],
            "opened_at": in_utc(row["created_date"]),
            "resolved_at": in_utc(row["updated_date"]),
            **({"service": "project1"} if row["scope_id"] in mapped else {}),
        }
        for row in read("connect_incident_to_deployment/raw_tables/incidents.csv")
    ]
    world.measure("2022-Q3")
    return {
        incident: (row["deployment_key"], row["unlinked_reason"])
        for row in world.facts("service_incidents")
        for incident in row["incident_ids"]
    }


def devlake_links() -> dict[str, str]:
    rows = read("connect_incident_to_deployment/snapshot_tables/project_incident_deployment_relationships.csv")
    return {row["id"]: row["deployment_id"] for row in rows}


SEPTEMBER = "github:GithubIssue:1:1373792478"


def test_links_by_time_are_devlakes_when_nothing_limits_them(new_world: Any) -> None:
    """DevLake takes the latest deployment that had finished, however long ago: no window, no rollout."""
    found = linked(new_world, rollout=False, window_hours=24 * 365)
    assert {incident: deployment for incident, (deployment, _) in found.items()} == devlake_links()


def test_an_incident_seven_weeks_after_the_last_deployment_is_unlinked_here(new_world: Any) -> None:
    """Ours: a deployment is to blame by time for a day, not for ever."""
    found = linked(new_world, rollout=False, window_hours=24)
    assert devlake_links()["github:GithubIssue:1:1367714738"] == "pipeline7"
    assert {incident for incident, (deployment, _) in found.items() if deployment} == {SEPTEMBER}
    assert {reason for _, reason in found.values() if reason} == {"outside_window"}


def test_an_incident_during_a_rollout_blames_the_deployment_in_flight_here(new_world: Any) -> None:
    """Ours: production changes while a rollout runs; DevLake waits for its end and blames the one before."""
    found = linked(new_world, rollout=True, window_hours=24)
    assert devlake_links()[SEPTEMBER] == "pipeline2"
    assert found[SEPTEMBER] == ("pipeline7", None)


def test_an_incident_of_no_project_is_nobodys(new_world: Any) -> None:
    found = linked(new_world, rollout=True, window_hours=24)
    assert "github:GithubIssue:1:1373792477" not in found


# Deployments from pipelines -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipelines(new_world: Any) -> Any:
    """Pipelines as runs and tasks as jobs; the service deploys with the jobs that DevLake calls DEPLOYMENT."""
    world = new_world()
    world.not_collected("deployments", "commits", "pull_requests", "incidents")
    world.service("spend", repository="gitlab-data/spend", deploys={"workflow": "cicd1", "job": "deploy"})
    folder = "deployment_generator"
    heads = {row["pipeline_id"]: row["commit_sha"] for row in read(f"{folder}/cicd_pipeline_commits.csv")}
    for row in read(f"{folder}/cicd_pipelines.csv"):
        world.pipeline_run(
            row["id"],
            row["result"].lower(),
            row["created_date"],
            repository="gitlab-data/spend",
            workflow=row["name"],
            head_sha=heads[row["id"]],
        )
    for row in read(f"{folder}/cicd_tasks.csv"):
        world.job(
            row["pipeline_id"],
            row["id"],
            (row["started_date"], row["started_date"], row["finished_date"]),
            repository="gitlab-data/spend",
            name="deploy" if row["type"] == "DEPLOYMENT" else row["name"],
            conclusion=row["result"].lower(),
        )
    world.measure("2022-Q3")
    return world


def devlake_deployments() -> dict[str, str]:
    rows = read("deployment_generator/cicd_deployment_commits.csv")
    return {row["cicd_deployment_id"]: row["result"].lower() for row in rows}


def test_a_red_pipeline_whose_deploy_job_succeeded_is_a_deployment_here(pipelines: Any) -> None:
    """Ours takes the outcome at the deploy job; DevLake takes the pipeline's and calls both a failure."""
    found = {row["deployment_key"]: row["outcome"] for row in pipelines.facts("service_deployments")}
    for pipeline in ("gitlab:GitlabPipeline:1:457475337", "gitlab:GitlabPipeline:1:485877118"):
        assert devlake_deployments()[pipeline] == "failure"
        assert found[pipeline] == "success"


def test_a_green_pipeline_whose_deploy_job_was_skipped_is_no_deployment_for_both(pipelines: Any) -> None:
    skipped = "gitlab:GitlabPipeline:1:485932865"
    assert skipped not in devlake_deployments()
    assert pipelines.facts("service_deployments", deployment_key=skipped)[0]["outcome"] == "skipped"


def test_a_pipeline_that_only_its_type_calls_a_deployment_has_no_deploy_job_here(pipelines: Any) -> None:
    """DevLake also counts pipelines typed DEPLOYMENT by their name; a catalog that means those names no job."""
    ours = {row["deployment_key"] for row in pipelines.facts("service_deployments")}
    only_theirs = set(devlake_deployments()) - ours
    typed = {row["id"] for row in read("deployment_generator/cicd_pipelines.csv") if row["type"] == "DEPLOYMENT"}
    assert only_theirs
    assert only_theirs <= typed
