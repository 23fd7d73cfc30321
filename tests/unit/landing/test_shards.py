"""A source whose repositories are cut into shards: many files, one source, and nothing lost when they are cut anew."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analytics.doctor import examine
from analytics.errors import FileInUseError, LandingError, SettingsError, UsageError
from analytics.landing import cutting, winners
from analytics.landing.coverage import collection
from analytics.landing.freshness import freshness
from analytics.landing.pull import pull
from analytics.landing.reprocess import reprocess
from analytics.landing.shards import CUT_DEADLINE_SECONDS, Shard, held, landing_path, shard_number
from analytics.landing.store import LandingStore
from analytics.landing.winners import open_landing
from analytics.settings import load_settings
from tests.unit.landing.shard_world import Host, Sharded

IDS = ("101", "102", "103", "104", "105", "106")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sharded:
    """Six repositories with a page of deployments each, nothing pulled yet."""
    host = Host(*IDS)
    for number, one in enumerate(IDS):
        host.deploy(one, 1)
        host.deploy(one, 2)
        host.deploy(one, 3, updated_day=number + 1)
    return Sharded(tmp_path, host, monkeypatch)


# Where a repository belongs


def test_a_repository_belongs_to_the_same_shard_in_every_version() -> None:
    assert [shard_number(one, 4) for one in ("acme/shop", "acme/till", "1", "1296269")] == [2, 2, 2, 3]
    assert shard_number("anything", 1) == 1


def test_shards_are_of_about_the_same_size() -> None:
    sizes = Counter(shard_number(f"acme/repository-{number}", 8) for number in range(8000))
    assert sorted(sizes) == list(range(1, 9))
    assert max(sizes.values()) < 1.15 * 1000 < 1.3 * min(sizes.values())


# Many files, one source


def test_an_uncut_source_lands_where_it_always_did(world: Sharded) -> None:
    world.pull(1)
    assert world.files() == ["hub.duckdb"]


def test_each_shard_has_a_file_of_its_own_repositories_and_readers_see_one_source(
    world: Sharded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.host.say_nonsense("103")
    world.host.silent.add("105")
    alone = Sharded(tmp_path / "alone", world.host, monkeypatch)
    whole = alone.pull(1)
    assert world.pull(3) == whole
    assert world.files() == [*(f"hub.{number}-of-3.duckdb" for number in (1, 2, 3)), "hub.shards.json"]
    assert world.told() == alone.told()
    for number in (1, 2, 3):
        with duckdb.connect(str(landing_path(world.settings, "hub", Shard(number, 3))), read_only=True) as con:
            origins = {origin for (origin,) in con.execute("SELECT origin FROM items").fetchall()}
        assert origins == {one for one in IDS if shard_number(one, 3) == number}


def test_shards_pulled_one_by_one_are_what_is_pulled_at_once(
    world: Sharded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Sharded(tmp_path / "alone", world.host, monkeypatch)
    whole = alone.pull(1)
    parts = [world.pull(4, shard=number) for number in (3, 1, 4, 2)]
    assert sum(part.items for part in parts) == whole.items
    assert sum(part.requests for part in parts) == whole.requests
    assert world.told() == alone.told()


def test_what_was_read_is_not_read_again_and_what_is_new_comes(world: Sharded) -> None:
    world.pull(3)
    world.host.deploy("104", 4)
    assert world.pull().items == 1


def test_a_source_of_which_a_shard_was_never_pulled_is_not_complete(world: Sharded) -> None:
    for number in (1, 2, 3):
        world.pull(4, shard=number)
    assert [row.complete for row in collection(world.settings)] == [False]
    assert freshness(world.settings)[0].asked_at is None
    world.pull(4, shard=4)
    assert [row.complete for row in collection(world.settings)] == [True]
    assert freshness(world.settings)[0].asked_at == world.settings.now()


def test_more_shards_than_repositories_are_complete(world: Sharded) -> None:
    world.pull(9)
    assert [(row.items, row.complete) for row in collection(world.settings)] == [(18, True)]


def test_a_shard_in_use_makes_its_source_in_use(world: Sharded) -> None:
    world.pull(3)
    with LandingStore.open(world.settings, "hub", shard=Shard(2, 3)):
        assert freshness(world.settings)[0].in_use
        with open_landing(world.settings, 0, Shard(1, 3)) as con:
            assert con.execute("SELECT count(*) > 0 FROM landed_items").fetchall() == [(True,)]


def test_places_tell_the_file(world: Sharded) -> None:
    world.pull(3)
    with open_landing(world.settings) as con:
        found = con.execute(
            "SELECT DISTINCT file, origin FROM landed_items JOIN landed_files ON number = place >> 40"
        ).fetchall()
    assert {origin: file for file, origin in found} == {one: f"hub.{shard_number(one, 3)}-of-3.duckdb" for one in IDS}


def test_a_renamed_repository_counts_under_its_present_name_in_every_shard(world: Sharded) -> None:
    world.pull(3)
    for one in ("101", "104"):
        world.host.names[one] = f"acme/new-{one}"
    world.pull(3)
    told = {json.loads(payload)["repository"] for _, _, payload in world.told()["winners"]}
    assert {"acme/new-101", "acme/new-104"} <= told
    world.pull(2)
    assert {json.loads(payload)["repository"] for _, _, payload in world.told()["winners"]} == told


def test_reprocessing_says_one_line_for_all_shards(world: Sharded) -> None:
    world.pull(3)
    before = world.told()
    [result] = reprocess(world.settings)
    assert (result.source, result.to_quarantine, result.to_items) == ("hub", 0, 0)
    assert world.told() == before


# Cut anew


@hypothesis_settings(max_examples=4, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.lists(st.tuples(st.sampled_from(IDS), st.integers(1, 4), st.integers(1, 28)), max_size=4),
        ),
        min_size=2,
        max_size=3,
    )
)
def test_however_often_a_source_is_cut_anew_readers_are_told_the_same(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        host = Host(*IDS)
        cut, whole = Sharded(Path(folder, "cut"), host, patch), Sharded(Path(folder, "whole"), host, patch)
        for shards, made in steps:
            for one, number, day in made:
                # The same deployment may be told by several repositories, and again with other contents.
                host.deploy(
                    one, number, updated_day=day if day < 20 else None, deployment_id=f"d{number}", sha=f"{day}"
                )
                if day == 28:
                    host.say_nonsense(one)
            assert cut.pull(shards).items == whole.pull().items
            assert cut.told() == whole.told()


def test_repositories_that_are_known_by_name_are_cut_by_their_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(*(f"acme/{name}" for name in ("shop", "cart", "pay")))
    for one in host.records:
        host.deploy(one, 1)
    world = Sharded(tmp_path, host, monkeypatch, by_name=True)
    world.pull(1)
    before = world.told()
    for shards in (3, 2):
        assert world.pull(shards).items == 0
        assert world.told() == before
        with open_landing(world.settings) as con:
            files = con.execute(
                "SELECT DISTINCT file, origin FROM landed_items JOIN landed_files ON number = place >> 40"
            ).fetchall()
        assert {one: file for file, one in files} == {
            one: f"hub.{shard_number(one, shards)}-of-{shards}.duckdb" for one in host.records
        }
        assert len({file for file, _ in files}) == shards


def test_old_files_are_gone_once_a_source_is_cut_anew(world: Sharded) -> None:
    for shards, files in (
        (1, ["hub.duckdb"]),
        (2, ["hub.1-of-2.duckdb", "hub.2-of-2.duckdb", "hub.shards.json"]),
        (1, ["hub.duckdb"]),
    ):
        world.pull(shards)
        assert world.files() == files


def test_readers_take_what_is_landed_whatever_the_settings_want_by_now(world: Sharded) -> None:
    world.pull(2)
    before = world.told()
    world.shards = 5
    assert world.told() == before


def test_a_cut_that_dies_before_its_last_stroke_leaves_the_old_files(
    world: Sharded, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pull(1)
    before = world.told()
    with monkeypatch.context() as patch:
        patch.setattr(cutting.layout, "note_count", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        assert "killed" in (world.pull(3).error or "")
    assert world.told() == before
    world.host.deploy("101", 9)
    assert world.pull(3).items == 1
    assert len(world.told()["winners"]) == len(before["winners"]) + 1


def test_a_cut_that_dies_after_its_last_stroke_leaves_the_new_files_and_the_next_pull_tidies_up(
    world: Sharded, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pull(1)
    before = world.told()
    with monkeypatch.context() as patch:
        patch.setattr(cutting.layout, "left_over", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        assert "killed" in (world.pull(3).error or "")
    assert "hub.duckdb" in world.files()
    assert world.told() == before
    assert world.pull(3).items == 0
    assert "hub.duckdb" not in world.files()


def test_a_source_is_not_cut_while_somebody_pulls_it(world: Sharded) -> None:
    world.pull(2)
    world.shards = 3
    with (
        held(world.settings, "hub", alone=False, deadline_seconds=0),
        pytest.raises(FileInUseError, match="hub: is being pulled by another process"),
        cutting.cut_as_wanted(world.settings, world.settings.sources[0], deadline_seconds=0.2),
    ):
        pass
    assert "hub.1-of-2.duckdb" in world.files()


def test_shards_are_pulled_while_others_are(world: Sharded) -> None:
    world.pull(2)
    with held(world.settings, "hub", alone=False, deadline_seconds=CUT_DEADLINE_SECONDS):
        world.host.deploy("101", 9)
        assert world.pull(2, shard=shard_number("101", 2)).items == 1


def test_a_reader_in_the_middle_of_whose_look_a_source_is_cut_anew_looks_again(
    world: Sharded, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pull(2)
    before = world.told()
    attach = winners._attach_file
    seen: list[str] = []

    def cut_first(con: Any, path: Path, *rest: Any) -> bool:
        seen.append(path.name)
        if len(seen) == 2:
            world.pull(3)
        return attach(con, path, *rest)

    monkeypatch.setattr(winners, "_attach_file", cut_first)
    assert world.told()["winners"] == before["winners"]
    assert seen[:5] == [
        "hub.1-of-2.duckdb", "hub.2-of-2.duckdb",
        "hub.1-of-3.duckdb", "hub.2-of-3.duckdb", "hub.3-of-3.duckdb",
    ]  # fmt: skip


def test_without_a_note_the_only_cut_there_is_counts_and_of_two_none(world: Sharded) -> None:
    world.pull(2)
    before = world.told()
    (world.settings.landing_dir / "hub.shards.json").unlink()
    assert world.told() == before
    (world.settings.landing_dir / "hub.1-of-7.duckdb").write_bytes(b"")
    with pytest.raises(LandingError, match="files of 2 and of 7 shards"):
        world.told()


@pytest.mark.parametrize("text", ["", "{}", '{"shards": 0}', '{"shards": "2"}', "[2]"])
def test_a_note_that_says_nothing_is_named(world: Sharded, text: str) -> None:
    world.pull(2)
    (world.settings.landing_dir / "hub.shards.json").write_text(text, encoding="utf-8")
    with pytest.raises(LandingError, match=r"hub\.shards\.json.*does not say into how many"):
        world.told()


# Words


@pytest.mark.parametrize("shards", ["0", "-1", "1000000000", "1e9", "1.5", "two", "true", "[2]"])
def test_a_number_of_shards_that_is_none_is_named_with_its_line(tmp_path: Path, shards: str) -> None:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(
        "organization: Acme\nsources:\n  - type: git\n    name: clones\n    repositories: {a/b: ./b}\n"
        f"    shards: {shards}\n",
        encoding="utf-8",
    )
    with pytest.raises(SettingsError, match=r"quarterdeck\.yaml:6.*sources\.0\.shards"):
        load_settings(path)


@pytest.mark.parametrize("name", ["hub.1-of-2", "hub.shards", "../hub", "hub/1"])
def test_no_name_of_a_source_can_mean_a_shard_of_another(tmp_path: Path, name: str) -> None:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(json.dumps({"organization": "A", "sources": [{"type": "files", "name": name, "path": "x"}]}))
    with pytest.raises(SettingsError, match=r"sources\.0\.name"):
        load_settings(path)


def test_only_a_shard_of_one_named_source_is_pulled(world: Sharded) -> None:
    world.shards = 3
    with pytest.raises(UsageError, match="Name one source with --source"):
        pull(world.settings, shard=1)
    for number in (0, 4):
        with pytest.raises(UsageError, match=f"the source 'hub' has 3 shards, and no shard {number}"):
            pull(world.settings, only=["hub"], shard=number)


def test_the_doctor_counts_sources_and_not_their_shards(tmp_path: Path) -> None:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("{organization: Acme, sources: [{type: files, name: hub, path: .}]}")
    settings = load_settings(path)
    for number in (1, 2):
        LandingStore.open(settings, "hub", shard=Shard(number, 2)).close()
    LandingStore.open(settings, "drops").close()
    assert "sources landed: 2, none in use" in {found.detail for found in examine(path)}
