"""How one rollout is written down: deployment rows, tags, releases, artifacts, checks and approvals.

What the feeds of different tools look like is decided here; whether and when something is deployed is not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgspec

from analytics.sample.book import Book
from analytics.sample.organisation import OWNER, REGISTRY, Habit
from analytics.sample.repository import digest
from analytics.sample.rollouts import Rollout, Try, region_delay
from analytics.sample.runs import DEPLOY_JOB, DEPLOY_WORKFLOW, RunWriter, write_deploy_run
from analytics.sample.timeline import MINUTE, around, utc
from analytics.sources.entities import (
    Approval,
    Artifact,
    Check,
    Deployment,
    DeploymentStatus,
    Release,
    Revision,
    Tag,
)

DEPLOY_BOT = "deploy-bot[bot]"
PRODUCTION = "production"
RELEASE_WORKFLOW = "release.yml"


@dataclass(frozen=True)
class Entry:
    """How a written deployment is found again: its key, and the id of its first success where the feed has one."""

    key: str
    deployment_id: str | int | None
    # The run that built and deployed it, where its tools are one.
    run_id: int | None = None


class Ledger:
    """Writes the deployments of one service."""

    def __init__(
        self, seed: int, habit: Habit, number: int, book: Book, rng: random.Random, templates_from: int, now: int
    ) -> None:
        self.seed = seed
        self.habit = habit
        self.number = number
        self.book = book
        self.rng = rng
        self.runs = RunWriter(book, habit.repository, templates_from, now)
        self._deployments = 0
        self._run_ids = 0
        self._version = (1 + number, 0, 0)
        # Rows whose success is still live; superseded ones turn inactive.
        self._live_rows: list[int] = []

    def write(self, rollout: Rollout) -> Entry:
        """Write one deployment with everything that its tools would record."""
        if self.habit.selector in ("tags", "releases"):
            return self._write_version(rollout)
        run_id = self._next_run_id()
        if self.habit.selector != "gitops":
            jobs = [f"deploy-{region}" for region in self.habit.regions] or [DEPLOY_JOB]
            write_deploy_run(self.runs, self.rng, self.habit, run_id, rollout, jobs)
        if self.habit.selector == "workflow":
            return Entry(str(run_id), None, run_id)
        return self._write_rows(run_id, rollout)

    def write_elsewhere(self, sha: str, ref: str, at: int, environment: str) -> None:
        """Write a deployment to an environment that is not production."""
        self.book.add(
            "deployments",
            Deployment(
                deployment_id=self._next_deployment_id(),
                repository=self.habit.repository,
                environment=environment,
                sha=sha,
                ref=ref,
                run_id=self._next_run_id(),
                status="success",
                created_at=utc(at),
                started_at=utc(at + 30),
                finished_at=utc(at + round(self.habit.deploy_minutes * MINUTE)),
                creator=DEPLOY_BOT,
            ),
        )

    def write_in_progress(self, sha: str, at: int) -> str:
        """Write a deployment that has not ended at `now`; returns its key."""
        run_id = self._next_run_id()
        self.book.add(
            "deployments",
            Deployment(
                deployment_id=self._next_deployment_id(),
                service=self.habit.name,
                repository=self.habit.repository,
                environment=PRODUCTION,
                sha=sha,
                ref="main",
                run_id=run_id,
                statuses=[DeploymentStatus("pending", utc(at)), DeploymentStatus("in_progress", utc(at + 20))],
                created_at=utc(at),
                started_at=utc(at + 20),
                creator=DEPLOY_BOT,
            ),
        )
        return str(run_id)

    def write_skipped(self, sha: str, at: int) -> str:
        """Write a green run whose deploy job was skipped, which is no deployment; returns its run id."""
        run_id = self._next_run_id()
        self.runs.job(run_id, 1, 1, "build-image", created=at, started=at + 9, completed=at + 165, conclusion="success")
        self.runs.job(
            run_id, 1, 2, DEPLOY_JOB, created=at + 166, started=None, completed=at + 166, conclusion="skipped"
        )
        self.runs.run(
            run_id,
            1,
            workflow=DEPLOY_WORKFLOW,
            event="workflow_dispatch",
            sha=sha,
            branch="main",
            created=at,
            started=at,
            completed=at + 170,
            conclusion="success",
            actor=DEPLOY_BOT,
            template="deploy.yml",
        )
        return str(run_id)

    def forget_finish(self) -> str | None:
        """Take the times from the newest row; returns its key, or None when the row failed or was retried."""
        rows = self.book.records["deployments"]
        row = rows[-1]
        assert isinstance(row, Deployment)
        if row.status != "success" or row.attempt != 1:
            return None
        rows[-1] = msgspec.structs.replace(row, started_at=None, finished_at=None)
        return str(row.deployment_id)

    def artifact(self, sha: str, at: int) -> Artifact:
        """The image that was built from a commit."""
        return Artifact(
            digest=image_digest(self.seed, self.habit, sha),
            name=image_name(self.habit),
            repository=self.habit.repository,
            sha=sha,
            created_at=utc(at),
        )

    def _write_rows(self, run_id: int, rollout: Rollout) -> Entry:
        rows = self.book.records["deployments"]
        shared_id = None if self.habit.names_run else self._next_deployment_id()
        regions: tuple[str | None, ...] = self.habit.regions or (None,)
        success_id: str | int | None = None
        for attempt, one in enumerate(rollout.tries, start=1):
            good = one.outcome == "success"
            # A region follows when the one before it has succeeded.
            for index, region in enumerate(regions if good else regions[:1]):
                deployment_id = self._next_deployment_id() if shared_id is None else shared_id
                if good and success_id is None:
                    success_id = deployment_id
                rows.append(self._row(rollout, run_id, deployment_id, attempt, one, index, region))
            if good and success_id is not None:
                self._supersede(len(regions), one.finished)
                self._write_evidence(success_id, one, rollout)
        built_by = run_id if self.habit.selector != "gitops" else None
        return Entry(str(run_id if shared_id is None else shared_id), success_id, built_by)

    def _row(
        self,
        rollout: Rollout,
        run_id: int,
        deployment_id: str | int,
        attempt: int,
        one: Try,
        index: int,
        region: str | None,
    ) -> Deployment:
        habit, later = self.habit, region_delay(self.habit, index)
        revisions = None
        if rollout.companion_sha:
            revisions = [
                Revision(habit.repository, rollout.sha),
                Revision(f"{OWNER}/{habit.companion}", rollout.companion_sha),
            ]
        return Deployment(
            deployment_id=deployment_id,
            attempt=None if habit.names_run else attempt,
            # Where repository and environment do not tell the service, the record does.
            service=habit.name if habit.paths or habit.selector == "gitops" else None,
            repository=gitops_repository(habit) if habit.selector == "gitops" else habit.repository,
            environment=PRODUCTION,
            sha=rollout.environment_sha or rollout.sha,
            ref=rollout.ref,
            digest=rollout.digest,
            run_id=run_id if habit.names_run else None,
            region=region,
            status=None if habit.statuses else one.outcome,
            statuses=_statuses(one, later) if habit.statuses else None,
            created_at=utc(one.created + later),
            started_at=utc(one.started + later),
            finished_at=None if habit.statuses else utc(one.finished + later),
            creator=rollout.creator,
            labels=list(rollout.labels) or None,
            revisions=revisions,
        )

    def _supersede(self, regions: int, at: int) -> None:
        """Turn the rows that were live inactive, as a status history shows it."""
        rows = self.book.records["deployments"]
        if self.habit.statuses:
            for index in self._live_rows:
                row = rows[index]
                assert isinstance(row, Deployment)
                statuses = [*(row.statuses or ()), DeploymentStatus("inactive", utc(at))]
                rows[index] = msgspec.structs.replace(row, statuses=statuses)
            self._live_rows = list(range(len(rows) - regions, len(rows)))

    def _write_evidence(self, deployment_id: str | int, one: Try, rollout: Rollout) -> None:
        rng = self.rng
        if self.habit.smoke_checks and rng.random() < 0.93:
            both = rng.random() < 0.5
            for name, kind, minutes in (("smoke", "smoke", 2), ("buy-a-chair", "synthetic", 6))[: 1 + both]:
                self.book.add(
                    "checks",
                    Check(
                        deployment_id=deployment_id,
                        name=name,
                        kind=kind,
                        conclusion="success" if rng.random() < 0.98 else "failure",
                        completed_at=utc(one.finished + round(around(rng, minutes * MINUTE, 0.3))),
                    ),
                )
        if self.habit.approvals and rng.random() < 0.95:
            own = rng.random() < 0.02
            self.book.add(
                "approvals",
                Approval(
                    deployment_id=deployment_id,
                    approver=rollout.creator if own else f"release-desk-{rng.randint(1, 4)}",
                    approved_at=utc(one.created + (one.started - one.created) // 2),
                    ticket=f"CHG-{self.number:03d}-{self._deployments:05d}" if rng.random() < 0.93 else None,
                ),
            )
            if own:
                self.book.plant("self_approved", deployment_id)

    def _write_version(self, rollout: Rollout) -> Entry:
        """A tag or a release, which is a deployment that always succeeded."""
        major, minor, patch = self._version
        self._version = (major, minor, patch + 1) if rollout.is_patch else (major, minor + 1, 0)
        name = "v" + ".".join(map(str, self._version))
        one = rollout.tries[-1]
        at, repository = one.finished, self.habit.repository
        if self.habit.selector == "tags":
            candidate = f"rc-{name}"
            self.book.add(
                "tags", Tag(repository=repository, name=candidate, sha=rollout.sha, tagged_at=utc(one.run_at))
            )
            self.book.add("tags", Tag(repository=repository, name=name, sha=rollout.sha, tagged_at=utc(at)))
            self.book.plant("tags_that_are_no_release", candidate)
        else:
            self.book.add(
                "releases",
                Release(
                    repository=repository,
                    tag=name,
                    sha=rollout.sha,
                    published_at=utc(at),
                    name=f"Release {name[1:]}",
                ),
            )
        run_id = self._next_run_id()
        self.runs.job(run_id, 1, 1, "publish", created=at, started=at + 11, completed=at + 236, conclusion="success")
        self.runs.run(
            run_id,
            1,
            workflow=RELEASE_WORKFLOW,
            event="release",
            sha=rollout.sha,
            branch=name,
            created=at,
            started=at,
            completed=at + 240,
            conclusion="success",
            actor=rollout.creator,
            template="release.yml",
        )
        return Entry(name, None)

    def _next_deployment_id(self) -> str | int:
        self._deployments += 1
        if not self.habit.names_run:
            return f"{self.habit.name}-{self._deployments:05d}"
        return 1_000_000_000 + self.number * 1_000_000 + self._deployments

    def _next_run_id(self) -> int:
        self._run_ids += 1
        return 7_000_000_000 + self.number * 1_000_000 + self._run_ids


def image_name(habit: Habit) -> str:
    """The name under which a service's image is kept."""
    return f"{REGISTRY}/{habit.name}"


def image_digest(seed: int, habit: Habit, sha: str, companion_sha: str | None = None) -> str:
    """The digest of the image that is built from a commit, and from one of the second repository where there is one."""
    source = f"{sha}+{companion_sha}" if companion_sha else sha
    return "sha256:" + (digest(seed, habit.name, "image", source) + digest(seed, "image", source))[:64]


def gitops_repository(habit: Habit) -> str:
    """The repository in which a GitOps service's running version is written down."""
    return f"{habit.repository}-gitops"


def _statuses(one: Try, later: int) -> list[DeploymentStatus]:
    return [
        DeploymentStatus("pending", utc(one.created + later)),
        DeploymentStatus("in_progress", utc(one.started + later)),
        DeploymentStatus(one.outcome, utc(one.finished + later)),
    ]
