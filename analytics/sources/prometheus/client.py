"""Asking Prometheus: one question over a span of time, answered whole or refused with words.

Its API is one form that is posted, so that no library stands between; what there is of them parses times in words and
holds no cap. Source: ingestion.md section 5.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any, NoReturn

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from analytics.errors import SourceError, UnreachableError
from analytics.secrets import Secret
from analytics.sources.answers import TIMEOUT_SECONDS, Host, TooLongError, read_whole
from analytics.sources.limits import Budget, RateLimitedError

POINTS_PER_MINUTE = 300
RETRIES = 3
ATTEMPTS = 5
# Words of Prometheus and its kin for a question that is too large as a whole.
_TOO_MUCH = ("exceeded maximum resolution", "too many samples", "too many points", "maximum number of samples", "limit")
_logger = logging.getLogger(__name__)


class TooMuchError(SourceError):
    """The question covers more than is answered at once; a shorter span may be answered."""


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and (seconds since 1970, value as text) by time."""

    labels: dict[str, str]
    values: list[tuple[float, str]]


class PrometheusClient:
    """One server's door: a session for each thread that asks, one budget for all."""

    def __init__(
        self,
        base_url: str,
        budget: Budget,
        token: Secret | None = None,
        user: str | None = None,
        tenant: str | None = None,
        timeout_seconds: int = TIMEOUT_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        self.host = Host("Prometheus", token, "leave to query", "Check `base_url`, without /api/v1.")
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._user = user
        self._tenant = tenant
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._own = _Own()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a client holds a token and is not pickled")

    def now(self) -> int:
        """The server's time in whole seconds since 1970; Prometheus gives a number, VictoriaMetrics a series of one."""
        found: Any = self._ask("query", {"query": "time()"}).get("result")
        try:
            told = found[0]["value"] if isinstance(found[0], dict) else found
            return int(float(told[1]))
        except (IndexError, KeyError, TypeError, ValueError, OverflowError):
            raise SourceError("does not tell its time", where=self._base_url, fix=self.host.address) from None

    def instant(self, query: str) -> list[dict[str, Any]]:
        """The series that a query has now."""
        return self.host.list_of(self._ask("query", {"query": query}), "result", self._base_url)

    def between(self, query: str, start: int, end: int, step: int) -> list[Series]:
        """The series of a query, evaluated at start, start + step, … up to the end, each in whole seconds since 1970.

        Raises TooMuchError where a shorter span may be answered, RateLimitedError with the time at which to go on,
        UnreachableError, and SourceError for every other refusal.
        """
        data = self._ask("query_range", {"query": query, "start": start, "end": end, "step": step})
        found = self.host.list_of(data, "result", f"{self._base_url}/api/v1/query_range")
        if data.get("resultType") != "matrix":
            raise SourceError("the query gives no series", where=query, fix="Ask for numbers over time.")
        series = []
        for item in found:
            labels, values = item.get("metric"), item.get("values", [])
            if not isinstance(labels, dict) or not isinstance(values, list):
                raise SourceError("the answer holds a series without labels or values", where=query)
            try:
                samples = [(float(at), str(value)) for at, value in values]
            except (TypeError, ValueError, OverflowError):
                raise SourceError("the answer holds a sample that is none", where=query) from None
            if not all(start <= at <= end for at, _ in samples):
                raise SourceError("the answer holds a sample of a time that was not asked for", where=query)
            series.append(Series({str(name): str(text) for name, text in labels.items()}, samples))
        return series

    def _ask(self, what: str, form: dict[str, Any]) -> dict[str, Any]:
        where = f"{self._base_url}/api/v1/{what}"
        until = None
        for _ in range(ATTEMPTS):
            with self._budget.turn("core"):
                answer = self._post(where, form)
            if answer.status_code == 429:
                until = self._budget.pause("core", {name.lower(): text for name, text in answer.headers.items()})
                continue
            body = answer.content
            if answer.status_code in (400, 422) and body.lstrip()[:1] == b"{":
                self._explain(self.host.decoded(body, where), str(form["query"]))
            self.host.refuse(answer.status_code, body, where)
            decoded = self.host.decoded(body, where)
            data = decoded.get("data")
            if decoded.get("status") != "success" or not isinstance(data, dict):
                raise SourceError(f"no success: {self.host.shown(body)}", where=where, fix=self.host.address)
            for warning in decoded.get("warnings") or ():
                _logger.warning("%s warns about %s: %s", self.host.name, form["query"], self.host.shown(str(warning)))
            return data
        assert until is not None
        raise RateLimitedError("Prometheus goes on refusing requests for their pace", until)

    def _post(self, where: str, form: dict[str, Any]) -> requests.Response:
        try:
            return self._asking().post(
                where, data=form, timeout=self._timeout_seconds, allow_redirects=False, stream=True
            )
        except TooLongError as error:
            raise TooMuchError(error.what, where=where) from None
        except (requests.RequestException, OSError) as error:
            raise UnreachableError(
                f"Prometheus cannot be reached: {self.host.shown(str(error))}",
                where=self._base_url,
                fix="Check the network and `base_url`.",
            ) from None

    def _explain(self, decoded: dict[str, Any], query: str) -> NoReturn:
        said = self.host.shown(str(decoded.get("error") or decoded))
        if any(words in said for words in _TOO_MUCH):
            raise TooMuchError(f"refuses the question as too large: {said}", where=query)
        raise SourceError(f"does not understand the query: {said}", where=query, fix="Try it in Prometheus itself.")

    def _asking(self) -> requests.Session:
        if self._own.session is None:
            session = requests.Session()
            retry = Retry(
                total=self._retries,
                status_forcelist=(502, 503, 504),
                allowed_methods=None,
                backoff_factor=0.5,
                raise_on_status=False,
                redirect=False,
                # Else a pause is slept through, however long it is.
                respect_retry_after_header=False,
            )
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            session.hooks["response"].append(read_whole)
            session.headers["User-Agent"] = "quarterdeck"
            if self._tenant is not None:
                session.headers["X-Scope-OrgID"] = self._tenant
            credential = self.host.credential()
            if credential and self._user is not None:
                session.auth = (self._user, credential)
            elif credential:
                session.auth = _Bearer(credential)
            else:
                # Nor a password that lies in the home folder for another purpose.
                session.auth = _Bearer("")
            self._own.session = session
        return self._own.session


class _Bearer(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Own(threading.local):
    """What each thread has for itself."""

    session: requests.Session | None = None
