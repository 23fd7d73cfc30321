from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.errors import SourceError
from analytics.sources import git_clones, git_program
from analytics.sources.git_clones import CachedClone
from tests.unit.sources.git_world import Repository, World, by_sha


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    shop = Repository(tmp_path / "shop")
    shop.git("config", "uploadpack.allowFilter", "true")
    return shop


@pytest.fixture
def world(tmp_path: Path, shop: Repository) -> World:
    return World(tmp_path, {"acme/shop": f"file://{shop.path}"})


def kept(world: World) -> list[Path]:
    clones = world.folder / "clones"
    return sorted(clones.iterdir()) if clones.is_dir() else []


def objects_of_kind(clone: Path, kind: str) -> int:
    found = Repository.__new__(Repository)
    found.path, found.hours = clone, 0
    return found.git("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)").split().count(kind)


def test_url_gives_what_the_clone_in_place_gives(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("first", {"docs/runbook.md": "1"})
    shop.git("checkout", "-q", "--detach")
    for ref in ("refs/pull/1/head", "refs/merge-requests/2/head"):
        shop.git("checkout", "-q", "--detach", "main")
        shop.commit("squashed later")
        shop.git("update-ref", ref, "HEAD")
    shop.git("checkout", "-q", "main")
    shop.git("tag", "-a", "-m", "one", "v1")
    world.options = {"watched_paths": {"acme/shop": ["docs/runbook.md"]}, "path_filtered": ["acme/shop"]}
    in_place = World(tmp_path, {"acme/shop": str(shop.path)}, **world.options)
    for entity in ("tags", "file_revisions", "commits"):
        expected = in_place.sync(entity)
        for record in expected:
            record.pop("patch_id", None)
        assert expected
        assert world.sync(entity) == expected


@pytest.mark.parametrize(("filtered", "trees"), [([], 0), (["acme/shop"], 2)])
def test_clone_holds_no_more_than_is_needed(shop: Repository, world: World, filtered: list[str], trees: int) -> None:
    shop.commit("first", {"a/b.txt": "1"})
    world.options = {"path_filtered": filtered}
    world.sync("commits")
    (clone,) = kept(world)
    assert objects_of_kind(clone, "blob") == 0
    assert objects_of_kind(clone, "tree") == trees
    assert objects_of_kind(clone, "commit") == 1


def test_server_without_filters_gives_all_and_patch_ids_with_it(shop: Repository, world: World) -> None:
    shop.git("config", "uploadpack.allowFilter", "false")
    shop.commit("first")
    (commit,) = world.sync("commits")
    assert commit["patch_id"]
    shop.commit("second")
    assert len(world.sync("commits")) == 1


def test_unchanged_remote_is_only_looked_at(shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.commit("first")
    for entity in ("commits", "tags"):
        world.pages(entity)
    started: list[str] = []
    original = git_program.Git.stream

    def noting(self: git_program.Git, *arguments: str, **options: object) -> object:
        started.append(arguments[0])
        return original(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(git_program.Git, "stream", noting)
    provider = world.provider()
    for entity in ("commits", "tags"):
        assert list(provider.changes(entity, "acme/shop", world.cursors[(entity, "acme/shop")])) == []
    assert started == ["ls-remote"]


def test_growth_is_fetched(shop: Repository, world: World) -> None:
    shop.commit("first")
    world.sync("commits")
    second = shop.commit("second")
    assert list(by_sha(world.sync("commits"))) == [second]
    assert world.pages("commits") == []


def test_discover_has_the_remote_asked_again(shop: Repository, world: World) -> None:
    shop.commit("first")
    provider = world.provider()
    (page,) = provider.changes("commits", "acme/shop", None)
    shop.commit("second")
    assert list(provider.changes("commits", "acme/shop", page.cursor)) == []
    provider.discover()
    assert len(list(provider.changes("commits", "acme/shop", page.cursor))) == 1


def test_force_push_and_removed_branch_break_nothing(shop: Repository, world: World) -> None:
    base = shop.commit("base")
    shop.git("branch", "topic")
    shop.commit("dropped")
    world.sync("commits")
    shop.git("reset", "--quiet", "--hard", base)
    new = shop.commit("new")
    shop.git("branch", "-D", "topic")
    # A folder now stands where the branch's file stood.
    shop.git("branch", "topic/a")
    assert list(by_sha(world.sync("commits"))) == [new]
    assert world.pages("commits") == []


def test_housekeeping_after_a_fetch_keeps_the_clone_readable(shop: Repository, world: World, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("[gc]\n\tauto = 1\n\tautoPackLimit = 1\n\tpruneExpire = now\n")
    shas = [shop.commit("first")]
    world.sync("commits")
    for number in range(3):
        shas.append(shop.commit(f"commit {number}"))
        assert list(by_sha(world.sync("commits"))) == shas[-1:]
    fresh = World(tmp_path, world.repositories)
    assert list(by_sha(fresh.sync("commits"))) == shas


def test_treeless_clone_is_replaced_when_paths_are_wanted(shop: Repository, world: World) -> None:
    shop.commit("first", {"a.txt": "1"})
    world.sync("commits")
    world.options = {"path_filtered": ["acme/shop"]}
    (commit,) = world.sync("commits")
    assert commit["files"] == ["a.txt"]
    assert len(kept(world)) == 1


def test_clone_with_trees_keeps_them_when_paths_are_wanted_no_more(shop: Repository, world: World) -> None:
    shop.commit("first", {"a.txt": "1"})
    world.options = {"path_filtered": ["acme/shop"]}
    world.sync("commits")
    world.options = {}
    shop.commit("second", {"a.txt": "2"})
    world.sync("commits")
    world.options = {"path_filtered": ["acme/shop"]}
    assert [commit["files"] for commit in world.sync("commits")] == [["a.txt"], ["a.txt"]]


def test_interrupted_clone_leaves_nothing_behind(
    shop: Repository, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.commit("first")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CachedClone, "_fetch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            world.pages("commits")
    assert kept(world) == []
    assert len(world.sync("commits")) == 1


def test_leftover_of_a_killed_clone_is_removed_when_it_cannot_be_in_use(shop: Repository, world: World) -> None:
    shop.commit("first")
    world.sync("commits")
    (clone,) = kept(world)
    shutil.rmtree(clone)
    old, running = (clone.parent / f".{clone.name}.{kind}" for kind in ("old", "running"))
    old.mkdir()
    running.mkdir()
    long_ago = time.time() - 3 * git_program.FETCH_SECONDS
    os.utime(old, (long_ago, long_ago))
    world.cursors.clear()
    assert len(world.sync("commits")) == 1
    assert kept(world) == [running, clone]


def test_damaged_clone_says_which_folder_to_remove(shop: Repository, world: World) -> None:
    shop.commit("first")
    world.sync("commits")
    (clone,) = kept(world)
    shutil.rmtree(clone / "objects" / "pack")
    for path in (clone / "objects").glob("??"):
        shutil.rmtree(path)
    world.cursors.clear()
    with pytest.raises(SourceError) as caught:
        world.pages("commits")
    assert str(clone) in str(caught.value)
    shutil.rmtree(clone)
    assert len(world.sync("commits")) == 1


def test_url_with_its_credentials_is_not_written_to_disk(shop: Repository, world: World) -> None:
    shop.commit("first")
    url = f"file://ada:hunter2secret@localhost{shop.path}"
    world.repositories["acme/shop"] = url
    assert len(world.sync("commits")) == 1
    written = b"".join(path.read_bytes() for path in (world.folder / "clones").rglob("*") if path.is_file())
    assert b"hunter2secret" not in written
    assert b"file://" not in written
    assert "hunter2secret" not in str(kept(world))


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_error_of_an_unreachable_remote_hides_the_credentials(world: World, closed_port: int) -> None:
    url = f"http://ada:hunter2%21secret@127.0.0.1:{closed_port}/shop.git?private_token=glpat-abcdef"
    world.repositories["acme/shop"] = url
    with pytest.raises(SourceError) as caught:
        world.pages("commits")
    told = f"{caught.value} {caught.value!r}"
    for secret in ("hunter2", "secret@", "glpat"):
        assert secret not in told
    assert f"acme/shop (http://***@127.0.0.1:{closed_port}/shop.git?***): git ls-remote failed" in told
    assert kept(world) == []


def test_silent_remote_is_given_up_and_asked_once(
    world: World, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_program, "LOOK_SECONDS", 0.3)
    world.repositories["acme/shop"] = f"git://127.0.0.1:{silent_port}/shop.git"
    provider = world.provider()
    with pytest.raises(SourceError, match=r"git ls-remote took longer than 0\.3 seconds") as first:
        list(provider.changes("commits", "acme/shop", None))
    with pytest.raises(SourceError) as second:
        list(provider.changes("tags", "acme/shop", None))
    assert second.value is first.value


def test_fetch_that_stalls_leaves_nothing_behind(
    shop: Repository, world: World, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.commit("first")
    seen = CachedClone("acme/shop", f"file://{shop.path}", world.folder, needs_trees=False).look()
    monkeypatch.setattr(git_program, "FETCH_SECONDS", 0.3)
    stalled = CachedClone("acme/shop", f"git://127.0.0.1:{silent_port}/x", world.folder / "clones", needs_trees=False)
    with pytest.raises(SourceError, match="git fetch took longer"):
        stalled.open(seen)
    assert kept(world) == []


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("--upload-pack=touch owned", "is no place of a git repository"),
        ("-oProxyCommand=touch owned", "is no place of a git repository"),
        ("-evil@host:shop.git", "is no place of a git repository"),
        ("file:///a\nb", "is no place of a git repository"),
        ("", "is no place of a git repository"),
        ("ext://sh -c touch% owned", "uses a protocol that is not accepted"),
        ("ext::sh://touch", "uses a protocol that is not accepted"),
        ("fd://17", "uses a protocol that is not accepted"),
        ("ftp://example.org/shop.git", "uses a protocol that is not accepted"),
        ("ext::sh -c touch% owned", "there is no such folder"),
        ("ssh://-oProxyCommand=touch%20owned/shop.git", "strange hostname"),
    ],
)
def test_location_that_could_start_a_program_is_refused(
    tmp_path: Path, location: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=f"(?s)acme/shop.*{said}"):
        World(tmp_path, {"acme/shop": location}).pages("commits")
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "clones" / "owned").exists()


@pytest.mark.parametrize("transport", ["ext", "own"])
def test_users_settings_cannot_turn_a_url_into_a_program(
    shop: Repository, world: World, tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.commit("first")
    owned = tmp_path / "owned"
    helper = tmp_path / "bin" / "git-remote-own"
    helper.parent.mkdir()
    helper.write_text(f"#!/bin/sh\ntouch {owned}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "gitconfig").write_text(
        f'[url "{transport}::touch {owned} #"]\n\tinsteadOf = file://\n[protocol]\n\tallow = always\n'
    )
    with pytest.raises(SourceError, match=f"transport '{transport}' not allowed"):
        world.pages("commits")
    assert not owned.exists()


def test_users_settings_that_reach_a_remote_are_kept(shop: Repository, world: World, tmp_path: Path) -> None:
    shop.commit("first")
    (tmp_path / "gitconfig").write_text(f'[url "file://{shop.path}"]\n\tinsteadOf = https://git.example.org/shop\n')
    world.repositories["acme/shop"] = "https://git.example.org/shop"
    assert len(world.sync("commits")) == 1


def test_repository_names_never_leave_the_clones_folder(shop: Repository, world: World) -> None:
    shop.commit("first")
    url = world.repositories["acme/shop"]
    names = ("../../escape", "/etc/x", "a/b", "a-b", "..", "é" * 300)
    world.repositories |= dict.fromkeys(names, url)
    for name in names:
        assert len(world.sync("commits", name)) == 1
    assert len(kept(world)) == len(names)
    assert {path.name for path in world.folder.iterdir()} == {"clones", "shop", "gitconfig"}


def test_scp_like_address_is_a_url_and_a_folder_of_that_name_a_path(tmp_path: Path) -> None:
    address = "git@example.org:acme/shop.git"
    clone = git_clones.clone_of("acme/shop", address, tmp_path, needs_trees=False)
    assert isinstance(clone, CachedClone)
    path = git_clones.clone_of("acme/shop", str(tmp_path), tmp_path, needs_trees=False)
    assert isinstance(path, git_clones.LocalClone)
