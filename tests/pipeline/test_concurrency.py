"""Several at once on one storage: none corrupts it, none blocks for ever, each says whom it waits for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl

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
    alone = world.measure()
    started = [start(world, *words) for words in (["measure"], ["measure"], ["build"], ["verify"], ["pull"], ["pack"])]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    for file in world.path.glob("data/lake/**/*.parquet"):
        pl.read_parquet(file)
    assert json.dumps(world.metrics().rows) == json.dumps(alone.rows)
    assert list(world.path.glob("data/.tmp/write-*")) == []
