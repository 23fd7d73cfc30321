"""An answer of GitHub's as a page of the port: its records, and the body they can be made from again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from analytics.secrets import scrub
from analytics.sources.github.client import Answer
from analytics.sources.github.payload_paths import Path
from analytics.sources.github.sweep import Sight
from analytics.sources.github.translate import translate
from analytics.sources.port import Answered, Page, RawRecord, Refusal, TimeWindow


def records_of(kind: str, body: str, repository: str, digest_path: Path | None = None) -> dict[str, list[RawRecord]]:
    """The records of an answer by their entity; of an empty answer there are none."""
    records: dict[str, list[RawRecord]] = {}
    if body:
        for entity, _, record, _ in translate(kind, body, repository, digest_path):
            found = records.setdefault(entity, [])
            found.append(RawRecord(len(found) + 1, msgspec.json.encode(record)))
    return records


def page_of(
    entity: str,
    sight: Sight,
    kind: str,
    answer: Answer | None,
    cursor: dict[str, Any] | None,
    *,
    body: str | None = None,
    total_count: int | None = None,
    window: TimeWindow | None = None,
    refusals: Sequence[Refusal] = (),
    digest_path: Path | None = None,
) -> Page:
    """The page of an answer; None is an answer that does not exist any more and gives a page without records.

    `body` stands for the answer's own where several answers were joined; `digest_path` is of deployments' payloads.
    """
    text = scrub(body if body is not None else answer.body if answer else "")
    records = records_of(kind, text, sight.name, digest_path)
    return Page(
        entity=entity,
        request_key=sight.database_id,
        generation=1,
        records=records.pop(entity, []),
        refusals=refusals,
        cursor=cursor,
        status=answer.status if answer else 404,
        etag=answer.etag if answer else None,
        total_count=total_count,
        others=records,
        answered=Answered(kind, scrub(answer.url), text, answer.next_url and scrub(answer.next_url))
        if answer
        else None,
        window=window,
        observed=True,
    )
