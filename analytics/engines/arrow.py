"""Types of a lake's columns in Arrow, in which rows travel to Spark and back."""

from __future__ import annotations

import pyarrow as pa

_ARROW = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
}


def arrow_type(kind: str) -> pa.DataType:
    """The type of a column (its DuckDB name) in Arrow; lists are of one of the others."""
    return pa.list_(arrow_type(kind[:-2])) if kind.endswith("[]") else _ARROW[kind]
