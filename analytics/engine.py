"""DuckDB connections with the limits of the settings: memory, spill and threads are never left to chance."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from analytics.object_store import open_store
from analytics.settings import Settings


def _spill_dir(settings: Settings) -> Path:
    """Where this process spills: DuckDB empties the folder when it closes, whoever else spills there."""
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:64]
    return settings.temp_dir / f"spill-{host}-{os.getpid()}"


@contextmanager
def connect(
    settings: Settings, database: Path | None = None, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database (in memory when none is named), limited, in UTC, closed in any case.

    One in memory reads a lake in an object store under `s3://lake/`. Raises LakeError where it cannot be opened.
    """
    settings.temp_dir.mkdir(parents=True, exist_ok=True)
    engine = settings.engine
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": engine.memory_limit,
        "max_temp_directory_size": engine.max_temp_directory_size,
        "temp_directory": str(_spill_dir(settings)),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if engine.threads is not None:
        config["threads"] = engine.threads
    con = duckdb.connect(str(database) if database else ":memory:", read_only=read_only, config=config)
    try:
        con.execute("SET TimeZone = 'UTC'")
        if settings.lake_url is not None and database is None:
            # Only stages and a few questions read the lake; a client of an object store takes a while to load.
            from analytics.lake_files import LakeFiles

            con.register_filesystem(LakeFiles(open_store(settings.lake_url, settings.stored.options)))
        yield con
    finally:
        con.close()
