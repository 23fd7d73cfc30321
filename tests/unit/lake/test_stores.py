"""The object store below a lake: what it holds, how it refuses, and what it must not tell."""

from __future__ import annotations

import logging
import pickle
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analytics.doctor import Finding, examine
from analytics.errors import LakeError
from analytics.lake import manifests
from analytics.lake.tables import lake_relation
from analytics.object_store import ObjectStore
from analytics.settings import Settings
from tests.fakes.s3 import KEY, SECRET
from tests.unit.lake.incident_table import TABLE, MakeSettings, keys, objects, store_of, write, write_quarter

if TYPE_CHECKING:
    import s3fs


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
