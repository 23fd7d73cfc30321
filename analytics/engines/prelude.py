"""What every engine has before a query runs: a calendar, the cut-off, and functions that engines spell differently.

`local_day(moment)` is the DATE of a UTC time in the settings' zone, `us_between(start, end)` BIGINT microseconds,
`nth(list, i)` an element counted from 1, or NULL, `joined_words(list)` the sorted texts of a list with commas between,
`text_number(text)` a BIGINT from 0 that is the same for the same text, and another for another but once in 2^63;
`collect_list(x)`, `sort_array(list)` and `percentile(x, p)`, exact and interpolated, are Spark's own names.
Source: spec architecture.md section 4.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from analytics.engines.port import Engine
from analytics.settings import Settings

CALENDAR_START = date(2005, 1, 1)
CALENDAR = {"day": "DATE", "quarter": "VARCHAR", "month": "VARCHAR", "iso_week": "VARCHAR"}

# Zones are checked IANA names.
_DUCKDB = (
    "CREATE OR REPLACE {kept}MACRO local_day(moment) AS CAST(timezone('{zone}', timezone('UTC', moment)) AS DATE)",
    "CREATE OR REPLACE {kept}MACRO us_between(starts, ends) AS epoch_us(ends) - epoch_us(starts)",
    "CREATE OR REPLACE {kept}MACRO collect_list(x) AS list(x)",
    "CREATE OR REPLACE {kept}MACRO sort_array(xs) AS list_sort(xs)",
    "CREATE OR REPLACE {kept}MACRO percentile(x, p) AS quantile_cont(x, p)",
    "CREATE OR REPLACE {kept}MACRO nth(xs, i) AS list_extract(xs, i)",
    "CREATE OR REPLACE {kept}MACRO joined_words(words) AS array_to_string(list_sort(words), ', ')",
    "CREATE OR REPLACE {kept}MACRO text_number(words) AS CAST(hash(words) >> 1 AS BIGINT)",
)
_SPARK = (
    "CREATE OR REPLACE TEMPORARY FUNCTION local_day(moment TIMESTAMP_NTZ) RETURNS DATE "
    "RETURN CAST(convert_timezone('UTC', '{zone}', moment) AS DATE)",
    "CREATE OR REPLACE TEMPORARY FUNCTION us_between(starts TIMESTAMP_NTZ, ends TIMESTAMP_NTZ) RETURNS BIGINT "
    "RETURN timestampdiff(MICROSECOND, starts, ends)",
    "CREATE OR REPLACE TEMPORARY FUNCTION nth(xs ARRAY<BIGINT>, i BIGINT) RETURNS BIGINT "
    "RETURN get(xs, CAST(i - 1 AS INT))",
    "CREATE OR REPLACE TEMPORARY FUNCTION joined_words(words ARRAY<STRING>) RETURNS STRING "
    "RETURN array_join(sort_array(words), ', ')",
    "CREATE OR REPLACE TEMPORARY FUNCTION text_number(words STRING) RETURNS BIGINT "
    "RETURN shiftrightunsigned(xxhash64(words), 1)",
)
FUNCTIONS = {"duckdb": _DUCKDB, "spark": _SPARK}


def calendar_rows(settings: Settings) -> list[tuple[date, str, str, str]]:
    """Day, quarter, month and ISO week of every day from 2005 to a year after the cut-off."""
    calendar = settings.calendar
    last = calendar.local_day(settings.now()) + timedelta(days=370)
    rows = []
    quarters: dict[tuple[int, int], str] = {}
    for number in range((last - CALENDAR_START).days):
        day = CALENDAR_START + timedelta(days=number)
        # Fiscal quarters begin with a month, so a month knows its quarter.
        quarter = quarters.get((day.year, day.month))
        if quarter is None:
            quarter = quarters[day.year, day.month] = str(calendar.quarter_of_day(day))
        year, week, _ = day.isocalendar()
        rows.append((day, quarter, f"{day:%Y-%m}", f"{year}-W{week:02d}"))
    return rows


def create_functions(engine: Engine, time_zone: str, *, shared: bool = False) -> None:
    """Make the functions of the prelude on a session; `shared`: on all sessions of a database in memory."""
    for statement in FUNCTIONS[engine.kind]:
        engine.execute(statement.format(zone=time_zone, kept="" if shared else "TEMP "))


def create_params(engine: Engine, cut_off: datetime) -> None:
    """Make the table `params` of one row: `now`, the cut-off as naive UTC."""
    engine.create_values("params", {"now": "TIMESTAMP"}, [(cut_off.astimezone(UTC).replace(tzinfo=None),)])


def create_prelude(engine: Engine, settings: Settings) -> None:
    """Make the functions, and the tables `calendar` (day, quarter, month, iso_week) and `params` (now)."""
    create_functions(engine, settings.time_zone)
    engine.create_values("calendar", CALENDAR, calendar_rows(settings))
    create_params(engine, settings.now())
