"""Rows of a Parquet feed as JSON records, streamed through DuckDB in batches.

A time with a zone becomes RFC 3339 in UTC; one without stays without, so that the judge can refuse it by name.
"""

from __future__ import annotations

import glob
import typing
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from analytics.sources.csv_cells import kinds_of
from analytics.sources.entities import Entity
from analytics.sources.port import RawRecord

BATCH_ROWS = 10_000
# A column of row numbers under a name that no feed has.
_ROW = "quarterdeck_file_row_number"
_NAIVE = ("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns")


class BadParquetError(Exception):
    """The file cannot be read as Parquet; the text is DuckDB's reason."""


def read_parquet(path: Path, entity: Entity, after_row: int = 0) -> Iterator[RawRecord]:
    """Records behind a row, numbered from 1 in the file's order; raises BadParquetError, also halfway."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": "1GB",
        "threads": 1,
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=config) as con:
        try:
            con.execute("SET TimeZone = 'UTC'")
            # A file's name may hold what DuckDB takes for a pattern.
            name = glob.escape(str(path))
            relation = con.sql("SELECT * FROM read_parquet($name)", params={"name": name})
            columns = dict(zip(relation.columns, relation.types, strict=True))
            con.execute(
                f"SELECT file_row_number + 1, CAST(to_json({_struct(columns, entity)}) AS VARCHAR) "
                "FROM read_parquet($name, file_row_number = true) WHERE file_row_number >= $after",
                {"name": name, "after": after_row},
            )
            while rows := con.fetchmany(BATCH_ROWS):
                for line, text in rows:
                    yield RawRecord(line, text.encode())
        except (duckdb.Error, UnicodeError) as error:
            raise BadParquetError(str(error).partition("\n")[0][:500]) from error


def _struct(columns: dict[str, Any], entity: Entity) -> str:
    hints = typing.get_type_hints(entity.struct, include_extras=False)
    parts = (f"{_quoted(name)} := {_typed(_quoted(name), kind, hints.get(name))}" for name, kind in columns.items())
    return f"struct_pack({', '.join(parts)})"


def _typed(column: str, kind: Any, hint: Any) -> str:
    """A column as JSON can hold it and as its field wants it."""
    wanted = kinds_of(hint) if hint is not None else set()
    is_nested = bool(wanted) and not wanted & {str, int, float, bool, datetime}
    if kind.id == "varchar" and is_nested:
        # Lists and objects may come as JSON text, as they do in CSV.
        return f"CASE WHEN json_valid({column}) THEN CAST({column} AS JSON) ELSE to_json({column}) END"
    if kind.id in ("double", "float") and int in wanted:
        # Programs that cannot hold a missing whole number write whole numbers as floats.
        whole = f"{column} = trunc({column}) AND abs({column}) < 9e15"
        return f"CASE WHEN {whole} THEN to_json(CAST({column} AS BIGINT)) ELSE to_json({_plain(column, kind)}) END"
    if kind.id == "list" and hint is not None and type(None) not in typing.get_args(hint):
        # A list that may be missing but not null.
        return f"coalesce({_plain(column, kind)}, [])"
    return _plain(column, kind)


def _plain(value: str, kind: Any, depth: int = 0) -> str:
    """A value whose times are text and whose floats JSON can hold, inside lists and structs too."""
    if kind.id == "timestamp with time zone":
        return f"strftime({value} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    if kind.id in _NAIVE:
        return f"strftime(CAST({value} AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%f')"
    if kind.id in ("double", "float"):
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    if kind.id == "list":
        item = f"item_{depth}"
        return f"list_transform({value}, lambda {item}: {_plain(item, kind.children[0][1], depth + 1)})"
    if kind.id == "struct":
        fields = (
            f"{_quoted(name)} := {_plain(f'{value}.{_quoted(name)}', inner, depth)}" for name, inner in kind.children
        )
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({', '.join(fields)}) END"
    return value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
