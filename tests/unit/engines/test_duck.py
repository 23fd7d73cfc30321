"""DuckDB behind the engine port."""

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest

from analytics.engine import connect
from analytics.engines import open_engine
from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import calendar_rows, create_functions, create_prelude
from analytics.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "organization": "Acme",
            "time_zone": "Europe/Berlin",
            "fiscal_year_start_month": 4,
            "now": "2026-10-05T06:00:00Z",
        }
    ).model_copy(update={"storage": tmp_path})


@pytest.fixture
def engine(settings: Settings) -> Iterator[DuckEngine]:
    with connect(settings) as con:
        yield DuckEngine(con, settings)


def test_the_settings_name_duckdb_unless_they_say_otherwise(settings: Settings) -> None:
    with connect(settings) as con, open_engine(settings, con) as engine:
        assert engine.kind == "duckdb"


def test_a_view_follows_what_it_reads_and_a_table_does_not(engine: DuckEngine) -> None:
    engine.create_values("numbers", {"n": "BIGINT"}, [(1,), (2,)])
    engine.create_view("seen", "SELECT count(*) AS n FROM numbers")
    engine.create_table("kept", "SELECT count(*) AS n FROM numbers")
    engine.execute("INSERT INTO numbers VALUES (3)")
    assert engine.rows("SELECT n FROM seen") == [(3,)]
    assert engine.rows("SELECT n FROM kept") == [(2,)]


def test_a_name_may_become_a_table_after_it_was_a_view_and_the_reverse(engine: DuckEngine) -> None:
    engine.create_view("thing", "SELECT 1 AS n")
    engine.create_table("thing", "SELECT 2 AS n")
    assert engine.rows("SELECT n FROM thing") == [(2,)]
    engine.create_view("thing", "SELECT 3 AS n")
    assert engine.rows("SELECT n FROM thing") == [(3,)]
    engine.create_values("thing", {"n": "BIGINT"}, [(4,)])
    assert engine.rows("SELECT n FROM thing") == [(4,)]
    engine.drop("thing")
    engine.drop("thing")


def test_arrays_hold_numbers_and_texts_that_may_be_missing(engine: DuckEngine) -> None:
    engine.create_values("rows", {"n": "BIGINT", "word": "VARCHAR"}, [(1, "a"), (2, None), (3, "?")])
    numbers, words = engine.arrays("SELECT n, word FROM rows ORDER BY n")
    assert (numbers.tolist(), words.tolist()) == ([1, 2, 3], ["a", None, "?"])
    assert engine.arrays("SELECT n, word FROM rows WHERE word IS NOT NULL ORDER BY n")[1].tolist() == ["a", "?"]
    assert engine.arrays("SELECT word FROM rows WHERE word IS NULL")[0].tolist() == [None]
    assert engine.arrays("SELECT n, word FROM rows WHERE n > 9")[1].tolist() == []


def test_numbers_come_as_arrays_that_may_be_written_to(engine: DuckEngine) -> None:
    query = "SELECT range AS n, CAST(range AS DOUBLE) / 2 AS half FROM range(300000)"
    whole, halves = engine.numbers(query)
    assert (whole.dtype, halves.dtype) == ("int64", "float64")
    assert (int(whole.sum()), float(halves.sum())) == (299_999 * 150_000, 299_999 * 75_000.0)
    whole += 1
    assert [column.size for column in engine.numbers(f"{query} WHERE range < 0")] == [0, 0]
    one, _ = engine.numbers(f"{query} WHERE range = 7")
    one += 1
    assert one.tolist() == [8]


def test_a_text_has_a_number_that_no_other_has(engine: DuckEngine) -> None:
    create_functions(engine, "UTC")
    engine.create_table("rows", "SELECT 'acme/shop#' || range AS words FROM range(100000)")
    ((least, different),) = engine.rows("SELECT min(text_number(words)), count(DISTINCT text_number(words)) FROM rows")
    assert (least >= 0, different) == (True, 100_000)
    assert engine.rows("SELECT text_number('a') = text_number(concat('', 'a')) AS same") == [(True,)]


def test_values_keep_their_types_where_a_column_is_empty(engine: DuckEngine) -> None:
    engine.create_values("rows", {"seen_at": "TIMESTAMP", "words": "VARCHAR[]"}, [(None, None), (None, ["a"])])
    assert engine.columns("SELECT * FROM rows") == ["seen_at", "words"]
    engine.create_values("rows", {"seen_at": "TIMESTAMP", "words": "VARCHAR[]"}, [])
    assert engine.rows("SELECT seen_at, words FROM rows") == []


def test_sessions_see_what_was_named_before_and_name_things_of_their_own(settings: Settings) -> None:
    with connect(settings) as con, open_engine(settings, con, shared=True) as shared:
        shared.create_values("numbers", {"n": "BIGINT"}, [(1,), (2,)])
        create_functions(shared, "UTC", shared=True)
        shared.create_view("thing", "SELECT 0 AS n")
        with shared.sessions(2) as sessions:
            for number, session in enumerate(sessions, 1):
                session.create_table("thing", f"SELECT n * {number} AS n FROM numbers")
            assert [session.rows("SELECT sum(n) FROM thing") for session in sessions] == [
                [(3 * number,)] for number in range(1, len(sessions) + 1)
            ]
            assert sessions[0].rows("SELECT us_between(TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-02') AS us") == [
                (86_400_000_000,)
            ]
        assert shared.rows("SELECT n FROM thing") == [(0,)]
        shared.create_table("thing", "SELECT 5 AS n")
        shared.create_view("thing", "SELECT 6 AS n")
        assert shared.rows("SELECT n FROM thing") == [(6,)]


def test_a_list_gives_a_row_per_element_and_none_where_it_is_empty(engine: DuckEngine) -> None:
    engine.create_values("rows", {"id": "BIGINT", "labels": "VARCHAR[]"}, [(1, ["a", "b"]), (2, []), (3, None)])
    engine.create_unnested("labelled", "rows", ["id"], "labels", "label")
    assert sorted(engine.rows("SELECT id, label FROM labelled")) == [(1, "a"), (1, "b")]


def test_the_calendar_cuts_fiscal_quarters_months_and_iso_weeks(settings: Settings) -> None:
    by_day = {row[0]: row[1:] for row in calendar_rows(settings)}
    assert by_day[date(2026, 3, 31)] == ("2026-Q4", "2026-03", "2026-W14")
    assert by_day[date(2026, 4, 1)] == ("2027-Q1", "2026-04", "2026-W14")
    assert by_day[date(2027, 1, 1)] == ("2027-Q4", "2027-01", "2026-W53")
    assert max(by_day) > date(2027, 9, 1)


def test_the_prelude_gives_local_days_microseconds_and_list_elements(engine: DuckEngine, settings: Settings) -> None:
    create_prelude(engine, settings)
    assert engine.rows("SELECT local_day(TIMESTAMP '2026-03-31 23:30:00') AS day") == [(date(2026, 4, 1),)]
    assert engine.rows("SELECT us_between(TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-01 00:00:00.5') AS us") == [
        (500_000,)
    ]
    engine.create_values("xs", {"x": "BIGINT"}, [(30,), (10,), (20,)])
    assert engine.rows("SELECT nth(sort_array(collect_list(x)), 1) AS a, nth(collect_list(x), 9) AS b FROM xs") == [
        (10, None)
    ]
    assert engine.rows("SELECT now FROM params") == [(datetime(2026, 10, 5, 6),)]
