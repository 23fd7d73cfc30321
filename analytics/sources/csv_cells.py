"""Rows of a CSV feed as JSON records: cells take the types of the entity's fields, and formulas in names are refused.

Source: contract.md section 4 and metrics.md section 8 (lists are JSON in the cell); CWE-1236 for formulas.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from analytics.sources.entities import Entity
from analytics.sources.feed_lines import EXCERPT_BYTES, MAX_LINE_BYTES, ByteLines, LongLine, bounded_lines
from analytics.sources.port import RawRecord, Refusal

MAX_CELL_CHARACTERS = 1024 * 1024
MAX_COLUMNS = 10_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}(\.0+)?")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# Excel in East Asian locales takes the full-width signs for the plain ones.
_OPENS_FORMULA = ("=", "\uff1d")
_MAY_OPEN_FORMULA = ("+", "-", "@", "\t", "\r", "\uff0b", "\uff0d", "\uff20")
_CALLS = re.compile(r"[(|!]")


class BadHeaderError(Exception):
    """The first row cannot name the columns; the text says why."""


class _RecordTooLongError(Exception):
    """A record runs over more bytes than a line may have: most likely its quote is never closed."""


class _PhysicalLines:
    """The text lines under a csv reader; remembers what it gave, so that a record can be tied to its lines."""

    def __init__(self, stream: ByteLines) -> None:
        self._lines = bounded_lines(stream)
        self.number = 0
        self.record_bytes = 0
        self.long_line: LongLine | None = None
        self.first = b""

    def begin_record(self) -> None:
        self.record_bytes = 0
        self.long_line = None
        self.first = b""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if isinstance(line, LongLine):
            self.long_line = line
            return "\n"
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        self.first = self.first or line
        self.record_bytes += len(line)
        if self.record_bytes > MAX_LINE_BYTES:
            raise _RecordTooLongError
        # Bytes that are not UTF-8 become lone surrogates, which the JSON encoder refuses for this record alone.
        return line.decode("utf-8", "surrogateescape")


def read_csv(stream: ByteLines, entity: Entity) -> Iterator[RawRecord | Refusal]:
    """Records and refusals of a CSV file, each with the physical line it starts on; raises BadHeaderError."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    lines = _PhysicalLines(stream)
    reader = csv.reader(lines, strict=True)
    columns: list[_Column] | None = None
    while True:
        lines.begin_record()
        start = lines.number + 1
        problem: tuple[str, str] | None = None
        row: list[str] = []
        try:
            row = next(reader)
        except StopIteration:
            return
        except _RecordTooLongError:
            problem = ("line_too_long", f"a record of more than {MAX_LINE_BYTES:,} bytes; is a quote left open?")
        except csv.Error as error:
            problem = ("csv_malformed", f"{error} (lines {start} to {lines.number})")
        if lines.long_line is not None:
            detail = f"a line of {lines.long_line.size_bytes:,} bytes, where {MAX_LINE_BYTES:,} are read"
            yield Refusal(start, "line_too_long", detail, lines.long_line.excerpt, lines.long_line.sha256)
            continue
        if columns is None:
            if problem:
                raise BadHeaderError(problem[1])
            if row:
                columns = _columns(row, entity)
            continue
        if problem is None and len(row) != len(columns) and row:
            problem = ("csv_columns", f"{len(row)} cells, where the header has {len(columns)}")
        if problem is not None:
            yield Refusal(start, *problem, lines.first[:EXCERPT_BYTES])
            continue
        if not any(row):
            continue
        yield _record(start, row, columns, lines)


def _record(start: int, row: list[str], columns: list[_Column], lines: _PhysicalLines) -> RawRecord | Refusal:
    values: dict[str, Any] = {}
    formula: str | None = None
    for column, cell in zip(columns, row, strict=True):
        if cell == "":
            continue
        if column.is_name and formula is None and opens_formula(cell):
            formula = column.name
        values[column.name] = column.typed(cell)
    try:
        payload = msgspec.json.encode(values)
    except UnicodeEncodeError:
        return Refusal(start, "not_utf8", "bytes that are not UTF-8 text", lines.first[:EXCERPT_BYTES])
    if formula is not None:
        detail = f"$.{formula}: a name that a spreadsheet would run as a formula"
        return Refusal(start, "formula_in_name", detail, payload[:EXCERPT_BYTES])
    return RawRecord(start, payload)


def opens_formula(cell: str) -> bool:
    """Whether a spreadsheet would run a cell as a formula; a bare `-5` or `@team` would not be one worth refusing."""
    text = cell.lstrip(" ")
    if text.startswith(_OPENS_FORMULA):
        return True
    return text.startswith(_MAY_OPEN_FORMULA) and _CALLS.search(text) is not None


class _Column:
    """One column: its name, how its cells become values, and whether it holds a name that people type."""

    __slots__ = ("is_name", "name", "typed")

    def __init__(self, name: str, typed: Callable[[str], Any], is_name: bool) -> None:
        self.name = name
        self.typed = typed
        self.is_name = is_name


def _columns(header: list[str], entity: Entity) -> list[_Column]:
    hints = typing.get_type_hints(entity.struct, include_extras=False)
    # A nameless column is what some programs write for their row numbers.
    names = [name.strip() or f"column_{index}" for index, name in enumerate(header, start=1)]
    if len(names) > MAX_COLUMNS:
        raise BadHeaderError(f"the header has {len(names):,} columns; at most {MAX_COLUMNS:,} are read")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadHeaderError(f"column '{_shown(name)}' stands twice in the header")
        seen.add(name)
    if not set(names) & set(hints):
        near = difflib.get_close_matches(names[0].casefold(), list(hints), n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise BadHeaderError(
            f"no column of the header is a field of {entity.name} (comma separated: {', '.join(list(hints)[1:4])}, …); "
            f"the first is '{_shown(names[0])}'{hint}"
        )
    try:
        ",".join(names).encode()
    except UnicodeEncodeError as error:
        raise BadHeaderError("the header is not UTF-8 text") from error
    return [_Column(name, _reader(hints.get(name, str)), name in entity.names) for name in names]


def _shown(name: str) -> str:
    return name[:80].encode("utf-8", "backslashreplace").decode()


def _reader(hint: Any) -> Callable[[str], Any]:
    """How a cell of a field becomes a value; one that does not fit stays text, for the judge to name."""
    kinds = kinds_of(hint)
    if str in kinds or datetime in kinds:
        return _text
    if int in kinds:
        return _integer
    if float in kinds:
        return _number
    if bool in kinds:
        return _truth
    return _json


def kinds_of(hint: Any) -> set[Any]:
    """The plain types that a field's hint allows, without None and annotations."""
    if get_origin(hint) is Annotated:
        return kinds_of(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*(kinds_of(option) for option in get_args(hint) if option is not type(None)))
    if get_origin(hint) is Literal:
        return {type(value) for value in get_args(hint)}
    return {get_origin(hint) or hint}


def _text(cell: str) -> str:
    return cell


def _integer(cell: str) -> int | str:
    # Programs that hold whole numbers as floats write 1.0.
    return int(cell.partition(".")[0]) if _INTEGER.fullmatch(cell) else cell


def _number(cell: str) -> float | str:
    if not _FLOAT.fullmatch(cell):
        return cell
    value = float(cell)
    return value if math.isfinite(value) else cell


def _truth(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _json(cell: str) -> msgspec.Raw | str:
    try:
        encoded = cell.encode()
        msgspec.json.decode(encoded)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return cell
    return msgspec.Raw(encoded)
