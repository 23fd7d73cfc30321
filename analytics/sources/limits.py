"""How fast one credential may ask, and when it must stop.

Source: ingestion.md section 5 (budget); GitHub allows 900 points a minute and 100 requests at once, and tells what is
left of the hour in X-RateLimit-*.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import BoundedSemaphore, Lock

from analytics import progress
from analytics.errors import PausedError

POINTS_PER_MINUTE = 850
AT_MOST = 10
# What GitHub asks for where a refusal does not say how long.
SECONDARY_SECONDS = 60
# So much of the hour is left to people who use the same credential.
KEPT_BACK = 50


class RateLimitedError(PausedError):
    """The credential has asked as much as it may; `resume_at` (UTC) says when it may go on."""


class Budget:
    """The limiter of one credential, shared by all its threads.

    `requests` and `points` count what was asked. At most `points_per_minute` in any minute, at most `at_most` requests
    at once; a pause longer than `max_wait_seconds` is not waited for. `host` is how its words name the one asked.
    """

    def __init__(
        self,
        max_wait_seconds: float = 60,
        points_per_minute: int = POINTS_PER_MINUTE,
        at_most: int = AT_MOST,
        host: str = "GitHub",
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._points_per_minute = points_per_minute
        self._host = host
        self._clock = clock
        self._sleep = sleep
        self._turns = BoundedSemaphore(at_most)
        self._lock = Lock()
        # When each request of the last minute was made, and its points.
        self._asked: deque[tuple[float, int]] = deque()
        self._asked_points = 0
        # By resource (core, graphql): GitHub's own time of the reset, and until when nothing is left by our clock.
        self._exhausted: dict[str, tuple[float, float]] = {}
        # A secondary limit speaks of the credential, whatever it asks for.
        self._paused_until = 0.0
        self.requests = 0
        self.points = 0

    @contextmanager
    def turn(self, resource: str, points: int = 1) -> Iterator[None]:
        """Wait until one request may be made; raises RateLimitedError when that is further away than we wait."""
        with self._turns:
            while True:
                with self._lock:
                    now = self._clock()
                    until = self._closed_until(resource)
                    paced_until = self._paced_until(now, points)
                    if until <= now and paced_until <= now:
                        self._asked.append((now, points))
                        self._asked_points += points
                        self.requests += 1
                        self.points += points
                        break
                if until > now:
                    self._wait(until - now)
                else:
                    # Keeping the pace takes less than a minute, and is no reason to stop.
                    self._sleep(paced_until - now)
            yield

    def note(self, resource: str, headers: Mapping[str, str]) -> None:
        """Read what an answer says is left; header names are lower-case."""
        remaining, reset = headers.get("x-ratelimit-remaining", ""), headers.get("x-ratelimit-reset", "")
        limit = headers.get("x-ratelimit-limit", "")
        if not remaining.isdigit() or not reset.isdigit():
            return
        kept = KEPT_BACK if limit.isdigit() and int(limit) > 10 * KEPT_BACK else 0
        counted = headers.get("x-ratelimit-resource") or resource
        with self._lock:
            if int(remaining) <= kept:
                self._exhausted[counted] = (float(reset), self._clock() + _seconds_to_reset(headers, self._clock()))
            elif counted in self._exhausted and float(reset) > self._exhausted[counted][0]:
                # Of the next hour; an answer that was only late tells nothing new.
                del self._exhausted[counted]

    def pause(self, resource: str, headers: Mapping[str, str]) -> datetime:
        """A refusal came: nothing more is asked until the time it names, else for a minute; gives that time."""
        with self._lock:
            now = self._clock()
            after = _seconds_after(headers, now)
            if after is None and headers.get("x-ratelimit-remaining") == "0" and "x-ratelimit-reset" in headers:
                counted = headers.get("x-ratelimit-resource") or resource
                reset = headers["x-ratelimit-reset"]
                if reset.isdigit():
                    until = now + _seconds_to_reset(headers, now)
                    self._exhausted[counted] = (float(reset), until)
                    # Whatever it was counted as, this resource was refused.
                    self._exhausted[resource] = (float(reset), until)
                    return datetime.fromtimestamp(until, UTC)
            until = now + max(1.0, SECONDARY_SECONDS if after is None else after)
            self._paused_until = max(until, self._paused_until)
            return datetime.fromtimestamp(self._paused_until, UTC)

    def _closed_until(self, resource: str) -> float:
        return max(self._paused_until, self._exhausted.get(resource, (0.0, 0.0))[1])

    def _paced_until(self, now: float, points: int) -> float:
        while self._asked and self._asked[0][0] <= now - 60:
            self._asked_points -= self._asked.popleft()[1]
        if not self._asked or self._asked_points + points <= self._points_per_minute:
            return now
        return self._asked[0][0] + 60

    def _wait(self, seconds: float) -> None:
        if seconds > self._max_wait_seconds:
            until = datetime.fromtimestamp(self._clock() + seconds, UTC)
            raise RateLimitedError(f"{self._host}'s rate limit is used up", until)
        progress.report("pull", f"{self._host} asks for a pause of {max(1, round(seconds))} s")
        self._sleep(seconds)


# Sources that ask with the same credential share what it may ask.
_BUDGETS: dict[tuple[str, str, float, int], Budget] = {}
_BUDGETS_LOCK = Lock()


def budget_of(
    base_url: str, credential: str, max_wait_seconds: float, points_per_minute: int = POINTS_PER_MINUTE
) -> Budget:
    """The one budget of a credential (named, not revealed) at a host, for all sources of this process.

    Of several processes that ask with one credential, each is given its part of the pace.
    """
    with _BUDGETS_LOCK:
        return _BUDGETS.setdefault(
            (base_url, credential, max_wait_seconds, points_per_minute), Budget(max_wait_seconds, points_per_minute)
        )


def forget_budgets() -> None:
    """Begin as a new process does."""
    with _BUDGETS_LOCK:
        _BUDGETS.clear()


def _seconds_to_reset(headers: Mapping[str, str], now: float) -> float:
    """By GitHub's clock where the answer has one: ours may be wrong. At least a second."""
    server = _moment(headers.get("date", ""))
    return max(1.0, float(headers["x-ratelimit-reset"]) + 1 - (now if server is None else server))


def _seconds_after(headers: Mapping[str, str], now: float) -> float | None:
    after = headers.get("retry-after", "").strip()
    if after.isdigit():
        return float(after)
    moment = _moment(after)
    if moment is None:
        return None
    server = _moment(headers.get("date", ""))
    return moment - (now if server is None else server)


def _moment(http_date: str) -> float | None:
    try:
        return parsedate_to_datetime(http_date).timestamp() if http_date else None
    except (ValueError, TypeError, OverflowError):
        return None
