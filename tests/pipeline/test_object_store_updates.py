"""A day's facts update a lake in an object store as they update one in a folder."""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING

from analytics.delivery.build import build
from analytics.engine import connect
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation
from analytics.settings import Settings, StorageSettings
from tests.pipeline.test_updates import OWN, Daily

if TYPE_CHECKING:
    from tests.pipeline.conftest import World


def rows_of(settings: Settings) -> dict[str, list[str]]:
    """Every row of every table, in no order."""
    with connect(settings) as con:
        return {
            name: sorted(map(repr, con.execute(f"SELECT * FROM {lake_relation(settings, name)}").fetchall()))
            for name in TABLES
            if name not in OWN
        }


def test_an_update_makes_what_a_build_of_everything_makes(world: World) -> None:
    world.set(storage={"path": "./data", "lake": f"memory://updates-{uuid.uuid4().hex}"})
    world.service("checkout")
    world.seed()
    world.commit("c1", 1, "c0")
    world.deploy("d1", "c1", 5)
    daily = Daily(world)
    daily.update(world.records)
    before = rows_of(daily.settings)
    world.records = {entity: [] for entity in world.records}
    world.commit("c2", 30, "c1")
    world.deploy("d2", "c2", 40)
    world.incident("i1", 41, resolved=45)
    assert daily.update(world.records).whole is None
    updated = rows_of(daily.settings)
    assert len(updated["change_lead"]) == len(before["change_lead"]) + 1
    shutil.copytree(daily.settings.landing_dir, world.path / "whole" / "landing")
    whole = daily.settings.model_copy(update={"stored": StorageSettings(path=world.path / "whole")})
    assert build(whole).whole is not None
    assert updated == rows_of(whole)
