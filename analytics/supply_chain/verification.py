"""One verdict per document: cryptography under one trusted root, then what was signed, then claims against certificate.

Nothing about a document makes `judge` raise: whatever goes wrong becomes a verdict that keeps the exception's type and
text. Without an expected digest a judgement depends on the bytes, the roots and the verifier only: `cache_key` names
the three, and `hold_against` adds the digest later. Policy is another room's (policy.py), over `attested_facts`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from analytics.supply_chain.bundles import Document, Shape, read_documents
from analytics.supply_chain.certificates import CertificateFacts, certificate_facts, load_certificate
from analytics.supply_chain.claims import CheckedClaim, check_claims, publisher_claims, same_workflow
from analytics.supply_chain.envelopes import envelope_parts
from analytics.supply_chain.pep740 import attestation_bundle
from analytics.supply_chain.private_instance import verify_private
from analytics.supply_chain.proofs import Proof, RefusedError, TimeSource
from analytics.supply_chain.public_instance import refusal, verify_public
from analytics.supply_chain.spelling import check_spelling
from analytics.supply_chain.statements import (
    PAYLOAD_TYPE,
    Digest,
    Statement,
    Subject,
    matching_subject,
    parse_digest,
    read_statement,
)
from analytics.supply_chain.trusted_roots import TrustedRoot, refuse_mixed_roots
from analytics.supply_chain.unsupported import refuse_if_false, why_unsupported
from analytics.supply_chain.untrusted import UntrustedInputError, decode_base64, printable
from analytics.supply_chain.verdicts import Verdict, gravity

BUNDLE, PROVENANCE = "bundle", "provenance"

# Ours changes whenever one of our checks does, so that no older judgement is taken from a cache.
VERIFIER = f"quarterdeck 1, sigstore-python {version('sigstore')}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is expected to have signed; None asks nothing of that part."""

    signer: str | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason and the evidence behind it (supply-chain.md section 1)."""

    verdict: Verdict
    # A sentence for a person.
    reason: str
    # "bundle", or "provenance" for PEP 740.
    kind: str
    bundle_sha256: str
    # Where in the file, when it holds several.
    place: str = ""
    # The root it was judged under; None when no given root issued its certificate, or none was needed.
    trusted_root: str | None = None
    trusted_root_sha256: str | None = None
    verifier: str = VERIFIER
    verified_at: datetime | None = None
    verified_at_source: TimeSource | None = None
    # Whether signature, certificate and time verified. Where they did not, the fields below are what the document says
    # of itself, for a person to look at; nothing may be decided by them.
    proven: bool = False
    certificate: CertificateFacts | None = None
    subjects: tuple[Subject, ...] = ()
    statement_type: str | None = None
    predicate_type: str | None = None
    claims: tuple[CheckedClaim, ...] = ()
    log_index: int | None = None
    exception_type: str | None = None
    exception_text: str | None = None


class CacheKey(NamedTuple):
    """What a judgement (without expected digest and identity) depends on, and nothing else."""

    bundle_sha256: str
    trusted_root_sha256: str
    verifier: str


def cache_key(raw: bytes, roots: Sequence[TrustedRoot]) -> CacheKey:
    """The key under which the judgements of `raw` under `roots` may be kept.

    One root stands for itself; several, whose order decides which is named, by the hash over theirs.
    """
    hashes = [root.sha256 for root in roots]
    together = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode("ascii")).hexdigest()
    return CacheKey(hashlib.sha256(raw).hexdigest(), together, VERIFIER)


def judge(bundle_bytes: bytes, roots: Sequence[TrustedRoot], expected_digest: str | None = None) -> Judgement:
    """The verdict on the bundle in `bundle_bytes`, under the first of `roots` that it passes, each tried by itself.

    With `expected_digest` (`sha256:…` or `sha512:…`) a signed subject has to have it. Of several bundles in one file
    the gravest verdict counts; `judge_all` gives each. Raises UsageError for a digest that is none, TrustedRootError
    for a test root beside a real one, and nothing for any bytes.
    """
    return gravest(judge_all(bundle_bytes, roots, expected_digest))


def judge_all(
    raw: bytes,
    roots: Sequence[TrustedRoot],
    expected_digest: str | None = None,
    identity: Identity | None = None,
) -> tuple[Judgement, ...]:
    """Every document in a file or an answer, each judged by itself; bytes that hold none get one judgement as well."""
    refuse_mixed_roots(roots)
    wanted = parse_digest(expected_digest) if expected_digest is not None else None
    try:
        documents = read_documents(raw)
    except UntrustedInputError as error:
        documents = (_unreadable(raw, error.what),)
    except BaseException as error:  # Rust panics under the libraries derive from BaseException
        documents = (_unreadable(raw, refusal(error).reason),)
    return tuple(
        _check_identity(hold_against(judge_document(document, roots), wanted), identity) for document in documents
    )


def judge_document(document: Document, roots: Sequence[TrustedRoot]) -> Judgement:
    """The verdict on one document that was read already: cryptography, what was signed, and its claims."""
    kind = PROVENANCE if document.shape is Shape.ATTESTATION else BUNDLE
    blank = Judgement(Verdict.UNSUPPORTED_NOT_A_BUNDLE, "", kind, document.sha256, document.place)
    try:
        with warnings.catch_warnings():
            # Of a certificate that a stranger made: it is judged, and whoever runs this can do nothing about it.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return _judge_document(document, roots, blank)
    except BaseException as error:  # likewise
        return _refused(blank, refusal(error))


def hold_against(judgement: Judgement, digest: Digest | None) -> Judgement:
    """The judgement, or INVALID_SUBJECT where it passes and none of its subjects has `digest`; None asks nothing."""
    if digest is None or not judgement.verdict.passed or matching_subject(judgement.subjects, digest) is not None:
        return judgement
    algorithms = sorted({name for subject in judgement.subjects for name in subject.digests})
    reason = (
        f"The signature holds, but none of its {len(judgement.subjects)} subjects has the digest {digest} "
        f"(they have {printable(', '.join(algorithms))})."
    )
    return replace(judgement, verdict=Verdict.INVALID_SUBJECT, reason=reason)


def _judge_document(document: Document, roots: Sequence[TrustedRoot], blank: Judgement) -> Judgement:
    if document.shape is Shape.NOT_FETCHED:
        return replace(blank, verdict=Verdict.ERROR_FETCH, reason=document.problem or "")
    if document.shape is Shape.UNREADABLE:
        return replace(blank, reason=document.problem or "")
    if document.shape is Shape.ENVELOPE:
        reason = (
            "It is a signed envelope without log entry or timestamp: nothing says when, or by whose right, "
            "it was signed."
        )
        return replace(blank, **_stated(document.value), reason=reason)
    try:
        bundle = attestation_bundle(document.value) if document.shape is Shape.ATTESTATION else document.value
    except UntrustedInputError as error:
        return _refused(blank, RefusedError(Verdict.UNSUPPORTED_NOT_A_BUNDLE, error.what, error))
    certificate = None
    try:
        check_spelling(bundle)
        certificate = _certificate(bundle)
        unsupported = why_unsupported(bundle)
        if unsupported:
            refuse_if_false(bundle, certificate, roots)
            verdict, reason = unsupported
            return replace(_with_stated(blank, bundle, certificate), verdict=verdict, reason=reason)
        if certificate is None:
            reason = "The bundle has no certificate, so that nobody is known to have signed."
            raise RefusedError(Verdict.INVALID_CERT, reason)
        if not ("dsseEnvelope" in bundle or "messageSignature" in bundle):
            raise RefusedError(Verdict.INVALID_SIGNATURE, "The bundle holds no signature.")
        return _under_roots(bundle, certificate, roots, blank, document)
    except BaseException as error:  # likewise
        return _refused(_with_stated(blank, bundle, certificate), refusal(error))


def _under_roots(
    bundle: Mapping[str, Any],
    certificate: x509.Certificate,
    roots: Sequence[TrustedRoot],
    blank: Judgement,
    document: Document,
) -> Judgement:
    """The first root that proves the bundle; else what the first that may have issued its certificate says."""
    first: Judgement | None = None
    for root in roots:
        if not root.names_issuer_of(certificate):
            continue
        under = replace(blank, trusted_root=root.name, trusted_root_sha256=root.sha256)
        try:
            proof = verify_public(bundle, root, document.text) if root.has_log else verify_private(bundle, root)
        except BaseException as error:  # likewise
            first = first or _refused(_with_stated(under, bundle, certificate), refusal(error))
            continue
        return _proven(under, proof, root, document)
    if first is not None:
        return first
    names = ", ".join(f"“{root.name}”" for root in roots) or "none was given"
    raise RefusedError(
        Verdict.INVALID_CERT,
        f"Its certificate names “{printable(certificate.issuer.rfc4514_string())}” as its issuer, which belongs to no "
        f"trusted root ({names}). Give a private instance's root, GitHub's from `gh attestation trusted-root`.",
    )


def _proven(under: Judgement, proof: Proof, root: TrustedRoot, document: Document) -> Judgement:
    """The verdict on a bundle whose cryptography holds: what was signed, and does it agree with the certificate."""
    facts = certificate_facts(proof.certificate)
    fields: dict[str, Any] = {
        "proven": True,
        "certificate": facts,
        "verified_at": proof.time.at,
        "verified_at_source": proof.time.source,
        "log_index": proof.log_index,
    }
    claims = publisher_claims(document.publisher)
    if proof.payload_type is not None and proof.payload is not None:
        try:
            statement = read_statement(proof.payload_type, proof.payload)
        except UntrustedInputError as error:
            return _refused(replace(under, **fields), RefusedError(Verdict.INVALID_SUBJECT, error.what, error))
        fields |= _statement_fields(statement)
        if document.shape is Shape.ATTESTATION and len(statement.subjects) != 1:
            reason = f"It has {len(statement.subjects)} subjects, where PEP 740 wants one."
            return replace(under, **fields, verdict=Verdict.INVALID_SUBJECT, reason=reason)
        claims = (*statement.claims, *claims)
    elif proof.artifact_sha256 is not None:
        fields["subjects"] = (Subject("", {"sha256": proof.artifact_sha256}),)
    checked = check_claims(claims, facts)
    verdict, reason = _verdict(checked, facts, proof, root)
    return replace(under, **fields, claims=checked, verdict=verdict, reason=reason)


def _verdict(
    claims: Sequence[CheckedClaim], facts: CertificateFacts, proof: Proof, root: TrustedRoot
) -> tuple[Verdict, str]:
    forged = next((claim for claim in claims if claim.agrees is False), None)
    if forged is not None:
        return Verdict.FORGED_CLAIMS, (
            f"The signature holds, but {forged.place} says that the {forged.name} is “{printable(forged.claimed)}” and "
            f"the certificate says “{printable(forged.certified)}”."
        )
    signer = printable(", ".join(facts.identities)) or "a signer without a name"
    said = f"Signed by {signer} at {proof.time.at:%Y-%m-%d %H:%M:%S} UTC"
    if not root.has_log:
        return Verdict.VERIFIED_PRIVATE, f"{said} under “{root.name}”, by its timestamp; no public log witnessed it."
    index = "" if proof.log_index is None else f" {proof.log_index}"
    return Verdict.VERIFIED, f"{said}, witnessed by log entry{index} under “{root.name}”."


def _check_identity(judgement: Judgement, identity: Identity | None) -> Judgement:
    facts = judgement.certificate
    if identity is None or not judgement.verdict.passed or facts is None:
        return judgement
    # Extension .8 alone: .1 is its deprecated copy.
    if identity.issuer is not None and facts.issuer != identity.issuer:
        reason = (
            f"The signature holds, but its issuer is “{printable(facts.issuer)}”, not “{printable(identity.issuer)}”."
        )
        return replace(judgement, verdict=Verdict.UNTRUSTED_ISSUER, reason=reason)
    signer = identity.signer
    if signer is not None and not any(same_workflow(signer, name) for name in facts.identities):
        named = printable(", ".join(facts.identities))
        reason = f"The signature holds, but its signer is “{named}”, not “{printable(signer)}”."
        return replace(judgement, verdict=Verdict.UNTRUSTED_SIGNER, reason=reason)
    return judgement


def gravest(judgements: Sequence[Judgement]) -> Judgement:
    """The judgement that a file with several stands for: the first of the gravest."""
    return max(judgements, key=lambda judgement: gravity(judgement.verdict))


def _certificate(bundle: Mapping[str, Any]) -> x509.Certificate | None:
    """The signing certificate, as the bundle's version places it; None when there is none."""
    material = bundle.get("verificationMaterial")
    if not isinstance(material, dict):
        return None
    certificate = material.get("certificate")
    chain = material.get("x509CertificateChain")
    if certificate is None and isinstance(chain, dict):
        certificates = chain.get("certificates")
        certificate = certificates[0] if isinstance(certificates, list) and certificates else None
    if not isinstance(certificate, dict):
        return None
    try:
        return load_certificate(decode_base64(certificate.get("rawBytes"), what="certificate"))
    except UntrustedInputError as error:
        raise RefusedError(Verdict.INVALID_CERT, error.what, error) from error


def _with_stated(judgement: Judgement, bundle: Mapping[str, Any], certificate: x509.Certificate | None) -> Judgement:
    """What a bundle that was not proven says of itself, for a person to look at; nothing where it cannot be read."""
    try:
        facts = certificate_facts(certificate) if certificate is not None else None
    except UntrustedInputError:
        facts = None
    return replace(judgement, **_stated(bundle.get("dsseEnvelope")), certificate=facts)


def _stated(envelope: Any) -> dict[str, Any]:
    """What an envelope says before anything is verified; nothing where it cannot be read."""
    try:
        payload_type, payload, _ = envelope_parts(envelope)
        return _statement_fields(read_statement(payload_type, payload)) if payload_type == PAYLOAD_TYPE else {}
    except UntrustedInputError:
        return {}


def _statement_fields(statement: Statement) -> dict[str, Any]:
    return {
        "subjects": statement.subjects,
        "statement_type": statement.statement_type,
        "predicate_type": statement.predicate_type,
    }


def _refused(judgement: Judgement, refused: RefusedError) -> Judgement:
    cause = refused.cause
    return replace(
        judgement,
        verdict=refused.verdict,
        reason=refused.reason,
        exception_type=type(cause).__name__ if cause is not None else None,
        exception_text=printable(cause, limit=1_000) if cause is not None else None,
    )


def _unreadable(raw: bytes, problem: str) -> Document:
    return Document(Shape.UNREADABLE, hashlib.sha256(raw).hexdigest(), problem=problem)
