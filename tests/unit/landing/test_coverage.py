"""What was collected and what does not count, read from the landing files."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics.landing import coverage
from analytics.landing.coverage import Collected, collection, quarantined, windows
from tests.unit.landing.landing_world import Workspace, deployment, jsonl, page

NAME = "deployments.jsonl"
NOW = datetime(2026, 10, 5, 6, tzinfo=UTC)


def test_nothing_pulled_is_nothing_collected(workspace: Workspace) -> None:
    assert (collection(workspace.settings), quarantined(workspace.settings), windows(workspace.settings)) == (
        [],
        [],
        [],
    )


def test_an_entity_counts_its_distinct_records_and_their_times(workspace: Workspace) -> None:
    records = [
        deployment(1, created_at="2026-03-01T00:00:00+01:00"),
        deployment(1, ref="again", created_at="2026-03-01T00:00:00+01:00"),
        deployment(2, created_at="2026-02-01T00:00:00Z"),
        deployment(None),
    ]
    workspace.drops.write(NAME, jsonl(*records))
    workspace.pull()
    first, last = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 28, 23, tzinfo=UTC)
    assert collection(workspace.settings) == [
        Collected("drops", "deployments", first, last, items=2, quarantined=1, complete=True)
    ]


def test_an_empty_file_and_an_empty_folder_are_collected(workspace: Workspace) -> None:
    workspace.drops.write("incidents.jsonl", b"")
    (workspace.drops.folder / "tags").mkdir()
    workspace.pull()
    assert collection(workspace.settings) == [
        Collected("drops", entity, None, None, items=0, quarantined=0, complete=True)
        for entity in ("incidents", "tags")
    ]


def test_a_file_that_is_refused_makes_its_entity_incomplete(workspace: Workspace) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1)))
    workspace.drops.write("deployments/x.jsonl.gz", gzip.compress(jsonl(deployment(2)))[:-4])
    workspace.pull()
    found = workspace.collection()["deployments"]
    assert (found.items, found.quarantined, found.complete) == (2, 1, False)
    assert workspace.refused() == [("deployments/x.jsonl.gz", 0, "bad_gzip")]


def test_a_refused_file_that_is_taken_away_counts_no_more(workspace: Workspace) -> None:
    workspace.drops.write("deployments/x.jsonl.gz", b"no gzip")
    misspelt = workspace.drops.write("deploymnts.jsonl", b"")
    workspace.pull()
    assert set(workspace.collection()) == {"deployments", "deploymnts"}
    misspelt.unlink()
    (workspace.drops.folder / "deployments/x.jsonl.gz").unlink()
    workspace.pull()
    assert workspace.refused() == []
    assert [(row.entity, row.complete) for row in collection(workspace.settings)] == [("deployments", True)]
    # It is refused again when it comes back.
    workspace.drops.write("deployments/x.jsonl.gz", b"no gzip")
    workspace.pull()
    assert workspace.refused() == [("deployments/x.jsonl.gz", 0, "bad_gzip")]


def test_records_of_a_file_that_is_taken_away_stay(workspace: Workspace) -> None:
    path = workspace.drops.write(NAME, jsonl(deployment(1), deployment(None)))
    workspace.pull()
    path.unlink()
    workspace.pull()
    found = workspace.collection()["deployments"]
    assert (found.items, found.quarantined) == (1, 1)


def test_fewer_records_than_the_source_said_is_incomplete(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.offer({"deployments": ["window-1"], "incidents": ["window-2"]})
        store.land(page(deployment(1), deployment(1), key="window-1", total_count=2))
        incident = {"incident_id": 1, "opened_at": "2026-01-01T00:00:00Z"}
        store.land(page(incident, entity="incidents", key="window-2", total_count=1))
        store.finish([])
    found = workspace.collection()
    assert (found["deployments"].complete, found["incidents"].complete) == (False, True)


def test_a_request_whose_cursor_is_not_at_its_end_is_incomplete(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.offer({"deployments": [NAME]})
        store.land(page(deployment(1), cursor={"generation": 1, "complete": False}))
        store.finish([])
    assert workspace.collection()["deployments"].complete is False


def test_a_quarantined_record_says_everything_a_person_needs(workspace: Workspace) -> None:
    workspace.drops.write("deployments/2026/a.jsonl", jsonl(deployment(1)) + b"<html>\n")
    workspace.pull()
    (row,) = workspace.quarantine()
    assert (row.source, row.entity, row.origin, row.line) == ("drops", "deployments", "deployments/2026/a.jsonl", 2)
    assert (row.reason, row.excerpt) == ("html_body", "<html>")
    assert row.detail
    assert row.sha256 is not None
    assert len(row.sha256) == 64


def test_what_happened_after_the_cut_off_is_listed_and_stays_landed(workspace: Workspace) -> None:
    workspace.drops.write(
        NAME,
        jsonl(
            deployment(1, created_at="2026-10-05T06:00:00Z"),
            deployment(2, created_at="2026-10-05T08:00:01+02:00"),
        ),
    )
    workspace.pull()
    (row,) = workspace.quarantine()
    assert (row.origin, row.line, row.reason, row.json_path) == (NAME, 2, "after_cut_off", "$.created_at")
    assert row.detail == "happened at 2026-10-05T06:00:01Z, after the cut-off"
    assert len(workspace.items()) == 2
    assert workspace.collection()["deployments"].quarantined == 0


def test_what_was_corrected_since_is_not_after_the_cut_off(workspace: Workspace) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1, created_at="2062-01-01T00:00:00Z")))
    workspace.pull()
    workspace.drops.write(NAME, jsonl(deployment(1, created_at="2026-01-01T00:00:00Z")))
    workspace.pull()
    assert workspace.refused() == []


def test_a_later_cut_off_takes_them_in(tmp_path: Path) -> None:
    workspace, later = Workspace(tmp_path), Workspace(tmp_path, now="2027-01-01T00:00:00Z")
    workspace.drops.write(NAME, jsonl(deployment(1, created_at="2026-12-01T00:00:00Z")))
    workspace.pull()
    assert len(workspace.quarantine()) == 1
    assert later.quarantine() == []


def test_a_status_that_nobody_knows_is_shown_and_kept(workspace: Workspace) -> None:
    at = "2026-02-01T00:00:00Z"
    records = [
        deployment(1, status="sucess"),
        deployment(2, status="IN_PROGRESS"),
        deployment(3, statuses=[{"state": "queued", "at": at}, {"state": "it's done", "at": at}]),
        deployment(4, statuses=[]),
        deployment(5, status="sucess"),
        deployment(5, status="success"),
    ]
    workspace.drops.write(NAME, jsonl(*records))
    workspace.pull()
    shown = [(row.line, row.reason, row.json_path, row.detail, row.kept) for row in workspace.quarantine()]
    assert shown == [
        (1, "unknown_enum", "$.status", "kept, but 'sucess' is no status that is known", True),
        (3, "unknown_enum", "$.statuses", "kept, but 'it's done' is no status that is known", True),
    ]
    assert len(workspace.items()) == 6
    assert workspace.collection()["deployments"].quarantined == 0


def test_only_so_many_of_one_reason_are_listed_and_all_are_counted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "LISTED", 2)
    bad = [deployment(None)] * 3 + [deployment(n, created_at="2062-01-01T00:00:00Z") for n in range(3)]
    workspace.drops.write(NAME, jsonl(*bad) + b"<html>\n")
    workspace.pull()
    assert workspace.refused() == [
        (NAME, 1, "missing_id"),
        (NAME, 2, "missing_id"),
        (NAME, 4, "after_cut_off"),
        (NAME, 5, "after_cut_off"),
        (NAME, 7, "html_body"),
    ]
    assert workspace.collection()["deployments"].quarantined == 4


def test_a_window_shows_the_newest_generation_of_a_file(workspace: Workspace) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1), deployment(2)))
    workspace.pull()
    workspace.drops.write(NAME, jsonl(deployment(3), deployment(None)))
    workspace.pull()
    (window,) = windows(workspace.settings)
    assert (window.request_key, window.generation, window.pages) == (NAME, 2, 1)
    assert (window.items, window.quarantined, window.total_count) == (1, 1, None)
    assert (window.first_fetched_at, window.last_fetched_at, window.complete) == (NOW, NOW, True)


def test_a_window_that_was_never_read_has_no_generation(workspace: Workspace) -> None:
    with workspace.store() as store:
        store.offer({"deployments": [NAME]})
    (window,) = windows(workspace.settings)
    assert (window.generation, window.items, window.first_fetched_at, window.complete) == (None, 0, None, False)


def test_sources_are_told_apart(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, ["two", "one"])
    workspace.feeds["one"].write(NAME, jsonl(deployment(1)))
    workspace.feeds["two"].write(NAME, jsonl(deployment(1), deployment(None)))
    workspace.pull()
    assert [(row.source, row.items, row.quarantined) for row in collection(workspace.settings)] == [
        ("one", 1, 0),
        ("two", 1, 1),
    ]
    assert [row.source for row in workspace.quarantine()] == ["two"]
