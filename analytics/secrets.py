"""Secrets by reference only, and texts without them: what is kept, logged or published never holds one.

Source: ingestion.md section 5 (secrets).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from analytics.errors import SourceError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FILE = "file:"
_HIDDEN = "***"
# Shorter ones would be found in any text.
_SHORTEST = 6

# The texts are often JSON, whose strings write some characters as escapes: each pattern takes an escape whole or not at
# all, and no quotation mark, so that what was JSON stays JSON.
_ESCAPED = r"\\/|\\u00(?!22|26|27|3c|3e|0|1|20|5c)[0-9a-f]{2}"
_SEPARATOR = r"(?:[?&]|\\u0026|&amp;|%26|%3f)"
_PARAMETERS = (
    r"(?:sig|signature|token|jwt|(?:access|refresh|private|job|oauth|auth)_token|client_secret|password|"
    r"x-amz-[a-z-]+|x-goog-(?:signature|credential))"
)
_PATTERNS = (
    # A scheme and its value, or a value long enough to be one: "authorization: add checks" is a title.
    (
        re.compile(
            rf"(authorization(?:\\?[\"'])?\s{{0,9}}[:=]\s{{0,9}}(?:\\?[\"'])?)"
            rf"(?:(?:bearer|basic|token|digest)(?:\s|%20|\+)+(?:[\w.~+/=%-]|{_ESCAPED})+"
            rf"|(?!-?[\d.]+(?:e[+-]?\d+)?(?![\w.~+/=-]))(?:[\w.~+/=-]|{_ESCAPED}){{20,}})",
            re.I | re.A,
        ),
        r"\1***",
    ),
    (
        re.compile(
            r"gh[opsur]_(?:\d{1,20}_eyJ[\w.-]+|[A-Za-z0-9]{16,}(?:[._-][\w.-]{20,})?)|github_pat_\w{20,}"
            r"|glpat-[\w.-]{16,}",
            re.A,
        ),
        _HIDDEN,
    ),
    # Not the last digit of an escape.
    (re.compile(r"(?<!\\u[0-9a-fA-F]{3})eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", re.A), _HIDDEN),
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[A-Za-z0-9+/=\s]|\\[nr/])*(?:-----END [A-Z ]{0,30}KEY-----)?"
        ),
        _HIDDEN,
    ),
    (re.compile(r"(:(?:\\?/){2})[^/\s'\"\\?#<>]{1,500}@"), r"\1***@"),
    (
        re.compile(
            rf"({_SEPARATOR}{_PARAMETERS}(?:=|%3d|\\u003d))(?:[^&\s'\"\\<>#()\[\]{{}}]|{_ESCAPED})+",
            re.I,
        ),
        r"\1***",
    ),
)  # fmt: skip


class Secret:
    """A reference to a secret, `${NAME}` or `file:PATH`; the value is read when it is used and never kept.

    Raises ValueError for a text that is the secret itself.
    """

    __slots__ = ("reference",)

    def __init__(self, reference: str) -> None:
        if not _VARIABLE.fullmatch(reference) and not (reference.startswith(_FILE) and len(reference) > len(_FILE)):
            # The text itself is not repeated: it may be the secret.
            raise ValueError(
                'the secret itself must not stand here; write it as "${GITHUB_TOKEN}", a variable of the environment, '
                "or file:PATH"
            )
        self.reference = reference

    @property
    def variable(self) -> str | None:
        """The environment variable it refers to, if it does."""
        match = _VARIABLE.fullmatch(self.reference)
        return match[1] if match else None

    def rooted(self, base: Path) -> Secret:
        """The same with a file's path made absolute."""
        if self.variable is not None:
            return self
        return Secret(_FILE + str((base / Path(self.reference.removeprefix(_FILE)).expanduser()).resolve()))

    def reveal(self) -> str:
        """The value; raises SourceError that names the variable or file which does not give one."""
        if self.variable is not None:
            value = os.environ.get(self.variable, "").strip()
            if not value:
                raise SourceError(f"the environment variable {self.variable} is not set", fix=f"Set {self.variable}.")
            return value
        path = Path(self.reference.removeprefix(_FILE)).expanduser()
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, ValueError):
            # Without the error behind it: one of decoding holds the bytes.
            raise SourceError("the file of a secret cannot be read", where=str(path), fix="Check the path.") from None
        if not value:
            raise SourceError("the file of a secret is empty", where=str(path), fix="Write the secret into it.")
        return value

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read from text, and written as its reference."""
        return core_schema.no_info_plain_validator_function(
            _from_text,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: secret.reference),
        )


def _from_text(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    return Secret(value if isinstance(value, str) else "")


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without the given secrets and without what looks like one; JSON stays JSON.

    Tokens, private keys, passwords in URLs, signatures of signed URLs, Authorization headers.
    """
    for secret in sorted((s for s in secrets if len(s) >= _SHORTEST), key=len, reverse=True):
        # Also as JSON and as a part of a URL write it.
        for written in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
            text = text.replace(written, _HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
