"""A workspace whose only source is the fake, pulled as users do, and the tables that came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analytics.landing.pull import PullResult, pull
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import Settings, load_settings
from analytics.sources.limits import forget_budgets
from tests.fakes.github.oracle import expected, left_behind
from tests.fakes.github.server import FakeGitHub
from tests.fakes.github.world import World

CATALOG = "services:\n  - {name: shop, repository: acme/shop, deploys: {environments: [production]}}\n"


def workspace(folder: Path, fake: FakeGitHub, **more: Any) -> Settings:
    """Settings with one GitHub source, without git; the environment must hold QD_FAKE_TOKEN."""
    (folder / "catalog.yaml").write_text(CATALOG, "utf-8")
    source = {
        "name": "hub", "type": "github", "organization": fake.world.organization, "token": "${QD_FAKE_TOKEN}",
        "base_url": fake.url, "workers": 1, "max_wait_seconds": 0, "commits": "api", **more,
    }  # fmt: skip
    settings = {
        "organization": "Acme",
        "now": fake.world.now.isoformat(),
        "sources": [source],
        "engine": {"threads": 1},  # a handful of rows is read faster by one
    }
    path = folder / "quarterdeck.yaml"
    path.write_text(json.dumps(settings), "utf-8")
    return load_settings(path)


def pulled(settings: Settings) -> PullResult:
    """What a pull by a new process gives."""
    forget_budgets()
    (result,) = pull(settings, only=["hub"])
    return result


def landed(settings: Settings) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    """Every winning record by entity and key."""
    found: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    with open_landing(settings) as con:
        entities = [row[0] for row in con.execute("SELECT DISTINCT entity FROM landed_items").fetchall()]
        for entity in entities:
            winners = create_winners(con, entity)
            rows = con.execute(f"SELECT payload FROM {winners}").fetchall()
            found[entity] = {_key(entity, json.loads(payload)): json.loads(payload) for (payload,) in rows}
            assert len(found[entity]) == len(rows)
    return found


def difference(
    world: World, have: dict[str, dict[tuple[Any, ...], dict[str, Any]]], *, jobs: bool = True, without: str = ""
) -> list[str]:
    """What differs from the world, in words, but for the entities named in `without`."""
    said: list[str] = []
    kept = left_behind(world)
    for entity, records in expected(world, jobs=jobs).items():
        if entity in without.split():
            continue
        got = have.get(entity, {})
        if entity == "commits":
            got = {key: record for key, record in got.items() if key in records or key not in kept}
        said += [f"{entity} {key} is missing" for key in records.keys() - got.keys()]
        said += [f"{entity} {key} is not in the world" for key in got.keys() - records.keys()]
        for key in records.keys() & got.keys():
            for name, value in records[key].items():
                if got[key].get(name) != value:
                    said.append(f"{entity} {key}: {name} is {got[key].get(name)!r}, in the world {value!r}")
    return said


_KEYS = {
    "pull_requests": ("repository", "number"),
    "reviews": ("repository", "number", "reviewer"),
    "pipeline_runs": ("repository", "run_id", "attempt"),
    "pipeline_jobs": ("repository", "run_id", "attempt", "job_id"),
    "deployments": ("deployment_id",),
    "incidents": ("incident_id",),
    "releases": ("repository", "tag"),
    "artifacts": ("digest", "name"),
    "commits": ("repository", "sha"),
    "tags": ("repository", "name"),
}


def _key(entity: str, record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in _KEYS[entity])
