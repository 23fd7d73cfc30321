"""The port behind which every provider stands: what it offers, and pages of raw records since a cursor.

Source: ingestion.md section 2. A provider never judges a record's meaning; it says where each one stood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

Cursor = Mapping[str, Any]


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as it was found: its JSON text and the line (or index) it stood on.

    A struct because millions are made: a dataclass takes six times as long.
    """

    line: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record, or a whole file (line 0), that cannot be read as one; it goes to quarantine.

    `reason` is a code of ingestion.md section 5 (json_truncated, line_too_long, unknown_entity, …).
    """

    line: int
    reason: str
    detail: str
    excerpt: bytes = b""
    sha256: str | None = None


@dataclass(frozen=True)
class Page:
    """Records that are landed in one transaction together with the cursor that follows them."""

    entity: str
    request_key: str
    generation: int
    records: Sequence[RawRecord]
    refusals: Sequence[Refusal]
    cursor: Cursor
    status: int | None = None
    etag: str | None = None
    sha256: str | None = None
    total_count: int | None = None
    # Quarantine entries of this request and generation behind this line were provisional: a longer file replaces them.
    forget_refusals_after_line: int | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a provider can give: its entities, and whether it can read single records again by id."""

    entities: frozenset[str]
    refresh: bool = False


@dataclass(frozen=True)
class Collected:
    """Entities that a provider offers now, even when they hold no record, and the requests (files) behind each."""

    requests: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Provider(Protocol):
    """One configured source."""

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        ...

    def capabilities(self) -> Capabilities:
        """What this provider can give."""
        ...

    def discover(self) -> Collected:
        """What is there to read; raises SourceError when the source as a whole cannot be read."""
        ...

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages after the cursor (from the beginning when None); an unchanged request yields nothing."""
        ...
