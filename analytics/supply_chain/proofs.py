"""What a verifier hands back: a proof, or the refusal with its code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from analytics.supply_chain.verdicts import Verdict


class TimeSource(StrEnum):
    """Who says when a signature was made."""

    LOG = "log integrated time"
    TIMESTAMP = "RFC 3161 timestamp"


@dataclass(frozen=True, slots=True)
class VerifiedTime:
    """A time at which the signature is known to have existed."""

    at: datetime
    source: TimeSource


@dataclass(frozen=True, slots=True)
class Proof:
    """What the cryptography of one bundle established under one trusted root."""

    certificate: x509.Certificate
    time: VerifiedTime
    # A signed statement (DSSE) with its payload type, or the digest of a signed artifact.
    payload_type: str | None = None
    payload: bytes | None = None
    artifact_sha256: str | None = None
    log_index: int | None = None


class RefusedError(Exception):
    """A bundle did not verify: the verdict, a sentence for a person, and the library's exception if there was one."""

    def __init__(self, verdict: Verdict, reason: str, cause: BaseException | None = None) -> None:
        self.verdict = verdict
        self.reason = reason
        self.cause = cause
        super().__init__(reason)
