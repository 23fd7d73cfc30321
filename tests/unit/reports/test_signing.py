"""A pack's signature: made by a key, the same each time, and refused when anything about it was changed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from analytics.errors import PackError
from analytics.sample.signing import TrustRoot, WorkflowIdentity, in_toto_statement
from analytics.secrets import Secret
from analytics.settings import Settings
from analytics.supply_chain.trusted_roots import load_trusted_roots
from reports import pack as pack_module
from reports.manifest import verify_pack
from reports.pack import make_pack
from reports.signing import (
    BUNDLE_NAME,
    ENVELOPE_NAME,
    PREDICATE_TYPE,
    PUBLIC_KEY_NAME,
    load_private_key,
    load_public_key,
    signature_files,
)
from tests.unit.reports.published_world import QUARTER, publish, settings_of, small_world

KEYS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "pack-key.pem"
    file.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    return file


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Settings:
    reports = {"printed": [], "signing_key": f"file:{key_file}"}
    settings = settings_of(tmp_path_factory.mktemp("signed"), reports=reports)
    publish(settings, small_world())
    return settings


@pytest.fixture
def signed(settings: Settings, tmp_path: Path) -> Path:
    """A signed pack that a test may damage."""
    import shutil

    return Path(shutil.copytree(make_pack(settings, QUARTER).path, tmp_path / "2026-Q3"))


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key_signs_the_same_bytes_each_time_and_another_library_verifies_them(kind: str) -> None:
    key = KEYS[kind]()
    first, again = (signature_files(b"{}", {"quarter": "2026-Q3"}, key) for _ in range(2))
    assert first == again
    envelope = json.loads(first[ENVELOPE_NAME])
    public = SSlibKey.from_crypto(key.public_key(), keyid=envelope["signatures"][0]["keyid"])
    if kind == "rsa":
        public.scheme = "rsa-pkcs1v15-sha256"
    # securesystemslib keeps DSSE's base64 as it is written, and knows no curve but these.
    assert Envelope.from_dict(envelope).verify([public], 1)


def test_the_statement_names_the_manifest_by_its_digest(signed: Path) -> None:
    envelope = json.loads((signed / ENVELOPE_NAME).read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [one["name"] for one in statement["subject"]] == ["manifest.json"]
    assert statement["subject"][0]["digest"]["sha256"] == verify_pack(signed).pack_id


def test_a_signed_pack_verifies_and_says_whose_key_was_used(signed: Path, key_file: Path) -> None:
    trusted = load_public_key(key_file.read_bytes(), "key")
    assert verify_pack(signed, trusted).ok
    assert "by the trusted key" in verify_pack(signed, trusted).signature
    assert "not compared with a trusted one" in verify_pack(signed).signature


def test_another_key_is_refused(signed: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    result = verify_pack(signed, other)
    assert result.problems == (
        f"{ENVELOPE_NAME}: the signature is not by the trusted key, or what was signed was changed",
    )


def test_a_manifest_that_was_rewritten_with_its_file_fails_by_its_signature(signed: Path) -> None:
    page = signed / "index.html"
    page.write_text(page.read_text().replace("2026-Q3", "2026-Q9"))
    manifest = json.loads((signed / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"] == "index.html":
            content = page.read_bytes()
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (signed / "manifest.json").write_text(json.dumps(manifest))
    assert verify_pack(signed).problems == (f"{ENVELOPE_NAME}: the signature is over another manifest",)


def test_one_changed_byte_of_a_file_is_named(signed: Path) -> None:
    page = signed / "teams" / "payments.html"
    content = bytearray(page.read_bytes())
    content[100] ^= 1
    page.write_bytes(content)
    assert verify_pack(signed).problems == ("teams/payments.html: changed (its SHA-256 differs)",)


def test_a_signature_that_was_taken_away_is_missed_by_whoever_trusts_a_key(signed: Path, key_file: Path) -> None:
    (signed / ENVELOPE_NAME).unlink()
    (signed / PUBLIC_KEY_NAME).unlink()
    assert verify_pack(signed).signature == "none (the pack is unsigned)"
    trusted = load_public_key(key_file.read_bytes(), "key")
    assert "not signed by the trusted key" in verify_pack(signed, trusted).problems[0]


@pytest.mark.parametrize("content", ["", "[]", '{"payloadType": 3}', "{" * 9000, '{"payload": "x", "signatures": [1]}'])
def test_an_envelope_that_is_none_is_a_problem_and_no_error(signed: Path, content: str) -> None:
    (signed / ENVELOPE_NAME).write_text(content)
    (problem,) = verify_pack(signed).problems
    assert problem.startswith(ENVELOPE_NAME)


def test_a_signature_behind_a_link_is_not_read(signed: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (signed / ENVELOPE_NAME).rename(elsewhere)
    (signed / ENVELOPE_NAME).symlink_to(elsewhere)
    assert not verify_pack(signed).ok


def test_a_key_that_is_none_is_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(PackError, match="no private key in PEM") as error:
        load_private_key(Secret(f"file:{tmp_path / 'key'}"))
    assert "c2VjcmV0" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_pack_that_gets_a_key_is_published_again_and_then_kept(tmp_path: Path, key_file: Path) -> None:
    plain = settings_of(tmp_path)
    publish(plain, small_world())
    assert make_pack(plain, QUARTER).path.name == "2026-Q3"
    keyed = settings_of(
        tmp_path, reports={"owner": "Delivery insights", "printed": [], "signing_key": f"file:{key_file}"}
    )
    assert make_pack(keyed, QUARTER).path.name == "2026-Q3.r1"
    assert make_pack(keyed, QUARTER).unchanged


def test_a_keyless_signature_is_a_bundle_whose_subject_is_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sigstore's instance is stood in for by a trust root of our own, which signs real bundles."""
    root = TrustRoot.from_seed(7, "Acme")

    def bundle(manifest: bytes, predicate: Mapping[str, Any]) -> bytes:
        subject = {"manifest.json": f"sha256:{hashlib.sha256(manifest).hexdigest()}"}
        return root.sign(
            in_toto_statement(PREDICATE_TYPE, dict(predicate), subject),
            WorkflowIdentity(
                repository="acme/packs",
                repository_id=1,
                owner_id=2,
                sha="a" * 40,
                ref="refs/heads/main",
                workflow_path=".github/workflows/pack.yml",
                trigger="schedule",
                run_id=3,
            ),
            at=datetime(2026, 10, 5, 6, tzinfo=UTC),
        )

    monkeypatch.setattr(pack_module, "keyless_bundle", bundle)
    settings = settings_of(tmp_path, reports={"printed": [], "keyless": True})
    publish(settings, small_world())
    folder = make_pack(settings, QUARTER).path
    (tmp_path / "root.json").write_bytes(root.trusted_root_json())
    roots = load_trusted_roots(tmp_path / "root.json")
    result = verify_pack(folder, roots=roots)
    assert result.problems == ()
    assert "keyless by https://github.com/acme/packs/.github/workflows/pack.yml@refs/heads/main" in result.signature
    (folder / BUNDLE_NAME).write_bytes(bundle(b"another manifest", {}))
    assert "INVALID_SUBJECT" in verify_pack(folder, roots=roots).problems[0]


def test_without_a_token_the_pack_is_made_unsigned_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: None)
    settings = settings_of(tmp_path, reports={"printed": [], "keyless": True})
    publish(settings, small_world())
    with caplog.at_level("WARNING"):
        folder = make_pack(settings, QUARTER).path
    assert "this job has no OIDC token" in caplog.text
    assert verify_pack(folder).signature == "none (the pack is unsigned)"
