"""`quarterdeck inspect`: files judged by themselves, offline, as the JSON objects of contract.md section 6.

A file with several bundles gets one object: its verdict is the gravest of theirs, and `documents` lists each, so that a
failing one never hides a passing one, nor the reverse. What is neither bundle nor SBOM gets a verdict as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from analytics.errors import SourceError, UsageError
from analytics.supply_chain.claims import CheckedClaim
from analytics.supply_chain.file_bytes import read_named_file
from analytics.supply_chain.sboms.extraction import read_facts
from analytics.supply_chain.sboms.facts import Component, Facts
from analytics.supply_chain.sboms.quality import completeness
from analytics.supply_chain.sboms.reading import DEFAULT_LIMITS, UnreadableSbomError, read_document
from analytics.supply_chain.sboms.validation import judge as judge_sbom
from analytics.supply_chain.statements import parse_digest
from analytics.supply_chain.trusted_roots import TrustedRoot, load_trusted_roots, production_root
from analytics.supply_chain.untrusted import NotJsonError, UntrustedInputError, parse_json, printable
from analytics.supply_chain.verdicts import Verdict
from analytics.supply_chain.verification import PROVENANCE, Judgement, gravest, judge_all

SBOM = "sbom"
SBOM_VERDICTS = ("SCHEMA_VALID", "SCHEMA_INVALID", "UNREADABLE")
# Every word that an object's `verdict` may be.
INSPECTED_VERDICTS = (*(verdict.value for verdict in Verdict), *SBOM_VERDICTS)

# Keys of the outermost object by which a document is known. SBOMs nest the words of bundles, and the reverse.
_BUNDLE_KEYS = frozenset(
    {
        "verificationMaterial",
        "dsseEnvelope",
        "messageSignature",
        "verification_material",
        "envelope",
        "payloadType",
        "payload",
        "attestations",
        "attestation_bundles",
        "bundle",
        "_type",
    }
)
_SBOM_KEYS = frozenset({"bomFormat", "spdxVersion", "SPDXID", "specVersion", "sbom"})
# The same where JSON cannot be parsed: whichever mark comes first counts.
_SBOM_MARKS = (
    b'"bomFormat"',
    b'"bom-ref"',
    b'"spdxVersion"',
    b'"SPDXID"',
    b"cyclonedx.org/schema",
    b"SPDXVersion:",
    b"spdx.org/rdf",
)
_BUNDLE_MARKS = (b"application/vnd.dev.sigstore", *(f'"{key}"'.encode() for key in sorted(_BUNDLE_KEYS)))
_SNIFFED_BYTES = 64 * 1024
# What is read of a file: one byte more is refused for its length. Bundles have a lower limit of their own.
MOST_BYTES = DEFAULT_LIMITS.content_bytes


def inspection_roots(paths: Sequence[Path]) -> tuple[TrustedRoot, ...]:
    """The roots of the files, which then count alone; Sigstore's public instance where none is named.

    Raises TrustedRootError for a file that is none.
    """
    found = [root for path in paths for root in load_trusted_roots(path)]
    return tuple({root.sha256: root for root in found}.values()) or (production_root(),)


def known_verdict(word: str) -> str:
    """A verdict as typed by a person, letter case ignored; raises UsageError naming the nearest for any other word."""
    if word.upper() in INSPECTED_VERDICTS:
        return word.upper()
    near = get_close_matches(word.upper(), INSPECTED_VERDICTS, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"Verdicts are {', '.join(INSPECTED_VERDICTS)}."
    raise UsageError(f"“{printable(word)}” is no verdict", fix=hint)


def inspect_file(source: Path | bytes, roots: Sequence[TrustedRoot], *, digest: str | None = None) -> dict[str, Any]:
    """The object for one file, or for its bytes: of bundles or PEP 740 attestations, else of an SBOM.

    With `digest` (`sha256:…`, `sha512:…`) a bundle that passes must have it among its subjects; of an SBOM
    `describes_digest` says whether it names it. Raises SourceError when the file cannot be read, UsageError for a
    digest that is none, TrustedRootError for a test root beside a real one, and nothing for what the file holds.
    """
    raw = source if isinstance(source, bytes) else _read(source)
    path = None if isinstance(source, bytes) else str(source)
    if looks_like_sbom(raw):
        return {"path": path, **sbom_object(raw, digest)}
    judgements = judge_all(raw, roots, digest)
    chosen = gravest(judgements)
    shown = {"path": path, **judgement_object(chosen)}
    if chosen.verdict is Verdict.UNSUPPORTED_NOT_A_BUNDLE and (why := _why_not_json(raw)) and not chosen.place:
        shown["reason"] = f"It is neither a Sigstore bundle nor an SBOM: not JSON ({why})."
    if len(judgements) > 1:
        passing = sum(judgement.verdict.passed for judgement in judgements)
        shown["kind"] = PROVENANCE if any(judgement.kind == PROVENANCE for judgement in judgements) else chosen.kind
        shown["reason"] = f"{passing} of {len(judgements)} pass; {chosen.place}: {chosen.reason}"
        shown["documents"] = [judgement_object(judgement) for judgement in judgements]
    return shown


def _why_not_json(raw: bytes) -> str | None:
    """The parser's word on a file that is no JSON; None where it is, is empty, or breaks a cap before that is known."""
    try:
        parse_json(raw)
    except NotJsonError as error:
        return error.why if raw.strip() else None
    except UntrustedInputError:
        pass
    return None


def looks_like_sbom(raw: bytes) -> bool:
    """Whether the content is an SBOM rather than a bundle: XML, or by the keys of its outermost object.

    What cannot be parsed is told by the first mark of either in its first kilobytes.
    """
    # Without NULs, so that UTF-16, which an SBOM may be in, shows its marks too.
    start = raw[:_SNIFFED_BYTES].lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").replace(b"\0", b"")
    if start.startswith(b"<"):
        return True
    try:
        value = parse_json(raw)
    except UntrustedInputError:
        value = None
    if isinstance(value, dict):
        if value.keys() & _BUNDLE_KEYS:
            return False
        if value.keys() & _SBOM_KEYS:
            return True
    return _first(start, _SBOM_MARKS) < _first(start, _BUNDLE_MARKS)


def _first(text: bytes, marks: Iterable[bytes]) -> int:
    return min((place for mark in marks if (place := text.find(mark)) >= 0), default=len(text))


def sbom_object(raw: bytes, digest: str | None = None) -> dict[str, Any]:
    """An SBOM as JSON values: verdict of its schema, format, version, components (how many), and what it says."""
    wanted = str(parse_digest(digest)) if digest is not None else None
    shown: dict[str, Any] = {"kind": SBOM, "verdict": "UNREADABLE", "reason": "", "format": None, "spec_version": None}
    shown |= {"components": 0, "sbom_sha256": hashlib.sha256(raw).hexdigest()}
    try:
        document = read_document(raw)
        judgement = judge_sbom(document)
        facts = read_facts(document)
    except UnreadableSbomError as error:
        return shown | {"reason": error.what, "format": error.format, "spec_version": error.spec_version}
    except Exception as error:  # whatever the libraries make of a hostile document, it gets a verdict
        reason = f"It cannot be judged: {type(error).__name__}: {printable(error)}."
        return shown | {"reason": reason}
    described = _digests(facts.subject) if facts.subject is not None else []
    return shown | {
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "format": f"{document.format} {document.encoding}",
        "spec_version": document.spec_version,
        "components": len(facts.components),
        "subject": _component(facts.subject) if facts.subject is not None else None,
        "describes_digest": wanted in described if wanted is not None else None,
        "made_at": facts.timestamp,
        "authors": list(facts.authors),
        "tools": [asdict(tool) for tool in facts.tools],
        "problems": [asdict(problem) for problem in judgement.problems],
        "notes": list(facts.notes),
        "completeness": [asdict(standard) for standard in completeness(facts)],
        "component_list": [_component(component) for component in facts.components],
        "dependencies": _dependencies(facts),
    }


def _component(component: Component) -> dict[str, Any]:
    return {
        "path": component.path,
        "group": component.group,
        "name": component.name,
        "version": component.version,
        "purl": component.purl.text if component.purl else component.purl_text,
        "licences": [licence.expression or licence.text for licence in component.licences],
        "hashes": _digests(component),
        "supplier": component.supplier,
    }


def _digests(component: Component) -> list[str]:
    return [f"{one.algorithm.replace('-', '').casefold()}:{one.value}" for one in component.hashes]


def _dependencies(facts: Facts) -> list[dict[str, Any]]:
    return [{"ref": one.ref, "kind": one.kind, "targets": list(one.targets)} for one in facts.dependencies]


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
        return read_named_file(path, MOST_BYTES)
    except OSError as error:
        raise SourceError(f"The file cannot be read: {error.strerror}.", where=str(path), fix="Name a file.") from error
