from __future__ import annotations

from pathlib import Path

import pytest

from analytics.catalog import load_catalog
from analytics.sample.declaring import catalog_text
from analytics.sample.organisation import estates, people
from analytics.sample.timeline import Timeline


@pytest.mark.parametrize("services", [1, 2, 3, 12, 13, 25, 300])
def test_as_many_services_are_declared_as_were_asked_for(services: int) -> None:
    declared = [name for estate in estates(2026, services) for name in sorted(estate.declared)]
    assert len(declared) == len(set(declared)) == services


def test_repositories_and_numbers_are_taken_once() -> None:
    found = estates(2026, 300)
    assert len({estate.repository for estate in found}) == len(found) == len({estate.number for estate in found})
    numbers = [number for estate in found for number in estate.service_numbers.values()]
    assert len(set(numbers)) == len(numbers)


def test_a_larger_organisation_keeps_the_smaller_one_s_repositories() -> None:
    small = {estate.repository: estate.habits for estate in estates(2026, 14)}
    large = {estate.repository: estate.habits for estate in estates(2026, 40)}
    assert small.items() <= large.items()


def test_the_catalog_of_a_large_organisation_loads(tmp_path: Path) -> None:
    habits = [h for estate in estates(2026, 100) for h in estate.habits if h.name in estate.declared]
    (tmp_path / "catalog.yaml").write_text(catalog_text(habits, Timeline(8)))
    catalog = load_catalog([tmp_path / "catalog.yaml"])
    assert len(catalog.services) == 100
    assert sum(service.since is not None for service in catalog.services) == 8


def test_a_team_has_enough_people_to_review_each_other() -> None:
    team = people(2026, "payments")
    assert 5 <= len(set(team)) == len(team) <= 8
