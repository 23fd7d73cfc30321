"""Attestations of private GitHub repositories: certificate and timestamp, with no public log to witness them.

sigstore-python cannot read them, so this is our own verifier and therefore short: the signature over the payload, a
timestamp of the root's authority over it, the certificate's chain to the root at that time, and its purpose. Each
authority is used inside its window only. Any byte of signature, certificate, timestamp or payload that changes makes
the bundle fail. A pass is VERIFIED_PRIVATE, never VERIFIED (supply-chain.md section 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from analytics.supply_chain.certificates import load_certificate
from analytics.supply_chain.envelopes import envelope_parts, pre_authentication_encoding
from analytics.supply_chain.proofs import Proof, RefusedError, TimeSource, VerifiedTime
from analytics.supply_chain.timestamps import stamped_times
from analytics.supply_chain.trusted_roots import TrustedRoot, verify_chain
from analytics.supply_chain.untrusted import UntrustedInputError, decode_base64
from analytics.supply_chain.verdicts import Verdict

# A curve and the one hash that Fulcio's instances pair with it.
_HASHES: dict[type[ec.EllipticCurve], hashes.HashAlgorithm] = {
    ec.SECP256R1: hashes.SHA256(),
    ec.SECP384R1: hashes.SHA384(),
    ec.SECP521R1: hashes.SHA512(),
}


def verify_private(bundle: Mapping[str, Any], root: TrustedRoot) -> Proof:
    """What the bundle proves under a root without a log; raises RefusedError with the verdict otherwise."""
    try:
        return _verify(bundle, root)
    except UntrustedInputError as error:
        raise RefusedError(Verdict.INVALID_SIGNATURE, error.what, error) from error


def _verify(bundle: Mapping[str, Any], root: TrustedRoot) -> Proof:
    material = bundle.get("verificationMaterial")
    if not isinstance(material, dict):
        raise RefusedError(Verdict.INVALID_CERT, "The bundle has no verification material.")
    if material.get("tlogEntries"):
        raise RefusedError(
            Verdict.INVALID_LOG, f"The bundle names a log entry, but “{root.name}” has no log to hold it against."
        )
    certificate = _certificate(material)
    if not root.issued(certificate):
        raise RefusedError(Verdict.INVALID_CERT, f"The certificate was not signed by an authority of “{root.name}”.")
    payload_type, payload, signature = envelope_parts(bundle.get("dsseEnvelope"))
    _check_signature(certificate, signature, pre_authentication_encoding(payload_type, payload))
    times = stamped_times(material.get("timestampVerificationData"), signature, root.timestamp_authorities)
    if not times:
        raise RefusedError(Verdict.INVALID_TIME, "The bundle has neither log entry nor timestamp: its time is unknown.")
    for at in times:
        if not verify_chain(certificate, root.certificate_authorities, at):
            raise RefusedError(
                Verdict.INVALID_CERT,
                f"At {at:%Y-%m-%d %H:%M:%S} UTC the certificate did not chain to an authority of “{root.name}”.",
            )
    _check_purpose(certificate)
    return Proof(certificate, VerifiedTime(min(times), TimeSource.TIMESTAMP), payload_type, payload)


def _certificate(material: Mapping[str, Any]) -> x509.Certificate:
    certificate = material.get("certificate")
    if not isinstance(certificate, dict):
        raise RefusedError(Verdict.INVALID_CERT, "The bundle has no certificate.")
    try:
        return load_certificate(decode_base64(certificate.get("rawBytes"), what="certificate"))
    except UntrustedInputError as error:
        raise RefusedError(Verdict.INVALID_CERT, error.what, error) from error


def _check_signature(certificate: x509.Certificate, signature: bytes, message: bytes) -> None:
    key = certificate.public_key()
    algorithm = _HASHES.get(type(key.curve)) if isinstance(key, ec.EllipticCurvePublicKey) else None
    if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        raise RefusedError(
            Verdict.INVALID_CERT, "The certificate's key is of a kind that no private instance certifies."
        )
    try:
        key.verify(signature, message, ec.ECDSA(algorithm))
    except InvalidSignature as error:
        reason = "The signature does not fit the payload and the certificate's key."
        raise RefusedError(Verdict.INVALID_SIGNATURE, reason, error) from error


def _check_purpose(certificate: x509.Certificate) -> None:
    try:
        extensions = certificate.extensions
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise RefusedError(
            Verdict.INVALID_CERT, "The certificate does not say what it may be used for.", error
        ) from error
    if not signs or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise RefusedError(Verdict.INVALID_CERT, "The certificate was not issued for signing code.")
