"""A lake in an object store: written whole, read by manifests, and nothing half-written or hostile is read."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pytest

from analytics.engine import connect
from analytics.lake.tables import lake_relation, write_partitions, write_table
from analytics.settings import Settings

MakeSettings = Callable[..., Settings]


def calendar(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE calendar (day DATE, quarter VARCHAR, month VARCHAR, iso_week VARCHAR)")
    con.execute("INSERT INTO calendar VALUES ('2026-01-05', '2026-Q1', '', ''), ('2026-04-05', '2026-Q2', '', '')")


def incidents(*days: str, key: str = "i") -> str:
    rows = ", ".join(f"('s', '{key}{number}', CAST('{day}' AS DATE))" for number, day in enumerate(days))
    return f"SELECT * FROM (VALUES {rows}) AS t(service, incident_key, opened_day)"


def keys(con: duckdb.DuckDBPyConnection, settings: Settings) -> list[str]:
    found = con.execute(f"SELECT incident_key FROM {lake_relation(settings, 'service_incidents')} ORDER BY 1")
    return [key for (key,) in found.fetchall()]


@pytest.mark.parametrize("prefix", ["lake", "odd name é/%20 it's+&", "a/b/c"])
def test_a_table_is_read_as_it_was_written(s3_settings: MakeSettings, prefix: str) -> None:
    settings = s3_settings(prefix)
    with connect(settings) as con:
        calendar(con)
        assert keys(con, settings) == []
        assert write_table(con, settings, "service_incidents", incidents("2026-01-05", "2026-04-05", "1971-01-01")) == 3
        assert keys(con, settings) == ["i0", "i1", "i2"]
        assert write_partitions(con, settings, "service_incidents", incidents("2026-04-05", key="n"), ["2026-Q2"]) == 1
        assert keys(con, settings) == ["i0", "i2", "n0"]
        assert write_table(con, settings, "service_incidents", incidents("2026-01-05", key="w")) == 1
        assert keys(con, settings) == ["w0"]
