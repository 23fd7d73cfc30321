"""How runs and jobs of pipelines are written down, and the deploy workflow's attempts in particular.

Source of the shapes: metrics.md section 3 and ingestion.md section 4 (re-runs carry passed jobs over).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from analytics.sample.book import Book
from analytics.sample.organisation import TEMPLATES, Habit
from analytics.sample.rollouts import Rollout, region_delay
from analytics.sample.timeline import MINUTE, around, utc, utc_or_none
from analytics.sources.entities import PipelineJob, PipelineRun

DEPLOY_WORKFLOW = "deploy.yml"
DEPLOY_JOB = "deploy-prod"
HOSTED = ("ubuntu-24.04",)
DEPLOY_POOL = ("self-hosted", "deploy")


class RunWriter:
    """Writes run attempts and their jobs of one repository; what ends after `now` is written as it stands then."""

    def __init__(self, book: Book, repository: str, templates_from: int, now: int) -> None:
        self.book = book
        self.repository = repository
        self.templates_from = templates_from
        self.now = now

    def run(
        self,
        run_id: int,
        attempt: int,
        *,
        workflow: str,
        event: str,
        sha: str,
        branch: str,
        created: int,
        started: int,
        completed: int,
        conclusion: str,
        actor: str,
        template: str | None = None,
    ) -> PipelineRun:
        """Write one attempt of a run; `created` stays that of the first attempt, as GitHub has it."""
        ended = completed <= self.now
        run = PipelineRun(
            repository=self.repository,
            run_id=run_id,
            attempt=attempt,
            workflow=workflow,
            event=event,
            head_sha=sha,
            head_branch=branch,
            status="completed" if ended else "in_progress",
            conclusion=conclusion if ended else None,
            created_at=utc(created),
            started_at=utc(started),
            completed_at=utc_or_none(completed, self.now),
            actor=actor,
            referenced_workflows=[f"{TEMPLATES}/{template}@v3"]
            if template and created >= self.templates_from
            else None,
        )
        self.book.add("pipeline_runs", run)
        return run

    def job(
        self,
        run_id: int,
        attempt: int,
        number: int,
        name: str,
        *,
        created: int,
        started: int | None,
        completed: int,
        conclusion: str,
        labels: Sequence[str] = HOSTED,
        runner: str | None = None,
    ) -> PipelineJob:
        """Write one job; a hosted machine has no lasting name, so only a pool's jobs name their runner."""
        ended = completed <= self.now
        waiting = started is None or started > self.now
        job = PipelineJob(
            repository=self.repository,
            run_id=run_id,
            attempt=attempt,
            job_id=job_id(run_id, attempt, number),
            name=name,
            status="completed" if ended else "queued" if waiting else "in_progress",
            conclusion=conclusion if ended else None,
            created_at=utc(created),
            started_at=utc_or_none(started, self.now),
            completed_at=utc_or_none(completed, self.now),
            runner=None if waiting else runner,
            runner_labels=list(labels),
        )
        self.book.add("pipeline_jobs", job)
        return job


def job_id(run_id: int, attempt: int, number: int) -> int:
    """The id of a job, told from its place."""
    return run_id * 100 + attempt * 10 + number


def write_deploy_run(
    writer: RunWriter, rng: random.Random, habit: Habit, run_id: int, rollout: Rollout, deploy_jobs: Sequence[str]
) -> None:
    """The deploy workflow's attempts: a retry re-runs what failed and carries the build over."""
    first = rollout.tries[0]
    for attempt, one in enumerate(rollout.tries, start=1):
        good = one.outcome == "success"
        # A re-run shows the first attempt's build again: started before the re-run was made.
        build = writer.job(
            run_id, attempt, 1, "build-image",
            created=one.run_at, started=first.run_at + 8, completed=first.created - 2, conclusion="success",
        )  # fmt: skip
        jobs = [build]
        if attempt > 1:
            writer.book.plant("carried_over_jobs", build.job_id)
        for index, name in enumerate(deploy_jobs):
            later = region_delay(habit, index)
            runs = good or index == 0
            jobs.append(
                writer.job(
                    run_id, attempt, 2 + index, name,
                    created=one.created + later if runs else one.finished,
                    started=one.started + later if runs else None,
                    completed=one.finished + later if runs else one.finished,
                    conclusion=one.outcome if runs else "skipped",
                    labels=DEPLOY_POOL,
                    runner=f"{name}-{habit.name}",
                )
            )  # fmt: skip
        end = one.finished + (region_delay(habit, len(deploy_jobs) - 1) if good else 0)
        smoke_fails = good and habit.selector == "workflow" and rng.random() < 0.02
        smoke_ends = end + round(around(rng, 1.5 * MINUTE, 0.3)) if good else end
        number = 2 + len(deploy_jobs)
        writer.job(
            run_id, attempt, number, "smoke-test",
            created=end, started=end + 9 if good else None, completed=max(smoke_ends, end + 10) if good else end,
            conclusion="failure" if smoke_fails else "success" if good else "skipped",
        )  # fmt: skip
        finish = max(smoke_ends, end + 10) + 5
        _deploy_attempt(writer, run_id, attempt, rollout, one.run_at, finish, "failure" if smoke_fails else one.outcome)
        if smoke_fails:
            writer.book.plant("red_runs_that_deployed", run_id)
            again = finish + 20 * MINUTE
            _rerun_smoke_test(writer, run_id, attempt + 1, rollout, jobs, again)


def _rerun_smoke_test(
    writer: RunWriter, run_id: int, attempt: int, rollout: Rollout, passed: Sequence[PipelineJob], at: int
) -> None:
    """The re-run of a red run whose deploy job had succeeded: that job is carried over and deploys nothing."""
    for number, job in enumerate(passed, start=1):
        carried = msgspec.structs.replace(
            job, attempt=attempt, job_id=job_id(run_id, attempt, number), created_at=utc(at)
        )
        writer.book.add("pipeline_jobs", carried)
        writer.book.plant("carried_over_jobs", carried.job_id)
    number = len(passed) + 1
    writer.job(
        run_id, attempt, number, "smoke-test", created=at, started=at + 12, completed=at + 100, conclusion="success"
    )
    _deploy_attempt(writer, run_id, attempt, rollout, at, at + 104, "success")


def _deploy_attempt(
    writer: RunWriter, run_id: int, attempt: int, rollout: Rollout, started: int, completed: int, conclusion: str
) -> None:
    writer.run(
        run_id,
        attempt,
        workflow=DEPLOY_WORKFLOW,
        event="workflow_dispatch",
        sha=rollout.sha,
        branch=rollout.ref,
        created=rollout.tries[0].run_at,
        started=started,
        completed=completed,
        conclusion=conclusion,
        actor=rollout.creator,
        template="deploy.yml",
    )
