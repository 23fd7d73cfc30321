"""What a stage asks of an engine, so that one text of SQL serves all of them.

The texts are in the portable subset (docs/architecture.md): they run verbatim on every engine once its prelude
(`analytics.engines.prelude`) has made the few functions and tables that engines do not share. Source: spec
architecture.md section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import numpy.typing as npt

Kind = Literal["duckdb", "spark"]


class Engine(Protocol):
    """One session of an engine; names are our own, and nothing in it outlives the session but what is in the lake."""

    @property
    def kind(self) -> Kind:
        """Which engine it is: for preludes and messages, never for a metric's meaning."""

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows, in this engine's own words; preludes alone need it."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Every row of a query: whole numbers, floats, text, dates, naive UTC times, lists of these."""

    def arrays(self, query: str) -> list[npt.NDArray[Any]]:
        """Every column of a query as arrays, for more rows than Python should touch: texts, or numbers without NULL."""

    def numbers(self, query: str) -> list[npt.NDArray[Any]]:
        """Every column of a query that gives numbers alone, none of them NULL, of which there may be millions."""

    def columns(self, query: str) -> list[str]:
        """The names of a query's columns."""

    def sessions(self, most: int) -> AbstractContextManager[Sequence[Engine]]:
        """At most so many sessions, each for one thread at a time, over everything that this one has named so far.

        What they name is their own. It is this session alone where an engine shares its work out by itself.
        """

    def create_view(self, name: str, query: str) -> None:
        """Name a query; it is evaluated whenever it is read. Replaces an earlier view or table of that name."""

    def create_shared(self, name: str, query: str) -> None:
        """Name a query that several others read; an engine keeps its rows where reading it again would cost more."""

    def create_table(self, name: str, query: str) -> None:
        """Evaluate a query now and keep its rows under a name. Replaces an earlier view or table of that name."""

    def create_values(self, name: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
        """A small table of Python's rows; the types of its columns by their DuckDB names."""

    def create_unnested(self, name: str, table: str, keep: Sequence[str], column: str, as_name: str) -> None:
        """Name a view with the kept columns and one row per element of a list column; an empty list has none."""

    def drop(self, name: str) -> None:
        """Forget a view or table, if there is one of that name."""

    def read_lake(self, *names: str) -> None:
        """Make lake tables readable under their names."""

    def write_lake(self, name: str, query: str) -> int:
        """Write a query's rows as a lake table, for which a dated one needs `calendar`; returns how many there are."""
