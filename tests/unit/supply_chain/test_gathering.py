"""SBOMs from records, folders and attestations: what is read, what is refused, and what is not read again."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from analytics.errors import SettingsError
from analytics.supply_chain import gathering
from analytics.supply_chain.sbom_reading import SbomReader
from tests.unit.supply_chain.gathering_world import DIGEST, World
from tests.unit.supply_chain.sboms.sbom_world import cyclonedx, library, spdx


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty world."""
    return World(tmp_path / "world")


def test_an_sbom_counts_for_the_artifact_for_which_it_was_handed_in(world: World) -> None:
    world.hand_in(document=json.loads(cyclonedx(components=[library()])))
    (world.folder / "feed" / "files" / "a.json").write_bytes(spdx())
    world.hand_in(path="files/a.json", digest="sha256:" + "6b" * 32)
    found = world.gather()
    assert set(found.of_digest) == {DIGEST, "sha256:" + "6b" * 32}
    assert found.documents[found.of_digest[DIGEST]].component_count == 1
    assert world.rows("sbom_places", "digest, origin") == [
        (DIGEST, "feed:a.jsonl:1"),
        ("sha256:" + "6b" * 32, "feed:a.jsonl:2"),
    ]


def test_an_sbom_in_a_folder_counts_for_the_artifact_that_it_names(world: World) -> None:
    subject = library(hashes=[{"alg": "SHA-256", "content": "5a" * 32}])
    (world.folder / "sboms" / "shop.json").write_bytes(cyclonedx(metadata={"component": subject}))
    assert set(world.gather().of_digest) == {DIGEST}


def test_githubs_export_is_of_no_artifact_unless_somebody_says_so(world: World) -> None:
    content = spdx(
        creationInfo={"created": "2024-05-01T12:00:00Z", "creators": ["Tool: GitHub.com-Dependency-Graph"]},
        packages=[
            {
                "SPDXID": "SPDXRef-a",
                "name": "acme/shop",
                "downloadLocation": "NONE",
                "checksums": [{"algorithm": "SHA256", "checksumValue": "5a" * 32}],
            }
        ],
        documentDescribes=["SPDXRef-a"],
    )
    (world.folder / "sboms" / "export.json").write_bytes(content)
    found = world.gather()
    assert found.of_digest == {}
    (document,) = found.documents.values()
    assert document.origin_kind == "github_dependency_graph"
    world.hand_in(document=json.loads(content))
    assert set(world.gather().of_digest) == {DIGEST}


def test_an_sbom_in_an_attestation_counts_for_the_attested_artifact(world: World) -> None:
    content = cyclonedx()
    world.attested.append((hashlib.sha256(content).hexdigest(), content))
    assert set(world.gather().of_digest) == {DIGEST}


def test_a_bad_sbom_never_hides_a_good_one(world: World) -> None:
    world.hand_in(document={"bomFormat": "CycloneDX", "specVersion": "1.6", "version": "x"})
    world.hand_in(document=json.loads(cyclonedx()))
    world.hand_in(path="files/none.json")
    found = world.gather()
    assert found.documents[found.of_digest[DIGEST]].verdict == "SCHEMA_VALID"
    assert sorted(one.verdict for one in found.documents.values()) == ["SCHEMA_INVALID", "SCHEMA_VALID", "UNREADABLE"]


ASTRAY: list[tuple[str | None, str]] = [
    ("files/none.json", "No such file or directory"),
    ("../secret.json", "it lies outside the source's folder"),
    ("files/../../secret.json", "it lies outside the source's folder"),
    ("{outside}", "it lies outside the source's folder"),
    ("files/link.json", "it lies outside the source's folder"),
    ("files/linked/secret.json", "it lies outside the source's folder"),
    ("files/loop.json", "loop"),
    ("files/pipe.json", "it is no regular file"),
    ("files", "Is a directory"),
    ("", "Is a directory"),
    ("files/large.json", "at most 67,108,864 are read"),
    ("a" * 5_000, "File name too long"),
    ("files/\0.json", "it is no path"),
    (None, "the record holds neither a document nor a path"),
]


def test_a_path_that_leads_elsewhere_or_to_no_file_is_a_row_with_its_reason(world: World) -> None:
    secret = world.folder / "secret.json"
    secret.write_bytes(cyclonedx(components=[library(name="secret")]))
    files = world.folder / "feed" / "files"
    (files / "link.json").symlink_to(secret)
    (files / "linked").symlink_to(world.folder, target_is_directory=True)
    (files / "loop.json").symlink_to(files / "loop.json")
    os.mkfifo(files / "pipe.json")
    with (files / "large.json").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    for number, (path, _) in enumerate(ASTRAY):
        world.hand_in(
            path=path.replace("{outside}", str(secret)) if path is not None else None, digest=f"sha256:{number:064x}"
        )
    found = world.gather()
    assert found.of_digest == {}
    for number, (path, words) in enumerate(ASTRAY):
        read = found.documents[found.any_of_digest[f"sha256:{number:064x}"]]
        assert read.verdict == "UNREADABLE"
        assert words in read.reason, path
        assert read.reason.startswith(f"feed:a.jsonl:{number + 1}: ")


def test_a_link_inside_the_folder_is_followed(world: World) -> None:
    files = world.folder / "feed" / "files"
    (files / "a.json").write_bytes(cyclonedx())
    (files / "latest.json").symlink_to(files / "a.json")
    world.hand_in(path="files/latest.json")
    assert set(world.gather().of_digest) == {DIGEST}


def test_a_path_of_a_source_that_has_no_folder_leads_nowhere(world: World) -> None:
    world.settings = world.settings.model_copy(update={"sources": []})
    world.hand_in(path="files/a.json")
    found = world.gather()
    (read,) = found.documents.values()
    assert "only a source of files has a folder" in read.reason


def test_pipes_folders_and_what_is_too_large_in_a_glob_do_not_hold_the_rest(world: World) -> None:
    folder = world.folder / "sboms"
    os.mkfifo(folder / "pipe")
    (folder / "inner").mkdir()
    (folder / "good.json").write_bytes(cyclonedx())
    with (folder / "large.json").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    world.gather()
    found = world.rows("sbom_documents", "verdict, reason")
    assert [verdict for verdict, _ in found] == ["SCHEMA_VALID", "UNREADABLE"]
    assert found[1][1].startswith(f"{folder / 'large.json'} cannot be read: it has 67,108,865 bytes")


def test_two_files_that_cannot_be_read_are_two_rows(world: World) -> None:
    for name in ("one.json", "two.json"):
        with (world.folder / "sboms" / name).open("wb") as file:
            file.truncate(64 * 1024 * 1024 + 1)
    world.gather()
    assert len(world.rows("sbom_documents", "reason")) == 2


def test_too_many_files_are_an_error_of_the_settings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MAX_FILES", 2)
    for number in range(3):
        (world.folder / "sboms" / f"{number}.json").write_bytes(b"")
    with pytest.raises(SettingsError, match="more than 2 files"):
        world.gather()


def test_what_was_read_is_not_read_again_and_what_is_gone_goes(world: World) -> None:
    for name in ("a", "b"):
        (world.folder / "sboms" / name).write_bytes(cyclonedx(components=[library(name=name)]))
    world.hand_in(document=json.loads(cyclonedx(components=[library(name="c")])))
    world.gather()
    assert world.read_now == 3
    world.gather()
    assert world.read_now == 0
    (world.folder / "sboms" / "b").unlink()
    (world.folder / "sboms" / "d").write_bytes(cyclonedx(components=[library(name="d")]))
    world.gather()
    assert world.read_now == 1
    assert world.rows("sbom_components", "name") == [("a",), ("c",), ("d",)]
    assert len(world.rows("sbom_documents", "sbom_sha256")) == 3


def test_a_newer_reader_reads_again_what_it_can_reach(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    content = cyclonedx(components=[library(name="attested")])
    world.attested.append((hashlib.sha256(content).hexdigest(), content))
    (world.folder / "sboms" / "a").write_bytes(cyclonedx(components=[library(name="a")]))
    world.gather()
    monkeypatch.setattr("analytics.supply_chain.sbom_reading.READER", "newer")
    # The bundle was judged before: its SBOM is out of reach now, and stays as it was read.
    world.attested = [(sha256, b"") for sha256, _ in world.attested]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SbomReader, "take", _take_but_attested)
        world.gather()
    assert world.read_now == 1
    assert world.rows("sbom_components", "name") == [("a",), ("attested",)]
    assert {reader == "newer" for (reader,) in world.rows("sbom_documents", "reader")} == {True, False}


def test_text_that_no_table_likes_is_kept_all_the_same(world: World) -> None:
    component = b'{"type": "library", "name": "a\\u0000b\\ud800", "version": "\\u0007"}'.replace(b"\\\\", b"\\")
    content = b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [' + component + b"]}"
    (world.folder / "sboms" / "a").write_bytes(content)
    world.gather()
    assert world.rows("sbom_components", "name, version") == [("a\0b\ufffd", "\x07")]


_take = SbomReader.take


def _take_but_attested(reader: SbomReader, sha256: str, raw: bytes | str, origin_kind: str) -> None:
    if origin_kind != "attested":
        _take(reader, sha256, raw, origin_kind)
