"""The manifest names every file, and verifying it follows nothing that it says."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from analytics.errors import PackError
from reports.manifest import FORMAT, MANIFEST_NAME, verify_pack, write_manifest
from reports.signing import PUBLIC_KEY_NAME, SIGNATURE_FILES

SHA = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pack"
    (folder / "services").mkdir(parents=True)
    (folder / "index.html").write_text("<p>one</p>")
    (folder / "services" / "checkout.html").write_text("<p>two</p>")
    write_manifest(folder, {"quarter": "2026-Q3"})
    return folder


def write(folder: Path, files: Any, **more: Any) -> None:
    (folder / MANIFEST_NAME).write_text(json.dumps({"format": FORMAT, "files": files, **more}))


def test_an_untouched_pack_verifies(folder: Path) -> None:
    result = verify_pack(folder)
    assert (result.ok, result.problems, result.files, result.signature) == (True, (), 2, "none (the pack is unsigned)")


def test_the_pack_id_is_the_manifests_hash(folder: Path) -> None:
    content = (folder / MANIFEST_NAME).read_bytes()
    assert verify_pack(folder).pack_id == hashlib.sha256(content).hexdigest()


def test_a_changed_file_is_named(folder: Path) -> None:
    (folder / "services" / "checkout.html").write_text("<p>owt</p>")
    assert verify_pack(folder).problems == ("services/checkout.html: changed (its SHA-256 differs)",)


def test_a_file_that_grew_is_named(folder: Path) -> None:
    with (folder / "index.html").open("a") as file:
        file.write("!")
    assert verify_pack(folder).problems == ("index.html: changed (11 bytes, the manifest says 10)",)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "index.html").unlink()
    assert verify_pack(folder).problems == ("index.html: missing",)


def test_an_added_file_is_named(folder: Path) -> None:
    (folder / "services" / "extra.html").write_text("x")
    result = verify_pack(folder)
    assert (result.ok, result.problems) == (False, ("services/extra.html: not in the manifest",))


def test_a_symbolic_link_is_a_problem_even_when_its_target_fits(folder: Path) -> None:
    page = folder / "index.html"
    page.rename(folder.parent / "elsewhere.html")
    page.symlink_to(folder.parent / "elsewhere.html")
    problems = verify_pack(folder).problems
    assert "index.html: is a symbolic link, which is not followed" in problems
    assert "index.html: missing" in problems


def test_a_linked_folder_is_not_entered(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("x")
    (folder / "more").symlink_to(outside)
    assert verify_pack(folder).problems == ("more: is a symbolic link, which is not followed",)


def test_a_pipe_does_not_block_the_check(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert verify_pack(folder).problems == ("pipe: is not a regular file",)


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "a//b", "./a", "", "a\x1b[2J", "manifest.json", "x" * 401, 7],
)
def test_a_path_that_leaves_the_pack_or_hides_something_is_refused(folder: Path, path: Any) -> None:
    (folder.parent / "secret").write_text("x")
    write(folder, [{"path": path, "sha256": SHA, "bytes": 1}])
    result = verify_pack(folder)
    assert not result.ok
    assert any("not a plain relative path" in problem for problem in result.problems)
    assert not any("\x1b" in problem for problem in result.problems)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("index.html", "is not an object"),
        ({"path": "a", "sha256": "zz", "bytes": 1}, "has no SHA-256"),
        ({"path": "a", "sha256": SHA.upper().replace("0", "A"), "bytes": 1}, "has no SHA-256"),
        ({"path": "a", "sha256": SHA, "bytes": True}, "has a size outside"),
        ({"path": "a", "sha256": SHA, "bytes": 10**12}, "has a size outside"),
    ],
)
def test_a_broken_entry_is_named_by_its_place(folder: Path, entry: Any, words: str) -> None:
    write(folder, [entry])
    assert any(
        problem.startswith("manifest.json: files[0]") and words in problem for problem in verify_pack(folder).problems
    )


def test_a_path_listed_twice_is_refused(folder: Path) -> None:
    entry = {"path": "a", "sha256": SHA, "bytes": 1}
    write(folder, [entry, entry])
    assert any("is listed twice" in problem for problem in verify_pack(folder).problems)


def test_a_manifest_without_a_list_of_files_does_not_verify(folder: Path) -> None:
    write(folder, {"index.html": SHA})
    assert not verify_pack(folder).ok


def test_an_empty_list_does_not_verify_a_folder_with_files(folder: Path) -> None:
    write(folder, [])
    assert not verify_pack(folder).ok


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{}", b"\xff\xfe", b'{"format": "other/1"}', b"[" * 100_000, b"1" * 5000, b'{"a": 1, "a": 2}'],
)
def test_what_is_no_manifest_is_an_error_a_person_can_act_on(folder: Path, content: bytes) -> None:
    (folder / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(PackError, match=MANIFEST_NAME) as error:
        verify_pack(folder)
    assert str(folder) in str(error.value)


def test_a_folder_named_like_the_manifest_is_an_error_a_person_can_act_on(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    (folder / MANIFEST_NAME).mkdir()
    with pytest.raises(PackError, match="not a regular file"):
        verify_pack(folder)


@pytest.mark.parametrize("name", sorted(SIGNATURE_FILES))
def test_a_folder_named_like_a_signature_is_a_problem_and_no_error(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    assert any(name in problem and "not a regular file" in problem for problem in verify_pack(folder).problems)


def test_a_public_key_that_was_left_behind_tells_of_a_signature_taken_away(folder: Path) -> None:
    (folder / PUBLIC_KEY_NAME).write_bytes(b"-----BEGIN PUBLIC KEY-----")
    assert "was the signature taken away?" in verify_pack(folder).problems[0]


def test_an_oversized_manifest_is_not_read(folder: Path) -> None:
    (folder / MANIFEST_NAME).write_bytes(b" " * (8 * 1024 * 1024 + 1))
    with pytest.raises(PackError, match="larger than"):
        verify_pack(folder)


def test_a_linked_manifest_is_not_read(folder: Path) -> None:
    (folder / MANIFEST_NAME).rename(folder.parent / "other.json")
    (folder / MANIFEST_NAME).symlink_to(folder.parent / "other.json")
    with pytest.raises(PackError, match="cannot be read"):
        verify_pack(folder)


def test_a_folder_without_a_manifest_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"there is no manifest\.json"):
        verify_pack(tmp_path)
