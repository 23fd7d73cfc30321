"""What an organisation shipped, made from a seed: real bundles under a trust root of their own, and SBOMs.

Written as a files feed, so that stages run on it as they do on anybody's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from analytics.sample.signing import TrustRoot, WorkflowIdentity, provenance

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NOW = "2026-10-01T06:00:00Z"
SERVICES = 20
LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "ISC", "MIT OR Apache-2.0", "MPL-2.0", "LGPL-2.1-or-later")
OWNER = "bench"


def trust_root(seed: int) -> TrustRoot:
    """The instance that signs everything here."""
    return TrustRoot.from_seed(seed, "Benchmark")


def bundles(root: TrustRoot, count: int) -> Iterator[tuple[str, bytes]]:
    """Artifacts and the bundles that attest their provenance, one a minute."""
    for number in range(count):
        repository = f"{OWNER}/service-{number % SERVICES:02d}"
        sha = hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()
        digest = digest_of(number)
        identity = WorkflowIdentity(
            repository=repository, repository_id=1_000 + number % SERVICES, owner_id=7, sha=sha, run_id=10_000 + number
        )
        statement = provenance(identity, {f"ghcr.io/{repository}": digest})
        yield digest, root.sign(statement, identity, FIRST + timedelta(minutes=number))


def digest_of(number: int) -> str:
    """The digest of an artifact."""
    return f"sha256:{hashlib.sha256(f'artifact {number}'.encode()).hexdigest()}"


def sbom(number: int, components: int) -> dict[str, Any]:
    """A CycloneDX document of an artifact; of one document's components the next one has most."""
    listed = [
        {
            "type": "library",
            "bom-ref": f"part-{part}",
            "name": f"part-{part}",
            "version": f"1.{part % 17}.{number % 5}",
            "purl": f"pkg:npm/part-{part}@1.{part % 17}.{number % 5}",
            "supplier": {"name": f"Supplier {part % 40}"},
            "licenses": [{"expression": LICENCES[part % len(LICENCES)]}],
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(f"{part}/{number % 5}".encode()).hexdigest()}],
        }
        for part in range(number % 10, number % 10 + components)
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:00000000-0000-4000-8000-{number:012d}",
        "version": 1,
        "metadata": {
            "timestamp": (FIRST + timedelta(minutes=number)).isoformat(),
            "tools": {"components": [{"type": "application", "name": "bench", "version": "1"}]},
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": f"service-{number % SERVICES:02d}",
                "hashes": [{"alg": "SHA-256", "content": digest_of(number).removeprefix("sha256:")}],
            },
        },
        "components": listed,
        "dependencies": [{"ref": "image", "dependsOn": [one["bom-ref"] for one in listed]}],
    }


def write_organisation(folder: Path, seed: int, *, attested: int, described: int, components: int) -> Path:
    """Write settings, catalog, policies and feeds of an organisation; gives the settings file.

    Every described artifact was deployed. Attested ones were only released where they are no described ones, so that
    the time for bundles stands alone when `described` is 0.
    """
    feeds = folder / "feeds"
    feeds.mkdir(parents=True)
    root = trust_root(seed)
    (folder / "root.json").write_bytes(root.trusted_root_json())
    settings = {
        "organization": "Benchmark",
        "now": NOW,
        "storage": "./storage",
        "catalog": "catalog.yaml",
        "sources": [{"name": "drops", "type": "files", "path": "./feeds"}],
        "supply_chain": {"trusted_roots": ["root.json"], "policies": "policies.yaml", "osv": "osv"},
    }
    services = [{"name": f"service-{n:02d}", "repository": f"{OWNER}/service-{n:02d}"} for n in range(SERVICES)]
    policies = {"version": 1, "defaults": {"licenses": {"allow": list(LICENCES[:5]), "deny": [LICENCES[6]]}}}
    # JSON is YAML.
    for name, value in (("quarterdeck", settings), ("catalog", {"services": services}), ("policies", policies)):
        (folder / f"{name}.yaml").write_text(json.dumps(value, indent=1), encoding="utf-8")
    _write_records(folder / "osv", {f"{number}.json": _record(number) for number in range(0, components, 50)})
    with (feeds / "attestations.jsonl").open("wb") as file:
        for digest, bundle in bundles(root, attested):
            file.write(b'{"digest":"' + digest.encode() + b'","bundle":' + bundle + b"}\n")
    with (feeds / "sboms.jsonl").open("w", encoding="utf-8") as file:
        for number in range(described):
            file.write(json.dumps({"digest": digest_of(number), "document": sbom(number, components)}) + "\n")
    with (feeds / "deployments.jsonl").open("w", encoding="utf-8") as file:
        for number in range(described):
            at = (FIRST + timedelta(minutes=number + 5)).isoformat()
            name = f"service-{number % SERVICES:02d}"
            deployment = {
                "deployment_id": f"d{number}",
                "service": name,
                "repository": f"{OWNER}/{name}",
                "environment": "production",
                "sha": hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest(),
                "digest": digest_of(number),
                "status": "success",
                "created_at": at,
                "finished_at": at,
            }
            file.write(json.dumps(deployment) + "\n")
    return folder / "quarterdeck.yaml"


def _record(part: int) -> dict[str, Any]:
    return {
        "id": f"GHSA-bench-{part}",
        "affected": [
            {
                "package": {"ecosystem": "npm", "name": f"part-{part}"},
                "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.5.0"}]}],
            }
        ],
        "database_specific": {"severity": "HIGH"},
    }


def _write_records(folder: Path, records: dict[str, dict[str, Any]]) -> None:
    folder.mkdir()
    for name, record in records.items():
        (folder / name).write_text(json.dumps(record), encoding="utf-8")
