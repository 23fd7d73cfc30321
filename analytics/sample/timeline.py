"""The sample's time: quarters, working hours and random streams that never depend on the machine.

Moments are whole seconds since 1970 (UTC) until a record is made of them.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from analytics.periods import Calendar, Quarter

TIME_ZONE = "Europe/Berlin"
LAST_QUARTER = Quarter(2026, 3)
# Some days after the last quarter has ended, when a pack about it is written.
NOW = datetime(2026, 10, 5, 6, tzinfo=UTC)

MINUTE = 60
HOUR = 3600
DAY = 86400

_SATURDAY = 5


def stream(seed: int, *names: str) -> random.Random:
    """A random stream of its own name, so that drawing from one never shifts another."""
    return random.Random("/".join((str(seed), *names)))  # noqa: S311 - a sample, no secret


def around(rng: random.Random, median: float, spread: float = 0.7) -> float:
    """A log-normal draw around a median; waiting and working times have this shape."""
    return rng.lognormvariate(math.log(median), spread)


def poisson(rng: random.Random, mean: float) -> int:
    """How many of something happen where `mean` are expected."""
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def utc(at: int) -> datetime:
    """A moment as an aware time."""
    return datetime.fromtimestamp(at, UTC)


def utc_or_none(at: int | None, now: int) -> datetime | None:
    """A moment as an aware time, or None while it has not come."""
    return None if at is None or at > now else utc(at)


class Timeline:
    """The period that a sample tells of, with its working days."""

    def __init__(self, quarters: int) -> None:
        self.calendar = Calendar(ZoneInfo(TIME_ZONE))
        self.quarters = [LAST_QUARTER.plus(index - quarters + 1) for index in range(quarters)]
        self.bounds = [int(self.calendar.bounds_utc(quarter)[0].timestamp()) for quarter in self.quarters]
        self.start = self.bounds[0]
        self.end = int(self.calendar.bounds_utc(LAST_QUARTER)[1].timestamp())
        self.now = int(NOW.timestamp())
        first = self.calendar.days(self.quarters[0])[0] - timedelta(days=60)
        last = NOW.date() + timedelta(days=90)
        self.days = [first + timedelta(days=index) for index in range((last - first).days)]
        self._midnights = [int(self.calendar.midnight_utc(day).timestamp()) for day in self.days]

    @property
    def worse_quarter(self) -> int | None:
        """The index of the quarter in which things get worse; a sample of three quarters has none."""
        return len(self.quarters) - 3 if len(self.quarters) >= 4 else None

    def quarter_index(self, at: int) -> int:
        """The index of the quarter that holds a moment; what lies outside counts to the nearest one."""
        return min(max(bisect_right(self.bounds, at) - 1, 0), len(self.quarters) - 1)

    def day_index(self, at: int) -> int:
        """The index of the local day that holds a moment."""
        return bisect_right(self._midnights, at) - 1

    def midnight(self, day_index: int) -> int:
        """The start of a local day."""
        return self._midnights[day_index]

    def day(self, at: int) -> date:
        """The local date of a moment."""
        return self.days[self.day_index(at)]

    def hour(self, at: int) -> float:
        """The local hour of a moment (off by one on the two days of a clock change)."""
        return (at - self._midnights[self.day_index(at)]) / HOUR

    def activity(self, day_index: int) -> float:
        """How much is developed on a day: little on weekends and in late December, less in August."""
        day = self.days[day_index]
        if _late_december(day):
            return 0.12
        if day.weekday() >= _SATURDAY:
            return 0.05
        return (0.85 if day.month == 8 else 1.0) * (0.85 if day.weekday() == _SATURDAY - 1 else 1.05)

    def release_activity(self, day_index: int) -> float:
        """How much is released on a day: hardly anything on Friday, on weekends and while the year ends."""
        day = self.days[day_index]
        if _late_december(day):
            return 0.05
        if day.weekday() >= _SATURDAY:
            return 0.04
        return 0.55 if day.weekday() == _SATURDAY - 1 else 1.15

    def is_working_day(self, day_index: int) -> bool:
        """Whether people work on a day."""
        day = self.days[day_index]
        return day.weekday() < _SATURDAY and not _late_december(day)

    def working_moment(self, rng: random.Random, day_index: int) -> int:
        """A moment of a day at which people commit: before and after lunch, now and then late."""
        draw = rng.random()
        if draw < 0.03:
            hour = rng.uniform(20, 23.5)
        elif draw < 0.55:
            hour = rng.gauss(10.4, 1.2)
        else:
            hour = rng.gauss(15.2, 1.5)
        return self.midnight(day_index) + round(min(max(hour, 7.0), 23.6) * HOUR)

    def roll(self, rng: random.Random, at: int) -> int:
        """The same moment, or the next morning when nobody would be at work."""
        index = self.day_index(at)
        hour = (at - self._midnights[index]) / HOUR
        if hour >= 19 and self.is_working_day(index):
            index += 1
        elif hour >= 7.5 and self.is_working_day(index):
            return at
        while not self.is_working_day(index):
            index += 1
        return self._midnights[index] + round(rng.uniform(8.0, 10.8) * HOUR)


def _late_december(day: date) -> bool:
    return (day.month == 12 and day.day >= 20) or (day.month == 1 and day.day <= 2)
