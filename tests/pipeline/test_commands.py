"""The commands as a shell runs them, on a small world: exit codes, what goes where, and `run` through Dagster."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics.settings import load_settings
from assets.build import built_tables
from assets.measure import metric_key
from assets.pack import PACK
from sensors.instance import open_instance

# Each run starts Dagster and stores some hundred events.
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


def shell(world: Any, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the world's folder without looking at its exit code."""
    code = "import sys; from quarterdeck.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=world.path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def two_changes_and_a_failure(world: Any) -> None:
    world.seed()
    world.history(("c1", 1), ("c2", 2), onto="c0")
    world.deploy("d1", "c1", 10)
    world.deploy("d2", "c2", 20)
    world.incident("i1", 21, resolved=23)
    world.incident("i2", 400, opened="yesterday")  # a time that is none: refused


@pytest.fixture(scope="module")
def ran(new_world: Callable[[], Any]) -> tuple[Any, subprocess.CompletedProcess[str]]:
    """A world on which `run` was done once, and what that printed."""
    world = new_world()
    two_changes_and_a_failure(world)
    world.write()
    return world, shell(world, "run", "--quarter", "2026-Q1")


def test_run_prints_the_packs_folder_last_and_nothing_else(ran: Any) -> None:
    world, done = ran
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{world.path}/data/packs/2026-Q1\n"
    assert (world.path / "data" / "packs" / "2026-Q1" / "index.html").is_file()


def test_run_shows_progress_of_each_stage_and_no_chatter_on_stderr(ran: Any) -> None:
    _, done = ran
    stages = dict.fromkeys(line.split(":")[0] for line in done.stderr.splitlines())
    assert list(stages) == ["run", "pull", "build", "verify", "measure", "pack"]


def test_bad_records_alone_do_not_fail_a_run_and_are_listed(ran: Any) -> None:
    world, done = ran
    assert done.returncode == 0
    document = json.loads(shell(world, "coverage", "--format", "json").stdout)
    [refused] = document["quarantine"]
    assert (refused["origin"], refused["line"]) == ("incidents.jsonl", 2)
    counted = {row["entity"]: (row["items"], row["quarantined"]) for row in document["collected"]}
    assert counted["incidents"] == (1, 1)
    assert {window["request_key"] for window in document["windows"]} >= {"incidents.jsonl", "deployments.jsonl"}


def test_the_ui_lists_the_run_with_every_asset_and_its_quarter(ran: Any) -> None:
    world, _ = ran
    settings = load_settings(world.settings_path)
    with open_instance(settings) as instance:
        [run] = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.tags["dagster/partition"] == "2026-01-01"
        assert instance.get_materialized_partitions(PACK) == {"2026-01-01"}
        assert "2025-10-01" in instance.get_materialized_partitions(metric_key("deployment_frequency"))
        [event] = instance.fetch_materializations(
            dg.AssetRecordsFilter(metric_key("change_fail_rate"), asset_partitions=["2026-01-01"]), limit=1
        ).records
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["value"].value == 0.5


def test_the_ui_and_metrics_say_the_same(ran: Any) -> None:
    world, _ = ran
    values = json.loads(shell(world, "metrics", "--scope", "organization", "--format", "json").stdout)
    with open_instance(load_settings(world.settings_path)) as instance:
        for row in values:
            if row["series"] == "all":
                continue
            [event] = instance.fetch_materializations(
                dg.AssetRecordsFilter(metric_key(row["metric"]), asset_partitions=["2026-01-01"]), limit=1
            ).records
            assert event.asset_materialization is not None
            metadata = event.asset_materialization.metadata
            assert metadata["value"].value == (None if row["value"] is None else pytest.approx(row["value"], rel=1e-9))
            assert metadata["n"].value == row["n"]


def test_every_built_table_is_an_asset(ran: Any) -> None:
    world, _ = ran
    from analytics.delivery.build import build
    from analytics.delivery.since import NOTE

    # The note by which the next build begins is told apart from what it counts.
    assert {*build(load_settings(world.settings_path)).tables, NOTE} == {table.name for table in built_tables()}


def test_metrics_explain_and_coverage_are_read_by_people(ran: Any) -> None:
    world, _ = ran
    table = shell(world, "metrics", "--scope", "service", "--quarter", "2026-Q1")
    assert table.returncode == 0
    assert re.search(r"change_fail_rate +50\.0\s% +1 of 2", table.stdout)
    explained = shell(world, "explain", "change_fail_rate", "--service", "checkout", "--quarter", "2026-Q1")
    assert "1 of 2" in explained.stdout
    assert "d2" in explained.stdout
    assert "incidents.jsonl:2" in shell(world, "coverage").stdout


def test_metrics_as_csv_has_the_json_values(ran: Any) -> None:
    world, _ = ran
    rows = list(csv.DictReader(io.StringIO(shell(world, "metrics", "--format", "csv").stdout)))
    values = json.loads(shell(world, "metrics", "--format", "json").stdout)
    assert [row["metric"] for row in rows] == [value["metric"] for value in values]
    assert [row["value"] for row in rows] == ["" if v["value"] is None else str(v["value"]) for v in values]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["explain", "change_lead_tme"], "change_lead_time"),
        (["explain", "change_lead_time", "--service", "chekout"], "checkout"),
        (["explain", "change_lead_time", "--team", "paymnts"], "payments"),
        (["pull", "--source", "dropss"], "drops"),
    ],
)
def test_an_unknown_name_exits_2_with_what_is_known(ran: Any, words: list[str], hint: str) -> None:
    world, _ = ran
    done = shell(world, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr


def test_verify_pack_accepts_what_run_made_and_no_change_of_it(ran: Any) -> None:
    world, _ = ran
    folder = world.path / "data" / "packs" / "2026-Q1"
    assert shell(world, "verify-pack", str(folder)).returncode == 0
    page = folder / "index.html"
    before = page.read_bytes()
    page.write_bytes(before + b" ")
    try:
        done = shell(world, "verify-pack", str(folder))
    finally:
        page.write_bytes(before)
    assert done.returncode == 1
    assert "index.html" in done.stdout


def test_single_stages_give_what_run_gives(ran: Any, world: Any) -> None:
    """The commands and the Dagster assets call the same functions."""
    other, _ = ran
    two_changes_and_a_failure(world)
    world.measure("2026-Q1")
    world.command("verify")
    world.command("measure")
    assert world.command("metrics", "--format", "json") == shell(other, "metrics", "--format", "json").stdout
    assert world.command("pack").rstrip("\n") == f"{world.path}/data/packs/2026-Q1"


def test_reprocess_reads_no_source_and_takes_a_changed_catalog(world: Any) -> None:
    two_changes_and_a_failure(world)
    world.measure("2026-Q1")
    for file in world.feeds.iterdir():
        file.unlink()
    world.catalog = []
    world.service("renamed")
    world.declare()
    world.command("reprocess")
    world.command("measure")
    names = {row["name"] for row in json.loads(world.command("metrics", "--scope", "service", "--format", "json"))}
    assert names == {"renamed"}


def test_a_source_that_fails_is_said_and_the_rest_is_done(shell_world: Any) -> None:
    world = shell_world
    two_changes_and_a_failure(world)
    world.set(sources=[{"name": "gone", "type": "files", "path": "./nowhere"}, *world.settings["sources"]])
    world.write()
    done = shell(world, "run", "--quarter", "2026-Q1")
    assert done.returncode == 1
    assert "error: source gone: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == f"{world.path}/data/packs/2026-Q1\n", done.stderr


def test_a_stage_that_fails_says_what_where_and_what_to_do(shell_world: Any) -> None:
    world = shell_world
    two_changes_and_a_failure(world)
    world.write()
    (world.path / "catalog.yaml").write_text("services:\n  - {nme: checkout}\n", encoding="utf-8")
    done = shell(world, "run", "--quarter", "2026-Q1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "catalog.yaml:2" in done.stderr
    assert "Did you mean 'name'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_exits_130_and_the_next_one_goes_on(shell_world: Any) -> None:
    world = shell_world
    two_changes_and_a_failure(world)
    world.write()
    words = ["run", "--quarter", "2026-Q1"]
    process = subprocess.Popen(
        [sys.executable, "-c", f"from quarterdeck.cli import main; main({words!r})"],
        cwd=world.path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("build: "):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err
    assert shell(world, *words).returncode == 0


def test_run_without_a_source_exits_2(shell_world: Any) -> None:
    shell_world.set(sources=[])
    shell_world.write()
    done = shell(shell_world, "run")
    assert done.returncode == 2
    assert "sources" in done.stderr
    assert not (shell_world.path / "data").exists()


def test_a_fiscal_quarter_and_a_zone_are_run(shell_world: Any) -> None:
    world = shell_world
    world.set(fiscal_year_start_month=2, time_zone="Pacific/Auckland", now="2026-05-10T00:00:00Z")
    two_changes_and_a_failure(world)
    world.write()
    done = shell(world, "run", "--quarter", "2026-Q4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("/packs/2026-Q4\n")


def test_the_sample_goes_from_end_to_end(tmp_path: Path, world: Any) -> None:
    world.path.mkdir(exist_ok=True)
    assert shell(world, "sample", "acme", "--services", "2", "--quarters", "2").returncode == 0
    done = shell(world, "run", "--settings", "acme/quarterdeck.yaml")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_dir()
