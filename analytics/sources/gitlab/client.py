"""Asking GitLab through python-gitlab: raw texts come back, and every way of failing has a name.

Source: ingestion.md sections 3 and 5, whose rules for GitHub hold here as well: one client for each thread, answers
with a cap, a pause that is said instead of slept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec
import requests
from gitlab import Gitlab
from gitlab.exceptions import GitlabError

from analytics.errors import SourceError, UnreachableError
from analytics.secrets import Secret, scrub
from analytics.sources.answers import TIMEOUT_SECONDS, NotThereError, TooLongError, read_whole
from analytics.sources.limits import Budget, RateLimitedError

RETRIES = 3
# Answers that asked for a short pause are asked for again so often.
ATTEMPTS = 5
# What gitlab.com allows a user in a minute is 2,000; other instances say what they allow when they refuse.
POINTS_PER_MINUTE = 1500
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Answer:
    """A list or a mapping as GitLab sent it, and how many items the whole list has where GitLab counted them."""

    data: Any
    url: str
    total: int | None = None


class GitLabClient:
    """One group's door: a `Gitlab` for each thread that asks, one budget for all."""

    def __init__(
        self,
        token: Secret,
        base_url: str,
        budget: Budget,
        timeout_seconds: int = TIMEOUT_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        self._token = token
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._own = _Own()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a client holds a token and is not pickled")

    def get(self, path: str, parameters: Mapping[str, str | int | bool] | None = None) -> Answer:
        """Ask for a path below /api/v4.

        Raises RateLimitedError with the time at which to go on, NotThereError, UnreachableError, and SourceError for
        every other refusal and for a body that is no JSON.
        """
        where = f"{self._base_url}{path}"
        until = None
        for _ in range(ATTEMPTS):
            with self._budget.turn("core"):
                status, headers, body = self._request(path, dict(parameters or {}), where)
            said = {f"x-{name}" if name.startswith("ratelimit-") else name: text for name, text in headers.items()}
            self._budget.note("core", said)
            if status == 429:
                until = self._budget.pause("core", said)
                continue
            self._refuse(status, body, where)
            total = headers.get("x-total", "")
            return Answer(self._decoded(body, where), where, int(total) if total.isdigit() else None)
        assert until is not None
        raise RateLimitedError("GitLab goes on refusing requests for their pace", until)

    def _request(self, path: str, parameters: dict[str, Any], where: str) -> tuple[int, dict[str, str], bytes]:
        asking = self._asking()
        try:
            answer = asking.http_request(
                "get",
                path,
                parameters,
                # Else a pause is slept through, however long it is.
                obey_rate_limit=False,
                retry_transient_errors=True,
                max_retries=self._retries,
            )
            status, body = answer.status_code, answer.content
        except GitlabError as error:
            # The headers of a refusal are not in the exception; they were read when it came.
            status, body = error.response_code or 0, _bytes(error.response_body)
        except requests.TooManyRedirects:
            raise SourceError("lies at another address now", where=where, fix="Check `base_url` and names.") from None
        except TooLongError as error:
            raise SourceError(error.what, where=where) from None
        except (requests.RequestException, OSError) as error:
            raise UnreachableError(
                f"GitLab cannot be reached: {self._shown(str(error))}",
                where=self._base_url,
                fix="Check the network and `base_url`.",
            ) from None
        return status, self._own.headers, body

    def _asking(self) -> Gitlab:
        if self._own.gitlab is None:
            value = self._token.reveal()
            if not value.isascii() or not value.isprintable() or " " in value:
                raise SourceError(
                    f"the token of {self._token.reference} holds characters that no token has",
                    fix="Copy the token again.",
                )
            session = requests.Session()
            # Projects are asked for by id, which never moves; a token is not taken to where an answer points.
            session.max_redirects = 0
            session.hooks["response"].append(self._read)
            self._own.gitlab = Gitlab(
                self._base_url,
                oauth_token=value,
                timeout=self._timeout_seconds,
                session=session,
                user_agent="quarterdeck",
                # Their texts go to where an answer says they are.
                keep_base_url=True,
            )
        return self._own.gitlab

    def _read(self, response: requests.Response, *_: Any, **__: Any) -> requests.Response:
        """Read every answer up to the cap before the library looks at it, and keep its headers."""
        read = read_whole(response)
        self._own.headers = {name.lower(): text for name, text in read.headers.items()}
        return read

    def _refuse(self, status: int, body: bytes, where: str) -> None:
        if status in (200, 201):
            return
        said = self._shown(body[:4096].decode("utf-8", "replace"))
        if status in (404, 410):
            raise NotThereError(f"is not there, or the token must not see it (status {status})", where=where)
        if status == 401:
            raise SourceError(
                f"GitLab does not accept the token (status 401): {said}",
                where=where,
                fix=f"Renew {self._token.reference}: it is mistyped, expired or revoked.",
            )
        if status == 403:
            raise SourceError(
                f"GitLab refuses it (status 403): {said}",
                where=where,
                fix=f"Give {self._token.reference} the scope read_api and the role Reporter in the group.",
            )
        raise SourceError(f"GitLab answered with status {status}: {said}", where=where)

    def _decoded(self, body: bytes, where: str) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            reason = "html_body" if body.lstrip()[:1] == b"<" else "json_truncated"
            raise SourceError(
                f"the answer is no JSON ({reason}): {self._shown(body[:200].decode('utf-8', 'replace'))}",
                where=where,
                fix="Check `base_url`: it is the address of the instance, without /api/v4.",
            ) from None

    def _shown(self, text: str) -> str:
        try:
            secrets = [self._token.reveal()]
        except SourceError:
            secrets = []
        return " ".join(scrub(text, secrets).split())[:_SHOWN_CHARACTERS]


class _Own(threading.local):
    """What each thread has for itself: its client, and the headers of the answer that came last."""

    gitlab: Gitlab | None = None
    headers: dict[str, str] = {}


def _bytes(body: object) -> bytes:
    return body if isinstance(body, bytes) else str(body or "").encode()
