"""Asking Jira through its client library: pages come back, and every way of failing has a name.

Cloud pages by a token, Data Center by a position; which one it is, the server tells. Source: ingestion.md sections 3
and 5.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import jira
import requests

from analytics.errors import SourceError, UnreachableError
from analytics.secrets import Secret
from analytics.sources.answers import TIMEOUT_SECONDS, Host, TooLongError, read_whole
from analytics.sources.limits import Budget, RateLimitedError

POINTS_PER_MINUTE = 300
RETRIES = 3
ATTEMPTS = 5
_PASSING = (500, 502, 503, 504)


@dataclass(frozen=True)
class Found:
    """A page of issues as Jira sent them, and what asks for the page behind it; None where there is none."""

    issues: list[dict[str, Any]]
    following: str | None


class JiraClient:
    """One site's door: a client for each thread that asks, one budget for all."""

    def __init__(
        self,
        base_url: str,
        token: Secret,
        budget: Budget,
        email: str | None = None,
        timeout_seconds: int = TIMEOUT_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        self.host = Host("Jira", token, "leave to browse the projects that the JQL names")
        self.base_url = base_url.rstrip("/")
        self._email = email
        self._budget = budget
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._own = _Own()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a client holds a token and is not pickled")

    def search(self, jql: str, fields: Sequence[str], page_items: int, following: str | None = None) -> Found:
        """A page of the issues that a JQL finds, with their changes.

        Raises RateLimitedError with the time at which to go on, UnreachableError, and SourceError for every other
        refusal, which a wrong JQL is as well.
        """
        asking = self._asking()
        # The library writes ids over the names in it.
        named = list(fields)
        if asking.is_cloud:
            data = self._ask(
                "search/jql",
                lambda: asking.enhanced_search_issues(
                    jql, following, page_items, named, expand="changelog", json_result=True
                ),
            )
            issues = self.host.list_of(data, "issues", self.base_url)
            token = data.get("nextPageToken")
            return Found(issues, str(token) if token and not data.get("isLast") else None)
        start = int(following or 0)
        data = self._ask(
            "search",
            lambda: asking.search_issues(jql, start, page_items, fields=named, expand="changelog", json_result=True),
        )
        issues = self.host.list_of(data, "issues", self.base_url)
        total, behind = data.get("total"), start + len(issues)
        return Found(issues, str(behind) if issues and isinstance(total, int) and behind < total else None)

    def time_zone(self) -> ZoneInfo:
        """The zone in which Jira reads the times of a JQL: that of the profile whose token asks."""
        asking = self._asking()
        name = str(self._ask("myself", asking.myself).get("timeZone") or "UTC")
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise SourceError(
                f"the profile's time zone is none: {name[:60]!r}", where=self.base_url, fix="Set it in Jira's profile."
            ) from None

    def fields(self) -> dict[str, str]:
        """Ids of fields by their names and by themselves; letter case is ignored."""
        asking = self._asking()
        found = self._ask("field", lambda: {"fields": asking.fields()})
        known: dict[str, str] = {}
        for field in self.host.list_of(found, "fields", self.base_url):
            known.setdefault(str(field.get("name")).casefold(), str(field.get("id")))
        return known | {native_id.casefold(): native_id for native_id in known.values()}

    def changes(self, issue_id: str, behind: int) -> Found:
        """A page of an issue's changes, oldest first, for issues with more of them than a search shows."""
        asking = self._asking()
        data = self._ask(f"issue/{issue_id}/changelog", lambda: asking.changelog(issue_id, behind))
        values = self.host.list_of(data, "values", self.base_url)
        is_last = data.get("isLast", True) or not values
        return Found(values, None if is_last else str(behind + len(values)))

    def _ask(self, what: str, question: Callable[[], Any]) -> dict[str, Any]:
        where = f"{self.base_url}/rest/api/2/{what}"
        until, troubles = None, 0
        for _ in range(ATTEMPTS):
            with self._budget.turn("core"):
                status, headers, body, found = self._answer(where, question)
            if status == 429:
                until = self._budget.pause("core", headers)
                continue
            if status in _PASSING and troubles < self._retries:
                troubles += 1
                time.sleep(0.5 * 2**troubles)
                continue
            if status == 400:
                raise SourceError(
                    f"does not understand the question: {self.host.shown(body)}",
                    where=where,
                    fix="Check the JQL and the names of fields.",
                )
            self.host.refuse(status, body, where)
            if not isinstance(found, dict):
                raise SourceError("the answer is no JSON object", where=where, fix=self.host.address)
            return found
        assert until is not None
        raise RateLimitedError("Jira goes on refusing requests for their pace", until)

    def _answer(self, where: str, question: Callable[[], Any]) -> tuple[int, dict[str, str], bytes, Any]:
        found: Any = None
        try:
            found = question()
        except jira.JIRAError as error:
            if error.response is None:
                raise SourceError(f"Jira: {self.host.shown(str(error.text))}", where=where) from None
        except (TypeError, AttributeError, KeyError):
            # A refusal in a shape that the library does not expect; what was answered is judged below.
            found = None
        except requests.TooManyRedirects:
            raise SourceError("lies at another address now", where=where, fix=self.host.address) from None
        except TooLongError as error:
            raise SourceError(error.what, where=where, fix=self.host.address) from None
        except (requests.JSONDecodeError, RecursionError):
            # Read again by ourselves, which says in words what it is.
            self.host.decoded(self._own.answer.content, where)
            raise SourceError("the answer is no JSON", where=where, fix=self.host.address) from None
        except (requests.RequestException, OSError) as error:
            raise UnreachableError(
                f"Jira cannot be reached: {self.host.shown(str(error))}",
                where=self.base_url,
                fix="Check the network and `base_url`.",
            ) from None
        answer = self._own.answer
        headers = {name.lower(): text for name, text in answer.headers.items()}
        return answer.status_code, headers, answer.content, found

    def _asking(self) -> _Asking:
        if self._own.client is None:
            credential = self.host.credential()
            client = _Asking(self.base_url, credential, self._email, self._timeout_seconds, on_answer=self._own.keep)
            info = self._ask("serverInfo", client.server_info)
            client.deploymentType = info.get("deploymentType")
            self._own.client = client
        return self._own.client


class _Asking(jira.JIRA):
    """The library's client, which reads with a cap, follows no redirect and waits for nothing by itself."""

    def __init__(
        self,
        base_url: str,
        credential: str,
        email: str | None,
        timeout_seconds: int,
        on_answer: Callable[[requests.Response], None],
    ) -> None:
        super().__init__(
            options={"server": base_url, "rest_api_version": "2"},
            basic_auth=(email, credential) if email is not None else None,
            token_auth=None if email is not None else credential,
            get_server_info=False,
            max_retries=0,
            timeout=timeout_seconds,
            # It would log whole answers.
            logging=False,
        )

        def read(response: requests.Response, *more: Any, **named: Any) -> requests.Response:
            whole = read_whole(response, *more, **named)
            on_answer(whole)
            return whole

        self._session.max_redirects = 0
        self._session.hooks["response"].append(read)

    @property
    def is_cloud(self) -> bool:
        """Whether it is Jira Cloud."""
        return bool(self._is_cloud)

    def changelog(self, issue_id: str, behind: int) -> Any:
        """What the library has no words for: an issue's changes by pages."""
        return self._get_json(f"issue/{issue_id}/changelog", {"startAt": behind, "maxResults": 100})


class _Own(threading.local):
    """What each thread has for itself: its client, and the answer that came last."""

    client: _Asking | None = None
    answer: requests.Response = requests.Response()

    def keep(self, answer: requests.Response) -> None:
        self.answer = answer
