"""Typed tables from landed items: the newest record per key, its JSON read into columns.

Offsets must be honoured: a cast of text to TIMESTAMP drops them, so every time goes through TIMESTAMPTZ.
"""

from __future__ import annotations

import json
from typing import Any

from analytics.lake.schemas import HASHED_DOCUMENTS
from analytics.sources.entities import Entity


def typed_query(entity: Entity, winners: str) -> str:
    """Give the SELECT that turns a relation (source, origin, line, payload) of winning items into typed columns."""
    structure = {name: _json_type(kind) for name, kind in entity.columns.items()}
    columns = ", ".join(
        f"{_cast(f'record.{_quoted(name)}', kind)} AS {_quoted(name)}" for name, kind in entity.columns.items()
    )
    if entity.name in HASHED_DOCUMENTS:
        document, column = HASHED_DOCUMENTS[entity.name]
        columns += f", sha256(CAST(record.{_quoted(document)} AS VARCHAR)) AS {_quoted(column)}"
    text = json.dumps(structure).replace("'", "''")
    return (
        f"SELECT {columns}, source, origin, line FROM "
        f"(SELECT source, origin, line, from_json(payload, '{text}') AS record FROM {winners})"
    )


def _json_type(kind: str) -> Any:
    """The shape DuckDB reads from JSON; times stay text until they are cast."""
    if kind.endswith("[]"):
        return [_json_type(kind[:-2])]
    if kind.startswith("STRUCT("):
        return {name: _json_type(inner) for name, inner in _fields(kind)}
    return "VARCHAR" if kind == "TIMESTAMP" else kind


def _fields(kind: str) -> list[tuple[str, str]]:
    """Names and types of a flat STRUCT."""
    parts = (part.strip().rsplit(" ", 1) for part in kind.removeprefix("STRUCT(").removesuffix(")").split(","))
    return [(name.strip('"'), inner) for name, inner in parts]


def _cast(expression: str, kind: str) -> str:
    # RFC 3339 allows a small t and z.
    if kind == "TIMESTAMP":
        return f"CAST(CAST(upper({expression}) AS TIMESTAMPTZ) AS TIMESTAMP)"
    if kind.startswith("STRUCT(") and kind.endswith("[]"):
        parts = ", ".join(
            f"{_quoted(name)} := {_cast(f'item.{_quoted(name)}', inner)}" for name, inner in _fields(kind[:-2])
        )
        return f"list_transform({expression}, lambda item: struct_pack({parts}))"
    return f"CAST({expression} AS {kind})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
