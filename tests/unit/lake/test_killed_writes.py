"""A write of several files killed with SIGKILL at each of its steps, and its completion killed too.

A process without threads forks a child for each step: the child counts what it is about to do to files, as Python's
audit events tell, and kills itself at the one it was told.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl
import pytest

from analytics.errors import LakeError
from analytics.lake.folders import Change, FolderLake
from analytics.lake.frames import polars_frame
from analytics.lake.tables import lake_relation, quarters_of, table_digests
from analytics.lake.turns import lake_turn
from analytics.settings import Settings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork are POSIX")

REPOSITORY = Path(__file__).resolve().parents[3]
TABLE = "service_incidents"
# By file, the keys of its rows. Of the first quarter one file stays, one is replaced and one goes.
BEFORE = {
    "quarter=2026-Q1/part-0000.parquet": "abc",
    "quarter=2026-Q1/part-0001.parquet": "de",
    "quarter=2026-Q1/part-0002.parquet": "f",
    "quarter=2026-Q2/part-0000.parquet": "g",
    "quarter=2026-Q2/part-0001.parquet": "h",
}
BUILT = {"q=2026-Q1/0000.parquet": "dX", "q=2026-Q3/0000.parquet": "Y", "q=2026-Q3/0001.parquet": "Z"}
GONE = list(BEFORE)[1:]
AFTER = {"exchange": "XYZabcd", "replace": "XYZd", "replace Q1": "XYZdgh"}
KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path
from analytics.lake.folders import Change, FolderLake
from analytics.lake.port import LakeFile
from analytics.lake.turns import lake_turn
from analytics.settings import Settings

root, how, gone = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
TABLE = "service_incidents"
STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"}

def write(settings, built):
    lake = FolderLake(settings)
    if how == "exchange":
        files = [LakeFile(str(settings.lake_dir / TABLE / name), "", frozenset()) for name in gone]
        lake.exchange(TABLE, built, files)
    else:
        lake.replace(TABLE, built, ["2026-Q1"] if how == "replace Q1" else None)

def complete(settings, built):
    with lake_turn(settings, "measure"):
        pass

def killed(number, work, folder):
    left = number
    def count(event, arguments):
        nonlocal left
        if event in STEPS and (event != "open" or str(arguments[1]).startswith(("w", "x", "a"))):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if child == 0:
        try:
            settings = Settings(organization="A", storage=folder)
            built = folder / ".tmp" / "write-1"
            sys.addaudithook(count)
            work(settings, built)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        return False
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    return True

for number in range(1, 100):
    folder = root / f"killed-{number}"
    shutil.copytree(root / "begun", folder)
    if not killed(number, write, folder):
        folder.rename(root / "undisturbed")
        break
    for second in range(1, 100 if how == "exchange" else 1):
        again = root / f"killed-{number}-{second}"
        shutil.copytree(folder, again)
        if not killed(second, complete, again):
            break
"""


def parquet(path: Path, keys: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"incident_key": [*keys]}).write_parquet(path)


def begin(storage: Path) -> Settings:
    """A lake with the files before, and the built ones in the folder of a write."""
    for name, keys in BEFORE.items():
        parquet(storage / "lake" / TABLE / name, keys)
    for name, keys in BUILT.items():
        parquet(storage / ".tmp" / "write-1" / name, keys)
    (storage / "lake.json").write_text('{"version": 2}\n')
    return Settings(organization="A", storage=storage)


@dataclass(frozen=True)
class Killed:
    """What a write leaves, killed at each of its steps, and its completion at each of its own: storages, all unlike."""

    begun: Path
    undisturbed: Path
    storages: list[Path]
    after: str


def kill_everywhere(root: Path, how: str) -> Killed:
    """Begin a lake, with the built files in the folder of a write, and kill copies of it."""
    begun = root / "begun"
    for name, keys in BEFORE.items():
        parquet(begun / "lake" / TABLE / name, keys)
    for number, (name, keys) in enumerate(BUILT.items()):
        name = f"q=2026-Q1/{number}.parquet" if how == "replace Q1" else name
        parquet(begun / ".tmp" / "write-1" / name, keys)
    (begun / "lake.json").write_text('{"version": 2}\n')
    command = [sys.executable, "-c", KILLER, str(root), how, json.dumps(GONE)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unlike = {re.sub("_pending-[0-9a-f]+", "_pending", str(files_of(one))): one for one in root.glob("killed-*")}
    return Killed(begun, root / "undisturbed", [*unlike.values()], AFTER[how])


@pytest.fixture(scope="module", params=list(AFTER))
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    if request.param == "exchange":
        return request.getfixturevalue("exchanged")  # type: ignore[no-any-return]
    return kill_everywhere(tmp_path_factory.mktemp("killed"), request.param)


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return kill_everywhere(tmp_path_factory.mktemp("exchanged"), "exchange")


def files_of(storage: Path, within: str = "lake") -> dict[str, bytes]:
    """Every file of the lake with its bytes."""
    lake = storage / within
    return {str(path.relative_to(lake)): path.read_bytes() for path in sorted(lake.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        yield con


def keys_read(con: duckdb.DuckDBPyConnection, storage: Path) -> str:
    settings = Settings(organization="A", storage=storage)
    rows = con.execute(f"SELECT incident_key FROM {lake_relation(settings, TABLE)} ORDER BY 1").fetchall()
    return "".join(key for (key,) in rows)


def enter(settings: Settings) -> None:
    """Take a turn, as every stage does."""
    with lake_turn(settings, "measure"):
        pass


def test_after_a_kill_the_table_is_read_as_before_the_write_or_as_after_it_and_so_the_next_stage_leaves_it(
    killed: Killed, con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    plain = {"abcdefgh": files_of(killed.begun), killed.after: files_of(killed.undisturbed)}
    seen = []
    for number, left in enumerate(killed.storages):
        storage = shutil.copytree(left, tmp_path / str(number))
        seen.append(keys_read(con, storage))
        assert seen[-1] in plain, left.name
        enter(Settings(organization="A", storage=storage))
        assert files_of(storage) == plain[seen[-1]], left.name
        assert keys_read(con, storage) == seen[-1]
    assert set(seen) == set(plain)


@pytest.fixture
def half_written(exchanged: Killed, tmp_path: Path) -> Settings:
    """A lake whose write was killed when its first file was in its place, copied without the storage's other files."""
    half = next(
        one
        for one in exchanged.storages
        if any(one.glob("lake/*/_pending-*/change.json"))
        and len([*one.glob("lake/*/_pending-*/*/*.parquet")]) == len(BUILT) - 1
    )
    shutil.copytree(half / "lake", tmp_path / "copy" / "lake")
    shutil.copy(half / "lake.json", tmp_path / "copy")
    return Settings(organization="A", storage=tmp_path / "copy")


def test_every_way_of_reading_sees_the_write_as_a_whole(half_written: Settings, con: duckdb.DuckDBPyConnection) -> None:
    assert "".join(sorted(polars_frame(half_written, TABLE).collect()["incident_key"])) == AFTER["exchange"]
    before = quarters_of(half_written, TABLE), table_digests(half_written, TABLE)
    with lake_turn(half_written, "verify"):
        assert (quarters_of(half_written, TABLE), table_digests(half_written, TABLE)) == before
    assert keys_read(con, half_written.storage) == AFTER["exchange"]


def test_a_reader_that_looks_while_a_write_comes_to_its_end_sees_it_as_a_whole(
    half_written: Settings, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = FolderLake._noted
    looks: list[Path] = []

    def meanwhile(lake: FolderLake, name: str) -> dict[Path, Change]:
        looks.append(half_written.lake_dir)
        if len(looks) == 2:
            # Its files were listed, and only now are the new ones put there.
            with lake_turn(half_written, "build", derives=False):
                pass
        return noted(lake, name)

    monkeypatch.setattr(FolderLake, "_noted", meanwhile)
    assert keys_read(con, half_written.storage) == AFTER["exchange"]
    assert len(looks) == 3


def test_several_tables_are_brought_to_their_end_and_named(
    half_written: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quarterdeck.progress")
    shutil.copytree(half_written.lake_dir / TABLE, half_written.lake_dir / "change_lead")
    with lake_turn(half_written, "build", derives=False):
        pass
    assert not list(half_written.lake_dir.glob("*/_*"))
    assert [record.message for record in caplog.records] == [
        f"build: {table}: did to its end what a killed stage had begun" for table in ("change_lead", TABLE)
    ]


def test_a_table_is_not_written_upon_a_write_that_has_not_come_to_its_end(half_written: Settings) -> None:
    lake = FolderLake(half_written)
    empty = half_written.temp_dir / "empty"
    empty.mkdir(parents=True)
    with pytest.raises(LakeError, match="has not come to its end"):
        lake.replace(TABLE, empty)


ELSEWHERE = "quarter=../../../../elsewhere.parquet"


@pytest.mark.parametrize(
    ("note", "what"),
    [
        (b"", "is no note of a change of this lake"),
        (b'{"format": 1, "coming": [], "goi', "is no note of a change of this lake"),
        (b"[" * 100_000, "is no note of a change of this lake"),
        (b'{"format": 1, "coming": [], "going": [], "more": 1}', "is no note of a change of this lake"),
        (b'{"format": 2, "coming": [], "going": []}', "a note of format 2"),
        (json.dumps({"format": 1, "coming": [], "going": [ELSEWHERE]}).encode(), "none of the table"),
        (b'{"format": 1, "coming": [], "going": ["/etc/passwd"]}', "none of the table"),
        (b'{"format": 1, "coming": [], "going": ["quarter=a/..\\\\x.parquet"]}', "none of the table"),
        (
            json.dumps({"format": 1, "coming": [["q=1/x.parquet", ELSEWHERE]], "going": []}).encode(),
            "none of the table",
        ),
        (b'{"format": 1, "coming": [["../x.parquet", "quarter=1/x.parquet"]], "going": []}', "none of the table"),
    ],
)
def test_a_note_of_something_else_is_refused_and_nothing_is_touched(
    half_written: Settings, note: bytes, what: str
) -> None:
    outside = half_written.storage / "elsewhere.parquet"
    outside.write_bytes(b"mine")
    [path] = half_written.lake_dir.glob("*/_pending-*/change.json")
    path.write_bytes(note)
    held = sorted(half_written.storage.rglob("*.parquet"))
    for read in (lambda: lake_relation(half_written, TABLE), lambda: enter(half_written)):
        with pytest.raises(LakeError, match=what) as caught:
            read()
        assert caught.value.where == str(path)
    assert sorted(half_written.storage.rglob("*.parquet")) == held


def test_a_link_does_not_lead_a_write_out_of_the_table(half_written: Settings) -> None:
    outside = half_written.storage / "outside"
    parquet(outside / "part-0000.parquet", "mine")
    [path] = half_written.lake_dir.glob("*/_pending-*/change.json")
    (half_written.lake_dir / TABLE / "quarter=linked").symlink_to(outside)
    path.write_bytes(b'{"format": 1, "coming": [], "going": ["quarter=linked/part-0000.parquet"]}')
    with pytest.raises(LakeError, match="leads out of the table"):
        enter(half_written)
    (path.parent / "q=linked").symlink_to(outside)
    path.write_bytes(b'{"format": 1, "coming": [["q=linked/part-0000.parquet", "quarter=a/x.parquet"]], "going": []}')
    with pytest.raises(LakeError, match="leads out of the table"):
        enter(half_written)
    assert [file.name for file in outside.iterdir()] == ["part-0000.parquet"]


def test_a_note_whose_files_are_missing_is_refused(half_written: Settings) -> None:
    [path] = half_written.lake_dir.glob("*/_pending-*/change.json")
    path.write_bytes(b'{"format": 1, "coming": [["q=9/x.parquet", "quarter=9/x.parquet"]], "going": []}')
    with pytest.raises(LakeError, match="names a file that is missing"):
        enter(half_written)
