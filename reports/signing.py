"""A pack's signature: an in-toto statement over its manifest in a DSSE envelope, by a key or without one.

With a key (`manifest.dsse.json`, and the public half in `manifest.pub.pem`) signing twice gives the same bytes.
Keyless signing asks Sigstore's public instance with the job's own identity (`manifest.sigstore.json`). Source:
reports.md section 1, item 28; https://github.com/secure-systems-lab/dsse; in-toto attestation framework v1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from analytics.errors import PackError
from analytics.secrets import Secret
from analytics.supply_chain.envelopes import envelope_parts, pre_authentication_encoding
from analytics.supply_chain.untrusted import UntrustedInputError

if TYPE_CHECKING:
    from analytics.supply_chain.trusted_roots import TrustedRoot

ENVELOPE_NAME = "manifest.dsse.json"
PUBLIC_KEY_NAME = "manifest.pub.pem"
BUNDLE_NAME = "manifest.sigstore.json"
# Beside the manifest, which cannot list what is signed over itself.
SIGNATURE_FILES = frozenset({ENVELOPE_NAME, PUBLIC_KEY_NAME, BUNDLE_NAME})
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:quarterdeck:pack:v1"
MAX_SIGNATURE_BYTES = 1024 * 1024

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_HASH_OF_CURVE: Mapping[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
_KEY_FIX = (
    "Make one with `openssl genpkey -algorithm ed25519 -out pack-key.pem`; ECDSA (P-256 to P-521) and RSA work too."
)


@dataclass(frozen=True)
class Verified:
    """What a signature says: words for a reader, and what is wrong with it."""

    words: str
    problems: tuple[str, ...] = ()


def load_private_key(secret: Secret) -> PrivateKey:
    """The signing key behind a reference; raises PackError when it is no private key in PEM without a password."""
    try:
        key = serialization.load_pem_private_key(secret.reveal().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without the error behind it: it may hold the key.
        raise PackError(
            "reports.signing_key is no private key in PEM without a password", where=secret.reference, fix=_KEY_FIX
        ) from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in _HASH_OF_CURVE:
        raise PackError(f"reports.signing_key is on the curve {key.curve.name}", where=secret.reference, fix=_KEY_FIX)
    if not isinstance(key, PrivateKey):
        raise PackError("reports.signing_key is of a kind that cannot sign", where=secret.reference, fix=_KEY_FIX)
    return key


def load_public_key(pem: bytes, where: str) -> PublicKey:
    """A public key in PEM, or the public half of a private one; raises PackError when it is neither."""
    try:
        if b"PRIVATE KEY" in pem:
            key: Any = serialization.load_pem_private_key(pem, password=None).public_key()
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PackError("is no key in PEM", where=where, fix="Give the public key of whoever signs.") from None
    if not isinstance(key, PublicKey):
        raise PackError("is a key of a kind that cannot sign", where=where, fix=_KEY_FIX)
    return key


def key_id(key: PublicKey) -> str:
    """SHA-256 of the public key's DER form, in hexadecimal digits."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def statement(manifest: bytes, predicate: Mapping[str, Any]) -> bytes:
    """The in-toto statement whose one subject is the manifest; the predicate says which pack it is."""
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "manifest.json", "digest": {"sha256": hashlib.sha256(manifest).hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def signature_files(manifest: bytes, predicate: Mapping[str, Any], key: PrivateKey) -> dict[str, bytes]:
    """The envelope and the public key; the same key gives the same bytes (Ed25519, RFC 6979, PKCS #1 v1.5)."""
    payload = statement(manifest, predicate)
    signature = _sign(key, pre_authentication_encoding(PAYLOAD_TYPE, payload))
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return {
        ENVELOPE_NAME: (json.dumps(envelope, indent=1) + "\n").encode(),
        PUBLIC_KEY_NAME: key.public_key().public_bytes(serialization.Encoding.PEM, form),
    }


def keyless_bundle(manifest: bytes, predicate: Mapping[str, Any]) -> bytes | None:
    """A Sigstore bundle over the statement by the job's own identity; None where no OIDC token is at hand.

    Writes the identity and the manifest's digest to Sigstore's public log. Raises PackError when signing fails.
    """
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, detect_credential
    from sigstore.sign import SigningContext

    try:
        credential = detect_credential()
        if credential is None:
            return None
        context = SigningContext.from_trust_config(ClientTrustConfig.production())
        with context.signer(IdentityToken(credential)) as signer:
            bundle: str = signer.sign_dsse(Statement(statement(manifest, predicate))).to_json()
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise PackError(
            f"the pack could not be signed by Sigstore: {first}", fix="Run it again, or set reports.signing_key."
        ) from error
    return bundle.encode()


def verify_signature(
    folder: Path, digest: str, trusted: PublicKey | None = None, roots: Sequence[TrustedRoot] = ()
) -> Verified:
    """Check whatever signature lies beside a manifest with this SHA-256; with a trusted key, there must be one by it.

    Without a trusted key the one that came with the pack is used, and the words say so: it shows that the manifest is
    the one that was signed, not by whom.
    """
    words: list[str] = []
    problems: list[str] = []
    envelope = _read(folder, ENVELOPE_NAME, problems)
    if envelope is not None:
        said, problem = _verify_envelope(folder, envelope, digest, trusted)
        (problems if problem else words).append(said)
    bundle = _read(folder, BUNDLE_NAME, problems)
    if bundle is not None:
        # Imported here: it loads Sigstore, which takes a second.
        from analytics.supply_chain.inspection import inspect_file

        judged = inspect_file(bundle, roots, digest=f"sha256:{digest}")
        if judged["verdict"] in ("VERIFIED", "VERIFIED_PRIVATE"):
            certificate = judged["certificate"] or {}
            identities = certificate.get("identities") or ["an identity that is not named"]
            signer = certificate.get("build_signer") or identities[0]
            words.append(f"valid, keyless by {signer} ({certificate.get('issuer') or 'issuer not named'})")
        else:
            problems.append(f"{BUNDLE_NAME}: {judged['verdict']}: {judged['reason']}")
    if envelope is None and bundle is None and not problems:
        if trusted is not None:
            return Verified("none", (f"{ENVELOPE_NAME}: missing: the pack is not signed by the trusted key",))
        if _read(folder, PUBLIC_KEY_NAME, problems) is not None or problems:
            gone = f"{PUBLIC_KEY_NAME}: lies there without {ENVELOPE_NAME}: was the signature taken away?"
            return Verified("none", (*problems, gone))
        return Verified("none (the pack is unsigned)")
    if envelope is None and trusted is not None:
        problems.append(f"{ENVELOPE_NAME}: missing: the pack is not signed by the trusted key")
    return Verified("; ".join(words) or "not valid", tuple(problems))


def _verify_envelope(folder: Path, raw: bytes, digest: str, trusted: PublicKey | None) -> tuple[str, bool]:
    """Words, and whether they are a problem."""
    came_along: list[str] = []
    pem = None if trusted is not None else _read(folder, PUBLIC_KEY_NAME, came_along)
    try:
        if trusted is None and pem is None:
            return f"{ENVELOPE_NAME}: no public key to check it with; give one with --key", True
        key = trusted if trusted is not None else load_public_key(pem or b"", PUBLIC_KEY_NAME)
        payload_type, payload, signature = envelope_parts(json.loads(raw))
        _check(key, signature, pre_authentication_encoding(payload_type, payload))
        signed = json.loads(payload)
        subjects = [one["digest"]["sha256"] for one in signed["subject"]]
    except InvalidSignature:
        whose = "the trusted key" if trusted is not None else PUBLIC_KEY_NAME
        return f"{ENVELOPE_NAME}: the signature is not by {whose}, or what was signed was changed", True
    except PackError as error:
        return str(error).splitlines()[0], True
    except (UntrustedInputError, ValueError, KeyError, TypeError, RecursionError):
        return f"{ENVELOPE_NAME}: is no DSSE envelope with an in-toto statement", True
    if (
        payload_type != PAYLOAD_TYPE
        or signed.get("_type") != STATEMENT_TYPE
        or signed.get("predicateType") != PREDICATE_TYPE
    ):
        return f"{ENVELOPE_NAME}: the signed statement is not about a pack", True
    if subjects != [digest]:
        return f"{ENVELOPE_NAME}: the signature is over another manifest", True
    whose = (
        "the trusted key" if trusted is not None else "the key that came with the pack, not compared with a trusted one"
    )
    return f"valid, by {whose} (sha256:{key_id(key)[:16]})", False


def _read(folder: Path, name: str, problems: list[str]) -> bytes | None:
    """A file beside the manifest, never through a link; None when it is not there."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{name}: cannot be read: {error.strerror}")
        return None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        # Python makes no file of it.
        os.close(descriptor)
        problems.append(f"{name}: is not a regular file")
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(MAX_SIGNATURE_BYTES + 1)
        except OSError as error:
            problems.append(f"{name}: cannot be read: {error.strerror}")
            return None
    if len(content) > MAX_SIGNATURE_BYTES:
        problems.append(f"{name}: is larger than {MAX_SIGNATURE_BYTES} bytes")
        return None
    return content


def _sign(key: PrivateKey, message: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        # RFC 6979: the same message gives the same signature.
        return key.sign(message, ec.ECDSA(_HASH_OF_CURVE[key.curve.name](), deterministic_signing=True))
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def _check(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Raises InvalidSignature."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(_HASH_OF_CURVE.get(key.curve.name, hashes.SHA256)()))
    else:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
