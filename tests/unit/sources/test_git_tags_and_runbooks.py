from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analytics.sources import git as git_source
from tests.unit.sources.git_world import Repository, World


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "shop")


@pytest.fixture
def world(tmp_path: Path, shop: Repository) -> World:
    return World(tmp_path, {"acme/shop": str(shop.path)})


def change(sha: str, hour: int) -> dict[str, Any]:
    return {"sha": sha, "committed_at": f"2026-01-01T{hour:02}:00:00Z"}


def revision(path: str, sha: str, hour: int, *earlier: tuple[str, int]) -> dict[str, Any]:
    before = {"earlier": [change(*each) for each in earlier]} if earlier else {}
    return {"repository": "acme/shop", "path": path, **change(sha, hour), **before}


def test_tag_is_peeled_and_dated_by_its_tagger_else_by_the_commit(shop: Repository, world: World) -> None:
    sha = shop.commit("first")
    shop.git("tag", "light")
    shop.hours = 5
    shop.git("tag", "-a", "-m", "one", "annotated")
    shop.hours = 7
    shop.git("tag", "-a", "-m", "a tag of a tag", "nested", "annotated")
    common = {"repository": "acme/shop", "sha": sha}
    assert world.sync("tags") == [
        {**common, "name": "annotated", "tagged_at": "2026-01-01T05:00:00Z"},
        {**common, "name": "light", "tagged_at": "2026-01-01T01:00:00Z"},
        {**common, "name": "nested", "tagged_at": "2026-01-01T07:00:00Z"},
    ]


def test_only_new_and_moved_tags_are_given_again(shop: Repository, world: World) -> None:
    shop.commit("first")
    shop.git("tag", "stays")
    shop.git("tag", "moves")
    world.sync("tags")
    second = shop.commit("second")
    shop.git("tag", "--force", "moves")
    shop.git("tag", "new")
    (page,) = world.pages("tags")
    tags = {tag["name"]: tag["sha"] for tag in (json.loads(record.payload) for record in page.records)}
    assert tags == {"moves": second, "new": second}
    assert [record.line for record in page.records] == [3, 4]


def test_tag_moved_back_is_given_again(shop: Repository, world: World) -> None:
    first = shop.commit("first")
    shop.git("tag", "v1")
    world.sync("tags")
    shop.commit("second")
    shop.git("tag", "--force", "v1")
    world.sync("tags")
    shop.git("tag", "--force", "v1", first)
    assert [tag["sha"] for tag in world.sync("tags")] == [first]


def test_killed_pull_of_tags_goes_on(shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_source, "PAGE_RECORDS", 2)
    shop.commit("first")
    for number in range(5):
        shop.git("tag", f"v{number}")
    names = [tag["name"] for tag in world.sync("tags", keep=1) + world.sync("tags")]
    assert names == [f"v{number}" for number in range(5)]
    assert world.pages("tags") == []


def test_tag_that_names_no_commit_is_refused_and_the_rest_goes_on(shop: Repository, world: World) -> None:
    shop.commit("first", {"a.txt": "1"})
    shop.git("tag", "a-tree", "HEAD^{tree}")
    shop.git("tag", "-a", "-m", "x", "b-blob", "HEAD:a.txt")
    shop.git("tag", "c-commit")
    (page,) = world.pages("tags")
    assert [json.loads(record.payload)["name"] for record in page.records] == ["c-commit"]
    assert [refusal.reason for refusal in page.refusals] == ["tag_without_commit"] * 2
    assert "'a-tree'" in page.refusals[0].detail
    assert len(world.sync("commits")) == 1


def test_the_changes_of_each_watched_path_are_given_newest_first(shop: Repository, world: World) -> None:
    shop.commit("first", {"docs/a.md": "1", "docs/b.md": "1"})
    changed = shop.commit("second", {"docs/a.md": "2"})
    shop.commit("third")
    world.options = {"watched_paths": {"acme/shop": ["docs/a.md", "./docs/b.md", "docs/missing.md"]}}
    first = shop.head("HEAD~2")
    assert world.sync("file_revisions") == [
        revision("docs/a.md", changed, 2, (first, 1)),
        revision("./docs/b.md", first, 1),
    ]


def test_only_a_changed_runbook_is_given_again(shop: Repository, world: World) -> None:
    first = shop.commit("first", {"a.md": "1", "b.md": "1"})
    world.options = {"watched_paths": {"acme/shop": ["a.md", "b.md"]}}
    world.sync("file_revisions")
    shop.commit("unrelated")
    (page,) = world.pages("file_revisions")
    assert not page.records
    changed = shop.commit("changed", {"b.md": "2"})
    assert world.sync("file_revisions") == [revision("b.md", changed, 3, (first, 1))]


def test_path_watched_later_is_searched_in_all_history(shop: Repository, world: World) -> None:
    first = shop.commit("first", {"a.md": "1", "b.md": "1"})
    world.options = {"watched_paths": {"acme/shop": ["a.md"]}}
    world.sync("file_revisions")
    world.options = {"watched_paths": {"acme/shop": ["a.md", "b.md"]}}
    assert world.sync("file_revisions") == [revision("b.md", first, 1)]


def test_removed_runbook_is_no_fresh_one(shop: Repository, world: World) -> None:
    shop.commit("first", {"a.md": "1"})
    shop.git("rm", "-q", "a.md")
    shop.commit("gone", {})
    world.options = {"watched_paths": {"acme/shop": ["a.md"]}}
    assert world.sync("file_revisions") == []


def test_rewound_branch_gives_the_older_change_again(shop: Repository, world: World) -> None:
    first = shop.commit("first", {"a.md": "1", "b.md": "1"})
    shop.commit("dropped", {"a.md": "2"})
    world.options = {"watched_paths": {"acme/shop": ["a.md", "b.md"]}}
    world.sync("file_revisions")
    shop.git("reset", "--quiet", "--hard", first)
    assert world.sync("file_revisions") == [revision("a.md", first, 1)]


def test_change_that_a_merge_discarded_is_not_the_newest(shop: Repository, world: World) -> None:
    base = shop.commit("base", {"a.md": "base"})
    world.options = {"watched_paths": {"acme/shop": ["a.md"]}}
    shop.git("checkout", "-q", "-b", "side")
    shop.commit("side", {"a.md": "side"})
    shop.git("checkout", "-q", "main")
    kept = shop.commit("main", {"a.md": "main"})
    assert world.sync("file_revisions") == [revision("a.md", kept, 3, (base, 1))]
    shop.git("merge", "--quiet", "--strategy=ours", "-m", "ours", "side")
    assert world.sync("file_revisions") == []


def test_default_branch_of_the_remote_counts_in_a_clone_on_another_branch(
    shop: Repository, world: World, tmp_path: Path
) -> None:
    shop.commit("first", {"a.md": "1"})
    clone = tmp_path / "clone"
    shop.git("clone", "--quiet", f"file://{shop.path}", str(clone))
    mine = Repository(tmp_path / "unused")
    mine.path = clone
    mine.git("checkout", "-q", "-b", "draft")
    mine.hours = 9
    mine.commit("draft", {"a.md": "2"})
    world.repositories["acme/shop"] = str(clone)
    world.options = {"watched_paths": {"acme/shop": ["a.md"]}}
    assert [record["sha"] for record in world.sync("file_revisions")] == [shop.head()]


@pytest.mark.parametrize("path", ["../outside.md", "docs/../../outside.md", "", "a\0b"])
def test_path_outside_the_repository_is_refused(shop: Repository, world: World, path: str) -> None:
    shop.commit("first", {"a.md": "1"})
    world.options = {"watched_paths": {"acme/shop": [path, "a.md"]}}
    (page,) = world.pages("file_revisions")
    assert [(refusal.line, refusal.reason) for refusal in page.refusals] == [(0, "path_outside_repository")]
    assert len(page.records) == 1
    assert world.pages("file_revisions") == []
    shop.commit("second")
    assert len(world.refusals("file_revisions")) == 1


def test_shallow_clone_does_not_pass_its_last_commit_off_as_a_change(
    shop: Repository, world: World, tmp_path: Path
) -> None:
    first = shop.commit("first", {"a.md": "1"})
    shop.commit("second")
    clone = tmp_path / "shallow"
    shop.git("clone", "--quiet", "--depth=1", f"file://{shop.path}", str(clone))
    world.repositories["acme/shop"] = str(clone)
    world.options = {"watched_paths": {"acme/shop": ["a.md"]}}
    (page,) = world.pages("file_revisions")
    assert not page.records
    assert [(refusal.line, refusal.reason) for refusal in page.refusals] == [(0, "shallow_clone")]
    shop.git("-C", str(clone), "fetch", "--quiet", "--unshallow")
    assert world.sync("file_revisions") == [revision("a.md", first, 1)]


def test_watched_path_is_a_name_and_no_pattern(shop: Repository, world: World) -> None:
    starred = shop.commit("starred", {"*.md": "1"})
    shop.commit("plain", {"a.md": "1"})
    world.options = {"watched_paths": {"acme/shop": ["*.md", ":(glob)**/a.md"]}}
    assert world.sync("file_revisions") == [revision("*.md", starred, 1)]
