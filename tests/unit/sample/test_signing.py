"""The sample's trust root: sigstore accepts what it signs and nothing that was changed since."""

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store
from rfc3161_client import VerificationError as TimestampError
from rfc3161_client import VerifierBuilder, decode_timestamp_response
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify import policy as sigstore_policy

from analytics.sample.signing import (
    GITHUB_ISSUER,
    PAYLOAD_TYPE,
    TrustRoot,
    WorkflowIdentity,
    in_toto_statement,
    provenance,
)

AT = datetime(2024, 5, 1, 12, 30, 5, tzinfo=UTC)
DIGEST = "sha256:" + "5a" * 32
SIGNER = "https://github.com/acme/shop/.github/workflows/release.yml@refs/heads/main"


def identity(**changes: Any) -> WorkflowIdentity:
    fields: dict[str, Any] = {
        "repository": "acme/shop",
        "repository_id": 4711,
        "owner_id": 12,
        "sha": "c0" * 20,
        "run_id": 900,
    }
    return WorkflowIdentity(**(fields | changes))


def signed(root: TrustRoot, who: WorkflowIdentity | None = None, at: datetime = AT, **options: Any) -> dict[str, Any]:
    who = who or identity()
    bundle: dict[str, Any] = json.loads(root.sign(provenance(who, {"shop.tar": DIGEST}), who, at, **options))
    return bundle


def certificate_of(bundle: dict[str, Any]) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(bundle["verificationMaterial"]["certificate"]["rawBytes"]))


@pytest.fixture
def root() -> TrustRoot:
    return TrustRoot.from_seed(7, "Acme")


@pytest.fixture
def accept(root: TrustRoot, tmp_path: Path) -> Callable[[dict[str, Any]], tuple[str, bytes]]:
    """Sigstore's own verdict over a bundle: its payload, or an error."""
    path = tmp_path / "trusted_root.json"
    path.write_bytes(root.trusted_root_json())
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(path)))
    policy = sigstore_policy.AllOf(
        [
            sigstore_policy.Identity(identity=SIGNER, issuer=GITHUB_ISSUER),
            sigstore_policy.OIDCIssuerV2(GITHUB_ISSUER),
            sigstore_policy.OIDCSourceRepositoryURI("https://github.com/acme/shop"),
            sigstore_policy.OIDCSourceRepositoryDigest("c0" * 20),
            sigstore_policy.OIDCSourceRepositoryIdentifier("4711"),
        ]
    )
    return lambda bundle: verifier.verify_dsse(Bundle.from_json(json.dumps(bundle)), policy)


Accept = Callable[[dict[str, Any]], tuple[str, bytes]]


def test_sigstore_accepts_a_signed_bundle_and_its_identity(root: TrustRoot, accept: Accept) -> None:
    kind, payload = accept(signed(root))
    assert kind == PAYLOAD_TYPE
    assert json.loads(payload) == provenance(identity(), {"shop.tar": DIGEST})


def test_every_place_in_the_log_has_a_proof_that_verifies(root: TrustRoot, accept: Accept) -> None:
    # The shape of a proof depends on the binary form of the index: 20 entries have all of up to four levels.
    for number in range(20):
        bundle = signed(root, at=AT + timedelta(hours=number))
        proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
        assert (proof["logIndex"], proof["treeSize"]) == (str(number), str(number + 1))
        assert len(proof["hashes"]) == number.bit_count()
        accept(bundle)


def test_a_witnessed_bundle_may_carry_a_timestamp_too(root: TrustRoot, accept: Accept) -> None:
    accept(signed(root, timestamped=True))


def test_an_entry_of_another_kind_is_one_that_sigstore_cannot_read(root: TrustRoot, accept: Accept) -> None:
    bundle = signed(root, entry="intoto")
    assert bundle["verificationMaterial"]["tlogEntries"][0]["kindVersion"] == {"kind": "intoto", "version": "0.0.2"}
    with pytest.raises(SigstoreError):
        accept(bundle)


def test_sigstore_trusts_the_clock_alone_when_the_log_gives_no_time(root: TrustRoot, accept: Accept) -> None:
    bundle = signed(root, timestamped=True)
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]
    accept(bundle)


def test_another_seed_is_another_root(accept: Accept) -> None:
    with pytest.raises(SigstoreError):
        accept(signed(TrustRoot.from_seed(8, "Acme")))
    with pytest.raises(SigstoreError):
        accept(signed(TrustRoot.from_seed(7, "Other")))


def _flip(text: str, at: int = -8) -> str:
    data = bytearray(base64.b64decode(text))
    data[at] ^= 1
    return base64.b64encode(data).decode()


def _entry(bundle: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]
    return entry


def _change_signature(bundle: dict[str, Any]) -> None:
    signature = bundle["dsseEnvelope"]["signatures"][0]
    signature["sig"] = _flip(signature["sig"])


def _change_payload(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payload"] = _flip(bundle["dsseEnvelope"]["payload"], at=100)


def _change_certificate(bundle: dict[str, Any]) -> None:
    certificate = bundle["verificationMaterial"]["certificate"]
    raw = base64.b64decode(certificate["rawBytes"])
    assert b"acme/shop" in raw
    certificate["rawBytes"] = base64.b64encode(raw.replace(b"acme/shop", b"acme/shoq")).decode()


def _change_log_time(bundle: dict[str, Any]) -> None:
    _entry(bundle)["integratedTime"] = str(int(_entry(bundle)["integratedTime"]) + 1)


def _change_root_hash(bundle: dict[str, Any]) -> None:
    proof = _entry(bundle)["inclusionProof"]
    proof["rootHash"] = _flip(proof["rootHash"])


def _change_checkpoint(bundle: dict[str, Any]) -> None:
    checkpoint = _entry(bundle)["inclusionProof"]["checkpoint"]
    checkpoint["envelope"] = checkpoint["envelope"].replace("rekor.acme.test - ", "rekor.acme.test - 9", 1)


@pytest.mark.parametrize(
    "change",
    [_change_signature, _change_payload, _change_certificate, _change_log_time, _change_root_hash, _change_checkpoint],
)
def test_sigstore_refuses_a_bundle_that_was_changed(
    root: TrustRoot, accept: Accept, change: Callable[[dict[str, Any]], None]
) -> None:
    signed(root)  # so that the entry below has a proof of one step
    bundle = signed(root)
    accept(bundle)
    change(bundle)
    with pytest.raises((SigstoreError, ValueError)):
        accept(bundle)


def test_the_certificate_log_signed_this_certificate_and_no_other(root: TrustRoot, accept: Accept) -> None:
    bundle = signed(root)
    other = json.loads(root.trusted_root_json())
    other["ctlogs"] = json.loads(TrustRoot.from_seed(8, "Acme").trusted_root_json())["ctlogs"]
    with pytest.raises(SigstoreError, match="SCT"):
        Verifier(trusted_root=_trusted_root(other)).verify_dsse(
            Bundle.from_json(json.dumps(bundle)), sigstore_policy.OIDCIssuerV2(GITHUB_ISSUER)
        )


def _trusted_root(value: dict[str, Any]) -> TrustedRoot:
    from sigstore_models.trustroot.v1 import TrustedRoot as Inner

    return TrustedRoot(Inner.from_json(json.dumps(value)))


def test_the_same_seed_gives_the_same_bytes() -> None:
    def everything() -> list[bytes]:
        root = TrustRoot.from_seed(7, "Acme")
        who = identity()
        statement = provenance(who, {"shop.tar": DIGEST})
        return [
            root.trusted_root_json(),
            root.private_trusted_root_json(),
            root.sign(statement, who, AT, timestamped=True),
            root.sign(statement, who, AT + timedelta(days=1)),
            root.sign(statement, who, AT, witnessed=False),
        ]

    assert everything() == everything()


def test_a_time_is_signed_as_the_instant_it_is(root: TrustRoot) -> None:
    utc = root.sign(provenance(identity(), {"a": DIGEST}), identity(), AT, witnessed=False)
    berlin = AT.astimezone(timezone(timedelta(hours=2)))
    assert root.sign(provenance(identity(), {"a": DIGEST}), identity(), berlin, witnessed=False) == utc
    with pytest.raises(ValueError, match="no time zone"):
        root.sign(provenance(identity(), {"a": DIGEST}), identity(), AT.replace(tzinfo=None))


def test_a_certificate_is_backdated_and_lives_ten_minutes(root: TrustRoot) -> None:
    certificate = certificate_of(signed(root, at=datetime(2023, 1, 2, 3, 4, 5, 678, tzinfo=UTC)))
    assert certificate.not_valid_before_utc == datetime(2023, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert certificate.not_valid_after_utc == datetime(2023, 1, 2, 3, 14, 5, tzinfo=UTC)


def test_extensions_are_encoded_as_real_ones_are(root: TrustRoot) -> None:
    who = identity(
        signer_workflow="acme/ci/.github/workflows/build.yml@refs/tags/v1",
        signer_sha="d1" * 20,
        trigger="workflow_dispatch",
        deployment_environment="production",
    )
    certificate = certificate_of(signed(root, who))
    found = {
        int(item.oid.dotted_string.rsplit(".", 1)[1]): item.value.value
        for item in certificate.extensions
        if item.oid.dotted_string.startswith("1.3.6.1.4.1.57264.1.")
        and isinstance(item.value, x509.UnrecognizedExtension)
    }
    signer = "https://github.com/acme/ci/.github/workflows/build.yml@refs/tags/v1"
    assert list(found) == [1, 2, 3, 4, 5, 6, *range(8, 24)]
    assert found[1] == GITHUB_ISSUER.encode()
    assert found[5] == b"acme/shop"
    assert found[8] == b"\x0c" + bytes([len(GITHUB_ISSUER)]) + GITHUB_ISSUER.encode()
    assert found[9].endswith(signer.encode())
    assert found[10] == b"\x0c\x28" + b"d1" * 20
    assert found[12] == b"\x0c\x1chttps://github.com/acme/shop"
    assert found[15] == b"\x0c\x044711"
    assert found[18].endswith(SIGNER.encode())
    assert found[20] == b"\x0c\x11workflow_dispatch"
    assert found[21].endswith(b"https://github.com/acme/shop/actions/runs/900/attempts/1")
    assert found[23] == b"\x0c\x0aproduction"
    (name,) = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name.value == signer


# The private instance


def chain_of(root: TrustRoot, part: str) -> list[x509.Certificate]:
    (authority,) = json.loads(root.private_trusted_root_json())[part]
    return [
        x509.load_der_x509_certificate(base64.b64decode(item["rawBytes"]))
        for item in authority["certChain"]["certificates"]
    ]


def stamp_of(bundle: dict[str, Any]) -> bytes:
    (stamp,) = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    return base64.b64decode(stamp["signedTimestamp"])


def test_an_unwitnessed_bundle_has_a_certificate_and_a_timestamp_and_no_log(root: TrustRoot, accept: Accept) -> None:
    bundle = signed(root, witnessed=False)
    assert set(bundle["verificationMaterial"]) == {"certificate", "timestampVerificationData"}
    with pytest.raises(x509.ExtensionNotFound):
        certificate_of(bundle).extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
    with pytest.raises(SigstoreError, match="tlogEntries"):
        accept(bundle)


def test_a_private_trusted_root_knows_no_log(root: TrustRoot) -> None:
    value = json.loads(root.private_trusted_root_json())
    assert set(value) == {"mediaType", "certificateAuthorities", "timestampAuthorities"}


def test_the_private_chain_holds_at_the_signed_time_and_not_after_it(root: TrustRoot) -> None:
    certificate = certificate_of(signed(root, witnessed=False))
    intermediate, root_certificate = chain_of(root, "certificateAuthorities")

    def verify(at: datetime) -> list[x509.Certificate]:
        purpose_is_checked_below = (x509.ExtendedKeyUsage, Criticality.NON_CRITICAL, None)
        return list(
            PolicyBuilder()
            .store(Store([root_certificate]))
            .time(at)
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca().may_be_present(*purpose_is_checked_below),
                ee_policy=ExtensionPolicy.webpki_defaults_ee().may_be_present(*purpose_is_checked_below),
            )
            .build_client_verifier()
            .verify(certificate, [intermediate])
            .chain
        )

    assert verify(AT) == [certificate, intermediate, root_certificate]
    with pytest.raises(x509.verification.VerificationError):
        verify(AT + timedelta(minutes=11))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CODE_SIGNING]


def test_the_private_certificate_signed_the_envelope(root: TrustRoot) -> None:
    bundle = signed(root, witnessed=False)
    key = certificate_of(bundle).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    encoded = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    key.verify(signature, encoded, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(signature, encoded + b" ", ec.ECDSA(hashes.SHA256()))


def test_the_private_timestamp_is_over_the_signature_at_the_time_given(root: TrustRoot) -> None:
    bundle = signed(root, witnessed=False)
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    stamp = decode_timestamp_response(stamp_of(bundle))
    signer, intermediate, root_certificate = chain_of(root, "timestampAuthorities")
    verifier = (
        VerifierBuilder()
        .tsa_certificate(signer)
        .add_intermediate_certificate(intermediate)
        .add_root_certificate(root_certificate)
        .build()
    )
    assert stamp.tst_info.gen_time == AT
    assert verifier.verify_message(stamp, signature)
    with pytest.raises(TimestampError):
        verifier.verify_message(stamp, signature + b"\0")


def test_a_changed_timestamp_does_not_verify(root: TrustRoot) -> None:
    bundle = signed(root, witnessed=False)
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    stamp = stamp_of(bundle)
    written = AT.strftime("%Y%m%d%H%M%SZ").encode()
    assert stamp.count(written) == 1
    later = decode_timestamp_response(
        stamp.replace(written, (AT + timedelta(days=1)).strftime("%Y%m%d%H%M%SZ").encode())
    )
    signer, intermediate, root_certificate = chain_of(root, "timestampAuthorities")
    builder = VerifierBuilder().tsa_certificate(signer).add_intermediate_certificate(intermediate)
    with pytest.raises(TimestampError):
        builder.add_root_certificate(root_certificate).build().verify_message(later, signature)


# Statements


def test_provenance_has_the_shape_of_githubs(root: TrustRoot) -> None:
    statement = provenance(identity(), {"shop.tar": DIGEST})
    predicate = statement["predicate"]
    assert statement["subject"] == [{"name": "shop.tar", "digest": {"sha256": "5a" * 32}}]
    assert predicate["buildDefinition"]["buildType"] == "https://actions.github.io/buildtypes/workflow/v1"
    assert predicate["buildDefinition"]["externalParameters"]["workflow"]["path"] == ".github/workflows/release.yml"
    assert predicate["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "git+https://github.com/acme/shop@refs/heads/main", "digest": {"gitCommit": "c0" * 20}}
    ]
    assert predicate["runDetails"]["builder"]["id"] == SIGNER


def test_a_digest_names_its_algorithm() -> None:
    assert in_toto_statement("t", {}, {"a": "sha512:00"})["subject"] == [{"name": "a", "digest": {"sha512": "00"}}]
    with pytest.raises(ValueError, match="names no algorithm"):
        in_toto_statement("t", {}, {"a": "00"})


def test_how_long_two_hundred_bundles_take_is_reported(
    root: TrustRoot, accept: Accept, record_testsuite_property: Callable[[str, object], None]
) -> None:
    started = time.perf_counter()
    bundles = [signed(root, at=AT + timedelta(minutes=number)) for number in range(200)]
    # Reported with the results (--junitxml), never asserted: the machine decides it.
    record_testsuite_property("seconds_to_sign_200_bundles", round(time.perf_counter() - started, 3))
    accept(bundles[-1])
