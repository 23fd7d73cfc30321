"""The authorities behind a signature, from a seed: certificates, two logs, and a clock that signs.

They imitate a Sigstore instance closely enough for its own verifiers, and none of it is fit to protect anything:
whoever knows the seed has every key. Source: supply-chain.md section 4 (Test material).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# The authorities are as old as any history a sample tells, and outlive it.
VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
VALID_UNTIL = datetime(2045, 1, 1, tzinfo=UTC)

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
# An index counts over all trees of a log, its place in a proof only within one: the two differ, as in the real log.
_ENTRIES_OF_EARLIER_TREES = 4_000_000

Extensions = Sequence[tuple[x509.ExtensionType, bool]]
Validity = tuple[datetime, datetime]


@dataclass(frozen=True)
class Seed:
    """What every key and serial number is derived from, each under labels of its own."""

    value: bytes

    def digest(self, *labels: bytes | str) -> bytes:
        """64 bytes that only this seed and these labels give."""
        hasher = hashlib.sha512()
        for part in (self.value, *labels):
            data = part.encode() if isinstance(part, str) else part
            hasher.update(len(data).to_bytes(8, "big") + data)
        return hasher.digest()

    def key(self, *labels: bytes | str) -> ec.EllipticCurvePrivateKey:
        """A P-256 key."""
        scalar = int.from_bytes(self.digest("key", *labels), "big") % (_P256_ORDER - 1) + 1
        return ec.derive_private_key(scalar, ec.SECP256R1())

    def serial(self, *labels: bytes | str) -> int:
        """A serial number of at most 159 bits, as RFC 5280 section 4.1.2.2 allows."""
        return int.from_bytes(self.digest("serial", *labels)[:20], "big") >> 1 | 1


def sign_bytes(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """An ECDSA signature over SHA-256 whose nonce comes from key and data (RFC 6979): always the same bytes."""
    return key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key as SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    """What a log and an issuer are known by: SHA-256 of the public key (RFC 6962 section 3.2)."""
    return hashlib.sha256(public_der(key)).digest()


class CertificateAuthority:
    """A root, an intermediate, and what the intermediate issues for one purpose."""

    def __init__(self, seed: Seed, organization: str, title: str, purpose: x509.ObjectIdentifier) -> None:
        self._seed = seed
        self._label = f"{organization}/{title}"
        self._purpose = purpose
        # A timestamp authority's certificates may serve this purpose alone (RFC 3161 section 2.3).
        self._purpose_is_critical = purpose == ExtendedKeyUsageOID.TIME_STAMPING
        root_key = seed.key(self._label, "root")
        self._key = seed.key(self._label, "intermediate")
        root_name = _name(organization, f"{title} root")
        self.root = _certificate(
            (root_name, root_key),
            (root_name, root_key.public_key()),
            seed.serial(self._label, "root"),
            (VALID_FROM, VALID_UNTIL),
            [(x509.BasicConstraints(ca=True, path_length=1), True), (_usage(ca=True), True)],
        )
        self.intermediate = _certificate(
            (root_name, root_key),
            (_name(organization, f"{title} intermediate"), self._key.public_key()),
            seed.serial(self._label, "intermediate"),
            (VALID_FROM, VALID_UNTIL),
            [
                (x509.BasicConstraints(ca=True, path_length=0), True),
                (_usage(ca=True), True),
                (x509.ExtendedKeyUsage([purpose]), False),
            ],
        )

    def issue(
        self,
        key: ec.EllipticCurvePrivateKey,
        validity: Validity,
        extensions: Extensions = (),
        *,
        subject: x509.Name | None = None,
        certificate_log: CertificateLog | None = None,
    ) -> x509.Certificate:
        """A certificate for a key; with a log, the log's promise to publish it (SCT) is embedded."""
        usual: Extensions = [
            (_usage(ca=False), True),
            (x509.ExtendedKeyUsage([self._purpose]), self._purpose_is_critical),
        ]

        def signed(promise: Extensions) -> x509.Certificate:
            return _certificate(
                (self.intermediate.subject, self._key),
                (subject or x509.Name([]), key.public_key()),
                self._seed.serial(self._label, "issued", public_der(key)),
                validity,
                [*usual, *extensions, *promise],
            )

        certificate = signed([])
        if certificate_log is None:
            return certificate
        # What the log signs is the certificate as it is without the promise: the one just made.
        scts = certificate_log.promise(certificate.tbs_certificate_bytes, key_id(self._key), validity[0])
        return signed([(x509.UnrecognizedExtension(_SCT_LIST, asn1.encode_der(scts)), False)])


def _name(organization: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate(
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey],
    subject: tuple[x509.Name, ec.EllipticCurvePublicKey],
    serial: int,
    validity: Validity,
    extensions: Extensions,
) -> x509.Certificate:
    """A signed certificate; its key ids stand first, so that a promise can be the last extension."""
    issuer_name, issuer_key = issuer
    subject_name, subject_key = subject
    builder = x509.CertificateBuilder(
        issuer_name, subject_name, subject_key, serial, not_valid_before=validity[0], not_valid_after=validity[1]
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key), critical=False)
    if issuer_name != subject_name:
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(issuer_id, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)


class CertificateLog:
    """A certificate transparency log as far as a verifier sees it: a key that promises to publish a certificate."""

    def __init__(self, seed: Seed, organization: str) -> None:
        self.key = seed.key(organization, "certificate log")

    def promise(self, precertificate: bytes, issuer_id: bytes, at: datetime) -> bytes:
        """A list of one signed certificate timestamp (RFC 6962 sections 3.2 and 3.3)."""
        milliseconds = int(at.timestamp()) * 1000
        version, signature_type, precert_entry, extensions = 0, 0, 1, 0
        signed = struct.pack(">BBQH", version, signature_type, milliseconds, precert_entry)
        signed += issuer_id + len(precertificate).to_bytes(3, "big") + precertificate + struct.pack(">H", extensions)
        signature = sign_bytes(self.key, signed)
        sha256, ecdsa = 4, 3
        sct = struct.pack(">B32sQH", version, key_id(self.key), milliseconds, extensions)
        sct += struct.pack(">BBH", sha256, ecdsa, len(signature)) + signature
        return struct.pack(">HH", len(sct) + 2, len(sct)) + sct


class SignatureLog:
    """An append-only Merkle tree of signatures with a signed root after each, like Rekor's first version.

    An entry's proof is made when it is appended: it is the newest leaf then, and its proof is the roots of the full
    subtrees to its left. These are all that has to be kept.
    """

    def __init__(self, seed: Seed, organization: str, host: str) -> None:
        self.key = seed.key(organization, "signature log")
        self._host = host
        self._origin = f"{host} - {seed.serial(organization, 'tree') % 2**62}"
        self._size = 0
        # Roots of the full subtrees, largest (leftmost) first: one for each 1 in the binary form of the size.
        self._subtrees: list[bytes] = []

    def append(self, kind: str, version: str, spec: dict[str, Any], at: datetime) -> dict[str, Any]:
        """Log an entry; what a bundle's `tlogEntries` says of it."""
        body = rfc8785.dumps({"apiVersion": version, "kind": kind, "spec": spec})
        index = self._size
        hashes_to_root = list(reversed(self._subtrees))
        self._add_leaf(hashlib.sha256(b"\0" + body).digest())
        root = self._root()
        log_index = index + _ENTRIES_OF_EARLIER_TREES
        integrated = int(at.timestamp())
        promised = rfc8785.dumps(
            {
                "body": _base64(body),
                "integratedTime": integrated,
                "logID": key_id(self.key).hex(),
                "logIndex": log_index,
            }
        )
        return {
            "logIndex": str(log_index),
            "logId": {"keyId": _base64(key_id(self.key))},
            "kindVersion": {"kind": kind, "version": version},
            "integratedTime": str(integrated),
            "inclusionPromise": {"signedEntryTimestamp": _base64(sign_bytes(self.key, promised))},
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": _base64(root),
                "treeSize": str(self._size),
                "hashes": [_base64(item) for item in hashes_to_root],
                "checkpoint": {"envelope": self._checkpoint(root)},
            },
            "canonicalizedBody": _base64(body),
        }

    def _add_leaf(self, leaf: bytes) -> None:
        node, size = leaf, self._size
        while size & 1:
            node = _parent(self._subtrees.pop(), node)
            size >>= 1
        self._subtrees.append(node)
        self._size += 1

    def _root(self) -> bytes:
        *larger, node = self._subtrees
        for subtree in reversed(larger):
            node = _parent(subtree, node)
        return node

    def _checkpoint(self, root: bytes) -> str:
        note = f"{self._origin}\n{self._size}\n{_base64(root)}\n"
        signature = _base64(key_id(self.key)[:4] + sign_bytes(self.key, note.encode()))
        return f"{note}\n\N{EM DASH} {self._host} {signature}\n"


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class TimestampAuthority:
    """A clock that signs what it is shown and when (RFC 3161), without its certificate in the answer."""

    def __init__(self, seed: Seed, organization: str) -> None:
        self._seed = seed
        self._organization = organization
        self._authority = CertificateAuthority(seed, organization, "Timestamp", ExtendedKeyUsageOID.TIME_STAMPING)
        self._key = seed.key(organization, "timestamp")
        self.certificate = self._authority.issue(
            self._key, (VALID_FROM, VALID_UNTIL), subject=_name(organization, "Timestamp signer")
        )

    @property
    def chain(self) -> list[x509.Certificate]:
        """The signer's certificate, its intermediate and its root, in this order."""
        return [self.certificate, self._authority.intermediate, self._authority.root]

    def stamp(self, message: bytes, at: datetime) -> bytes:
        """A granted TimeStampResp over the message's SHA-256 (RFC 3161 section 2.4.2, RFC 5652 section 5)."""
        imprint = hashlib.sha256(message).digest()
        certificate = self.certificate
        signer = _explicit(4, certificate.subject.public_bytes())
        issuer = certificate.issuer.public_bytes()
        serial = asn1.encode_der(certificate.serial_number)
        sha256 = _sequence(_oid("2.16.840.1.101.3.4.2.1"))
        token_type = _oid("1.2.840.113549.1.9.16.1.4")
        token = _sequence(
            asn1.encode_der(1),
            _oid("1.3.6.1.4.1.57264.2"),
            _sequence(sha256, asn1.encode_der(imprint)),
            asn1.encode_der(self._seed.serial(self._organization, "token", imprint, at.isoformat())),
            asn1.encode_der(asn1.GeneralizedTime(at)),
            _sequence(asn1.encode_der(1)),  # accurate to a second
            _explicit(0, signer),
        )
        certificate_hash = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        signed_by = _sequence(asn1.encode_der(certificate_hash), _sequence(_sequence(_explicit(4, issuer)), serial))
        attributes = b"".join(
            sorted(
                _sequence(_oid(oid), _tlv(0x31, value))
                for oid, value in (
                    ("1.2.840.113549.1.9.3", token_type),
                    ("1.2.840.113549.1.9.5", asn1.encode_der(asn1.UTCTime(at))),
                    ("1.2.840.113549.1.9.4", asn1.encode_der(hashlib.sha256(token).digest())),
                    ("1.2.840.113549.1.9.16.2.47", _sequence(_sequence(signed_by))),
                )
            )
        )
        signer_info = _sequence(
            asn1.encode_der(1),
            _sequence(issuer, serial),
            sha256,
            _explicit(0, attributes),
            _sequence(_oid("1.2.840.10045.4.3.2")),
            # Signed as a SET, although it stands under another tag above (RFC 5652 section 5.4).
            asn1.encode_der(sign_bytes(self._key, _tlv(0x31, attributes))),
        )
        signed_data = _sequence(
            asn1.encode_der(3),
            _tlv(0x31, sha256),
            _sequence(token_type, _explicit(0, asn1.encode_der(token))),
            _explicit(0),  # no certificates: a verifier has them from its trusted root
            _tlv(0x31, signer_info),
        )
        granted = _sequence(asn1.encode_der(0))
        return _sequence(granted, _sequence(_oid("1.2.840.113549.1.7.2"), _explicit(0, signed_data)))


def _tlv(tag: int, *parts: bytes) -> bytes:
    """A constructed DER value; `asn1` encodes plain values, but none that is put together from encoded ones."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, *parts)


def _explicit(number: int, *parts: bytes) -> bytes:
    return _tlv(0xA0 | number, *parts)


def _oid(dotted: str) -> bytes:
    return asn1.encode_der(x509.ObjectIdentifier(dotted))
