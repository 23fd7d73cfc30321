"""How many requests a pull takes, counted by the fake: ingestion.md section 5."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.github.oracle import expected
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
    settings = workspace(tmp_path, fake, jobs_per_pull=0)
    assert pulled(settings).error is None
    assert len(fake.asked) <= 110
    assert difference(expected(world, jobs=False), landed(settings)) == []
