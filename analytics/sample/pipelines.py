"""Continuous integration: what every push and every night runs, on a pool that can be busy, with flakes and re-runs.

Source: metrics.md section 3 (attempts, flaky, queue) and section 6 (E24 to E26).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Literal

from analytics.sample.organisation import STRUGGLING_TEAMS, Habit
from analytics.sample.repository import Push, Repository
from analytics.sample.runs import HOSTED, RunWriter
from analytics.sample.timeline import DAY, HOUR, MINUTE, Timeline, around, stream, utc
from analytics.sources.entities import GateResult

POOL = ("self-hosted", "linux")
NIGHTLY = "nightly.yml"
SECURITY = "security.yml"


@dataclass(frozen=True)
class Step:
    """One job of a workflow; a step that waits starts after those before it."""

    name: str
    minutes: float
    pooled: bool = False
    waits: bool = False


_WORKFLOWS: dict[str, tuple[Step, ...]] = {
    "ci.yml": (
        Step("build", 4.5, pooled=True),
        Step("unit-tests", 11.0, pooled=True),
        Step("integration-tests", 8.0, waits=True),
    ),
    "lint.yml": (Step("lint", 1.3),),
    SECURITY: (Step("code-scan", 4.2),),
    NIGHTLY: (Step("full-build", 45.0, pooled=True), Step("end-to-end", 34.0, waits=True)),
}
_BY_EVENT = {"pull_request": ("ci.yml", "lint.yml", SECURITY), "push": ("ci.yml", SECURITY), "schedule": (NIGHTLY,)}
# How often a first attempt fails because the change is wrong.
_WRONG = {"pull_request": 0.07, "push": 0.018, "schedule": 0.05}

# Conclusions that are neither success nor failure, each as often as it happens.
_ODD = (("cancelled", 0.02), ("timed_out", 0.004), ("startup_failure", 0.0015), ("action_required", 0.0015))


@dataclass
class _Run:
    run_id: int
    workflow: str
    push: Push
    created: int
    flaky: bool
    wrong: bool
    # Which step fails, when one does.
    culprit: int
    # Passed jobs of the attempt before: (started, completed), carried over when only failed jobs are re-run.
    passed: dict[int, tuple[int, int]] = field(default_factory=dict)


class Pipelines:
    """Runs one repository's workflows in the order of time."""

    def __init__(self, seed: int, habit: Habit, number: int, writer: RunWriter, timeline: Timeline) -> None:
        self.habit = habit
        self.writer = writer
        self.timeline = timeline
        self.rng = stream(seed, "pipelines", habit.repository)
        self._next_run = 9_000_000_000 + number * 1_000_000
        name = habit.repository.split("/")[1]
        self._free = [(0, f"{name}-runner-{index + 1}") for index in range(habit.runners)]
        self._breaks_at = self._loses_a_machine()
        self._waiting: list[tuple[int, int, int, _Run]] = []
        self._tickets = 0

    def _loses_a_machine(self) -> int | None:
        """When a struggling team's pool loses a machine for the bad quarter, so that the queue tells."""
        worse = self.timeline.worse_quarter
        if worse is None or not self.habit.first_block or self.habit.team not in STRUGGLING_TEAMS:
            return None
        return self.timeline.bounds[worse] if len(self._free) > 1 else None

    def _lose_a_machine(self) -> None:
        assert self.timeline.worse_quarter is not None
        free_at, runner = heapq.heappop(self._free)
        heapq.heappush(self._free, (max(free_at, self.timeline.bounds[self.timeline.worse_quarter + 1]), runner))
        self._breaks_at = None

    def answer(self, repository: Repository) -> None:
        """Run everything that the repository's pushes and nights call for, up to `now`."""
        pushes = sorted([*repository.pushes, *self._nights(repository)], key=lambda push: (push.at, push.sha))
        for push in pushes:
            self._until(push.at)
            if self._breaks_at is not None and push.at >= self._breaks_at:
                self._lose_a_machine()
            for workflow in _BY_EVENT[push.event]:
                self._begin(workflow, push)
        self._until(self.timeline.now)

    def _nights(self, repository: Repository) -> list[Push]:
        nights: list[Push] = []
        entries = iter([*repository.trunk, None])
        entry = next(entries)
        assert entry is not None
        upcoming = next(entries)
        for index in range(self.timeline.day_index(max(self.timeline.start, entry.at)), len(self.timeline.days)):
            at = self.timeline.midnight(index) + 2 * HOUR
            if at > self.timeline.now:
                break
            while upcoming is not None and upcoming.at <= at:
                entry, upcoming = upcoming, next(entries)
            if entry.at <= at:
                nights.append(Push(at, "schedule", entry.sha, "main", "scheduler[bot]"))
        return nights

    def _begin(self, workflow: str, push: Push) -> None:
        self._next_run += 1
        flaky = self.rng.random() < self.habit.flake_share * (2.0 if workflow == NIGHTLY else 1.0)
        if len(_WORKFLOWS[workflow]) == 1:
            flaky = flaky and self.rng.random() < 0.2
        wrong = not flaky and self.rng.random() < _WRONG[push.event]
        culprit = self.rng.randrange(len(_WORKFLOWS[workflow]))
        self._attempt(_Run(self._next_run, workflow, push, push.at + 4, flaky, wrong, culprit), 1, push.at + 4)
        if workflow == SECURITY and push.event == "pull_request" and push.at >= self.writer.templates_from:
            self._gate(push.at + 6 * MINUTE)

    def _until(self, at: int) -> None:
        """Make the re-runs that are due before a moment."""
        while self._waiting and self._waiting[0][0] <= at:
            due, _, attempt, run = heapq.heappop(self._waiting)
            self._attempt(run, attempt, due)

    def _attempt(self, run: _Run, attempt: int, at: int) -> None:
        rng = self.rng
        # A flake passes when tried again, mostly; a wrong change stays wrong.
        fails = run.wrong or (run.flaky and (attempt == 1 or rng.random() < 0.15))
        conclusion = "failure" if fails else "success"
        if not fails and attempt == 1:
            draw = rng.random()
            for odd, share in _ODD:
                draw -= share
                if draw < 0:
                    conclusion = odd
                    break
        end = self._jobs(run, attempt, at, conclusion)
        self.writer.run(
            run.run_id,
            attempt,
            workflow=run.workflow,
            event=run.push.event,
            sha=run.push.sha,
            branch=run.push.branch,
            created=run.created,
            started=at,
            completed=end,
            conclusion=conclusion,
            actor=run.push.actor,
            template="build.yml" if run.workflow == "ci.yml" else None,
        )
        if fails and attempt < 4:
            self._consider_rerun(run, attempt, end)
        elif not fails and attempt > 1 and conclusion == "success":
            self.writer.book.plant("flaky_runs", run.run_id)

    def _consider_rerun(self, run: _Run, attempt: int, end: int) -> None:
        rng = self.rng
        if rng.random() >= (0.8 if run.flaky else 0.15):
            return
        wait = round(around(rng, 18 * MINUTE, 1.0))
        if rng.random() < 0.003:
            wait = 30 * DAY - 2 * HOUR
        due = end + wait
        if rng.random() < 0.3:
            # "Re-run all jobs" starts from nothing.
            run.passed = {}
        if due <= self.timeline.now:
            self._tickets += 1
            heapq.heappush(self._waiting, (due, self._tickets, attempt + 1, run))

    def _jobs(self, run: _Run, attempt: int, at: int, conclusion: str) -> int:
        """Write the jobs of an attempt; returns the moment at which the last one ends."""
        if conclusion in ("startup_failure", "action_required"):
            return at + 2
        steps = _WORKFLOWS[run.workflow]
        blamed = run.culprit if conclusion != "success" else len(steps)
        end = at
        for number, step in enumerate(steps):
            labels = POOL if step.pooled else HOSTED
            if number in run.passed and number != blamed:
                started, completed = run.passed[number]
                job = self.writer.job(
                    run.run_id, attempt, number + 1, step.name,
                    created=at, started=started, completed=completed, conclusion="success", labels=labels,
                )  # fmt: skip
                self.writer.book.plant("carried_over_jobs", job.job_id)
                continue
            if number > blamed and step.waits:
                self.writer.job(
                    run.run_id, attempt, number + 1, step.name,
                    created=end, started=None, completed=end, conclusion="skipped", labels=labels,
                )  # fmt: skip
                continue
            created = end + 1 if step.waits and number and end > at else at
            started, completed, runner = self._occupy(step, created, conclusion if number == blamed else "success")
            self.writer.job(
                run.run_id, attempt, number + 1, step.name,
                created=created, started=started, completed=completed,
                conclusion=conclusion if number == blamed else "success", labels=labels, runner=runner,
            )  # fmt: skip
            if number != blamed:
                run.passed[number] = (started, completed)
            end = max(end, completed)
        return end + 3

    def _gate(self, at: int) -> None:
        """What the security gate said of a pull request; few are blocked, and some of those by mistake."""
        if at > self.timeline.now:
            return
        rng = self.rng
        outcome: Literal["passed", "blocked", "overridden"] = "passed"
        resolution = None
        if rng.random() < 0.05:
            outcome = "overridden" if rng.random() < 0.12 else "blocked"
            resolution = rng.choices(("true_positive", "false_positive", None), (60, 28, 12))[0]
        self.writer.book.add(
            "gate_results",
            GateResult(
                repository=self.habit.repository,
                run_id=self._next_run,
                gate=rng.choice(("code-scan", "dependency-review")),
                outcome=outcome,
                resolution=resolution,
                at=utc(at),
            ),
        )

    def _occupy(self, step: Step, created: int, conclusion: str) -> tuple[int, int, str | None]:
        """When a machine takes the job and when it is done: the pool has few, hosted ones come within seconds."""
        rng = self.rng
        seconds = round(around(rng, step.minutes * MINUTE, 0.22))
        if conclusion == "timed_out":
            seconds = 2 * HOUR
        elif conclusion != "success":
            seconds = max(round(seconds * rng.uniform(0.1, 1.0)), 5)
        if not step.pooled:
            started = created + round(around(rng, 11, 0.6))
            return started, started + seconds, None
        free_at, runner = heapq.heappop(self._free)
        started = max(created + rng.randint(2, 9), free_at)
        heapq.heappush(self._free, (started + seconds + rng.randint(2, 6), runner))
        return started, started + seconds, runner
