"""Manifests and files that somebody else put into the store: refused in words."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from analytics.errors import LakeError
from analytics.faults import in_words
from analytics.lake import manifests
from analytics.lake.frames import lake_files
from analytics.lake.tables import lake_relation
from analytics.settings import Settings
from tests.unit.lake.incident_table import TABLE, keys, store_of, write, write_quarter

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
