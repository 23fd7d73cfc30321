"""The landing file: one transaction per page, keys and times, the lock, versions and half-written files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import engine
from analytics.errors import LandingError
from analytics.landing import store as store_module
from analytics.landing.judge import judge_for
from analytics.landing.pages import judge_page
from analytics.landing.payloads import rewritten
from analytics.landing.schema import TABLES
from analytics.landing.store import LandingStore, landing_path
from analytics.landing.winners import open_landing
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES
from analytics.sources.port import Refusal
from tests.unit.landing.landing_world import Workspace, deployment, page

AT = datetime(2026, 1, 1)


def landed(
    workspace: Workspace, *records: dict[str, Any] | bytes, entity: str = "deployments"
) -> list[tuple[Any, ...]]:
    """Key, updated_at, occurred_at and payload of what lands."""
    with workspace.store() as store:
        store.land(page(*records, entity=entity))
    return workspace.items("key, updated_at, occurred_at, payload")


def keys(workspace: Workspace, *records: dict[str, Any], entity: str = "deployments") -> list[list[str]]:
    return [json.loads(row[0]) for row in landed(workspace, *records, entity=entity)]


def test_the_tables_are_those_of_the_architecture(workspace: Workspace) -> None:
    workspace.store().close()
    with duckdb.connect(str(landing_path(workspace.settings, "drops")), read_only=True) as con:
        found = dict(con.execute("SELECT table_name, sql FROM duckdb_tables()").fetchall())
        version = con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall()
    assert set(found) == set(TABLES) == {"pages", "items", "quarantine", "cursors", "collected", "meta"}
    assert version == [("2",)]


def test_an_item_has_its_place_and_its_payload_as_it_came(workspace: Workspace) -> None:
    text = json.dumps(deployment(1)).replace(",", " ,   ").replace("acme", "\\u0061cme").encode()
    with workspace.store() as store:
        store.land(page(text, key="deployments/a.jsonl", generation=3, first_line=7))
    assert workspace.items("entity, origin, generation, line, page_id, payload") == [
        ("deployments", "deployments/a.jsonl", 3, 7, 1, text.decode())
    ]


def test_a_number_and_its_digits_are_one_key(workspace: Workspace) -> None:
    first, second = keys(workspace, deployment(42, attempt=2), deployment("42", attempt=2))
    assert first == second == ["42", "2"]


def test_an_attempt_that_is_not_said_is_the_first(workspace: Workspace) -> None:
    assert keys(workspace, deployment(1), deployment(1, attempt=None), deployment(1, attempt=1)) == [["1", "1"]] * 3


def test_a_key_keeps_every_character(workspace: Workspace) -> None:
    odd = 'a"b\\c,d\u0000\n\u00e9\U0001f600'
    assert keys(workspace, deployment(odd)) == [[odd, "1"]]


def test_a_time_in_a_key_is_the_moment_and_not_its_text(workspace: Workspace) -> None:
    drill = {"service": "s", "kind": "rollback", "outcome": "ok"}
    found = keys(
        workspace,
        drill | {"performed_at": "2026-01-01T01:00:00+01:00"},
        drill | {"performed_at": "2026-01-01T00:00:00.000Z"},
        drill | {"performed_at": "2026-01-01t00:00:00z"},
        entity="drills",
    )
    assert found == [["s", "2026-01-01T00:00:00.000000Z"]] * 3


def test_a_digest_may_have_several_bundles(workspace: Workspace) -> None:
    bundles = [{"digest": "sha256:d", "bundle": {"n": 1}}, {"digest": "sha256:d", "bundle": {"n": 2}}]
    again = b'{"digest":"sha256:d",  "bundle": {"n":1}, "updated_at": "2026-01-01T00:00:00Z"}'
    with workspace.store() as store:
        store.land(page(*bundles, again, {"bundle": {"n": 1}}, entity="attestations"))
    first, second, third, fourth = [json.loads(row[0]) for row in workspace.items("key")]
    assert first[0] == second[0] == "sha256:d"
    assert first != second
    assert first == third
    assert fourth == ["", first[1]]


def test_times_are_kept_as_utc_moments(workspace: Workspace) -> None:
    record = deployment(1, created_at="2026-01-01T02:00:00+02:00", updated_at="2025-12-31 19:00:00.5-0500")
    ((_, updated_at, occurred_at, _),) = landed(workspace, record)
    assert occurred_at == AT
    assert updated_at == AT.replace(microsecond=500_000)


def test_a_record_without_updated_at_has_none(workspace: Workspace) -> None:
    ((_, updated_at, _, _),) = landed(workspace, deployment(1))
    assert updated_at is None


def test_small_letters_in_times_are_written_again_for_every_reader(workspace: Workspace) -> None:
    record = deployment(
        1, created_at="2026-01-01t01:00:00+01:00", statuses=[{"state": "success", "at": "2026-01-01t00:00:00z"}]
    )
    ((_, _, occurred_at, payload),) = landed(workspace, record)
    assert occurred_at == AT
    read = json.loads(payload)
    assert read["created_at"] == "2026-01-01T00:00:00.000000Z"
    assert read["statuses"] == [{"state": "success", "at": "2026-01-01T00:00:00.000000Z"}]


def test_of_a_field_that_stands_twice_key_and_payload_agree(workspace: Workspace) -> None:
    twice = json.dumps(deployment(7)).encode()[:-1] + b', "deployment_id": 8}'
    with workspace.store() as store:
        store.land(page(twice))
    with open_landing(workspace.settings) as con:
        rows = con.execute("SELECT key, payload->>'$.deployment_id' FROM landed_items").fetchall()
    assert rows == [('["7","1"]', "7")]


def test_a_field_that_stands_twice_must_be_good_twice(workspace: Workspace) -> None:
    twice = b'{"deployment_id":null,' + json.dumps(deployment(8)).encode()[1:]
    with workspace.store() as store:
        assert store.land(page(twice)).quarantined == 1


@given(st.data())
def test_what_the_judge_accepts_duckdb_reads(data: st.DataObject) -> None:
    texts = st.text(min_size=1, max_size=10)
    moments = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(lambda at: at.isoformat() + "Z")
    record = {
        "deployment_id": data.draw(texts | st.integers(-(2**63), 2**63 - 1)),
        "repository": data.draw(texts),
        "environment": data.draw(texts),
        "sha": data.draw(texts),
        "created_at": data.draw(moments),
        data.draw(texts): data.draw(st.floats(allow_nan=False, allow_infinity=False) | texts),
    }
    payload = json.dumps(record, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    if judge_for("deployments")(payload) is not None:
        return
    again = json.loads(rewritten("deployments", payload.decode()))
    assert again["sha"] == json.loads(payload)["sha"]
    with duckdb.connect() as con:
        assert con.execute("SELECT json_valid(?)", [payload.decode()]).fetchall() == [(True,)]


def test_a_number_that_json_cannot_say_again_is_refused(workspace: Workspace) -> None:
    # Small letters make it be written again, which the endless number prevents.
    record = json.dumps(deployment(1, created_at="2026-01-01t00:00:00z")).encode()[:-1] + b', "extra": 1e999}'
    with workspace.store() as store:
        assert store.land(page(record, deployment(2))) == store_module.Landed(items=1, quarantined=1)
        ((reason, payload),) = store.con.execute("SELECT reason, payload FROM quarantine").fetchall()
    assert reason == "not_json"
    assert payload == record.decode()


def test_a_refused_record_is_kept_with_reason_hash_and_beginning(workspace: Workspace) -> None:
    bad = json.dumps(deployment(1, created_at="2026-01-01T00:00:00", ref="é" * 3000), ensure_ascii=False).encode()
    with workspace.store() as store:
        store.land(page(deployment(2), bad, generation=2))
        (row,) = store.con.execute(
            "SELECT entity, origin, generation, line, reason, json_path, sha256, excerpt, payload FROM quarantine"
        ).fetchall()
    import hashlib

    assert row[:6] == ("deployments", "deployments.jsonl", 2, 2, "naive_time", "$.created_at")
    assert row[6] == hashlib.sha256(bad).hexdigest()
    assert len(row[7].encode()) <= 2048
    assert bad.decode().startswith(row[7].rstrip("\ufffd"))
    assert row[8] == bad.decode()


def test_a_refused_record_is_kept_whole_only_when_small_and_text(workspace: Workspace) -> None:
    large = json.dumps(deployment(None, ref="x" * 1024 * 1024)).encode()
    with workspace.store() as store:
        store.land(page(large, b'{"a": "\xff"}'))
        rows = store.con.execute("SELECT reason, payload FROM quarantine ORDER BY line").fetchall()
    assert rows == [("missing_id", None), ("not_utf8", None)]


def test_refusals_of_the_provider_are_kept(workspace: Workspace) -> None:
    refusal = Refusal(3, "line_too_long", "a line of 9 MB", b"xx\xff\0", "abc")
    with workspace.store() as store:
        store.land(page(refusals=[refusal]))
        rows = store.con.execute("SELECT line, reason, detail, sha256, excerpt FROM quarantine").fetchall()
    assert rows == [(3, "line_too_long", "a line of 9 MB", "abc", "xx\ufffd\0")]


def test_a_refusal_of_a_whole_file_ends_with_the_next_page(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.land(page(refusals=[Refusal(0, "unreadable", "x")]))
        store.land(page(refusals=[Refusal(0, "unreadable", "x")], key="other.jsonl"))
        store.land(page(deployment(1)))
        assert store.con.execute("SELECT origin FROM quarantine").fetchall() == [("other.jsonl",)]


def test_provisional_refusals_are_forgotten_when_the_file_went_on(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.land(page(refusals=[Refusal(line, "json_truncated", "x") for line in (1, 5, 6)]))
        store.land(page(refusals=[Refusal(6, "json_truncated", "x")], generation=2))
        store.land(page(deployment(1), forget_refusals_after_line=4))
        rows = store.con.execute("SELECT generation, line FROM quarantine ORDER BY ALL").fetchall()
    assert rows == [(1, 1), (2, 6)]


def test_the_cursor_of_the_last_page_is_kept(workspace: Workspace) -> None:
    with workspace.store() as store:
        assert store.cursor("deployments", "deployments.jsonl") is None
        store.land(page(deployment(1), cursor={"generation": 1, "bytes": 5}))
        store.land(page(deployment(2), cursor={"generation": 1, "bytes": 9}))
        store.land(page(deployment(3), key="other.jsonl"))
    with workspace.store() as store:
        assert store.cursor("deployments", "deployments.jsonl") == {"generation": 1, "bytes": 9}
        assert store.cursor("incidents", "deployments.jsonl") is None


def test_a_page_is_noted_with_its_counts(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.land(page(deployment(1), deployment(None), status=200, etag="e", sha256="h", total_count=9))
        rows = store.con.execute("SELECT * FROM pages").fetchall()
    at = datetime(2026, 10, 5, 6)
    assert [row[:11] for row in rows] == [(1, "deployments", "deployments.jsonl", 1, at, 200, "e", "h", 1, 1, 9)]


@pytest.mark.parametrize("step", ["_insert_items", "_insert_quarantine", "_insert_page"])
def test_a_page_that_fails_leaves_nothing_behind(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with workspace.store() as store:
        store.land(page(deployment(1), cursor={"generation": 1, "n": 1}))
        inner = getattr(store, step)

        def fails(*args: Any) -> None:
            inner(*args)
            raise duckdb.IOException("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(store, step, fails)
            with pytest.raises(LandingError, match="no space left"):
                store.land(page(deployment(2), deployment(None), cursor={"generation": 1, "n": 2}))
        counts = [
            store.con.execute(f"SELECT count(*) FROM {table}").fetchall() for table in ("items", "quarantine", "pages")
        ]
        assert counts == [[(1,)], [(0,)], [(1,)]]
        assert store.cursor("deployments", "deployments.jsonl") == {"generation": 1, "n": 1}
        # And the store goes on.
        assert store.land(page(deployment(2))).items == 1


def test_no_temporary_file_stays(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.land(page(deployment(1), deployment(None)))
        assert workspace.temporary_files() == []
        with pytest.raises(duckdb.Error), store.parquet(_frame()) as rows:
            store.con.execute(f"SELECT nonsense FROM {rows}")
        assert workspace.temporary_files() == []
    assert [path for path in workspace.settings.temp_dir.iterdir() if path.name.startswith("landing-")] == []


def _frame() -> Any:
    import polars as pl

    return pl.DataFrame({"a": [1]})


def test_what_killed_pulls_left_is_removed_when_it_is_a_day_old(workspace: Workspace) -> None:
    workspace.settings.temp_dir.mkdir(parents=True)
    old, new, other = (workspace.settings.temp_dir / name for name in ("landing-old", "landing-new", "write-old"))
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "x.parquet").write_bytes(b"")
    for folder in (old, other):
        os.utime(folder, (1_600_000_000, 1_600_000_000))
    workspace.store().close()
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


def test_a_storage_folder_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / "it's [new] *"
    root.mkdir()
    workspace = Workspace(root)
    assert len(landed(workspace, deployment(1))) == 1
    assert workspace.winners() == [deployment(1)]


@pytest.mark.parametrize("name", ["temp", "main", "items", "memory", "a-b_1"])
def test_a_source_may_have_any_name(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path, [name])
    assert len(landed(workspace, deployment(1))) == 1


HOLD = """
import duckdb, sys
con = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_held_by_another_process_is_waited_for_and_then_named(workspace: Workspace) -> None:
    workspace.store().close()
    path = landing_path(workspace.settings, "drops")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LandingError, match=f"in use by process {holder.pid}") as writing:
            LandingStore.open(workspace.settings, "drops", deadline_seconds=0.3)
        with (
            pytest.raises(LandingError, match=f"in use by process {holder.pid}"),
            open_landing(workspace.settings, deadline_seconds=0),
        ):
            pass
        holder.stdin.close()
    assert str(path) in str(writing.value)
    assert "Let it finish" in str(writing.value)
    workspace.store().close()


def test_a_file_that_is_let_go_in_time_is_opened(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.store().close()
    real, calls = engine.connect, []

    def busy_twice(settings: Settings, database: Path | None = None, **more: Any) -> Any:
        calls.append(database)
        if len(calls) <= 2:
            raise duckdb.IOException("Could not set lock on file: Conflicting lock is held in x (PID 1)")
        return real(settings, database, **more)

    monkeypatch.setattr(engine, "connect", busy_twice)
    LandingStore.open(workspace.settings, "drops", deadline_seconds=60).close()
    assert len(calls) == 3


def test_a_file_held_by_this_process_is_said_to_be(workspace: Workspace) -> None:
    workspace.store().close()
    with open_landing(workspace.settings), pytest.raises(LandingError, match="in use by this process"):
        workspace.store()


def test_a_newer_version_is_refused_in_words(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.con.execute("UPDATE meta SET value = '3' WHERE key = 'schema_version'")
    with pytest.raises(LandingError, match=r"another version of Quarterdeck \(schema 3"):
        workspace.store()
    with pytest.raises(LandingError, match="schema 3"), open_landing(workspace.settings):
        pass


def test_what_is_no_database_is_refused_in_words(workspace: Workspace) -> None:
    path = landing_path(workspace.settings, "drops")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(LandingError, match="cannot be opened"):
        workspace.store()


def test_another_database_is_refused_in_words(workspace: Workspace) -> None:
    path = landing_path(workspace.settings, "drops")
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE mine (a INTEGER)")
    with pytest.raises(LandingError, match="no landing file"):
        workspace.store()


def test_limits_of_the_settings_hold(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, engine={"memory_limit": "512MiB", "threads": 1})
    with workspace.store() as store:
        rows = store.con.execute(
            "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('TimeZone'), "
            "current_setting('temp_directory')"
        ).fetchall()
    assert rows[0][:3] == ("512.0 MiB", 1, "UTC")
    assert rows[0][3].startswith(str(workspace.settings.temp_dir))


@pytest.mark.parametrize("entity", sorted(ENTITIES))
def test_a_judged_page_of_nothing_can_be_written(workspace: Workspace, entity: str) -> None:
    with workspace.store() as store:
        landed = store.write(judge_page(page(entity=entity, key=entity)))
    assert (landed.items, landed.quarantined) == (0, 0)


def test_an_entity_that_nobody_knows_is_refused_without_a_judge(workspace: Workspace) -> None:
    with workspace.store() as store:
        landed = store.land(page(entity="things", key="things", refusals=[Refusal(0, "unknown_entity", "x")]))
    assert landed.quarantined == 1


def test_offered_entities_are_collected_from_the_first_to_the_last_time(tmp_path: Path) -> None:
    first, later = Workspace(tmp_path), Workspace(tmp_path, now="2026-10-09T00:00:00Z")
    with first.store() as store:
        store.offer({"incidents": [], "deploymnts": ["deploymnts.jsonl"]})
    with later.store() as store:
        store.offer({"incidents": ["incidents.jsonl"], "tags": []})
        rows = store.con.execute("SELECT entity, first_seen_at, last_seen_at FROM collected ORDER BY ALL").fetchall()
    early, late = datetime(2026, 10, 5, 6), datetime(2026, 10, 9)
    assert rows == [("incidents", early, late), ("tags", late, late)]


@pytest.mark.parametrize("opened_for", ["reading", "writing"])
def test_a_file_of_the_first_version_is_brought_to_this_one(workspace: Workspace, opened_for: str) -> None:
    with workspace.store() as store:
        store.land(page(deployment(1)))
        for column in ("window_start", "window_end", "kind", "request", "next_url", "body"):
            store.con.execute(f"ALTER TABLE pages DROP COLUMN {column}")
        store.con.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    if opened_for == "writing":
        with workspace.store() as store:
            store.land(page(deployment(2)))
    with open_landing(workspace.settings) as con:
        pages = con.execute("SELECT body, window_end FROM landed_pages").fetchall()
    assert pages == [(None, None)] * (2 if opened_for == "writing" else 1)
