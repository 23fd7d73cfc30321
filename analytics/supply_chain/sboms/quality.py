"""What three published lists of minimum elements ask of an SBOM, and who lacks what: counts and lists, no score.

Source: supply-chain.md section 2. NTIA, "The Minimum Elements for an SBOM" (2021); CISA, the same for 2025 (draft of
August 2025: adds tool name, generation context, component hash, licence); BSI TR-03183-2 version 2.1.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from analytics.supply_chain.sboms.facts import Component, Facts, Hash

Standard = Literal["NTIA-2021", "CISA-2025-draft", "BSI-TR-03183-2-2.1.0"]
MOST_MISSING: Final = 200

_BSI_CYCLONEDX: Final = (1, 6)
_DEPLOYABLE: Final = ("distribution", "distribution-intake")


@dataclass(frozen=True, slots=True)
class Element:
    """One asked-for element: how many of `total` have it, and who does not (at most MOST_MISSING, named by label).

    An element of the document itself has total 1 and an empty label for what lacks it.
    """

    name: str
    present: int
    total: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Completeness:
    """One list of minimum elements held against one document."""

    standard: Standard
    elements: tuple[Element, ...]

    @property
    def incomplete(self) -> tuple[Element, ...]:
        """The elements that something lacks."""
        return tuple(element for element in self.elements if element.present < element.total)


def completeness(facts: Facts) -> tuple[Completeness, ...]:
    """The document against NTIA 2021, CISA 2025 (draft) and BSI TR-03183-2 v2.1.0."""
    components = _all_components(facts)
    return (_ntia(facts, components), _cisa(facts, components), _bsi(facts, components))


def label(component: Component) -> str:
    """How a component is named to a reader: name and version, else its place in the document."""
    if not component.name:
        return component.path
    name = f"{component.group}/{component.name}" if component.group else component.name
    return f"{name}@{component.version}" if component.version else name


def _all_components(facts: Facts) -> list[Component]:
    """The components and the subject, once each (in SPDX the subject is one of them)."""
    components = list(facts.components)
    if facts.subject is not None and all(facts.subject is not component for component in components):
        components.insert(0, facts.subject)
    return components


def _ntia(facts: Facts, components: list[Component]) -> Completeness:
    related = _related(facts)
    return Completeness(
        "NTIA-2021",
        (
            _of_each("supplier_name", components, lambda c: bool(c.supplier or c.manufacturer or c.publisher)),
            _of_each("component_name", components, lambda c: bool(c.name)),
            _of_each("component_version", components, lambda c: bool(c.version)),
            _of_each("other_unique_identifiers", components, _identified),
            _of_each("dependency_relationship", components, related),
            _of_document("author_of_sbom_data", _authored(facts)),
            _of_document("timestamp", _is_time(facts.timestamp)),
        ),
    )


def _cisa(facts: Facts, components: list[Component]) -> Completeness:
    related = _related(facts)
    return Completeness(
        "CISA-2025-draft",
        (
            _of_document("sbom_author", _authored(facts)),
            _of_each("software_producer", components, lambda c: bool(c.manufacturer or c.supplier or c.publisher)),
            _of_each("component_name", components, lambda c: bool(c.name)),
            _of_each("component_version", components, lambda c: bool(c.version)),
            _of_each("software_identifiers", components, _identified),
            _of_each("component_hash", components, lambda c: bool(c.hashes)),
            _of_each("license", components, lambda c: bool(c.licences)),
            _of_each("dependency_relationship", components, related),
            _of_document("tool_name", bool(facts.tools)),
            _of_document("timestamp", _is_time(facts.timestamp)),
            _of_document("generation_context", bool(facts.lifecycles)),
        ),
    )


def _bsi(facts: Facts, components: list[Component]) -> Completeness:
    """SPDX 2 is no format that this version admits; its fields are counted all the same."""
    related = _related(facts)
    return Completeness(
        "BSI-TR-03183-2-2.1.0",
        (
            _of_document("format_and_version", _is_admitted(facts)),
            _of_document("no_vulnerability_information", not facts.vex and not facts.advisories),
            _of_document("sbom_creator_address", bool(facts.manufacturer_address)),
            _of_document("timestamp", _is_time(facts.timestamp)),
            _of_document("sbom_uri", bool(facts.identity)),
            _of_each("component_creator_address", components, lambda c: bool(c.manufacturer_address)),
            _of_each("component_name", components, lambda c: bool(c.name)),
            _of_each("component_version", components, lambda c: bool(c.version)),
            _of_each("filename", components, lambda c: bool(c.file_name or _property(c, "filename"))),
            _of_each("dependencies", components, related),
            _of_each("distribution_licences", components, lambda c: _has_expression(c, "concluded")),
            _of_each("original_licences", components, lambda c: _has_expression(c, "declared")),
            _of_each("deployable_sha512", components, lambda c: any(map(_is_sha512, _deployable_hashes(facts, c)))),
            _of_each("executable_property", components, lambda c: _property(c, "executable")),
            _of_each("archive_property", components, lambda c: _property(c, "archive")),
            _of_each("structured_property", components, lambda c: _property(c, "structured")),
            _of_each("source_code_uri", components, lambda c: _refers(c, "source-distribution", "vcs")),
            _of_each("deployable_uri", components, lambda c: _refers(c, *_DEPLOYABLE)),
            _of_each("other_unique_identifiers", components, _identified),
        ),
    )


def _of_each(name: str, components: Iterable[Component], has: Callable[[Component], bool]) -> Element:
    present, total = 0, 0
    missing: list[str] = []
    for component in components:
        total += 1
        if has(component):
            present += 1
        elif len(missing) < MOST_MISSING:
            missing.append(label(component))
    return Element(name, present, total, tuple(missing))


def _of_document(name: str, has: bool) -> Element:
    return Element(name, int(has), 1, () if has else ("",))


def _authored(facts: Facts) -> bool:
    """A tool is no author, except where CISA and NTIA ask for the tool by name."""
    return bool(facts.authors or facts.manufacturer or facts.supplier)


def _identified(component: Component) -> bool:
    return bool(component.purl or component.cpe or component.other_identifiers)


def _related(facts: Facts) -> Callable[[Component], bool]:
    """Whether a component has its place in the graph: it needs or holds another one, or is needed or held."""
    refs = {ref for dependency in facts.dependencies for ref in (dependency.ref, *dependency.targets)}
    parents = {component.parent for component in facts.components if component.parent}

    def has(component: Component) -> bool:
        return component.ref in refs or component.parent is not None or component.path in parents

    return has


def _is_time(text: str | None) -> bool:
    """An ISO 8601 time with a zone."""
    if not text or len(text) > 64:
        return False
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _is_admitted(facts: Facts) -> bool:
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", facts.spec_version or "")
    return facts.format == "CycloneDX" and found is not None and (int(found[1]), int(found[2])) >= _BSI_CYCLONEDX


def _has_expression(component: Component, role: str) -> bool:
    return any(licence.role == role and licence.expression for licence in component.licences)


def _deployable_hashes(facts: Facts, component: Component) -> Iterable[Hash]:
    """In CycloneDX they stand at the reference to the deployable; in SPDX 2 a package has one list."""
    if facts.format == "SPDX":
        yield from component.hashes
    for reference in component.references:
        if reference.kind in _DEPLOYABLE:
            yield from reference.hashes


def _is_sha512(digest: Hash) -> bool:
    return digest.algorithm == "SHA-512" and re.fullmatch("[0-9a-f]{128}", digest.value) is not None


def _property(component: Component, name: str) -> bool:
    return any(key == f"bsi:component:{name}" and value for key, value in component.properties)


def _refers(component: Component, *kinds: str) -> bool:
    return any(reference.kind in kinds for reference in component.references)
