"""What DuckDB reads out of a payload: the key, `updated_at` and `occurred_at` of a landed item.

The typed tables are read out of the same payloads by the same engine, so that an item's key and times cannot differ
from its row's. Where DuckDB cannot read a time that the judge accepted (`2026-01-01t00:00:00z`), the payload is written
again with its times in UTC.
"""

from __future__ import annotations

import json
import typing
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_args, get_origin

import msgspec

from analytics.sources.entities import ENTITIES, Entity

_UTC_TEXT = "%Y-%m-%dT%H:%M:%S.%fZ"


def time_fields(entity: Entity) -> tuple[str, ...]:
    """The fields of a record that hold a time, nested ones left out."""
    return tuple(name for name, kind in entity.columns.items() if kind == "TIMESTAMP")


def nested_time_fields(entity: Entity) -> dict[str, tuple[str, ...]]:
    """List fields whose entries hold times, with the names of those times."""
    hints = typing.get_type_hints(entity.struct, include_extras=False)
    found = {name: _times_of_entries(hint) for name, hint in hints.items()}
    return {name: times for name, times in found.items() if times}


def _times_of_entries(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is list:
        (entry,) = get_args(hint)
        if isinstance(entry, type) and issubclass(entry, msgspec.Struct):
            return tuple(name for name, kind in typing.get_type_hints(entry).items() if kind is datetime)
        return ()
    return next((times for option in get_args(hint) if (times := _times_of_entries(option))), ())


@cache
def reading_query(name: str, source: str) -> str:
    """The SELECT that reads an entity's payloads out of `source` (line, payload).

    Columns: line, payload, key, updated_at, occurred_at (naive UTC), is_read (whether all of it could be read).
    """
    entity = ENTITIES[name]
    parts = [_key_part(entity, field) for field in entity.key]
    if name == "attestations":
        # A digest may have several bundles.
        parts = ["coalesce(record.digest, '')", "sha256(CAST(record.bundle AS VARCHAR))"]
    occurred = _time(f"record.{entity.occurred_at}") if entity.occurred_at else "CAST(NULL AS TIMESTAMP)"
    return (
        f"SELECT line, payload, CAST(to_json([{', '.join(parts)}]) AS VARCHAR) AS key, "
        f"{_time('record.updated_at')} AS updated_at, {occurred} AS occurred_at, "
        f"coalesce({' AND '.join(_conditions(entity))}, false) AS is_read "
        f"FROM (SELECT line, payload, TRY(from_json(payload, '{_shape(entity)}')) AS record FROM {source})"
    )


def _shape(entity: Entity) -> str:
    shape: dict[str, Any] = dict.fromkeys((*entity.key, *time_fields(entity)), "VARCHAR")
    for field, times in nested_time_fields(entity).items():
        shape[field] = [dict.fromkeys(times, "VARCHAR")]
    if entity.name == "attestations":
        shape["bundle"] = "JSON"
    return json.dumps(shape)


def _key_part(entity: Entity, field: str) -> str:
    if field in time_fields(entity):
        return f"strftime({_time(f'record.{field}')}, '{_UTC_TEXT}')"
    # An attempt that is not said is the first.
    return "coalesce(record.attempt, '1')" if field == "attempt" else f"record.{field}"


def _time(text: str) -> str:
    # TIMESTAMPTZ honours the offset, which a cast to TIMESTAMP would drop.
    return f"(TRY_CAST({text} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"


def _conditions(entity: Entity) -> list[str]:
    conditions = ["record IS NOT NULL"]
    for field in time_fields(entity):
        conditions.append(f"(record.{field} IS NULL OR TRY_CAST(record.{field} AS TIMESTAMPTZ) IS NOT NULL)")
    for field, times in nested_time_fields(entity).items():
        bad = " OR ".join(f"TRY_CAST(entry.{time} AS TIMESTAMPTZ) IS NULL" for time in times)
        conditions.append(f"coalesce(len(list_filter(record.{field}, lambda entry: {bad})), 0) = 0")
    return conditions


def rewritten(name: str, payload: str) -> str:
    """The same record with its times in UTC; raises ValueError where JSON cannot say it again."""
    entity = ENTITIES[name]
    record = json.loads(payload)
    _rewrite_times(record, time_fields(entity))
    for field, times in nested_time_fields(entity).items():
        for entry in record.get(field) or ():
            _rewrite_times(entry, times)
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _rewrite_times(record: dict[str, Any], fields: tuple[str, ...]) -> None:
    for field in fields:
        if isinstance(record.get(field), str):
            moment = msgspec.convert(record[field], datetime)
            record[field] = moment.astimezone(UTC).strftime(_UTC_TEXT)
