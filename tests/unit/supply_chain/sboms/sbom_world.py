"""SBOMs to judge: the real ones beside the repository, and small ones to be changed in one place at a time."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from analytics.supply_chain.sboms.extraction import read_facts
from analytics.supply_chain.sboms.facts import Facts
from analytics.supply_chain.sboms.reading import Document, read_document, read_file
from analytics.supply_chain.sboms.validation import Judgement, judge

FOLDER = Path(__file__).resolve().parents[5] / "shared" / "data" / "supply-chain"
needs_real = pytest.mark.skipif(
    not (FOLDER / "manifest.json").exists(), reason="the real SBOMs are not beside this repository"
)


@cache
def manifest() -> list[dict[str, Any]]:
    """The manifest's SBOMs; none where the folder is absent."""
    path = FOLDER / "manifest.json"
    if not path.exists():
        return []
    return [item for item in json.loads(path.read_text(encoding="utf-8"))["items"] if item["kind"] == "sbom"]


def paths(*formats: str) -> list[str]:
    """The places of the manifest's SBOMs of some formats."""
    return [item["path"] for item in manifest() if item["format"] in formats]


def real(place: str) -> Document:
    """A real document that can be read."""
    return read_document(read_file(FOLDER / place))


def cyclonedx(version: str = "1.6", **fields: Any) -> bytes:
    """A CycloneDX document with these fields; the smallest valid one without any."""
    return json.dumps({"bomFormat": "CycloneDX", "specVersion": version, "version": 1, **fields}).encode()


def spdx(version: str = "2.3", **fields: Any) -> bytes:
    """A valid SPDX document with these fields."""
    document = {
        "SPDXID": "SPDXRef-DOCUMENT",
        "spdxVersion": f"SPDX-{version}",
        "creationInfo": {"created": "2024-05-01T12:00:00Z", "creators": ["Tool: syft-1.4.1", "Organization: Acme"]},
        "dataLicense": "CC0-1.0",
        "documentNamespace": "https://acme.example/sbom/1",
        "name": "shop",
        **fields,
    }
    return json.dumps(document).encode()


def library(**fields: Any) -> dict[str, Any]:
    """A CycloneDX component."""
    return {"type": "library", "name": "left-pad", "version": "1.3.0", **fields}


def package(**fields: Any) -> dict[str, Any]:
    """An SPDX package."""
    return {"SPDXID": "SPDXRef-a", "name": "left-pad", "versionInfo": "1.3.0", "downloadLocation": "NONE", **fields}


def judged(content: bytes) -> Judgement:
    """The judgement on a document that can be read."""
    return judge(read_document(content))


def facts(content: bytes) -> Facts:
    """The facts of a document that can be read."""
    return read_facts(read_document(content))
