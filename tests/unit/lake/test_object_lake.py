"""A lake in an object store: written whole, read by manifests, and nothing half-written or hostile is read."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
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

from analytics.doctor import Finding, examine
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
    write_table,
)
from analytics.lake.turns import lake_turn
from analytics.lake.version import LAKE_VERSION, lake_version, note_lake_version
from analytics.lake_files import name_of
from analytics.object_store import ObjectStore, Stored, open_store
from analytics.settings import Settings, load_settings
from tests.fakes.s3 import KEY, SECRET

if TYPE_CHECKING:
    import s3fs

REPOSITORY = Path(__file__).resolve().parents[3]
TABLE = "service_incidents"
MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake in fsspec's store in memory: what the store itself does not matter for is tested there."""
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(f"organization: A\nstorage: memory://lake-{uuid.uuid4().hex}\n", encoding="utf-8")
    return load_settings(path)


def calendar(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE calendar (day DATE, quarter VARCHAR, month VARCHAR, iso_week VARCHAR)")
    con.execute("INSERT INTO calendar VALUES ('2026-01-05', '2026-Q1', '', ''), ('2026-04-05', '2026-Q2', '', '')")


def incidents(*days: str, key: str = "i") -> str:
    rows = ", ".join(f"('s', '{key}{number}', CAST('{day}' AS DATE))" for number, day in enumerate(days))
    return f"SELECT * FROM (VALUES {rows}) AS t(service, incident_key, opened_day)"


def write(settings: Settings, *days: str, key: str = "i") -> None:
    with connect(settings) as con:
        calendar(con)
        write_table(con, settings, TABLE, incidents(*days, key=key))


def write_quarter(settings: Settings, quarter: str, day: str, key: str) -> None:
    with connect(settings) as con:
        calendar(con)
        write_partitions(con, settings, TABLE, incidents(day, key=key), [quarter])


def keys(settings: Settings, relation: str | None = None) -> list[str]:
    with connect(settings) as con:
        found = con.execute(f"SELECT incident_key FROM {relation or lake_relation(settings, TABLE)} ORDER BY 1")
        return [key for (key,) in found.fetchall()]


def objects(settings: Settings, s3: s3fs.S3FileSystem) -> set[str]:
    root = str(settings.lake_url).removeprefix("s3://")
    return {path.removeprefix(f"{root}/") for path in s3.find(root)}


def store_of(settings: Settings) -> ObjectStore:
    return open_store(str(settings.lake_url), settings.stored.options)


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


# Hostile contents

FILE = f"quarter=2026-Q1/{'a' * 32}-0000.parquet"


def manifest(**changes: Any) -> bytes:
    return json.dumps({"format": 1, "id": "b" * 32, "columns": [], "files": [[FILE, 10]], **changes}).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no JSON", "is no manifest of this lake"),
        (b"", "is no manifest of this lake|cannot be read"),
        (b"[" * 100_000, "is no manifest of this lake"),
        (b"[]", "is no manifest of this lake"),
        (manifest(files=[["../../other/secret.parquet", 1]]), "names a file that is none of the lake"),
        (manifest(files=[["/etc/passwd", 1]]), "names a file that is none of the lake"),
        (manifest(files=[["s3://other/x.parquet", 1]]), "names a file that is none of the lake"),
        (manifest(files=[[FILE + "\n", 1]]), "names a file that is none of the lake"),
        (manifest(files=[[FILE, -1]]), "is no manifest of this lake"),
        (manifest(files=[[FILE, 10**400]]), "is no manifest of this lake"),
        (manifest(retired={"../x": "2026-01-01T00:00:00Z"}), "names a file that is none of the lake"),
        (manifest(retired={FILE: "2026-01-01T00:00:00"}), "is no manifest of this lake"),
        (manifest(id="../../.."), "has an id that is none"),
        (manifest(earlier={"x/../y": "2026-01-01T00:00:00Z"}), "has an id that is none"),
        (manifest(format=2), "is a manifest of format 2"),
        (manifest(more=1), "is no manifest of this lake"),
        (manifest(versions={"../x": 1}), "is no manifest of this lake"),
        (manifest(versions={"2026-Q1": 0}), "is no manifest of this lake"),
    ],
)
def test_a_hostile_manifest_is_refused_in_words(settings: Settings, content: bytes, said: str) -> None:
    store_of(settings).write(f"{TABLE}/_table.json", content)
    with pytest.raises(LakeError, match=said) as caught:
        lake_relation(settings, TABLE)
    assert str(caught.value.where).endswith("_table.json")
    with pytest.raises(LakeError, match=said):
        write(settings, "2026-01-05")


def test_a_manifest_that_is_too_large_is_not_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(settings, "2026-01-05")
    write_quarter(settings, "2026-Q2", "2026-04-05", "n")
    monkeypatch.setattr(manifests, "MOST_BYTES", 300)
    with pytest.raises(LakeError, match=r"_table\.json: is larger than 300 bytes"):
        lake_relation(settings, TABLE)
    store_of(settings).write(f"{TABLE}/_table.json", manifest(files=[]))
    store_of(settings).write(f"{TABLE}/_{'b' * 32}/{'c' * 32}.json", manifest() + b" " * 1000)
    with pytest.raises(LakeError, match=r"c\.json: is larger than 300 bytes"):
        lake_relation(settings, TABLE)


@pytest.mark.parametrize(
    "changes", [{"id": "c" * 32, "versions": {"2026-Q1": 1}}, {"versions": {"2026-Q2": 1}}, {"versions": {}}]
)
def test_a_manifest_of_something_else_is_refused(settings: Settings, changes: dict[str, Any]) -> None:
    store_of(settings).write(f"{TABLE}/_table.json", manifest(files=[]))
    store_of(settings).write(f"{TABLE}/_{'b' * 32}/{'c' * 32}.json", manifest(**changes))
    with pytest.raises(LakeError, match="is the manifest of something else"):
        lake_relation(settings, TABLE)


def test_a_file_that_is_damaged_is_an_error(settings: Settings) -> None:
    write(settings, "2026-01-05")
    [url] = lake_files(settings, TABLE)
    name = url.removeprefix(f"{settings.lake_url}/")
    store_of(settings).write(name, b"PAR1" + b"\0" * 5000)
    with pytest.raises(duckdb.Error) as caught:
        keys(settings)
    fault = in_words(caught.value)
    assert fault is not None
    assert fault.what.startswith("a file is damaged")
    # What is said to do helps.
    assert "`_table.json`" in str(fault.fix)
    store_of(settings).remove([f"{TABLE}/_table.json"])
    assert keys(settings) == []
    write(settings, "2026-01-05", key="w")
    assert keys(settings) == ["w0"]


# The store


def test_more_objects_than_one_listing_holds(s3_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.backends import get_backend

    settings = s3_settings()
    bucket = str(settings.lake_url).removeprefix("s3://").partition("/")[0]
    backend = get_backend("s3")["123456789012"]["aws"]
    names = {f"quarter=undated/{number:032x}-0000.parquet" for number in range(1100)}
    for name in [*names, "quarter=undated/somebody's.parquet"]:
        backend.put_object(bucket, f"lake/{TABLE}/{name}", b"")
    assert len(store_of(settings).list(TABLE)) == 1101
    monkeypatch.setattr(manifests, "KEPT_FOR", timedelta(seconds=-1))
    write(settings, "2026-01-05")
    # What no write of ours has named is not ours to remove.
    left = {name for name in store_of(settings).list(TABLE) if "undated" in name}
    assert left == {f"{TABLE}/quarter=undated/somebody's.parquet"}


def test_a_bucket_that_is_not_there_is_no_empty_lake(s3_settings: MakeSettings) -> None:
    settings = s3_settings()
    stored = settings.stored.model_copy(update={"lake": "s3://no-such-bucket-here/lake"})
    settings = settings.model_copy(update={"stored": stored})
    with pytest.raises(LakeError, match="the bucket does not exist"):
        lake_relation(settings, TABLE)
    with pytest.raises(LakeError, match="the bucket does not exist"):
        write(settings, "2026-01-05")


def test_a_store_that_does_not_answer_is_named_with_what_to_check(s3_settings: MakeSettings, tmp_path: Path) -> None:
    settings = s3_settings()
    options = {
        **settings.stored.options,
        "endpoint_url": "http://127.0.0.1:9",
        "config_kwargs": {"retries": {"max_attempts": 1}},
    }
    settings = settings.model_copy(update={"stored": settings.stored.model_copy(update={"options": options})})
    with pytest.raises(LakeError, match=r"cannot be read: no answer .*\n.*endpoint_url"):
        lake_relation(settings, TABLE)


def test_a_library_that_is_missing_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(LakeError, match=r's3:// needs a library that is not installed\n.*pip install "\.\[s3\]"'):
        ObjectStore("s3://bucket/lake", {})
    with pytest.raises(LakeError, match="nosuch:// is no object store that fsspec knows"):
        ObjectStore("nosuch://bucket/lake", {})


def test_a_wrong_option_is_an_error_in_words() -> None:
    with pytest.raises(LakeError, match="s3://bucket/lake/x: cannot be read"):
        ObjectStore("s3://bucket/lake", {"client_kwargs": 3, "endpoint_url": "not a URL"}).read("x", 1)


def test_any_store_that_fsspec_knows_can_hold_a_lake(settings: Settings) -> None:
    write(settings, "2026-01-05", "2026-04-05")
    write_quarter(settings, "2026-Q1", "2026-01-05", "n")
    assert keys(settings) == ["i1", "n0"]


def lake_finding(settings: Settings) -> Finding:
    [finding] = [finding for finding in examine(settings.settings_path) if finding.subject == "lake"]
    return finding


def test_the_doctor_tries_the_store_and_leaves_nothing(s3_settings: MakeSettings, s3: s3fs.S3FileSystem) -> None:
    settings = s3_settings()
    url = settings.lake_url
    finding = lake_finding(settings)
    assert finding == Finding("lake", "ok", f"{url}: can be listed, written, read and deleted; objects: 0")
    assert objects(settings, s3) == set()
    text = settings.settings_path.read_text("utf-8").replace("bucket-", "no-bucket-")
    settings.settings_path.write_text(text, "utf-8")
    finding = lake_finding(settings)
    assert (finding.state, finding.fix) == ("fail", "Make the bucket, or correct `storage.lake`.")


def test_the_doctor_says_what_the_store_refuses(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(store_of(settings)._files, "rm", refuse)
    finding = lake_finding(settings)
    assert finding.state == "fail"
    assert finding.detail.endswith(".txt: cannot be removed: no permission (Access Denied)")
    assert finding.fix == "Let these credentials list, read, write and delete below it."


# Secrets


def test_no_secret_reaches_a_log_a_message_or_a_pickle(
    s3_settings: MakeSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = s3_settings()
    write(settings, "2026-01-05")
    assert keys(settings) == ["i0"]
    store = store_of(settings)
    for kept in (pickle.dumps(settings), pickle.dumps(store), repr(settings).encode(), repr(store).encode()):
        assert SECRET.encode() not in kept
        assert KEY.encode() not in kept
    assert SECRET not in caplog.text
    assert pickle.loads(pickle.dumps(store)) is store

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(f"{KEY} with {SECRET} may not")

    monkeypatch.setattr(store._files, "cat_file", refuse)
    with pytest.raises(LakeError, match=r"no permission \(\*\*\* with \*\*\* may not\)") as caught:
        lake_relation(settings, TABLE)
    assert caught.value.__cause__ is None
    monkeypatch.delenv("LAKE_SECRET")
    with pytest.raises(LakeError, match="LAKE_SECRET is not set"):
        lake_relation(settings, TABLE)


def test_times_of_other_stores_are_understood() -> None:
    from analytics.object_store import _changed_at

    moment = datetime(2026, 1, 5, tzinfo=UTC)
    assert [
        _changed_at({"mtime": moment.timestamp()}),
        _changed_at({"updated": "2026-01-05T00:00:00Z"}),
        _changed_at({"created": moment.replace(tzinfo=None)}),
        _changed_at({}),
    ] == [moment, moment, moment, None]
