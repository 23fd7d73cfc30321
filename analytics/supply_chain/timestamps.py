"""RFC 3161 timestamps: when did an authority of the trusted root see this signature.

The token's CMS signature, chain, purpose and message imprint are checked by rfc3161_client; the authority's window in
the trusted root is checked here, and `check_unsigned_parts` looks at the bytes that CMS leaves unsigned.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

from analytics.supply_chain.proofs import RefusedError
from analytics.supply_chain.trusted_roots import Authority
from analytics.supply_chain.untrusted import UntrustedInputError, decode_base64
from analytics.supply_chain.verdicts import Verdict

# Same limit as sigstore's verifiers.
MAX_TIMESTAMPS = 32

_GRANTED = bytes.fromhex("3003020100")
# AlgorithmIdentifier contents (RFC 5754, RFC 5758): SHA-256, -384 and -512, and the signatures over each. A digest's
# parameters may be absent or NULL, those of RSA are NULL, those of ECDSA absent.
_NULL = bytes.fromhex("0500")
_RSA = bytes.fromhex("06092a864886f70d010101") + _NULL
_ALGORITHMS = {
    bytes.fromhex(f"06096086480165030402{digest:02x}"): {
        "ecdsa": frozenset({bytes.fromhex(f"06082a8648ce3d0403{ecdsa:02x}")}),
        "rsa": frozenset({_RSA, bytes.fromhex(f"06092a864886f70d0101{pkcs1:02x}") + _NULL}),
    }
    for digest, ecdsa, pkcs1 in ((1, 2, 11), (2, 3, 12), (3, 4, 13))
}
_INTEGER, _OCTETS, _OID, _SEQUENCE, _SET, _CONTEXT_0 = 0x02, 0x04, 0x06, 0x30, 0x31, 0xA0


def stamped_times(data: Any, message: bytes, authorities: Sequence[Authority]) -> list[datetime]:
    """The times in a bundle's `timestampVerificationData`: every timestamp in it has to hold for `message`.

    Empty where it has none; raises RefusedError otherwise.
    """
    stamps = data.get("rfc3161Timestamps") if isinstance(data, dict) else None
    if not isinstance(stamps, list) or not stamps:
        return []
    if len(stamps) > MAX_TIMESTAMPS:
        raise RefusedError(Verdict.INVALID_TIME, f"It has more than {MAX_TIMESTAMPS} timestamps.")
    if any(stamp in stamps[:number] for number, stamp in enumerate(stamps)):
        raise RefusedError(Verdict.INVALID_TIME, "One timestamp is given twice.")
    return [_stamped_time(stamp, message, authorities) for stamp in stamps]


def _stamped_time(stamp: Any, message: bytes, authorities: Sequence[Authority]) -> datetime:
    try:
        response = decode_base64(stamp.get("signedTimestamp") if isinstance(stamp, dict) else None, what="timestamp")
        found = _time_and_authority(response, message, authorities)
        if found is None:
            reason = "No timestamp authority of the trusted root, inside its window, stamped this signature."
            raise RefusedError(Verdict.INVALID_TIME, reason)
        check_unsigned_parts(response, found[1])
    except UntrustedInputError as error:
        raise RefusedError(Verdict.INVALID_TIME, error.what, error) from error
    return found[0]


def _time_and_authority(
    response: bytes, message: bytes, authorities: Sequence[Authority]
) -> tuple[datetime, Authority] | None:
    try:
        parsed = decode_timestamp_response(response)
        at = parsed.tst_info.gen_time
    except ValueError as error:
        raise UntrustedInputError(f"The timestamp cannot be read: {error}.") from error
    for authority in authorities:
        # A chain of one has no certificate to stamp with.
        if not authority.window.contains(at) or len(authority.chain) < 2:
            continue
        if not all(c.not_valid_before_utc <= at <= c.not_valid_after_utc for c in authority.chain):
            continue
        verifier = VerifierBuilder(
            tsa_certificate=authority.chain[0],
            intermediates=list(authority.chain[1:-1]),
            roots=[authority.chain[-1]],
        ).build()
        try:
            verifier.verify_message(parsed, message)
        except VerificationError:
            continue
        return at, authority
    return None


def check_unsigned_parts(response: bytes, authority: Authority) -> None:
    """Hold every byte of a verified response that its signature does not cover to the one value it may have.

    CMS signs the stamped info and the signed attributes only; versions, algorithm names, the signer's name and the
    list of certificates around them can be changed without the library noticing. Raises UntrustedInputError.
    """
    status, token = _sequence(response)
    content_type, content = _elements(_content(token, _SEQUENCE))
    signed = _elements(_content(_only(_content(content, _CONTEXT_0)), _SEQUENCE))
    _require(status == _GRANTED, "status")
    _require(content_type == bytes.fromhex("06092a864886f70d010702"), "content type")
    version, digests, _info, *certificates, signers = signed
    _require(version == b"\x02\x01\x03", "version")
    _require(len(certificates) <= 1, "list of certificates")
    known = {certificate.public_bytes(Encoding.DER) for certificate in authority.chain}
    for element in certificates:
        _require(set(_elements(_content(element, _CONTEXT_0))) <= known, "list of certificates")
    signer = _elements(_content(_only(_content(signers, _SET)), _SEQUENCE))
    # No seventh element: unsigned attributes are refused.
    _require([part[0] for part in signer] == [_INTEGER, _SEQUENCE, _SEQUENCE, _CONTEXT_0, _SEQUENCE, _OCTETS], "signer")
    signer_version, name, digest, _attributes, algorithm, _signature = signer
    _require(signer_version == b"\x02\x01\x01", "signer's version")
    _require(name == _signer_name(authority.chain[0]), "signer's name")
    _require(_content(digests, _SET) == digest, "digest algorithm")
    known_algorithms = _ALGORITHMS.get(_content(digest, _SEQUENCE).removesuffix(_NULL), {})
    kind = "rsa" if isinstance(authority.chain[0].public_key(), rsa.RSAPublicKey) else "ecdsa"
    _require(_content(algorithm, _SEQUENCE) in known_algorithms.get(kind, ()), "signature algorithm")


def _require(holds: bool, part: str) -> None:
    if not holds:
        raise UntrustedInputError(f"The timestamp's {part} is not what its authority would have written.")


def _signer_name(certificate: x509.Certificate) -> bytes:
    serial = certificate.serial_number
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True)
    return _wrap(_SEQUENCE, certificate.issuer.public_bytes() + _wrap(_INTEGER, number))


def _wrap(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _elements(data: bytes) -> list[bytes]:
    """The DER elements in `data`, each with its header; lengths must be definite and minimal."""
    found = []
    while data:
        size, header = data[1] if len(data) > 1 else 0x80, 2
        if size >= 0x80:
            octets = size & 0x7F
            size, header = int.from_bytes(data[2 : 2 + octets], "big"), 2 + octets
        element = data[: header + size]
        if len(element) != header + size or element != _wrap(element[0], element[header:]):
            raise UntrustedInputError("The timestamp is not DER.")
        found.append(element)
        data = data[len(element) :]
    return found


def _content(element: bytes, tag: int) -> bytes:
    _require(element[:1] == bytes([tag]), "structure")
    return element[2 + (element[1] & 0x7F if element[1] >= 0x80 else 0) :]


def _only(data: bytes) -> bytes:
    elements = _elements(data)
    _require(len(elements) == 1, "structure")
    return elements[0]


def _sequence(data: bytes) -> list[bytes]:
    elements = _elements(_content(_only(data), _SEQUENCE))
    _require(len(elements) == 2, "structure")
    return elements
