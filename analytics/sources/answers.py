"""What an API answers: read with a cap, decoded, refused with words; texts are shown without the credential.

Source: ingestion.md sections 3 (HTML with status 200) and 5 (secrets, error bodies truncated).
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import requests

from analytics.errors import SourceError
from analytics.secrets import Secret, scrub

MAX_BODY_BYTES = 64 * 1024 * 1024
TIMEOUT_SECONDS = 60
# A whole answer may take so many times as long as one wait for its next part.
_WHOLE = 5
_CHUNK_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 300


class NotThereError(SourceError):
    """There is no such thing, or the credential must not see it."""


class TooLongError(SourceError):
    """An answer is longer than what is read, or did not end in time."""


@dataclass(frozen=True)
class Host:
    """Who is asked: how its words name it, with which credential, and what to do about a refusal."""

    name: str
    secret: Secret | None
    # What the credential must be allowed to do.
    needs: str
    # What to check where something else than the API answers.
    address: str = "Check `base_url`."

    def credential(self) -> str:
        """The credential's value, empty without one; raises SourceError for characters that no token has."""
        if self.secret is None:
            return ""
        value = self.secret.reveal()
        if not value.isascii() or not value.isprintable() or " " in value:
            raise SourceError(
                f"the token of {self.secret.reference} holds characters that no token has", fix="Copy the token again."
            )
        return value

    def shown(self, said: str | bytes) -> str:
        """The beginning of what was said, on one line, without the credential."""
        text = said[:4096].decode("utf-8", "replace") if isinstance(said, bytes) else said
        try:
            secrets = [self.secret.reveal()] if self.secret is not None else []
        except SourceError:
            secrets = []
        return " ".join(scrub(text, secrets).split())[:_SHOWN_CHARACTERS]

    def kept(self, body: str) -> str:
        """A body as it may be kept: without the credential."""
        return scrub(body, [self.credential()] if self.secret is not None else [])

    def refuse(self, status: int, body: bytes, where: str) -> None:
        """Raise NotThereError or SourceError unless the status says that the body is an answer."""
        if status == 200:
            return
        said = self.shown(body)
        named = self.secret.reference if self.secret is not None else "a credential"
        if status in (404, 410):
            raise NotThereError(f"is not there, or must not be seen (status {status})", where=where)
        if 300 <= status < 400:
            raise SourceError(f"lies at another address now (status {status})", where=where, fix=self.address)
        if status == 401:
            raise SourceError(
                f"{self.name} does not accept the credential (status 401): {said}",
                where=where,
                fix=f"Renew {named}: it is mistyped, expired or revoked." if self.secret else "Give it a `token`.",
            )
        if status == 403:
            raise SourceError(
                f"{self.name} refuses it (status 403): {said}", where=where, fix=f"Give {named} {self.needs}."
            )
        raise SourceError(f"{self.name} answered with status {status}: {said}", where=where)

    def decoded(self, body: bytes, where: str) -> dict[str, Any]:
        """The JSON object of a body; raises SourceError with the reason where it is none."""
        try:
            found = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            reason = "html_body" if body.lstrip()[:1] == b"<" else "json_truncated"
            raise SourceError(
                f"the answer is no JSON ({reason}): {self.shown(body[:200])}", where=where, fix=self.address
            ) from None
        if not isinstance(found, dict):
            raise SourceError("the answer is no JSON object", where=where, fix=self.address)
        return found

    def list_of(self, answer: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
        """The records of an answer's list; raises SourceError where there is none."""
        found = answer.get(name)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise SourceError(f"the answer holds no list of records '{name}'", where=where, fix=self.address)
        return found


def joined(chunks: Iterable[bytes], timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """A whole body of its parts; raises TooLongError past the cap in size or in time."""
    end = time.monotonic() + _WHOLE * timeout_seconds
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLongError(f"an answer is longer than {MAX_BODY_BYTES:,} bytes")
        if time.monotonic() > end:
            raise TooLongError("an answer did not end in time")
    return bytes(body)


def read_whole(response: requests.Response, *_: Any, **__: Any) -> requests.Response:
    """A hook for sessions of requests: reads every answer up to the cap before anything else looks at it."""

    def chunks() -> Iterator[bytes]:
        try:
            yield from response.iter_content(_CHUNK_BYTES)
        finally:
            response.close()

    read = requests.Response()
    read.status_code, read.headers, read.url = response.status_code, response.headers, response.url
    read.reason, read.request, read.history = response.reason, response.request, response.history
    read.encoding = response.encoding
    read.raw = io.BytesIO(joined(chunks()))
    return read
