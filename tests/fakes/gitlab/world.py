"""What happens on the fake GitLab, by a clock: whatever changes gets the clock's time as its last change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Raw = dict[str, Any]


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


@dataclass
class Project:
    id: int
    path: str
    clone_url: str
    off: set[str] = field(default_factory=set)
    merge_requests: list[Raw] = field(default_factory=list)
    pipelines: list[Raw] = field(default_factory=list)
    deployments: list[Raw] = field(default_factory=list)
    issues: list[Raw] = field(default_factory=list)
    # By merge request (iid) and by pipeline (id).
    commits: dict[int, list[Raw]] = field(default_factory=dict)
    notes: dict[int, list[Raw]] = field(default_factory=dict)
    jobs: dict[int, list[Raw]] = field(default_factory=dict)


@dataclass
class World:
    group: str = "acme"
    now: datetime = datetime(2026, 1, 5, 9, tzinfo=UTC)
    projects: list[Project] = field(default_factory=list)
    ids: int = 100

    def new_id(self) -> int:
        self.ids += 1
        return self.ids

    def sha(self) -> str:
        return hashlib.sha1(str(self.new_id()).encode(), usedforsecurity=False).hexdigest()

    def advance(self, seconds: float) -> str:
        self.now += timedelta(seconds=seconds)
        return text(self.now)

    def project(self, name: str, clone_url: str) -> Project:
        self.projects.append(Project(self.new_id(), f"{self.group}/{name}", clone_url))
        return self.projects[-1]

    def merge_request(self, project: Project, author: str = "ada", **more: Any) -> Raw:
        at, head = text(self.now), self.sha()
        raw = {
            "id": self.new_id(), "iid": len(project.merge_requests) + 1, "title": "Add a till", "state": "opened",
            "author": {"username": author}, "labels": [], "created_at": at, "updated_at": at, "merged_at": None,
            "closed_at": None, "sha": head, "merge_commit_sha": None, "squash_commit_sha": None,
            "source_branch": "till", "target_branch": "main", **more,
        }  # fmt: skip
        project.merge_requests.append(raw)
        project.commits[raw["iid"]] = [{"id": head}, {"id": self.sha()}]
        project.notes[raw["iid"]] = []
        return raw

    def note(self, project: Project, request: Raw, who: str, body: str, *, system: bool = False) -> None:
        at = text(self.now)
        project.notes[request["iid"]].append(
            {"id": self.new_id(), "author": {"username": who}, "body": body, "system": system, "created_at": at}
        )
        request["updated_at"] = at

    def merge(self, request: Raw) -> None:
        at = text(self.now)
        request.update(state="merged", merged_at=at, updated_at=at, merge_commit_sha=self.sha())

    def pipeline(self, project: Project, status: str = "running", **more: Any) -> Raw:
        at = text(self.now)
        raw = {
            "id": self.new_id(), "iid": len(project.pipelines) + 1, "sha": self.sha(), "ref": "main",
            "status": status, "source": "push", "created_at": at, "updated_at": at, "started_at": at,
            "finished_at": None, "user": {"username": "ada"}, "name": None, **more,
        }  # fmt: skip
        project.pipelines.append(raw)
        project.jobs[raw["id"]] = []
        return raw

    def job(self, project: Project, pipeline: Raw, name: str, status: str, seconds: float = 60, **more: Any) -> Raw:
        """A job that starts after half a minute in the queue and takes so long; the clock goes along."""
        made = text(self.now)
        started = self.advance(30)
        finished = self.advance(seconds)
        raw = {
            "id": self.new_id(), "name": name, "stage": "test", "status": status, "created_at": made,
            "started_at": started, "finished_at": finished, "queued_duration": 30.0, "duration": seconds,
            "allow_failure": False, "runner": {"id": 1, "description": "linux-1"}, "tag_list": ["linux"], **more,
        }  # fmt: skip
        project.jobs[pipeline["id"]].append(raw)
        pipeline["updated_at"] = finished
        return raw

    def finish(self, pipeline: Raw, status: str) -> None:
        at = text(self.now)
        pipeline.update(status=status, finished_at=at, updated_at=at)

    def deploy(self, project: Project, status: str = "running", pipeline: Raw | None = None) -> Raw:
        at = text(self.now)
        raw = {
            "id": self.new_id(), "iid": len(project.deployments) + 1, "ref": "main", "sha": self.sha(),
            "created_at": at, "updated_at": at, "status": status, "user": {"username": "ada"},
            "environment": {"id": 9, "name": "production"},
            "deployable": pipeline
            and {"id": self.new_id(), "started_at": at, "finished_at": None, "pipeline": {"id": pipeline["id"]}},
        }  # fmt: skip
        project.deployments.append(raw)
        return raw

    def settle(self, deployment: Raw, status: str) -> None:
        at = text(self.now)
        deployment.update(status=status, updated_at=at)
        if deployment["deployable"]:
            deployment["deployable"]["finished_at"] = at

    def issue(self, project: Project, kind: str = "incident", labels: tuple[str, ...] = ()) -> Raw:
        at, number = text(self.now), len(project.issues) + 1
        raw = {
            "id": self.new_id(), "iid": number, "title": "The till is down", "issue_type": kind, "state": "opened",
            "labels": list(labels), "severity": "HIGH", "created_at": at, "updated_at": at, "closed_at": None,
            "web_url": f"https://gitlab.test/{project.path}/-/issues/{number}",
        }  # fmt: skip
        project.issues.append(raw)
        return raw

    def close(self, issue: Raw) -> None:
        at = text(self.now)
        issue.update(state="closed", closed_at=at, updated_at=at)
