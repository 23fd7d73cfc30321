"""What people and bots set out to change: when it was written, reviewed and merged, before any deployment knows of it.

Source of the habits: metrics.md section 6 (squash, merge, rebase, direct pushes, bots).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from analytics.sample.organisation import Habit, lead_mood, live_from
from analytics.sample.timeline import DAY, HOUR, MINUTE, Timeline, around, poisson, stream

BOT = "renovate[bot]"
SHARED = "libs"
RUNBOOKS = "docs/runbooks/"

_VERBS = ("Add", "Show", "Speed up", "Simplify", "Cache", "Validate", "Log", "Move", "Rename", "Fix", "Retry", "Split")
_THINGS = (
    "price rounding", "delivery slots", "address form", "stock lookup", "order totals", "gift wrapping", "tax rules",
    "login throttle", "image sizes", "search facets", "email footer", "session timeout", "refund flow", "basket merge",
    "postcode check", "catalogue import", "click events", "rate limits", "empty states", "feature switch",
)  # fmt: skip
_PACKAGES = ("http-client", "date-format", "json-schema", "test-runner", "css-grid", "queue-driver", "tracing-kit")
_MODULES = ("api", "model", "views", "pricing", "storage", "events", "format", "rules", "session", "client")


@dataclass
class Change:
    """One pull request, or one direct push when `branch` is None."""

    service: str
    author: str
    title: str
    branch: str | None
    authored: list[int]
    files: list[list[str]]
    opened: int
    merged: int | None
    is_bot: bool = False
    labels: list[str] = field(default_factory=list)
    first_review: int | None = None
    approved: int | None = None
    closed: int | None = None
    # (reviewer, state, time), in order.
    reviews: list[tuple[str, str, int]] = field(default_factory=list)
    # What follows the first line of the message (a revert names its commit there).
    body: str = ""
    touches_shared: bool = False
    number: int = 0


def plan_changes(seed: int, habit: Habit, timeline: Timeline, team: Sequence[str]) -> list[Change]:
    """Every change of a service over the period that needs no deployment to come about, by opening time."""
    rng = stream(seed, "changes", habit.name)
    live = live_from(habit, timeline)
    first = timeline.day_index(timeline.start - 9 * DAY if live is None else live - 20 * DAY)
    changes: list[Change] = []
    for day in range(first, timeline.day_index(timeline.now) + 1):
        for _ in range(poisson(rng, habit.changes_per_week / 5 * timeline.activity(day))):
            changes.append(_change(rng, habit, timeline, team, timeline.working_moment(rng, day)))
        for _ in range(poisson(rng, habit.bots_per_week / 7)):
            changes.append(_bot_change(rng, habit, timeline, team, timeline.midnight(day)))
    changes.sort(key=lambda change: change.opened)
    return changes


def _change(rng: random.Random, habit: Habit, timeline: Timeline, team: Sequence[str], start: int) -> Change:
    author = rng.choice(team)
    title = f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}"
    slow = lead_mood(habit, timeline, start)
    shared = bool(habit.paths) and rng.random() < 0.07
    if rng.random() < habit.direct_share:
        pushed = start + round(around(rng, 12 * MINUTE))
        files = [_files(rng, habit, shared)]
        return Change(habit.name, author, title, None, [start], files, pushed, pushed, touches_shared=shared)

    authored = [start]
    while len(authored) < 5 and rng.random() < 0.3:
        authored.append(timeline.roll(rng, authored[-1] + round(around(rng, 1.6 * HOUR * slow, 0.9))))
    opened = authored[-1] + round(around(rng, 9 * MINUTE))
    reviewer = rng.choice([login for login in team if login != author])
    looked = timeline.roll(rng, opened + round(around(rng, 2.1 * HOUR * slow, 1.0)))
    reviews: list[tuple[str, str, int]] = []
    approved = looked
    if rng.random() < 0.22:
        reviews.append((reviewer, "CHANGES_REQUESTED", looked))
        authored.append(timeline.roll(rng, looked + round(around(rng, 1.1 * HOUR * slow))))
        approved = timeline.roll(rng, authored[-1] + round(around(rng, 1.2 * HOUR * slow, 0.9)))
    reviews.append((reviewer, "APPROVED", approved))
    if rng.random() < 0.15:
        other = rng.choice([login for login in team if login not in (author, reviewer)])
        reviews.append((other, "COMMENTED", min(approved, looked + round(around(rng, 20 * MINUTE)))))
    merged = timeline.roll(rng, approved + round(around(rng, 0.6 * HOUR * slow, 1.1)))
    slug = title.lower().replace(" ", "-")
    change = Change(
        habit.name,
        author,
        title,
        f"{author.split('-')[0]}/{slug}",
        authored,
        [_files(rng, habit, shared) for _ in authored],
        opened,
        merged,
        first_review=looked,
        approved=approved,
        reviews=reviews,
        touches_shared=shared,
        labels=["enhancement"] if rng.random() < 0.3 else [],
    )
    if rng.random() < 0.04:
        # Given up: closed without a merge.
        change.merged = None
        change.closed = timeline.roll(rng, approved + round(around(rng, 2 * DAY)))
        change.approved = None
        change.reviews = [(reviewer, "COMMENTED", looked)]
    return change


def _bot_change(rng: random.Random, habit: Habit, timeline: Timeline, team: Sequence[str], midnight: int) -> Change:
    start = midnight + round(rng.uniform(3.5, 6.5) * HOUR)
    package = rng.choice(_PACKAGES)
    version = f"{rng.randint(1, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}"
    root = _root(habit)
    change = Change(
        habit.name,
        BOT,
        f"Update dependency {package} to v{version}",
        f"renovate/{package}-{version}",
        [start],
        [[f"{root}package.json", f"{root}package-lock.json"]],
        start + 40,
        start + round(around(rng, 35 * MINUTE)),
        is_bot=True,
        labels=["dependencies"],
    )
    if rng.random() < 0.6:
        reviewer = rng.choice(team)
        change.approved = change.first_review = timeline.roll(rng, start + round(around(rng, 5 * HOUR, 0.9)))
        change.reviews = [(reviewer, "APPROVED", change.approved)]
        change.merged = change.approved + round(around(rng, 4 * MINUTE))
    return change


def urgent_change(
    rng: random.Random,
    habit: Habit,
    team: Sequence[str],
    start: int,
    *,
    title: str,
    branch: str,
    labels: Sequence[str] = (),
    body: str = "",
) -> Change:
    """A small change that somebody reviews at once: a hotfix, a revert, a fix forward."""
    author, reviewer = rng.sample(list(team), 2)
    opened = start + round(around(rng, 4 * MINUTE, 0.4))
    approved = opened + round(around(rng, 11 * MINUTE, 0.5))
    return Change(
        habit.name,
        author,
        title,
        branch,
        [start],
        [_files(rng, habit, shared=False)],
        opened,
        approved + round(around(rng, 4 * MINUTE, 0.4)),
        labels=list(labels),
        first_review=approved,
        approved=approved,
        reviews=[(reviewer, "APPROVED", approved)],
        body=body,
    )


def _root(habit: Habit) -> str:
    return f"services/{habit.name}/" if habit.paths else ""


def runbook_path(habit: Habit) -> str:
    """Where a service keeps its runbook."""
    return f"{RUNBOOKS}{habit.name}.md"


def _files(rng: random.Random, habit: Habit, shared: bool) -> list[str]:
    root, module = _root(habit), rng.choice(_MODULES)
    files = [f"{root}src/{module}.py"]
    if rng.random() < 0.55:
        files.append(f"{root}tests/test_{module}.py")
    if shared:
        files.append(f"{SHARED}/{rng.choice(_MODULES)}.py")
    if habit.runbook and rng.random() < 0.012:
        files.append(runbook_path(habit))
    return files
