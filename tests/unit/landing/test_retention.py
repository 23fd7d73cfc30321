from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from analytics.landing.pull import pull
from analytics.landing.retention import drop_old_bodies
from analytics.landing.store import LandingStore
from analytics.landing.translating import translate_anew
from analytics.settings import Settings
from analytics.sources.port import Answered, RawRecord
from tests.unit.landing.landing_world import Workspace, deployment, page

OLD, NEW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)


def at(settings: Settings, now: datetime, **more: object) -> Settings:
    return settings.model_copy(update={"fixed_now": now, **more})


@pytest.fixture
def landed(tmp_path: Path) -> Workspace:
    """An old answer and a new one, a deployment each."""
    workspace = Workspace(tmp_path)
    for number, now in enumerate((OLD, NEW), start=1):
        record = deployment(f"d{number}")
        answered = Answered("deployments", f"page {number}", json.dumps(record))
        with LandingStore.open(at(workspace.settings, now), "drops") as store:
            store.land(page(record, key=f"r{number}", answered=answered, observed=True))
    return workspace


def bodies(settings: Settings) -> list[bool]:
    with LandingStore.open(settings, "drops") as store:
        return [kept for (kept,) in store.con.execute("SELECT body IS NOT NULL FROM pages ORDER BY page_id").fetchall()]


def kept_for(settings: Settings, days: int | None) -> Settings:
    retention = type(settings.retention)(raw_pages_days=days)
    return at(settings, NEW, retention=retention)


def test_everything_is_kept_unless_a_number_is_set(landed: Workspace) -> None:
    with LandingStore.open(landed.settings, "drops") as store:
        assert drop_old_bodies(store, kept_for(landed.settings, None), "drops") == 0
    assert bodies(landed.settings) == [True, True]


def test_bodies_older_than_the_setting_go_and_records_stay(landed: Workspace) -> None:
    before = landed.winners()
    with LandingStore.open(landed.settings, "drops") as store:
        assert drop_old_bodies(store, kept_for(landed.settings, 60), "drops") == 1
        assert drop_old_bodies(store, kept_for(landed.settings, 60), "drops") == 0
        asked = store.con.execute("SELECT request FROM pages ORDER BY page_id").fetchall()
    assert asked == [("page 1",), ("page 2",)]
    assert bodies(landed.settings) == [False, True]
    assert landed.winners() == before
    assert len(before) == 2


def test_a_new_translation_leaves_records_without_their_answer_as_they_are(landed: Workspace) -> None:
    with LandingStore.open(landed.settings, "drops") as store:
        drop_old_bodies(store, kept_for(landed.settings, 60), "drops")

        def translator(kind: str, body: str, repository: str) -> dict[str, list[RawRecord]]:
            record = json.loads(body) | {"creator": "translated anew"}
            return {kind: [RawRecord(1, json.dumps(record).encode())]}

        with store.transaction():
            translate_anew(store, translator)
    creators = {row["deployment_id"]: row.get("creator") for row in landed.winners()}
    assert creators["d2"] == "translated anew"
    assert creators["d1"] != "translated anew"


def test_a_pull_applies_the_setting(landed: Workspace) -> None:
    [result] = pull(kept_for(landed.settings, 60))
    assert result.error is None
    assert bodies(landed.settings) == [False, True]


def test_nothing_can_be_kept_for_no_days(landed: Workspace) -> None:
    with pytest.raises(ValidationError, match="raw_pages_days"):
        kept_for(landed.settings, 0)
