"""Rows taken out of a table and put into it: files that lose no row stay, wherever the lake is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.engine import connect
from analytics.lake.places import lake_of
from analytics.lake.schemas import TABLES
from analytics.lake.tables import added_files, files_relation, lake_relation, table_digests, write_table
from analytics.lake.updating import MOST_FILES, replace_rows
from analytics.settings import Settings, load_settings

TABLE = "service_incidents"
# Two days of the first quarter that have long settled, and one in the last two weeks before the cut-off.
OLD, OLDER, NEW = "2026-03-02", "2026-01-05", "2026-03-28"


@pytest.fixture(scope="module", params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("updating")
    storage = "" if request.param == "folder" else f"storage: memory://{folder.name}\n"
    path = folder / "quarterdeck.yaml"
    path.write_text(f"organization: A\nnow: '2026-03-31T00:00:00Z'\n{storage}", encoding="utf-8")
    return load_settings(path)


@pytest.fixture(scope="module")
def con(place: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(place) as con:
        con.execute(
            "CREATE TABLE calendar AS SELECT CAST(day AS DATE) AS day, year(day) || '-Q' || quarter(day) AS quarter "
            "FROM range(TIMESTAMP '2026-01-01', TIMESTAMP '2026-07-01', INTERVAL 1 DAY) AS days(day)"
        )
        yield con


def incidents(*rows: tuple[str, str]) -> str:
    """A query of incidents, each a key and a day."""
    values = ", ".join(f"('{key}', CAST('{day}' AS DATE))" for key, day in rows or [("none", OLD)])
    others = ", ".join(
        f"NULL AS {name}" for name in TABLES[TABLE].columns if name not in ("incident_key", "opened_day")
    )
    wanted = "true" if rows else "false"
    return f"SELECT *, {others} FROM (VALUES {values}) AS t(incident_key, opened_day) WHERE {wanted}"


def held(con: duckdb.DuckDBPyConnection, place: Settings) -> Counter[tuple[Any, ...]]:
    query = f"SELECT incident_key, CAST(opened_day AS VARCHAR) FROM {lake_relation(place, TABLE)}"
    return Counter(con.execute(query).fetchall())


def files(place: Settings) -> dict[str, int]:
    """A table's files with the moment at which each was written, or its name where that says it."""
    paths = [file.path for file in lake_of(place).files(TABLE)]
    return {path: Path(path).stat().st_mtime_ns if Path(path).exists() else 0 for path in paths}


def test_what_comes_has_a_file_of_its_own_and_none_is_written_again(
    con: duckdb.DuckDBPyConnection, place: Settings
) -> None:
    write_table(con, place, TABLE, incidents(("a", OLDER), ("b", OLD)))
    before = files(place)
    assert replace_rows(con, place, TABLE, leaving=None, coming=incidents(("c", OLD))) == {"2026-Q1"}
    assert held(con, place) == Counter([("a", OLDER), ("b", OLD), ("c", OLD)])
    assert before.items() < files(place).items()
    assert len(files(place)) == len(before) + 1


def test_the_last_days_have_a_file_of_their_own_which_alone_is_written_again(
    con: duckdb.DuckDBPyConnection, place: Settings
) -> None:
    write_table(con, place, TABLE, incidents(("a", OLD), ("b", NEW), ("c", NEW)))
    before = files(place)
    assert len(before) == 2
    leaving = "kept.incident_key IN ('a', 'c')"
    assert replace_rows(con, place, TABLE, leaving=leaving, coming=incidents(("a", OLD), ("d", NEW))) == {"2026-Q1"}
    assert held(con, place) == Counter([("a", OLD), ("b", NEW), ("d", NEW)])
    assert len(before.items() & files(place).items()) == 1
    assert len(files(place)) == 2


def test_what_leaves_and_comes_again_writes_nothing(con: duckdb.DuckDBPyConnection, place: Settings) -> None:
    write_table(con, place, TABLE, incidents(("a", OLD), ("b", OLD)))
    before = files(place)
    assert replace_rows(con, place, TABLE, leaving="true", coming=incidents(("b", OLD), ("a", OLD))) == set()
    assert files(place) == before


def test_a_quarter_that_loses_all_rows_is_gone(con: duckdb.DuckDBPyConnection, place: Settings) -> None:
    write_table(con, place, TABLE, incidents(("a", OLD), ("b", "2026-04-05")))
    assert replace_rows(con, place, TABLE, leaving="kept.incident_key = 'a'", coming=incidents()) == {"2026-Q1"}
    assert lake_of(place).quarters(TABLE) == ["2026-Q2"]


def test_a_quarter_of_many_files_is_put_together(con: duckdb.DuckDBPyConnection, place: Settings) -> None:
    write_table(con, place, TABLE, incidents(("0", OLD)))
    counts = []
    for number in range(1, MOST_FILES + 1):
        replace_rows(con, place, TABLE, leaving=None, coming=incidents((str(number), OLD)))
        counts.append(len(files(place)))
    assert counts == [*range(2, MOST_FILES + 1), 1]
    assert held(con, place) == Counter((str(number), OLD) for number in range(MOST_FILES + 1))


def test_added_files_are_told_of_quarters_that_lost_none(con: duckdb.DuckDBPyConnection, place: Settings) -> None:
    write_table(con, place, TABLE, incidents(("a", OLD), ("b", NEW), ("c", "2026-04-05")))
    before = table_digests(place, TABLE)
    assert added_files(place, TABLE, before) == {"2026-Q1": [], "2026-Q2": []}
    replace_rows(con, place, TABLE, leaving=None, coming=incidents(("d", OLD), ("e", "2026-04-06")))
    added = added_files(place, TABLE, {**before, "2026-Q3": ""})
    assert {quarter: len(files) for quarter, files in added.items()} == {"2026-Q1": 1, "2026-Q2": 1, "2026-Q3": 0}
    query = f"SELECT incident_key FROM {files_relation(TABLE, [*added['2026-Q1'], *added['2026-Q2']])} ORDER BY 1"
    assert con.execute(query).fetchall() == [("d",), ("e",)]
    replace_rows(con, place, TABLE, leaving="kept.incident_key = 'b'", coming=incidents(("f", NEW)))
    assert added_files(place, TABLE, before).keys() == {"2026-Q2"}


rows = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([OLDER, OLD, NEW, "2026-04-05"])), max_size=6)


@examples(max_examples=15, deadline=None)
@given(first=rows, updates=st.lists(st.tuples(st.sets(st.sampled_from("abc")), rows), min_size=1, max_size=3))
def test_rows_are_those_that_stayed_and_those_that_came_as_often_as_they_did(
    con: duckdb.DuckDBPyConnection,
    place: Settings,
    first: list[tuple[str, str]],
    updates: list[tuple[set[str], list[tuple[str, str]]]],
) -> None:
    write_table(con, place, TABLE, incidents(*first))
    expected = Counter(first)
    for gone, coming in updates:
        keys = ", ".join(f"'{key}'" for key in sorted(gone)) or "''"
        replace_rows(con, place, TABLE, leaving=f"kept.incident_key IN ({keys})", coming=incidents(*coming))
        expected = Counter({row: n for row, n in expected.items() if row[0] not in gone}) + Counter(coming)
        assert held(con, place) == expected
