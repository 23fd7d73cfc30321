"""PEP 740: an index's attestation objects, as the Sigstore bundles they were made from.

The object carries the same parts under other names (PEP 740, "Attestation objects"): the statement in a DSSE envelope,
its signature, the signing certificate and the log entries. The payload type is fixed by the PEP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analytics.supply_chain.statements import PAYLOAD_TYPE
from analytics.supply_chain.untrusted import UntrustedInputError

_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def attestation_bundle(attestation: Mapping[str, Any]) -> dict[str, Any]:
    """The Sigstore bundle of one attestation; raises UntrustedInputError for another version or a missing part."""
    if attestation.get("version") != 1:
        raise UntrustedInputError("The attestation is not of version 1 of PEP 740.")
    envelope, material = attestation.get("envelope"), attestation.get("verification_material")
    if not isinstance(envelope, dict) or not isinstance(material, dict):
        raise UntrustedInputError("The attestation lacks its envelope or its verification material.")
    if not isinstance(material.get("transparency_entries"), list):
        raise UntrustedInputError("The attestation lacks its log entries.")
    return {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {
            "certificate": {"rawBytes": material.get("certificate")},
            "tlogEntries": material["transparency_entries"],
        },
        "dsseEnvelope": {
            "payloadType": PAYLOAD_TYPE,
            "payload": envelope.get("statement"),
            "signatures": [{"sig": envelope.get("signature")}],
        },
    }
