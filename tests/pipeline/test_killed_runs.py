"""`quarterdeck run` killed with SIGKILL at twenty moments, and run again.

Source: spec architecture.md section 2 (a page per transaction, renames, rebuilt and replaced). The moments are drawn
from a seed, three or four in each part of a run, and follow what the run says of itself, so that a slow machine kills
at the same places as a fast one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

from quarterdeck.cli import main
from reports.manifest import verify_pack
from reports.shelf import names_on_shelf

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="SIGKILL and process groups are POSIX")]

ROOT = Path(__file__).resolve().parents[2]
QUARTERS = ("2026-Q2", "2026-Q3")
# Each part begins with the first progress line of its name; before it Python and Dagster are loaded.
PARTS = ("load", "pull", "build", "verify", "measure", "pack")
STORAGES = 4
GIVE_UP_SECONDS = 600
LOOK_SECONDS = 0.01


def command(folder: Path, *words: str) -> list[str]:
    """The command line of a quarterdeck command on a sample folder."""
    code = "import sys; from quarterdeck.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *words, "--settings", str(folder / "quarterdeck.yaml")]


def finish(folder: Path, *words: str) -> str:
    """Run a command to its end; its stdout."""
    done = subprocess.run(command(folder, *words), cwd=ROOT, capture_output=True, text=True, timeout=GIVE_UP_SECONDS)
    assert done.returncode == 0, f"quarterdeck {' '.join(words)}: exit {done.returncode}\n{done.stderr}"
    return done.stdout


class StartedRun:
    """A `quarterdeck run` in a process group of its own, whose progress is followed in a file."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "progress.log"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                command(folder, "run"), cwd=ROOT, stdout=file, stderr=file, start_new_session=True
            )

    def __enter__(self) -> StartedRun:
        return self

    def __exit__(self, *error: object) -> None:
        """A test that fails leaves nothing running."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def await_part(self, part: str) -> bool:
        """Wait for the first word of a part; False when the run ended well before it."""
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while part != "load" and f"\n{part}: " not in self.log.read_text(encoding="utf-8"):
            if self.process.poll() is not None:
                self.wait()
                return False
            assert time.monotonic() < give_up_at, f"{part} never began:\n{self.log.read_text(encoding='utf-8')}"
            time.sleep(LOOK_SECONDS)
        return True

    def kill_after(self, seconds: float) -> bool:
        """Kill the whole group some seconds from now; False when the run ended by itself before."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL

    def wait(self) -> None:
        """Let it end, which must go well."""
        assert self.process.wait(GIVE_UP_SECONDS) == 0, self.log.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed: the sample it read, how long its parts took, and what it measured."""

    sample: Path
    seconds: dict[str, float]
    values: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """One sample organisation, run once without disturbance."""
    sample = tmp_path_factory.mktemp("sample") / "sample"
    finish(sample, "sample", str(sample), "--services", "2", "--quarters", "2", "--seed", "7")
    folder = shutil.copytree(sample, sample.parent / "undisturbed")
    began = {"load": time.monotonic()}
    with StartedRun(folder) as run:
        for part in PARTS[1:]:
            assert run.await_part(part), run.log.read_text(encoding="utf-8")
            began[part] = time.monotonic()
        run.wait()
    ends = [*(began[part] for part in PARTS[1:]), time.monotonic()]
    seconds = {part: end - began[part] for part, end in zip(PARTS, ends, strict=True)}
    return Undisturbed(sample, seconds, measured(folder))


def measured(folder: Path) -> dict[str, str]:
    """What `metrics` prints for each quarter, byte for byte."""
    return {quarter: printed(folder, "metrics", "--quarter", quarter, "--format", "json") for quarter in QUARTERS}


def printed(folder: Path, *words: str) -> str:
    """What a command prints in this process."""
    done = CliRunner().invoke(main, [*words, "--settings", str(folder / "quarterdeck.yaml")])
    assert done.exit_code == 0, done.output
    return done.stdout


def expect_nothing_half_written(storage: Path) -> None:
    """Everything that a reader can see is whole."""
    for file in storage.glob("lake/**/*"):
        if file.is_file() and file.name != "change.json":  # what the next stage does to its end
            assert file.name.endswith(".parquet"), f"{file} is no part of a table"
            pl.read_parquet(file)
    for file in storage.glob("landing/*.duckdb"):
        with duckdb.connect(file, read_only=True) as con:
            # The file is made before its tables are, in one transaction.
            if con.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]:
                continue
            ((landed, told),) = con.execute(
                "SELECT (SELECT count(*) FROM items), (SELECT coalesce(sum(items), 0) FROM pages)"
            ).fetchall()
            assert landed == told, "a page was landed in part"
    published = storage / "analytics.duckdb"
    if published.exists():
        assert not published.with_name("analytics.duckdb.wal").exists()
        with duckdb.connect(published, read_only=True) as con:
            ((values,),) = con.execute("SELECT count(*) FROM metric_values").fetchall()
            assert values > 0
    for name in names_on_shelf(storage / "packs"):
        assert verify_pack(storage / "packs" / str(name)).ok, f"{name} does not verify"
    outside = [
        path for path in storage.rglob("*.tmp*") if path.relative_to(storage).parts[0] not in (".tmp", "dagster")
    ]
    assert not outside


def kill_moments(seed: int) -> list[tuple[str, float]]:
    """A moment in each part of a run but one, which is another for each seed, as a share of the part."""
    dice = random.Random(seed)
    return [(part, dice.random()) for part in PARTS if part != PARTS[seed - 1]]


def killed_in(folder: Path, part: str, seconds: float) -> bool:
    """Start runs until one was killed some seconds into a part, or sooner where it would be done by then.

    What a killed run has landed is not landed again, so that the next one is faster.
    """
    for halvings in range(10):
        with StartedRun(folder) as run:
            if run.await_part(part) and run.kill_after(seconds / 2**halvings):
                return True
    return False


@pytest.mark.parametrize("seed", range(1, STORAGES + 1))
def test_a_run_killed_again_and_again_measures_the_same_in_the_end(
    undisturbed: Undisturbed, seed: int, tmp_path: Path
) -> None:
    folder = shutil.copytree(undisturbed.sample, tmp_path / "killed")
    storage = folder / "quarterdeck-data"
    for part, share in kill_moments(seed):
        assert killed_in(folder, part, share * undisturbed.seconds[part]), f"no run could be killed in {part}"
        expect_nothing_half_written(storage)
    # No lock is left that the next one would wait for in vain.
    finish(folder, "run")
    expect_nothing_half_written(storage)
    assert not list(storage.glob("lake/*/_pending-*"))
    assert measured(folder) == undisturbed.values
