"""What the typed tables must hold: read off the world, not off the code that pulls it."""

from __future__ import annotations

from typing import Any

from tests.fakes.github.world import Repository, World, text

Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


def expected(world: World, incident_label: str = "incident", *, jobs: bool = True) -> Rows:
    """Entity to key to the fields that matter; commits are those that a branch, a tag or a pull request leads to."""
    rows: Rows = {
        entity: {}
        for entity in (
            "pull_requests", "reviews", "pipeline_runs", "pipeline_jobs", "deployments", "incidents", "releases",
            "artifacts", "commits", "tags",
        )
    }  # fmt: skip
    for repository in world.repositories.values():
        name = repository.full_name
        for pull in repository.pulls:
            rows["pull_requests"][name, pull.number] = {
                "title": pull.title, "author": pull.author, "created_at": text(pull.created_at),
                "merged_at": text(pull.merged_at), "commits": pull.commits, "updated_at": text(pull.updated_at),
                "merge_commit_sha": pull.merge_sha,
            }  # fmt: skip
            for review in pull.reviews:
                if review.submitted_at:
                    key = (name, pull.number, review.author or "ghost")
                    rows["reviews"][key] = {"state": review.state, "submitted_at": text(review.submitted_at)}
        _runs(rows, repository, jobs=jobs)
        _history(rows, repository)
        for made in repository.deployments:
            rows["deployments"][(made.id,)] = {
                "repository": name, "environment": made.environment, "sha": made.sha,
                "statuses": [{"state": state.lower(), "at": text(at)} for state, at, _ in made.statuses],
            }  # fmt: skip
        for issue in repository.issues:
            if incident_label in issue.labels:
                rows["incidents"][(issue.id,)] = {
                    "repository": name, "title": issue.title, "opened_at": text(issue.created_at),
                    "resolved_at": text(issue.closed_at), "labels": issue.labels,
                }  # fmt: skip
        for release in repository.releases:
            if release.draft:
                continue
            rows["releases"][name, release.tag] = {"published_at": text(release.published_at)}
            for asset in release.assets:
                rows["artifacts"][asset["digest"], asset["name"]] = {"repository": name, "release": release.tag}
    return rows


def _history(rows: Rows, repository: Repository) -> None:
    name = repository.full_name
    waiting = [*repository.branches.values(), *(tag.sha for tag in repository.tags)]
    waiting += [sha for pull in repository.pulls for sha in pull.commits]
    while waiting:
        commit = repository.graph[waiting.pop()]
        if (name, commit.sha) in rows["commits"]:
            continue
        waiting += commit.parents
        rows["commits"][name, commit.sha] = {
            "parents": commit.parents, "author": commit.author or "ghost", "message": commit.message,
            "authored_at": text(commit.authored_at), "committed_at": text(commit.committed_at),
        }  # fmt: skip
    for tag in repository.tags:
        at = tag.tagged_at or repository.graph[tag.sha].committed_at
        rows["tags"][name, tag.name] = {"sha": tag.sha, "tagged_at": text(at)}


def left_behind(world: World) -> set[tuple[str, str]]:
    """Commits that were there once and that nothing leads to any more: whoever saw them keeps them."""
    return {(one.full_name, sha) for one in world.repositories.values() for sha in one.graph}


def _runs(rows: Rows, repository: Repository, *, jobs: bool) -> None:
    name = repository.full_name
    for run in repository.runs:
        for attempt in run.attempts:
            done = attempt.status == "completed"
            rows["pipeline_runs"][name, run.id, attempt.number] = {
                "workflow": run.path.removeprefix(".github/workflows/"), "status": attempt.status,
                "conclusion": attempt.conclusion, "created_at": text(run.created_at), "head_sha": run.sha,
                "completed_at": text(attempt.updated_at) if done else None,
            }  # fmt: skip
            for job in attempt.jobs if jobs else ():
                key = (name, run.id, attempt.number, job["id"])
                rows["pipeline_jobs"][key] = {
                    "name": job["name"], "created_at": job["created_at"], "started_at": job["started_at"],
                    "completed_at": job["completed_at"],
                }  # fmt: skip
