"""A lake in an object store: written whole, read by manifests, and nothing half-written or hostile is read."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.engine import connect
from analytics.errors import LakeError
from analytics.faults import in_words
from analytics.lake import manifests
from analytics.lake.frames import lake_files
from analytics.lake.manifests import ObjectLake
from analytics.lake.tables import (
    clear_table,
    create_views,
    lake_place,
    lake_relation,
    place_table,
    quarters_of,
    scratch,
    write_partitions,
)
from analytics.lake.turns import lake_turn
from analytics.lake.version import LAKE_VERSION, lake_version, note_begun, note_lake_version
from analytics.lake_files import name_of
from analytics.object_store import ObjectStore, Stored
from analytics.settings import Settings, load_settings
from tests.fakes.s3 import KEY, SECRET
from tests.unit.lake.incident_table import (
    TABLE,
    MakeSettings,
    calendar,
    incidents,
    keys,
    objects,
    store_of,
    write,
    write_quarter,
)

if TYPE_CHECKING:
    import s3fs

REPOSITORY = Path(__file__).resolve().parents[3]

# Reading and writing


@pytest.mark.parametrize("prefix", ["lake", "odd name é/%20 it's+&"])
def test_a_table_is_read_as_it_was_written(s3_settings: MakeSettings, prefix: str) -> None:
    settings = s3_settings(prefix)
    assert keys(settings) == []
    write(settings, "2026-01-05", "2026-04-05", "1971-01-01")
    assert keys(settings) == ["i0", "i1", "i2"]
    assert quarters_of(settings, TABLE) == ["2026-Q1", "2026-Q2", "undated"]
    write_quarter(settings, "2026-Q2", "2026-04-05", "n")
    assert keys(settings) == ["i0", "i2", "n0"]
    write(settings, "2026-01-05", key="w")
    assert keys(settings) == ["w0"]
    assert [url.rsplit("/", 2)[:2] for url in lake_files(settings, TABLE)] == [
        [lake_place(settings, TABLE), "quarter=2026-Q1"]
    ]
    clear_table(settings, TABLE)
    assert keys(settings) == []


def test_a_quarter_that_was_never_written_whole_can_be_written_alone(settings: Settings) -> None:
    write_quarter(settings, "2026-Q2", "2026-04-05", "n")
    write_quarter(settings, "2026-Q1", "2026-01-05", "m")
    assert keys(settings) == ["m0", "n0"]
    with connect(settings) as con:
        calendar(con)
        write_partitions(con, settings, TABLE, f"{incidents('2026-04-05')} LIMIT 0", ["2026-Q2"])
    assert keys(settings) == ["m0"]


def test_quarters_that_are_written_together_are_seen_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(settings, "2026-01-05", "2026-04-05", "1971-01-01")
    put: list[str] = []
    write_object = ObjectStore.write
    monkeypatch.setattr(ObjectStore, "write", lambda *given: put.append(given[1]) or write_object(*given))
    with connect(settings) as con:
        calendar(con)
        moved = incidents("2026-04-05", "2026-04-05", key="n")
        write_partitions(con, settings, TABLE, moved, ["2026-Q1", "2026-Q2"])
    assert len(put) == 1
    assert keys(settings) == ["i2", "n0", "n1"]


def test_whoever_asked_before_a_write_reads_the_old_rows_for_another_day(
    s3_settings: MakeSettings, s3: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = s3_settings()
    write(settings, "2026-01-05", "2026-04-05")
    asked = lake_relation(settings, TABLE)
    write_quarter(settings, "2026-Q1", "2026-01-05", "n")
    in_between = lake_relation(settings, TABLE)
    write(settings, "2026-01-05", key="w")
    assert keys(settings, asked) == ["i0", "i1"]
    assert keys(settings, in_between) == ["i1", "n0"]
    monkeypatch.setattr(manifests, "KEPT_FOR", timedelta(seconds=-1))  # a day later
    write(settings, "2026-04-05", key="x")
    with pytest.raises(duckdb.Error, match="it is gone") as caught:
        keys(settings, in_between)
    fault = in_words(caught.value)
    assert fault is not None
    assert fault.what.startswith("s3://")
    assert fault.what.endswith(".parquet: cannot be read: it is gone")
    assert str(fault.fix).startswith("Run the stage again.")
    assert keys(settings) == ["x0"]
    assert len(objects(settings, s3)) == 2  # the manifest and its file


def test_what_is_old_and_was_replaced_just_now_is_still_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ObjectStore.list

    def two_days_older(self: ObjectStore, folder: str) -> dict[str, Stored]:
        long_ago = datetime.now(UTC) - timedelta(days=2)
        return {name: Stored(one.size, long_ago) for name, one in listed(self, folder).items()}

    monkeypatch.setattr(ObjectStore, "list", two_days_older)
    write(settings, "2026-01-05", "2026-04-05")
    write_quarter(settings, "2026-Q2", "2026-04-05", "n")
    asked = [lake_relation(settings, TABLE)]
    write_quarter(settings, "2026-Q1", "2026-01-05", "n")
    asked.append(lake_relation(settings, TABLE))
    write(settings, "2026-01-05", key="w")
    write(settings, "2026-01-05", key="x")
    assert [keys(settings, relation) for relation in asked] == [["i0", "n0"], ["n0", "n0"]]
    assert keys(settings) == ["x0"]


def test_a_column_that_an_earlier_version_did_not_write_is_null(settings: Settings) -> None:
    write(settings, "2026-01-05", "2026-04-05")
    with scratch(settings) as folder:
        built = folder / "quarter=2026-Q2"
        built.mkdir()
        pl.DataFrame({"incident_key": ["old"], "service": ["s"]}).write_parquet(built / "data.parquet")
        place_table(settings, TABLE, folder, ["2026-Q2"])
    with connect(settings) as con:
        found = con.execute(f"SELECT incident_key, opened_day FROM {lake_relation(settings, TABLE)} ORDER BY 1")
        assert found.fetchall() == [("i0", datetime(2026, 1, 5).date()), ("old", None)]


def test_files_of_one_write_have_the_same_columns(settings: Settings) -> None:
    with scratch(settings) as folder:
        (folder / "quarter=undated").mkdir()
        for name in ("service", "url"):
            pl.DataFrame({name: ["s"]}).write_parquet(folder / "quarter=undated" / f"{name}.parquet")
        with pytest.raises(ValueError, match="different columns"):
            place_table(settings, TABLE, folder)


def test_many_threads_read_one_file(s3_settings: MakeSettings) -> None:
    settings = s3_settings()
    settings = settings.model_copy(update={"engine": settings.engine.model_copy(update={"threads": 4})})
    with scratch(settings) as folder:
        (folder / "quarter=undated").mkdir()
        frame = pl.DataFrame({"incident_key": [str(number) for number in range(100_000)]})
        frame = frame.with_columns(service=pl.lit("s"), restore_us=pl.int_range(100_000))
        frame.write_parquet(folder / "quarter=undated" / "data.parquet", row_group_size=5_000)
        place_table(settings, TABLE, folder)
    with connect(settings) as con:
        query = f"SELECT count(DISTINCT incident_key), sum(restore_us) FROM {lake_relation(settings, TABLE)}"
        assert con.execute(query).fetchall() == [(100_000, 4_999_950_000)]


def test_what_was_read_is_not_asked_for_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(settings, "2026-01-05")
    asked: list[str] = []
    read_range = ObjectStore.read_range

    def counted(self: ObjectStore, name: str, start: int, end: int) -> bytes:
        asked.append(name)
        return read_range(self, name, start, end)

    monkeypatch.setattr(ObjectStore, "read_range", counted)
    with connect(settings) as con:
        create_views(con, settings, TABLE, "services")
        asked_by = []
        for _ in range(3):
            assert con.execute(f"SELECT incident_key FROM {TABLE}").fetchall() == [("i0",)]
            asked_by.append(len(asked))
    assert asked_by == [asked_by[0]] * 3
    assert asked


def test_the_version_is_noted_beside_the_tables(s3_settings: MakeSettings) -> None:
    settings = s3_settings()
    assert lake_version(settings) is None
    write(settings, "2026-01-05")
    assert lake_version(settings) == 1
    note_lake_version(settings)
    with lake_turn(settings, "measure"):
        assert lake_version(settings) == LAKE_VERSION
    note_begun(settings, "build")
    with (
        pytest.raises(LakeError, match=r"s3://.*: the last build has not come to its end"),
        lake_turn(settings, "measure"),
    ):
        raise AssertionError("derived from tables of two states")
    store_of(settings).write("lake.json", b"[]")
    with pytest.raises(LakeError, match=r"s3://.*/lake/lake\.json: does not say"):
        lake_version(settings)


def test_credentials_and_address_come_from_the_environment_as_for_aws(
    s3_settings: MakeSettings, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(f"organization: A\nstorage: {s3_settings().lake_url}\n", encoding="utf-8")
    for name, value in (("ACCESS_KEY_ID", KEY), ("SECRET_ACCESS_KEY", SECRET), ("ENDPOINT_URL", s3_endpoint)):
        monkeypatch.setenv(f"AWS_{name}", value)
    settings = load_settings(path)
    write(settings, "2026-01-05")
    assert keys(settings) == ["i0"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(LakeError, match="no answer"):
        lake_relation(settings, TABLE)


# Writers that fail, are killed, or meet

WRITER = """
import os, signal, sys, time
from pathlib import Path
from analytics.doctor import Finding, examine
from analytics.engine import connect
from analytics.lake.tables import write_partitions, write_table
from analytics.object_store import ObjectStore
from analytics.settings import load_settings

settings = load_settings(Path(sys.argv[1]))

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def killed_after_one(self, files):
    name, path = sorted(files.items())[0]
    upload(self, {name: path})
    killed()

upload = ObjectStore.upload
if sys.argv[2] == "before the manifest":
    ObjectStore.write = killed
if sys.argv[2] == "between uploads":
    ObjectStore.upload = killed_after_one
with connect(settings) as con:
    con.execute("CREATE TABLE calendar (day DATE, quarter VARCHAR, month VARCHAR, iso_week VARCHAR)")
    con.execute("INSERT INTO calendar VALUES ('2026-01-05', '2026-Q1', '', ''), ('2026-04-05', '2026-Q2', '', '')")
    if len(sys.argv) == 3:
        write_table(con, settings, "service_incidents", "SELECT 's' AS service, 'half' AS incident_key, day AS opened_day FROM calendar")
    else:
        quarter, day = sys.argv[3:]
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(5):
            query = f"SELECT 's' AS service, '{quarter}-{number}' AS incident_key, DATE '{day}' AS opened_day"
            write_partitions(con, settings, "service_incidents", query, [quarter])
"""  # noqa: E501


def writer(settings: Settings, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(settings.settings_path), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["between uploads", "before the manifest"])
def test_a_writer_that_was_killed_left_nothing_that_is_read(
    s3_settings: MakeSettings, s3: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    settings = s3_settings()
    write(settings, "2026-01-05", "2026-04-05")
    before = objects(settings, s3)
    killed = writer(settings, moment)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left = objects(settings, s3) - before
    assert len(left) == (1 if moment == "between uploads" else 2)
    assert keys(settings) == ["i0", "i1"]
    write(settings, "2026-01-05", key="w")
    assert left <= objects(settings, s3)  # it may be a writer that still runs
    monkeypatch.setattr(manifests, "KEPT_FOR", timedelta(seconds=-1))  # a day later
    write(settings, "2026-01-05", key="x")
    assert not left & objects(settings, s3)
    assert keys(settings) == ["x0"]


@pytest.mark.slow
def test_two_processes_that_write_different_quarters_lose_nothing(s3_settings: MakeSettings) -> None:
    settings = s3_settings()
    write(settings, "1971-01-01")
    writers = [
        writer(settings, "", quarter, day) for quarter, day in (("2026-Q1", "2026-01-05"), ("2026-Q2", "2026-04-05"))
    ]
    for process in writers:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in writers:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in writers:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
    assert keys(settings) == ["2026-Q1-4", "2026-Q2-4", "i0"]


def test_an_upload_that_fails_leaves_the_old_rows(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(settings, "2026-01-05", "2026-04-05")
    files = store_of(settings)._files
    put = files.put

    def failing(local: list[str], names: list[str]) -> None:
        put(local[:1], names[:1])
        raise OSError("connection lost")

    monkeypatch.setattr(files, "put", failing)
    with pytest.raises(LakeError, match=r"cannot be written: OSError: connection lost"):
        write(settings, "2026-01-05", key="w")
    assert keys(settings) == ["i0", "i1"]


def test_a_quarter_written_while_the_table_is_written_anew_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(settings, "2026-01-05")
    upload = ObjectStore.upload

    def meanwhile(self: ObjectStore, files: dict[str, Path]) -> None:
        monkeypatch.setattr(ObjectStore, "upload", upload)
        write(settings, "2026-01-05", key="w")
        upload(self, files)

    monkeypatch.setattr(ObjectStore, "upload", meanwhile)
    with pytest.raises(LakeError, match="was written anew by somebody else"):
        write_quarter(settings, "2026-Q2", "2026-04-05", "n")
    assert keys(settings) == ["w0"]


def test_what_cannot_be_removed_is_told_and_harms_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quarterdeck.progress")
    write(settings, "2026-01-05")

    def refuse(paths: list[str]) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(manifests, "KEPT_FOR", timedelta(seconds=-1))
    monkeypatch.setattr(store_of(settings)._files, "rm", refuse)
    write(settings, "2026-01-05", key="w")
    assert keys(settings) == ["w0"]
    assert "cannot be removed: no permission (Access Denied)" in caplog.text


class Killed(BaseException):
    """The end of a process."""


QUARTERS = ("2026-Q1", "2026-Q2", "undated")
KEYS = st.frozensets(st.text("ab", min_size=1, max_size=2), max_size=3)
SOME = st.dictionaries(st.sampled_from(QUARTERS), KEYS, min_size=1)
WRITES = st.tuples(st.sampled_from(["whole", "some quarters"]), SOME, st.sampled_from(["", "killed", "a day later"]))


@examples(max_examples=80)
@given(st.lists(WRITES, max_size=8))
def test_after_any_writes_a_table_is_what_the_last_ones_made_it(
    writes: list[tuple[str, dict[str, frozenset[str]], str]],
) -> None:
    store = ObjectStore(f"memory://any-{uuid.uuid4().hex}", {})
    lake = ObjectLake(store)
    expected: dict[str, frozenset[str]] = {}
    for what, rows, event in writes:
        partitions = None if what == "whole" else list(rows)
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            for quarter, keys_of_quarter in rows.items():
                if keys_of_quarter:
                    built = Path(folder) / f"quarter={quarter}"
                    built.mkdir()
                    pl.DataFrame({"incident_key": sorted(keys_of_quarter)}).write_parquet(built / "data.parquet")
            if event == "a day later":
                patch.setattr(manifests, "KEPT_FOR", timedelta(seconds=-1))
            if event == "killed":
                patch.setattr(store, "write", raiser(Killed()))
                with suppress(Killed):
                    lake.replace(TABLE, Path(folder), partitions)
                continue
            lake.replace(TABLE, Path(folder), partitions)
        expected = rows if partitions is None else {**expected, **rows}
    found: dict[str, frozenset[str]] = {}
    for file in lake.files(TABLE):
        name = name_of(file.path)
        content = store.read_range(name, 0, store.size(name))
        assert file.quarter not in found
        found[file.quarter] = frozenset(pl.read_parquet(io.BytesIO(content))["incident_key"])
    assert found == {quarter: some for quarter, some in expected.items() if some}


def raiser(error: BaseException) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail
