"""A bundle has one spelling: a second one for the same bytes means that somebody rewrote it.

Protobuf's JSON has two names for each field and its decoders take several base64 texts for the same bytes. The verifier
reads both kinds leniently, our own reading does not, and an altered last character would go unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analytics.supply_chain.proofs import RefusedError
from analytics.supply_chain.untrusted import UntrustedInputError, decode_base64
from analytics.supply_chain.verdicts import Verdict

# Every field of the format that holds bytes, by the part that they belong to.
_BYTES = {
    "payload": ("payload", Verdict.INVALID_SIGNATURE),
    "sig": ("signature", Verdict.INVALID_SIGNATURE),
    "signature": ("signature", Verdict.INVALID_SIGNATURE),
    "digest": ("message digest", Verdict.INVALID_SIGNATURE),
    "rawBytes": ("certificate", Verdict.INVALID_CERT),
    "signedTimestamp": ("timestamp", Verdict.INVALID_TIME),
    "signedEntryTimestamp": ("inclusion promise", Verdict.INVALID_LOG),
    "canonicalizedBody": ("log entry", Verdict.INVALID_LOG),
    "keyId": ("log id", Verdict.INVALID_LOG),
    "rootHash": ("inclusion proof", Verdict.INVALID_LOG),
    "hashes": ("inclusion proof", Verdict.INVALID_LOG),
}
_CONTAINERS = (dict, list)


def check_spelling(bundle: Mapping[str, Any]) -> None:
    """Raise RefusedError for a field name with an underscore, or for bytes that are not in canonical base64."""
    # Free-form parts are base64 inside strings, so every key is a field of the format.
    stack: list[Any] = [bundle]
    while stack:
        current = stack.pop()
        if isinstance(current, list):
            stack += current
            continue
        if not isinstance(current, dict):
            continue
        for name, value in current.items():
            if "_" in name:
                reason = "It spells a field with an underscore: two readers could see two different bundles."
                raise RefusedError(Verdict.UNSUPPORTED_NOT_A_BUNDLE, reason)
            if name in _BYTES:
                _check_bytes(value, *_BYTES[name])
            if isinstance(value, _CONTAINERS):
                stack.append(value)


def _check_bytes(value: Any, part: str, verdict: Verdict) -> None:
    for text in value if isinstance(value, list) else (value,):
        # What is missing, or is no text, is for the verifier to miss.
        if isinstance(text, str):
            try:
                decode_base64(text, what=part)
            except UntrustedInputError as error:
                raise RefusedError(verdict, error.what, error) from error
