"""Parquet feeds: rows as JSON, times in UTC, lists as lists or JSON text, broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.unit.sources.feed_world import Feeds


@pytest.fixture
def feeds(tmp_path: Path) -> Feeds:
    return Feeds(tmp_path / "feeds")


def write(feeds: Feeds, entity: str, query: str) -> list[dict[str, Any]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'America/New_York'")
        con.execute(f"COPY ({query}) TO '{feeds.folder / entity}.parquet' (FORMAT parquet)")
    return feeds.read(entity, f"{entity}.parquet").payloads


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("TIMESTAMPTZ '2026-03-31 23:30:00.25+02'", "2026-03-31T21:30:00.250000Z"),
        ("TIMESTAMP '2026-03-31 23:30:00'", "2026-03-31T23:30:00.000000"),
        ("TIMESTAMP_NS '2026-03-31 23:30:00'", "2026-03-31T23:30:00.000000"),
        ("'2026-03-31T23:30:00+02:00'", "2026-03-31T23:30:00+02:00"),
    ],
)
def test_a_time_with_a_zone_is_utc_and_one_without_stays_naive(feeds: Feeds, value: str, said: str) -> None:
    (row,) = write(feeds, "deployments", f"SELECT {value} AS created_at")
    assert row["created_at"] == said


def test_times_inside_lists_are_converted_too(feeds: Feeds) -> None:
    at = "TIMESTAMPTZ '2026-01-01 00:00:00+01'"
    (row,) = write(feeds, "deployments", f"SELECT [{{'state': 'success', 'at': {at}}}, NULL] AS statuses")
    assert row["statuses"] == [{"state": "success", "at": "2025-12-31T23:00:00.000000Z"}, None]


@pytest.mark.parametrize(
    ("entity", "field", "value", "said"),
    [
        ("deployments", "labels", "['a', 'b']", ["a", "b"]),
        ("deployments", "labels", """'["a"]'""", ["a"]),
        ("deployments", "labels", "'hotfix'", "hotfix"),
        ("attestations", "bundle", """'{"a": [1]}'""", {"a": [1]}),
        ("deployments", "attempt", "2.0::DOUBLE", 2),
        ("deployments", "attempt", "2.5::DOUBLE", 2.5),
        ("deployments", "run_id", "12345678901::DOUBLE", 12345678901),
        ("slo_samples", "error_budget_remaining", "'nan'::DOUBLE", None),
        ("slo_samples", "error_budget_remaining", "0.5::FLOAT", 0.5),
        ("commits", "parents", "NULL::VARCHAR[]", []),
        ("deployments", "labels", "NULL::VARCHAR[]", None),
        ("deployments", "unknown", "{'a': DATE '2026-01-01'}", {"a": "2026-01-01"}),
    ],
)
def test_a_value_takes_the_type_of_its_field(feeds: Feeds, entity: str, field: str, value: str, said: object) -> None:
    (row,) = write(feeds, entity, f"SELECT {value} AS {field}, 'x' AS repository")
    assert row[field] == said
    assert type(row[field]) is type(said)


def test_a_column_may_have_any_name(feeds: Feeds) -> None:
    (row,) = write(feeds, "deployments", """SELECT 1 AS "a ""quoted"" name, '" """)
    assert row == {'a "quoted" name, \'': 1}


def test_rows_are_numbered_in_the_order_of_the_file(feeds: Feeds) -> None:
    write(feeds, "deployments", "SELECT range AS deployment_id FROM range(25000)")
    reading = feeds.read("deployments", "deployments.parquet")
    assert reading.lines == list(range(1, 25001))
    assert [row["deployment_id"] for row in reading.payloads] == list(range(25000))


def test_a_name_that_looks_like_a_pattern_reads_that_file_alone(feeds: Feeds) -> None:
    (feeds.folder / "deployments").mkdir()
    for name in ("[ab]*", "a", "b"):
        with duckdb.connect() as con:
            con.execute(f"COPY (SELECT '{name}' AS sha) TO '{feeds.folder}/deployments/x.parquet' (FORMAT parquet)")
        (feeds.folder / "deployments" / "x.parquet").rename(feeds.folder / "deployments" / f"{name}.parquet")
    assert feeds.read("deployments", "deployments/[ab]*.parquet").payloads == [{"sha": "[ab]*"}]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"{}\n" * 10])
def test_what_is_no_parquet_is_refused(feeds: Feeds, data: bytes) -> None:
    feeds.write("deployments.parquet", data)
    reading = feeds.read("deployments", "deployments.parquet")
    assert (reading.lines, reading.refusals) == ([], [(0, "bad_parquet")])
    assert feeds.read("deployments", "deployments.parquet", reading.cursor).pages == []


def test_a_file_damaged_halfway_gives_what_stands_before(feeds: Feeds) -> None:
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT md5(range::VARCHAR) AS sha FROM range(400000)) TO '{feeds.folder}/deployments.parquet' "
            "(FORMAT parquet, ROW_GROUP_SIZE 100000)"
        )
    path = feeds.folder / "deployments.parquet"
    data = bytearray(path.read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 50_000] = b"\xff" * 50_000
    path.write_bytes(data)
    reading = feeds.read("deployments", "deployments.parquet")
    assert reading.refusals == [(0, "bad_parquet")]
    assert 0 < len(reading.lines) < 400_000
