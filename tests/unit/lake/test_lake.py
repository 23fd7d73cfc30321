"""Lake tables: written whole, replaced whole, and times read with their offset."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.engine import connect
from analytics.errors import LakeError
from analytics.lake.tables import lake_relation, scratch, write_partitions, write_table
from analytics.lake.typed import typed_query
from analytics.settings import Settings, load_settings
from analytics.sources.entities import ENTITIES


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("organization: A\n", encoding="utf-8")
    return load_settings(path)


def calendar(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE calendar (day DATE, quarter VARCHAR, month VARCHAR, iso_week VARCHAR)")
    con.execute("INSERT INTO calendar VALUES ('2026-01-05', '2026-Q1', '', ''), ('2026-04-05', '2026-Q2', '', '')")


def incidents(*days: str) -> str:
    rows = ", ".join(f"('s', 'i{number}', CAST('{day}' AS DATE))" for number, day in enumerate(days))
    return f"SELECT * FROM (VALUES {rows}) AS t(service, incident_key, opened_day)"


def test_a_table_that_was_never_written_is_empty_and_has_its_columns(settings: Settings) -> None:
    with connect(settings) as con:
        rows = con.sql(f"SELECT * FROM {lake_relation(settings, 'service_incidents')}")
        assert "restore_us" in rows.columns
        assert rows.fetchall() == []


def test_writing_again_replaces_every_partition_and_drops_the_ones_that_are_gone(settings: Settings) -> None:
    folder = settings.lake_dir / "service_incidents"
    with connect(settings) as con:
        calendar(con)
        assert write_table(con, settings, "service_incidents", incidents("2026-01-05", "2026-04-05")) == 2
        assert {path.name for path in folder.iterdir()} == {"quarter=2026-Q1", "quarter=2026-Q2"}
        assert write_table(con, settings, "service_incidents", incidents("2026-04-05")) == 1
    assert {path.name for path in folder.iterdir()} == {"quarter=2026-Q2"}


def keys(con: duckdb.DuckDBPyConnection, settings: Settings) -> list[tuple[str, str]]:
    query = f"SELECT incident_key, CAST(opened_day AS VARCHAR) FROM {lake_relation(settings, 'service_incidents')}"
    return sorted(con.execute(query).fetchall())


def test_writing_one_quarter_leaves_the_others_as_they_are(settings: Settings) -> None:
    folder = settings.lake_dir / "service_incidents"
    with connect(settings) as con:
        calendar(con)
        write_table(con, settings, "service_incidents", incidents("2026-01-05", "2026-04-05", "1971-01-01"))
        others = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.parquet") if "Q2" not in str(path)}
        query = "SELECT 's' AS service, 'new' AS incident_key, DATE '2026-04-05' AS opened_day"
        assert write_partitions(con, settings, "service_incidents", query, ["2026-Q2"]) == 1
        assert keys(con, settings) == [("i0", "2026-01-05"), ("i2", "1971-01-01"), ("new", "2026-04-05")]
        assert {path: path.stat().st_mtime_ns for path in others} == others
        assert write_partitions(con, settings, "service_incidents", f"{query} LIMIT 0", ["2026-Q2", "undated"]) == 0
        assert keys(con, settings) == [("i0", "2026-01-05")]
    assert {path.name for path in folder.iterdir()} == {"quarter=2026-Q1"}


def test_a_row_of_another_quarter_is_refused_and_nothing_changes(settings: Settings) -> None:
    with connect(settings) as con:
        calendar(con)
        write_table(con, settings, "service_incidents", incidents("2026-01-05"))
        with pytest.raises(ValueError, match=r"rows of \['2026-Q2'\] are not of \['2026-Q1'\]"):
            write_partitions(con, settings, "service_incidents", incidents("2026-01-05", "2026-04-05"), ["2026-Q1"])
        assert keys(con, settings) == [("i0", "2026-01-05")]


def test_a_column_that_an_earlier_version_did_not_write_is_null(settings: Settings) -> None:
    with connect(settings) as con:
        calendar(con)
        write_table(con, settings, "service_incidents", incidents("2026-01-05", "2026-04-05"))
        first, second = sorted((settings.lake_dir / "service_incidents").glob("*/*.parquet"))
        for files in ([second], [first, second]):
            for file in files:
                pl.read_parquet(file).drop("url", strict=False).write_parquet(file)
            rows = con.sql(f"SELECT incident_key, url FROM {lake_relation(settings, 'service_incidents')}").fetchall()
            assert sorted(rows) == [("i0", None), ("i1", None)]


def test_a_damaged_file_is_named(settings: Settings) -> None:
    with connect(settings) as con:
        calendar(con)
        write_table(con, settings, "service_incidents", incidents("2026-01-05"))
    [file] = (settings.lake_dir / "service_incidents").glob("*/*.parquet")
    file.write_bytes(b"PAR1" + b"\0" * 100)
    with pytest.raises(LakeError, match="a file is damaged") as caught:
        lake_relation(settings, "service_incidents")
    assert caught.value.where == str(file)


def test_rows_outside_the_calendar_are_kept_as_undated(settings: Settings) -> None:
    with connect(settings) as con:
        calendar(con)
        assert write_table(con, settings, "service_incidents", incidents("1971-01-01")) == 1
    assert (settings.lake_dir / "service_incidents" / "quarter=undated").is_dir()


def test_nothing_half_written_stays_when_writing_fails(settings: Settings) -> None:
    with connect(settings) as con:
        calendar(con)
        write_table(con, settings, "service_incidents", incidents("2026-01-05"))
        with pytest.raises(duckdb.Error):
            write_table(con, settings, "service_incidents", "SELECT 's' AS service, CAST('x' AS DATE) AS opened_day")
        assert con.sql(f"SELECT count(*) FROM {lake_relation(settings, 'service_incidents')}").fetchall() == [(1,)]
    assert [path.name for path in settings.temp_dir.iterdir() if path.name.startswith("write-")] == []


def test_what_a_killed_write_left_is_removed_a_day_later(settings: Settings) -> None:
    old, new = (settings.temp_dir / f"write-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))
    with scratch(settings):
        assert not old.exists()
        assert new.exists()


moments = st.datetimes(
    datetime.fromisoformat("1970-01-03"), datetime.fromisoformat("2200-01-01"), timezones=st.timezones()
)


@examples(max_examples=60)
@given(moments, st.sampled_from(["T", "t", " "]))
def test_every_time_is_read_with_its_offset(moment: datetime, separator: str) -> None:
    offset = moment.utcoffset()
    assert offset is not None
    # RFC 3339 has offsets of whole minutes only.
    assume(offset.total_seconds() % 60 == 0)
    text = moment.replace(tzinfo=None).isoformat(sep=separator) + moment.isoformat()[-6:]
    payload = (
        f'{{"deployment_id": 1, "repository": "a", "environment": "p", "sha": "x", "created_at": "{text}", '
        f'"statuses": [{{"state": "success", "at": "{text}"}}]}}'
    )
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("CREATE TABLE w AS SELECT 's' AS source, 'f' AS origin, 1 AS line, ? AS payload", [payload])
        query = typed_query(ENTITIES["deployments"], "w")
        row = con.execute(f'SELECT created_at, statuses[1]."at", deployment_id FROM ({query})').fetchone()
    expected = moment.astimezone(UTC).replace(tzinfo=None)
    assert row == (expected, expected, "1")


@pytest.mark.parametrize("entity", sorted(ENTITIES))
def test_every_entity_has_a_typed_query_that_runs(entity: str) -> None:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("CREATE TABLE w AS SELECT 's' AS source, 'f' AS origin, 1 AS line, '{}' AS payload")
        names = con.sql(typed_query(ENTITIES[entity], "w")).columns
    assert names[-3:] == ["source", "origin", "line"]
