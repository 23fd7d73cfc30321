"""Shards of one organisation pulled by processes of their own, against the fake GitHub; what is built is as ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from analytics.delivery.build import build
from analytics.landing.shards import Shard, landing_path, shard_number
from analytics.settings import Settings
from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import World

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400
NAMES = ("shop", "till", "cart", "mail", "search")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World()) as server:
        fill(server.world)
        yield server


def fill(world: World) -> None:
    """Five repositories, in both of two shards, with something in each list."""
    for name in NAMES:
        at = world.repository(name)
        world.push(at)
        world.advance(60)
        world.merge(at, world.open_pull(at))
        run = world.start_run(at)
        world.proceed(run)
        world.proceed(run)
        world.set_status(at, world.deploy(at), "SUCCESS")
        world.open_issue(at, ["incident"])
        world.release(at, "v1")
        world.tag(at, "v1")
    world.advance(DAY)
    assert {shard_number(str(one), 2) for one in world.repositories} == {1, 2}


def start(settings: Settings, *words: str) -> subprocess.Popen[str]:
    code = "import sys; from quarterdeck.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words, "--settings", str(settings.settings_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def tables(settings: Settings) -> dict[str, list[Any]]:
    """Every row of every table of the lake, but for where in its list a record stood."""
    found: dict[str, list[Any]] = {}
    for folder in sorted(settings.lake_dir.iterdir()):
        rows = [row for file in sorted(folder.rglob("*.parquet")) for row in pl.read_parquet(file).to_dicts()]
        for row in rows:
            row.pop("line", None)
        found[folder.name] = sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)
    return found


def test_two_processes_pull_two_shards_at_once_while_a_third_builds_and_the_facts_are_those_of_one_pull(
    tmp_path: Path, fake: FakeGitHub
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = workspace(tmp_path / "whole", fake)
    assert pulled(whole).error is None
    build(whole)
    cut = workspace(tmp_path / "cut", fake, shards=2)
    started = [
        start(cut, "pull", "--source", "hub", "--shard", "1"),
        start(cut, "pull", "--source", "hub", "--shard", "2"),
        start(cut, "build"),
    ]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    build(cut)
    assert difference(fake.world, landed(cut)) == []
    have, wanted = tables(cut), tables(whole)
    assert have.keys() == wanted.keys()
    for name in wanted.keys() - {"build_inputs"}:
        assert have[name] == wanted[name], name
    assert len(wanted["deployments"]) == len(NAMES)


def test_a_shard_whose_process_is_killed_goes_on_and_leaves_the_other_as_it_is(
    tmp_path: Path, fake: FakeGitHub
) -> None:
    settings = workspace(tmp_path, fake, shards=2)
    first = start(settings, "pull", "--source", "hub", "--shard", "2")
    _, said = first.communicate(timeout=300)
    assert first.returncode == 0, said
    other = landing_path(settings, "hub", Shard(2, 2))
    before = other.read_bytes()
    already = len(fake.asked)
    killed = start(settings, "pull", "--source", "hub", "--shard", "1")
    fake.on_request = lambda _: os.kill(killed.pid, signal.SIGKILL) if len(fake.asked) == already + 12 else None
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    fake.on_request = None
    assert other.read_bytes() == before
    with duckdb.connect(str(landing_path(settings, "hub", Shard(1, 2)))) as con:
        ((some,),) = con.execute("SELECT count(*) FROM pages").fetchall()
    assert some > 0
    assert pulled(settings).error is None
    assert difference(fake.world, landed(settings)) == []


def test_cut_anew_a_source_asks_no_more_than_one_that_stays_as_it_is(tmp_path: Path, fake: FakeGitHub) -> None:
    asked: dict[str, int] = {}
    first, second, *_ = fake.world.repositories.values()
    # A run that is not over is asked for by its id, wherever what is known of it lies now.
    running = fake.world.start_run(first)
    for name in ("stays", "cut"):
        (tmp_path / name).mkdir()
        assert pulled(workspace(tmp_path / name, fake)).error is None
    fake.world.proceed(running)
    fake.world.proceed(running)
    fake.world.merge(second, fake.world.open_pull(second))
    fake.world.advance(DAY)
    for name, shards in (("stays", 1), ("cut", 3)):
        fake.asked.clear()
        settings = workspace(tmp_path / name, fake, shards=shards)
        assert pulled(settings).error is None
        asked[name] = len(fake.asked)
        assert difference(fake.world, landed(settings)) == []
    assert asked["cut"] == asked["stays"]
