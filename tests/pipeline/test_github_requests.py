"""How many requests a pull takes, counted by the fake: ingestion.md section 5."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.sources.git import GitProvider
from analytics.sources.git_clones import CachedClone
from analytics.sources.limits import Budget
from analytics.sources.port import Collected
from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import World

DAY = 86_400


COMMITS = 10_000


@pytest.fixture
def clone(tmp_path: Path) -> str:
    """Where a history of so many commits lies, one after the other."""
    folder = tmp_path / "clone.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", str(folder)], check=True)
    commits = (
        f"commit refs/heads/main\ncommitter Ada <ada@acme.test> {1_772_000_000 + number} +0000\ndata 4\nstep\n"
        for number in range(COMMITS)
    )
    subprocess.run(["git", "-C", str(folder), "fast-import", "--quiet"], input="".join(commits).encode(), check=True)
    return f"file://{folder}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World(), limit=15_000, remaining=15_000) as server:
        yield server


def test_the_reference_load_takes_at_most_110_requests_beside_jobs_and_one_fetch(
    tmp_path: Path, fake: FakeGitHub, clone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[Path] = []
    fetch = CachedClone._fetch

    def counted(self: CachedClone, folder: Path, kept: str) -> None:
        fetched.append(folder)
        fetch(self, folder, kept)

    monkeypatch.setattr(CachedClone, "_fetch", counted)
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
    assert len(fetched) == 1
    have = landed(settings)
    assert len(have["commits"]) == COMMITS
    assert difference(world, have, jobs=False, without="commits") == []


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
