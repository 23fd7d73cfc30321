"""Rows as text: aligned tables for people, CSV and JSON for programs, each safe to open.

Names come from feeds that anyone may write to, so that a table escapes what a terminal would obey, and CSV what a
spreadsheet would compute (CWE-150, CWE-1236).
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

# Wide enough that nothing is folded where no terminal sets the width.
UNBOUNDED_WIDTH = 1000
_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# The last four are the wide forms, which spreadsheets take for the narrow ones.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def printable(value: object, *, keep: str = "") -> str:
    """Text in which control, direction and zero-width characters are written out as escapes, save those to keep."""
    text = "" if value is None else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in keep or unicodedata.category(c) not in _OBEYED else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def as_json(value: object) -> str:
    """JSON in the keys' order and in ASCII, so that no terminal obeys it; naive times are taken as UTC."""
    return json.dumps(value, indent=2, allow_nan=False, default=_json_value)


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """CSV with a header; text is printable, and gets an apostrophe where a spreadsheet would compute it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(row.get(column)) for column in columns])
    return out.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, list | dict):
        value = json.dumps(value, default=_json_value)
    if isinstance(value, str):
        return printable(f"'{value}" if value.startswith(_FORMULA_STARTS) else value)
    return "" if value is None else value


def text_table(rows: Iterable[Sequence[object]], columns: Sequence[str], *, width: int | None = None) -> str:
    """A borderless table of printable cells; columns named with a leading `>` are right-aligned.

    Folds long cells into the width of a terminal; without one every row stays on one line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            Text(printable(column.lstrip(">"))),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=right,
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=width or UNBOUNDED_WIDTH, color_system=None, legacy_windows=False).print(table)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines()).rstrip("\n")
