"""A run that nobody could have collected is no unknown run."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from analytics.settings import load_settings
from analytics.supply_chain.deployments import Known, _facts_at
from analytics.supply_chain.verify import _runs_since
from tests.unit.supply_chain.judging_world import DEPLOYMENT

MAIN = {"name": "main", "type": "github", "organization": "acme", "token": "${TOKEN}"}
OTHER = MAIN | {"name": "other", "organization": "other"}
FEED = {"name": "drops", "type": "files", "path": "feeds"}


@pytest.mark.parametrize(
    ("sources", "since"),
    [
        ([MAIN], None),
        ([MAIN | {"since": "2025-01-01"}], datetime(2025, 1, 1)),
        ([MAIN | {"since": "2025-01-01"}, OTHER | {"since": "2025-06-01"}], datetime(2025, 1, 1)),
        ([MAIN | {"since": "2025-01-01"}, OTHER], None),
        ([MAIN | {"since": "2025-01-01"}, FEED], None),
        ([FEED], None),
    ],
)
def test_runs_are_known_from_the_day_that_every_host_was_asked_for(
    sources: list[dict[str, str]], since: datetime | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "ghp_x")
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(json.dumps({"organization": "Acme", "time_zone": "Europe/Berlin", "sources": sources}))
    assert _runs_since(load_settings(path)) == since


@pytest.mark.parametrize(
    ("at", "is_asked"), [(datetime(2024, 12, 31), False), (datetime(2025, 1, 1), True), (None, True)]
)
def test_a_run_from_before_that_day_is_not_asked_for(at: datetime | None, is_asked: bool) -> None:
    known = Known({}, frozenset(), frozenset(), {}, datetime(2025, 2, 1), True, runs_since=datetime(2025, 1, 1))
    assert (_facts_at(DEPLOYMENT, {"verified_at": at}, known).knows_run is not None) is is_asked
