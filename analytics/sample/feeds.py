"""Feed files in the formats that contract.md section 4 allows, written so that a reader never sees half of one.

Equal bytes leave a file untouched, so that writing the same sample again changes nothing at all.
"""

from __future__ import annotations

import csv
import filecmp
import gzip
import io
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import polars as pl

from analytics.sample.book import RawLine
from analytics.sources.entities import ENTITIES, Record

# Feed to file; a feed is an entity, or a part of one.
FEEDS = {
    "commits": "commits.jsonl",
    "pull_requests": "pull_requests.jsonl",
    "reviews": "reviews.jsonl",
    "pipeline_runs": "pipeline_runs.jsonl",
    "pipeline_jobs": "pipeline_jobs.jsonl.gz",
    "deployments": "deployments.jsonl",
    "incidents/pager": "incidents/pager.jsonl",
    "incidents/tickets": "incidents/tickets.jsonl",
    "artifacts": "artifacts.jsonl",
    "attestations": "attestations.jsonl",
    "sboms": "sboms.jsonl",
    "checks": "checks.jsonl",
    "drills": "drills.jsonl",
    "slo_samples": "slo_samples.parquet",
    "gate_results": "gate_results.jsonl",
    "approvals": "approvals.jsonl",
    "survey_responses": "survey_responses.csv",
    "tags": "tags.jsonl",
    "releases": "releases.jsonl",
    "file_revisions": "file_revisions.jsonl",
}


def entity_of(feed: str) -> str:
    """The entity that a feed holds."""
    return feed.split("/")[0]


class _Writer(Protocol):
    def write(self, record: Record | RawLine) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        # No name and no time in the header: the same content gives the same bytes.
        self._out: BinaryIO | gzip.GzipFile = (
            gzip.GzipFile("", "wb", 6, self._file, mtime=0) if path.suffix == ".gz" else self._file
        )
        self._encoder = msgspec.json.Encoder()

    def write(self, record: Record | RawLine) -> None:
        if isinstance(record, RawLine):
            self._out.write(record.text.encode() + b"\n")
        else:
            values = {name: value for name, value in msgspec.structs.asdict(record).items() if value is not None}
            self._out.write(self._encoder.encode(values) + b"\n")

    def close(self) -> None:
        self._out.close()
        self._file.close()


class _Csv:
    def __init__(self, path: Path, entity: str) -> None:
        self._file = io.TextIOWrapper(path.open("wb"), encoding="utf-8", newline="")
        self._out = csv.writer(self._file, lineterminator="\n")
        self._names = [name for name in ENTITIES[entity].columns if name != "updated_at"]
        self._out.writerow(self._names)

    def write(self, record: Record | RawLine) -> None:
        assert isinstance(record, Record)
        self._out.writerow([_cell(getattr(record, name)) for name in self._names])

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """Collects columns; used for a feed of few bytes a row."""

    def __init__(self, path: Path, entity: str) -> None:
        self._path = path
        kinds: dict[str, Any] = {"TIMESTAMP": pl.Datetime("us", "UTC"), "DOUBLE": pl.Float64}
        columns = ENTITIES[entity].columns
        self._schema = {name: kinds.get(kind, pl.String()) for name, kind in columns.items() if name != "updated_at"}
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema}

    def write(self, record: Record | RawLine) -> None:
        for name, column in self._columns.items():
            column.append(getattr(record, name))

    def close(self) -> None:
        pl.DataFrame(self._columns, schema=self._schema).write_parquet(self._path)


def _cell(value: object) -> object:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


class Feeds:
    """Open feed files, with the lines that each entity has got."""

    def __init__(self, folder: Path) -> None:
        self.lines: Counter[str] = Counter()
        self._in_file: Counter[str] = Counter()
        self._writers: dict[str, _Writer] = {}
        for feed, name in FEEDS.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".csv":
                self._writers[feed] = _Csv(path, entity_of(feed))
            elif path.suffix == ".parquet":
                self._writers[feed] = _Parquet(path, entity_of(feed))
            else:
                self._writers[feed] = _JsonLines(path)

    def write(self, feed: str, record: Record | RawLine) -> int:
        """Append a record; returns its number in the file, counted from 1."""
        self._writers[feed].write(record)
        self.lines[entity_of(feed)] += 1
        self._in_file[feed] += 1
        return self._in_file[feed]

    def close(self) -> None:
        """Finish every file."""
        for writer in self._writers.values():
            writer.close()


@contextmanager
def open_feeds(folder: Path) -> Iterator[Feeds]:
    """Feed files that take the place of the old ones when everything has been written."""
    draft = folder / ".writing"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        feeds = Feeds(draft)
        try:
            yield feeds
        finally:
            feeds.close()
        for name in FEEDS.values():
            replace_if_different(draft / name, folder / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def replace_if_different(new: Path, old: Path) -> None:
    """Move a file over another one unless both hold the same bytes."""
    if old.is_file() and filecmp.cmp(new, old, shallow=False):
        return
    old.parent.mkdir(parents=True, exist_ok=True)
    new.replace(old)
