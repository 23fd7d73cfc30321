"""Facts of runs after an update are those of a build of everything."""

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.delivery.pipelines import pipeline_facts
from analytics.delivery.run_update import update_pipeline_facts
from analytics.delivery.since import Since
from analytics.engine import connect
from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import create_prelude
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation, write_table
from analytics.settings import Settings, load_settings

BEFORE, NOW = datetime(2026, 4, 2), datetime(2026, 4, 3)
FACTS = ("job_times", "run_attempts", "runner_windows")
TOLD = ("pipeline_runs", "pipeline_jobs")
Rows = dict[tuple[Any, ...], dict[str, Any]]


def settings_in(folder: Path, now: datetime) -> Settings:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "quarterdeck.yaml"
    file.write_text(f"organization: Acme\nnow: {now.isoformat()}Z\nsources: []\ncatalog: []\n", encoding="utf-8")
    return load_settings(file)


def past(rng: random.Random) -> tuple[Rows, Rows]:
    """Runs of a few shas in two quarters, with attempts and jobs; some only begin or end after the first cut-off."""
    runs: Rows = {}
    jobs: Rows = {}
    for k in range(rng.randint(10, 16)):
        repository = rng.choice(["acme/shop", "acme/shop", "Acme/Shop", "acme/api"])
        begun = NOW - timedelta(hours=rng.choice([10, 100, 100, 100]) * rng.random())
        for attempt in range(1, rng.choice([1, 2, 3]) + 1):
            begun += timedelta(hours=rng.random())
            ended = begun + timedelta(hours=rng.random() * 5)
            runs[repository, f"r{k}", attempt] = {
                "repository": repository,
                "run_id": f"r{k}",
                "attempt": attempt,
                "workflow": rng.choice(["ci", "ci", "ci", "nightly"]),
                "head_sha": rng.choice("abcdef"),
                "status": "completed",
                "conclusion": rng.choice(["success", "failure"]),
                "created_at": begun,
                "started_at": begun + timedelta(minutes=rng.randrange(90)),
                "completed_at": ended,
            }
            for job in range(rng.randrange(3)):
                jobs[repository, f"r{k}", f"{attempt}-{job}"] = {
                    "repository": repository,
                    "run_id": f"r{k}",
                    "attempt": attempt,
                    "job_id": f"{attempt}-{job}",
                    "runner": rng.choice(["one", "two", "three", "four", None]),
                    "status": "completed",
                    "conclusion": "success",
                    "created_at": begun + timedelta(minutes=rng.randrange(60)),
                    "started_at": begun + timedelta(minutes=rng.randrange(90)),
                    "completed_at": ended,
                }
    return runs, jobs


def otherwise(rows: Rows, rng: random.Random) -> Rows:
    """What was told of the same before: not of all, and not the same."""
    told: Rows = {}
    for key, row in rows.items():
        # Few have changed: what is said of all others must be seen to depend on them.
        if rng.random() < 0.96:
            told[key] = dict(row)
            if rng.random() < 0.08:
                other: dict[str, list[Any]] = {
                    "head_sha": ["a", "f"],
                    "conclusion": ["failure", None],
                    "runner": ["one", "five"],
                }
                for name in sorted(other.keys() & row.keys()):
                    told[key][name] = rng.choice(other[name])
    return told


def tell(con: duckdb.DuckDBPyConnection, settings: Settings, name: str, rows: Rows) -> None:
    engine = DuckEngine(con, settings)
    columns = TABLES[name].columns
    engine.create_values(f"{name}_told", columns, [tuple(row.get(c) for c in columns) for row in rows.values()])
    write_table(con, settings, name, f"SELECT * FROM {name}_told")
    engine.read_lake(name)


def rows_of(con: duckdb.DuckDBPyConnection, settings: Settings) -> dict[str, list[str]]:
    return {name: sorted(map(repr, con.execute(f"FROM {lake_relation(settings, name)}").fetchall())) for name in FACTS}


def both_ways(folder: Path, before: dict[str, Rows], now: dict[str, Rows], entities: Iterable[str]) -> list[Any]:
    """Facts and numbers of rows of an update, and of everything made anew."""
    found = []
    for way in ("updated", "anew"):
        earlier, later = (settings_in(folder / way, cut_off) for cut_off in (BEFORE, NOW))
        with connect(later) as con:
            engine = DuckEngine(con, later)
            if way == "updated":
                create_prelude(engine, earlier)
                for name, rows in before.items():
                    tell(con, earlier, name, rows)
                pipeline_facts(engine, str.lower, {})
            create_prelude(engine, later)
            for name, rows in now.items():
                columns = TABLES[name].columns
                changed = [key for key in before[name] | rows if before[name].get(key) != rows.get(key)]
                for when, told in (("before", before[name]), ("now", rows)):
                    values = [tuple(told[key].get(c) for c in columns) for key in changed if key in told]
                    engine.create_values(f"{name}_{when}", columns, values)
                tell(con, later, name, rows)
            written: dict[str, int] = {}
            if way == "updated":
                update_pipeline_facts(engine, later, str.lower, Since(BEFORE, NOW, frozenset(entities)), written)
            else:
                pipeline_facts(engine, str.lower, written)
            found.append((rows_of(con, later), written))
    return found


# Of a hundred, some in which a run is touched by a sha, by an attempt of another sha, by a job.
@pytest.mark.parametrize("seed", [*range(6), 11, 16, 18, 26])
def test_an_update_leaves_what_everything_made_anew_leaves(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    now = dict(zip(TOLD, past(rng), strict=True))
    before = {name: otherwise(rows, rng) for name, rows in now.items()}
    entities = [name for name in TOLD if rng.random() < 0.8]
    before |= {name: now[name] for name in TOLD if name not in entities}
    updated, anew = both_ways(tmp_path, before, now, entities)
    assert updated == anew
    assert any(updated[1].values())


def test_a_run_that_has_left_a_sha_no_longer_makes_the_others_there_flaky(tmp_path: Path) -> None:
    def run(run_id: str, hour: int, sha: str, conclusion: str) -> Rows:
        at = datetime(2026, 4, 1, hour)
        said = {"workflow": "ci", "head_sha": sha, "conclusion": conclusion, "created_at": at}
        return {("acme/shop", run_id, 1): {"repository": "acme/shop", "run_id": run_id, "attempt": 1, **said}}

    mended = run("2", 2, "a", "success")
    before = {"pipeline_runs": run("1", 1, "a", "failure") | mended, "pipeline_jobs": {}}
    now = {"pipeline_runs": run("1", 1, "b", "failure") | mended, "pipeline_jobs": {}}
    updated, anew = both_ways(tmp_path, before, now, ["pipeline_runs"])
    assert updated == anew
