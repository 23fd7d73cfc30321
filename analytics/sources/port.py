"""The port behind which every provider stands: what it offers, and pages of raw records since a cursor.

Source: ingestion.md section 2. A provider never judges a record's meaning; it says where each one stood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

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


@dataclass(frozen=True, slots=True)
class Answered:
    """What an API answered behind a page, kept so that its records can be made again without asking.

    `kind` names how the body is translated; `request` and `body` hold no secret.
    """

    kind: str
    request: str
    body: str
    next_url: str | None = None


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The span of `occurred_at` (aware, both ends inside) that a page's `total_count` speaks of; None has no end."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A single record to be read again: the request it belongs to and its id there (a run's attempt apart)."""

    request_key: str
    native_id: str
    attempt: int | None = None


@dataclass(frozen=True)
class Page:
    """Records that are landed in one transaction together with the cursor that follows them."""

    entity: str
    request_key: str
    generation: int
    records: Sequence[RawRecord]
    refusals: Sequence[Refusal]
    # None leaves the request's cursor as it is.
    cursor: Cursor | None
    status: int | None = None
    etag: str | None = None
    sha256: str | None = None
    total_count: int | None = None
    # Quarantine entries of this request and generation behind this line were provisional: a longer file replaces them.
    forget_refusals_after_line: int | None = None
    # Records of further entities that came in the same answer (the reviews of a pull request).
    others: Mapping[str, Sequence[RawRecord]] = field(default_factory=dict)
    answered: Answered | None = None
    window: TimeWindow | None = None
    # What an API shows is looked at again and again: a record that is as it was when last landed is not landed again.
    observed: bool = False


@dataclass(frozen=True)
class Capabilities:
    """What a provider can give: its entities, those it can read again by id, and requests it answers side by side."""

    entities: frozenset[str]
    refresh: frozenset[str] = frozenset()
    workers: int = 1


@dataclass(frozen=True)
class Collected:
    """Entities that a provider offers now, even when they hold no record, and the requests (files) behind each.

    `names` gives the repository behind a request whose key is an id; a name that changes is followed.
    """

    requests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


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


@runtime_checkable
class Refreshing(Protocol):
    """A provider that can read single records again: those that were not settled, and those no list shows."""

    def refresh(self, entity: str, wanted: Sequence[Wanted]) -> Iterator[Page]:
        """Pages with the wanted records as they are now; their cursors are those given by `changes`, left alone."""
        ...
