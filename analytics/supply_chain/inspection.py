"""`quarterdeck inspect`: one file judged by itself, offline, as the JSON object of contract.md section 6.

A file with several bundles gets one object: its verdict is the gravest of theirs, and `documents` lists each, so that a
failing one never hides a passing one, nor the reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from analytics.errors import SourceError
from analytics.supply_chain.claims import CheckedClaim
from analytics.supply_chain.trusted_roots import TrustedRoot
from analytics.supply_chain.untrusted import MAX_BYTES
from analytics.supply_chain.verification import PROVENANCE, Judgement, gravest, judge_all

# Marks of an SBOM, looked for in a file's first kilobytes only.
_SBOM_MARKS = (
    b'"bomFormat"',
    b'"spdxVersion"',
    b'"SPDXID"',
    b"cyclonedx.org/schema/bom",
    b"SPDXVersion:",
    b"spdx.org/rdf",
)
_BUNDLE_MARKS = (
    b'"verificationMaterial"',
    b'"dsseEnvelope"',
    b'"verification_material"',
    b'"payloadType"',
    b'"attestation',
)
_SNIFFED_BYTES = 64 * 1024


def inspect_file(source: Path | bytes, roots: Sequence[TrustedRoot], *, digest: str | None = None) -> dict[str, Any]:
    """The object for one file, or for its bytes, of bundles or PEP 740 attestations.

    Raises SourceError when the file cannot be read, UsageError for a digest that is none, TrustedRootError for a test
    root beside a real one, and nothing for what the file holds.
    """
    raw = source if isinstance(source, bytes) else _read(source)
    judgements = judge_all(raw, roots, digest)
    chosen = gravest(judgements)
    shown = {"path": None if isinstance(source, bytes) else str(source), **judgement_object(chosen)}
    if len(judgements) > 1:
        passing = sum(judgement.verdict.passed for judgement in judgements)
        shown["kind"] = PROVENANCE if any(judgement.kind == PROVENANCE for judgement in judgements) else chosen.kind
        shown["reason"] = f"{passing} of {len(judgements)} pass; {chosen.place}: {chosen.reason}"
        shown["documents"] = [judgement_object(judgement) for judgement in judgements]
    return shown


def looks_like_sbom(raw: bytes) -> bool:
    """Whether the content is an SBOM rather than a bundle: XML, or the marks of CycloneDX and SPDX near its start."""
    start = raw[:_SNIFFED_BYTES]
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return True
    # A bundle's own fields come first: an SBOM inside an attestation is base64 and shows no marks.
    return not any(mark in start for mark in _BUNDLE_MARKS) and any(mark in start for mark in _SBOM_MARKS)


def judgement_object(judgement: Judgement) -> dict[str, Any]:
    """A judgement as JSON values."""
    certificate = asdict(judgement.certificate) if judgement.certificate is not None else None
    return {
        "kind": judgement.kind,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "proven": judgement.proven,
        "place": judgement.place or None,
        "bundle_sha256": judgement.bundle_sha256,
        "trusted_root": judgement.trusted_root,
        "trusted_root_sha256": judgement.trusted_root_sha256,
        "verifier": judgement.verifier,
        "verified_at": _time(judgement.verified_at),
        "verified_at_source": judgement.verified_at_source.value if judgement.verified_at_source else None,
        "log_index": judgement.log_index,
        "certificate": {name: _plain(value) for name, value in certificate.items()} if certificate else None,
        "statement_type": judgement.statement_type,
        "predicate_type": judgement.predicate_type,
        "subjects": [{"name": subject.name, "digest": dict(subject.digests)} for subject in judgement.subjects],
        "claims": [_claim(claim) for claim in judgement.claims],
        "exception": _exception(judgement),
    }


def _claim(claim: CheckedClaim) -> dict[str, Any]:
    return {
        "claim": claim.name,
        "claimed": claim.claimed,
        "place": claim.place,
        "certificate": claim.certified,
        "agrees": claim.agrees,
    }


def _exception(judgement: Judgement) -> str | None:
    if judgement.exception_type is None:
        return None
    return f"{judgement.exception_type}: {judgement.exception_text}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _time(value)
    return list(value) if isinstance(value, tuple) else value


def _time(value: datetime | None) -> str | None:
    return value.isoformat().replace("+00:00", "Z") if value is not None else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # One byte more than is judged, so that a longer file is refused for its length and never loaded whole.
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"The file cannot be read: {error.strerror}.", where=str(path), fix="Name a file.") from error
