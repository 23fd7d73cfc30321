"""A document → SCHEMA_VALID or SCHEMA_INVALID, and the graded problems behind the verdict.

Source: supply-chain.md section 2, contract.md section 6. CycloneDX JSON is judged by jsonschema-rs with the schemas
that cyclonedx-python-lib ships, its XML by that library's validator, SPDX by our own table (`spdx_schema`). Nothing is
fetched: a reference to a schema that is not shipped is an error of ours.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final, Literal

import jsonschema_rs
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.xml import XmlValidator
from lxml import etree

from analytics.supply_chain.sboms.reading import NAMESPACE, Document, shortened, xml_parser
from analytics.supply_chain.sboms.spdx_schema import SpdxVersion, spdx_schema

Verdict = Literal["SCHEMA_VALID", "SCHEMA_INVALID", "UNREADABLE"]
# From worst to mildest: nothing could be read; the schema is broken where we read facts; elsewhere; odd but allowed.
Severity = Literal["fatal", "used_field", "elsewhere", "warning"]
SEVERITIES: Final[tuple[Severity, ...]] = ("fatal", "used_field", "elsewhere", "warning")

CYCLONEDX_JSON_VERSIONS: Final = ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7")
CYCLONEDX_XML_VERSIONS: Final = ("1.0", "1.1", *CYCLONEDX_JSON_VERSIONS)
SPDX_VERSIONS: Final = ("SPDX-2.2", "SPDX-2.3")

MOST_PROBLEMS: Final = 100
# jsonschema-rs gathers every error, and the errors below each, before it gives the first (10,000 wrong licences of one
# component took 2 s and 700 MB): a larger document is judged in pieces, and only so many values of wrong ones.
MOST_VALUES_AT_ONCE: Final = 10_000
MOST_VALUES_EXPLAINED: Final = 50_000
# libxml2 counts the siblings of each wrong element (40,000 of them took 10 s): beyond, the place is not told.
MOST_TAGS_WITH_PLACES: Final = 10_000
_MESSAGE: Final = 300
_PATH: Final = 300

# The smallest valid documents.
_FRAMES: Final[Mapping[str, dict[str, Any]]] = {
    "CycloneDX": {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1},
    "SPDX": {
        "SPDXID": "SPDXRef-DOCUMENT",
        "creationInfo": {"created": "", "creators": [""]},
        "dataLicense": "CC0-1.0",
        "documentNamespace": "",
        "name": "",
        "spdxVersion": "SPDX-2.3",
    },
}

_Names = Mapping[str, "_Names | None"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (a JSON path, for XML the element path and line) and what, shortened."""

    severity: Severity
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, its reason in a sentence, and at most MOST_PROBLEMS problems, the gravest first."""

    verdict: Verdict
    reason: str
    problems: tuple[Problem, ...]
    # More problems were there, or may have been, than are listed.
    truncated: bool = False


def judge(document: Document) -> Judgement:
    """Judge a readable document against the schema of its version."""
    found, truncated = _problems(document)
    warnings = [Problem("warning", "", shortened(text, _MESSAGE)) for text in document.warnings]
    problems = sorted(found, key=lambda problem: SEVERITIES.index(problem.severity))
    kind = f"{document.format} {_plain_version(document)} {document.encoding.upper()}"
    if not found:
        return Judgement("SCHEMA_VALID", f"It is valid {kind}.", tuple(warnings))
    first = problems[0]
    where = f"{first.path}: " if first.path else ""
    more = f" ({len(found)}{'+' if truncated else ''} problems)" if len(found) > 1 or truncated else ""
    reason = f"It is not valid {kind}: {where}{first.message.rstrip('.')}{more}."
    return Judgement("SCHEMA_INVALID", reason, (*problems, *warnings)[:MOST_PROBLEMS], truncated)


def unreadable(reason: str) -> Judgement:
    """The judgement on a file that could not be read at all."""
    return Judgement("UNREADABLE", reason, (Problem("fatal", "", reason),))


def _plain_version(document: Document) -> str:
    return (document.spec_version or "of no version").removeprefix("SPDX-")


def _problems(document: Document) -> tuple[list[Problem], bool]:
    if document.json_value is None:
        return _xml_problems(document)
    known = CYCLONEDX_JSON_VERSIONS if document.format == "CycloneDX" else SPDX_VERSIONS
    version = document.spec_version
    field = "specVersion" if document.format == "CycloneDX" else "spdxVersion"
    if version not in known:
        stated = f"there is no schema for {version}" if version else "the version is missing"
        message = f"{stated}; those of {document.format} as JSON are {', '.join(known)}"
        return [Problem("used_field", f"$.{field}", message)], False
    used = _USED_CYCLONEDX if document.format == "CycloneDX" else _USED_SPDX
    return _json_problems(document, _validator(document.format, version), used)


# JSON


@cache
def _validator(sbom_format: str, version: str) -> jsonschema_rs.Validator:
    if sbom_format == "SPDX":
        spdx_version: SpdxVersion = "2.2" if version == "SPDX-2.2" else "2.3"
        return jsonschema_rs.validator_for(spdx_schema(spdx_version), mask="the value", offline=True)
    return jsonschema_rs.validator_for(
        _shipped_schema(f"bom-{version}.SNAPSHOT.schema.json"),
        # `format` is a rule in CycloneDX: an author's email must be one.
        validate_formats=True,
        retriever=_retrieve,
        mask="the value",
    )


def _shipped_schema(name: str) -> dict[str, Any]:
    content = (importlib.resources.files("cyclonedx.schema") / "_res" / name).read_bytes()
    schema: dict[str, Any] = json.loads(content)
    return schema


def _retrieve(address: str) -> dict[str, Any]:
    """The schema that another one refers to, from the files beside it."""
    name = address.split("#")[0].rsplit("/", 1)[-1]
    if name not in {
        "spdx.SNAPSHOT.schema.json",
        "jsf-0.82.SNAPSHOT.schema.json",
        "cryptography-defs.SNAPSHOT.schema.json",
    }:
        raise LookupError(f"The schema {address} is not shipped with cyclonedx-python-lib.")
    return _shipped_schema(name)


def _json_problems(document: Document, validator: jsonschema_rs.Validator, used: _Names) -> tuple[list[Problem], bool]:
    value = document.json_value
    assert value is not None
    if validator.is_valid(value):
        return [], False
    if document.values <= MOST_VALUES_AT_ONCE:
        # The gravest are kept, wherever they stand.
        graded = sorted(_graded(validator, value, used, {}), key=lambda problem: SEVERITIES.index(problem.severity))
        return graded[:MOST_PROBLEMS], len(graded) > MOST_PROBLEMS
    problems, truncated = _problems_in_pieces(document, validator, used)
    if not problems:
        problems = [Problem("used_field", "$", "the document as a whole does not hold to the schema")]
    return problems, truncated


def _graded(
    validator: jsonschema_rs.Validator, value: object, used: _Names, shift: Mapping[str, int]
) -> Iterator[Problem]:
    for error in validator.iter_errors(value):
        yield _json_problem(error, shift, used)


def _problems_in_pieces(
    document: Document, validator: jsonschema_rs.Validator, used: _Names
) -> tuple[list[Problem], bool]:
    """The problems of a large document: its fields without their lists, then its lists, some items at a time.

    A piece is put into a document that holds nothing else, so that judging one never costs what another one holds.
    """
    value = document.json_value or {}
    frame = _FRAMES[document.format] | {key: value[key] for key in ("specVersion", "spdxVersion") if key in value}
    fields: dict[str, Any] = {}
    large: list[str] = []
    room = MOST_VALUES_AT_ONCE
    for name, part in value.items():
        size = 1 if isinstance(part, list) else _size(part, room)
        if size <= room:
            fields[name] = [] if isinstance(part, list) else part
            room -= size
        else:
            large.append(name)
            if name in frame:
                fields[name] = frame[name]
    problems = list(_graded(validator, fields, used, {}))
    problems += [_unexplained([name], used) for name in large if not validator.is_valid(frame | {name: value[name]})]
    explained = 0
    for name, part in value.items():
        if not isinstance(part, list) or validator.is_valid(frame | {name: part}):
            continue
        before = len(problems)
        for start, piece, size in _pieces(part):
            if validator.is_valid(frame | {name: piece}):
                continue
            if size > MOST_VALUES_AT_ONCE:
                problems.append(_unexplained([name, start], used))
            else:
                explained += size
                problems += _graded(validator, frame | {name: piece}, used, {name: start})
            if len(problems) > MOST_PROBLEMS or explained > MOST_VALUES_EXPLAINED:
                return problems[:MOST_PROBLEMS], True
        if len(problems) == before:
            # Each piece is right and the list is not: two equal items stand far from each other.
            problems.append(_unexplained([name], used))
    return problems[:MOST_PROBLEMS], len(problems) > MOST_PROBLEMS


def _pieces(items: Sequence[object]) -> Iterator[tuple[int, Sequence[object], int]]:
    """Neighbouring items of a list that together hold few values, with the first one's place and their size."""
    start, size = 0, 0
    for place, item in enumerate(items):
        more = _size(item, MOST_VALUES_AT_ONCE)
        if size and size + more > MOST_VALUES_AT_ONCE:
            yield start, items[start:place], size
            start, size = place, 0
        size += more
    if size:
        yield start, items[start:], size


def _size(value: object, most: int) -> int:
    """How many values this one holds, itself too; counting ends behind `most`."""
    count = 0
    waiting = [value]
    while waiting and count <= most:
        found = waiting.pop()
        count += 1
        if isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return count


def _unexplained(path: Sequence[str | int], used: _Names) -> Problem:
    names = [part for part in path if isinstance(part, str)]
    message = "it does not hold to the schema; it is too large to say where, or two of its items are equal"
    return Problem(_grade(names, used), json_path(path), message)


def _json_problem(error: jsonschema_rs.ValidationError, shift: Mapping[str, int], used: _Names) -> Problem:
    """The problem behind an error; `shift` says where a list's piece begins in the document."""
    path = list(error.instance_path)
    if len(path) > 1 and isinstance(path[1], int):
        path[1] += shift.get(str(path[0]), 0)
    names = [part for part in path if isinstance(part, str)]
    message = error.message
    if error.kind.name == "required":
        # The error stands at the object; the field that is missing decides how grave it is.
        names.append(str(error.kind.as_dict().get("property", "")))
    elif error.kind.name in {"format", "pattern", "enum", "const", "type", "minLength"}:
        message = f"{message} (it is {_excerpt(error.instance)})"
    return Problem(_grade(names, used), shortened(json_path(path), _PATH), shortened(message, _MESSAGE))


def _excerpt(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return f"`{shortened(str(value), 60)}`" if isinstance(value, str) else repr(value)[:60]


def json_path(path: Sequence[str | int]) -> str:
    """The path in the usual notation: `$.components[3].name`."""
    parts = ["$"]
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif part.isidentifier():
            parts.append(f".{part}")
        else:
            parts.append(f"[{json.dumps(part)}]")
    return "".join(parts)


# XML


@cache
def _xml_validator(version: str) -> XmlValidator:
    return XmlValidator(SchemaVersion.from_version(version))


@cache
def _xml_schema(version: str) -> etree.XMLSchema:
    """The library's own schema file, for judging while parsing."""
    shipped = importlib.resources.files("cyclonedx.schema") / "_res" / f"bom-{version}.SNAPSHOT.xsd"
    with importlib.resources.as_file(shipped) as path:
        return etree.XMLSchema(file=path.as_uri())


def _xml_problems(document: Document) -> tuple[list[Problem], bool]:
    version = document.spec_version
    if version is None or version not in CYCLONEDX_XML_VERSIONS:
        known = ", ".join(CYCLONEDX_XML_VERSIONS)
        message = f"there is no schema for the namespace {NAMESPACE}{version or ''}; versions as XML are {known}"
        return [Problem("used_field", "/bom", message)], False
    if document.values <= MOST_TAGS_WITH_PLACES:
        found = _xml_validator(version).validate_str(document.text, all_errors=True)
        errors: list[Any] | None = None if found is None else [error.data for error in found]
    else:
        errors = _errors_while_parsing(document.text, version)
    if errors is None:
        return [], False
    # libxml2 adds such a remark to a duplicate key or a broken attribute; it is no error of its own.
    told = [error for error in errors if "No precomputed value available" not in error.message]
    problems = [_xml_problem(error, document, version) for error in told[:MOST_PROBLEMS]]
    return problems or [Problem("used_field", "/bom", "it does not hold to the schema")], len(told) > MOST_PROBLEMS


def _errors_while_parsing(text: str, version: str) -> list[Any] | None:
    parser = xml_parser(schema=_xml_schema(version))
    try:
        etree.fromstring(text.encode("utf-8"), parser=parser)
    except etree.XMLSyntaxError:
        return list(parser.error_log)
    return None


def _xml_problem(error: Any, document: Document, version: str) -> Problem:
    """The problem behind an entry of libxml2's log."""
    message = error.message.replace(f"{{{NAMESPACE}{version}}}", "")
    names = _element_names(document.xml_root, error.path) if document.values <= MOST_TAGS_WITH_PLACES else []
    # While parsing, libxml2 knows neither.
    path = f"/{'/'.join(names)} (line {error.line:,})" if names else "/bom"
    # Without a path the graver of the two is said.
    grade = _grade(_json_names(names), _USED_CYCLONEDX)
    return Problem(grade, shortened(path, _PATH), shortened(message, _MESSAGE))


def _element_names(root: etree._Element, path: str | None) -> list[str]:
    """The names of the elements from the root to the one at fault; libxml2 gives their positions alone."""
    found = root.xpath(path) if path else []
    element = found[0] if isinstance(found, list) and found and isinstance(found[0], etree._Element) else root
    lineage = [element, *element.iterancestors()]
    return [etree.QName(step).localname for step in reversed(lineage)]


def _json_names(names: Sequence[str]) -> list[str]:
    """Element names as the JSON form has them: `components/component/name` is `components`, `name`."""
    kept: list[str] = []
    for before, name in pairwise(names):
        if before not in {f"{name}s", f"{name[:-1]}ies"} or not kept or kept[-1] != before:
            kept.append(name)
    return kept


# What facts.py reads: None ends a field that is used as a whole.


def _used(fields: str) -> dict[str, _Names | None]:
    return dict.fromkeys(fields.split())


def _used_component() -> dict[str, _Names | None]:
    component = _used(
        "type bom-ref group name version purl cpe scope licenses hashes supplier manufacturer publisher author authors"
    )
    component["components"] = component
    return component


_USED_COMPONENT = _used_component()
_USED_CYCLONEDX: Final[_Names] = {
    **_used("bomFormat specVersion serialNumber version dependencies compositions"),
    "metadata": {
        **_used("timestamp tools authors supplier manufacture manufacturer lifecycles"),
        "component": _USED_COMPONENT,
    },
    "components": _USED_COMPONENT,
    "vulnerabilities": _used("id analysis affects"),
}
_USED_SPDX: Final[_Names] = {
    **_used("SPDXID spdxVersion name documentNamespace creationInfo documentDescribes relationships"),
    "packages": _used(
        "SPDXID name versionInfo supplier originator downloadLocation checksums externalRefs licenseConcluded "
        "licenseDeclared packageFileName primaryPackagePurpose"
    ),
}


def _grade(names: Sequence[str], used: _Names) -> Severity:
    level: _Names | None = used
    for name in names:
        if level is None:
            break
        if name not in level:
            return "elsewhere"
        level = level[name]
    return "used_field"
