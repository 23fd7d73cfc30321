"""Asking PagerDuty through its own client: raw texts come back, and every way of failing has a name.

Source: ingestion.md sections 3 and 5. The client waits out a refusal for pace by itself, however long that takes; here
it is told instead, so that a pull can stop and go on later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, cast

import httpx2
import pagerduty

from analytics.errors import SourceError, UnreachableError
from analytics.secrets import Secret
from analytics.sources.answers import TIMEOUT_SECONDS, Host, TooLongError, joined
from analytics.sources.limits import Budget, RateLimitedError

# PagerDuty allows a key 960 requests in a minute.
POINTS_PER_MINUTE = 850
RETRIES = 3
# Answers that asked for a short pause are asked for again so often.
ATTEMPTS = 5
_PASSING = (500, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """A JSON object as PagerDuty sent it, and PagerDuty's own time (aware, UTC) when it did."""

    data: dict[str, Any]
    at: datetime


class PagerDutyClient:
    """One account's door: a client for each thread that asks, one budget for all."""

    def __init__(
        self,
        token: Secret,
        base_url: str,
        budget: Budget,
        timeout_seconds: int = TIMEOUT_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        self.host = Host("PagerDuty", token, "read access: an account's read-only key is enough")
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._own = _Own()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a client holds a token and is not pickled")

    def get(self, path: str, parameters: Mapping[str, str | int | list[str]] | None = None) -> Answer:
        """Ask for a path.

        Raises RateLimitedError with the time at which to go on, NotThereError, UnreachableError, and SourceError for
        every other refusal and for a body that is no JSON object.
        """
        where = f"{self._base_url}{path}"
        until = None
        for _ in range(ATTEMPTS):
            with self._budget.turn("core"):
                response = self._request(where, dict(parameters or {}))
            if response.status_code == 429:
                until = self._budget.pause("core", _pause(response.headers))
                continue
            self.host.refuse(response.status_code, response.content, where)
            return Answer(self.host.decoded(response.content, where), _moment(response.headers))
        assert until is not None
        raise RateLimitedError("PagerDuty goes on refusing requests for their pace", until)

    def _request(self, where: str, parameters: dict[str, Any]) -> httpx2.Response:
        asking = self._asking()
        try:
            return asking.get(where, params=parameters)
        except _TooFastError as error:
            return error.response
        except pagerduty.HttpError as error:
            # Its words show the end of the key; the answer is told in ours.
            return cast(httpx2.Response, error.response)
        except TooLongError as error:
            raise SourceError(error.what, where=where, fix=self.host.address) from None
        except (pagerduty.Error, httpx2.HTTPError, OSError) as error:
            raise UnreachableError(
                f"PagerDuty cannot be reached: {self.host.shown(str(error.__cause__ or error))}",
                where=self._base_url,
                fix="Check the network and `base_url`.",
            ) from None

    def _asking(self) -> _Asking:
        if self._own.client is None:
            client = _Asking(self.host.credential())
            client.timeout = self._timeout_seconds
            client.max_network_attempts = self._retries
            client.retry = dict.fromkeys(_PASSING, self._retries) if self._retries else {}
            client.sleep_timer = 0.5
            self._own.client = client
        return self._own.client


class _TooFastError(Exception):
    def __init__(self, response: httpx2.Response) -> None:
        self.response = response


class _Asking(pagerduty.RestApiV2Client):
    """The library's client, which asks whole addresses, reads with a cap and does not wait by itself."""

    def __del__(self) -> None:
        # Nobody else knows when a thread has asked for the last time.
        self.close()

    def normalize_url(self, url: str) -> str:
        """An address as it is: also one of this machine, in tests."""
        return url

    def postprocess(self, response: httpx2.Response, suffix: str | None = None) -> None:
        """Leave the library before it sleeps."""
        if response.status_code == 429:
            raise _TooFastError(response)

    def send(self, request: httpx2.Request, **more: Any) -> httpx2.Response:
        """Read every answer up to the cap before the library looks at it."""
        more["stream"] = True
        response = super().send(request, **more)
        try:
            body = joined(response.iter_bytes())
        finally:
            response.close()
        # What was unpacked is not packed any more.
        dropped = ("content-encoding", "content-length", "transfer-encoding")
        headers = {name: text for name, text in response.headers.items() if name.lower() not in dropped}
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)


class _Own(threading.local):
    """What each thread has for itself."""

    client: _Asking | None = None


def _pause(headers: httpx2.Headers) -> dict[str, str]:
    """PagerDuty tells in seconds how long the pause is."""
    said = {name.lower(): text for name, text in headers.items()}
    if "retry-after" not in said and said.get("ratelimit-reset", "").isdigit():
        said["retry-after"] = said["ratelimit-reset"]
    return said


def _moment(headers: httpx2.Headers) -> datetime:
    try:
        return parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    except (ValueError, TypeError):
        return datetime.fromtimestamp(int(time.time()), UTC)
