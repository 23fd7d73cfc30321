"""How fast one credential may ask, and when it must stop.

Source: ingestion.md section 5 (budget); GitHub allows 900 points a minute and 100 requests at once, and tells what is
left of the hour in X-RateLimit-*.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore, Lock

from analytics import progress
from analytics.errors import PausedError

POINTS_A_MINUTE = 850
AT_MOST = 10
# What GitHub asks for where a refusal does not say how long.
SECONDARY_SECONDS = 60
# So much of the hour is left to people who use the same credential.
KEPT_BACK = 50


class RateLimitedError(PausedError):
    """The credential has asked as much as it may; `resume_at` (UTC) says when it may go on."""


class Budget:
    """The limiter of one credential, shared by all its threads; `requests` counts what was asked."""

    def __init__(
        self,
        max_wait_seconds: float = 60,
        points_a_minute: int = POINTS_A_MINUTE,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._points_a_minute = points_a_minute
        self._clock = clock
        self._sleep = sleep
        self._turns = BoundedSemaphore(AT_MOST)
        self._lock = Lock()
        self._asked: deque[float] = deque()
        # By resource (core, graphql): until when nothing is left.
        self._exhausted: dict[str, float] = {}
        self.requests = 0

    @contextmanager
    def turn(self, resource: str) -> Iterator[None]:
        """Wait until one request may be made; raises RateLimitedError when that is further away than we wait."""
        with self._turns:
            while True:
                with self._lock:
                    now = self._clock()
                    while self._asked and self._asked[0] <= now - 60:
                        self._asked.popleft()
                    until = self._exhausted.get(resource, 0.0)
                    if until <= now and len(self._asked) < self._points_a_minute:
                        self._asked.append(now)
                        self.requests += 1
                        break
                    paced = len(self._asked) >= self._points_a_minute
                    free_at = self._asked[0] + 60 if paced else now
                if until > now:
                    self.wait(until - now)
                else:
                    # Keeping the pace takes less than a minute, and is no reason to stop.
                    self._sleep(free_at - now)
            yield

    def wait(self, seconds: float) -> None:
        """Sleep for a short pause; raises RateLimitedError for a long one."""
        if seconds > self._max_wait_seconds:
            raise RateLimitedError("GitHub's rate limit is used up", self.now() + timedelta(seconds=seconds))
        progress.report("pull", f"GitHub asks for a pause of {max(1, round(seconds))} s")
        self._sleep(max(seconds, 0.0))

    def now(self) -> datetime:
        """The limiter's clock, as an aware UTC time."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def note(self, resource: str, headers: Mapping[str, str]) -> None:
        """Read what an answer says is left."""
        remaining, reset = headers.get("x-ratelimit-remaining", ""), headers.get("x-ratelimit-reset", "")
        limit = headers.get("x-ratelimit-limit", "")
        if not remaining.isdigit() or not reset.isdigit():
            return
        kept = KEPT_BACK if limit.isdigit() and int(limit) > 10 * KEPT_BACK else 0
        with self._lock:
            if int(remaining) <= kept:
                self._exhausted[resource] = float(reset) + 1
            else:
                self._exhausted.pop(resource, None)

    def pause(self, resource: str, headers: Mapping[str, str]) -> None:
        """A refusal came: nothing more is asked until the time it names, or a minute from now."""
        now = self._clock()
        after, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset", "")
        if after.isdigit():
            until = now + int(after)
        elif headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
            until = float(reset) + 1
        else:
            until = now + SECONDARY_SECONDS
        with self._lock:
            self._exhausted[resource] = max(until, self._exhausted.get(resource, 0.0))
