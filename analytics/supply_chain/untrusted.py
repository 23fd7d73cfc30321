"""Reading bytes that a stranger wrote: JSON and base64, each with its caps.

What passes here is bounded in size, depth and number of values, says each thing once, and can be written as UTF-8.
A document that two parsers could read differently is refused: the verifier would judge one and a person see the other.
"""

from __future__ import annotations

import binascii
import json
import math
from collections import Counter
from typing import Any, NoReturn

from analytics.errors import QuarterdeckError

MAX_BYTES = 16 * 1024 * 1024
# Bundles nest 7 levels, GitHub's event payloads inside provenance about 10.
MAX_DEPTH = 64
# Counted before parsing, as brackets and commas: a million empty lists would take 64 MB of memory.
MAX_VALUES = 1_000_000
_CONTAINERS = (dict, list)


class UntrustedInputError(QuarterdeckError):
    """Bytes that cannot be read as what they should be, or that break a cap."""


class NotJsonError(UntrustedInputError):
    """Bytes that are no JSON at all; `why` is the parser's word."""

    def __init__(self, what: str, why: str = "") -> None:
        super().__init__(what)
        self.why = why


def parse_json(raw: bytes, *, what: str = "document") -> Any:
    """The JSON value in `raw`.

    Raises UntrustedInputError for more than MAX_BYTES, MAX_DEPTH or MAX_VALUES, a key given twice, numbers that JSON
    does not have, text that is not UTF-8, and anything else that is not one JSON value.
    """
    if len(raw) > MAX_BYTES:
        raise UntrustedInputError(f"The {what} has {len(raw)} bytes, more than the {MAX_BYTES} that are read.")
    # Each value takes a byte at least.
    if len(raw) > MAX_VALUES and raw.count(b"{") + raw.count(b"[") + raw.count(b",") > MAX_VALUES:
        raise UntrustedInputError(f"The {what} has more than {MAX_VALUES} values.")
    try:
        value = json.loads(
            raw.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
        if b"\\u" in raw:
            # Half of a surrogate pair can be written as an escape only, and never again as UTF-8.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UntrustedInputError as error:
        raise UntrustedInputError(f"The {what} {error.what}") from None
    except RecursionError:
        raise UntrustedInputError(f"The {what} nests deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        why = printable(error)
        raise NotJsonError(f"The {what} is not JSON: {why}.", why) from None
    # Without that many brackets there is no such depth, and most bundles have a dozen.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise UntrustedInputError(f"The {what} nests deeper than {MAX_DEPTH} levels.")
    return value


def compact(value: Any) -> bytes:
    """`value` as the one JSON text that is hashed and handed on, whatever text it was read from."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def json_text(value: Any) -> str:
    """`value` as the JSON text that a library is given: what was parsed here, so that both see the same document."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def decode_base64(text: Any, *, what: str) -> bytes:
    """The bytes behind standard base64 in its one canonical spelling; raises UntrustedInputError for any other."""
    if not isinstance(text, str):
        raise UntrustedInputError(f"The {what} is missing or not base64 text.")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise UntrustedInputError(f"The {what} is not base64.") from None
    # A strict decoder leaves freedoms: the bits of the last character that no byte needs, padding that none asks for.
    if binascii.b2a_base64(data, newline=False) != text.encode("ascii"):
        raise UntrustedInputError(f"The {what} is base64 in a second spelling of the same bytes.")
    return data


def printable(value: object, limit: int = 200) -> str:
    """Untrusted text for a sentence: one line, no control characters, at most `limit` characters."""
    # Cut first: the text may be megabytes.
    text = str(value)[: limit + 1]
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(
        character if character.isprintable() else " " if character in "\r\n\t" else "�" for character in text
    )
    return shown[:limit] + "…" if len(text) > limit else shown


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise UntrustedInputError(f"gives the key “{printable(twice)}” twice.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _deeper_than(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, _CONTAINERS)
        ]
        if not level:
            return False
    return True
