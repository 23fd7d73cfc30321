"""The asset of delivery: there when the settings name a destination, and failed in words when one is not reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.pack import DELIVERED, PACK, pack_assets
from assets.partitions import quarter_partitions
from assets.resources import Workspace
from reports.delivery.deliver import Delivered

SETTINGS = """
organization: Acme
now: 2026-10-05T06:00:00Z
catalog: catalog.yaml
reports: {printed: [], delivery: [{type: folder, path: site}]}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "quarterdeck.yaml").write_text(SETTINGS)
    return Workspace(settings_path=str(tmp_path / "quarterdeck.yaml"))


def delivered(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, outcome: Delivered) -> tuple[Any, list[str]]:
    """Materialize the delivery of 2026-Q3 with an outcome, and what was asked to be delivered."""
    asked: list[str] = []

    def deliver_pack(settings: Any, folder: Path) -> list[Delivered]:
        asked.append(folder.name)
        return [outcome]

    monkeypatch.setattr("reports.delivery.deliver.newest_pack", lambda settings, quarter: Path(f"/packs/{quarter}.r1"))
    monkeypatch.setattr("reports.delivery.deliver.deliver_pack", deliver_pack)
    settings = workspace.settings()
    assets = pack_assets(settings, quarter_partitions(settings))
    with dg.instance_for_test() as instance:
        result = dg.materialize(
            assets,
            selection=[DELIVERED],
            partition_key="2026-07-01",
            resources={"workspace": workspace},
            instance=instance,
            raise_on_error=False,
        )
    return result, asked


def test_delivery_is_an_asset_only_where_the_settings_name_a_destination(workspace: Workspace) -> None:
    settings = workspace.settings()
    partitions = quarter_partitions(settings)
    without = settings.model_copy(update={"reports": settings.reports.model_copy(update={"delivery": []})})
    assert [one.key for one in pack_assets(settings, partitions)] == [PACK, DELIVERED]
    assert [one.key for one in pack_assets(without, partitions)] == [PACK]


def test_the_newest_revision_is_delivered_and_what_came_of_it_is_shown(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, asked = delivered(workspace, monkeypatch, Delivered("folder", True, "copied to site"))
    assert asked == ["2026-Q3.r1"]
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["folder"].value == "copied to site"


def test_a_destination_that_is_not_reached_fails_the_asset_in_words(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = delivered(workspace, monkeypatch, Delivered("folder", False, "no space left"))
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data.description == "delivery folder: no space left"
