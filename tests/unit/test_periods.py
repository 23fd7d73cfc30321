"""Periods: local midnights, daylight saving, fiscal years, covered days."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.errors import UsageError
from analytics.periods import Calendar, Quarter

UTC_CALENDAR = Calendar(ZoneInfo("UTC"))
BERLIN = Calendar(ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize("text", ["2026", "2026-Q5", "Q1-2026", "2026Q1", ""])
def test_what_is_no_quarter_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="2026-Q3"):
        Quarter.parse(text)


def test_an_evening_in_utc_may_be_the_next_quarter_in_berlin() -> None:
    moment = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
    assert str(UTC_CALENDAR.quarter_of(moment)) == "2026-Q1"
    assert str(BERLIN.quarter_of(moment)) == "2026-Q2"


def test_an_exact_boundary_belongs_to_the_later_quarter() -> None:
    start, _ = BERLIN.bounds_utc(Quarter(2026, 2))
    assert start == datetime(2026, 3, 31, 22, tzinfo=UTC)
    assert BERLIN.quarter_of(start) == Quarter(2026, 2)


def test_a_quarter_with_a_clock_change_has_ninety_calendar_days() -> None:
    first, end = BERLIN.covered_days(Quarter(2026, 1), datetime(2026, 12, 1, tzinfo=UTC))
    assert (end - first).days == 90
    start, finish = BERLIN.bounds_utc(Quarter(2026, 1))
    assert (finish - start).total_seconds() == 90 * 86400 - 3600


def test_a_fiscal_quarter_is_named_by_the_year_in_which_its_year_ends() -> None:
    april = Calendar(ZoneInfo("UTC"), 4)
    assert str(april.quarter_of_day(date(2026, 4, 1))) == "2027-Q1"
    assert str(april.quarter_of_day(date(2026, 3, 31))) == "2026-Q4"
    assert april.days(Quarter(2027, 1)) == (date(2026, 4, 1), date(2026, 7, 1))


def test_covered_days_end_with_the_day_in_progress_and_begin_with_the_service() -> None:
    now = datetime(2026, 2, 10, 6, tzinfo=UTC)
    first, end = UTC_CALENDAR.covered_days(Quarter(2026, 1), now, since=date(2026, 2, 1))
    assert (first, end) == (date(2026, 2, 1), date(2026, 2, 11))


def test_a_cut_off_at_midnight_leaves_that_day_out() -> None:
    first, end = UTC_CALENDAR.covered_days(Quarter(2026, 1), datetime(2026, 2, 10, tzinfo=UTC))
    assert (end - first).days == 40


def test_a_quarter_that_has_not_begun_covers_no_day() -> None:
    first, end = UTC_CALENDAR.covered_days(Quarter(2026, 4), datetime(2026, 2, 10, tzinfo=UTC))
    assert first == end


@given(st.dates(date(1990, 1, 1), date(2090, 1, 1)), st.integers(1, 12))
def test_every_day_lies_in_the_quarter_that_names_it(day: date, month: int) -> None:
    calendar = Calendar(ZoneInfo("UTC"), month)
    start, end = calendar.days(calendar.quarter_of_day(day))
    assert start <= day < end


@given(st.integers(1990, 2090), st.integers(1, 4), st.integers(-40, 40))
def test_quarters_add_up(year: int, number: int, steps: int) -> None:
    quarter = Quarter(year, number)
    assert quarter.plus(steps).plus(-steps) == quarter
