"""Pages of one feed file since a cursor: tails of growing JSONL, and whole files that changed.

A cursor remembers how much was read, a hash of it, and the file's size, times and inode. Plain JSONL is resumed behind
the bytes already read when they are still the same; the other formats have no stable place inside a changed file, so
their unit is the whole file, and a cursor only remembers how far a pull came before it was ended.
"""

from __future__ import annotations

import enum
import gzip
import hashlib
import io
import logging
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from analytics.sources.csv_cells import BadHeaderError, read_csv
from analytics.sources.entities import ENTITIES
from analytics.sources.feed_lines import EXCERPT_BYTES, MAX_LINE_BYTES, ByteLines, LongLine, bounded_lines
from analytics.sources.parquet_rows import BadParquetError, read_parquet
from analytics.sources.port import Cursor, Page, RawRecord, Refusal
from analytics.sources.sarif_gates import MAX_FILE_BYTES, BadSarifError, Level, gate_results

PAGE_RECORDS = 50_000
PAGE_BYTES = 64 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
# Lines of JSON shrink to a tenth or a thirtieth, a bomb to a thousandth. One long line is passed over quickly and is
# refused alone; of a bomb of newlines each line takes its time, where a line of a feed takes some compressed bytes.
MAX_GZIP_RATIO = 200
_GZIP_BYTES_AT_LEAST = 1024 * 1024 * 1024
_MAX_LINES_A_BYTE = 2
_GZIP_LINES_AT_LEAST = 1_000_000
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_WHITE = b" \t\r\n"
# A file changed so shortly before it was read may be changed again within the same tick of its file system's clock.
_TICK_NS = 2_000_000_000
_logger = logging.getLogger(__name__)


class FeedKind(enum.Enum):
    """The format of a feed file."""

    JSONL = "jsonl"
    JSONL_GZ = "jsonl.gz"
    CSV = "csv"
    CSV_GZ = "csv.gz"
    PARQUET = "parquet"
    SARIF = "sarif"


@dataclass(frozen=True)
class Feed:
    """One file of the feed; in a SARIF file, results from level `blocks_at` on block."""

    entity: str
    key: str
    path: Path
    kind: FeedKind
    blocks_at: Level = "error"


@dataclass
class _Batch:
    """What goes into the next page."""

    records: list[RawRecord] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    size_bytes: int = 0

    def is_full(self) -> bool:
        return len(self.records) >= PAGE_RECORDS or self.size_bytes >= PAGE_BYTES or len(self.refusals) >= PAGE_RECORDS

    def page(self, feed: Feed, generation: int, cursor: Cursor, forget_after: int | None = None) -> Page:
        """The page of what was gathered; the batch begins anew."""
        page = Page(
            entity=feed.entity,
            request_key=feed.key,
            generation=generation,
            records=self.records,
            refusals=self.refusals,
            cursor=cursor,
            sha256=cursor.get("sha256"),
            forget_refusals_after_line=forget_after,
        )
        self.records, self.refusals, self.size_bytes = [], [], 0
        return page


def _open(path: Path) -> io.BufferedReader:
    return io.BufferedReader(io.FileIO(path), _BUFFER_BYTES)


def _fingerprint(file: io.BufferedReader) -> dict[str, int]:
    info = os.fstat(file.fileno())
    return {
        "size": info.st_size,
        "mtime_ns": info.st_mtime_ns,
        "ctime_ns": info.st_ctime_ns,
        "inode": info.st_ino,
        "read_ns": time.time_ns(),
    }


def _looks_unchanged(cursor: Cursor, fingerprint: dict[str, int]) -> bool:
    if not cursor.get("complete"):
        return False
    if any(cursor.get(key) != fingerprint[key] for key in ("size", "mtime_ns", "ctime_ns", "inode")):
        return False
    return max(fingerprint["mtime_ns"], fingerprint["ctime_ns"]) < int(cursor["read_ns"]) - _TICK_NS


def _hash_next(file: io.BufferedReader, size: int, digest: hashlib._Hash) -> None:
    while size > 0 and (block := file.read(min(size, _BUFFER_BYTES))):
        digest.update(block)
        size -= len(block)


def _readable_again(feed: Feed, cursor: Cursor) -> Iterator[Page]:
    """Lift a refusal of the whole file that no longer holds."""
    if "refused" in cursor:
        kept = {key: value for key, value in cursor.items() if key != "refused"}
        yield _Batch().page(feed, int(cursor["generation"]), kept)


@dataclass
class _Place:
    """Where reading of a JSONL file stands; `unended` says that the last line read had no newline yet."""

    generation: int
    offset: int = 0
    lines: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    unended: bool = False
    resumed: bool = False

    def take(self, data: bytes) -> None:
        self.digest.update(data)
        self.offset += len(data)


def jsonl_pages(feed: Feed, cursor: Cursor | None) -> Iterator[Page]:
    """Pages of a plain JSONL file: its tail when it grew, all of it as a new generation when it was rewritten."""
    with _open(feed.path) as file:
        fingerprint = _fingerprint(file)
        place = _place(file, fingerprint, cursor)
        if place is None:
            assert cursor is not None
            yield from _readable_again(feed, cursor)
            return
        _logger.info("reading %s, generation %d, from line %d", feed.path, place.generation, place.lines + 1)
        if place.offset == 0 and file.peek(2)[:2] in _UTF_16:
            digest = hashlib.sha256()
            _hash_next(file, fingerprint["size"], digest)
            batch = _Batch(refusals=[Refusal(0, "not_utf8", "the file is UTF-16; save it as UTF-8")])
            tail = {"tail_bytes": fingerprint["size"], "tail_sha256": digest.hexdigest()}
            yield batch.page(feed, place.generation, _jsonl_cursor(place, fingerprint, complete=True) | tail)
            return
        yield from _read_jsonl(feed, file, fingerprint, place)


def _place(file: io.BufferedReader, fingerprint: dict[str, int], cursor: Cursor | None) -> _Place | None:
    """Where to go on, or None when there is nothing new."""
    if cursor is None or "sha256" not in cursor:
        return _Place(int(cursor["generation"]) if cursor else 1)
    if _looks_unchanged(cursor, fingerprint):
        return None
    rest = fingerprint["size"] - cursor["bytes"]
    place = _Place(int(cursor["generation"]), int(cursor["bytes"]), int(cursor["lines"]), resumed=True)
    if rest >= 0:
        _hash_next(file, place.offset, place.digest)
        if place.digest.hexdigest() == cursor["sha256"]:
            if cursor["complete"] and rest == cursor.get("tail_bytes", 0):
                tail = hashlib.sha256()
                _hash_next(file, rest, tail)
                if rest == 0 or tail.hexdigest() == cursor["tail_sha256"]:
                    return None
                file.seek(place.offset)
            place.unended = bool(cursor["unended"])
            # What follows a line that was taken without its newline must be that newline.
            if not place.unended or file.peek(2)[:2] in (b"", b"\r") or file.peek(2)[:2].lstrip(b"\r")[:1] == b"\n":
                return place
    file.seek(0)
    return _Place(int(cursor["generation"]) + 1)


def _jsonl_cursor(place: _Place, fingerprint: dict[str, int], *, complete: bool) -> dict[str, Any]:
    return {
        "generation": place.generation,
        "bytes": place.offset,
        "lines": place.lines,
        "sha256": place.digest.hexdigest(),
        "unended": place.unended,
        "complete": complete,
        **fingerprint,
    }


def _read_jsonl(feed: Feed, file: io.BufferedReader, fingerprint: dict[str, int], place: _Place) -> Iterator[Page]:
    batch = _Batch()
    # Lines are hashed a page at a time: a call per line would cost more than reading it.
    taken: list[bytes] = []
    tail: dict[str, Any] = {}
    forget_after = place.lines if place.resumed else None

    def take_lines() -> None:
        place.take(b"".join(taken))
        taken.clear()

    def take_piece(piece: bytes) -> None:
        take_lines()
        place.take(piece)

    at_newline_of_last = place.unended
    for line in bounded_lines(file, fingerprint["size"] - place.offset, take_piece):
        if isinstance(line, LongLine):
            place.lines += 1
            place.unended = not line.ended
            batch.refusals.append(_too_long(place.lines, line))
        else:
            text = line.strip(_WHITE)
            ended = line[-1] == 0x0A
            if at_newline_of_last and not text:
                at_newline_of_last = not ended
                place.unended = not ended
                taken.append(line)
                continue
            if place.lines == 0:
                text = text.removeprefix(_BOM).strip(_WHITE)
            if text and not ended and not _is_json(text):
                detail = "the last line ends in the middle of a record; it is read again when the file grows"
                digest = hashlib.sha256(line).hexdigest()
                batch.refusals.append(Refusal(place.lines + 1, "json_truncated", detail, text[:EXCERPT_BYTES], digest))
                tail = {"tail_bytes": len(line), "tail_sha256": digest}
                break
            place.lines += 1
            place.unended = not ended
            taken.append(line)
            # Blank lines weigh too: a file of nothing else must not gather in memory.
            batch.size_bytes += len(line)
            if text:
                batch.records.append(RawRecord(place.lines, text))
        at_newline_of_last = False
        if len(taken) >= PAGE_RECORDS:
            take_lines()
        if batch.is_full():
            take_lines()
            yield batch.page(feed, place.generation, _jsonl_cursor(place, fingerprint, complete=False), forget_after)
            forget_after = None
    take_lines()
    yield batch.page(feed, place.generation, _jsonl_cursor(place, fingerprint, complete=True) | tail, forget_after)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _too_long(number: int, line: LongLine) -> Refusal:
    detail = f"a line of {line.size_bytes:,} bytes, where {MAX_LINE_BYTES:,} are read"
    return Refusal(number, "line_too_long", detail, line.excerpt, line.sha256)


def whole_file_pages(feed: Feed, cursor: Cursor | None) -> Iterator[Page]:
    """Pages of a file in another format whose content is new; a pull that was ended goes on behind its last page."""
    before: Cursor = cursor or {}
    if "sha256" in before and before.get("blocks_at", feed.blocks_at) != feed.blocks_at:
        # The same file means something else now.
        before = {**before, "sha256": None, "size": None}
    with _open(feed.path) as file:
        fingerprint = _fingerprint(file)
        if _looks_unchanged(before, fingerprint):
            yield from _readable_again(feed, before)
            return
        digest = hashlib.sha256()
        _hash_next(file, fingerprint["size"], digest)
    sha256 = digest.hexdigest()
    generation, last_line = int(before.get("generation", 1)), 0
    if before.get("sha256") == sha256:
        if before["complete"]:
            yield from _readable_again(feed, before)
            return
        last_line = int(before["lines"])
    elif "sha256" in before:
        generation += 1
    _logger.info("reading %s, generation %d, from line %d", feed.path, generation, last_line + 1)

    def cursor_now(complete: bool) -> dict[str, Any]:
        known = {"generation": generation, "sha256": sha256, "lines": last_line, "complete": complete}
        if feed.kind is FeedKind.SARIF:
            known["blocks_at"] = feed.blocks_at
        return known | fingerprint

    batch = _Batch()
    try:
        for row in _rows(feed, last_line):
            last_line = row.line
            if isinstance(row, RawRecord):
                batch.records.append(row)
                batch.size_bytes += len(row.payload)
            else:
                batch.refusals.append(row)
            if batch.is_full():
                yield batch.page(feed, generation, cursor_now(complete=False))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        batch.refusals.append(Refusal(0, "bad_gzip", f"{error}; what stands before was read", sha256=sha256))
    except BadParquetError as error:
        batch.refusals.append(Refusal(0, "bad_parquet", str(error), sha256=sha256))
    except BadSarifError as error:
        batch.refusals.append(Refusal(0, "bad_sarif", str(error), sha256=sha256))
    except BadHeaderError as error:
        batch.refusals.append(Refusal(0, "bad_header", str(error), sha256=sha256))
    yield batch.page(feed, generation, cursor_now(complete=True))


def _rows(feed: Feed, last_line: int) -> Iterator[RawRecord | Refusal]:
    """Rows behind a line that was already landed."""
    if feed.kind is FeedKind.PARQUET:
        yield from read_parquet(feed.path, ENTITIES[feed.entity], last_line)
        return
    if feed.kind is FeedKind.SARIF:
        with _open(feed.path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise BadSarifError(f"is longer than {MAX_FILE_BYTES:,} bytes")
        yield from (row for row in gate_results(data, feed.key, feed.blocks_at) if row.line > last_line)
        return
    with ExitStack() as stack:
        stream: ByteLines
        stream = file = stack.enter_context(_open(feed.path))
        if feed.kind in (FeedKind.JSONL_GZ, FeedKind.CSV_GZ):
            # No buffer around it: that would lose the last lines before the place where a file is cut off.
            stream = stack.enter_context(_BoundedGzip(file))
        is_csv = feed.kind in (FeedKind.CSV, FeedKind.CSV_GZ)
        rows = read_csv(stream, ENTITIES[feed.entity]) if is_csv else _json_lines(stream)
        for row in rows:
            if row.line > last_line:
                yield row


class _BoundedGzip(gzip.GzipFile):
    """A compressed file whose lines end with BadGzipFile where they are far more than text shrinks to."""

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__(fileobj=file, mode="rb")
        size = os.fstat(file.fileno()).st_size
        self._left = max(_GZIP_BYTES_AT_LEAST, MAX_GZIP_RATIO * size)
        self._lines_left = max(_GZIP_LINES_AT_LEAST, _MAX_LINES_A_BYTE * size)

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(size)
        self._left -= len(line)
        self._lines_left -= line.endswith(b"\n")
        if self._left < 0:
            raise gzip.BadGzipFile(f"unpacks to more than {MAX_GZIP_RATIO} times its size, as no text does")
        if self._lines_left < 0:
            raise gzip.BadGzipFile("unpacks to more lines than it has bytes, as no feed does")
        return line


def _json_lines(stream: ByteLines) -> Iterator[RawRecord | Refusal]:
    for number, line in enumerate(bounded_lines(stream), start=1):
        if isinstance(line, LongLine):
            yield _too_long(number, line)
            continue
        text = line.strip(_WHITE)
        if number == 1:
            text = text.removeprefix(_BOM).strip(_WHITE)
        if text:
            yield RawRecord(number, text)
