"""The queries of this room by name, and small tables of Python's that they join."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import duckdb

from analytics.engines.port import Engine


def sql(name: str) -> str:
    """The text of a query of this room."""
    return resources.files("analytics.delivery").joinpath("sql", name).read_text(encoding="utf-8")


def create_tables(engine: Engine, *names: str) -> None:
    """Evaluate queries of this room, in this order, each as a table under its own name."""
    for name in names:
        engine.create_table(name, sql(f"{name}.sql"))


def insert_rows(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows into a table by whole columns, which is much faster than one by one."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        con.execute(f"INSERT INTO {table} SELECT {', '.join('unnest(?)' for _ in columns)}", columns)
