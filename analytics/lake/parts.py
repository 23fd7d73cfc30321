"""Collects rows made in Python and hands them to DuckDB as Parquet parts, so that memory stays bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from analytics.lake.schemas import TABLES

_ROWS_PER_PART = 200_000
POLARS: dict[str, pl.DataType | type[pl.DataType]] = {
    "VARCHAR": pl.String,
    "BIGINT": pl.Int64,
    "DOUBLE": pl.Float64,
    "BOOLEAN": pl.Boolean,
    "DATE": pl.Date,
    "TIMESTAMP": pl.Datetime("us"),
    "VARCHAR[]": pl.List(pl.String),
}


class TableParts:
    """Rows of several tables on their way into the lake; `relation` reads what has been added to one table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._parts: dict[str, int] = {}

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Add one row; columns that it lacks are NULL."""
        rows = self._rows.setdefault(table, [])
        rows.append(row)
        if len(rows) >= _ROWS_PER_PART:
            self._flush(table)

    def add_frame(self, table: str, frame: pl.DataFrame) -> None:
        """Add many rows at once; the frame has every column of the table."""
        number = self._parts.get(table, 0)
        schema = {name: POLARS[kind] for name, kind in TABLES[table].columns.items()}
        frame.select(pl.col(name).cast(kind) for name, kind in schema.items()).write_parquet(
            self._folder / f"{table}-{number:05d}.parquet"
        )
        self._parts[table] = number + 1

    def relation(self, table: str) -> str:
        """SQL that reads every row added to a table so far."""
        if self._rows.get(table) or not self._parts.get(table):
            self._flush(table)
        pattern = str(self._folder / f"{table}-*.parquet").replace("'", "''")
        return f"SELECT * FROM read_parquet('{pattern}')"

    def _flush(self, table: str) -> None:
        number = self._parts.get(table, 0)
        schema = {name: POLARS[kind] for name, kind in TABLES[table].columns.items()}
        frame = pl.DataFrame(self._rows.pop(table, []), schema=schema, orient="row")
        frame.write_parquet(self._folder / f"{table}-{number:05d}.parquet")
        self._parts[table] = number + 1
