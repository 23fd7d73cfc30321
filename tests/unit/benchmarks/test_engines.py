"""The comparison of engines, small: every engine answers the registry's queries alike, and the comparison would tell.

The whole command with its processes runs in the slow tier, and Spark is asked in tests/spark.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.metrics.registry import METRICS
from analytics.settings import Settings, load_settings
from benchmarks import engines, lake
from benchmarks.answers import REFERENCE, asked, main
from benchmarks.feeds import ENTITIES, Size, create_world, query_of, write_settings
from benchmarks.processes import run_module
from benchmarks.questions import KEYS, columns_read, questions

SIZE = Size(attempts=20_000, services=6)


@pytest.fixture(scope="module")
def organization(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small lake with its facts, published."""
    settings = load_settings(write_settings(tmp_path_factory.mktemp("engines") / "organization", SIZE))
    lake.write_typed_tables(settings, SIZE, seed=3)
    lake.derive_runs(settings)
    lake.derive_ownership(settings)
    lake.publish_lake(settings)
    return settings


@pytest.fixture(scope="module")
def expected(organization: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """What DuckDB says of the lake."""
    return answers(REFERENCE, organization, tmp_path_factory.mktemp("reference"))


def answers(engine: str, settings: Settings, folder: Path) -> dict[str, list[list[Any]]]:
    """An engine's answers as its process hands them over."""
    took = main(engine, settings, folder / "answers.json")
    assert list(took["questions"]) == [question.name for question in asked(engine)]
    found: dict[str, list[list[Any]]] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return found


def unlike(expected: dict[str, list[list[Any]]], found: dict[str, list[list[Any]]]) -> dict[str, str]:
    """What the comparison says of the answers that differ."""
    differences = {
        question.name: engines.compare(question, expected[question.name], found[question.name])
        for question in questions()
        if question.name in found
    }
    return {name: difference.words for name, difference in differences.items() if not difference.equal}


@pytest.mark.parametrize("engine", ["DuckDB, file", "Polars"])
def test_an_engine_gives_the_answers_that_duckdb_gives_on_the_lake(
    engine: str, organization: Settings, expected: dict[str, list[list[Any]]], tmp_path: Path
) -> None:
    assert unlike(expected, answers(engine, organization, tmp_path)) == {}


def test_every_delivery_and_pipeline_query_is_asked_and_has_rows_that_count(
    expected: dict[str, list[list[Any]]],
) -> None:
    queries = {metric.query for metric in METRICS if metric.name.startswith(("pipeline", "queue", "change", "deploy"))}
    assert queries <= set(expected)
    n = len(KEYS) + 1
    assert all(sum(row[n] for row in rows) > 0 for rows in expected.values())


def test_the_bare_scan_reads_every_row_and_only_the_columns_that_an_answer_needs(
    organization: Settings, tmp_path: Path
) -> None:
    (flakes,) = [question for question in questions() if question.name == "pipeline_flake_rate"]
    assert columns_read(flakes) == {"run_attempts": ["day", "flaky", "is_final", "repository", "run_succeeded"]}
    assert answers("bare scan", organization, tmp_path)["pipeline_flake_rate"] == [["run_attempts", SIZE.attempts]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((3, 7), "seen: 7 for"),
        ((4, None), "n: None for"),
        ((7, 0.123456), "share off by"),
        ((0, "another"), "other keys"),
        (None, "other keys"),
    ],
)
def test_the_comparison_names_a_wrong_count_a_null_a_float_and_a_missing_row(
    change: tuple[int, Any] | None, says: str, expected: dict[str, list[list[Any]]]
) -> None:
    question = questions()[0]
    wrong = [list(row) for row in expected[question.name]]
    if change is None:
        wrong.pop()
    else:
        wrong[0][change[0]] = change[1]
    difference = engines.compare(question, expected[question.name], wrong)
    assert not difference.equal
    assert says in difference.words


def test_floats_may_differ_by_what_the_order_of_a_sum_does_and_counts_may_not() -> None:
    question = replace(questions()[0], columns={"n": "", "share": ""})

    def equal(n: float, share: float) -> bool:
        return engines.compare(question, [["a", "2026-Q1", "", 5, 0.5]], [["a", "2026-Q1", "", n, share]]).equal

    assert equal(5, 0.5 + 1e-12)
    assert not equal(5, 0.5 + 1e-8)
    assert not equal(5.0, 0.5)


def rows_of(entity: str, threads: int, parts: Sequence[int | None]) -> list[tuple[Any, ...]]:
    with duckdb.connect(config={"threads": threads}) as con:
        con.execute("SET TimeZone = 'UTC'")
        create_world(con, Size(4_000, 3), 9)
        query = " UNION ALL BY NAME ".join(f"({query_of(entity, part)})" for part in parts)
        return con.execute(f"SELECT * FROM ({query}) ORDER BY ALL").fetchall()


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_seed_means_the_same_rows_whatever_the_machine_and_however_they_are_cut(entity: str) -> None:
    whole = rows_of(entity, 1, [None])
    assert whole
    assert whole == rows_of(entity, 4, [5, 2, 7, 0, 1, 3, 4, 6])


@pytest.mark.slow
def test_memory_and_cpu_of_a_process_are_those_of_its_whole_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parent_of_one.py").write_text(
        "import subprocess, sys, time\n"
        "from benchmarks.processes import report\n"
        "child = 'held = bytearray(b\"x\") * 200_000_000; sum(range(30_000_000)); print(flush=True); input()'\n"
        "def work():\n"
        "    started = subprocess.Popen([sys.executable, '-c', child], stdin=-1, stdout=-1)\n"
        "    started.stdout.readline()\n"
        "    time.sleep(0.5)\n"
        "    return {'child': started.pid}\n"
        "report(work)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    taken = run_module("parent_of_one")
    assert taken.peak_mb > 200
    assert taken.cpu_seconds > 0.2


@pytest.mark.slow
def test_the_command_prints_every_step_engine_and_question_and_removes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--attempts", "20000", "--services", "4", "--rounds", "1", "--engines", "polars", "--measure"]
    monkeypatch.setattr(sys, "argv", ["engines", *words, "--out", str(tmp_path)])
    assert engines.main() == 0
    lines = capsys.readouterr().out.splitlines()
    for name in (
        *engines.STEPS,
        *("measure", "bare scan", "Polars", REFERENCE),
        *(question.name for question in questions()),
    ):
        assert any(line.startswith(name) for line in lines), name
    assert len([line for line in lines if line.startswith("PASS")]) == 3
    assert not list(tmp_path.iterdir()), "files are kept only with --keep"
