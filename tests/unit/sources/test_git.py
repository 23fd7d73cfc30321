from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from analytics.errors import SourceError
from analytics.sources import git as git_source
from analytics.sources import git_objects
from analytics.sources.entities import ENTITIES
from tests.unit.sources.git_world import START, Repository, World, by_sha


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "shop")


@pytest.fixture
def world(tmp_path: Path, shop: Repository) -> World:
    return World(tmp_path, {"acme/shop": str(shop.path)})


def folder_state(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): f"{path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files}


def test_commit_has_the_feeds_fields_with_times_in_utc(shop: Repository, world: World) -> None:
    first = shop.commit("first")
    second = shop.commit("second\n\nWhy it was done.", GIT_AUTHOR_DATE=f"{START} -0530")
    (root, child) = world.sync("commits")
    assert root["parents"] == []
    assert child["patch_id"] != root["patch_id"]
    del child["patch_id"]
    assert child == {
        "repository": "acme/shop",
        "sha": second,
        "parents": [first],
        "author": "Ada",
        "authored_at": "2026-01-01T00:00:00Z",
        "committed_at": "2026-01-01T02:00:00Z",
        "message": "second\n\nWhy it was done.",
    }


def test_every_record_passes_the_entitys_own_check(shop: Repository, world: World) -> None:
    shop.commit("first", {"docs/runbook.md": "1"})
    shop.git("tag", "v1")
    world.options = {"watched_paths": {"acme/shop": ["docs/runbook.md"]}, "path_filtered": ["acme/shop"]}
    for entity in ("commits", "tags", "file_revisions"):
        (record,) = world.sync(entity)
        assert ENTITIES[entity].decoder.decode(json.dumps(record).encode())


def test_merge_commit_has_its_parents_and_neither_files_nor_patch_id(shop: Repository, world: World) -> None:
    base = shop.commit("base")
    shop.git("checkout", "-q", "-b", "feature")
    side = shop.commit("side")
    shop.git("checkout", "-q", "main")
    main = shop.commit("main goes on")
    merge = shop.merge("feature")
    world.options = {"path_filtered": ["acme/shop"]}
    commits = by_sha(world.sync("commits"))
    assert set(commits) == {base, side, main, merge}
    assert commits[merge]["parents"] == [main, side]
    assert not {"files", "patch_id"} & set(commits[merge])


def test_heads_of_pull_and_merge_requests_bring_squashed_originals(shop: Repository, world: World) -> None:
    shop.commit("base")
    originals = []
    for number, ref in ((1, "refs/pull/1/head"), (2, "refs/merge-requests/2/head")):
        shop.git("checkout", "-q", "--detach", "main")
        originals.append(shop.commit(f"original {number}"))
        shop.git("update-ref", ref, "HEAD")
    shop.git("checkout", "-q", "main")
    assert set(originals) <= set(by_sha(world.sync("commits")))


def test_test_merges_stashes_and_notes_are_not_commits_of_the_project(shop: Repository, world: World) -> None:
    base = shop.commit("base")
    for ref in ("refs/pull/1/merge", "refs/stash", "refs/notes/commits", "refs/original/refs/heads/main"):
        shop.git("checkout", "-q", "--detach", base)
        shop.commit(f"made by a program for {ref}")
        shop.git("update-ref", ref, "HEAD")
    shop.git("checkout", "-q", "main")
    assert list(by_sha(world.sync("commits"))) == [base]


def test_cherry_pick_and_single_commit_squash_share_the_patch_id(shop: Repository, world: World) -> None:
    base = shop.commit("base", {"a.txt": "one\ntwo\nthree\n"})
    shop.git("checkout", "-q", "-b", "hotfix")
    fix = shop.commit("fix", {"a.txt": "one\nTWO\nthree\n"})
    shop.git("checkout", "-q", "main")
    shop.commit("other", {"b.txt": "b"})
    shop.hours += 1
    shop.git("cherry-pick", fix)
    picked = shop.head()
    shop.git("checkout", "-q", "-b", "release", base)
    shop.git("merge", "--squash", "hotfix")
    squashed = shop.commit("fix (#7)", {}, GIT_AUTHOR_NAME="Host")
    commits = by_sha(world.sync("commits"))
    assert commits[picked]["patch_id"] == commits[fix]["patch_id"] == commits[squashed]["patch_id"]
    assert commits[picked]["authored_at"] == commits[fix]["authored_at"]
    assert len({commit.get("patch_id") for commit in commits.values()}) == 3


def test_patch_ids_of_binary_changes_depend_on_their_content(shop: Repository, world: World) -> None:
    base = shop.commit("base", {"logo": "\0base"})
    one = shop.commit("one", {"logo": "\0one"})
    shop.git("checkout", "-q", "--detach", base)
    two = shop.commit("two", {"logo": "\0two"})
    shop.git("branch", "two")
    commits = by_sha(world.sync("commits"))
    assert commits[one]["patch_id"] != commits[two]["patch_id"]


def test_patch_id_of_a_binary_change_does_not_hang_on_how_ids_are_shortened(
    shop: Repository, world: World, tmp_path: Path
) -> None:
    shop.commit("logo", {"logo": "\0"})
    (before,) = world.sync("commits")
    shop.git("config", "core.abbrev", "20")
    assert World(tmp_path, world.repositories).sync("commits") == [before]


def test_what_is_checked_out_does_not_change_a_patch_id(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("base", {"a.txt": "1\n"})
    fix = shop.commit("fix", {"a.txt": "2\n"})
    before = by_sha(world.sync("commits"))[fix]["patch_id"]
    shop.commit("binary from now on", {".gitattributes": "*.txt -diff\n"})
    again = World(tmp_path, world.repositories)
    assert by_sha(again.sync("commits"))[fix]["patch_id"] == before


def test_only_the_newest_commits_of_a_huge_history_get_patch_ids(
    shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shas = [shop.commit(f"commit {number}") for number in range(7)]
    monkeypatch.setattr(git_source, "PAGE_RECORDS", 2)
    monkeypatch.setattr(git_source, "PATCH_ID_COMMITS", 3)
    commits = by_sha(world.sync("commits"))
    assert [sha for sha in shas if "patch_id" in commits[sha]] == shas[-3:]


def test_unchanged_repository_yields_nothing(shop: Repository, world: World) -> None:
    shop.commit("first", {"docs/runbook.md": "1"})
    shop.git("tag", "v1")
    world.options = {"watched_paths": {"acme/shop": ["docs/runbook.md"]}}
    for entity in ("commits", "tags", "file_revisions"):
        assert world.sync(entity)
        assert world.pages(entity) == []


def test_empty_repository_is_read_once(world: World) -> None:
    (page,) = world.pages("commits")
    assert not page.records
    assert world.pages("commits") == []


def test_growth_yields_only_new_commits_on_the_following_lines(shop: Repository, world: World) -> None:
    shop.commit("first")
    (first,) = world.pages("commits")
    new = [shop.commit("second"), shop.commit("third")]
    (page,) = world.pages("commits")
    assert [json.loads(record.payload)["sha"] for record in page.records] == new
    assert [record.line for record in (*first.records, *page.records)] == [1, 2, 3]
    assert first.generation == page.generation


def test_ref_moved_to_known_commits_advances_the_cursor_without_records(shop: Repository, world: World) -> None:
    shop.commit("first")
    world.sync("commits")
    shop.git("branch", "another")
    (page,) = world.pages("commits")
    assert not page.records
    assert world.pages("commits") == []


def test_force_push_yields_the_new_commits_and_breaks_nothing(shop: Repository, world: World) -> None:
    base = shop.commit("base")
    shop.commit("dropped")
    world.sync("commits")
    shop.git("reset", "--quiet", "--hard", base)
    replacement = shop.commit("replacement")
    shop.git("reflog", "expire", "--expire=now", "--all")
    shop.git("gc", "--quiet", "--prune=now")
    assert replacement in by_sha(world.sync("commits"))
    assert world.pages("commits") == []


def test_killed_pull_goes_on_behind_its_last_page(
    shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_source, "PAGE_RECORDS", 2)
    shas = [shop.commit(f"commit {number}") for number in range(7)]
    before = world.sync("commits", keep=2)
    after = world.sync("commits")
    assert [record["sha"] for record in before + after] == shas
    assert world.pages("commits") == []


def test_killed_pull_goes_on_though_refs_have_moved(
    shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_source, "PAGE_RECORDS", 2)
    base = shop.commit("base")
    old = [shop.commit(f"commit {number}") for number in range(5)]
    before = world.sync("commits", keep=2)
    shop.git("checkout", "-q", "-b", "aside", base)
    new = shop.commit("aside")
    after = world.sync("commits")
    assert sorted(record["sha"] for record in before + after) == sorted([base, *old, new])
    assert world.pages("commits") == []


def test_pull_killed_between_old_and_moved_refs_misses_nothing(
    shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_source, "PAGE_RECORDS", 2)
    for number in range(3):
        shop.commit(f"commit {number}")
    world.sync("commits", keep=1)
    new = shop.commit("new")
    world.sync("commits", keep=1)
    assert list(by_sha(world.sync("commits"))) == [new]


def test_killed_pull_starts_over_when_its_tips_are_gone(
    shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_source, "PAGE_RECORDS", 2)
    base = shop.commit("base")
    for number in range(5):
        shop.commit(f"dropped {number}")
    world.sync("commits", keep=1)
    shop.git("reset", "--quiet", "--hard", base)
    shop.git("reflog", "expire", "--expire=now", "--all")
    shop.git("gc", "--quiet", "--prune=now")
    new = shop.commit("new")
    assert [record["sha"] for record in world.sync("commits")] == [base, new]


def test_one_corrupted_repository_fails_alone(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("fine")
    broken = Repository(tmp_path / "broken")
    broken.commit("first")
    lost = broken.commit("second")
    broken.commit("third")
    (broken.path / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    world.repositories["acme/broken"] = str(broken.path)
    with pytest.raises(SourceError, match=r"acme/broken .*git rev-list failed"):
        world.pages("commits", "acme/broken")
    assert len(world.sync("commits", "acme/shop")) == 1


@pytest.mark.parametrize("made", ["nothing", "folder", "file"])
def test_path_without_a_repository_is_named(tmp_path: Path, made: str) -> None:
    # A folder inside some other repository must not be taken for that one.
    outer = Repository(tmp_path / "outer")
    outer.commit("of another repository")
    path = outer.path / "clones"
    if made == "folder":
        path.mkdir()
    elif made == "file":
        path.write_text("")
    with pytest.raises(SourceError, match=r"(?s)acme/shop .*outer/clones.*Clone the repository there"):
        World(tmp_path, {"acme/shop": str(path)}).pages("commits")


def test_discover_names_the_requests_of_each_entity(tmp_path: Path) -> None:
    world = World(tmp_path, {"acme/a": "-", "acme/b": "-"}, watched_paths={"Acme/B": ["runbook.md"], "acme/a": []})
    provider = world.provider()
    assert provider.discover().requests == {
        "commits": ["acme/a", "acme/b"],
        "tags": ["acme/a", "acme/b"],
        "file_revisions": ["acme/b"],
    }
    assert provider.capabilities().entities == {"commits", "tags", "file_revisions"}


def test_unknown_request_is_refused(world: World) -> None:
    with pytest.raises(SourceError, match="has no commits of 'acme/other'"):
        world.pages("commits", "acme/other")


def test_files_are_both_paths_of_a_rename_and_none_for_an_empty_commit(shop: Repository, world: World) -> None:
    root = shop.commit("root", {"a/one.txt": "1\n2\n3\n", "b/two.txt": "2"})
    shop.git("mv", "a/one.txt", "b/moved.txt")
    renamed = shop.commit("rename", {})
    empty = shop.commit("empty", {})
    shop.git("rm", "-q", "b/two.txt")
    removed = shop.commit("remove", {})
    world.options = {"path_filtered": ["Acme/Shop"]}
    commits = by_sha(world.sync("commits"))
    assert commits[root]["files"] == ["a/one.txt", "b/two.txt"]
    assert commits[renamed]["files"] == ["a/one.txt", "b/moved.txt"]
    assert commits[empty]["files"] == []
    assert commits[removed]["files"] == ["b/two.txt"]
    assert "patch_id" not in commits[empty]


def test_files_are_left_out_where_no_service_filters_paths(shop: Repository, world: World) -> None:
    shop.commit("first")
    assert "files" not in world.sync("commits")[0]


def test_commit_of_too_many_files_has_no_list_rather_than_half_of_one(
    shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_objects, "FILES_PER_COMMIT", 3)
    many = shop.commit("many", {f"{number}.txt": "x" for number in range(4)})
    few = shop.commit("few", {f"{number}.txt": "y" for number in range(3)})
    world.options = {"path_filtered": ["acme/shop"]}
    commits = by_sha(world.sync("commits"))
    assert "files" not in commits[many]
    assert len(commits[few]["files"]) == 3


def test_path_filter_declared_later_reads_all_commits_again_as_the_next_generation(
    shop: Repository, world: World
) -> None:
    shop.commit("first")
    shop.commit("second")
    world.sync("commits")
    world.options = {"path_filtered": ["acme/shop"]}
    (page,) = world.pages("commits")
    assert page.generation == 1
    assert [record.line for record in page.records] == [1, 2]
    assert all("files" in json.loads(record.payload) for record in page.records)
    assert world.pages("commits") == []


def test_replace_refs_do_not_rewrite_history(shop: Repository, world: World) -> None:
    honest = shop.commit("honest")
    forged = shop.commit("forged")
    shop.git("replace", honest, forged)
    assert by_sha(world.sync("commits"))[honest]["message"] == "honest"


def test_shallow_clone_says_so_until_it_is_whole_and_is_read_again(
    shop: Repository, world: World, tmp_path: Path
) -> None:
    shas = [shop.commit(f"commit {number}") for number in range(3)]
    clone = tmp_path / "shallow"
    shop.git("clone", "--quiet", "--depth=1", f"file://{shop.path}", str(clone))
    world.repositories["acme/shop"] = str(clone)
    world.options = {"path_filtered": ["acme/shop"]}
    (page,) = world.pages("commits")
    assert [(refusal.line, refusal.reason) for refusal in page.refusals] == [(0, "shallow_clone")]
    (commit,) = (json.loads(record.payload) for record in page.records)
    # Cut off from its parent it would seem to have made every file.
    assert not {"files", "patch_id"} & set(commit)
    assert world.pages("commits") == []
    shop.git("-C", str(clone), "branch", "one")
    assert [refusal.line for refusal in world.refusals("commits")] == [0]
    shop.git("-C", str(clone), "fetch", "--quiet", "--unshallow")
    commits = by_sha(world.sync("commits"))
    assert set(commits) == set(shas)
    assert commits[shas[-1]]["files"] == ["file-3.txt"]
    shop.git("-C", str(clone), "branch", "another")
    assert world.refusals("commits") == []


def test_one_missing_blob_costs_its_own_patch_ids_only(shop: Repository, world: World) -> None:
    shas = [shop.commit(f"commit {number}") for number in range(6)]
    blob = shop.head("HEAD~2:file-4.txt")
    (shop.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    commits = by_sha(world.sync("commits"))
    assert [sha for sha in shas if "patch_id" not in commits[sha]] == [shas[3]]


def test_partial_clone_is_read_without_fetching_or_failing(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("first", {"a.txt": "1"})
    shop.commit("second", {"a.txt": "2"})
    shop.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "blobless.git"
    shop.git("clone", "--quiet", "--bare", "--filter=blob:none", f"file://{shop.path}", str(clone))
    before = folder_state(clone)
    world.repositories["acme/shop"] = str(clone)
    world.options = {"path_filtered": ["acme/shop"]}
    commits = world.sync("commits")
    assert [commit["files"] for commit in commits] == [["a.txt"], ["a.txt"]]
    assert not any("patch_id" in commit for commit in commits)
    assert folder_state(clone) == before


def test_treeless_clone_gives_commits_without_files(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("first")
    shop.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "treeless.git"
    shop.git("clone", "--quiet", "--bare", "--filter=tree:0", f"file://{shop.path}", str(clone))
    world.repositories["acme/shop"] = str(clone)
    world.options = {"path_filtered": ["acme/shop"]}
    (commit,) = world.sync("commits")
    assert "files" not in commit


def test_clone_of_the_user_is_never_written_to(shop: Repository, world: World) -> None:
    shop.commit("first", {"docs/runbook.md": "1", "a.txt": "1"})
    shop.git("tag", "-a", "-m", "one", "v1")
    (shop.path / "a.txt").write_text("not committed")
    os.utime(shop.path / "docs" / "runbook.md", (1, 1))  # makes the index stale
    before = folder_state(shop.path)
    world.options = {"watched_paths": {"acme/shop": ["docs/runbook.md"]}, "path_filtered": ["acme/shop"]}
    for entity in ("commits", "tags", "file_revisions"):
        assert world.sync(entity)
    assert folder_state(shop.path) == before


def test_repository_cannot_make_git_run_a_program(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("first", {".gitattributes": "*.txt diff=evil\n", "a.txt": "1"})
    shop.commit("second", {"a.txt": "2"})
    owned = tmp_path / "owned"
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {owned}\ncat\n")
    program.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / hook).symlink_to(program)
    for key in (
        *("core.fsmonitor", "core.pager", "pager.log", "diff.external", "diff.evil.textconv", "diff.evil.command"),
        *("core.sshCommand", "core.editor", "gpg.program", "core.gitProxy", "core.askPass", "credential.helper"),
    ):
        shop.git("config", key, str(program))
    shop.git("config", "core.hooksPath", str(hooks))
    shop.git("config", "log.showSignature", "true")
    shop.git("config", "remote.origin.promisor", "true")
    shop.git("config", "remote.origin.url", f"ext::{program}")
    (shop.path / ".git" / "info" / "attributes").write_text("*.txt diff=evil\n")
    world.options = {"watched_paths": {"acme/shop": ["a.txt"]}, "path_filtered": ["acme/shop"]}
    assert len(world.sync("commits")) == 2
    assert world.sync("file_revisions")
    blob = shop.head("HEAD:a.txt")
    (shop.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    assert len(World(tmp_path, world.repositories).sync("commits")) == 2
    assert not owned.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to someone else")
def test_clone_owned_by_someone_else_is_read(shop: Repository, world: World) -> None:
    shop.commit("first")
    for path in (shop.path, *shop.path.rglob("*")):
        os.chown(path, 12345, 12345)
    assert len(world.sync("commits")) == 1


def test_linked_worktree_is_read_as_its_repository(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("first")
    shop.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    world.repositories["acme/shop"] = str(tmp_path / "linked")
    assert len(world.sync("commits")) == 1
