"""Faults of the machine, in every stage: an error for a person, exit code 1, nothing half-written, and then it goes on.

Source: spec architecture.md section 2 (a page per transaction, renames, rebuilt and replaced).
"""

from __future__ import annotations

import os
import pkgutil
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner, Result

from quarterdeck.cli import main
from reports.manifest import verify_pack

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits and signals are POSIX")

STAGES = ("pull", "build", "verify", "measure", "pack")
QUARTER = "2026-Q1"
# What each stage calls when part of its work is written.
MIDDLE = {
    "pull": "analytics.landing.store.LandingStore._insert_page",
    "build": "analytics.lake.folders.FolderLake.replace",
    "verify": "analytics.lake.folders.FolderLake.replace",
    "measure": "analytics.lake.publish._snapshot_id",
    "pack": "reports.pack.write_manifest",
}


@pytest.fixture(scope="module")
def whole(new_world: Callable[[], Any]) -> Any:
    """A world on which every stage was done, and its values."""
    world = new_world()
    world.seed()
    world.history(*((f"c{n}", n) for n in range(1, 40)), onto="c0")
    for n in range(1, 40):
        world.deploy(f"d{n}", f"c{n}", n + 0.5)
    world.incident("i1", 21, resolved=23)
    world.write()
    for stage in STAGES:
        world.command(stage)
    return world


class Folder:
    """A copy of a world that a test may harm."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage = path / "data"

    def run(self, *words: str) -> Result:
        """A command in this process, whatever its exit code."""
        return CliRunner().invoke(main, [*words, "--settings", str(self.path / "quarterdeck.yaml")])

    def values(self) -> str:
        """What `metrics` prints."""
        done = self.run("metrics", "--quarter", QUARTER, "--format", "json")
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def expect_words(self, done: Result, *words: str) -> None:
        """An error for a person: exit code 1, what and what to do, no traceback."""
        assert done.exit_code == 1, (done.exit_code, done.stdout, done.stderr)
        assert "Traceback" not in done.output
        assert "unexpected" not in done.stderr, done.stderr
        for word in words:
            assert word in done.stderr, done.stderr

    def expect_whole(self) -> None:
        """Nothing that a reader can see is half-written."""
        for file in self.storage.glob("lake/**/*"):
            if file.is_file():
                pl.read_parquet(file)
        for file in self.storage.glob("landing/*.duckdb"):
            with duckdb.connect(file, read_only=True) as con:
                ((landed, told),) = con.execute(
                    "SELECT (SELECT count(*) FROM items), (SELECT coalesce(sum(items), 0) FROM pages)"
                ).fetchall()
                assert landed == told
        published = self.storage / "analytics.duckdb"
        if published.exists():
            with duckdb.connect(published, read_only=True) as con:
                assert con.execute("SELECT count(*) > 0 FROM metric_values").fetchall() == [(True,)]
        for pack in self.storage.glob("packs/2026*"):
            assert verify_pack(pack).ok, pack

    def expect_recovery(self, values: str, stage: str = "pull") -> None:
        """The next run of a stage and of those behind it goes well and gives the same values.

        A pack takes longer than all others together: it is made again only where its making was disturbed.
        """
        for name in STAGES[STAGES.index(stage) : 5 if stage == "pack" else 4]:
            done = self.run(name)
            assert done.exit_code == 0, (name, done.stderr)
        self.expect_whole()
        assert self.values() == values


@pytest.fixture(scope="module")
def values(whole: Any) -> str:
    """The values of the undisturbed world."""
    return str(whole.command("metrics", "--quarter", QUARTER, "--format", "json"))


@pytest.fixture
def folder(whole: Any, tmp_path: Path) -> Folder:
    """A copy of the whole world."""
    return Folder(Path(shutil.copytree(whole.path, tmp_path / "copy")))


@pytest.fixture
def before(folder: Folder) -> Callable[[str], Folder]:
    """Makes the copy one on which a stage has work to do: its results, and those after it, are gone."""

    def make(stage: str) -> Folder:
        gone = {
            "pull": ("landing", "lake", "lake.json", "analytics.duckdb", "packs"),
            "build": ("lake", "lake.json", "analytics.duckdb", "packs"),
            "verify": ("analytics.duckdb", "packs"),
            "measure": ("analytics.duckdb", "packs"),
            "pack": ("packs",),
        }[stage]
        for name in gone:
            path = folder.storage / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return folder

    return make


# SIGTERM


@pytest.mark.parametrize("stage", STAGES)
def test_sigterm_in_a_stage_ends_it_with_words_and_nothing_half_written(
    before: Callable[[str], Folder], values: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = before(stage)
    original = pkgutil.resolve_name(MIDDLE[stage])

    def hit(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(MIDDLE[stage], hit)
        done = folder.run(stage)
    folder.expect_words(done, "ended by SIGTERM", "Run the same command again")
    folder.expect_whole()
    folder.expect_recovery(values, stage)


def test_sigterm_in_a_run_ends_it_as_in_a_stage(
    before: Callable[[str], Folder], values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = before("build")
    original = pkgutil.resolve_name(MIDDLE["build"])

    def hit(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(MIDDLE["build"], hit)
        done = folder.run("run", "--quarter", QUARTER)
    folder.expect_words(done, "ended by SIGTERM", "Run the same command again")
    folder.expect_whole()
    folder.expect_recovery(values)


# Disk full


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond a limit, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_ends_a_stage_with_words_and_nothing_half_written(
    before: Callable[[str], Folder], values: str, stage: str
) -> None:
    folder = before(stage)
    with small_files(700):
        done = folder.run(stage)
    folder.expect_words(done, "File too large" if stage == "pull" else "no room left")
    folder.expect_whole()
    folder.expect_recovery(values, stage)


def test_a_landing_file_that_cannot_grow_keeps_what_it_holds(folder: Folder) -> None:
    landing = folder.storage / "landing" / "drops.duckdb"
    drill = '{"service": "s%d", "performed_at": "2026-01-01T00:00:00Z", "kind": "rollback", "outcome": "success"}\n'
    (folder.path / "feeds" / "drills.jsonl").write_text("".join(drill % n for n in range(20_000)))
    with small_files(landing.stat().st_size // 2):
        done = folder.run("pull")
    folder.expect_words(done, "File too large")
    folder.expect_whole()
    assert folder.run("pull").exit_code == 0
    with duckdb.connect(landing, read_only=True) as con:
        assert con.execute("SELECT count(*) FROM items WHERE entity = 'drills'").fetchall() == [(20_000,)]


# Read-only storage


@contextmanager
def nobody() -> Iterator[None]:
    """Root may write everything: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("stage", ["pull", "measure", "pack"])
def test_a_read_only_storage_is_named(before: Callable[[str], Folder], stage: str, values: str) -> None:
    folder = before(stage)
    modes = {path: path.stat().st_mode for path in [folder.storage, *folder.storage.rglob("*")]}
    parents = [path for path in folder.path.parents if path.stat().st_mode & 0o005 != 0o005]
    kept = {path: path.stat().st_mode for path in [*parents, folder.path]}
    try:
        for path in kept:
            path.chmod(0o755)
        for path, mode in modes.items():
            path.chmod(mode & ~0o222 | 0o444)
        with nobody():
            done = folder.run(stage)
    finally:
        for path, mode in {**modes, **kept}.items():
            path.chmod(mode)
    folder.expect_words(done, "data", "ermi" if stage == "pull" else "cannot be written (Permission denied)")
    folder.expect_recovery(values, stage)


# Damaged files


@pytest.mark.parametrize(
    ("table", "stage"),
    [("service_deployments", "measure"), ("run_attempts", "verify"), ("findings", "verify")],
)
def test_a_damaged_table_is_named_and_made_again(folder: Folder, values: str, table: str, stage: str) -> None:
    files = list(folder.storage.glob(f"lake/{table}/*/*.parquet"))
    if not files:
        target = folder.storage / "lake" / table / "quarter=undated" / "part-0000.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        files = [target]
    files[0].write_bytes(b"PAR1" + b"\0" * 100)
    done = folder.run(stage)
    folder.expect_words(done, "a file is damaged", str(files[0]))
    files[0].unlink()
    folder.expect_recovery(values, "build")


def test_a_damaged_published_database_is_made_again(folder: Folder, values: str) -> None:
    (folder.storage / "analytics.duckdb").write_bytes(b"\0" * 5000)
    folder.expect_words(folder.run("metrics", "--quarter", QUARTER), "analytics.duckdb", "quarterdeck measure")
    folder.expect_recovery(values, "measure")


def test_a_damaged_landing_file_is_named_and_restored_by_a_pull(folder: Folder, values: str) -> None:
    landing = folder.storage / "landing" / "drops.duckdb"
    data = bytearray(landing.read_bytes())
    data[:8192] = b"\0" * 8192
    landing.write_bytes(data)
    for stage in ("pull", "build", "reprocess"):
        folder.expect_words(folder.run(stage), str(landing), "Move the file away and pull again")
    # What was published is untouched, and readable.
    assert folder.values() == values
    landing.rename(landing.with_suffix(".damaged"))
    folder.expect_recovery(values)


def test_a_damaged_landing_file_costs_no_other_source_anything(folder: Folder) -> None:
    settings = folder.path / "quarterdeck.yaml"
    settings.write_text(
        settings.read_text().replace('"sources": [', '"sources": [{"name": "b", "type": "files", "path": "./b"}, ')
    )
    (folder.path / "b").mkdir()
    drill = '{"service": "s", "performed_at": "2026-01-0%dT00:00:00Z", "kind": "rollback", "outcome": "success"}\n'
    (folder.path / "b" / "drills.jsonl").write_text(drill % 1)
    assert folder.run("pull").exit_code == 0
    (folder.storage / "landing" / "drops.duckdb").write_bytes(b"\0" * 9000)
    (folder.path / "b" / "drills.jsonl").write_text(drill % 1 + drill % 2)
    folder.expect_words(folder.run("pull"), "source drops", "cannot be opened")
    with duckdb.connect(folder.storage / "landing" / "b.duckdb", read_only=True) as con:
        assert con.execute("SELECT count(*) FROM items").fetchall() == [(2,)]


# Memory


def test_too_little_memory_for_a_measure_step_is_an_error_in_words(folder: Folder, values: str) -> None:
    settings = folder.path / "quarterdeck.yaml"
    text = settings.read_text()
    settings.write_text(
        text.replace('"threads": 1', '"threads": 1, "memory_limit": "1MB", "max_temp_directory_size": "1KB"')
    )
    folder.expect_words(folder.run("measure"), "engine.")
    # The values of before are still what readers see.
    settings.write_text(text)
    assert folder.values() == values
    folder.expect_recovery(values, "measure")


# The clock


def test_a_clock_that_was_set_back_loses_nothing(whole: Any, folder: Folder, values: str) -> None:
    settings = folder.path / "quarterdeck.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("2026-04-10T00:00:00Z", "2026-01-06T00:00:00Z"))
    for stage in STAGES[:4]:
        assert folder.run(stage).exit_code == 0
    early = folder.run("metrics", "--quarter", QUARTER, "--format", "json").stdout
    assert early != values
    settings.write_text(text)
    folder.expect_recovery(values)
