from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.sources.git_world import Repository, World, by_sha


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "shop")


@pytest.fixture
def world(tmp_path: Path, shop: Repository) -> World:
    return World(tmp_path, {"acme/shop": str(shop.path)})


def test_file_named_like_a_commit_cannot_take_its_place(shop: Repository, world: World) -> None:
    other = shop.commit("other", {"honest.txt": "1"})
    shop.git("checkout", "-q", "--orphan", "evil")
    shop.git("rm", "-rfq", ".")
    evil = shop.commit("evil", {other: "1", "z.txt": "1"})
    world.options = {"path_filtered": ["acme/shop"]}
    commits = by_sha(world.sync("commits"))
    assert commits[evil]["files"] == [other, "z.txt"]
    assert commits[other]["files"] == ["honest.txt"]


def test_hostile_names_come_through_as_text(shop: Repository, world: World) -> None:
    shop.commit("base", {"line\nbreak.txt": "1", '"quoted\t".txt': "2", "-option": "3"})
    Path(os.fsdecode(os.fsencode(shop.path) + b"/caf\xe9.txt")).write_text("4")
    shop.git("tag", "--", "v1;$(owned)")
    head = shop.commit("fünf", {}, GIT_AUTHOR_NAME='<script> "; DROP TABLE commits')
    world.options = {"path_filtered": ["acme/shop"]}
    commits = by_sha(world.sync("commits"))
    assert commits[head]["files"] == ["caf\N{REPLACEMENT CHARACTER}.txt"]
    assert commits[head]["message"] == "fünf"
    assert commits[head]["author"] == 'script "; DROP TABLE commits'
    (root,) = (commit for commit in commits.values() if not commit["parents"])
    assert sorted(root["files"]) == ['"quoted\t".txt', "-option", "line\nbreak.txt"]
    assert world.sync("tags")[0]["name"] == "v1;$(owned)"


def raw(shop: Repository, author: bytes, message: bytes = b"m\n", extra: bytes = b"") -> str:
    tree = shop.git("write-tree").encode()
    committer = b"committer Bob <bob@example.org> 1767225600 +0000\n"
    return shop.raw_commit(b"tree " + tree + b"\nauthor " + author + b"\n" + committer + extra + b"\n" + message)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (b"1767225600 +9999", "2026-01-01T00:00:00Z"),
        (b"-1 -0000", "1969-12-31T23:59:59Z"),
        (b"253402300800 +0000", "253402300800 +0000"),
        (b"99999999999999999999999999 +0100", "99999999999999999999999999 +0100"),
        (b"soon", "soon "),
    ],
)
def test_date_no_calendar_holds_is_passed_on_for_the_judge(
    shop: Repository, world: World, when: bytes, expected: str
) -> None:
    raw(shop, b"Ada <ada@example.org> " + when)
    assert world.sync("commits")[0]["authored_at"] == expected


@pytest.mark.parametrize(
    ("encoding", "message", "expected"),
    [
        (b"", b"caf\xe9\n", "caf\N{REPLACEMENT CHARACTER}"),
        (b"encoding ISO-8859-1\n", b"caf\xe9\n", "café"),
        (b"encoding rot13\n", b"caf\xc3\xa9\n", "café"),
        (b"encoding ../../x\n", b"caf\xc3\xa9\n", "café"),
        (b"gpgsig -----BEGIN\n author Eve <e> 1 +0000\n \n -----END\n", b"signed\n", "signed"),
        (b"", b"kept\0dropped", "kept"),
        (b"", b"x" * 100_000, "x" * 65_536),
    ],
)
def test_message_is_text_of_at_most_64_kib(
    shop: Repository, world: World, encoding: bytes, message: bytes, expected: str
) -> None:
    raw(shop, b"Ada <ada@example.org> 1767225600 +0000", message, encoding)
    (commit,) = world.sync("commits")
    assert commit["message"] == expected
    assert commit["author"] == "Ada"


def test_author_without_a_name_is_called_by_the_address(shop: Repository, world: World) -> None:
    raw(shop, b"<ada@example.org> 1767225600 +0000")
    assert world.sync("commits")[0]["author"] == "ada@example.org"


def test_commit_that_is_none_is_refused_and_the_rest_goes_on(shop: Repository, world: World) -> None:
    good = shop.commit("good")
    tree = shop.git("write-tree")
    shop.raw_commit(f"tree {tree}\ncommitter Bob <bob@example.org> 1767225600 +0000\n\nno author\n".encode())
    (page,) = world.pages("commits")
    assert [json.loads(record.payload)["sha"] for record in page.records] == [good]
    (refusal,) = page.refusals
    assert refusal.reason == "commit_unreadable"
    assert b"no author" in refusal.excerpt
    assert {refusal.line, page.records[0].line} == {1, 2}


def test_commit_larger_than_a_megabyte_is_read_in_bounded_memory(shop: Repository, world: World) -> None:
    shop.commit("before")
    raw(shop, b"Ada <ada@example.org> 1767225600 +0000", b"y" * 3_000_000)
    shop.commit("after")
    assert len(world.sync("commits")) == 3
    raw(shop, b"Ada <ada@example.org> 1767225600 +0000", extra=b"gpgsig x\n" + b" y\n" * 600_000)
    (refusal,) = world.refusals("commits")
    assert "longer than" in refusal.detail
