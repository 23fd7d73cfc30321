"""Bundles that the verifier cannot read, held against themselves: some can still be shown false.

`intoto` log entries, managed keys and entries without an inclusion proof are neither true nor false to us, unless a
part that can be checked contradicts another: then the bundle was altered, whatever cannot be read. Nothing here ever
makes a bundle pass, and a part that is not understood says nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from analytics.supply_chain.envelopes import envelope_parts, may_fit, may_have_signed, message_parts, signature_bytes
from analytics.supply_chain.proofs import RefusedError
from analytics.supply_chain.trusted_roots import TrustedRoot, verify_chain
from analytics.supply_chain.untrusted import UntrustedInputError, compact, decode_base64, parse_json, printable
from analytics.supply_chain.verdicts import Verdict

_SUPPORTED_ENTRIES = frozenset({("dsse", "0.0.1"), ("hashedrekord", "0.0.1"), ("hashedrekord", "0.0.2")})
# Entries of one bundle that are looked at; the verifier itself reads no more than one.
_MAX_ENTRIES = 8
_FIRST_VERSION = "application/vnd.dev.sigstore.bundle+json;version=0.1"


def why_unsupported(bundle: Mapping[str, Any]) -> tuple[Verdict, str] | None:
    """The verdict on a bundle whose form alone puts it out of the verifier's reach; None when it can be verified."""
    material = bundle.get("verificationMaterial")
    if not isinstance(material, dict) or not ("dsseEnvelope" in bundle or "messageSignature" in bundle):
        return None
    hint = material["publicKey"].get("hint") if isinstance(material.get("publicKey"), dict) else None
    if isinstance(hint, str) and hint:
        return Verdict.UNSUPPORTED_MANAGED_KEY, "It is signed with a key that it names but does not carry."
    entries = material.get("tlogEntries")
    if not isinstance(entries, list) or not entries:
        return None
    if len(entries) > 1:
        return Verdict.UNSUPPORTED_LOG_ENTRY, f"It has {len(entries)} log entries; one is what the verifier reads."
    kind, version = _kind(entries[0])
    if kind and (kind, version) not in _SUPPORTED_ENTRIES:
        named = printable(f"{kind}/{version}")
        return Verdict.UNSUPPORTED_LOG_ENTRY, f"Its log entry is of the kind {named}, which the verifier cannot read."
    if bundle.get("mediaType") == _FIRST_VERSION and not _has_proof(entries[0]):
        return Verdict.UNSUPPORTED_NO_PROOF, "Its log entry has a promise of inclusion and no complete proof of it."
    return None


def refuse_if_false(
    bundle: Mapping[str, Any], certificate: x509.Certificate | None, roots: Sequence[TrustedRoot]
) -> None:
    """Raise RefusedError where a part of an unsupported bundle contradicts another; return where none does."""
    material = bundle["verificationMaterial"]
    entries = material.get("tlogEntries")
    for entry in entries[:_MAX_ENTRIES] if isinstance(entries, list) and entries else [{}]:
        logged = _logged(entry) if isinstance(entry, dict) else None
        _check_signature(bundle, certificate, logged)
        if isinstance(entry, dict):
            _check_promise(entry, roots)
            _check_time(entry, certificate, roots)


class _Logged:
    """What an entry's body says of the signature that it records; None for what this kind does not say."""

    def __init__(self, signed_sha256: str | None, signature: str | None, verifier: str | None) -> None:
        self.signed_sha256 = signed_sha256
        self.signature = signature
        self.verifier = verifier


def _has_proof(entry: Any) -> bool:
    proof = entry.get("inclusionProof") if isinstance(entry, dict) else None
    # The format's first version lets a proof lack its checkpoint; it then proves nothing.
    return isinstance(proof, dict) and bool(proof.get("checkpoint"))


def _kind(entry: Any) -> tuple[str, str]:
    version = entry.get("kindVersion") if isinstance(entry, dict) else None
    if not isinstance(version, dict):
        return "", ""
    kind, number = version.get("kind"), version.get("version")
    return (kind, number) if isinstance(kind, str) and isinstance(number, str) else ("", "")


def _logged(entry: Mapping[str, Any]) -> _Logged | None:
    try:
        body = parse_json(decode_base64(entry.get("canonicalizedBody"), what="log entry"), what="log entry")
        if (body["kind"], body["apiVersion"]) != _kind(entry):
            raise RefusedError(Verdict.INVALID_LOG, "The log entry's body is of another kind than the entry.")
        if body["kind"] == "intoto":
            content = body["spec"]["content"]
            signature = content["envelope"]["signatures"][0]
            # Encoded twice: the envelope's own base64 text is the signed content here.
            text = base64.b64decode(signature["sig"], validate=True).decode("ascii")
            return _Logged(content["payloadHash"]["value"], text, _pem(signature["publicKey"]))
        spec = body["spec"]
        if body["kind"] == "dsse":
            signature = spec["signatures"][0]
            return _Logged(spec["payloadHash"]["value"], signature["signature"], _pem(signature["verifier"]))
        if body["kind"] == "hashedrekord":
            signature = spec["signature"]
            verifier = _pem(signature["publicKey"]["content"])
            return _Logged(spec["data"]["hash"]["value"], signature["content"], verifier)
    except (UntrustedInputError, KeyError, IndexError, TypeError, AttributeError, ValueError, binascii.Error):
        return None
    return None


def _pem(text: str) -> str:
    return base64.b64decode(text, validate=True).decode("ascii").strip()


def _check_signature(bundle: Mapping[str, Any], certificate: x509.Certificate | None, logged: _Logged | None) -> None:
    key = certificate.public_key() if certificate is not None else _key(logged)
    try:
        fits = may_fit(key, bundle)
        signature = signature_bytes(bundle)
        signed_sha256 = _signed_sha256(bundle)
    except UntrustedInputError as error:
        raise RefusedError(Verdict.INVALID_SIGNATURE, error.what, error) from error
    if not fits:
        raise RefusedError(Verdict.INVALID_SIGNATURE, "The signature does not fit the payload and the signer's key.")
    if logged is None:
        return
    same_content = None in (logged.signed_sha256, signed_sha256) or logged.signed_sha256 == signed_sha256
    same_signature = logged.signature in (None, base64.b64encode(signature).decode("ascii"))
    same_signer = (
        certificate is None
        or logged.verifier is None
        or logged.verifier == certificate.public_bytes(Encoding.PEM).decode("ascii").strip()
    )
    if not (same_content and same_signature and same_signer):
        raise RefusedError(Verdict.INVALID_LOG, "The log entry is that of another signature.")


def _signed_sha256(bundle: Mapping[str, Any]) -> str | None:
    """SHA-256 of the payload, or of the artifact where the bundle names it."""
    if "dsseEnvelope" in bundle:
        return hashlib.sha256(envelope_parts(bundle["dsseEnvelope"])[1]).hexdigest()
    digest = message_parts(bundle["messageSignature"])[0]
    return digest.hex() if digest is not None else None


def _key(logged: _Logged | None) -> Any:
    """The public key that the log recorded, for a bundle that only names its own."""
    try:
        return load_pem_public_key(logged.verifier.encode("ascii")) if logged and logged.verifier else None
    except ValueError:
        return None


def _check_promise(entry: Mapping[str, Any], roots: Sequence[TrustedRoot]) -> None:
    """The log's promise of inclusion, by the key of the log that it names, where a root knows that log."""
    try:
        promise = decode_base64(entry["inclusionPromise"]["signedEntryTimestamp"], what="inclusion promise")
        log_id = entry["logId"]["keyId"]
        signed = compact(
            {
                "body": entry["canonicalizedBody"],
                "integratedTime": int(entry["integratedTime"]),
                "logID": decode_base64(log_id, what="log id").hex(),
                "logIndex": int(entry["logIndex"]),
            }
        )
    except (UntrustedInputError, KeyError, TypeError, ValueError):
        return
    keys = [key for root in roots if (key := root.log_key(log_id)) is not None]
    if keys and not any(may_have_signed(key, promise, signed) for key in keys):
        raise RefusedError(Verdict.INVALID_LOG, "The log's promise of inclusion does not fit its entry.")


def _check_time(entry: Mapping[str, Any], certificate: x509.Certificate | None, roots: Sequence[TrustedRoot]) -> None:
    """The certificate at the log's time: in its validity, and chained to the root that issued it."""
    try:
        at = datetime.fromtimestamp(int(entry["integratedTime"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return
    if certificate is None:
        return
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise RefusedError(Verdict.INVALID_CERT, "It was signed outside the certificate's validity.")
    issuers = [root for root in roots if root.issued(certificate)]
    if issuers and not any(verify_chain(certificate, root.certificate_authorities, at) for root in issuers):
        raise RefusedError(Verdict.INVALID_CERT, "The certificate did not chain to its root when it was signed.")
