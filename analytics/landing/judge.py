"""Judging one raw record: whether it may land, or the reason why it goes to quarantine.

Source: contract.md section 4 (keys, times, required fields) and ingestion.md section 5 (reason codes). A judge looks at
the small core that everything stands on (ids, times, types); unknown fields, open enums and the order of times pass.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, get_args, get_origin

import msgspec

from analytics.landing.payloads import time_fields
from analytics.sources.entities import ENTITIES, Attestation, Deployment, Entity, Record, Sbom

MAX_DEPTH = 64
# Whole numbers are stored in 64 bits.
_WHOLE_LIMIT = 2**63
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(c for c in range(256) if c not in b"{}[]")
_LOCATED = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>\$.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.+)`")
_FIRST_YEAR, _LAST_YEAR = 1970, 9999


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record is refused: a reason code, the JSON path it is about, and words for a person."""

    reason: str
    json_path: str | None
    detail: str


Judge = Callable[[bytes], Fault | None]


@cache
def judge_for(name: str) -> Judge:
    """The judge of an entity; it is given a payload and says what is wrong with it, None when nothing is."""
    entity = ENTITIES[name]
    decode = entity.decoder.decode
    moments = _getter(time_fields(entity))
    whole_numbers = _getter(_unbounded_whole_numbers(entity))
    look_closer = _CLOSER.get(name)

    def judge(payload: bytes) -> Fault | None:
        try:
            record = decode(payload)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            return _explain(entity, payload, error)
        # Most records are flat, and looking for one bracket is much faster than counting all.
        if (payload.find(0x7B, 1) > 0 or 0x5B in payload) and _may_be_deep(payload) and _depth(payload) > MAX_DEPTH:
            return _too_deep()
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                return Fault("not_utf8", None, f"bytes that are not UTF-8 text ({error.reason})")
        for moment in moments(record):
            if moment is not None and not _FIRST_YEAR <= moment.year < _LAST_YEAR and not _is_storable(moment):
                return _out_of_time(entity, record)
        for number in whole_numbers(record):
            if type(number) is int and not -_WHOLE_LIMIT <= number < _WHOLE_LIMIT:
                return Fault("out_of_range", None, "a whole number that does not fit into 64 bits")
        return look_closer(record) if look_closer is not None else None

    return judge


def _may_be_deep(payload: bytes) -> bool:
    return payload.count(b"{") + payload.count(b"[") > MAX_DEPTH


def _is_storable(moment: datetime) -> bool:
    if moment.year == _LAST_YEAR:
        try:
            moment.astimezone(UTC)
        except OverflowError:
            return False
    return moment.year >= _FIRST_YEAR


def _out_of_time(entity: Entity, record: Record) -> Fault:
    for name in time_fields(entity):
        moment = getattr(record, name)
        if moment is not None and not _is_storable(moment):
            return _bad_year(f"$.{name}", moment)
    raise AssertionError("called without a time out of range")


def _bad_year(path: str, moment: datetime) -> Fault:
    return Fault("out_of_range", path, f"{moment.isoformat()} is not between the years {_FIRST_YEAR} and {_LAST_YEAR}")


# --- What the types cannot say ---------------------------------------------------------------------------------------


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(raw).lstrip().startswith(b"{")


def _look_at_attestation(record: Record) -> Fault | None:
    assert isinstance(record, Attestation)
    return None if _is_object(record.bundle) else Fault("wrong_type", "$.bundle", "the bundle is no object")


def _look_at_sbom(record: Record) -> Fault | None:
    assert isinstance(record, Sbom)
    if bytes(record.document).strip() == b"null":
        return None if record.path else Fault("missing_key", "$.document", "neither document nor path is there")
    return None if _is_object(record.document) else Fault("wrong_type", "$.document", "the document is no object")


def _look_at_deployment(record: Record) -> Fault | None:
    assert isinstance(record, Deployment)
    for index, status in enumerate(record.statuses or ()):
        if not _is_storable(status.at):
            return _bad_year(f"$.statuses[{index}].at", status.at)
    return None


_CLOSER: dict[str, Callable[[Record], Fault | None]] = {
    "attestations": _look_at_attestation,
    "sboms": _look_at_sbom,
    "deployments": _look_at_deployment,
}


# --- Fields by their types -------------------------------------------------------------------------------------------


def _unbounded_whole_numbers(entity: Entity) -> tuple[str, ...]:
    hints = typing.get_type_hints(entity.struct, include_extras=True)
    return tuple(name for name, hint in hints.items() if _holds_unbounded_int(hint))


def _holds_unbounded_int(hint: Any) -> bool:
    if hint is int:
        return True
    if get_origin(hint) is Annotated:
        inner, *meta = get_args(hint)
        bounded = any(isinstance(item, msgspec.Meta) and item.le is not None for item in meta)
        return not bounded and _holds_unbounded_int(inner)
    if get_origin(hint) is list:
        return False
    return any(_holds_unbounded_int(option) for option in get_args(hint))


def _getter(names: tuple[str, ...]) -> Callable[[Record], tuple[Any, ...]]:
    if not names:
        return lambda record: ()
    if len(names) == 1:
        (name,) = names
        return lambda record: (getattr(record, name),)
    return attrgetter(*names)


# --- Reasons ---------------------------------------------------------------------------------------------------------


def _too_deep() -> Fault:
    return Fault("too_deep", None, f"values are nested more than {MAX_DEPTH} deep")


def _depth(payload: bytes) -> int:
    """How deep valid JSON is nested; counting ends just above the cap."""
    brackets = _STRING.sub(b"", payload).translate(_BRACKETS, _NOT_BRACKETS)
    depth = 0
    while brackets and depth <= MAX_DEPTH:
        brackets = brackets.replace(b"[]", b"")
        depth += 1
    return depth


def _is_cut_off(payload: bytes) -> bool:
    """Whether text that is not JSON ends inside a string or with brackets open."""
    bare = _STRING.sub(b"", payload)
    opened = bare.count(b"{") + bare.count(b"[")
    return b'"' in bare or opened > bare.count(b"}") + bare.count(b"]")


def _explain(entity: Entity, payload: bytes, error: Exception) -> Fault:
    """The reason of a payload that could not be decoded; one that is no JSON at all is said to be that first."""
    if payload.lstrip()[:1] == b"<":
        return Fault("html_body", None, "a web page where a record should be")
    try:
        payload.decode()
        msgspec.json.decode(payload)
    except RecursionError:
        return _too_deep()
    except UnicodeDecodeError as problem:
        return Fault("not_utf8", None, f"bytes that are not UTF-8 text ({problem.reason})")
    except msgspec.ValidationError as problem:
        return Fault("out_of_range", None, _words(str(problem)))
    except msgspec.DecodeError as problem:
        if _is_cut_off(payload):
            return Fault("json_truncated", None, "the record ends in the middle")
        return Fault("not_json", None, _words(str(problem).removeprefix("JSON is malformed: ")))
    if isinstance(error, RecursionError):
        return _too_deep()
    located = _LOCATED.fullmatch(str(error))
    assert located is not None
    return _reason(entity, located["what"], located["path"] or "$")


def _words(text: str) -> str:
    return text.replace("`", "'")


def _reason(entity: Entity, what: str, path: str) -> Fault:
    missing = _MISSING.fullmatch(what)
    if missing:
        path = f"{path}.{missing[1]}"
    if path == "$":
        return Fault("not_an_object", "$", _words(what))
    field, nested = _top_field(path)
    leaf = path.rpartition(".")[2]
    is_time = "datetime" in what or "RFC3339" in what or (field in time_fields(entity) and not nested) or leaf == "at"
    if field == "parents":
        return Fault("null_parent", path, _words(what))
    if missing or what.endswith("got `null`") or "of length >= 1" in what:
        said = "is missing" if missing else "is null" if "null" in what else "is empty"
        reason = "missing_time" if is_time else "missing_id" if field in entity.key and not nested else "missing_key"
        return Fault(reason, path, f"'{leaf}' {said}")
    if "timezone" in what:
        return Fault("naive_time", path, f"'{leaf}' has no offset; write it like 2026-01-31T09:30:00Z")
    if is_time:
        return Fault("bad_time", path, f"'{leaf}' is not a time like 2026-01-31T09:30:00Z")
    if what.startswith("Invalid enum value"):
        return Fault("unknown_enum", path, _words(what))
    if re.search(r"[<>]=? |out of range", what):
        return Fault("out_of_range", path, _words(what))
    return Fault("wrong_type", path, _words(what))


def _top_field(path: str) -> tuple[str, bool]:
    """The record's field that a path begins with, and whether it goes deeper."""
    match = re.match(r"\$\.(\w+)(.*)", path, re.DOTALL)
    return (match[1], bool(match[2])) if match else ("", True)
