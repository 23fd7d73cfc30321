"""Asking GitHub through PyGithub's requester: raw texts come back, and every way of failing has a name.

Objects are never walked: an attribute that a list lacks would be fetched by a request of its own. Source: ingestion.md
section 3, where each trap that is stepped around here was seen.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
from github import Github, GithubException
from urllib3.util.retry import Retry

from analytics.errors import SourceError
from analytics.secrets import scrub
from analytics.sources.github.credentials import Credential
from analytics.sources.github.limits import Budget, RateLimitedError

MAX_BODY_CHARACTERS = 64 * 1024 * 1024
SHOWN_CHARACTERS = 500
TIMEOUT_SECONDS = 60
# GitHub's own trouble passes within seconds or not at all.
RETRIES = 3
# Answers that asked for a short pause are asked for again so often.
ATTEMPTS = 5
_LIMIT_WORDS = ("rate limit", "abuse detection")


@dataclass(frozen=True)
class Answer:
    """What GitHub said: `body` is its raw text (empty on 304), `data` what a GraphQL query gave."""

    status: int
    body: str
    url: str
    etag: str | None = None
    next_url: str | None = None
    server_time: datetime | None = None
    data: dict[str, Any] = field(default_factory=dict)


class NotFoundError(SourceError):
    """There is no such thing, or the credential must not see it."""


class RefusedError(SourceError):
    """The credential is not accepted, or lacks a permission."""


class BadBodyError(SourceError):
    """An answer that is no JSON; `reason` is a code of ingestion.md section 5."""

    def __init__(self, reason: str, excerpt: str, where: str | None = None) -> None:
        self.reason = reason
        said = {"html_body": "a web page came instead of data", "json_truncated": "the answer ends in the middle"}
        shown = " ".join(scrub(excerpt[:SHOWN_CHARACTERS]).split())[:120]
        super().__init__(f"{said.get(reason, 'the answer is no JSON')} ({reason}): {shown}", where=where)


class GraphQLRefusedError(SourceError):
    """GraphQL errors; `data` is what came beside them."""

    def __init__(self, messages: list[str], data: dict[str, Any]) -> None:
        self.data = data
        super().__init__(f"GitHub refused a part of a query: {'; '.join(messages)[:SHOWN_CHARACTERS]}")


class GitHubClient:
    """One organisation's door: a `Github` for each thread that asks, one budget for all."""

    def __init__(self, credential: Credential, base_url: str, budget: Budget) -> None:
        self._credential = credential
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        # A client that is shared by threads can hand one the body that another asked for.
        self._own = threading.local()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a client holds a token and is not pickled")

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None, etag: str | None = None) -> Answer:
        """Ask for a path or an absolute address of the same host; a 304 comes back as it is.

        Raises RateLimitedError, NotFoundError, RefusedError, BadBodyError; SourceError when GitHub cannot be reached.
        """
        given = {name: str(value) for name, value in (parameters or {}).items()}
        headers = {"If-None-Match": etag} if etag else {}
        answer = self._ask("GET", path, "core", given, headers, None)
        if answer.status == 304:
            return answer
        _require_json(answer)
        return answer

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send a question that has a body; raises what `get` raises."""
        answer = self._ask("POST", path, "core", {}, {}, dict(body))
        _require_json(answer)
        return answer

    def query(self, document: str, variables: Mapping[str, Any]) -> Answer:
        """Ask GraphQL; raises GraphQLRefusedError with the data that came beside errors, and what `get` raises."""
        for _ in range(ATTEMPTS):
            address = self._github().requester.graphql_url
            answer = self._ask("POST", address, "graphql", {}, {}, {"query": document, "variables": dict(variables)})
            found = _require_json(answer)
            if not isinstance(found, dict):
                raise BadBodyError("not_json", answer.body[:SHOWN_CHARACTERS], answer.url)
            errors = [error for error in found.get("errors") or () if isinstance(error, dict)]
            if any(error.get("type") == "RATE_LIMITED" for error in errors):
                # It comes with status 200; the next turn waits, or says when to go on.
                self._budget.pause("graphql", {})
                continue
            data = found.get("data")
            if errors or not isinstance(data, dict):
                messages = [scrub(str(error.get("message", "")))[:SHOWN_CHARACTERS] for error in errors[:3]]
                raise GraphQLRefusedError(messages or ["no data"], data if isinstance(data, dict) else {})
            return Answer(
                answer.status, answer.body, answer.url, answer.etag, answer.next_url, answer.server_time, data
            )
        raise SourceError("GitHub's GraphQL goes on saying that the rate limit is used up", where=answer.url)

    def _github(self) -> Github:
        if not hasattr(self._own, "github"):
            # Not PyGithub's own: that one sleeps for as long as Retry-After says. Refusals come back to us, and waiting
            # is the budget's.
            retry = Retry(
                total=RETRIES,
                backoff_factor=0.2,
                status_forcelist=[500, 502, 503, 504],
                allowed_methods=["GET", "POST"],
                respect_retry_after_header=False,
                raise_on_status=False,
            )
            self._own.github = Github(
                auth=self._credential.auth(),
                base_url=self._base_url,
                timeout=TIMEOUT_SECONDS,
                retry=retry,
                # A GraphQL query is a POST, which PyGithub would let pass once a second.
                seconds_between_requests=0,
                seconds_between_writes=0,
                user_agent="quarterdeck",
            )
        github: Github = self._own.github
        return github

    def _ask(
        self,
        verb: str,
        path: str,
        resource: str,
        parameters: dict[str, str],
        headers: dict[str, str],
        body: dict[str, Any] | None,
    ) -> Answer:
        for _ in range(ATTEMPTS):
            with self._budget.turn(resource):
                status, said, text = self._request(verb, path, parameters, headers, body)
            self._budget.note(resource, said)
            where = _place(path, parameters)
            if status == 429 or (status == 403 and _is_limit(said, text)):
                self._budget.pause(resource, said)
                continue
            if len(text) > MAX_BODY_CHARACTERS:
                raise SourceError(f"the answer is longer than {MAX_BODY_CHARACTERS:,} characters", where=where)
            if status in (404, 410, 451):
                raise NotFoundError(f"is not there, or the credential must not see it (status {status})", where=where)
            if status in (401, 403):
                raise RefusedError(
                    f"GitHub refuses it (status {status}): {_message(text)}",
                    where=where,
                    fix="Check the token or app: it must be valid and may read actions, contents, deployments, "
                    "issues, pull requests and metadata.",
                )
            if status not in (200, 304):
                raise SourceError(f"GitHub answered with status {status}: {_message(text)}", where=where)
            return Answer(
                status,
                "" if status == 304 else text,
                where,
                said.get("etag"),
                _next(said.get("link", "")),
                _date(said.get("date")),
            )
        raise RateLimitedError("GitHub goes on refusing requests for their pace", self._budget.now())

    def _request(
        self, verb: str, path: str, parameters: dict[str, str], headers: dict[str, str], body: dict[str, Any] | None
    ) -> tuple[int, dict[str, str], str]:
        try:
            status, said, text = self._github().requester.requestJson(
                verb, path, parameters=dict(parameters), headers=dict(headers), input=body
            )
        except (requests.RequestException, http.client.HTTPException, OSError, RuntimeError) as error:
            words = scrub(str(error), self._credential.secrets())[:SHOWN_CHARACTERS]
            raise SourceError(
                f"GitHub cannot be reached: {words}", where=self._base_url, fix="Check the network and `base_url`."
            ) from None
        except GithubException as error:
            given = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
            return error.status, given, msgspec.json.encode(error.data).decode()
        return status, {str(name).lower(): str(value) for name, value in said.items()}, text


def _require_json(answer: Answer) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except msgspec.DecodeError as error:
        start = answer.body.lstrip()[:1]
        reason = "html_body" if start == "<" else "json_truncated" if start in ("{", "[") else "not_json"
        raise BadBodyError(reason, answer.body, answer.url) from error


def _is_limit(headers: Mapping[str, str], text: str) -> bool:
    if "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0":
        return True
    return any(words in text[:4096].lower() for words in _LIMIT_WORDS)


def _message(text: str) -> str:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return " ".join(scrub(text[:SHOWN_CHARACTERS]).split())[:200]
    message = found.get("message") if isinstance(found, dict) else None
    return scrub(str(message))[:SHOWN_CHARACTERS]


def _place(path: str, parameters: Mapping[str, str]) -> str:
    split = urlsplit(path)
    query = "&".join(filter(None, (split.query, urlencode(parameters))))
    return scrub(f"{split.path}?{query}" if query else split.path)


def _next(link: str) -> str | None:
    for part in requests.utils.parse_header_links(link):
        if part.get("rel") == "next":
            return str(part["url"])
    return None


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, TypeError):
        return None
