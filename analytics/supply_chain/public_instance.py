"""Bundles of Sigstore instances with a log, by sigstore-python, offline and inside the trusted root's windows.

The library checks certificate, timestamp promise, log entry and signature. It neither enforces when an authority or key
of the root was usable nor says in a code why it refused: both are done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from sigstore.errors import CertValidationError
from sigstore.hashes import Hashed
from sigstore.models import Bundle
from sigstore.verify import Verifier
from sigstore_models.common.v1 import HashAlgorithm

from analytics.supply_chain.envelopes import may_fit, message_parts, signature_bytes
from analytics.supply_chain.log_entries import checked_log_index
from analytics.supply_chain.proofs import Proof, RefusedError, TimeSource, VerifiedTime
from analytics.supply_chain.timestamps import stamped_times
from analytics.supply_chain.trusted_roots import TrustedRoot
from analytics.supply_chain.untrusted import UntrustedInputError, json_text, printable
from analytics.supply_chain.verdicts import Verdict


class _AnyIdentity:
    """Accepts every certificate: whose it is stands in its facts, and our policies judge proven facts."""

    def verify(self, cert: x509.Certificate) -> None:
        """Object to nothing."""


_ANY_IDENTITY = _AnyIdentity()

_NO_FIT = "The signature does not fit the signed content and the certificate's key."
# The library tells its refusals apart by their text alone. The first that is found in it decides; what none names is
# still a refusal, as INVALID_SIGNATURE.
_REASONS = (
    # Of a part that the format's own model cannot read.
    ("verificationMaterial.tlogEntries", Verdict.INVALID_LOG, "It has no log entry that can be read."),
    ("verificationMaterial.timestamp", Verdict.INVALID_TIME, "Its timestamp cannot be read."),
    ("verificationMaterial.certificate", Verdict.INVALID_CERT, "Its certificate cannot be read."),
    ("not enough sources of verified time", Verdict.INVALID_TIME, "No trusted source says when it was signed."),
    ("inclusion promise or signed timestamp", Verdict.INVALID_TIME, "No trusted source says when it was signed."),
    ("no Timestamp Authorities", Verdict.INVALID_TIME, "It is timestamped, but the root names no timestamp authority."),
    ("Invalid Timestamp Response", Verdict.INVALID_TIME, "Its timestamp cannot be read."),
    ("expired at time of signing", Verdict.INVALID_TIME, "It was signed outside the certificate's validity."),
    ("failed to verify SCT", Verdict.INVALID_CERT, "No certificate transparency log vouches for the certificate."),
    ("Key usage", Verdict.INVALID_CERT, "The certificate was not issued for signatures."),
    ("Extended usage", Verdict.INVALID_CERT, "The certificate was not issued for signing code."),
    ("expected certificate", Verdict.INVALID_CERT, "It has no certificate where its version wants one."),
    ("non-leaf certificate", Verdict.INVALID_CERT, "Its first certificate is no signing certificate."),
    ("invalid log entry", Verdict.INVALID_LOG, "The log entry does not verify."),
    ("exactly one log entry", Verdict.INVALID_LOG, "It has no log entry."),
    ("inclusion proof", Verdict.INVALID_LOG, "Its log entry lacks a complete inclusion proof."),
    ("inclusion promise", Verdict.INVALID_LOG, "Its log entry lacks the inclusion promise its version wants."),
    ("log entry", Verdict.INVALID_LOG, "The log entry is that of another signature."),
    ("digest mismatch", Verdict.INVALID_SUBJECT, "It was signed for an artifact with another digest."),
    ("signature", Verdict.INVALID_SIGNATURE, _NO_FIT),
    ("Signature", Verdict.INVALID_SIGNATURE, _NO_FIT),
)


def verify_public(bundle: Mapping[str, Any], root: TrustedRoot, text: bytes | None = None) -> Proof:
    """What the bundle proves under `root`; raises RefusedError with the verdict otherwise.

    `text` is the JSON that `bundle` was read from, where there is one: it is not written again then.
    """
    try:
        # The library's reading is the one that counts from here on: what is handed on was verified.
        parsed = Bundle.from_json(text if text is not None else json_text(bundle))
        if "dsseEnvelope" in bundle and "messageSignature" in bundle:
            raise RefusedError(Verdict.INVALID_SIGNATURE, "The bundle holds two signed contents.")
        log_index = checked_log_index(parsed.log_entry._inner, root)
        times = _times(parsed, bundle, root)
    except BaseException as error:  # Rust panics under the library derive from BaseException
        raise refusal(error) from error
    try:
        return _verify(parsed, bundle, root.verifier_at([time.at for time in times]), times[0], log_index)
    except BaseException as error:
        failure = refusal(error)
    # Refused: under everything the root ever held, the library's own reason is the true one, unless it then passes.
    try:
        _verify(parsed, bundle, root.verifier(), times[0], log_index)
    except BaseException as error:
        raise refusal(error) from error
    raise RefusedError(
        Verdict.INVALID_TIME,
        f"It was signed at {times[0].at:%Y-%m-%d %H:%M:%S} UTC with an authority or log key that “{root.name}” allows "
        "only at another time.",
        failure.cause,
    )


def _verify(
    parsed: Bundle, bundle: Mapping[str, Any], verifier: Verifier, time: VerifiedTime, log_index: int | None
) -> Proof:
    if "dsseEnvelope" in bundle:
        payload_type, payload = verifier.verify_dsse(parsed, _ANY_IDENTITY)
        return Proof(parsed.signing_certificate, time, payload_type, payload, log_index=log_index)
    digest = message_parts(bundle.get("messageSignature"))[0]
    if digest is None:
        reason = "It is signed over an artifact whose SHA-256 it does not name."
        raise RefusedError(Verdict.UNSUPPORTED_NO_PROOF, reason)
    verifier.verify_artifact(Hashed(algorithm=HashAlgorithm.SHA2_256, digest=digest), parsed, _ANY_IDENTITY)
    return Proof(parsed.signing_certificate, time, artifact_sha256=digest.hex(), log_index=log_index)


def _times(parsed: Bundle, bundle: Mapping[str, Any], root: TrustedRoot) -> list[VerifiedTime]:
    """Every time of the bundle, the log's first, as the library will establish them; at least one.

    The log's time is only a statement until the library has verified the promise that binds it. A timestamp that does
    not hold refuses the bundle, where the library would pass over it.
    """
    times = []
    entry = parsed.log_entry._inner
    if entry.integrated_time and entry.inclusion_promise:
        times.append(VerifiedTime(datetime.fromtimestamp(entry.integrated_time, UTC), TimeSource.LOG))
    data = bundle["verificationMaterial"].get("timestampVerificationData")
    if data:
        if not may_fit(parsed.signing_certificate.public_key(), bundle):
            # Said before the timestamp fails for the same reason.
            raise RefusedError(Verdict.INVALID_SIGNATURE, _NO_FIT)
        stamps = stamped_times(data, signature_bytes(bundle), root.timestamp_authorities)
        times += [VerifiedTime(at, TimeSource.TIMESTAMP) for at in stamps]
    if not times:
        raise RefusedError(Verdict.INVALID_TIME, "No trusted source says when it was signed.")
    return times


def refusal(error: BaseException) -> RefusedError:
    """`error` as a refusal with our code; what is no answer about the bundle (Ctrl-C, exit) goes on its way."""
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
        raise error
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, UntrustedInputError):
        return RefusedError(Verdict.INVALID_SIGNATURE, error.what, error)
    if isinstance(error, CertValidationError):
        reason = "The certificate does not chain to an authority of the root at the time it was signed."
        return RefusedError(Verdict.INVALID_CERT, reason, error)
    text = str(error)
    for words, verdict, reason in _REASONS:
        if words in text:
            return RefusedError(verdict, reason, error)
    reason = f"The verifier refused it: {printable(text) or type(error).__name__}."
    return RefusedError(Verdict.INVALID_SIGNATURE, reason, error)
