"""Quarter partitions in the settings' zone.

Belongs here: which quarters there are, and the one mapping between a quarter and Dagster's partition key. Dagster
cannot name a time window by its quarter, so that a key is the quarter's first day: `2026-07-01` is 2026-Q3 where the
fiscal year starts in January. The quarter's own name stands in each event's metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from warnings import catch_warnings, filterwarnings

import dagster as dg

from analytics.errors import UsageError
from analytics.lake.tables import quarters_of
from analytics.periods import Calendar, Quarter
from analytics.settings import Settings

# A pack shows eight quarters, so that at least these can be filled from the UI.
SHOWN_QUARTERS = 8
# Their partitions tell how far back the data goes.
DATED_TABLES = ("service_deployments", "run_attempts", "service_incidents")


def key_of_quarter(calendar: Calendar, quarter: Quarter) -> str:
    """The partition key of a quarter: its first day."""
    return calendar.days(quarter)[0].isoformat()


def quarter_of_key(calendar: Calendar, key: str) -> Quarter:
    """The quarter of a partition key."""
    return calendar.quarter_of_day(date.fromisoformat(key))


def quarter_partitions(settings: Settings, including: Iterable[Quarter] = ()) -> dg.TimeWindowPartitionsDefinition:
    """Every quarter with data, at least the last eight, up to the one that holds the cut-off.

    A fixed `now` may lie before or after the wall clock by which Dagster decides which windows exist.
    """
    calendar = settings.calendar
    current = calendar.quarter_of(settings.now())
    first = min([current.plus(-SHOWN_QUARTERS), *quarters_in_lake(settings), *including])
    today = calendar.quarter_of(datetime.now(UTC))
    ahead = (current.year - today.year) * 4 + current.number - today.number
    month = (calendar.fiscal_year_start_month - 1) % 3 + 1
    return dg.TimeWindowPartitionsDefinition(
        start=key_of_quarter(calendar, first),
        fmt="%Y-%m-%d",
        cron_schedule=f"0 0 1 {','.join(str(month + 3 * i) for i in range(4))} *",
        timezone=settings.time_zone,
        # Without a fixed `now` the last partition is the quarter in progress, whenever the UI is asked.
        end=key_of_quarter(calendar, current.plus(1)) if settings.fixed_now else None,
        end_offset=max(1, ahead + 1),
    )


def quarters_in_lake(settings: Settings) -> Iterator[Quarter]:
    """Quarters for which the lake holds facts."""
    for table in DATED_TABLES:
        for quarter in quarters_of(settings, table):
            with suppress(UsageError):  # rows without a date are of `undated`
                yield Quarter.parse(quarter)


@contextmanager
def settled_beta() -> Iterator[None]:
    """Accept that Dagster calls backfill policies beta; they are used since 1.5 and pinned by our range."""
    with catch_warnings():
        filterwarnings("ignore", category=dg.BetaWarning)
        yield
