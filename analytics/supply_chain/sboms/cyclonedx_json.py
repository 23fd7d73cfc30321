"""CycloneDX JSON → facts, read by ourselves.

Source: supply-chain.md section 2: cyclonedx-python-lib's own reader fails on valid documents and drops compositions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analytics.supply_chain.sboms.facts import (
    Component,
    Composition,
    Dependency,
    Facts,
    Hash,
    Licence,
    LicenceRole,
    Reference,
    Tool,
    VexStatement,
)
from analytics.supply_chain.sboms.identifiers import parsed_purl, read_hash, read_licence
from analytics.supply_chain.sboms.noting import Notes


def cyclonedx_facts(value: Mapping[str, Any], encoding: str, spec_version: str | None, notes: Notes) -> Facts:
    """The facts of a CycloneDX object (of the JSON form; the XML form is translated into it before)."""
    metadata = notes.mapping(value, "metadata", "$")
    subject = notes.mapping(metadata, "component", "$.metadata")
    revision = value.get("version")
    return Facts(
        format="CycloneDX",
        encoding=encoding,
        spec_version=spec_version,
        identity=notes.text(value, "serialNumber", "$"),
        revision=revision if isinstance(revision, int) and not isinstance(revision, bool) else None,
        subject=_component(subject, "$.metadata.component", None, notes) if subject else None,
        # What the subject is assembled of may stand inside it.
        components=(
            *_components(value, "$", None, notes),
            *_components(subject, "$.metadata.component", "$.metadata.component", notes),
        ),
        dependencies=tuple(_dependencies(value, notes)),
        tools=tuple(_tools(metadata, notes)),
        authors=tuple(_people(metadata, "authors", "$.metadata", notes)),
        supplier=_organisation(metadata, "supplier", "$.metadata", notes),
        manufacturer=_organisation(metadata, "manufacturer", "$.metadata", notes)
        or _organisation(metadata, "manufacture", "$.metadata", notes),
        manufacturer_address=_address(metadata, "manufacturer", "$.metadata", notes)
        or _address(metadata, "manufacture", "$.metadata", notes),
        timestamp=notes.text(metadata, "timestamp", "$.metadata"),
        lifecycles=tuple(_lifecycles(metadata, notes)),
        compositions=tuple(_compositions(value, notes)),
        vex=tuple(_vex(value, notes)),
        notes=(),
    )


def _components(holder: Mapping[str, Any], path: str, parent: str | None, notes: Notes) -> Iterator[Component]:
    """The components of a list and those nested in them; as deep as the document was allowed to be."""
    for value, place in notes.items(holder, "components", path):
        yield _component(value, place, parent, notes)
        if "components" in value:
            yield from _components(value, place, place, notes)


def _component(value: Mapping[str, Any], path: str, parent: str | None, notes: Notes) -> Component:
    purl_text = notes.text(value, "purl", path)
    purl, purl_problem = parsed_purl(purl_text) if purl_text else (None, None)
    if purl_problem:
        notes.add(f"{path}.purl", f"cannot be read: {purl_problem}")
    other = [*notes.texts_of(value, "omniborId", path), *notes.texts_of(value, "swhid", path)]
    swid = notes.text(notes.mapping(value, "swid", path), "tagId", f"{path}.swid")
    author = notes.text(value, "author", path)
    return Component(
        path=path,
        ref=notes.text(value, "bom-ref", path),
        kind=notes.text(value, "type", path),
        group=notes.text(value, "group", path),
        name=notes.text(value, "name", path),
        version=notes.text(value, "version", path),
        purl_text=purl_text,
        purl=purl,
        purl_problem=purl_problem,
        cpe=notes.text(value, "cpe", path),
        other_identifiers=(*other, swid) if swid else tuple(other),
        licences=tuple(_licences(value, path, notes)),
        hashes=tuple(_hashes(value, path, notes)),
        supplier=_organisation(value, "supplier", path, notes),
        manufacturer=_organisation(value, "manufacturer", path, notes),
        manufacturer_address=_address(value, "manufacturer", path, notes),
        publisher=notes.text(value, "publisher", path),
        authors=(*((author,) if author else ()), *_people(value, "authors", path, notes)),
        scope=notes.text(value, "scope", path),
        references=tuple(_references(value, path, notes)),
        properties=tuple(_properties(value, path, notes)),
        parent=parent,
    )


def _licences(value: Mapping[str, Any], path: str, notes: Notes) -> Iterator[Licence]:
    for choice, place in notes.items(value, "licenses", path):
        details = notes.mapping(choice, "license", place)
        # Beside an expression, or inside a licence.
        role = _role({**details, **choice}, place, notes)
        found = (
            (notes.text(choice, "expression", place), False),
            (notes.text(details, "id", place), False),
            (notes.text(details, "name", place), True),
        )
        for text, free_text in found:
            if text:
                licence = read_licence(text, role, free_text=free_text)
                if licence is not None:
                    if licence.problem and not free_text:
                        notes.add(place, f"the licence cannot be read: {licence.problem}")
                    yield licence
                break


def _role(value: Mapping[str, Any], path: str, notes: Notes) -> LicenceRole:
    said = notes.text(value, "acknowledgement", path)
    if said == "concluded":
        return "concluded"
    return "declared" if said == "declared" else "unstated"


def _hashes(value: Mapping[str, Any], path: str, notes: Notes) -> Iterator[Hash]:
    for item, place in notes.items(value, "hashes", path):
        found = read_hash(notes.text(item, "alg", place) or "", notes.text(item, "content", place) or "")
        if found:
            yield found
        else:
            notes.add(place, "is no hash with an algorithm and a value")


def _references(value: Mapping[str, Any], path: str, notes: Notes) -> Iterator[Reference]:
    for item, place in notes.items(value, "externalReferences", path):
        url = notes.text(item, "url", place)
        if url:
            yield Reference(notes.text(item, "type", place) or "other", url, tuple(_hashes(item, place, notes)))


def _properties(value: Mapping[str, Any], path: str, notes: Notes) -> Iterator[tuple[str, str]]:
    for item, place in notes.items(value, "properties", path):
        name = notes.text(item, "name", place)
        if name:
            yield name, notes.text(item, "value", place) or ""


def _organisation(value: Mapping[str, Any], key: str, path: str, notes: Notes) -> str | None:
    return notes.text(notes.mapping(value, key, path), "name", f"{path}.{key}")


def _address(value: Mapping[str, Any], key: str, path: str, notes: Notes) -> str | None:
    organisation = notes.mapping(value, key, path)
    for url in notes.texts_of(organisation, "url", f"{path}.{key}"):
        if url:
            return url
    mails = (notes.text(person, "email", at) for person, at in notes.items(organisation, "contact", f"{path}.{key}"))
    return next((mail for mail in mails if mail), None)


def _people(value: Mapping[str, Any], key: str, path: str, notes: Notes) -> Iterator[str]:
    for person, place in notes.items(value, key, path):
        said = notes.text(person, "name", place) or notes.text(person, "email", place)
        if said:
            yield said


def _tools(metadata: Mapping[str, Any], notes: Notes) -> Iterator[Tool]:
    """Tools as a list (before 1.5), or as components and services."""
    if isinstance(metadata.get("tools"), list):
        for tool, place in notes.items(metadata, "tools", "$.metadata"):
            name = notes.text(tool, "name", place) or notes.text(tool, "vendor", place)
            if name:
                yield Tool(name, notes.text(tool, "version", place), notes.text(tool, "vendor", place))
        return
    tools = notes.mapping(metadata, "tools", "$.metadata")
    for key in ("components", "services"):
        for tool, place in notes.items(tools, key, "$.metadata.tools"):
            name = notes.text(tool, "name", place)
            if name:
                vendor = notes.text(tool, "group", place) or notes.text(tool, "publisher", place)
                yield Tool(name, notes.text(tool, "version", place), vendor)


def _lifecycles(metadata: Mapping[str, Any], notes: Notes) -> Iterator[str]:
    for item, place in notes.items(metadata, "lifecycles", "$.metadata"):
        phase = notes.text(item, "phase", place) or notes.text(item, "name", place)
        if phase:
            yield phase


def _dependencies(value: Mapping[str, Any], notes: Notes) -> Iterator[Dependency]:
    for item, place in notes.items(value, "dependencies", "$"):
        ref = notes.text(item, "ref", place)
        if ref:
            yield Dependency(ref, tuple(notes.texts_of(item, "dependsOn", place)))


def _compositions(value: Mapping[str, Any], notes: Notes) -> Iterator[Composition]:
    for item, place in notes.items(value, "compositions", "$"):
        aggregate = notes.text(item, "aggregate", place)
        if aggregate:
            refs = [*notes.texts_of(item, "assemblies", place), *notes.texts_of(item, "dependencies", place)]
            yield Composition(aggregate, tuple(dict.fromkeys(refs)))


def _vex(value: Mapping[str, Any], notes: Notes) -> Iterator[VexStatement]:
    for item, place in notes.items(value, "vulnerabilities", "$"):
        analysis = notes.mapping(item, "analysis", place)
        affected = (notes.text(part, "ref", at) for part, at in notes.items(item, "affects", place))
        yield VexStatement(
            id=notes.text(item, "id", place),
            state=notes.text(analysis, "state", f"{place}.analysis"),
            justification=notes.text(analysis, "justification", f"{place}.analysis"),
            responses=tuple(notes.texts_of(analysis, "response", f"{place}.analysis")),
            affects=tuple(ref for ref in affected if ref),
        )
