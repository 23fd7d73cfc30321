"""DuckDB as an engine: the connection of the stage itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt

from analytics.lake.tables import create_views, write_table
from analytics.settings import Settings


class DuckEngine:
    """The port over a connection that somebody else opens and closes."""

    kind: Literal["duckdb"] = "duckdb"

    def __init__(self, con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
        self.con = con
        self._settings = settings

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows."""
        self.con.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        return self.con.execute(query).fetchall()

    def arrays(self, query: str) -> list[npt.NDArray[Any]]:
        """Every column of a query as arrays."""
        return [_without_mask(column) for column in self.con.execute(query).fetchnumpy().values()]

    def columns(self, query: str) -> list[str]:
        """The names of a query's columns."""
        return [str(row[0]) for row in self.con.execute(f"DESCRIBE {query}").fetchall()]

    def create_view(self, name: str, query: str) -> None:
        """Name a query."""
        self._forget(name, "TABLE")
        self.con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")

    def create_shared(self, name: str, query: str) -> None:
        """Name a query: reading Parquet again is cheap, and ten million rows are better not kept."""
        self.create_view(name, query)

    def create_table(self, name: str, query: str) -> None:
        """Evaluate a query now and keep its rows."""
        self._forget(name, "VIEW")
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    def create_values(self, name: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
        """A small table of Python's rows, inserted by whole columns, which is much faster than one by one."""
        self._forget(name, "VIEW")
        declared = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({declared})")
        if rows:
            values = [list(column) for column in zip(*rows, strict=True)]
            # Typed, because a column may be empty throughout.
            reads = ", ".join(f"unnest(CAST(? AS {kind}[]))" for kind in columns.values())
            self.con.execute(f"INSERT INTO {name} SELECT {reads}", values)

    def create_unnested(self, name: str, table: str, keep: Sequence[str], column: str, as_name: str) -> None:
        """Name a view with one row per element of a list column."""
        kept = ", ".join(keep)
        self.create_view(name, f"SELECT {kept}, unnest({column}) AS {as_name} FROM {table}")

    def drop(self, name: str) -> None:
        """Forget a view or table."""
        self._forget(name, "VIEW")
        self._forget(name, "TABLE")

    def read_lake(self, *names: str) -> None:
        """Make lake tables readable under their names."""
        for name in names:
            self._forget(name, "TABLE")
        create_views(self.con, self._settings, *names)

    def write_lake(self, name: str, query: str) -> int:
        """Write a query's rows as a lake table."""
        return write_table(self.con, self._settings, name, query)

    def _forget(self, name: str, kind: Literal["VIEW", "TABLE"]) -> None:
        # DuckDB refuses to replace a view by a table, and to drop one as the other.
        catalog = "duckdb_views()" if kind == "VIEW" else "duckdb_tables()"
        column = "view_name" if kind == "VIEW" else "table_name"
        if self.con.execute(f"SELECT 1 FROM {catalog} WHERE temporary AND {column} = ?", [name]).fetchone():
            self.con.execute(f"DROP {kind} IF EXISTS temp.{name}")


def _without_mask(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A column in which None stands for what DuckDB masks, which only texts may have."""
    if not isinstance(column, np.ma.MaskedArray):
        return column
    texts: npt.NDArray[Any] = np.array(column.data, dtype=object)
    texts[np.ma.getmaskarray(column)] = None
    return texts
