"""The comparison of engines, small, on Spark: the benchmarks' questions have the answers that DuckDB gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analytics.settings import load_settings
from benchmarks import lake
from benchmarks.answers import REFERENCE, main
from benchmarks.engines import compare
from benchmarks.feeds import Size, write_settings
from benchmarks.questions import questions

pytestmark = pytest.mark.slow


def test_spark_gives_the_answers_that_duckdb_gives_on_the_lake(spark_session: Any, tmp_path: Path) -> None:
    size = Size(attempts=20_000, services=6)
    settings = load_settings(write_settings(tmp_path / "organization", size))
    lake.write_typed_tables(settings, size, seed=3)
    lake.derive_runs(settings)
    lake.derive_ownership(settings)
    answers = []
    for engine in (REFERENCE, "Spark"):
        main(engine, settings, tmp_path / "answers.json")
        answers.append(json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")))
    expected, found = answers
    words = {
        question.name: compare(question, expected[question.name], found[question.name]).words
        for question in questions()
    }
    assert all(word.startswith("equal") for word in words.values()), words
