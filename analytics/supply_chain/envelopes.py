"""What a bundle's signature is made over, and whether it fits: DSSE envelopes, and digests of artifacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from analytics.supply_chain.untrusted import UntrustedInputError, decode_base64

_SHA2: tuple[hashes.HashAlgorithm, ...] = (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
_SHA256_BYTES = 32


def envelope_parts(envelope: Any) -> tuple[str, bytes, bytes]:
    """Payload type, payload and the one signature of a DSSE envelope; raises UntrustedInputError when it lacks one."""
    if not isinstance(envelope, dict):
        raise UntrustedInputError("The bundle holds no signed envelope.")
    signatures, payload_type = envelope.get("signatures"), envelope.get("payloadType")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise UntrustedInputError("The envelope does not have exactly one signature.")
    if not isinstance(payload_type, str):
        raise UntrustedInputError("The envelope names no payload type.")
    payload = decode_base64(envelope.get("payload"), what="payload")
    return payload_type, payload, decode_base64(signatures[0].get("sig"), what="signature")


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE signs: its version, then type and payload, each behind its length in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def message_parts(message: Any) -> tuple[bytes | None, bytes]:
    """The SHA-256 digest that a signature over an artifact names (None for no such one) and the signature."""
    if not isinstance(message, dict):
        raise UntrustedInputError("The bundle holds no signature.")
    named = message.get("messageDigest")
    digest = None
    if isinstance(named, dict) and named.get("algorithm") == "SHA2_256":
        digest = decode_base64(named.get("digest"), what="message digest")
        if len(digest) != _SHA256_BYTES:
            raise UntrustedInputError("The message digest does not have the length of SHA-256.")
    return digest, decode_base64(message.get("signature"), what="signature")


def signature_bytes(bundle: Mapping[str, Any]) -> bytes:
    """The bundle's one signature; raises UntrustedInputError when it lacks it."""
    if "dsseEnvelope" in bundle:
        return envelope_parts(bundle["dsseEnvelope"])[2]
    return message_parts(bundle.get("messageSignature"))[1]


def may_fit(key: Any, bundle: Mapping[str, Any]) -> bool:
    """False only where the key is of a kind whose signatures are understood and the bundle's is none of its.

    For a reason, never for a pass: what is not understood may fit. Raises UntrustedInputError for a missing part.
    """
    if "dsseEnvelope" in bundle:
        payload_type, payload, signature = envelope_parts(bundle["dsseEnvelope"])
        return may_have_signed(key, signature, pre_authentication_encoding(payload_type, payload))
    digest, signature = message_parts(bundle.get("messageSignature"))
    if digest is None or not isinstance(key, ec.EllipticCurvePublicKey):
        return True
    return _fits(lambda: key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256()))))


def may_have_signed(key: Any, signature: bytes, message: bytes) -> bool:
    """Like `may_fit`, of any message."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return _fits(lambda: key.verify(signature, message))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return any(_fits(partial(key.verify, signature, message, ec.ECDSA(algorithm))) for algorithm in _SHA2)
    return True


def _fits(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except InvalidSignature:
        return False
    return True
