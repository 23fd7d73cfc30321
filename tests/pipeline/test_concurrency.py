"""Several at once on one storage: none corrupts it, none blocks for ever, each says whom it waits for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from analytics.landing import coverage
from analytics.landing import pull as landing_pull
from analytics.landing.store import LandingStore
from analytics.settings import load_settings
from assets.pull import SOURCE_READ, pull_assets
from assets.resources import Workspace
from reports.manifest import verify_pack

REPOSITORY = Path(__file__).resolve().parents[2]


def start(world: Any, *words: str) -> subprocess.Popen[str]:
    code = "import sys; from quarterdeck.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words, "--settings", str(world.settings_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_stages_at_once_end_with_the_values_of_one_after_the_other(world: Any) -> None:
    world.seed()
    world.history(*((f"c{n}", n) for n in range(1, 40)), onto="c0")
    for n in range(1, 40):
        world.deploy(f"d{n}", f"c{n}", n + 0.5)
    world.measure()
    world.command("verify")
    alone = world.measure_landed()
    started = [start(world, *words) for words in (["measure"], ["measure"], ["build"], ["verify"])]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    for file in world.path.glob("data/lake/**/*.parquet"):
        pl.read_parquet(file)
    assert json.dumps(world.metrics().rows) == json.dumps(alone.rows)
    assert list(world.path.glob("data/.tmp/write-*")) == []


def test_two_runs_at_once_both_end_well(world: Any) -> None:
    world.seed()
    world.history(("c1", 1), ("c2", 2), onto="c0")
    world.deploy("d1", "c1", 10)
    world.deploy("d2", "c2", 20)
    world.measure()
    world.command("verify")
    alone = world.measure_landed()
    started = [start(world, "run", "--quarter", "2026-Q1") for _ in range(2)]
    said = [process.communicate(timeout=400) for process in started]
    assert [process.returncode for process in started] == [0, 0], [stderr for _, stderr in said]
    assert json.dumps(world.metrics().rows) == json.dumps(alone.rows)
    # Each says which pack is its own, and both are whole.
    for stdout, _ in said:
        assert verify_pack(Path(stdout.splitlines()[-1])).ok


def test_a_materialisation_in_the_ui_during_a_pull_says_who_pulls_and_the_other_source_goes_on(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings["sources"].append({"name": "more", "type": "files", "path": "./feeds"})
    world.seed()
    world.write()
    settings = load_settings(world.settings_path)
    code = (
        "import sys, time; from pathlib import Path; from analytics.settings import load_settings; "
        "from analytics.landing.store import LandingStore\n"
        "with LandingStore.open(load_settings(Path(sys.argv[1])), 'drops'): print('held', flush=True); time.sleep(600)"
    )
    pulling = subprocess.Popen(
        [sys.executable, "-c", code, str(world.settings_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    # Half a minute is the patience of people, not of tests.
    monkeypatch.setattr(LandingStore, "open", partial(LandingStore.open, deadline_seconds=0.3))
    monkeypatch.setattr(coverage, "open_landing", partial(coverage.open_landing, deadline_seconds=0.3))
    try:
        assert pulling.stdout is not None
        assert pulling.stdout.readline() == b"held\n"
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                pull_assets(settings),
                instance=instance,
                resources={"workspace": Workspace(settings_path=str(settings.settings_path))},
            )
            read = {
                check.asset_key.path[-1]: check
                for check in result.get_asset_check_evaluations()
                if check.check_name == SOURCE_READ
            }
            assert not read["drops"].passed
            assert f"in use by process {pulling.pid}" in str(read["drops"].metadata["error"].value)
            assert read["more"].passed
    finally:
        pulling.kill()
        pulling.communicate()
    assert landing_pull.pull(settings, only=["drops"])[0].error is None
