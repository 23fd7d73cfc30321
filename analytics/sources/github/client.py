"""Asking GitHub through PyGithub's requester: raw texts come back, and every way of failing has a name.

Objects are never walked: an attribute that a list lacks would be fetched by a request of its own. Source: ingestion.md
section 3, where each trap that is stepped around here was seen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit
from weakref import WeakSet

import msgspec
import requests
from github import Auth, Github
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, RequestsResponse
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from analytics.errors import SourceError, UnreachableError
from analytics.secrets import scrub
from analytics.sources.github.credentials import Credential
from analytics.sources.limits import Budget, RateLimitedError

MAX_BODY_BYTES = 64 * 1024 * 1024
SHOWN_CHARACTERS = 500
TIMEOUT_SECONDS = 60
# GitHub's own trouble passes within seconds or not at all.
RETRIES = 3
# Answers that asked for a short pause, broke off or lie elsewhere are asked for again so often.
ATTEMPTS = 5
# GitHub's prices: a question with a body counts as a write, but for GraphQL.
READ_POINTS = 1
WRITE_POINTS = 5
_LIMIT_WORDS = ("rate limit", "abuse detection")
_LIMIT_TYPES = ("RATE_LIMITED", "RATE_LIMIT")
_LOGGERS = ("github.Requester", "github.GithubRetry", "urllib3.connectionpool", "urllib3.util.retry")


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
        super().__init__(
            f"{said.get(reason, 'the answer is no JSON')} ({reason}): {_cut(scrub(excerpt[:4096]), 120)}",
            where=where,
            fix="Check `base_url`; a GitHub Enterprise Server's ends in /api/v3." if reason == "html_body" else None,
        )


class GraphQLRefusedError(SourceError):
    """GraphQL errors: their `types` and the start of their `messages`; `data` is what came beside them."""

    def __init__(self, types: list[str], messages: list[str], data: dict[str, Any]) -> None:
        self.types = types
        self.messages = messages
        self.data = data
        super().__init__(f"GitHub refused a part of a query: {_cut('; '.join(messages), SHOWN_CHARACTERS)}")


class GitHubClient:
    """One organisation's door: a `Github` for each thread that asks, one budget for all.

    `timeout_seconds` is how long GitHub may be silent; its own trouble (5xx) is asked over `retries` times.
    """

    def __init__(
        self,
        credential: Credential,
        base_url: str,
        budget: Budget,
        timeout_seconds: int = TIMEOUT_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        self._credential = credential
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        # A client that is shared by threads can hand one the body that another asked for.
        self._own = _Own()
        _SCRUBBING.hide(credential)

    def __getstate__(self) -> NoReturn:
        raise TypeError("a client holds a token and is not pickled")

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None, etag: str | None = None) -> Answer:
        """Ask for a path or an absolute address of the same host; a 304 comes back as it is.

        Raises RateLimitedError, NotFoundError, RefusedError, BadBodyError, UnreachableError.
        """
        given = {name: str(value) for name, value in (parameters or {}).items()}
        headers = {"If-None-Match": etag} if etag else {}
        answer, _ = self._ask("GET", path, "core", given, headers, None)
        if answer.status != 304:
            self._decoded(answer)
        return answer

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send a question that has a body; raises what `get` raises."""
        answer, _ = self._ask("POST", path, "core", {}, {}, dict(body))
        self._decoded(answer)
        return answer

    def query(self, document: str, variables: Mapping[str, Any]) -> Answer:
        """Ask GraphQL; raises GraphQLRefusedError with the data that came beside errors, and what `get` raises."""
        until = None
        for _ in range(ATTEMPTS):
            address = self._github().requester.graphql_url
            body = {"query": document, "variables": dict(variables)}
            answer, said = self._ask("POST", address, "graphql", {}, {}, body)
            found = self._decoded(answer)
            if not isinstance(found, dict):
                raise self._bad_body("not_json", answer)
            errors = [error for error in found.get("errors") or () if isinstance(error, dict)]
            data = found.get("data")
            if any(error.get("type") in _LIMIT_TYPES for error in errors) or (data is None and _says_limit(found)):
                # It comes with status 200; the next turn waits, or says when to go on.
                until = self._budget.pause("graphql", said)
                continue
            if errors or not isinstance(data, dict):
                raise GraphQLRefusedError(
                    [str(error["type"]) for error in errors if error.get("type")],
                    [self._shown(str(error.get("message", ""))) for error in errors[:3]] or ["no data"],
                    data if isinstance(data, dict) else {},
                )
            return replace(answer, data=data)
        raise RateLimitedError("GitHub's GraphQL goes on saying that the rate limit is used up", until or _now())

    def _github(self) -> Github:
        if self._own.github is None:
            # Not PyGithub's own: that one sleeps for as long as Retry-After says. Refusals come back to us, and waiting
            # is the budget's.
            retry = Retry(
                total=self._retries,
                backoff_factor=0.2,
                status_forcelist=[500, 502, 503, 504],
                allowed_methods=["GET", "POST"],
                respect_retry_after_header=False,
                raise_on_status=False,
            )
            auth = self._credential.auth()
            self._own.github = Github(
                auth=auth,
                base_url=self._base_url,
                timeout=self._timeout_seconds,
                retry=retry,
                # A GraphQL query is a POST, which PyGithub would let pass once a second.
                seconds_between_requests=0,
                seconds_between_writes=0,
                user_agent="quarterdeck",
            )
            self._own.auth = auth
            parts = urlsplit(self._base_url)
            kind = _Http if parts.scheme == "http" else _Https
            self._own.connection = kind(parts.hostname or "", parts.port, timeout=self._timeout_seconds, retry=retry)
        return self._own.github

    def _ask(
        self,
        verb: str,
        path: str,
        resource: str,
        parameters: dict[str, str],
        headers: dict[str, str],
        body: dict[str, Any] | None,
    ) -> tuple[Answer, dict[str, str]]:
        points = WRITE_POINTS if verb == "POST" and resource == "core" else READ_POINTS
        trouble: SourceError | None = None
        for _ in range(ATTEMPTS):
            where = _place(path, parameters)
            try:
                with self._budget.turn(resource, points):
                    status, said, text = self._request(verb, path, parameters, headers, body)
            except _MovedError as moved:
                # The new address comes without the parameters; PyGithub would ask there without them.
                parameters = {**dict(parse_qsl(urlsplit(path).query)), **parameters}
                path = urljoin(self._absolute(path), moved.location)
                trouble = SourceError("GitHub sends from one address to the next without an end", where=where)
                continue
            except _BrokenOffError as broken:
                trouble = SourceError(f"GitHub's answer broke off: {self._shown(str(broken))}", where=where)
                continue
            self._budget.note(resource, said)
            if status == 429 or (status == 403 and _is_limit(said, text)):
                until = self._budget.pause(resource, said)
                trouble = RateLimitedError("GitHub goes on refusing requests for their pace", until)
                continue
            if status in (404, 410, 451):
                raise NotFoundError(f"is not there, or the credential must not see it (status {status})", where=where)
            if status in (401, 403):
                raise self._refused(status, said, text, where)
            if status not in (200, 304):
                raise SourceError(f"GitHub answered with status {status}: {self._message(text)}", where=where)
            answer = Answer(
                status,
                "" if status == 304 else text,
                where,
                said.get("etag"),
                _next(said.get("link", "")),
                _date(said.get("date")),
            )
            return answer, said
        assert trouble is not None
        raise trouble

    def _request(
        self, verb: str, path: str, parameters: dict[str, str], headers: dict[str, str], body: dict[str, Any] | None
    ) -> tuple[int, dict[str, str], str]:
        asked, here = urlsplit(self._absolute(path)).hostname, urlsplit(self._base_url).hostname
        if asked != here:
            # The credential is for one host alone.
            raise SourceError(
                f"GitHub points to another host, {asked}", where=self._base_url, fix="Check `base_url`: is it this one?"
            )
        github = self._github()
        assert self._own.auth is not None
        self._credential.live_token(self._own.auth)
        try:
            status, said, text = github.requester.requestJson(
                verb,
                path,
                parameters=dict(parameters),
                headers=dict(headers),
                input=body,
                cnx=self._own.connection,
            )
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            words, fix = _unreachable(error)
            raise UnreachableError(
                f"GitHub cannot be reached: {words}: {self._shown(str(error))}", where=self._base_url, fix=fix
            ) from None
        return status, {str(name).lower(): str(value) for name, value in said.items()}, text

    def _absolute(self, path: str) -> str:
        return f"{self._base_url}{path}" if path.startswith("/") else path

    def _refused(self, status: int, said: Mapping[str, str], text: str, where: str) -> RefusedError:
        reference = self._credential.reference
        accepted = said.get("x-accepted-github-permissions")
        scopes = said.get("x-accepted-oauth-scopes")
        if status == 401:
            fix = f"Renew {reference}: it is mistyped, expired or revoked."
        elif "x-github-sso" in said:
            fix = f"Authorize {reference} for the organization's single sign-on."
        elif accepted:
            fix = f"Give {reference} the permission {accepted[:200]}."
        elif scopes:
            has = said.get("x-oauth-scopes") or "none"
            fix = f"Give {reference} one of the scopes {scopes[:200]}; it has: {has[:200]}."
        else:
            fix = (
                f"Check {reference}: it must be allowed to read actions, attestations, contents, deployments, issues, "
                "pull requests and metadata."
            )
        return RefusedError(f"GitHub refuses it (status {status}): {self._message(text)}", where=where, fix=fix)

    def _decoded(self, answer: Answer) -> Any:
        try:
            return msgspec.json.decode(answer.body)
        except RecursionError:
            raise self._bad_body("not_json", answer) from None
        except msgspec.DecodeError as error:
            if answer.body.lstrip()[:1] == "<":
                reason = "html_body"
            else:
                reason = "json_truncated" if "truncated" in str(error) else "not_json"
            raise self._bad_body(reason, answer) from None

    def _bad_body(self, reason: str, answer: Answer) -> BadBodyError:
        return BadBodyError(reason, scrub(answer.body[:4096], self._credential.secrets()), answer.url)

    def _message(self, text: str) -> str:
        try:
            found = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return self._shown(text)[:200]
        if not isinstance(found, dict):
            return "without a message"
        errors = found.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        detail = first.get("message") if isinstance(first, dict) else first
        return self._shown(": ".join(str(part) for part in (found.get("message"), detail) if part)) or "no message"

    def _shown(self, text: str) -> str:
        # Cut after what is secret is gone: half a token would not be known as one.
        return _cut(scrub(text[: 64 * 1024], self._credential.secrets()), SHOWN_CHARACTERS)


class _Own(threading.local):
    """What each thread has for itself."""

    github: Github | None = None
    auth: Auth.Auth | None = None
    connection: _Http | _Https | None = None


class _MovedError(Exception):
    """What was asked for lies elsewhere."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(location)


class _BrokenOffError(Exception):
    """The connection ended within an answer."""


class _Http(HTTPRequestsConnectionClass):
    """PyGithub's connection, reading with care."""

    def getresponse(self) -> RequestsResponse:
        return _read(self)


class _Https(HTTPSRequestsConnectionClass):
    """PyGithub's connection over TLS, reading with care."""

    def getresponse(self) -> RequestsResponse:
        return _read(self)


class _Reply(RequestsResponse):
    """An answer that is read already."""

    def __init__(self, response: requests.Response, text: str) -> None:
        super().__init__(response)
        self._text = text

    def read(self) -> str:
        return self._text


def _read(connection: _Http | _Https) -> RequestsResponse:
    """Read an answer up to the cap; what PyGithub would do with a redirection or a 202 by itself is left to us."""
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    seconds = connection.timeout or TIMEOUT_SECONDS
    end = time.monotonic() + ATTEMPTS * seconds
    response = connection.session.request(
        connection.verb,
        f"{connection.protocol}://{host}:{connection.port}{connection.url}",
        headers=connection.headers,
        data=connection.input,
        timeout=seconds,
        verify=connection.verify,
        allow_redirects=False,
        stream=True,
    )
    body = bytearray()
    with response:
        if response.status_code in (301, 302, 307, 308) and "location" in response.headers:
            raise _MovedError(response.headers["location"])
        if response.status_code == 202:
            # PyGithub would ask again every two seconds, for ever.
            raise SourceError("GitHub is still preparing the answer (status 202)", fix="Pull again in some minutes.")
        try:
            for chunk in response.iter_content(64 * 1024):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise SourceError(f"an answer of GitHub's is longer than {MAX_BODY_BYTES:,} bytes")
                if time.monotonic() > end:
                    raise _BrokenOffError("it did not end in time")
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise _BrokenOffError(str(error)) from None
    return _Reply(response, body.decode("utf-8", "replace"))


class _Scrubbing(logging.Filter):
    """PyGithub logs whole answers, also the one that gives an app its token."""

    def __init__(self) -> None:
        super().__init__()
        self._credentials: WeakSet[Credential] = WeakSet()
        self._lock = threading.Lock()

    def hide(self, credential: Credential) -> None:
        """Keep this credential's secrets out, too."""
        with self._lock:
            self._credentials.add(credential)

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            secrets = [secret for credential in self._credentials for secret in credential.secrets()]
        record.msg, record.args = scrub(record.getMessage(), secrets), None
        return True


_SCRUBBING = _Scrubbing()
for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_SCRUBBING)


def _unreachable(error: Exception) -> tuple[str, str]:
    """What is in the way, and what to do."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted", "Let REQUESTS_CA_BUNDLE name your organization's certificates."
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not let us through", "Check HTTPS_PROXY and NO_PROXY."
    if isinstance(error, requests.Timeout):
        return "no answer in time", "Check the network and `base_url`, or try again later."
    return "the connection fails", "Check the network and `base_url`."


def _is_limit(headers: Mapping[str, str], text: str) -> bool:
    if "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0":
        return True
    return any(words in text[:4096].lower() for words in _LIMIT_WORDS)


def _says_limit(found: Mapping[str, Any]) -> bool:
    return any(words in str(found.get("message", "")).lower() for words in _LIMIT_WORDS)


def _cut(text: str, length: int) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def _place(path: str, parameters: Mapping[str, str]) -> str:
    split = urlsplit(path)
    query = "&".join(filter(None, (split.query, urlencode(parameters))))
    return scrub(f"{split.path}?{query}" if query else split.path)


def _next(link: str) -> str | None:
    for part in requests.utils.parse_header_links(link):
        if part.get("rel") == "next":
            return str(part["url"])
    return None


def _now() -> datetime:
    return datetime.now(UTC)


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, TypeError, OverflowError):
        return None
