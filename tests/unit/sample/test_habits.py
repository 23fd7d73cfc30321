"""The organisation behaves like one: working hours, sizes, a bad quarter and what followed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from statistics import mean, median, stdev
from zoneinfo import ZoneInfo

from analytics.sample.timeline import Timeline
from tests.unit.sample.sample_world import World

BERLIN = ZoneInfo("Europe/Berlin")


def test_people_rarely_deploy_on_weekends_and_in_late_december(world: World) -> None:
    local = [at.astimezone(BERLIN) for at in world.finishes.values()]
    weekend = sum(at.weekday() >= 5 for at in local)
    assert 0 < weekend < len(local) * 0.05
    holidays = sum(at.month == 12 and at.day >= 20 for at in local)
    december = sum(at.month == 12 and at.day < 20 for at in local)
    assert holidays < december / 3


def test_people_write_code_in_the_day(world: World) -> None:
    hours = Counter(c.authored_at.astimezone(BERLIN).hour for c in world.commits.values() if not c.is_bot)
    day = sum(count for hour, count in hours.items() if 7 <= hour < 19)
    assert day > 0.9 * hours.total()


def test_services_are_deployed_at_very_different_rates(world: World) -> None:
    rates = sorted((len(chain) for chain in world.chains.values()), reverse=True)
    days = 365
    assert rates[0] / days * 7 > 8
    assert rates[-1] / days * 30 < 3.5


def test_lead_times_are_spread_like_a_log_normal(world: World) -> None:
    waits = [
        math.log((one.merged_at - world.commits[one.commits[0]].authored_at).total_seconds())
        for one in world.records("pull_requests")
        if one.merged_at and one.commits and not world.commits[one.commits[0]].is_bot
    ]
    # On a logarithmic scale mean and median agree, on a linear one the mean would be far above.
    assert abs(mean(waits) - median(waits)) < 0.25 * stdev(waits)
    assert mean(map(math.exp, waits)) > 1.25 * math.exp(median(waits))


def test_two_teams_take_longer_in_the_worse_quarter_and_improve_afterwards(world: World) -> None:
    timeline = Timeline(4)
    worse = timeline.worse_quarter
    assert worse is not None
    for team in (("payments-gateway", "pricing"), ("accounts",)):
        waits = defaultdict(list)
        for one in world.records("pull_requests"):
            if one.merged_at and one.repository.split("/")[1] in team and not one.author.endswith("[bot]"):
                first = world.commits[one.commits[0]].authored_at
                index = timeline.quarter_index(int(first.timestamp()))
                waits[index].append((one.merged_at - first).total_seconds() / 3600)
        assert median(waits[worse]) > 1.5 * median(waits[worse + 1])
        assert median(waits[worse]) > 1.5 * median(waits[worse + 2])


def test_the_payments_team_breaks_more_in_the_worse_quarter(world: World) -> None:
    timeline = Timeline(4)
    worse = timeline.worse_quarter
    assert worse is not None
    failed = set(world.planted["failed_deployments"])
    deployed, broken = Counter[bool](), Counter[bool]()
    for name in ("checkout", "payments-gateway", "pricing"):
        for key in world.chains[name]:
            is_worse = timeline.quarter_index(int(world.finishes[key].timestamp())) == worse
            deployed[is_worse] += 1
            broken[is_worse] += key in failed
    assert broken[True] / deployed[True] > 2.5 * broken[False] / deployed[False]


def test_other_teams_do_not_get_worse(world: World) -> None:
    assert {entry.split()[0] for entry in world.planted["got_worse"]} == {
        "checkout",
        "payments-gateway",
        "pricing",
        "accounts",
    }


def test_the_queue_of_the_pool_is_longer_while_a_machine_is_away(world: World) -> None:
    timeline = Timeline(4)
    worse = timeline.worse_quarter
    assert worse is not None
    queues = defaultdict(list)
    for job in world.records("pipeline_jobs"):
        if (job.runner or "").startswith("payments-gateway-runner") and job.started_at >= job.created_at:
            index = timeline.quarter_index(int(job.created_at.timestamp()))
            queues[index].append((job.started_at - job.created_at).total_seconds())
    assert mean(queues[worse]) > 2.5 * mean(queues[3])


def test_every_way_to_merge_is_in_use(world: World) -> None:
    merged = {one.merge_commit_sha for one in world.records("pull_requests")} & set(world.commits)
    ways = defaultdict(set)
    for request in world.records("pull_requests"):
        if request.merge_commit_sha in merged:
            head = world.commits[request.merge_commit_sha]
            patches = {world.commits[sha].patch_id for sha in request.commits}
            way = (
                "merge"
                if len(head.parents) == 2
                else "rebase"
                if len(patches) > 1 and head.patch_id in patches
                else "?"
            )
            ways[way].add(request.repository)
            if way == "?" and len(patches) > 1:
                ways["squash"].add(request.repository)
    assert {"merge", "rebase", "squash"} <= set(ways)
    direct = [c for c in world.commits.values() if c.repository.endswith("/notifications") and len(c.parents) == 1]
    assert direct


def test_a_monorepo_s_commits_tell_which_service_they_touch(world: World) -> None:
    touched = Counter(
        path.split("/")[1]
        for commit in world.commits.values()
        if commit.repository.endswith("/shop")
        for path in commit.files or ()
        if path.startswith("services/")
    )
    assert set(touched) == {"storefront", "cart", "checkout"}


def test_bots_commit_too(world: World) -> None:
    bots = [commit for commit in world.commits.values() if commit.is_bot]
    assert {commit.author for commit in bots} == {"renovate[bot]"}
    assert 0.02 < len(bots) / len(world.commits) < 0.4
