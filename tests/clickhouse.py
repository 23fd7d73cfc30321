"""ClickHouse as a third engine, so that the queries are not merely what two engines happen to share.

It runs inside a process of its own (chdb is a whole server as a library, and takes over signals and threads): the class
here speaks the engine port, `python -m tests.clickhouse` answers it over pipes. Written tables stay in its memory.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from analytics.lake.schemas import TABLES
from analytics.settings import Settings

# What DuckDB and Spark do unasked.
SESSION = (
    "SET join_use_nulls = 1",
    "SET cast_keep_nullable = 1",
    # An alias is no column of the same SELECT.
    "SET prefer_column_name_to_alias = 1",
    "SET session_timezone = 'UTC'",
    "SET use_hive_partitioning = 0",
    "SET max_threads = 2",
    "SET output_format_json_quote_64bit_integers = 0",
    "SET output_format_json_quote_denormals = 1",
)
FUNCTIONS = (
    "CREATE FUNCTION local_day AS (moment) -> toDate32(toTimeZone(moment, '{zone}'))",
    "CREATE FUNCTION us_between AS (starts, ends) -> toUnixTimestamp64Micro(ends) - toUnixTimestamp64Micro(starts)",
    "CREATE FUNCTION joined_words AS (words) -> arrayStringConcat(arraySort(words), ', ')",
    "CREATE FUNCTION text_number AS (words) -> toInt64(bitShiftRight(sipHash64(words), 1))",
)
_SIMPLE = {
    "VARCHAR": "String",
    "JSON": "String",
    "BIGINT": "Int64",
    "DOUBLE": "Float64",
    "BOOLEAN": "Bool",
    "DATE": "Date32",
    "TIMESTAMP": "DateTime64(6)",
}


class ClickHouse:
    """The engine port over chdb; a context manager, because a process waits at the other end."""

    kind = "clickhouse"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.clickhouse"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[1],
            text=True,
        )
        for statement in SESSION:
            self.execute(statement)

    def __enter__(self) -> ClickHouse:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows."""
        self._ask(statement, "Null")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Every row of a query, as Python's values."""
        answer = self._ask(query, "JSONCompact")
        kinds = [column["type"] for column in answer["meta"]]
        return [tuple(_value(value, kind) for value, kind in zip(row, kinds, strict=True)) for row in answer["data"]]

    def columns(self, query: str) -> list[str]:
        """The names of a query's columns."""
        return [row[0] for row in self.rows(f"DESCRIBE ({query})")]

    def create_view(self, name: str, query: str) -> None:
        """Name a query."""
        self.drop(name)
        self.execute(f"CREATE VIEW {name} AS {query}")

    def create_shared(self, name: str, query: str) -> None:
        """Keep a query's rows, as several queries read them."""
        self.create_table(name, query)

    def create_table(self, name: str, query: str) -> None:
        """Evaluate a query now and keep its rows."""
        self.drop(name)
        self.execute(f"CREATE TABLE {name} ENGINE = Memory AS {query}")

    def create_values(self, name: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
        """A small table of Python's rows."""
        self.drop(name)
        declared = ", ".join(f"{column} {clickhouse_type(kind)}" for column, kind in columns.items())
        self.execute(f"CREATE TABLE {name} ({declared}) ENGINE = Memory")
        if rows:
            lines = "\n".join(json.dumps(row, default=str) for row in rows)
            self.execute(f"INSERT INTO {name} FORMAT JSONCompactEachRow {lines}")

    def create_unnested(self, name: str, table: str, keep: Sequence[str], column: str, as_name: str) -> None:
        """Name a view with one row per element of a list column."""
        self.create_view(name, f"SELECT {', '.join(keep)}, arrayJoin({column}) AS {as_name} FROM {table}")

    def drop(self, name: str) -> None:
        """Forget a view or table."""
        self.execute(f"DROP TABLE IF EXISTS {name}")

    def read_lake(self, *names: str) -> None:
        """Make lake tables readable under their names, except those that were written here."""
        for name in names:
            if self.rows(f"EXISTS TABLE written_{name}") == [(1,)]:
                self.create_view(name, f"SELECT * FROM written_{name}")
                continue
            structure = ", ".join(
                f"`{column}` {clickhouse_type(kind)}" for column, kind in TABLES[name].columns.items()
            )
            pattern = self._settings.lake_dir / name / "quarter=*" / "*.parquet"
            if any(pattern.parent.parent.glob("quarter=*/*.parquet")):
                self.create_view(name, f"SELECT * FROM file('{pattern}', Parquet, '{structure}')")
            else:
                self.drop(name)
                self.execute(f"CREATE TABLE {name} ({structure}) ENGINE = Memory")

    def write_lake(self, name: str, query: str) -> int:
        """Keep a query's rows as `written_…`, with the columns that the lake's table has."""
        given = set(self.columns(query))
        columns = ", ".join(
            f"CAST({column if column in given else 'NULL'} AS {clickhouse_type(kind)}) AS {column}"
            for column, kind in TABLES[name].columns.items()
        )
        self.create_table(f"written_{name}", f"SELECT {columns} FROM ({query}) AS rows_of_it")
        return int(self.rows(f"SELECT count(*) AS n FROM written_{name}")[0][0])

    def _ask(self, query: str, form: str) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([query, form]) + "\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        assert line, "ClickHouse ended without an answer"
        answer, error = json.loads(line)
        if error is not None:
            raise AssertionError(f"ClickHouse: {error}\n{query[:3000]}")
        return json.loads(answer) if answer else None


def clickhouse_type(kind: str) -> str:
    """The type of a lake's column (its DuckDB name) in ClickHouse, where lists and structs cannot be NULL."""
    if kind.endswith("[]"):
        return f"Array({clickhouse_type(kind[:-2])})"
    if kind.startswith("STRUCT("):
        parts = (part.strip().rsplit(" ", 1) for part in kind.removeprefix("STRUCT(").removesuffix(")").split(","))
        return f"Tuple({', '.join(f'`{name.strip(chr(34))}` {clickhouse_type(inner)}' for name, inner in parts)})"
    return f"Nullable({_SIMPLE[kind]})"


def _value(value: Any, kind: str) -> Any:
    kind = kind.removeprefix("Nullable(")
    if value is None:
        return None
    if kind.startswith("DateTime"):
        return datetime.fromisoformat(value)
    if kind.startswith("Date"):
        return date.fromisoformat(value)
    if kind.startswith("Float") and isinstance(value, str):
        return math.nan if "nan" in value else math.copysign(math.inf, -1 if value.startswith("-") else 1)
    return value


def serve(asked: IO[str], answers: IO[str]) -> None:
    """Answer one query per line until there is no more."""
    from chdb.session import Session

    session = Session()
    for line in asked:
        query, form = json.loads(line)
        try:
            answer: tuple[str | None, str | None] = (str(session.query(query, form)), None)
        except Exception as error:
            answer = (None, str(error))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    session.close()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
