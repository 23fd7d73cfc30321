"""Shards of one organisation pulled by processes of their own, against the fake GitHub; what is built is as ever."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest

from analytics.delivery.build import build
from analytics.landing.shards import Shard, landing_path, shard_number
from analytics.settings import Settings, load_settings
from assets.pull import landing_key
from quarterdeck.definitions import build_definitions
from sensors.instance import SETTINGS_VARIABLE, open_instance
from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import World

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400
NAMES = ("shop", "till", "cart", "mail", "search")
# What a build notes of its records for the next one: lines of the landing files that they stood in, among other things.
OWN = {"build_inputs", "build_note", "attempt_inputs", "incident_inputs"}


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


class Meeting:
    """Both shards must be under way before either is answered about its repositories; so they are read side by side."""

    def __init__(self) -> None:
        self._both = threading.Barrier(2, timeout=120)
        self._seen: set[int] = set()
        self._lock = threading.Lock()
        self.met = False

    def __call__(self, path: str) -> None:
        found = re.match(r"/repositories/(\d+)/", path)
        if found is None:
            return
        shard = shard_number(found[1], 2)
        with self._lock:
            is_first = shard not in self._seen
            self._seen.add(shard)
        if is_first:
            self._both.wait()
            self.met = True


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
    fake.on_arrival = meeting = Meeting()
    fake.asked.clear()
    started = [
        start(cut, "pull", "--source", "hub", "--shard", "1"),
        start(cut, "pull", "--source", "hub", "--shard", "2"),
        start(cut, "build"),
    ]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert meeting.met
    # The organisation was looked at once, for both.
    assert len([one for one in fake.asked if "login" in one.query]) == 1
    build(cut)
    assert difference(fake.world, landed(cut)) == []
    have, wanted = tables(cut), tables(whole)
    assert have.keys() == wanted.keys()
    for name in wanted.keys() - OWN:
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


# Dagster's executors


def refresh_job() -> dg.JobDefinition:
    """As a process that Dagster starts finds it: by the settings that the environment names."""
    return build_definitions().resolve_job_def("refresh")


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_the_executor_that_the_settings_choose_pulls_the_shards(
    tmp_path: Path, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    settings = workspace(tmp_path, fake, shards=2)
    document = json.loads(settings.settings_path.read_text(encoding="utf-8"))
    chosen = {"executor": {"type": executor, "config": {"max_concurrent": 2} if executor == "multiprocess" else {}}}
    settings.settings_path.write_text(json.dumps(document | chosen), encoding="utf-8")
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings.settings_path))
    meeting = Meeting()
    if executor == "multiprocess":
        fake.on_arrival = meeting
    with open_instance(load_settings(settings.settings_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("pull_hub", 2)
        with dg.execute_job(
            dg.reconstructable(refresh_job),
            instance,
            asset_selection=[landing_key("hub", Shard(number, 2)) for number in (1, 2)],
        ) as result:
            assert result.success
            landed_in = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
        assert landed_in == {"1", "2"}
        pool = instance.event_log_storage.get_concurrency_info("pull_hub")
        assert (pool.slot_count, pool.active_slot_count) == (2, 0)
    assert meeting.met == (executor == "multiprocess")
    assert difference(fake.world, landed(settings)) == []
