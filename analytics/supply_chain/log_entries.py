"""What sigstore-python leaves unchecked in a log entry whose proof and signatures it accepts.

It holds a proof's root hash against the signed checkpoint and not its tree size, reads a checkpoint's signatures
leniently, looks at the promise of inclusion only where a time stands beside it, and takes the log's id for a hint. None
of this lets a forgery pass; all of it would let altered evidence stand in a report.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from analytics.supply_chain.proofs import RefusedError
from analytics.supply_chain.trusted_roots import TrustedRoot
from analytics.supply_chain.untrusted import UntrustedInputError, decode_base64
from analytics.supply_chain.verdicts import Verdict

# A signed note's signature: a dash, the signer's name, and base64 of four bytes of its key's id and the signature.
_SIGNATURE_LINE = re.compile(r"\N{EM DASH} (?P<name>[^\s+]+) (?P<signature>[A-Za-z0-9+/]+={0,2})")
# Cosigners of one checkpoint; the library would go through any number.
_MAX_SIGNATURES = 64


def checked_log_index(entry: Any, root: TrustedRoot) -> int | None:
    """The entry's index in its log, None where nothing signed says it; `entry` is the library's own reading.

    Raises RefusedError for an entry whose parts contradict each other.
    """
    key_id = base64.b64encode(entry.log_id.key_id).decode("ascii")
    if not root.knows_log(key_id):
        raise RefusedError(Verdict.INVALID_LOG, f"The log entry names a log that “{root.name}” does not know.")
    proof = entry.inclusion_proof
    if proof.checkpoint is not None:
        _check_checkpoint(proof.checkpoint.envelope, proof.tree_size)
    if not 0 <= proof.log_index < proof.tree_size:
        raise RefusedError(Verdict.INVALID_LOG, "The log entry's place lies outside the tree of its inclusion proof.")
    if entry.inclusion_promise is not None:
        if not entry.integrated_time:
            raise RefusedError(
                Verdict.INVALID_LOG, "The log entry has a promise of inclusion without the time it binds."
            )
        # The promise is signed over the index.
        return int(entry.log_index)
    if entry.kind_version.version == "0.0.2" and entry.log_index != proof.log_index:
        raise RefusedError(Verdict.INVALID_LOG, "The log entry states another index than its inclusion proof.")
    return int(entry.log_index) if entry.log_index == proof.log_index else None


def _check_checkpoint(envelope: str, tree_size: int) -> None:
    """The signed note around the log's root hash: its size, and nothing in it that nobody reads."""
    note, _, signatures = envelope.partition("\n\n")
    origin, size, *_ = [*note.split("\n"), ""]
    if size != str(tree_size):
        raise RefusedError(
            Verdict.INVALID_LOG, "The inclusion proof is for a tree of another size than its checkpoint."
        )
    lines = signatures.removesuffix("\n").split("\n")
    found = [_SIGNATURE_LINE.fullmatch(line) for line in lines[:_MAX_SIGNATURES]]
    if len(lines) > _MAX_SIGNATURES or not all(found):
        raise RefusedError(Verdict.INVALID_LOG, "The checkpoint's signatures are not a signed note's.")
    try:
        for line in found:
            decode_base64(line["signature"] if line else None, what="checkpoint's signature")
    except UntrustedInputError as error:
        raise RefusedError(Verdict.INVALID_LOG, error.what, error) from error
    # The log signs under its own name; the lines of others are witnesses', which are not judged.
    if not any(line and line["name"] == origin.partition(" - ")[0] for line in found):
        raise RefusedError(Verdict.INVALID_LOG, "The checkpoint is not signed under the log's name.")
