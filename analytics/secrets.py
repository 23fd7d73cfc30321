"""Secrets by reference only, and texts without them: what is kept, logged or published never holds one.

Source: ingestion.md section 5 (secrets).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from analytics.errors import SourceError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FILE = "file:"
_HIDDEN = "***"
_PATTERNS = (
    (
        re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic|token)\s+)?[A-Za-z0-9._~+/=-]+", re.I),
        r"\1***",
    ),
    (re.compile(r"\b(?:gh[opsur]_[A-Za-z0-9]{16,}|github_pat_\w{20,}|glpat-[\w-]{16,})"), _HIDDEN),
    (re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"), _HIDDEN),
    (re.compile(r"(://)[^/\s'\"\\@]{1,500}@"), r"\1***@"),
    (
        re.compile(
            r"([?&](?:sig|signature|token|access_token|jwt|x-amz-signature|x-amz-credential|x-amz-security-token|"
            r"x-goog-signature)=)[^&\s'\"\\<>#]+",
            re.I,
        ),
        r"\1***",
    ),
)  # fmt: skip


class Secret:
    """A reference to a secret, `${NAME}` or `file:PATH`; the value is read when it is used and never kept.

    Raises ValueError for a text that is the secret itself.
    """

    def __init__(self, reference: str) -> None:
        if not _VARIABLE.fullmatch(reference) and not (reference.startswith(_FILE) and len(reference) > len(_FILE)):
            # The text itself is not repeated: it may be the secret.
            raise ValueError("write a reference, ${NAME} of the environment or file:PATH, never the secret itself")
        self.reference = reference

    @property
    def variable(self) -> str | None:
        """The environment variable it refers to, if it does."""
        match = _VARIABLE.fullmatch(self.reference)
        return match[1] if match else None

    def reveal(self) -> str:
        """The value; raises SourceError that names the variable or file which does not give one."""
        if self.variable is not None:
            value = os.environ.get(self.variable, "")
            if not value:
                raise SourceError(f"the environment variable {self.variable} is not set", fix=f"Set {self.variable}.")
            return value
        path = Path(self.reference.removeprefix(_FILE)).expanduser()
        try:
            return path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError("the file of a secret cannot be read", where=str(path), fix="Check the path.") from error

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read from text, and written as its reference."""

        def read(value: Any) -> Secret:
            return value if isinstance(value, Secret) else cls(str(value))

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: secret.reference)
        )


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without the given secrets and without what looks like one: tokens, signed URLs, Authorization headers."""
    for secret in sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
