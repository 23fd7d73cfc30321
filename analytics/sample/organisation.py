"""Harbour & Pine, a furniture seller that does not exist: its services, teams, repositories and habits.

Twelve services form a block. A larger organisation repeats the block under further brands, so that the work grows
with the number of services and the first ones stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from analytics.sample.timeline import Timeline, around, stream

ORGANIZATION = "Harbour & Pine"
OWNER = "harbour-pine"
REGISTRY = "registry.harbourpine.example"
TEMPLATES = f"{OWNER}/pipeline-templates/.github/workflows"

# Two teams have a bad quarter and recover visibly.
STRUGGLING_TEAMS = frozenset({"payments", "identity"})

MergeStyle = Literal["squash", "merge", "rebase", "direct"]
Selector = Literal["environment", "workflow", "tags", "releases", "gitops"]
Pace = Literal["continuous", "paced", "train"]


@dataclass(frozen=True)
class Habit:
    """How one service is built, released and broken."""

    name: str
    team: str
    tier: int
    repository: str
    merges: MergeStyle
    # How a production deployment is recorded.
    selector: Selector
    # continuous: after each merge; paced: some times a week; train: every so many working days.
    pace: Pace
    changes_per_week: float
    releases_per_week: float = 0.0
    train_days: int = 0
    # Share of deployments that turn out bad, and of attempts that fail on the way.
    fail_share: float = 0.1
    attempt_fail_share: float = 0.05
    deploy_minutes: float = 9.0
    lead_scale: float = 1.0
    direct_share: float = 0.0
    bots_per_week: float = 0.6
    flake_share: float = 0.04
    # Machines of the repository's own pool; the rest runs on hosted ones.
    runners: int = 2
    paths: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    # Deployments carry a status history instead of one status.
    statuses: bool = False
    # Deployments name the pipeline run; without one, retries share the deployment id.
    names_run: bool = True
    # At which share of the period the service went live; None: before it.
    live_after: float | None = None
    # At which share of the period its pipelines moved to the standard templates; None: never.
    templates_after: float | None = None
    quiet_quarter: bool = False
    release_branches: bool = False
    force_pushes: bool = False
    races: bool = False
    staging: bool = False
    companion: str | None = None
    smoke_checks: bool = False
    approvals: bool = False
    ends_with_open_incident: bool = False
    link_window_hours: float | None = None
    failed_attempt_is_failure: bool = False
    runbook: bool = True
    rollback_ready: bool = False
    first_block: bool = True

    @property
    def key(self) -> str:
        """The prefix of the service's tickets."""
        return self.name.upper().replace("-", "")


# The monorepo's three services share everything but their size.
_SHOP = Habit("storefront", "storefront", 0, "shop", "squash", "environment", "continuous",
              changes_per_week=10, bots_per_week=1.0, fail_share=0.06, deploy_minutes=7, statuses=True, races=True,
              ends_with_open_incident=True, flake_share=0.06, paths=("services/storefront/**", "libs/**"), runners=3,
              smoke_checks=True, approvals=True, rollback_ready=True, templates_after=0.0)  # fmt: skip

_BLOCK: tuple[Habit, ...] = (
    _SHOP,
    replace(_SHOP, name="cart", tier=1, changes_per_week=5, bots_per_week=0.5, fail_share=0.08, deploy_minutes=8,
            statuses=False, races=False, ends_with_open_incident=False, paths=("services/cart/**", "libs/**")),
    replace(_SHOP, name="checkout", team="payments", pace="paced", changes_per_week=5, releases_per_week=3.6,
            bots_per_week=0.5, fail_share=0.07, deploy_minutes=12, races=False, ends_with_open_incident=False,
            paths=("services/checkout/**", "libs/**")),
    Habit("payments-gateway", "payments", 0, "payments-gateway", "merge", "environment", "paced",
          changes_per_week=6, releases_per_week=4.4, fail_share=0.06, deploy_minutes=14, lead_scale=1.3,
          regions=("eu-central", "us-east"), statuses=True, smoke_checks=True, approvals=True, rollback_ready=True,
          templates_after=0.2, ends_with_open_incident=True),
    Habit("search", "discovery", 1, "search", "rebase", "workflow", "continuous",
          changes_per_week=4.4, fail_share=0.11, deploy_minutes=10, templates_after=0.45, flake_share=0.08),
    Habit("catalogue", "discovery", 2, "catalogue", "squash", "gitops", "paced",
          changes_per_week=3, releases_per_week=2.6, fail_share=0.08, deploy_minutes=5, names_run=False,
          templates_after=0.6),
    Habit("pricing", "payments", 1, "pricing", "merge", "environment", "train",
          changes_per_week=3.6, train_days=5, fail_share=0.22, deploy_minutes=25, lead_scale=1.6, staging=True,
          release_branches=True, smoke_checks=True, approvals=True, rollback_ready=True, link_window_hours=48),
    Habit("accounts", "identity", 0, "accounts", "squash", "environment", "paced",
          changes_per_week=4.2, releases_per_week=3.2, fail_share=0.08, deploy_minutes=9, live_after=0.4,
          templates_after=0.4, statuses=True, approvals=True, smoke_checks=True),
    Habit("notifications", "engagement", 2, "notifications", "direct", "environment", "paced",
          changes_per_week=4.6, releases_per_week=2.8, fail_share=0.13, direct_share=0.75, lead_scale=0.6,
          force_pushes=True, attempt_fail_share=0.09, failed_attempt_is_failure=True, runners=1),
    Habit("loyalty", "engagement", 3, "loyalty", "squash", "tags", "paced",
          changes_per_week=2, releases_per_week=0.9, fail_share=0.12, lead_scale=1.4, runners=1),
    Habit("warehouse-sync", "logistics", 2, "warehouse-sync", "rebase", "releases", "train",
          changes_per_week=1.6, train_days=10, fail_share=0.14, lead_scale=1.8, runners=1, runbook=False),
    Habit("returns-portal", "logistics", 3, "returns-portal", "merge", "environment", "train",
          changes_per_week=1.3, train_days=11, fail_share=0.16, lead_scale=2.2, names_run=False,
          quiet_quarter=True, companion="returns-theme", runners=1, runbook=False, flake_share=0.09),
)  # fmt: skip

# Further brands of the house; a brand gives its block's services, teams and repositories their prefix.
_BRANDS = (
    "juniper", "lantern", "copper", "meadow", "anchor", "willow", "quartz", "saffron", "tundra", "marble", "cedar",
    "ember", "linen", "pebble", "harvest", "indigo", "walnut", "breeze", "cobalt", "thistle", "amber", "fjord",
)  # fmt: skip

_WORDS = (
    "alder", "badger", "bracken", "brook", "clover", "condor", "curlew", "dune", "falcon", "fennel", "gannet", "glade",
    "gorse", "grebe", "harrier", "heath", "heron", "ibex", "jackdaw", "kelp", "kestrel", "larch", "lichen", "lynx",
    "magpie", "marten", "merlin", "mistle", "moss", "nettle", "osprey", "otter", "petrel", "pike", "plover", "puffin",
    "reed", "rowan", "sandpiper", "sedge", "shrike", "siskin", "sorrel", "spruce", "stoat", "swift", "tansy", "teal",
    "thrush", "vole", "warbler", "wren", "yarrow",
)  # fmt: skip


@dataclass(frozen=True)
class Estate:
    """One repository with the services that live in it; those beyond the asked number stay undeclared."""

    repository: str
    number: int
    habits: tuple[Habit, ...]
    declared: frozenset[str]
    # Number of each service in the organisation, from which its ids are made.
    service_numbers: dict[str, int]


def estates(seed: int, services: int) -> list[Estate]:
    """The repositories of an organisation of that many services, each with all of its services."""
    found: list[Estate] = []
    blocks = -(-services // len(_BLOCK))
    for block in range(blocks):
        habits = [_branded(seed, habit, block) for habit in _BLOCK]
        repositories = list(dict.fromkeys(habit.repository for habit in habits))
        for position, repository in enumerate(repositories):
            members = {
                block * len(_BLOCK) + index: habit
                for index, habit in enumerate(habits)
                if habit.repository == repository
            }
            declared = frozenset(habit.name for number, habit in members.items() if number < services)
            if declared:
                numbers = {habit.name: number for number, habit in members.items()}
                number = block * len(repositories) + position
                found.append(Estate(repository, number, tuple(members.values()), declared, numbers))
    return found


def _branded(seed: int, habit: Habit, block: int) -> Habit:
    if block == 0:
        return replace(habit, repository=f"{OWNER}/{habit.repository}")
    brand = _BRANDS[(block - 1) % len(_BRANDS)]
    if block > len(_BRANDS):
        brand += str((block - 1) // len(_BRANDS) + 1)
    rng = stream(seed, "habit", brand, habit.name)
    name = f"{brand}-{habit.name}"
    paths = tuple(path.replace(f"services/{habit.name}/", f"services/{name}/") for path in habit.paths)
    return replace(
        habit,
        name=name,
        team=f"{brand}-{habit.team}",
        repository=f"{OWNER}/{brand}-{habit.repository}",
        paths=paths,
        companion=f"{brand}-{habit.companion}" if habit.companion else None,
        changes_per_week=habit.changes_per_week * around(rng, 1, 0.2),
        lead_scale=habit.lead_scale * around(rng, 1, 0.25),
        fail_share=min(0.4, habit.fail_share * around(rng, 1, 0.3)),
        ends_with_open_incident=False,
        first_block=False,
    )


def people(seed: int, team: str) -> list[str]:
    """The invented logins of a team."""
    rng = stream(seed, "people", team)
    initials = "abcdefghijklmnoprstuvw"
    return [f"{word}-{rng.choice(initials)}{rng.choice(initials)}" for word in rng.sample(_WORDS, rng.randint(5, 8))]


def live_from(habit: Habit, timeline: Timeline) -> int | None:
    """The local midnight at which a service went live, when that lies inside the period."""
    if habit.live_after is None:
        return None
    index = timeline.day_index(timeline.start + round((timeline.end - timeline.start) * habit.live_after))
    while not timeline.is_working_day(index):
        index += 1
    return timeline.midnight(index)


def quiet_quarter(habit: Habit, timeline: Timeline) -> int | None:
    """The index of the quarter in which a service is not deployed at all."""
    return len(timeline.quarters) // 2 if habit.quiet_quarter and len(timeline.quarters) >= 3 else None


def lead_mood(habit: Habit, timeline: Timeline, at: int) -> float:
    """By how much changes take longer at a moment."""
    return habit.lead_scale * _mood(habit, timeline, at, worse=3.0, better=0.6)


def release_mood(habit: Habit, timeline: Timeline, at: int) -> float:
    """How many releases a week somebody has in mind at a moment."""
    return habit.releases_per_week * _mood(habit, timeline, at, worse=0.5, better=1.25)


def failure_mood(habit: Habit, timeline: Timeline, at: int) -> float:
    """The share of deployments that turn out bad at a moment."""
    return min(0.7, habit.fail_share * _mood(habit, timeline, at, worse=3.5, better=0.6))


def _mood(habit: Habit, timeline: Timeline, at: int, *, worse: float, better: float) -> float:
    """What a moment does to a struggling team: one factor in its bad quarter, another one after that."""
    bad, index = timeline.worse_quarter, timeline.quarter_index(at)
    if bad is None or not habit.first_block or habit.team not in STRUGGLING_TEAMS or index < bad:
        return 1.0
    return worse if index == bad else better
