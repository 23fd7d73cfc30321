"""Bytes → a document of a known format, with caps on what a hostile file may cost.

Source: supply-chain.md section 2. The caps hold before the costly step each of them guards: size before reading a file,
values and depth before JSON is decoded, a DOCTYPE before XML is parsed.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Literal

from lxml import etree

from analytics.errors import QuarterdeckError
from analytics.supply_chain.file_bytes import read_regular_file

Format = Literal["CycloneDX", "SPDX"]
Encoding = Literal["json", "xml"]

NAMESPACE = "http://cyclonedx.org/schema/bom/"
# The longest text that is quoted from a document in a message.
_EXCERPT = 80
_MOST_DUPLICATE_KEYS = 20

# A string (the closing quote may be missing, so that one pass is enough whatever the text holds).
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]+")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_DECLARATION = re.compile(r"<\?xml\s[^>]{0,300}?\?>")
_DECLARED_ENCODING = re.compile(rb"<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z][A-Za-z0-9._-]{0,40})[\"']")
# The other forms of SPDX 2 that are text: a line that states the version, behind comments at most.
_OTHER_SPDX = re.compile(r"^[ \t]*\"?(SPDXVersion|spdxVersion)\"?[ \t]*:[ \t]*[\"']?(SPDX-[0-9.]{1,20})", re.MULTILINE)
_LEADING_CHARACTERS = 16_384
_PROLOG = re.compile(r"\s+|<!--.*?-->|<\?.*?\?>", re.DOTALL)
_XML_ENCODINGS = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252"})
# The longer marks first: UTF-32's begins with UTF-16's.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost.

    `values` counts commas and opening brackets, commas inside strings too: at most so many JSON values or XML elements.
    A whole operating system has some 50,000 components; 200,000 of them, nested as deep as may be, were read and judged
    in 600 MB.
    """

    content_bytes: int = 64 * 1024 * 1024
    depth: int = 200
    values: int = 2_000_000
    components: int = 200_000


DEFAULT_LIMITS = Limits()


class UnreadableSbomError(QuarterdeckError):
    """A file is no SBOM that can be read; `format` and `spec_version` are given when it said so much."""

    def __init__(self, what: str, *, format: Format | None = None, spec_version: str | None = None) -> None:
        self.format = format
        self.spec_version = spec_version
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Document:
    """An SBOM that could be read.

    `value` is the decoded JSON object, or the XML root with `text` as it was parsed (its declaration blanked, so that
    line numbers stay). `values` is the bound of Limits.values. `warnings` tell what was odd about the encoding.
    """

    name: str
    format: Format
    encoding: Encoding
    spec_version: str | None
    json_value: Mapping[str, Any] | None = None
    xml_root: etree._Element | None = None
    text: str = ""
    values: int = 0
    warnings: tuple[str, ...] = ()


@dataclass
class _Notes:
    """Warnings gathered while decoding."""

    texts: list[str] = field(default_factory=list)
    duplicate_keys: list[str] = field(default_factory=list)
    duplicates: int = 0


def read_file(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a file; raises UnreadableSbomError for one that is too large, no regular file or not there."""
    try:
        return read_regular_file(path, limits.content_bytes)
    except OSError as error:
        raise UnreadableSbomError(f"The file cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UnreadableSbomError(f"The file cannot be read: {error}.") from error


def read_document(content: bytes, name: str = "", limits: Limits = DEFAULT_LIMITS) -> Document:
    """Decode the content of an SBOM; raises UnreadableSbomError with the reason when that cannot be done."""
    if len(content) > limits.content_bytes:
        raise _too_large(len(content), limits)
    notes = _Notes()
    text = _decoded(content, notes)
    start = text.lstrip("\t\n\r ")[:1]
    if not start:
        raise UnreadableSbomError("The file is empty.")
    if start == "<":
        return _xml_document(text, name, limits, notes)
    if start in "{[":
        values = _checked_json_size(text, limits)
        return _json_document(_decoded_json(text, notes), name, values, limits, notes)
    if other := _OTHER_SPDX.search(text[:_LEADING_CHARACTERS]):
        form = "in tag-value form" if other[1] == "SPDXVersion" else "as YAML"
        raise UnreadableSbomError(
            f"SPDX {form} is not read; export it as JSON.",
            format="SPDX",
            spec_version=shortened(other[2], 40),
        )
    raise UnreadableSbomError(f"It is neither JSON nor XML: it begins with {_quoted(text[:40])}.")


def read_value(value: object, name: str = "", limits: Limits = DEFAULT_LIMITS) -> Document:
    """An SBOM that was decoded already, as `document` of the files feed's entity `sboms` is."""
    return _json_document(value, name, _checked_value_size(value, limits), limits, _Notes())


def _too_large(size: int, limits: Limits) -> UnreadableSbomError:
    return UnreadableSbomError(
        f"The file has {size:,} bytes or more; at most {limits.content_bytes:,} are read.",
    )


def _decoded(content: bytes, notes: _Notes) -> str:
    encoding = "utf-8"
    for mark, codec, spoken in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            encoding, content = codec, content[len(mark) :]
            notes.texts.append(f"The file begins with a byte order mark ({spoken}).")
            break
    else:
        if b"\0" in content[:4]:
            encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
            notes.texts.append("The file is UTF-16 without a byte order mark.")
        elif declared := _DECLARED_ENCODING.match(content):
            encoding = _xml_encoding(declared[1].decode("ascii"))
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableSbomError(
            f"The file is not {encoding.upper()}: byte {error.start:,} cannot be decoded ({error.reason})."
        ) from error


def _xml_encoding(declared: str) -> str:
    try:
        encoding = codecs.lookup(declared).name
    except LookupError:
        encoding = ""
    if encoding not in _XML_ENCODINGS:
        raise UnreadableSbomError(f"The XML declares the encoding {_quoted(declared)}, which is not read; use UTF-8.")
    return encoding


# JSON


def _checked_json_size(text: str, limits: Limits) -> int:
    values = text.count(",") + text.count("[") + text.count("{")
    if values > limits.values:
        raise UnreadableSbomError(f"The file holds about {values:,} values; at most {limits.values:,} are read.")
    brackets = _NOT_BRACKETS.sub("", _STRINGS.sub("", text))
    depth = max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
    if depth > limits.depth:
        raise UnreadableSbomError(f"The JSON is nested {depth:,} levels deep; at most {limits.depth} are read.")
    return values


def _decoded_json(text: str, notes: _Notes) -> object:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        decoded = dict(pairs)
        if len(decoded) != len(pairs):
            _note_duplicates(pairs, notes)
        return decoded

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UnreadableSbomError(
            f"The JSON is broken at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    except (ValueError, RecursionError) as error:
        # A number of more than 4,300 digits, NaN, Infinity; nesting when little is left of the stack.
        raise UnreadableSbomError(f"The JSON cannot be decoded: {shortened(str(error), 200)}.") from error
    if notes.duplicates:
        notes.texts.append(
            f"{notes.duplicates:,} objects repeat a key, of which the last is read: "
            + ", ".join(_quoted(key) for key in notes.duplicate_keys)
        )
    if _SURROGATE.search(text):
        value, replaced = _without_lone_surrogates(value)
        if replaced:
            notes.texts.append("Some text holds half a surrogate pair, which is no character; it reads as U+FFFD.")
    return value


def _note_duplicates(pairs: list[tuple[str, Any]], notes: _Notes) -> None:
    notes.duplicates += 1
    seen: set[str] = set()
    for key, _ in pairs:
        if len(notes.duplicate_keys) >= _MOST_DUPLICATE_KEYS:
            return
        if key in seen and key not in notes.duplicate_keys:
            notes.duplicate_keys.append(key)
        seen.add(key)


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def _without_lone_surrogates(value: Any) -> tuple[Any, bool]:
    """The value with halves of surrogate pairs replaced; depth was checked before."""
    if isinstance(value, str):
        clean = _LONE_SURROGATE.sub("\ufffd", value)
        return clean, clean is not value and clean != value
    if isinstance(value, list):
        parts = [_without_lone_surrogates(part) for part in value]
        return [part for part, _ in parts], any(changed for _, changed in parts)
    if isinstance(value, dict):
        items = [(_without_lone_surrogates(key), _without_lone_surrogates(part)) for key, part in value.items()]
        return {key: part for (key, _), (part, _) in items}, any(one or other for (_, one), (_, other) in items)
    return value, False


def _json_document(value: object, name: str, values: int, limits: Limits, notes: _Notes) -> Document:
    if not isinstance(value, dict):
        raise UnreadableSbomError(f"An SBOM is a JSON object; this is a {_json_type(value)}.")
    value = _unwrapped(value, notes)
    found_format = _json_format(value)
    version = value.get("specVersion" if found_format == "CycloneDX" else "spdxVersion")
    spec_version = shortened(version, 40) if isinstance(version, str) else None
    _refuse_many(_json_components(value, limits), found_format, spec_version, limits)
    return Document(
        name=name,
        format=found_format,
        encoding="json",
        spec_version=spec_version,
        json_value=value,
        values=values,
        warnings=tuple(notes.texts),
    )


def _unwrapped(value: dict[str, Any], notes: _Notes) -> dict[str, Any]:
    """The SBOM inside the envelope it may come in: GitHub's API answer, or an in-toto statement's predicate."""
    inner = value.get("sbom")
    if isinstance(inner, dict) and "spdxVersion" in inner:
        notes.texts.append("The SBOM stood inside an API answer's key `sbom`.")
        return inner
    predicate = value.get("predicate")
    if "predicateType" in value and isinstance(predicate, dict):
        notes.texts.append(f"The SBOM stood inside an in-toto statement ({_quoted(value['predicateType'])}).")
        return predicate
    return value


def _json_format(value: dict[str, Any]) -> Format:
    if "bomFormat" in value or "specVersion" in value or "cyclonedx.org" in str(value.get("$schema"))[:200]:
        return "CycloneDX"
    if "spdxVersion" in value or "SPDXID" in value:
        return "SPDX"
    if "@context" in value and "spdx.org" in str(value["@context"])[:200]:
        version = re.search(r"/rdf/(3\.[0-9.]{1,10})/", str(value["@context"])[:200])
        raise UnreadableSbomError(
            "SPDX 3 is not read yet; export it as SPDX 2.3 JSON or as CycloneDX.",
            format="SPDX",
            spec_version=f"SPDX-{version[1]}" if version else None,
        )
    keys = ", ".join(_quoted(key) for key in list(value)[:5]) or "none"
    raise UnreadableSbomError(f"The JSON is neither CycloneDX nor SPDX (keys: {keys}).")


def _json_components(value: Mapping[str, Any], limits: Limits) -> int:
    """How many components or packages there are, nested ones too; counting ends behind the limit."""
    metadata = value.get("metadata")
    lists: list[object] = [value.get("components"), value.get("packages")]
    if isinstance(metadata, dict) and isinstance(metadata.get("component"), dict):
        lists.append(metadata["component"].get("components"))
    count = 0
    while lists and count <= limits.components:
        found = lists.pop()
        if isinstance(found, list):
            count += len(found)
            lists.extend(item["components"] for item in found if isinstance(item, dict) and "components" in item)
    return count


def _refuse_many(count: int, sbom_format: Format, spec_version: str | None, limits: Limits) -> None:
    if count > limits.components:
        raise UnreadableSbomError(
            f"It lists more than {limits.components:,} components, the most that are read; split it.",
            format=sbom_format,
            spec_version=spec_version,
        )


def _json_type(value: object) -> str:
    names = {list: "list", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _checked_value_size(value: object, limits: Limits) -> int:
    """How many values an already decoded document holds."""
    count = 0
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        found, depth = waiting.pop()
        count += 1
        if count > limits.values:
            raise UnreadableSbomError(f"The document holds more values than {limits.values:,}, the most that are read.")
        if isinstance(found, dict | list):
            if depth >= limits.depth:
                raise UnreadableSbomError(f"The JSON is nested more than {limits.depth} levels deep.")
            waiting.extend((part, depth + 1) for part in (found.values() if isinstance(found, dict) else found))
    return count


# XML


def _xml_document(text: str, name: str, limits: Limits, notes: _Notes) -> Document:
    if declaration := _DECLARATION.match(text):
        # The text is decoded already; the declaration would name an encoding that it no longer has.
        text = re.sub(r"[^\n]", " ", declaration[0]) + text[declaration.end() :]
    _refuse_doctype(text)
    elements = text.count("<")
    if elements > limits.values:
        raise UnreadableSbomError(f"The file holds about {elements:,} tags; at most {limits.values:,} are read.")
    root = _parsed(text, limits)
    label = etree.QName(root)
    namespace = label.namespace or ""
    if namespace.startswith(NAMESPACE) and label.localname == "bom":
        spec_version = shortened(namespace.removeprefix(NAMESPACE), 40) or None
        components = sum(1 for _ in islice(root.iter(f"{{{namespace}}}component"), limits.components + 1))
        _refuse_many(components, "CycloneDX", spec_version, limits)
        return Document(
            name=name,
            format="CycloneDX",
            encoding="xml",
            spec_version=spec_version,
            xml_root=root,
            text=text,
            values=elements,
            warnings=tuple(notes.texts),
        )
    if "spdx.org" in namespace or label.localname in {"RDF", "Document"}:
        raise UnreadableSbomError("SPDX as XML is not read; export it as JSON.", format="SPDX")
    raise UnreadableSbomError(
        f"The XML is no CycloneDX document: its root is {_quoted(label.localname)} in the namespace "
        f"{_quoted(namespace)}."
    )


def _refuse_doctype(text: str) -> None:
    place = 0
    while part := _PROLOG.match(text, place):
        place = part.end()
    if text[place : place + 9].upper() == "<!DOCTYPE":
        raise UnreadableSbomError("The XML has a DOCTYPE, which is refused: it can name other files and entities.")


def xml_parser(schema: etree.XMLSchema | None = None) -> etree.XMLParser:
    """A parser of untrusted XML: no entities, no DTD, no network, libxml2's own limits on depth and text kept."""
    return etree.XMLParser(
        encoding="utf-8",
        schema=schema,
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )


def _parsed(text: str, limits: Limits) -> etree._Element:
    parser = xml_parser()
    try:
        # The text's halves of surrogate pairs do not exist here: it was decoded from bytes.
        root = etree.fromstring(text.encode("utf-8"), parser=parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableSbomError(f"The XML is broken: {shortened(str(error.msg), 200)}.") from error
    except ValueError as error:
        raise UnreadableSbomError(f"The XML cannot be parsed: {shortened(str(error), 200)}.") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise UnreadableSbomError("The XML has a DOCTYPE, which is refused: it can name other files and entities.")
    depth = 0
    level = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        level += 1 if event == "start" else -1
        depth = max(depth, level)
    if depth > limits.depth:
        raise UnreadableSbomError(f"The XML is nested {depth:,} levels deep; at most {limits.depth} are read.")
    return root


def shortened(text: str, most: int = _EXCERPT) -> str:
    """The text, or its beginning and an ellipsis, in one line and of characters that can be printed."""
    cut = text[: most + 1]
    clean = "".join(character if character.isprintable() else " " for character in cut)
    return clean if len(cut) <= most else clean[: most - 1] + "…"


def _quoted(value: object) -> str:
    return f"`{shortened(str(value) if isinstance(value, str) else repr(value))}`"
