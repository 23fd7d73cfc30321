"""Our own SBOM: CycloneDX 1.6 of what the lock installs, for `release.yml` and for whoever deploys.

`python deploy/sbom.py requirements/deploy.txt sbom.cdx.json` in an environment into which the lock was installed:
licences and dependencies come from the packages' own metadata. The same lock gives the same bytes.
"""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*(.+?))?\s*\\?$")
_NAME_OF_REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    """A package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> Iterator[tuple[str, str]]:
    """Names and versions of a lock that are installed here."""
    for line in text.splitlines():
        match = _LOCKED.match(line)
        if match and _is_installed(match[1], match[2]):
            yield canonical(match[1]), match[2]


def _is_installed(name: str, version: str) -> bool:
    try:
        return metadata.version(name) == version
    except metadata.PackageNotFoundError:
        return False


def needed_by(name: str) -> list[str]:
    """What an installed package asks for, whatever the marker: what is not installed is no component."""
    found = (_NAME_OF_REQUIREMENT.match(text) for text in metadata.requires(name) or ())
    return sorted({canonical(match[0]) for match in found if match})


def own_sbom(lock: str, version: str) -> str:
    """The SBOM as JSON; raises ValueError for a lock of which nothing is installed."""
    packages = dict(locked(lock))
    if not packages:
        raise ValueError("nothing of this lock is installed here; install it first")
    licences = LicenseFactory()
    components = {}
    for name, number in sorted(packages.items()):
        said = metadata.metadata(name)
        expression = said.get("License-Expression")
        components[name] = Component(
            name=name,
            version=number,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", name=name, version=number),
            bom_ref=f"pkg:pypi/{name}@{number}",
            licenses=[licences.make_from_string(expression)] if expression else [],
        )
    root = Component(
        name="quarterdeck",
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=f"quarterdeck@{version}",
        licenses=[licences.make_from_string("Apache-2.0")],
    )
    bom = Bom(components=components.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"{version}\n{lock}"))
    # A time would differ between two runs over the same lock; the provenance says when.
    bom.metadata.timestamp = datetime(1980, 1, 1, tzinfo=UTC)
    bom.metadata.component = root
    bom.register_dependency(root, components.values())
    for name, component in components.items():
        needed = {
            canonical(match[0]) for text in metadata.requires(name) or () if (match := _NAME_OF_REQUIREMENT.match(text))
        }
        bom.register_dependency(component, [components[each] for each in sorted(needed) if each in components])
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(own_sbom(source.read_text(encoding="utf-8"), metadata.version("quarterdeck")), encoding="utf-8")
