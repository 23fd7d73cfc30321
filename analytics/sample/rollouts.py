"""One rollout before it is written down: its attempts, and what it brings to production."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from analytics.sample.organisation import Habit
from analytics.sample.timeline import HOUR, MINUTE, around


@dataclass(frozen=True)
class Try:
    """One attempt to bring a sha to production; its run starts first and builds."""

    run_at: int
    created: int
    started: int
    finished: int
    outcome: str


@dataclass(frozen=True)
class Rollout:
    """What is to be written down about one deployment."""

    sha: str
    ref: str
    tries: Sequence[Try]
    creator: str
    labels: tuple[str, ...] = ()
    digest: str | None = None
    # The commit of a GitOps repository, when that is what was deployed.
    environment_sha: str | None = None
    # The second repository's commit, when a service is deployed from two.
    companion_sha: str | None = None
    # A patch of the running version rather than the next one (tags and releases).
    is_patch: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether any attempt reached production."""
        return self.tries[-1].outcome == "success"


def plan_tries(rng: random.Random, habit: Habit, at: int, *, must_succeed: bool) -> list[Try]:
    """The attempts of one deployment: mostly one, sometimes retried, now and then given up or cancelled."""
    tries: list[Try] = []
    run_at = at
    sure = habit.selector in ("tags", "releases")
    while True:
        created = run_at + round(around(rng, 2.6 * MINUTE, 0.25))
        started = created + round(around(rng, 1.2 * MINUTE, 0.9))
        finished = started + round(around(rng, habit.deploy_minutes * MINUTE, 0.35))
        if not sure and not must_succeed and not tries and rng.random() < 0.008:
            # A status history has no word for cancelled.
            outcome = "failure" if habit.statuses else "cancelled"
            return [Try(run_at, created, started, started + (finished - started) // 3, outcome)]
        fails = not sure and len(tries) < 3 and rng.random() < habit.attempt_fail_share
        tries.append(Try(run_at, created, started, finished, "failure" if fails else "success"))
        if not fails or (not must_succeed and rng.random() < 0.12):
            return tries
        run_at = finished + round(around(rng, 14 * MINUTE))


def region_delay(habit: Habit, index: int) -> int:
    """How many seconds after the first region another one follows."""
    return index * round(habit.deploy_minutes * 1.4) * MINUTE


def slack(habit: Habit) -> int:
    """How many seconds after a finish the next rollout of the service may begin."""
    regions = region_delay(habit, max(len(habit.regions) - 1, 0))
    return regions + (HOUR if habit.selector == "workflow" else 2 * MINUTE)
