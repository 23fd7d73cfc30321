"""Whatever a document holds, there is a verdict with a reason, at a bounded cost, and nothing else is read."""

import copy
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.supply_chain.sbom_reading import sbom_rows
from analytics.supply_chain.sboms.reading import Limits, UnreadableSbomError, read_document, read_file, read_value
from tests.unit.supply_chain.sboms.hostile import DOCUMENTS
from tests.unit.supply_chain.sboms.sbom_world import FOLDER, cyclonedx, library, manifest, needs_real, package, spdx

# Those that take a second or more are judged in a process of their own, all at once.
QUICK = [name for name in DOCUMENTS if "almost" not in name and "in each" not in name]
REFUSED = {
    "too long": "at most 67,108,864 are read",
    "a million components": "at most 2,000,000 are read",
    "a million packages": "at most 2,000,000 are read",
    "a million components as XML": "at most 2,000,000 are read",
    "300,000 components": "more than 200,000 components",
    "300,000 packages": "more than 200,000 components",
    "300,000 components as XML": "more than 200,000 components",
    "two million values": "at most 2,000,000 are read",
    "a million attributes": "The XML is broken: Resource limit exceeded",
    "deep lists": "nested 10,000 levels deep; at most 200",
    "deep components": "levels deep; at most 200",
    "deep without end": "at most 2,000,000 are read",
    "deep XML": "Excessive depth",
    "an entity bomb": "DOCTYPE, which is refused",
    "an external entity": "DOCTYPE, which is refused",
    "a DTD behind a comment": "DOCTYPE, which is refused",
    "an undeclared entity": "Entity 'x' not defined",
    "NaN": "NaN is no JSON number",
    "a number of five million digits": "Exceeds the limit",
    "quotes": "Unterminated string",
    "bytes": "cannot be decoded",
}


@pytest.mark.parametrize("name", QUICK)
def test_a_hostile_document_gets_a_verdict_with_its_reason(name: str) -> None:
    row, components = sbom_rows("0", DOCUMENTS[name](), "file")
    json.dumps([row["reason"], *components]).encode()
    assert len(row["reason"]) < 1_000
    assert row["reason"].isprintable()
    assert "root:" not in json.dumps([row["reason"], row.get("errors")])
    if name in REFUSED:
        assert row["verdict"] == "UNREADABLE"
        assert REFUSED[name] in row["reason"]
    else:
        assert row["verdict"] in ("SCHEMA_VALID", "SCHEMA_INVALID")


@pytest.mark.slow
def test_all_of_them_are_judged_in_little_memory() -> None:
    root = Path(__file__).resolve().parents[4]
    command = [sys.executable, "-m", "tests.unit.supply_chain.sboms.hostile", "1000"]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-2_000:]
    verdicts = {name: verdict for name, verdict, *_ in map(json.loads, ended.stdout.splitlines())}
    assert verdicts.keys() == DOCUMENTS.keys()
    assert {name for name, verdict in verdicts.items() if verdict == "UNREADABLE"} == REFUSED.keys()


def test_a_file_of_500_megabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(500_000_000)
    with pytest.raises(UnreadableSbomError, match="500,000,000 bytes; at most 67,108,864 are read"):
        read_file(path)


def test_an_endless_device_and_a_folder_are_no_files(tmp_path: Path) -> None:
    for path in (Path("/dev/zero"), tmp_path):
        with pytest.raises(UnreadableSbomError, match="cannot be read"):
            read_file(path)


def test_the_limits_hold_for_a_value_that_was_decoded_already() -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(UnreadableSbomError, match="more than 200 levels"):
        read_value(deep)
    with pytest.raises(UnreadableSbomError, match="more values than 10"):
        read_value({"a": list(range(20))}, limits=Limits(values=10))


def test_exactly_as_many_components_as_may_be_are_read() -> None:
    limits = Limits(components=3)
    nested = library(components=[library(), library()])
    assert read_document(cyclonedx(components=[nested]), limits=limits).format == "CycloneDX"
    inside = {"component": library(components=[library()])}
    for content in (
        cyclonedx(components=[nested, library()]),
        cyclonedx(components=[nested], metadata=inside),
        spdx(packages=[package()] * 4),
    ):
        with pytest.raises(UnreadableSbomError, match="more than 3 components"):
            read_document(content, limits=limits)


# Anything for anything

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["pkg:npm/%", "MIT AND (", "NOASSERTION", "CVE-2024-1", "9" * 400, "\ud800", "\x00", "${a}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
BUILT = [
    cyclonedx(
        metadata={"timestamp": "2024-05-01T12:00:00Z", "component": library(), "tools": [{"name": "x"}]},
        components=[library(licenses=[{"expression": "MIT"}], hashes=[{"alg": "MD5", "content": "a" * 32}])],
        dependencies=[{"ref": "a", "dependsOn": ["b"]}],
        compositions=[{"aggregate": "complete", "assemblies": ["a"]}],
        vulnerabilities=[{"id": "CVE-2024-1", "analysis": {"state": "resolved"}, "affects": [{"ref": "a"}]}],
    ),
    spdx(
        packages=[package(supplier="Person: A", checksums=[{"algorithm": "MD5", "checksumValue": "a"}])],
        relationships=[{"spdxElementId": "a", "relationshipType": "DEPENDS_ON", "relatedSpdxElement": "b"}],
    ),
]


@cache
def originals() -> list[bytes]:
    """Small documents, real ones too where they are there."""
    places = [FOLDER / item["path"] for item in manifest()]
    return BUILT + [path.read_bytes() for path in places if path.stat().st_size < 20_000]


@given(data=st.data())
def test_wrong_types_anywhere_never_break_the_reader(data: st.DataObject) -> None:
    value: Any = copy.deepcopy(json.loads(data.draw(st.sampled_from(BUILT))))
    for _ in range(data.draw(st.integers(1, 4))):
        holder: Any = value
        while holder:
            key = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else list(range(len(holder)))))
            if isinstance(holder[key], dict | list) and data.draw(st.booleans()):
                holder = holder[key]
                continue
            holder[key] = data.draw(JUNK)
            break
    row, components = sbom_rows("0", json.dumps(value).encode(), "file")
    assert row["verdict"] in ("SCHEMA_VALID", "SCHEMA_INVALID", "UNREADABLE")
    assert row["reason"]
    json.dumps([row.get("errors"), *components])


@needs_real
@given(data=st.data())
def test_real_documents_with_bytes_changed_never_break_the_reader(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(originals())))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(
            st.binary(max_size=8) | st.sampled_from([b"", b"<", b"{", b'"', b"&", b"]]>", b"\xff", b"\x00"])
        )
        content[place : place + data.draw(st.integers(0, 40))] = piece
        if not content:
            break
    row, components = sbom_rows("0", bytes(content), "file")
    assert row["verdict"] in ("SCHEMA_VALID", "SCHEMA_INVALID", "UNREADABLE")
    assert row["reason"]
    assert all(component["sbom_sha256"] == "0" for component in components)
