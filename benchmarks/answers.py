"""Answers every question on one engine, in a process of its own: `python -m benchmarks.answers ENGINE SETTINGS FILE`.

Names of questions may follow, for some alone. The file gets the answers as JSON, for the comparison of engines; what
each question took is printed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from analytics.engine import connect
from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import create_functions, create_params
from analytics.lake.schemas import TABLES
from analytics.lake.tables import create_views
from analytics.settings import Settings, load_settings
from benchmarks.oracle import ANSWERS, oracle_rows
from benchmarks.processes import cpu_seconds, report
from benchmarks.questions import KEYS, Question, columns_read, questions

Rows = list[tuple[Any, ...]]
Ask = Callable[[Question], Rows]
REFERENCE = "DuckDB, Parquet"


@contextmanager
def _published(settings: Settings) -> Iterator[Ask]:
    """DuckDB on the published file, as readers of it have it."""
    with connect(settings, settings.published_path, read_only=True) as con:
        engine = DuckEngine(con, settings)
        create_functions(engine, settings.time_zone)
        create_params(engine, settings.now())
        yield lambda question: con.execute(question.sql()).fetchall()


@contextmanager
def _parquet(settings: Settings) -> Iterator[Ask]:
    """DuckDB on the lake, as the stage `measure` has it."""
    with connect(settings) as con:
        create_views(con, settings, *_tables())
        engine = DuckEngine(con, settings)
        create_functions(engine, settings.time_zone)
        create_params(engine, settings.now())
        yield lambda question: con.execute(question.sql()).fetchall()


@contextmanager
def _scan(settings: Settings) -> Iterator[Ask]:
    """Every value of the columns that a question needs is read by DuckDB from the lake, and nothing is done with it."""
    read = {question.name: columns_read(question) for question in questions()}
    with connect(settings) as con:
        create_views(con, settings, *_tables())

        def ask(question: Question) -> Rows:
            return [_read(con, table, columns) for table, columns in read[question.name].items()]

        yield ask


def _read(con: duckdb.DuckDBPyConnection, table: str, columns: list[str]) -> tuple[Any, ...]:
    """The number of rows and the greatest value of each column, which is little more than unpacking them."""
    reads = (f"sum(len({name}))" if TABLES[table].columns[name].endswith("[]") else f"max({name})" for name in columns)
    ((rows, *_),) = con.execute(f"SELECT count(*), {', '.join(reads)} FROM {table}").fetchall()
    return table, rows


@contextmanager
def _polars(settings: Settings) -> Iterator[Ask]:
    """Polars on the lake, by hand and for some of the questions."""
    os.environ.setdefault("POLARS_TEMP_DIR", str(settings.temp_dir))
    yield lambda question: oracle_rows(settings, question.name)


@contextmanager
def _spark(settings: Settings) -> Iterator[Ask]:
    """Spark on the lake, on the cores of this machine, as the settings `engine: {type: spark}` have it."""
    from analytics.engines.spark import spark_engine

    chosen = settings.engine.model_copy(update={"type": "spark"})
    with spark_engine(settings.model_copy(update={"engine": chosen})) as engine:
        engine.read_lake(*_tables())
        create_params(engine, settings.now())
        yield lambda question: engine.rows(question.sql())


ENGINES: dict[str, Callable[[Settings], Any]] = {
    "bare scan": _scan,
    "DuckDB, file": _published,
    REFERENCE: _parquet,
    "Polars": _polars,
    "Spark": _spark,
}


def asked(engine: str) -> list[Question]:
    """The questions that an engine is asked."""
    return [question for question in questions() if engine != "Polars" or question.name in ANSWERS]


def _tables() -> list[str]:
    return sorted({"calendar", *(table for question in questions() for table in question.tables)})


def main(engine: str, settings: Settings, file: Path, *names: str) -> dict[str, Any]:
    """Ask everything, or what is named, write the answers, and tell what the start and each question took."""
    answers: dict[str, Rows] = {}
    took: dict[str, tuple[float, float]] = {}
    mark = time.perf_counter(), cpu_seconds()

    def lap() -> tuple[float, float]:
        nonlocal mark
        before, mark = mark, (time.perf_counter(), cpu_seconds())
        return mark[0] - before[0], mark[1] - before[1]

    with ENGINES[engine](settings) as ask:
        start = lap()
        for question in asked(engine):
            if names and question.name not in names:
                continue
            answers[question.name] = ask(question)
            took[question.name] = lap()
    width = len(KEYS)
    for rows in answers.values():
        rows.sort(key=lambda row: row[:width])
    file.write_text(json.dumps(answers), encoding="utf-8")
    return {"start": start, "questions": took}


if __name__ == "__main__":
    _settings = load_settings(Path(sys.argv[2]))
    report(lambda: main(sys.argv[1], _settings, Path(sys.argv[3]), *sys.argv[4:]))
