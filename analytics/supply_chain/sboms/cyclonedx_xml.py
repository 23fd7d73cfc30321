"""CycloneDX XML → the JSON form of the parts that facts are read from, so that their meaning is written once.

Source: supply-chain.md section 2. The root was parsed by `reading` without entities; its depth is capped there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from lxml import etree

Value = dict[str, Any]

_COMPONENT_TEXTS: Final = (
    "author",
    "publisher",
    "group",
    "name",
    "version",
    "scope",
    "cpe",
    "purl",
)
_LICENCE_CHOICES: Final = ("license", "expression", "expression-detailed")


def json_form(root: etree._Element) -> Value:
    """The object that the JSON form of this document would be, as far as facts need it."""
    value: Value = {"bomFormat": "CycloneDX", **_attributes(root, serialNumber="serialNumber")}
    revision = root.get("version", "")
    if revision.isascii() and revision.isdigit() and len(revision) < 10:
        value["version"] = int(revision)
    metadata = _child(root, "metadata")
    if metadata is not None:
        value["metadata"] = _metadata(metadata)
    _put_list(value, "components", root, "components", "component", _component)
    _put_list(value, "dependencies", root, "dependencies", "dependency", _dependency)
    _put_list(value, "compositions", root, "compositions", "composition", _composition)
    _put_list(value, "vulnerabilities", root, "vulnerabilities", "vulnerability", _vulnerability)
    return value


def _metadata(element: etree._Element) -> Value:
    value = _texts(element, "timestamp")
    for name in ("supplier", "manufacture", "manufacturer"):
        _put_one(value, name, element, _organisation)
    _put_one(value, "component", element, _component)
    _put_list(value, "authors", element, "authors", "author", _person)
    _put_list(value, "lifecycles", element, "lifecycles", "lifecycle", lambda part: _texts(part, "phase", "name"))
    tools = _child(element, "tools")
    if tools is not None:
        if _child(tools, "tool") is not None:
            value["tools"] = [_texts(tool, "vendor", "name", "version") for tool in _children(tools, "tool")]
        else:
            found: Value = {}
            value["tools"] = found
            _put_list(found, "components", tools, "components", "component", _component)
            _put_list(
                found, "services", tools, "services", "service", lambda part: _texts(part, "group", "name", "version")
            )
    return value


def _component(element: etree._Element) -> Value:
    value = {**_attributes(element, type="type", **{"bom-ref": "bom-ref"}), **_texts(element, *_COMPONENT_TEXTS)}
    for name in ("supplier", "manufacturer"):
        _put_one(value, name, element, _organisation)
    _put_one(value, "swid", element, lambda part: _attributes(part, tagId="tagId"))
    for name in ("omniborId", "swhid"):
        identifiers = [text for part in _children(element, name) if (text := _text(part))]
        if identifiers:
            value[name] = identifiers
    _put_list(value, "authors", element, "authors", "author", _person)
    _put_list(value, "hashes", element, "hashes", "hash", _hash)
    _put_list(value, "externalReferences", element, "externalReferences", "reference", _reference)
    _put_list(value, "properties", element, "properties", "property", _property)
    _put_list(value, "components", element, "components", "component", _component)
    licences = _child(element, "licenses")
    if licences is not None:
        value["licenses"] = [*map(_licence, _children(licences, *_LICENCE_CHOICES))]
    return value


def _licence(element: etree._Element) -> Value:
    acknowledgement = _attributes(element, acknowledgement="acknowledgement")
    kind = _local_name(element)
    if kind == "expression":
        return {"expression": _text(element), **acknowledgement}
    if kind == "expression-detailed":
        # Since 1.7: the texts of its licences stand inside.
        return {**_attributes(element, expression="expression"), **acknowledgement}
    return {"license": {**_texts(element, "id", "name"), **acknowledgement}}


def _hash(element: etree._Element) -> Value:
    return {**_attributes(element, alg="alg"), "content": _text(element)}


def _reference(element: etree._Element) -> Value:
    value = {**_attributes(element, type="type"), **_texts(element, "url")}
    _put_list(value, "hashes", element, "hashes", "hash", _hash)
    return value


def _property(element: etree._Element) -> Value:
    return {**_attributes(element, name="name"), "value": _text(element)}


def _organisation(element: etree._Element) -> Value:
    value = _texts(element, "name")
    value["url"] = [_text(part) for part in _children(element, "url")]
    value["contact"] = [_person(part) for part in _children(element, "contact")]
    return value


def _person(element: etree._Element) -> Value:
    return _texts(element, "name", "email")


def _dependency(element: etree._Element) -> Value:
    needed = [ref for part in _children(element, "dependency") if (ref := part.get("ref"))]
    return {**_attributes(element, ref="ref"), **({"dependsOn": needed} if needed else {})}


def _composition(element: etree._Element) -> Value:
    value = _texts(element, "aggregate")
    for name, item in (("assemblies", "assembly"), ("dependencies", "dependency")):
        holder = _child(element, name)
        if holder is not None:
            value[name] = [ref for part in _children(holder, item) if (ref := part.get("ref"))]
    return value


def _vulnerability(element: etree._Element) -> Value:
    value = _texts(element, "id")
    analysis = _child(element, "analysis")
    if analysis is not None:
        value["analysis"] = _texts(analysis, "state", "justification")
        responses = _child(analysis, "responses")
        if responses is not None:
            value["analysis"]["response"] = [_text(part) for part in _children(responses, "response")]
    _put_list(value, "affects", element, "affects", "target", lambda part: _texts(part, "ref"))
    return value


def _put_one(value: Value, name: str, element: etree._Element, read: Callable[[etree._Element], Value]) -> None:
    found = _child(element, name)
    if found is not None:
        value[name] = read(found)


def _put_list(
    value: Value,
    key: str,
    element: etree._Element,
    wrapper: str,
    item: str,
    read: Callable[[etree._Element], Value],
) -> None:
    holder = _child(element, wrapper)
    if holder is not None:
        value[key] = [read(part) for part in _children(holder, item)]


def _texts(element: etree._Element, *names: str) -> Value:
    """The texts of the children of these names, those that are there."""
    found = ((name, _child(element, name)) for name in names)
    return {name: _text(child) for name, child in found if child is not None}


def _attributes(element: etree._Element, **names: str) -> Value:
    return {key: value for key, name in names.items() if (value := element.get(name)) is not None}


def _text(element: etree._Element) -> str:
    return (element.text or "").strip()


def _child(element: etree._Element, name: str) -> etree._Element | None:
    return next(_children(element, name), None)


def _children(element: etree._Element, *names: str) -> Iterator[etree._Element]:
    """Children of the document's own namespace; extensions of others are left alone."""
    namespace = etree.QName(element).namespace
    yield from element.iterchildren(*(f"{{{namespace}}}{name}" for name in names))


def _local_name(element: etree._Element) -> str:
    return str(etree.QName(element).localname)
