"""Quarters, months and ISO weeks cut at local midnights of one declared time zone.

Source: metrics.md section 1 (a period is ``[start, end)`` of local midnights) and section 8 (fiscal quarters
are named by the year they end in).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from analytics.errors import UsageError

_NAME = re.compile(r"(\d{4})-Q([1-4])")


@dataclass(frozen=True, order=True)
class Quarter:
    """A quarter by its name's parts; which days it holds is the calendar's to say."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Quarter:
        """Read ``2026-Q3``; raises UsageError for anything else."""
        match = _NAME.fullmatch(text.strip().upper())
        if match is None:
            raise UsageError(f"'{text}' is not a quarter", fix="Write it as 2026-Q3.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.year:04d}-Q{self.number}"

    def plus(self, quarters: int) -> Quarter:
        """The quarter that many later (earlier when negative)."""
        index = self.year * 4 + self.number - 1 + quarters
        return Quarter(index // 4, index % 4 + 1)


@dataclass(frozen=True)
class Calendar:
    """Where days and quarters begin: an IANA zone and the month in which the fiscal year starts."""

    zone: ZoneInfo
    fiscal_year_start_month: int = 1

    def local_day(self, moment: datetime) -> date:
        """The local date of a moment (an aware time, or a naive one taken as UTC)."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.astimezone(self.zone).date()

    def quarter_of_day(self, day: date) -> Quarter:
        """The (fiscal) quarter that holds a local day."""
        months = (day.month - self.fiscal_year_start_month) % 12
        starts_this_year = day.month >= self.fiscal_year_start_month
        first_year = day.year if starts_this_year else day.year - 1
        ends = first_year if self.fiscal_year_start_month == 1 else first_year + 1
        return Quarter(ends, months // 3 + 1)

    def quarter_of(self, moment: datetime) -> Quarter:
        """The quarter that holds a moment; an exact boundary belongs to the later one."""
        return self.quarter_of_day(self.local_day(moment))

    def days(self, quarter: Quarter) -> tuple[date, date]:
        """First day, and the day after the last."""
        first_year = quarter.year if self.fiscal_year_start_month == 1 else quarter.year - 1
        index = first_year * 12 + self.fiscal_year_start_month - 1 + (quarter.number - 1) * 3
        start = date(index // 12, index % 12 + 1, 1)
        end = date((index + 3) // 12, (index + 3) % 12 + 1, 1)
        return start, end

    def midnight_utc(self, day: date) -> datetime:
        """The start of a local day as an aware UTC time."""
        return datetime.combine(day, time.min, tzinfo=self.zone).astimezone(UTC)

    def bounds_utc(self, quarter: Quarter) -> tuple[datetime, datetime]:
        """``[start, end)`` of a quarter as aware UTC times."""
        start, end = self.days(quarter)
        return self.midnight_utc(start), self.midnight_utc(end)

    def covered_days(self, quarter: Quarter, now: datetime, since: date | None = None) -> tuple[date, date]:
        """First and after-last covered day of a quarter cut by a service's start and by `now` (empty when equal).

        The day in progress counts: it has been collected from its midnight up to `now`.
        """
        start, end = self.days(quarter)
        if since is not None:
            start = max(start, since)
        today = self.local_day(now)
        after_now = today if self.midnight_utc(today) >= now else today + timedelta(days=1)
        end = min(end, after_now)
        return (start, end) if start < end else (start, start)

    def quarters_between(self, first: Quarter, last: Quarter) -> Iterator[Quarter]:
        """Every quarter from first to last, both included."""
        quarter = first
        while quarter <= last:
            yield quarter
            quarter = quarter.plus(1)
