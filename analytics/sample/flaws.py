"""Records that are wrong on purpose, so that quarantine, coverage and replacement have something to show.

Source: ingestion.md section 4 (runs change after they are first seen) and section 5 (quarantine).
"""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec

from analytics.sample.book import Book, RawLine
from analytics.sample.mishaps import PAGER
from analytics.sample.organisation import OWNER
from analytics.sample.timeline import HOUR, Timeline, utc
from analytics.sources.entities import Deployment, PipelineRun, Record


def spoil(book: Book, repository: str, timeline: Timeline) -> None:
    """Insert five lines that cannot be read into the feeds of one repository."""
    at = utc(timeline.end - 40 * HOUR * 24).isoformat().replace("+00:00", "Z")
    naive = at.removesuffix("Z")
    deployment = json.dumps(
        {
            "deployment_id": "cut-1",
            "repository": repository,
            "environment": "production",
            "sha": "0" * 40,
            "created_at": at,
        }
    )
    _insert(
        book,
        PAGER,
        json.dumps({"incident_id": "PNAIVE1", "title": "Written by a script", "opened_at": naive}),
        "a time without an offset",
    )
    _insert(book, "deployments", deployment[:-30], "a line cut off in the middle")
    _insert(
        book,
        "pipeline_runs",
        json.dumps(
            {
                "repository": repository,
                "attempt": 1,
                "workflow": "ci.yml",
                "head_sha": "0" * 40,
                "status": "completed",
                "created_at": at,
            }
        ),
        "a record without its run_id",
    )
    _insert(
        book,
        "pull_requests",
        json.dumps({"repository": repository, "number": "twelve", "created_at": at}),
        "a number written as a word",
    )
    _insert(book, "checks", "<html><body>502 Bad Gateway</body></html>", "a proxy's error page")


def _insert(book: Book, feed: str, text: str, reason: str) -> None:
    lines = book.records[feed]
    lines.insert(min(len(lines), 7), RawLine(text, reason))


def repeat_earlier_versions(book: Book) -> None:
    """Write some records twice, as they were while in progress and as they ended; the later `updated_at` wins.

    Every second time the outdated version stands behind the final one, as when an old
    export is added late.
    """
    repeats = {"pipeline_runs": 0, "deployments": 0}
    for feed, every in (("pipeline_runs", 1499), ("deployments", 97)):
        lines: list[Record | RawLine] = []
        for record in book.records[feed]:
            # By its number and not by its place, so that a further service changes nothing for the others.
            versions = _versions(record) if _number(record) % every == 50 else None
            if versions is None:
                lines.append(record)
                continue
            repeats[feed] += 1
            lines += versions if repeats[feed] % 2 else versions[::-1]
            book.plant("written_twice", _number(record))
        book.records[feed] = lines


def _versions(record: Record | RawLine) -> list[Record | RawLine] | None:
    """A record as it was in progress and as it ended, each with the time at which it was read."""
    if isinstance(record, PipelineRun) and record.completed_at is not None:
        return [
            msgspec.structs.replace(
                record,
                status="in_progress",
                conclusion=None,
                completed_at=None,
                updated_at=record.started_at,
            ),
            msgspec.structs.replace(record, updated_at=record.completed_at + timedelta(seconds=5)),
        ]
    if not isinstance(record, Deployment):
        return None
    if record.status == "success" and record.finished_at is not None:
        return [
            msgspec.structs.replace(record, status="in_progress", finished_at=None, updated_at=record.started_at),
            msgspec.structs.replace(record, updated_at=record.finished_at),
        ]
    if record.statuses and record.statuses[-1].state in ("success", "inactive"):
        return [
            msgspec.structs.replace(record, statuses=record.statuses[:2], updated_at=record.statuses[1].at),
            msgspec.structs.replace(record, updated_at=record.statuses[-1].at),
        ]
    return None


def _number(record: Record | RawLine) -> int:
    name = record.run_id if isinstance(record, PipelineRun) else getattr(record, "deployment_id", 0)
    return name if isinstance(name, int) else 0


def strangers(timeline: Timeline) -> Book:
    """Deployments of a repository that no catalog entry names."""
    book = Book()
    for number in range(1, 4):
        at = timeline.end - number * 9 * 24 * HOUR
        book.add(
            "deployments",
            Deployment(
                deployment_id=f"wiki-{number}",
                repository=f"{OWNER}/office-wiki",
                environment="production",
                sha=f"{number:040x}",
                status="success",
                created_at=utc(at),
                finished_at=utc(at + 300),
            ),
        )
        book.plant("undeclared_repository", f"wiki-{number}")
    return book
