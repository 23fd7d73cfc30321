"""A storage that 0.1.0 wrote opens in this version: landing is migrated, the rest made anew, and nothing asked again.

`tests/data/storage-0.1.0.tar.xz` was made with the code of that release: feeds, landing, lake and published database of
a small world (four deployments, two incidents of which one was refused, a pipeline run).
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from quarterdeck.cli import main

FIXTURE = Path(__file__).resolve().parents[1] / "data" / "storage-0.1.0.tar.xz"
# What 0.1.0 printed for 2026-Q1, organisation, headline series.
VALUES = {
    "deployment_frequency": 3 / 90,
    "change_lead_time": 10.0,
    "change_lead_time_p75": 14.0,
    "change_fail_rate": 1 / 3,
    "failed_deployment_recovery_time": 3.0,
    "incident_time_to_restore": 2.0,
    "deployment_success_rate": 1.0,
    "pipeline_success_rate": 1.0,
    "queue_time_median": 6.0,
}


class Storage:
    """A copy of what 0.1.0 left."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--settings", str(self.path / "quarterdeck.yaml")])

    def expect_values(self) -> None:
        done = self.run("metrics", "--quarter", "2026-Q1", "--scope", "organization", "--format", "json")
        assert done.exit_code == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        values = {row["metric"]: row["value"] for row in rows if row["series"] in (None, "human")}
        assert {name: values[name] for name in VALUES} == pytest.approx(VALUES)

    def landed(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(self.path / "data" / "landing" / "drops.duckdb", read_only=True) as con:
            return con.execute(query).fetchall()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Storage(tmp_path / "world-0.1.0")


@pytest.mark.parametrize("question", [["metrics"], ["explain", "change_fail_rate"], ["pack"]])
def test_a_question_to_the_old_published_database_says_what_to_run(storage: Storage, question: list[str]) -> None:
    done = storage.run(*question, "--quarter", "2026-Q1")
    assert done.exit_code == 1
    assert "the published database is from another version" in done.stderr
    assert "Run `quarterdeck measure`" in done.stderr


def test_a_pull_migrates_the_landing_and_lands_nothing_again(storage: Storage) -> None:
    assert storage.landed("SELECT value FROM meta WHERE key = 'schema_version'") == [("1",)]
    before = storage.landed("SELECT entity, key, payload FROM items ORDER BY ALL")
    done = storage.run("pull")
    assert done.exit_code == 0, done.stderr
    assert storage.landed("SELECT value FROM meta WHERE key = 'schema_version'") != [("1",)]
    assert storage.landed("SELECT entity, key, payload FROM items ORDER BY ALL") == before


def test_every_stage_goes_on_from_it_without_its_sources(storage: Storage) -> None:
    shutil.rmtree(storage.path / "feeds")
    for stage in ("reprocess", "verify", "measure"):
        done = storage.run(stage)
        assert done.exit_code == 0, (stage, done.stderr)
    storage.expect_values()
    [refused] = storage.landed("SELECT reason FROM quarantine")
    assert refused == ("bad_time",)
    assert storage.run("pack", "--quarter", "2026-Q1").exit_code == 0


def test_a_stage_that_derives_from_the_old_lake_says_what_to_run_first(storage: Storage) -> None:
    for stage in ("measure", "verify"):
        done = storage.run(stage)
        assert done.exit_code == 1
        assert "earlier version of Quarterdeck (lake version 1" in done.stderr
        assert "Run `quarterdeck build`" in done.stderr


def test_a_storage_of_a_newer_release_is_refused_with_words(storage: Storage) -> None:
    (storage.path / "data" / "lake.json").write_text('{"version": 1000}')
    for stage in ("build", "verify", "measure"):
        done = storage.run(stage)
        assert done.exit_code == 1
        assert "newer version of Quarterdeck (lake version 1000" in done.stderr
    with duckdb.connect(storage.path / "data" / "landing" / "drops.duckdb") as con:
        con.execute("UPDATE meta SET value = '1000' WHERE key = 'schema_version'")
    for stage in ("pull", "reprocess", "build"):
        done = storage.run(stage)
        assert done.exit_code == 1
        assert "(schema 1000" in done.stderr or "lake version 1000" in done.stderr
