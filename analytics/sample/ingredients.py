"""What the invented images are made of: SBOMs in the formats that tools write, and records of what is wrong with them.

No package here exists, and no record of a vulnerability is one. Source: supply-chain.md section 2.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from analytics.sample.organisation import ORGANIZATION, REGISTRY
from analytics.sample.repository import digest
from analytics.sample.timeline import DAY, stream, utc

_SUPPLIER = "Quayside Open Source"
_TOOL = "berth-sbom"
_NAMES = (
    "anchor-bolt", "ballast", "barnacle-log", "beacon-http", "bowline", "brine-cache", "buoy-metrics", "caulk-forms",
    "cleat", "compass-routes", "coxswain", "dinghy-auth", "eddy-stream", "fathom-json", "fender-retry", "galley-mail",
    "gangway", "halyard-config", "helm-flags", "jetty-queue", "keel-orm", "lanyard", "lighthouse-trace", "manifest-csv",
    "moor-pool", "oar-cli", "pennant-i18n", "pier-dates", "rudder", "sextant-geo", "shoal-hash", "slipway", "spar-css",
    "stern-zip", "swell-events", "tiller-test", "trawl-search", "wake-timer", "wharf-upload", "windlass",
)  # fmt: skip
_LICENCES = ("MIT", "MIT", "MIT", "Apache-2.0", "BSD-3-Clause", "ISC")


@dataclass(frozen=True)
class Package:
    """A package in one version."""

    kind: str
    name: str
    version: str
    licence: str

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:{self.kind}/{self.name}@{self.version}"


@dataclass(frozen=True)
class Ingredient:
    """A package that a service takes in at some time, and gets rid of or updates later (shares of a span of time)."""

    service: str
    package: Package
    begins: float
    ends: float
    # The version that takes its place.
    updated_to: str | None = None


_CRAWLER = Package("npm", "kraken-crawler", "2.1.0", "AGPL-3.0-only")
_CHARTS = Package("npm", "bilge-charts", "0.9.4", "SSPL-1.0")
_TEMPLATE = Package("pypi", "capstan-template", "3.2.1", "BSD-3-Clause")
_PARSER = Package("npm", "tideline-parser", "1.4.2", "MIT")

DENIED = (Ingredient("loyalty", _CRAWLER, 0.3, 9.0), Ingredient("search", _CHARTS, 0.3, 0.6))
VULNERABLE = (Ingredient("pricing", _TEMPLATE, 0.3, 9.0), Ingredient("cart", _PARSER, 0.2, 0.6, "1.4.3"))
DENIED_LICENCES = ("AGPL-3.0-only", "SSPL-1.0")
ALLOWED_LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "ISC")
# Too mild for the policy, and in several services.
_MILD = "wake-timer"


def packages_of(seed: int, service: str, at: int, span: tuple[int, int]) -> Sequence[Package]:
    """The packages in an image of a service that was built at a moment; versions move on month by month."""
    start, end = span
    share = (at - start) / (end - start)
    special: list[Package] = []
    for one in (*DENIED, *VULNERABLE):
        if one.service == service and one.begins <= share < one.ends:
            special.append(one.package)
        elif one.service == service and share >= one.ends and one.updated_to:
            special.append(replace(one.package, version=one.updated_to))
    return (*_usual(seed, service, at // (30 * DAY)), *special)


@lru_cache(maxsize=64)
def _usual(seed: int, service: str, month: int) -> tuple[Package, ...]:
    rng = stream(seed, "ingredients", service)
    kind = rng.choice(("npm", "pypi"))
    found = []
    for name in sorted(rng.sample(_NAMES, rng.randint(11, 17))):
        major, pace = rng.randint(0, 6), rng.randint(1, 9)
        found.append(Package(kind, name, f"{major}.{month % 20}.{month * pace % 17}", rng.choice(_LICENCES)))
    return tuple(found)


def cyclonedx(image: str, name: str, version: str, packages: Sequence[Package], at: int) -> dict[str, Any]:
    """A CycloneDX 1.6 document about an image (`sha256:…`)."""
    components = [_component(package) for package in packages]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(hex=image.removeprefix('sha256:')[:32], version=4)}",
        "version": 1,
        "metadata": {
            "timestamp": f"{utc(at):%Y-%m-%dT%H:%M:%SZ}",
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": _TOOL, "version": "4.2.0"}]},
            "supplier": {"name": ORGANIZATION},
            "component": {
                "type": "container",
                "bom-ref": name,
                "name": name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": image.removeprefix("sha256:")}],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": name, "dependsOn": [one["bom-ref"] for one in components]},
            *({"ref": one["bom-ref"]} for one in components),
        ],
    }


def _component(package: Package) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": package.purl,
        "supplier": {"name": _SUPPLIER},
        "name": package.name,
        "version": package.version,
        "hashes": [{"alg": "SHA-256", "content": _hash_of(package)}],
        "licenses": [{"license": {"id": package.licence}}],
        "purl": package.purl,
    }


def spdx(image: str, name: str, version: str, packages: Sequence[Package], at: int) -> dict[str, Any]:
    """An SPDX 2.3 document about an image."""
    own = {
        "SPDXID": "SPDXRef-image",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "Apache-2.0",
        "licenseDeclared": "Apache-2.0",
        "copyrightText": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": image.removeprefix("sha256:")}],
        "supplier": f"Organization: {ORGANIZATION}",
    }
    others = [
        {
            "SPDXID": f"SPDXRef-{number}",
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "supplier": f"Organization: {_SUPPLIER}",
            "licenseConcluded": package.licence,
            "licenseDeclared": package.licence,
            "copyrightText": "NOASSERTION",
            "checksums": [{"algorithm": "SHA256", "checksumValue": _hash_of(package)}],
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": package.purl}
            ],
        }
        for number, package in enumerate(packages, start=1)
    ]
    relations = [
        {
            "spdxElementId": "SPDXRef-image",
            "relationshipType": "DEPENDS_ON",
            "relatedSpdxElement": one["SPDXID"],
        }
        for one in others
    ]
    described = {
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-image",
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://{REGISTRY}/sbom/{image.removeprefix('sha256:')}",
        "creationInfo": {
            "created": f"{utc(at):%Y-%m-%dT%H:%M:%SZ}",
            "creators": [f"Tool: {_TOOL}-4.2.0", f"Organization: {ORGANIZATION}"],
        },
        "packages": [own, *others],
        "relationships": [described, *relations],
    }


@lru_cache(maxsize=4096)
def _hash_of(package: Package) -> str:
    return digest("package", package.purl) + digest("package", package.name)[:24]


def vulnerability_files() -> dict[str, bytes]:
    """Invented OSV records by their path."""
    records = (
        _record("HPSA-2026-0001", "PyPI", _TEMPLATE.name, "3.0.0", "3.2.4", "HIGH", "Templates reach the file system"),
        _record("HPSA-2026-0002", "npm", _PARSER.name, "0", "1.4.3", "CRITICAL", "A crafted table runs code"),
        _record("HPSA-2026-0003", "npm", _MILD, "0", "99.0.0", "LOW", "A timer that is off by a little"),
    )
    return {
        f"osv/{record['id']}.json": json.dumps(record, indent=2, sort_keys=True).encode() + b"\n" for record in records
    }


def _record(
    name: str, ecosystem: str, package: str, introduced: str, fixed: str, severity: str, summary: str
) -> dict[str, Any]:
    return {
        "schema_version": "1.7.0",
        "id": name,
        "modified": "2026-06-01T00:00:00Z",
        "summary": summary,
        "details": f"{summary}. This record is invented, as is its package.",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": introduced}, {"fixed": fixed}]}],
            }
        ],
        "database_specific": {"severity": severity},
    }
