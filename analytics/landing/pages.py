"""A page told apart: what may land, and what is refused with its reason, hash and beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from analytics.landing.judge import Fault, judge_for
from analytics.sources.port import Page, RawRecord, Refusal

EXCERPT_BYTES = 2048
# A refused record up to this size is kept whole, for a later version to judge again.
KEPT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refused:
    """One row of quarantine."""

    line: int
    reason: str
    json_path: str | None
    detail: str
    sha256: str | None
    excerpt: str
    payload: str | None


@dataclass
class JudgedPart:
    """A page's records of one entity: `lines` and `payloads` may land, the rest is refused."""

    entity: str
    lines: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


@dataclass
class JudgedPage:
    """A page whose records were judged; the first part is of the page's own entity."""

    page: Page
    parts: list[JudgedPart]


def judge_page(page: Page) -> JudgedPage:
    """Judge every record of a page; needs no store, so that it can run beside the writing of the page before."""
    own = _judge(page.entity, page.records)
    own.refused[:0] = [_refusal(refusal) for refusal in page.refusals]
    return JudgedPage(page, [own, *(_judge(entity, records) for entity, records in page.others.items())])


def _judge(entity: str, records: Sequence[RawRecord]) -> JudgedPart:
    part = JudgedPart(entity)
    if not records:
        return part
    judge = judge_for(entity)
    take_line, take_payload = part.lines.append, part.payloads.append
    for record in records:
        fault = judge(record.payload)
        if fault is None:
            take_line(record.line)
            take_payload(record.payload)
        else:
            part.refused.append(refused(record.line, fault, record.payload))
    return part


def refused(line: int, fault: Fault, payload: bytes) -> Refused:
    """A refused record with its hash, its beginning, and the whole of it where that is small and text."""
    kept: str | None = None
    if len(payload) <= KEPT_BYTES:
        with suppress(UnicodeDecodeError):
            kept = payload.decode()
    digest = hashlib.sha256(payload).hexdigest()
    return Refused(line, fault.reason, fault.json_path, _cut(fault.detail), digest, excerpt(payload), kept)


def _refusal(refusal: Refusal) -> Refused:
    digest = refusal.sha256
    return Refused(refusal.line, refusal.reason, None, _cut(refusal.detail), digest, excerpt(refusal.excerpt), None)


def _cut(detail: str) -> str:
    return excerpt(detail.encode("utf-8", "replace"))


def excerpt(data: bytes) -> str:
    """The first 2 KB of something, as text."""
    text = data[:EXCERPT_BYTES].decode("utf-8", "replace")
    return text.encode()[:EXCERPT_BYTES].decode("utf-8", "ignore")
