"""One small table of the lake, written and read as the tests of object stores need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import duckdb

from analytics.engine import connect
from analytics.lake.tables import lake_relation, write_partitions, write_table
from analytics.object_store import ObjectStore, open_store
from analytics.settings import Settings

if TYPE_CHECKING:
    import s3fs


TABLE = "service_incidents"
MakeSettings = Callable[..., Settings]


def calendar(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE calendar (day DATE, quarter VARCHAR, month VARCHAR, iso_week VARCHAR)")
    con.execute("INSERT INTO calendar VALUES ('2026-01-05', '2026-Q1', '', ''), ('2026-04-05', '2026-Q2', '', '')")


def incidents(*days: str, key: str = "i") -> str:
    rows = ", ".join(f"('s', '{key}{number}', CAST('{day}' AS DATE))" for number, day in enumerate(days))
    return f"SELECT * FROM (VALUES {rows}) AS t(service, incident_key, opened_day)"


def write(settings: Settings, *days: str, key: str = "i") -> None:
    with connect(settings) as con:
        calendar(con)
        write_table(con, settings, TABLE, incidents(*days, key=key))


def write_quarter(settings: Settings, quarter: str, day: str, key: str) -> None:
    with connect(settings) as con:
        calendar(con)
        write_partitions(con, settings, TABLE, incidents(day, key=key), [quarter])


def keys(settings: Settings, relation: str | None = None) -> list[str]:
    with connect(settings) as con:
        found = con.execute(f"SELECT incident_key FROM {relation or lake_relation(settings, TABLE)} ORDER BY 1")
        return [key for (key,) in found.fetchall()]


def objects(settings: Settings, s3: s3fs.S3FileSystem) -> set[str]:
    root = str(settings.lake_url).removeprefix("s3://")
    return {path.removeprefix(f"{root}/") for path in s3.find(root)}


def store_of(settings: Settings) -> ObjectStore:
    return open_store(str(settings.lake_url), settings.stored.options)
