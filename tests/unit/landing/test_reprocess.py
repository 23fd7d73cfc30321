"""Judging landed records again after a judge was changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analytics.landing import pages
from analytics.landing import reprocess as reprocess_module
from analytics.landing.judge import Fault, Judge, judge_for
from analytics.landing.pull import reprocess
from analytics.landing.reprocess import ReprocessResult
from tests.unit.landing.landing_world import Workspace, deployment, jsonl

NAME = "deployments.jsonl"


def refusing(word: bytes) -> Callable[[str], Judge]:
    """Judges that refuse payloads with a word, and otherwise judge as usual."""

    def judges(entity: str) -> Judge:
        usual = judge_for(entity)

        def judge(payload: bytes) -> Fault | None:
            return Fault("wrong_type", "$.ref", "that word") if word in payload else usual(payload)

        return judge

    return judges


@pytest.fixture
def landed(workspace: Workspace) -> Workspace:
    workspace.drops.write(NAME, jsonl(deployment(1, ref="fine"), deployment(2, ref="odd"), deployment(None)))
    return workspace


def test_nothing_changes_while_the_judge_is_the_same(landed: Workspace) -> None:
    landed.pull()
    before = (landed.items("*"), landed.quarantine())
    assert reprocess(landed.settings) == [ReprocessResult("drops", 0, 0, 0)]
    assert (landed.items("*"), landed.quarantine()) == before


def test_what_is_bad_now_moves_to_quarantine_with_all_it_had(
    landed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed.pull()
    monkeypatch.setattr(reprocess_module, "judge_for", refusing(b"odd"))
    assert reprocess(landed.settings) == [ReprocessResult("drops", 1, 0, 0)]
    assert landed.items() == [(NAME, 1, 1)]
    row = landed.quarantine()[0]
    assert (row.origin, row.line, row.reason, row.json_path, row.detail) == (
        NAME,
        2,
        "wrong_type",
        "$.ref",
        "that word",
    )
    assert row.excerpt is not None
    assert row.excerpt.startswith('{"deployment_id": 2')


def test_what_is_good_now_lands_where_it_stood(landed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pages, "judge_for", refusing(b"odd"))
        landed.pull()
    assert landed.items() == [(NAME, 1, 1)]
    assert reprocess(landed.settings) == [ReprocessResult("drops", 0, 1, 0)]
    assert landed.items("key, origin, generation, line, page_id") == [
        ('["1","1"]', NAME, 1, 1, 1),
        ('["2","1"]', NAME, 1, 2, 1),
    ]
    assert landed.refused() == [(NAME, 3, "missing_id")]


def test_going_back_and_forth_ends_where_it_began(landed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    landed.pull()
    before = landed.items("*")
    with monkeypatch.context() as patch:
        patch.setattr(reprocess_module, "judge_for", refusing(b"odd"))
        reprocess(landed.settings)
    reprocess(landed.settings)
    assert [row[:-1] for row in landed.items("*")] == [row[:-1] for row in before]  # all but the row's own place


def test_keys_and_times_are_read_again(landed: Workspace) -> None:
    landed.pull()
    before = landed.items("key, updated_at, occurred_at")
    with landed.store() as store:
        store.con.execute("UPDATE items SET key = 'old', updated_at = now(), occurred_at = NULL WHERE line = 2")
    assert reprocess(landed.settings) == [ReprocessResult("drops", 0, 0, 1)]
    assert landed.items("key, updated_at, occurred_at") == before


def test_what_was_not_kept_whole_stays_in_quarantine(workspace: Workspace) -> None:
    workspace.drops.write(NAME, jsonl(deployment(None, ref="x" * 1024 * 1024)) + b'{"deployment_id": 1, "reposi')
    workspace.drops.write("things.jsonl", b"")
    workspace.pull()
    before = workspace.refused()
    assert len(before) == 3
    assert reprocess(workspace.settings) == [ReprocessResult("drops", 0, 0, 0)]
    assert workspace.refused() == before


def test_a_failure_changes_nothing(landed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    landed.pull()
    before = landed.items("*")
    monkeypatch.setattr(reprocess_module, "judge_for", refusing(b"odd"))

    def fails(store: object) -> int:
        raise RuntimeError("stopped")

    monkeypatch.setattr(reprocess_module, "_read_anew", fails)
    with pytest.raises(RuntimeError):
        reprocess(landed.settings)
    assert landed.items("*") == before


def test_batches_cover_every_row(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reprocess_module, "_BATCH_ROWS", 2)
    workspace.drops.write(NAME, jsonl(*(deployment(n, ref="odd" if n % 2 else "fine") for n in range(7))))
    workspace.pull()
    with monkeypatch.context() as patch:
        patch.setattr(reprocess_module, "judge_for", refusing(b"odd"))
        assert reprocess(workspace.settings)[0].to_quarantine == 3
    assert reprocess(workspace.settings)[0].to_items == 3
    assert len(workspace.items()) == 7


def test_a_source_that_was_never_pulled_is_passed_over(tmp_path: Path) -> None:
    assert reprocess(Workspace(tmp_path, ["one", "two"]).settings) == []
