"""Worlds of a size: what loads are measured against."""

from __future__ import annotations

from tests.fakes.github.world import Repository, World

HOUR = 3600


def build_reference_world(
    commits: int = 10_000,
    pull_requests: int = 2_000,
    runs: int = 5_000,
    deployments: int = 1_000,
    incidents: int = 300,
    releases: int = 100,
    repositories: int = 1,
) -> World:
    """A world that holds so many of each, spread evenly over its repositories; the clock stands after the last.

    Merged pull requests are commits too, and are counted as such. A tenth of the runs fail and are run again.
    """
    world = World()
    made = [world.repository(f"service-{number}") for number in range(repositories)]
    for number, at in enumerate(made):
        mine = [_share(whole, number, repositories) for whole in (commits, pull_requests, runs)]
        _develop(world, at, *mine)
    for number in range(deployments):
        at = made[number % repositories]
        world.advance(HOUR)
        deployment = world.deploy(at, sha=at.head)
        world.set_status(at, deployment, "IN_PROGRESS")
        world.advance(300)
        world.set_status(at, deployment, "FAILURE" if number % 20 == 19 else "SUCCESS")
    for number in range(incidents):
        issue = world.open_issue(made[number % repositories], ["incident"])
        world.advance(HOUR)
        world.close_issue(issue)
    for number in range(releases):
        world.upload(world.release(made[number % repositories], f"v{number}"), "service.tar.gz")
        world.advance(HOUR)
    world.advance(24 * HOUR)
    return world


def _share(whole: int, number: int, of: int) -> int:
    return whole // of + (number < whole % of)


def _develop(world: World, at: Repository, commits: int, pulls: int, runs: int) -> None:
    for number in range(pulls):
        pull = world.open_pull(at, commits=3)
        world.advance(HOUR)
        world.review(pull, "APPROVED", "grace")
        if number < commits:
            world.merge(at, pull)
    for _ in range(commits - pulls):
        world.advance(60)
        world.push(at)
    for number in range(runs):
        run = world.start_run(at, sha=at.head)
        world.advance(60)
        world.proceed(run)
        world.advance(240)
        fails = number % 10 == 9
        world.proceed(run, "failure" if fails else "success")
        if fails:
            world.run_again(run)
            world.proceed(run)
            world.advance(120)
            world.proceed(run)
