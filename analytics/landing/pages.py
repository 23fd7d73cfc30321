"""A page told apart: what may land, and what is refused with its reason, hash and beginning."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field

from analytics.landing.judge import Fault, judge_for
from analytics.sources.port import Page, Refusal

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
class JudgedPage:
    """A page whose records were judged: `lines` and `payloads` may land, the rest is refused."""

    page: Page
    lines: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def judge_page(page: Page) -> JudgedPage:
    """Judge every record of a page; needs no store, so that it can run beside the writing of the page before."""
    judged = JudgedPage(page, refused=[_refusal(refusal) for refusal in page.refusals])
    if not page.records:
        return judged
    judge = judge_for(page.entity)
    take_line, take_payload = judged.lines.append, judged.payloads.append
    for record in page.records:
        fault = judge(record.payload)
        if fault is None:
            take_line(record.line)
            take_payload(record.payload)
        else:
            judged.refused.append(refused(record.line, fault, record.payload))
    return judged


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
