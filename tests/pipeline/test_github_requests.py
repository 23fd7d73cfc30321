"""How many requests a pull takes, counted by the fake: ingestion.md section 5."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.sources.git import GitProvider
from analytics.sources.limits import Budget
from analytics.sources.port import Collected
from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import World

DAY = 86_400


@pytest.fixture
def clone(tmp_path: Path) -> str:
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "clone.git")], check=True)
    return f"file://{tmp_path / 'clone.git'}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World(), limit=15_000, remaining=15_000) as server:
        yield server


def test_the_reference_load_takes_at_most_110_requests_beside_jobs(
    tmp_path: Path, fake: FakeGitHub, clone: str
) -> None:
    world = fake.world
    shop = world.repository("shop", clone)
    for number in range(5000):
        world.advance(600)
        run = world.start_run(shop)
        run.attempts[0].status, run.attempts[0].conclusion = "completed", "success"
        if number < 2000:
            world.merge(shop, world.open_pull(shop))
        if number < 1000:
            world.set_status(shop, world.deploy(shop), "SUCCESS")
        if number < 300:
            world.close_issue(world.open_issue(shop, ["incident"]))
        if number < 100:
            world.release(shop, f"v{number}")
    world.advance(DAY)
    settings = workspace(tmp_path, fake, jobs_per_pull=0, commits="git")
    assert pulled(settings).error is None
    assert len(fake.asked) <= 110
    assert difference(world, landed(settings), jobs=False, without="commits") == []


def test_a_sync_of_1000_quiet_repositories_is_10_queries_and_conditional_requests(
    tmp_path: Path, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first load would keep GitHub's pace for minutes; that a head which did not move is not asked for is held for
    # one repository (test_a_second_pull_asks_only_whether_anything_changed).
    monkeypatch.setattr(Budget, "_paced_until", lambda self, now, points: now)
    monkeypatch.setattr(GitProvider, "discover", lambda self: Collected({}))
    world = fake.world
    for number in range(1000):
        shop = world.repository(f"service-{number}")
        run = world.start_run(shop)
        world.proceed(run)
        world.proceed(run)
    world.advance(DAY)
    settings = workspace(tmp_path, fake, jobs_per_pull=0, commits="git")
    assert pulled(settings).error is None
    fake.asked.clear()
    assert pulled(settings).error is None
    assert [one.path for one in fake.asked if one.status == 200] == ["/graphql"] * 10
    assert len([one for one in fake.asked if one.status == 304]) == 1000
    assert len(fake.asked) == 1010
