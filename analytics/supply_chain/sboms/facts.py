"""What an SBOM says, in one shape for every format: plain values, nothing judged.

Source: supply-chain.md section 2. A field that cannot be read is left out and noted; it never costs the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LicenceRole = Literal["declared", "concluded", "unstated"]

# GitHub's export describes the default branch as it is today, never the artifact that was deployed.
GITHUB_DEPENDENCY_GRAPH: Final = "github_dependency_graph"
MOST_NOTES: Final = 100


@dataclass(frozen=True, slots=True)
class Hash:
    """A digest; the algorithm is spelled as in CycloneDX (SHA-256), the value is in lower case."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence as it was written, and as an SPDX expression when it is one.

    `unknown` lists the names in the expression that are not on SPDX's list; `problem` says why there is no expression.
    """

    text: str
    expression: str | None
    unknown: tuple[str, ...] = ()
    role: LicenceRole = "unstated"
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Purl:
    """A package URL in its parts; `name` and `namespace` are normalised as its type asks."""

    text: str
    type: str
    namespace: str | None
    name: str
    version: str | None
    qualifiers: tuple[tuple[str, str], ...]
    subpath: str | None


@dataclass(frozen=True, slots=True)
class Reference:
    """Somewhere else to look (`kind`: vcs, distribution, source-distribution, advisories, …), with its hashes."""

    kind: str
    url: str
    hashes: tuple[Hash, ...] = ()


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the software. `path` says where it stands in the document; `ref` is its own name there."""

    path: str
    ref: str | None
    kind: str | None
    group: str | None
    name: str | None
    version: str | None
    purl_text: str | None = None
    purl: Purl | None = None
    purl_problem: str | None = None
    cpe: str | None = None
    # SWID tag ids, SWHIDs, OmniBOR ids.
    other_identifiers: tuple[str, ...] = ()
    licences: tuple[Licence, ...] = ()
    hashes: tuple[Hash, ...] = ()
    supplier: str | None = None
    manufacturer: str | None = None
    # The manufacturer's first web or mail address.
    manufacturer_address: str | None = None
    publisher: str | None = None
    authors: tuple[str, ...] = ()
    scope: str | None = None
    file_name: str | None = None
    references: tuple[Reference, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    # The path of the component that this one is nested in.
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """`ref` needs (`depends_on`) or holds (`contains`) each of `targets`."""

    ref: str
    targets: tuple[str, ...]
    kind: Literal["depends_on", "contains"] = "depends_on"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that made or changed the document."""

    name: str
    version: str | None = None
    vendor: str | None = None


@dataclass(frozen=True, slots=True)
class Composition:
    """What the author says of the completeness (complete, incomplete, unknown, …) of some components."""

    aggregate: str
    refs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VexStatement:
    """A vulnerability that the document itself speaks of, with its author's analysis."""

    id: str | None
    state: str | None
    justification: str | None
    responses: tuple[str, ...]
    affects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was read. `notes` (at most MOST_NOTES) say what was left out and where."""

    format: str
    encoding: str
    spec_version: str | None
    # CycloneDX's serial number or SPDX's namespace.
    identity: str | None
    # The document's own revision; SPDX has none.
    revision: int | None
    subject: Component | None
    components: tuple[Component, ...]
    dependencies: tuple[Dependency, ...]
    tools: tuple[Tool, ...]
    authors: tuple[str, ...]
    supplier: str | None
    manufacturer: str | None
    manufacturer_address: str | None
    timestamp: str | None
    # CycloneDX's lifecycle phases: the context in which the document was made.
    lifecycles: tuple[str, ...]
    compositions: tuple[Composition, ...]
    vex: tuple[VexStatement, ...]
    # Paths at which vulnerabilities are spoken of outside `vex` (advisories of an SPDX package).
    advisories: tuple[str, ...] = ()
    # A known origin whose documents mean something special (GITHUB_DEPENDENCY_GRAPH).
    origin: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def top_level_components(self) -> int:
        """How many components stand in no other one."""
        return sum(component.parent is None for component in self.components)
