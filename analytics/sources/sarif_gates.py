"""What a SARIF file says about a gate: one result a run of a tool, blocked, overridden or passed.

Source: SARIF 2.1.0 (OASIS), sections 3.14 (run), 3.17 (automationDetails), 3.27 (result: kind, level, baselineState)
and 3.35 (suppression); contract.md section 4 (gate_results).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from analytics.sources.port import RawRecord

Level = Literal["error", "warning", "note"]
MAX_FILE_BYTES = 64 * 1024 * 1024
_ORDER = {"none": 0, "note": 1, "warning": 2, "error": 3}
_FALSE_POSITIVE = re.compile(r"false[\s_-]*positive", re.I)
_TRUE_POSITIVE = re.compile(r"won'?t[\s_-]*fix|true[\s_-]*positive|accept(ed|able)|tolerable|risk", re.I)


class BadSarifError(Exception):
    """The file is no SARIF 2.1.0."""


class _Open(msgspec.Struct, rename="camel", frozen=True):
    """Unknown properties are passed over: a file holds far more than is asked of it."""


class _Configuration(_Open, frozen=True):
    level: str | None = None
    enabled: bool = True


class _Rule(_Open, frozen=True):
    id: str | None = None
    default_configuration: _Configuration | None = None


class _Component(_Open, frozen=True):
    name: str = ""
    rules: list[_Rule] = []


class _Tool(_Open, frozen=True):
    driver: _Component
    extensions: list[_Component] = []


class _ComponentReference(_Open, frozen=True):
    index: int = -1


class _RuleReference(_Open, frozen=True):
    id: str | None = None
    index: int = -1
    tool_component: _ComponentReference | None = None


class _Suppression(_Open, frozen=True):
    status: str = "accepted"
    justification: str = ""


class _Result(_Open, frozen=True):
    rule_id: str | None = None
    rule_index: int = -1
    rule: _RuleReference | None = None
    kind: str = "fail"
    level: str | None = None
    baseline_state: str | None = None
    suppressions: list[_Suppression] | None = None


class _Invocation(_Open, frozen=True):
    start_time_utc: str | None = None
    end_time_utc: str | None = None


class _Details(_Open, frozen=True):
    id: str = ""
    guid: str = ""


class _Provenance(_Open, frozen=True):
    repository_uri: str = ""


class _Run(_Open, frozen=True):
    tool: _Tool
    # Without results the tool was not run on anything; an empty list says that nothing was found.
    results: list[_Result] | None = None
    invocations: list[_Invocation] | None = None
    automation_details: _Details | None = None
    version_control_provenance: list[_Provenance] | None = None


class _Log(_Open, frozen=True):
    version: str
    runs: list[_Run]


_decoder = msgspec.json.Decoder(_Log)


def gate_results(data: bytes, key: str, blocks_at: Level) -> Iterator[RawRecord]:
    """The gate result of each run in a SARIF file; its line is the run's number.

    gate: the tool's name, and the category of automationDetails.id. outcome: blocked where a result at or above
    `blocks_at` is not suppressed, overridden where such results are all suppressed, else passed. resolution: of an
    overridden one, by the justifications. repository and run_id: by the folders of the file's key
    (`gate_results/OWNER/NAME/RUN_ID/…`), else versionControlProvenance and automationDetails. at: the end of the last
    invocation. What is not said is left out, to be refused with its name. Raises BadSarifError.
    """
    try:
        log = _decoder.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadSarifError(f"is no SARIF: {str(error).replace('`', chr(39))[:300]}") from None
    if log.version != "2.1.0":
        raise BadSarifError(f"is SARIF {log.version[:20]!r}, where 2.1.0 is read")
    folders = _folders(key)
    for number, run in enumerate(log.runs, start=1):
        if run.results is None:
            continue
        record = {**_where(run, folders), "gate": _gate(run), **_outcome(run, blocks_at), "at": _ended_at(run)}
        known = {name: value for name, value in record.items() if value}
        yield RawRecord(number, msgspec.json.encode(known))


def _folders(key: str) -> tuple[str, str] | None:
    """Repository and run, where the file lies below folders named after them."""
    parts = PurePosixPath(key).parts[1:-1] if key.startswith("gate_results/") else ()
    return ("/".join(parts[:-1]), parts[-1]) if len(parts) >= 3 else None


def _where(run: _Run, folders: tuple[str, str] | None) -> dict[str, Any]:
    if folders is not None:
        return {"repository": folders[0], "run_id": folders[1]}
    addresses = [one.repository_uri for one in run.version_control_provenance or () if one.repository_uri]
    details = run.automation_details or _Details()
    return {
        "repository": _name(addresses[0]) if addresses else None,
        "run_id": details.id.rpartition("/")[2] or details.guid or None,
    }


def _name(address: str) -> str | None:
    """`acme/shop` of https://github.com/acme/shop.git."""
    try:
        path = urlsplit(address).path if "://" in address else address.partition(":")[2]
    except ValueError:
        return None
    return path.strip("/").removesuffix(".git") or None


def _gate(run: _Run) -> str:
    """Two analyses by one tool in one run are two gates."""
    category = (run.automation_details or _Details()).id.rpartition("/")[0].strip("/")
    return f"{run.tool.driver.name} {category}".strip()[:500]


def _outcome(run: _Run, blocks_at: Level) -> dict[str, str]:
    blocking = [
        result
        for result in run.results or ()
        if result.kind == "fail"
        and result.baseline_state != "absent"
        and _ORDER.get(_level(run.tool, result), 0) >= _ORDER[blocks_at]
    ]
    if not blocking:
        return {"outcome": "passed"}
    if not all(_is_suppressed(result.suppressions) for result in blocking):
        return {"outcome": "blocked"}
    said = [" ".join(one.justification for one in result.suppressions or ()) for result in blocking]
    if all(_FALSE_POSITIVE.search(text) for text in said):
        return {"outcome": "overridden", "resolution": "false_positive"}
    if any(_TRUE_POSITIVE.search(text) for text in said if not _FALSE_POSITIVE.search(text)):
        return {"outcome": "overridden", "resolution": "true_positive"}
    return {"outcome": "overridden"}


def _is_suppressed(suppressions: Sequence[_Suppression] | None) -> bool:
    """Section 3.27.23: none of them still under review or rejected."""
    return suppressions is not None and bool(suppressions) and all(one.status == "accepted" for one in suppressions)


def _level(tool: _Tool, result: _Result) -> str:
    """Section 3.27.10: the result's own, else its rule's, else warning."""
    if result.level is not None:
        return result.level
    rule = _rule(tool, result)
    configured = rule.default_configuration if rule is not None else None
    return (configured.level if configured is not None else None) or "warning"


def _rule(tool: _Tool, result: _Result) -> _Rule | None:
    named = result.rule or _RuleReference()
    component = tool.driver
    if named.tool_component is not None and 0 <= named.tool_component.index < len(tool.extensions):
        component = tool.extensions[named.tool_component.index]
    index = named.index if named.index >= 0 else result.rule_index
    if 0 <= index < len(component.rules):
        return component.rules[index]
    wanted = named.id or result.rule_id
    return next((rule for rule in component.rules if wanted is not None and rule.id == wanted), None)


def _ended_at(run: _Run) -> str | None:
    times = [one.end_time_utc or one.start_time_utc for one in run.invocations or ()]
    return next((at for at in reversed(times) if at), None)
