"""The verdicts on an attestation, and which of them pass, fail or leave the question open.

Source: supply-chain.md section 1.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What was found about one bundle, or about one deployment's attestation."""

    VERIFIED = "VERIFIED"
    # Certificate and timestamp hold, but no public log witnessed the signature.
    VERIFIED_PRIVATE = "VERIFIED_PRIVATE"
    NO_ATTESTATION = "NO_ATTESTATION"
    INVALID_SIGNATURE = "INVALID_SIGNATURE"
    INVALID_LOG = "INVALID_LOG"
    INVALID_CERT = "INVALID_CERT"
    INVALID_TIME = "INVALID_TIME"
    INVALID_SUBJECT = "INVALID_SUBJECT"
    # All cryptography holds, and the predicate says something else than the certificate.
    FORGED_CLAIMS = "FORGED_CLAIMS"
    UNTRUSTED_ISSUER = "UNTRUSTED_ISSUER"
    UNTRUSTED_SIGNER = "UNTRUSTED_SIGNER"
    UNTRUSTED_SOURCE = "UNTRUSTED_SOURCE"
    UNTRUSTED_REF = "UNTRUSTED_REF"
    UNTRUSTED_RUNNER = "UNTRUSTED_RUNNER"
    UNTRUSTED_TRIGGER = "UNTRUSTED_TRIGGER"
    UNTRUSTED_BUILDER = "UNTRUSTED_BUILDER"
    COMMIT_MISMATCH = "COMMIT_MISMATCH"
    RUN_UNKNOWN = "RUN_UNKNOWN"
    ATTESTED_AFTER_DEPLOY = "ATTESTED_AFTER_DEPLOY"
    UNSUPPORTED_LOG_ENTRY = "UNSUPPORTED_LOG_ENTRY"
    UNSUPPORTED_MANAGED_KEY = "UNSUPPORTED_MANAGED_KEY"
    UNSUPPORTED_NOT_A_BUNDLE = "UNSUPPORTED_NOT_A_BUNDLE"
    UNSUPPORTED_NO_PROOF = "UNSUPPORTED_NO_PROOF"
    ERROR_FETCH = "ERROR_FETCH"

    @property
    def passed(self) -> bool:
        """Whether the attestation holds."""
        return self in _PASSED

    @property
    def unsupported(self) -> bool:
        """Whether it could be shown neither true nor false."""
        return self.startswith("UNSUPPORTED_")

    @property
    def absent(self) -> bool:
        """Whether there was nothing to judge."""
        return self in _ABSENT

    @property
    def failed(self) -> bool:
        """Whether it was shown false, or refused by a policy."""
        return not (self.passed or self.unsupported or self.absent)


_PASSED = frozenset({Verdict.VERIFIED, Verdict.VERIFIED_PRIVATE})
_ABSENT = frozenset({Verdict.NO_ATTESTATION, Verdict.ERROR_FETCH})


def gravity(verdict: Verdict) -> int:
    """Order among verdicts of one file, gravest last: passed, absent, unsupported, failed."""
    if verdict.passed:
        return 0
    if verdict.absent:
        return 1
    return 2 if verdict.unsupported else 3
