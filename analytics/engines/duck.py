"""DuckDB as an engine: the connection of the stage itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt

from analytics.engines.port import Engine
from analytics.engines.prelude import create_functions
from analytics.lake.tables import create_views, write_table
from analytics.settings import Settings


class DuckEngine:
    """The port over a connection that somebody else opens and closes."""

    kind: Literal["duckdb"] = "duckdb"

    def __init__(self, con: duckdb.DuckDBPyConnection, settings: Settings, *, shared: bool = False) -> None:
        """`shared`: other sessions see what this one names, which then stands in the database (one in memory)."""
        self.con = con
        self._settings = settings
        self._kept = "" if shared else "TEMP "
        self._place = "main" if shared else "temp"

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows."""
        self.con.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        return self.con.execute(query).fetchall()

    def arrays(self, query: str) -> list[npt.NDArray[Any]]:
        """Every column of a query as arrays."""
        return [_without_mask(column) for column in self.con.execute(query).fetchnumpy().values()]

    def numbers(self, query: str) -> list[npt.NDArray[Any]]:
        """Every column of a query that gives numbers alone: as Arrow they come in half the time of `arrays`."""
        # Not every command that reads a lake waits for it to be imported.
        import polars as pl

        frame = pl.DataFrame(_Stream(self.con.sql(query)))
        return [frame[name].to_numpy(writable=True) for name in frame.columns]

    def columns(self, query: str) -> list[str]:
        """The names of a query's columns."""
        return [str(row[0]) for row in self.con.execute(f"DESCRIBE {query}").fetchall()]

    @contextmanager
    def sessions(self, most: int) -> Iterator[Sequence[Engine]]:
        """Cursors that share DuckDB's threads out among themselves: a query of one thread merges nothing."""
        threads = int(self.con.execute("SELECT current_setting('threads')").fetchall()[0][0])
        count = max(1, min(most, threads))
        with ExitStack() as opened:
            opened.callback(self.con.execute, f"SET threads = {threads}")
            self.con.execute(f"SET threads = {threads // count}")
            made: list[Engine] = []
            for _ in range(count):
                session = DuckEngine(opened.enter_context(closing(self.con.cursor())), self._settings)
                session.con.execute("SET TimeZone = 'UTC'")
                if self._kept:
                    create_functions(session, self._settings.time_zone)
                made.append(session)
            yield made

    def create_view(self, name: str, query: str) -> None:
        """Name a query."""
        self._create("VIEW", name, f"AS {query}")

    def create_shared(self, name: str, query: str) -> None:
        """Name a query: reading Parquet again is cheap, and ten million rows are better not kept."""
        self.create_view(name, query)

    def create_table(self, name: str, query: str) -> None:
        """Evaluate a query now and keep its rows."""
        self._create("TABLE", name, f"AS {query}")

    def create_values(self, name: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
        """A small table of Python's rows, inserted by whole columns, which is much faster than one by one."""
        declared = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        self._create("TABLE", name, f"({declared})")
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
        create_views(self.con, self._settings, *names, shared=self._place == "main")

    def write_lake(self, name: str, query: str) -> int:
        """Write a query's rows as a lake table."""
        return write_table(self.con, self._settings, name, query)

    def _create(self, kind: Literal["VIEW", "TABLE"], name: str, what: str) -> None:
        statement = f"CREATE OR REPLACE {self._kept}{kind} {name} {what}"
        try:
            self.con.execute(statement)
        except duckdb.CatalogException:
            # DuckDB refuses to replace a view by a table, and the reverse.
            self._forget(name, "TABLE" if kind == "VIEW" else "VIEW")
            self.con.execute(statement)

    def _forget(self, name: str, kind: Literal["VIEW", "TABLE"]) -> None:
        # DuckDB refuses to drop a view as a table, and the reverse.
        catalog = "duckdb_views()" if kind == "VIEW" else "duckdb_tables()"
        database = "'temp'" if self._place == "temp" else "current_database()"
        column = "view_name" if kind == "VIEW" else "table_name"
        # Another database may be attached.
        asked = f"SELECT 1 FROM {catalog} WHERE database_name = {database} AND NOT internal AND {column} = ?"
        if self.con.execute(asked, [name]).fetchone():
            self.con.execute(f"DROP {kind} IF EXISTS {self._place}.{name}")


class _Stream:
    """Rows as Arrow; Polars notes every type that it is given, and DuckDB complains of its own being known at exit."""

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self._relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._relation.__arrow_c_stream__(requested_schema)


def _without_mask(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A column in which None stands for what DuckDB masks, which only texts may have."""
    if not isinstance(column, np.ma.MaskedArray):
        return column
    texts: npt.NDArray[Any] = np.array(column.data, dtype=object)
    texts[np.ma.getmaskarray(column)] = None
    return texts
