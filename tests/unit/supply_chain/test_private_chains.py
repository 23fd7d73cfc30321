"""The chain behind a private instance's signature: who may issue, for what, and when."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from analytics.sample.authorities import Seed, TimestampAuthority
from analytics.supply_chain.trusted_roots import TrustedRootError, read_trusted_roots
from analytics.supply_chain.verification import Judgement, judge

AT = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
YEAR = timedelta(days=365)
PAYLOAD_TYPE = "application/vnd.in-toto+json"
CODE_SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
NAME = x509.SubjectAlternativeName(
    [x509.UniformResourceIdentifier("https://github.com/acme/shop/w.yml@refs/heads/main")]
)
SIGNING_CURVE = ec.SECP256R1
Extensions = Sequence[tuple[x509.ExtensionType, bool]]


def key() -> ec.EllipticCurvePrivateKey:
    """A new key."""
    return ec.generate_private_key(ec.SECP256R1())


def usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
    """What a key may be used for."""
    return x509.KeyUsage(signs, False, False, False, False, certifies, certifies, False, False)


def authority(path_length: int | None, *more: tuple[x509.ExtensionType, bool]) -> Extensions:
    """The extensions of a certificate authority."""
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return [(constraints, True), (usage(signs=False, certifies=True), True), *more]


LEAF: Extensions = [(usage(signs=True, certifies=False), True), (CODE_SIGNING, False), (NAME, True)]


def without(extensions: Extensions, kind: type[x509.ExtensionType]) -> Extensions:
    """The extensions but for one kind."""
    return [(value, critical) for value, critical in extensions if not isinstance(value, kind)]


@dataclass
class Chain:
    """A chain from root to leaf; each certificate's extensions and window can be changed."""

    root: Extensions = field(default_factory=lambda: authority(1))
    intermediate: Extensions = field(default_factory=lambda: authority(0, (CODE_SIGNING, False)))
    leaf: Extensions = field(default_factory=lambda: LEAF)
    intermediate_window: tuple[datetime, datetime] = (AT - YEAR, AT + YEAR)
    leaf_window: tuple[datetime, datetime] = (AT, AT + timedelta(minutes=10))
    # Another key than the intermediate's signs the leaf, under the same name.
    impostor: bool = False
    # A second intermediate stands between the first and the leaf.
    longer: bool = False
    leaf_key: Any = None
    stamped_at: datetime = AT

    def judged(self) -> Judgement:
        """The verdict on a bundle that the leaf signed and an authority stamped."""
        keys = [key(), key(), key()]
        root = self._issue("root", keys[0], "root", keys[0], self.root, (AT - YEAR, AT + YEAR))
        first = self._issue("root", keys[0], "first", keys[1], self.intermediate, self.intermediate_window)
        chain, issuer = [first, root], ("first", keys[1])
        if self.longer:
            second = self._issue("first", keys[1], "second", keys[2], authority(0), self.intermediate_window)
            chain, issuer = [second, first, root], ("second", keys[2])
        signer = self.leaf_key or key()
        issuing = key() if self.impostor else issuer[1]
        leaf = self._issue(issuer[0], issuing, "", signer, self.leaf, self.leaf_window)
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "shop", "digest": {"sha256": "5a" * 32}}],
            "predicateType": "https://example.org/p",
            "predicate": {},
        }
        payload = json.dumps(statement).encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        signature = signer.sign(signed, ec.ECDSA(hashes.SHA256())) if hasattr(signer, "curve") else b"\0" * 64
        clock = TimestampAuthority(Seed(b"clock"), "clock")
        bundle = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(leaf.public_bytes(Encoding.DER))},
                "timestampVerificationData": {
                    "rfc3161Timestamps": [{"signedTimestamp": b64(clock.stamp(signature, self.stamped_at))}]
                },
            },
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": b64(signature)}],
            },
        }
        content = root_json(chain, clock.chain)
        return judge(json.dumps(bundle).encode(), read_trusted_roots(json.dumps(content).encode(), "private"))

    def _issue(
        self,
        issuer: str,
        issuer_key: Any,
        subject: str,
        subject_key: Any,
        extensions: Extensions,
        window: tuple[datetime, datetime],
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .issuer_name(named(issuer))
            .subject_name(named(subject) if subject else x509.Name([]))
            .public_key(subject_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(window[0])
            .not_valid_after(window[1])
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
        )
        for value, critical in extensions:
            builder = builder.add_extension(value, critical)
        return builder.sign(issuer_key, hashes.SHA256())


def named(text: str) -> x509.Name:
    """A distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def b64(raw: bytes) -> str:
    """Base64 as the formats write it."""
    return base64.b64encode(raw).decode()


def root_json(chain: Sequence[x509.Certificate], clock: Sequence[x509.Certificate]) -> dict[str, Any]:
    """A trusted root of a private instance."""
    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        **{
            name: [
                {"certChain": {"certificates": [{"rawBytes": b64(one.public_bytes(Encoding.DER))} for one in found]}}
            ]
            for name, found in (("certificateAuthorities", chain), ("timestampAuthorities", clock))
        },
    }


def test_a_chain_in_order_verifies() -> None:
    judgement = Chain().judged()
    assert judgement.verdict == "VERIFIED_PRIVATE", judgement.reason


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (Chain(impostor=True), "was not signed by an authority"),
        (Chain(root=authority(0), longer=True), "did not chain"),
        (Chain(intermediate=authority(0), longer=True), "did not chain"),
        (Chain(intermediate=LEAF), "did not chain"),
        (
            Chain(
                intermediate=[
                    (x509.BasicConstraints(ca=True, path_length=0), True),
                    (usage(signs=True, certifies=False), True),
                ]
            ),
            "did not chain",
        ),
        (Chain(intermediate=without(authority(0), x509.BasicConstraints)), "did not chain"),
        (
            Chain(
                intermediate=authority(
                    0, (x509.NameConstraints([x509.UniformResourceIdentifier("acme.example")], None), True)
                )
            ),
            "did not",
        ),
        (Chain(leaf=[*LEAF, (x509.BasicConstraints(ca=True, path_length=None), True)]), "did not chain"),
        (Chain(leaf=without(LEAF, x509.SubjectAlternativeName)), "did not chain"),
        (Chain(leaf=without(LEAF, x509.KeyUsage)), "does not say what it may be used for"),
        (Chain(leaf=without(LEAF, x509.ExtendedKeyUsage)), "does not say what it may be used for"),
        (
            Chain(leaf=[(usage(signs=False, certifies=False), True), *without(LEAF, x509.KeyUsage)]),
            "not issued for signing code",
        ),
        (
            Chain(
                leaf=[
                    *without(LEAF, x509.ExtendedKeyUsage),
                    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False),
                ]
            ),
            "not issued for signing code",
        ),
        (
            Chain(
                leaf=[
                    *without(LEAF, x509.ExtendedKeyUsage),
                    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), False),
                ]
            ),
            "not issued for signing code",
        ),
        (
            Chain(leaf=[*LEAF, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]),
            "did not chain",
        ),
        (Chain(leaf_window=(AT + timedelta(seconds=1), AT + YEAR)), "did not chain"),
        (Chain(leaf_window=(AT - YEAR, AT - timedelta(seconds=1))), "did not chain"),
        (Chain(intermediate_window=(AT - YEAR, AT - timedelta(seconds=1))), "did not chain"),
    ],
    ids=lambda value: None if isinstance(value, Chain) else value,
)
def test_a_chain_with_something_wrong_in_it_does_not(chain: Chain, words: str) -> None:
    judgement = chain.judged()
    assert judgement.verdict == "INVALID_CERT", judgement.reason
    assert words in judgement.reason


def test_a_key_of_another_kind_is_no_signer() -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    judgement = Chain(leaf_key=ed25519.Ed25519PrivateKey.generate()).judged()
    assert judgement.verdict == "INVALID_CERT"
    assert "of a kind" in judgement.reason


def test_a_root_with_a_certificate_log_and_no_log_of_signatures_is_not_understood() -> None:
    # Its certificates carry promises that our own verifier does not check: nothing may pass without them.
    chain = [TimestampAuthority(Seed(b"clock"), "clock").certificate]
    log = {"publicKey": {"rawBytes": ""}, "logId": {"keyId": ""}}
    content = {**root_json(chain, chain), "ctlogs": [log]}
    with pytest.raises(TrustedRootError, match="which is not understood"):
        read_trusted_roots(json.dumps(content).encode(), "odd")
