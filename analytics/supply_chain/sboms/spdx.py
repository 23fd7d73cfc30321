"""SPDX 2 JSON → facts: a light reader that goes on where a field is wrong.

Source: supply-chain.md section 2 (a light reader; spdx-tools rejects timestamps that common tools write).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from analytics.supply_chain.sboms.facts import (
    GITHUB_DEPENDENCY_GRAPH,
    Component,
    Dependency,
    Facts,
    Hash,
    Licence,
    Purl,
    Reference,
    Tool,
)
from analytics.supply_chain.sboms.identifiers import parsed_purl, read_hash, read_licence
from analytics.supply_chain.sboms.noting import Notes

_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_NO_VALUE: Final = frozenset({"NOASSERTION", "NONE"})
_PERSON: Final = re.compile(r"(?:Person|Organization):\s*(.*?)\s*(?:\([^()]*\)|<[^<>]*>)?\s*", re.DOTALL)
# In parentheses by the specification; some tools write angle brackets.
_MAIL: Final = re.compile(r"[(<]([^()<>\s@]+@[^()<>\s@]+)[)>]")
_TOOL: Final = re.compile(r"Tool:\s*(.*?)(?:-v?(\d[^-\s]*(?:-[0-9A-Za-z.]+)?))?\s*", re.DOTALL)
_GITHUB_TOOL: Final = "GitHub.com-Dependency-Graph"
# "A … B" says that B needs A.
_NEEDED_BY: Final = frozenset(
    {
        "BUILD_DEPENDENCY_OF",
        "DEPENDENCY_OF",
        "DEV_DEPENDENCY_OF",
        "OPTIONAL_DEPENDENCY_OF",
        "PREREQUISITE_FOR",
        "PROVIDED_DEPENDENCY_OF",
        "RUNTIME_DEPENDENCY_OF",
        "TEST_DEPENDENCY_OF",
    }
)
_NEEDS: Final = frozenset({"DEPENDS_ON", "HAS_PREREQUISITE", "DYNAMIC_LINK", "STATIC_LINK"})


def spdx_facts(value: Mapping[str, Any], spec_version: str | None, notes: Notes) -> Facts:
    """The facts of an SPDX object. Packages are components; files and snippets are not."""
    creation = notes.mapping(value, "creationInfo", "$")
    creators = list(notes.texts_of(creation, "creators", "$.creationInfo"))
    components = tuple(_component(package, path, notes) for package, path in notes.items(value, "packages", "$"))
    relationships = list(_relationships(value, notes))
    return Facts(
        format="SPDX",
        encoding="json",
        spec_version=spec_version,
        identity=notes.text(value, "documentNamespace", "$"),
        revision=None,
        subject=_subject(value, components, relationships, notes),
        components=components,
        dependencies=tuple(_dependencies(relationships)),
        tools=tuple(_tools(creators)),
        authors=tuple(name for text in creators if (name := _person(text))),
        supplier=None,
        manufacturer=None,
        manufacturer_address=next((mail for text in creators if (mail := _mail(text))), None),
        timestamp=notes.text(creation, "created", "$.creationInfo"),
        lifecycles=(),
        compositions=(),
        vex=(),
        advisories=tuple(_advisories(value, notes)),
        origin=GITHUB_DEPENDENCY_GRAPH if any(_GITHUB_TOOL in text for text in creators) else None,
    )


def _component(value: Mapping[str, Any], path: str, notes: Notes) -> Component:
    purl_text, purl, purl_problem = _package_url(value, path, notes)
    return Component(
        path=path,
        ref=notes.text(value, "SPDXID", path),
        kind=(notes.text(value, "primaryPackagePurpose", path) or "").lower().replace("_", "-") or None,
        group=None,
        name=notes.text(value, "name", path),
        version=_stated(notes.text(value, "versionInfo", path)),
        purl_text=purl_text,
        purl=purl,
        purl_problem=purl_problem,
        cpe=next(_external(value, path, notes, "cpe23Type", "cpe22Type"), None),
        other_identifiers=tuple(_external(value, path, notes, "swid", "swh", "gitoid")),
        licences=tuple(_licences(value, path, notes)),
        hashes=tuple(_hashes(value, path, notes)),
        supplier=_person(notes.text(value, "supplier", path)),
        manufacturer=_person(notes.text(value, "originator", path)),
        manufacturer_address=_mail(notes.text(value, "originator", path)) or _mail(notes.text(value, "supplier", path)),
        file_name=notes.text(value, "packageFileName", path),
        references=tuple(_references(value, path, notes)),
    )


def _package_url(value: Mapping[str, Any], path: str, notes: Notes) -> tuple[str | None, Purl | None, str | None]:
    """The first package URL that can be read, else the first at all."""
    first: tuple[str | None, Purl | None, str | None] = (None, None, None)
    for text in _external(value, path, notes, "purl"):
        purl, problem = parsed_purl(text)
        if purl is not None:
            return text, purl, None
        notes.add(path, f"the purl cannot be read: {problem}")
        if first[0] is None:
            first = (text, None, problem)
    return first


def _external(value: Mapping[str, Any], path: str, notes: Notes, *types: str) -> Iterator[str]:
    """The locators of the external references of these types; older tools wrote a type as an address."""
    for item, place in notes.items(value, "externalRefs", path):
        kind = (notes.text(item, "referenceType", place) or "").rsplit("/", 1)[-1]
        locator = notes.text(item, "referenceLocator", place)
        if kind in types and locator:
            yield locator


def _advisories(value: Mapping[str, Any], notes: Notes) -> Iterator[str]:
    for package, path in notes.items(value, "packages", "$"):
        for item, place in notes.items(package, "externalRefs", path):
            kind = (notes.text(item, "referenceType", place) or "").rsplit("/", 1)[-1]
            if kind in {"advisory", "fix"}:
                yield place


def _licences(value: Mapping[str, Any], path: str, notes: Notes) -> Iterator[Licence]:
    concluded = notes.text(value, "licenseConcluded", path)
    declared = notes.text(value, "licenseDeclared", path)
    found = (
        read_licence(concluded, "concluded") if concluded else None,
        read_licence(declared, "declared") if declared else None,
    )
    for licence in found:
        if licence is not None:
            if licence.expression is None and licence.text != "NONE":
                notes.add(path, f"the {licence.role} licence cannot be read: {licence.problem}")
            yield licence


def _hashes(value: Mapping[str, Any], path: str, notes: Notes) -> Iterator[Hash]:
    for item, place in notes.items(value, "checksums", path):
        found = read_hash(notes.text(item, "algorithm", place) or "", notes.text(item, "checksumValue", place) or "")
        if found:
            yield found
        else:
            notes.add(place, "is no checksum with an algorithm and a value")


def _references(value: Mapping[str, Any], path: str, notes: Notes) -> Iterator[Reference]:
    location = _stated(notes.text(value, "downloadLocation", path))
    if location:
        yield Reference("distribution", location)
    homepage = _stated(notes.text(value, "homepage", path))
    if homepage:
        yield Reference("website", homepage)


def _relationships(value: Mapping[str, Any], notes: Notes) -> Iterator[tuple[str, str, str]]:
    for item, place in notes.items(value, "relationships", "$"):
        one = notes.text(item, "spdxElementId", place)
        kind = notes.text(item, "relationshipType", place)
        other = notes.text(item, "relatedSpdxElement", place)
        if one and kind and other and other not in _NO_VALUE:
            yield one, kind.upper(), other


def _dependencies(relationships: list[tuple[str, str, str]]) -> Iterator[Dependency]:
    needs: dict[str, dict[str, None]] = defaultdict(dict)
    holds: dict[str, dict[str, None]] = defaultdict(dict)
    for one, kind, other in relationships:
        if kind in _NEEDS:
            needs[one][other] = None
        elif kind in _NEEDED_BY:
            needs[other][one] = None
        elif kind == "CONTAINS":
            holds[one][other] = None
        elif kind == "CONTAINED_BY":
            holds[other][one] = None
    for ref, targets in needs.items():
        yield Dependency(ref, tuple(targets))
    for ref, targets in holds.items():
        yield Dependency(ref, tuple(targets), "contains")


def _subject(
    value: Mapping[str, Any],
    components: tuple[Component, ...],
    relationships: list[tuple[str, str, str]],
    notes: Notes,
) -> Component | None:
    """The one package that the document describes; None when it describes none or several."""
    described = dict.fromkeys(notes.texts_of(value, "documentDescribes", "$"))
    document = notes.text(value, "SPDXID", "$") or _DOCUMENT
    for one, kind, other in relationships:
        if kind == "DESCRIBES" and one == document:
            described[other] = None
        elif kind == "DESCRIBED_BY" and other == document:
            described[one] = None
    found = [component for component in components if component.ref in described]
    if len(found) > 1:
        notes.add("$", f"it describes {len(found):,} packages: which of them was shipped is not said")
    return found[0] if len(found) == 1 else None


def _tools(creators: list[str]) -> Iterator[Tool]:
    for text in creators:
        if text.startswith("Tool:") and (found := _TOOL.fullmatch(text[:300])):
            name = found[1].strip()
            if name:
                yield Tool(name, found[2])


def _person(text: str | None) -> str | None:
    """The name out of `Organization: Acme (mail@acme.example)`."""
    if not text or text in _NO_VALUE or text.startswith("Tool:"):
        return None
    found = _PERSON.fullmatch(text[:1_000])
    name = found[1] if found else text
    return _stated(name.strip())


def _mail(text: str | None) -> str | None:
    found = _MAIL.search(text[:1_000]) if text else None
    return found[1] if found else None


def _stated(text: str | None) -> str | None:
    return None if not text or text in _NO_VALUE else text
