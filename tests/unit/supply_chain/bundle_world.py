"""Real bundles and ones signed under a trust root made from a seed, to be changed in one place at a time."""

import base64
import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from analytics.sample.signing import TrustRoot, WorkflowIdentity, provenance
from analytics.supply_chain.trusted_roots import TrustedRoot, load_trusted_roots, read_trusted_roots
from analytics.supply_chain.verification import Judgement, judge
from tests.unit.supply_chain.manifest_world import real

AT = datetime(2024, 5, 1, 12, 30, 5, tzinfo=UTC)
DIGEST = "sha256:" + "5a" * 32

Path = tuple[str | int, ...]
# Fields that hold bytes, of bundles and of PEP 740's attestations.
BYTES = frozenset(
    {
        *("payload", "sig", "signature", "digest", "rawBytes", "signedTimestamp", "signedEntryTimestamp"),
        *("canonicalizedBody", "keyId", "rootHash", "hashes", "certificate", "statement"),
    }
)


@dataclass(frozen=True)
class Instance:
    """A bundle that passes under its roots."""

    bundle: Mapping[str, Any]
    roots: tuple[TrustedRoot, ...]

    def judged(self, bundle: Any) -> Judgement:
        """The verdict on another bundle under the same roots."""
        return judge(json.dumps(bundle).encode(), self.roots)

    def changed(self, path: Path, value: Any) -> Any:
        """The bundle with another value in one place."""
        bundle = copy.deepcopy(dict(self.bundle))
        at(bundle, path[:-1])[path[-1]] = value
        return bundle


def at(value: Any, path: Path) -> Any:
    """What stands at a place."""
    for key in path:
        value = value[key]
    return value


def bytes_of(instance: Instance) -> list[Path]:
    """The places of everything in a bundle that is bytes."""
    return list(_bytes_of(instance.bundle, ()))


def _bytes_of(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, str):
        if next(key for key in reversed(path) if isinstance(key, str)) in BYTES:
            yield path
    elif isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _bytes_of(inner, (*path, key))


def flipped(instance: Instance, path: Path, number: int, mask: int) -> Any:
    """The bundle with one byte changed behind its base64."""
    raw = bytearray(base64.b64decode(at(instance.bundle, path)))
    raw[number % len(raw)] ^= mask
    return instance.changed(path, base64.b64encode(raw).decode())


def identity(**changes: Any) -> WorkflowIdentity:
    """Who signs in the made-up instances."""
    fields: dict[str, Any] = {
        "repository": "acme/shop",
        "repository_id": 4711,
        "owner_id": 12,
        "sha": "c0" * 20,
        "run_id": 900,
    }
    return WorkflowIdentity(**(fields | changes))


@cache
def authority() -> TrustRoot:
    """The trust root of these tests; the order of what is logged under it changes nothing that they look at."""
    return TrustRoot.from_seed(7, "Acme")


@cache
def made_up_roots() -> tuple[TrustedRoot, ...]:
    """Its two trusted roots: of the instance with a log, and of the private one."""
    public, private = authority().trusted_root_json(), authority().private_trusted_root_json()
    return (*read_trusted_roots(public, "acme.json"), *read_trusted_roots(private, "acme-private.json"))


def signed(
    statement: Mapping[str, Any] | None = None,
    who: WorkflowIdentity | None = None,
    *,
    witnessed: bool = True,
    timestamped: bool = False,
) -> dict[str, Any]:
    """A bundle of a statement (else of the signer's own provenance)."""
    who = who or identity()
    raw = authority().sign(
        statement or provenance(who, {"shop.tar": DIGEST}), who, AT, witnessed=witnessed, timestamped=timestamped
    )
    bundle: dict[str, Any] = json.loads(raw)
    return bundle


def made_up(name: str) -> Instance:
    """A bundle of the public instance, with a timestamp beside its log entry or without, or of the private one."""
    options = {"public": {}, "timestamped": {"timestamped": True}, "private": {"witnessed": False}}[name]
    return Instance(signed(**options), made_up_roots())


_REAL = {
    "GitHub's private instance": (
        "valid/provenance/cli/github_provenance_demo-0.0.12-py3-none-any-bundle.jsonl",
        "github_private",
    ),
    "the public instance": (
        "valid/provenance/slsa-verifier/bcr_MODULE.bazel.intoto.jsonl",
        "public_good",
    ),
    "Rekor v2 with a timestamp": (
        "valid/provenance/sigstore-python/a.dsse.staging-rekor-v2.txt.sigstore.json",
        "staging",
    ),
    "an artifact's signature": (
        "valid/provenance/sigstore-python/staging-rekor-v2.txt.sigstore.json",
        "staging",
    ),
    "PEP 740": (
        "valid/provenance/pypi-attestations/pypi_attestations-0.0.19.tar.gz.publish.attestation",
        "public_good",
    ),
}
REAL = tuple(_REAL)
MADE_UP = ("public", "timestamped", "private")


@cache
def instance(name: str) -> Instance:
    """One of REAL or MADE_UP."""
    if name in MADE_UP:
        return made_up(name)
    path, root = _REAL[name]
    return Instance(
        json.loads(real(path).read_text(encoding="utf-8")), load_trusted_roots(real("trusted_roots", f"{root}.json"))
    )
