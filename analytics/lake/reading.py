"""Reading tables without the turn, while a stage may be replacing their files: as they all were at one moment.

Questions and checks wait for no stage. A stage in its turn needs none of this: nobody but it writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import duckdb

from analytics.engine import connect
from analytics.errors import LakeError
from analytics.lake.places import lake_of
from analytics.lake.tables import create_views
from analytics.lake.turns import holder, turn_path
from analytics.settings import Settings

T = TypeVar("T")
# Putting files in their places takes milliseconds; a stage that writes table upon table is outlasted too.
_WAIT_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


def read_tables(settings: Settings, names: Sequence[str], read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """What a function reads on a connection with views of some tables; it is called again where they were written.

    Raises what `read` raises, and LakeError for a damaged file and where the tables are written again and again.
    """
    lake = lake_of(settings)
    for wait_seconds in (0.0, *_WAIT_SECONDS):
        time.sleep(wait_seconds)
        before = [lake.state(name) for name in names]
        try:
            with connect(settings) as con:
                create_views(con, settings, *names)
                found = read(con)
        except (duckdb.Error, LakeError):
            # Of a file that went away, or of a table of which only a part was there.
            if before == [lake.state(name) for name in names]:
                raise
        else:
            if before == [lake.state(name) for name in names]:
                return found
    raise LakeError(
        f"is being written by {holder(turn_path(settings))} all the while that it is read",
        where=lake.place(),
        fix="Let it finish, then try again.",
    )
