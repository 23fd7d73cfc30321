"""Commits, tags and runbooks through the API: the same tables that git gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.delivery.build import build
from analytics.lake.tables import lake_relation
from analytics.settings import Settings
from tests.fakes.github import pulling
from tests.fakes.github.mirror import mirror
from tests.fakes.github.pulling import difference, landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import World
from tests.unit.sources import git_world

CATALOG = """services:
  - {name: shop, repository: acme/shop, paths: ["src/**"], runbooks: [docs/run book.md, docs/gone.md, docs/none.md]}
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World()) as server:
        yield server


def history(folder: Path) -> git_world.Repository:
    """Merges, branches, a squashed pull request, tags of both kinds, renames, deletions and other people's letters."""
    shop = git_world.Repository(folder / "shop")
    shop.commit("first", {"docs/run book.md": "1", "docs/gone.md": "1", "src/a.py": "a\n" * 20})
    shop.git("tag", "light")
    shop.git("checkout", "-q", "-b", "feature")
    shop.commit("größer\n\nWarum: 変更", {"src/ä.py": "1"}, GIT_AUTHOR_NAME="Grâce")
    shop.git("checkout", "-q", "main")
    shop.commit("main goes on", {"src/b.py": "1"})
    shop.merge("feature")
    shop.git("mv", "src/a.py", "src/c.py")
    shop.git("rm", "-q", "docs/gone.md")
    shop.commit("move and delete", {"docs/run book.md": "2"})
    shop.git("tag", "-a", "v1", "-m", "one", "HEAD~1")
    shop.git("checkout", "-q", "--detach", "main~2")
    shop.commit("squashed away", {"src/d.py": "1"})
    shop.git("update-ref", "refs/pull/1/head", "HEAD")
    shop.git("checkout", "-q", "-b", "side", "main~1")
    for number in range(3):
        shop.commit(f"side {number}", {"src/side.py": str(number)})
    shop.git("checkout", "-q", "main")
    return shop


def table(settings: Settings, name: str, without: str) -> list[dict[str, Any]]:
    build(settings)
    with duckdb.connect() as con:
        rows = con.sql(f"SELECT * EXCLUDE ({without}) FROM {lake_relation(settings, name)} ORDER BY ALL")
        return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def test_git_and_the_api_give_the_same_tables(
    tmp_path: Path, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "CATALOG", CATALOG)
    shop = history(tmp_path)
    at = fake.world.repository("shop", f"file://{shop.path}")
    mirror(fake.world, at, shop.path)
    ways = {}
    for way in ("git", "api"):
        (tmp_path / way).mkdir()
        ways[way] = workspace(tmp_path / way, fake, commits=way)
        assert pulled(ways[way]).error is None
    # Patch ids are git's alone; where a record stood differs by the way it came.
    places = {"commits": "origin, line, patch_id", "tags": "origin, line", "file_revisions": "origin, line"}
    for name, without in places.items():
        through_git, through_api = (table(ways[way], name, without) for way in ("git", "api"))
        assert through_git == through_api
        assert len(through_api) == {"commits": 9, "tags": 2, "file_revisions": 1}[name]


def test_what_no_branch_shows_is_found_by_the_commits_that_name_it(tmp_path: Path, fake: FakeGitHub) -> None:
    world = fake.world
    at = world.repository("shop")
    world.push(at, 3)
    settings = workspace(tmp_path, fake)
    assert pulled(settings).error is None
    # More than one list shows, and behind them the history that a force push put in their place.
    world.advance(600)
    pull = world.open_pull(at, commits=130)
    world.merge(at, pull, squash=True)
    world.push(at, 250)
    world.rewrite(at, 100)
    world.push(at, 120)
    world.advance(600)
    assert pulled(settings).error is None
    assert difference(world, landed(settings)) == []


def test_a_commit_that_was_cleaned_up_is_asked_for_once(tmp_path: Path, fake: FakeGitHub) -> None:
    world = fake.world
    at = world.repository("shop")
    world.push(at)
    pull = world.open_pull(at, commits=2)
    del at.graph[pull.commits[0]]
    at.graph[pull.commits[1]].parents = []
    settings = workspace(tmp_path, fake)
    assert pulled(settings).error is None
    fake.asked.clear()
    assert pulled(settings).error is None
    assert not [one.path for one in fake.asked if "/commits" in one.path]


def test_files_of_a_commit_are_asked_for_once(
    tmp_path: Path, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "CATALOG", CATALOG)
    world = fake.world
    at = world.repository("shop")
    for commit in world.push(at, 5):
        commit.files = [{"filename": f"src/{number}", "status": "added"} for number in range(150)]
    settings = workspace(tmp_path, fake)
    world.advance(600)
    assert pulled(settings).error is None
    assert all(len(commit["files"]) == 150 for commit in landed(settings)["commits"].values())
    fake.asked.clear()
    (new,) = world.push(at)
    world.advance(600)
    assert pulled(settings).error is None
    details = [one.path for one in fake.asked if "/commits/" in one.path]
    assert details
    assert all(new.sha in path for path in details)
    assert len(landed(settings)["commits"]) == 6
