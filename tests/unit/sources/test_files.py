"""The feed folder: which files are read, under which entity, and which are refused by name."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest

from analytics.errors import SourceError
from analytics.sources.entities import ENTITIES
from analytics.sources.files import FilesProvider
from tests.unit.sources.feed_world import Feeds, deployment, jsonl


@pytest.fixture
def feeds(tmp_path: Path) -> Feeds:
    return Feeds(tmp_path / "feeds")


def refusal(feeds: Feeds, entity: str, name: str) -> tuple[str, str]:
    (page,) = feeds.read(entity, name).pages
    (found,) = page.refusals
    assert found.line == 0
    assert page.records == []
    return found.reason, found.detail


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"])
def test_each_format_is_offered_under_its_entity(feeds: Feeds, suffix: str) -> None:
    feeds.write(f"deployments.{suffix}", b"")
    assert feeds.requests() == {"deployments": [f"deployments.{suffix}"]}


def test_a_folder_of_an_entity_is_offered_file_by_file_in_order(feeds: Feeds) -> None:
    for name in ("b.jsonl", "a.csv", "2026/c.jsonl.gz"):
        feeds.write(f"deployments/{name}", b"")
    assert feeds.requests() == {
        "deployments": ["deployments/2026/c.jsonl.gz", "deployments/a.csv", "deployments/b.jsonl"]
    }


def test_an_empty_folder_of_an_entity_is_offered(feeds: Feeds) -> None:
    (feeds.folder / "incidents").mkdir()
    assert feeds.requests() == {"incidents": []}


def test_hidden_and_temporary_files_and_a_readme_are_passed_over(feeds: Feeds) -> None:
    for name in (".hidden.jsonl", "deployments.jsonl.tmp", "README.md", "deployments/.part", "deployments/x.tmp"):
        feeds.write(name, b"")
    assert feeds.requests() == {"deployments": []}


def test_a_missing_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read") as raised:
        FilesProvider("drops", tmp_path / "nowhere").discover()
    assert str(tmp_path / "nowhere") in str(raised.value)
    assert "drops" in str(raised.value)


def test_every_entity_can_be_given() -> None:
    assert FilesProvider("drops", Path("x")).capabilities().entities == frozenset(ENTITIES)


def test_a_misspelt_entity_is_refused_with_the_nearest_name(feeds: Feeds) -> None:
    feeds.write("deploymnts.jsonl", jsonl(deployment(1)))
    reason, detail = refusal(feeds, "deploymnts", "deploymnts.jsonl")
    assert reason == "unknown_entity"
    assert "did you mean 'deployments'?" in detail


def test_a_dated_file_name_is_told_to_use_a_folder(feeds: Feeds) -> None:
    feeds.write("deployments-2026-01.jsonl", b"")
    reason, detail = refusal(feeds, "deployments-2026-01", "deployments-2026-01.jsonl")
    assert reason == "unknown_entity"
    assert "folder deployments/" in detail


def test_a_folder_that_is_no_entity_is_refused_once(feeds: Feeds) -> None:
    feeds.write("things/a.jsonl", b"")
    feeds.write("things/b.jsonl", b"")
    assert feeds.requests() == {"things": ["things"]}
    assert refusal(feeds, "things", "things")[0] == "unknown_entity"


def test_a_format_that_is_not_read_is_refused(feeds: Feeds) -> None:
    feeds.write("deployments.xlsx", b"")
    assert refusal(feeds, "deployments", "deployments.xlsx")[0] == "unknown_format"


def test_a_refusal_of_a_whole_file_is_given_once(feeds: Feeds) -> None:
    feeds.write("deploymnts.jsonl", b"")
    first = feeds.read("deploymnts", "deploymnts.jsonl")
    assert feeds.read("deploymnts", "deploymnts.jsonl", first.cursor).pages == []


def test_a_link_that_leaves_the_folder_is_refused(feeds: Feeds, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(jsonl(deployment(1)))
    (feeds.folder / "deployments.jsonl").symlink_to(secret)
    assert refusal(feeds, "deployments", "deployments.jsonl")[0] == "outside_folder"


def test_a_linked_folder_is_not_followed(feeds: Feeds, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a.jsonl").write_bytes(jsonl(deployment(1)))
    (feeds.folder / "deployments").mkdir()
    (feeds.folder / "deployments" / "more").symlink_to(tmp_path / "secrets")
    assert feeds.requests() == {"deployments": ["deployments/more"]}
    assert refusal(feeds, "deployments", "deployments/more")[0] == "outside_folder"


def test_a_link_inside_the_folder_is_read(feeds: Feeds) -> None:
    feeds.write(".data/now.jsonl", jsonl(deployment(1)))
    (feeds.folder / "deployments.jsonl").symlink_to(feeds.folder / ".data" / "now.jsonl")
    assert feeds.read("deployments", "deployments.jsonl").lines == [1]


def test_a_broken_link_is_refused(feeds: Feeds) -> None:
    (feeds.folder / "deployments.jsonl").symlink_to(feeds.folder / "gone.jsonl")
    assert refusal(feeds, "deployments", "deployments.jsonl")[0] == "unreadable"


def test_a_pipe_is_refused_without_being_opened(feeds: Feeds) -> None:
    os.mkfifo(feeds.folder / "deployments.jsonl")
    assert refusal(feeds, "deployments", "deployments.jsonl")[0] == "unreadable"


@pytest.mark.skipif(sys.platform == "darwin", reason="this file system takes UTF-8 names only")
def test_a_name_that_is_not_utf_8_is_refused_and_shown(feeds: Feeds) -> None:
    (feeds.folder / "deployments").mkdir()
    Path(os.fsdecode(os.fsencode(feeds.folder / "deployments") + b"/\xff.jsonl")).write_bytes(b"")
    ((key,),) = feeds.requests().values()
    assert key == r"deployments/\udcff.jsonl"
    assert refusal(feeds, "deployments", key)[0] == "bad_name"


def test_a_file_that_cannot_be_opened_is_refused_until_it_can(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds.write("deployments.jsonl", jsonl(deployment(1)))
    before = feeds.read("deployments", "deployments.jsonl")
    feeds.append("deployments.jsonl", jsonl(deployment(2)))

    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("analytics.sources.feed_pages._open", denied)
        during = feeds.read("deployments", "deployments.jsonl", before.cursor)
        again = feeds.read("deployments", "deployments.jsonl", during.cursor)
    after = feeds.read("deployments", "deployments.jsonl", during.cursor)

    assert during.refusals == [(0, "unreadable")]
    assert again.pages == []
    # It goes on behind what was read before, in the same generation.
    assert (after.generation, after.lines, after.refusals) == (1, [2], [])
    assert after.cursor is not None
    assert "refused" not in after.cursor


def test_a_file_that_can_be_opened_again_unchanged_lifts_its_refusal(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds.write("deployments.csv", b"deployment_id\n1\n")
    before = feeds.read("deployments", "deployments.csv")

    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("analytics.sources.feed_pages._open", denied)
        during = feeds.read("deployments", "deployments.csv", before.cursor)
    after = feeds.read("deployments", "deployments.csv", during.cursor)

    assert [(len(page.records), len(page.refusals)) for page in after.pages] == [(0, 0)]
    assert feeds.read("deployments", "deployments.csv", after.cursor).pages == []


def test_reading_a_file_that_is_gone_is_an_error(feeds: Feeds) -> None:
    with pytest.raises(SourceError, match="no such file"):
        feeds.read("deployments", "deployments.jsonl")


def test_a_gzip_file_is_read_by_lines(feeds: Feeds) -> None:
    feeds.write("deployments.jsonl.gz", gzip.compress(jsonl(deployment(1)) + b"\n" + jsonl(deployment(2))))
    reading = feeds.read("deployments", "deployments.jsonl.gz")
    assert reading.lines == [1, 3]
    assert [record["deployment_id"] for record in reading.payloads] == [1, 2]
