"""What DuckDB reads out of a payload is what the judge saw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.landing.judge import judge_for
from analytics.landing.payloads import reading_query, rewritten
from analytics.sources.entities import ENTITIES
from tests.unit.sources.feed_world import deployment

EARLIEST, LATEST = datetime(1970, 1, 3), datetime(9998, 1, 1)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        # Any zone but UTC, so that a time that depends on it is noticed.
        connection.execute("SET TimeZone = 'America/New_York'")
        yield connection


def read(con: duckdb.DuckDBPyConnection, entity: str, payload: str) -> dict[str, Any]:
    query = reading_query(entity, "(SELECT 1 AS line, ? AS payload)")
    found = con.execute(query, [payload])
    names = [column[0] for column in found.description or ()]
    ((*row,),) = found.fetchall()
    return dict(zip(names, row, strict=True))


@st.composite
def moments(draw: st.DrawFn) -> tuple[datetime, str]:
    """A moment and one of the ways RFC 3339 writes it."""
    minutes = draw(st.integers(-14 * 60, 14 * 60))
    local = draw(st.datetimes(EARLIEST, LATEST)).replace(tzinfo=timezone(timedelta(minutes=minutes)))
    digits = draw(st.integers(0, 6))
    local = local.replace(microsecond=local.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
    fraction = f".{local.microsecond:06d}"[: digits + 1] if digits else ""
    colon = draw(st.sampled_from(["", ":"]))
    sign = "-" if minutes < 0 or (minutes == 0 and draw(st.booleans())) else "+"
    offset = f"{sign}{abs(minutes) // 60:02d}{colon}{abs(minutes) % 60:02d}"
    if minutes == 0 and draw(st.booleans()):
        offset = draw(st.sampled_from("Zz"))
    letter = draw(st.sampled_from("Tt "))
    return local.astimezone(UTC), f"{local:%Y-%m-%d}{letter}{local:%H:%M:%S}{fraction}{offset}"


@given(moments())
def test_every_way_to_write_a_time_is_read_as_its_moment(
    con: duckdb.DuckDBPyConnection, drawn: tuple[datetime, str]
) -> None:
    moment, text = drawn
    payload = json.dumps(deployment(1, created_at=text, updated_at=text))
    assert judge_for("deployments")(payload.encode()) is None
    row = read(con, "deployments", payload)
    if not row["is_read"]:
        row = read(con, "deployments", rewritten("deployments", payload))
    assert row["is_read"]
    assert row["occurred_at"] == row["updated_at"] == moment.replace(tzinfo=None)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.booleans())
def test_every_text_is_a_key_of_its_own(
    con: duckdb.DuckDBPyConnection, repository: str, sha: str, ascii_only: bool
) -> None:
    record = {"repository": repository, "sha": sha} | dict.fromkeys(
        ("authored_at", "committed_at"), "2026-01-01T00:00:00Z"
    )
    try:
        payload = json.dumps(record, ensure_ascii=ascii_only).encode().decode()
    except UnicodeEncodeError:
        return
    if judge_for("commits")(payload.encode()) is None:
        assert json.loads(read(con, "commits", payload)["key"]) == [repository, sha]


@pytest.mark.parametrize("entity", sorted(ENTITIES))
def test_every_entity_can_be_read(con: duckdb.DuckDBPyConnection, entity: str) -> None:
    row = read(con, entity, "{}")
    assert list(row) == ["line", "payload", "key", "updated_at", "occurred_at", "is_read"]


def test_broken_json_is_not_read_and_breaks_nothing(con: duckdb.DuckDBPyConnection) -> None:
    assert read(con, "deployments", '{"deployment_id": ')["is_read"] is False


def test_a_time_that_duckdb_cannot_read_is_said_to_be_unread(con: duckdb.DuckDBPyConnection) -> None:
    small = "2026-01-01t00:00:00z"
    assert read(con, "deployments", json.dumps(deployment(1, created_at=small)))["is_read"] is False
    assert read(con, "deployments", json.dumps(deployment(1, finished_at=small)))["is_read"] is False
    statuses = [{"state": "a", "at": "2026-01-01T00:00:00Z"}, {"state": "b", "at": small}]
    assert read(con, "deployments", json.dumps(deployment(1, statuses=statuses)))["is_read"] is False
    assert read(con, "deployments", json.dumps(deployment(1, statuses=statuses[:1])))["is_read"] is True
