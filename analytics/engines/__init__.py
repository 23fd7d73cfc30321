"""Engines that run the portable SQL over the lake: DuckDB on one machine, Apache Spark on many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.settings import Settings

__all__ = ["Engine", "open_engine"]


@contextmanager
def open_engine(settings: Settings, con: duckdb.DuckDBPyConnection, *, shared: bool = False) -> Iterator[Engine]:
    """The engine that the settings name: the given DuckDB connection itself, or a Spark session for the block.

    `shared`: its other sessions see what it names. What is small stays on the connection whatever the engine. Raises
    EngineError where Spark is wanted and missing.
    """
    if settings.engine.type == "duckdb":
        yield DuckEngine(con, settings, shared=shared)
        return
    # Whoever needs no Spark does not wait for its libraries, and need not have them.
    from analytics.engines.spark import spark_engine

    with spark_engine(settings) as engine:
        yield engine
