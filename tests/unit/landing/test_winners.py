"""The winning item per key: by time, source, file, generation and line, whatever the order of arrival."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.landing.store import LandingStore
from analytics.landing.winners import create_winners, open_landing
from analytics.sources.port import Page
from tests.unit.landing.landing_world import Workspace, deployment, jsonl, page


def land(workspace: Workspace, source: str, *pages: Page) -> None:
    with LandingStore.open(workspace.settings, source) as store:
        for one in pages:
            store.land(one)


def refs(workspace: Workspace) -> list[Any]:
    return [payload.get("ref") for payload in workspace.winners()]


def test_each_key_has_one_winner(workspace: Workspace) -> None:
    land(workspace, "drops", page(deployment(1, ref="a"), deployment(2, ref="b"), deployment(1, ref="c")))
    assert refs(workspace) == ["c", "b"]


def test_the_view_says_where_a_winner_stood(workspace: Workspace) -> None:
    land(workspace, "drops", page(deployment(1), first_line=7))
    with open_landing(workspace.settings) as con:
        found = con.execute(f"FROM {create_winners(con, 'deployments')}")
        assert [column[0] for column in found.description or ()] == [
            "source", "origin", "line", "key", "updated_at", "occurred_at", "payload",
        ]  # fmt: skip
        assert found.fetchall()[0][:4] == ("drops", "deployments.jsonl", 7, '["1","1"]')


def test_the_newest_wins_wherever_it_stands(workspace: Workspace) -> None:
    new = deployment(1, ref="new", updated_at="2026-01-02T00:00:00Z")
    old = deployment(1, ref="old", updated_at="2026-01-02T00:30:00+01:00")
    land(workspace, "drops", page(new, old))
    assert refs(workspace) == ["new"]


def test_a_record_without_updated_at_is_older_than_any_with_one(workspace: Workspace) -> None:
    first = deployment(1, ref="dated", updated_at="1970-01-01T00:00:00+14:00")
    land(workspace, "drops", page(first, deployment(1, ref="undated")))
    assert refs(workspace) == ["dated"]


def test_of_equal_times_the_later_file_wins(workspace: Workspace) -> None:
    land(
        workspace,
        "drops",
        page(deployment(1, ref="b"), key="deployments/b.jsonl"),
        page(deployment(1, ref="a"), key="deployments/a.jsonl", first_line=9, generation=3),
    )
    assert refs(workspace) == ["b"]


def test_of_one_file_the_later_generation_wins(workspace: Workspace) -> None:
    land(workspace, "drops", page(deployment(1, ref="new"), generation=2))
    land(workspace, "drops", page(deployment(1, ref="old"), generation=1, first_line=50))
    assert refs(workspace) == ["new"]


@pytest.mark.parametrize("first_lines", [(1, 5), (5, 1)])
def test_of_one_generation_the_later_line_wins(workspace: Workspace, first_lines: tuple[int, int]) -> None:
    for line in first_lines:
        land(workspace, "drops", page(deployment(1, ref=str(line)), first_line=line))
    assert refs(workspace) == ["5"]


def test_a_line_taken_out_of_a_file_stays(workspace: Workspace) -> None:
    land(workspace, "drops", page(deployment(1, ref="a"), deployment(2, ref="b")))
    land(workspace, "drops", page(deployment(1, ref="c"), generation=2))
    assert refs(workspace) == ["c", "b"]


@pytest.mark.parametrize("order", [["zebra", "ant"], ["ant", "zebra"]])
def test_of_two_sources_the_later_name_wins_and_a_newer_record_before_it(tmp_path: Path, order: list[str]) -> None:
    workspace = Workspace(tmp_path, order)
    dated = {"updated_at": "2026-01-01T00:00:00Z"}
    land(workspace, "zebra", page(deployment(1, ref="zebra"), deployment(2, ref="zebra")))
    land(workspace, "ant", page(deployment(1, ref="ant"), deployment(2, ref="ant", **dated)))
    assert refs(workspace) == ["zebra", "ant"]


def test_entities_do_not_mix(workspace: Workspace) -> None:
    incident = {"incident_id": "1", "opened_at": "2026-01-01T00:00:00Z"}
    land(workspace, "drops", page(deployment(1)), page(incident, entity="incidents", key="incidents.jsonl"))
    assert workspace.winners("incidents") == [incident]
    assert workspace.winners() == [deployment(1)]
    assert workspace.winners("commits") == []


def test_the_next_call_replaces_the_view(workspace: Workspace) -> None:
    land(workspace, "drops", page(deployment(1, ref="a"), deployment(1, ref="b")))
    with open_landing(workspace.settings) as con:
        create_winners(con, "commits")
        view = create_winners(con, "deployments")
        assert con.execute(f"SELECT count(*) FROM {view}").fetchall() == [(1,)]
        create_winners(con, "incidents")
        assert con.execute(f"SELECT count(*) FROM {view}").fetchall() == [(0,)]


def test_a_source_that_was_never_pulled_has_no_rows(workspace: Workspace) -> None:
    with open_landing(workspace.settings) as con:
        for table in ("pages", "items", "quarantine", "cursors", "collected", "meta"):
            assert con.execute(f"SELECT count(*) FROM landed_{table}").fetchall() == [(0,)]


def test_a_source_that_is_not_configured_does_not_count(tmp_path: Path) -> None:
    both = Workspace(tmp_path, ["drops", "gone"])
    land(both, "gone", page(deployment(1)))
    assert len(both.winners()) == 1
    assert Workspace(tmp_path, ["drops"]).winners() == []


def test_several_readers_may_look_at_once(workspace: Workspace) -> None:
    land(workspace, "drops", page(deployment(1)))
    with open_landing(workspace.settings) as one, open_landing(workspace.settings) as other:
        assert one.execute("FROM landed_items").fetchall() == other.execute("FROM landed_items").fetchall()


# --- Properties: metrics.md I5 ---

hours = st.integers(0, 5)
dated_records = st.lists(st.tuples(st.integers(1, 4), hours), min_size=1, max_size=12, unique=True)


def dated(identity: int, hour: int) -> dict[str, Any]:
    return deployment(identity, ref=f"{identity}@{hour}", updated_at=f"2026-01-01T{hour:02d}:00:00Z")


def newest(records: list[tuple[int, int]]) -> list[str]:
    last = {identity: max(hour for other, hour in records if other == identity) for identity, _ in records}
    return [f"{identity}@{hour}" for identity, hour in sorted(last.items())]


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(dated_records, st.randoms(use_true_random=False), st.integers(1, 3), st.integers(1, 2))
def test_any_order_over_any_files_and_sources_read_any_number_of_times_has_the_same_winners(
    records: list[tuple[int, int]], order: random.Random, files: int, times: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        workspace = Workspace(Path(root), ["one", "two"])
        for _ in range(times):
            order.shuffle(records)
            parts: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for record in records:
                place = (order.choice(["one", "two"]), f"deployments/{order.randrange(files)}.jsonl")
                parts.setdefault(place, []).append(dated(*record))
            for (source, name), part in parts.items():
                # What stood in the file before goes: it was rewritten.
                workspace.feeds[source].write(name, jsonl(*part))
            workspace.pull()
            workspace.pull()
        assert refs(workspace) == newest(records)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 3), st.none() | hours), min_size=1, max_size=10), st.integers(0, 10))
def test_the_winner_is_the_greatest_by_time_file_generation_and_line(
    records: list[tuple[int, int | None]], split: int
) -> None:
    def record(index: int) -> dict[str, Any]:
        identity, hour = records[index]
        more = {} if hour is None else {"updated_at": f"2026-01-01T{hour:02d}:00:00Z"}
        return deployment(identity, ref=str(index), **more)

    indexes = list(range(len(records)))
    with tempfile.TemporaryDirectory() as root:
        workspace = Workspace(Path(root))
        with workspace.store() as store:
            # The later generation arrives first.
            store.land(page(*map(record, indexes[split:]), generation=2))
            store.land(page(*map(record, indexes[:split]), generation=1))
        winners = {payload["deployment_id"]: int(payload["ref"]) for payload in workspace.winners()}

    def standing(index: int) -> tuple[int, int]:
        hour = records[index][1]
        return (-1 if hour is None else hour, index)

    expected = {
        identity: max((index for index in indexes if records[index][0] == identity), key=standing)
        for identity, _ in records
    }
    assert winners == expected


def test_growing_and_reading_at_once_end_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    grown, whole = Workspace(tmp_path / "a"), Workspace(tmp_path / "b")
    records = [deployment(n % 3, ref=str(n)) for n in range(9)]
    data = jsonl(*records)
    grown.drops.write("deployments.jsonl", b"")
    for start in range(0, len(data), 100):
        grown.drops.append("deployments.jsonl", data[start : start + 100])
        grown.pull()
    whole.drops.write("deployments.jsonl", data)
    whole.pull()
    assert grown.winners() == whole.winners()
    assert grown.items() == whole.items()
    assert grown.refused() == []


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_ids_that_differ_in_hash_order_are_all_kept(workspace: Workspace, count: int) -> None:
    land(workspace, "drops", page(*(deployment(n, ref=json.dumps(n)) for n in range(count))))
    assert len(workspace.winners()) == count
