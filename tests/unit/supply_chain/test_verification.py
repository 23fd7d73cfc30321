"""What sigstore-python does not check: subjects, types, windows of keys and authorities, claims, issuer."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from analytics.errors import UsageError
from analytics.sample import signing
from analytics.sample.signing import TrustRoot, WorkflowIdentity, in_toto_statement, provenance
from analytics.supply_chain.attested import attested_facts
from analytics.supply_chain.facts import DeploymentFacts
from analytics.supply_chain.log_entries import _check_checkpoint
from analytics.supply_chain.policy import evaluate
from analytics.supply_chain.proofs import RefusedError
from analytics.supply_chain.rules import load_policies
from analytics.supply_chain.trusted_roots import (
    TrustedRoot,
    TrustedRootError,
    load_trusted_roots,
    production_root,
    read_trusted_roots,
)
from analytics.supply_chain.verification import Identity, Judgement, cache_key, judge, judge_all
from tests.unit.supply_chain.bundle_world import AT, DIGEST, authority, identity, instance, made_up_roots, signed
from tests.unit.supply_chain.manifest_world import needs_manifest, real

BUNDLE_OPTIONS: dict[str, dict[str, bool]] = {
    "public": {},
    "timestamped": {"timestamped": True},
    "private": {"witnessed": False},
}


def judged(bundle: Any, roots: tuple[TrustedRoot, ...] | None = None, digest: str | None = None) -> Judgement:
    return judge(json.dumps(bundle).encode(), roots if roots is not None else made_up_roots(), digest)


# Subjects


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_artifact_is_found_among_the_subjects_by_its_digest(algorithm: str) -> None:
    value = hashlib.new(algorithm, b"artifact").hexdigest()
    who = identity()
    bundle = signed(provenance(who, {"other": DIGEST, "renamed.tar": f"{algorithm}:{value.upper()}"}), who)
    assert judged(bundle, digest=f"{algorithm}:{value}").verdict == "VERIFIED"
    wrong = judged(bundle, digest=f"{algorithm}:{value[::-1]}")
    assert wrong.verdict == "INVALID_SUBJECT"
    assert "none of its 2 subjects" in wrong.reason
    # What was proven stays so.
    assert wrong.proven


def test_a_digest_in_another_algorithm_is_no_match() -> None:
    who = identity()
    bundle = signed(provenance(who, {"shop.tar": "sha1:" + "5a" * 20}), who)
    assert judged(bundle).verdict == "VERIFIED"
    assert judged(bundle, digest=DIGEST).verdict == "INVALID_SUBJECT"


@pytest.mark.parametrize("digest", ["", "sha256", "5a" * 32, "sha256:5a", "md5:" + "5a" * 16, "sha256:" + "zz" * 32])
def test_what_is_no_digest_is_a_wrong_word(digest: str) -> None:
    with pytest.raises(UsageError, match="is no digest"):
        judged(signed(), digest=digest)


# Types


@pytest.mark.parametrize("options", BUNDLE_OPTIONS.values(), ids=BUNDLE_OPTIONS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_type": "https://in-toto.io/Statement/v9"}, "of type “https://in-toto.io/Statement/v9”"),
        ({"_type": None}, "which is not known"),
        ({"predicateType": None}, "names no predicate type"),
        ({"predicateType": 7}, "names no predicate type"),
        ({"subject": []}, "has no subject"),
        ({"subject": "shop.tar"}, "has no subject"),
        ({"subject": [{"name": "shop.tar"}]}, "has no digest"),
        ({"subject": [{"name": "shop.tar", "digest": {"sha256": 7}}]}, "has no digest"),
        ({"subject": [{"name": "a", "digest": {"sha256": "aa"}}] * 10_001}, "10001 subjects"),
    ],
)
def test_a_signed_statement_that_is_none_is_no_verified_one(
    options: dict[str, bool], change: dict[str, Any], words: str
) -> None:
    statement = {**provenance(identity(), {"shop.tar": DIGEST}), **change}
    judgement = judged(signed(statement, **options))
    assert judgement.verdict == "INVALID_SUBJECT"
    assert words in judgement.reason


@pytest.mark.parametrize("options", [{}, {"witnessed": False}])
def test_another_payload_type_is_no_statement(options: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "PAYLOAD_TYPE", "application/json")
    judgement = judged(signed(**options))
    assert judgement.verdict == "INVALID_SUBJECT"
    assert "“application/json”" in judgement.reason


def test_a_predicate_of_another_kind_verifies_and_the_policy_asks_what_it_is() -> None:
    judgement = judged(signed(in_toto_statement("https://example.test/review/v1", {}, {"shop.tar": DIGEST})))
    assert (judgement.verdict, judgement.predicate_type) == ("VERIFIED", "https://example.test/review/v1")


# Windows at the verified time


def root_with(name: str, field: str, window: Mapping[str, str]) -> tuple[TrustedRoot, ...]:
    """The made-up roots with another window on every entry of one list."""
    private = name == "private"
    raw = authority().private_trusted_root_json() if private else authority().trusted_root_json()
    content = json.loads(raw)
    for entry in content[field]:
        entry.get("publicKey", entry)["validFor"] = dict(window)
    return read_trusted_roots(json.dumps(content).encode(), "acme.json")


def rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


LISTS = [
    ("public", "certificateAuthorities"),
    ("public", "tlogs"),
    ("public", "ctlogs"),
    ("timestamped", "certificateAuthorities"),
    ("timestamped", "tlogs"),
    ("timestamped", "ctlogs"),
    ("timestamped", "timestampAuthorities"),
    ("private", "certificateAuthorities"),
    ("private", "timestampAuthorities"),
]
EARLY = rfc3339(AT - timedelta(days=3650))
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("name", "field"), LISTS)
@pytest.mark.parametrize(
    "window",
    [{"start": EARLY, "end": rfc3339(AT - SECOND)}, {"start": rfc3339(AT + SECOND)}],
    ids=["it had ended", "it had not begun"],
)
def test_a_key_or_authority_outside_its_window_proves_nothing(name: str, field: str, window: dict[str, str]) -> None:
    judgement = judged(instance(name).bundle, root_with(name, field, window))
    assert judgement.verdict in ("INVALID_TIME", "INVALID_CERT"), judgement.reason
    assert not judgement.proven


@pytest.mark.parametrize(("name", "field"), LISTS)
def test_both_ends_of_a_window_are_inside_it(name: str, field: str) -> None:
    window = {"start": rfc3339(AT), "end": rfc3339(AT)}
    assert judged(instance(name).bundle, root_with(name, field, window)).verdict.passed


def test_an_old_authority_stays_good_for_what_it_signed_after_another_took_its_place() -> None:
    content = json.loads(authority().private_trusted_root_json())
    newer = json.loads(TrustRoot.from_seed(8, "Acme").private_trusted_root_json())
    for field in ("certificateAuthorities", "timestampAuthorities"):
        content[field][0]["validFor"] = {"start": EARLY, "end": rfc3339(AT + timedelta(days=1))}
        newer[field][0]["validFor"] = {"start": rfc3339(AT + timedelta(days=1))}
        content[field] = [*newer[field], *content[field]]
    roots = read_trusted_roots(json.dumps(content).encode(), "rotated.json")
    assert judged(instance("private").bundle, roots).verdict == "VERIFIED_PRIVATE"


@needs_manifest
def test_a_real_private_bundle_is_refused_once_githubs_old_window_is_cut_short() -> None:
    content = json.loads(real("trusted_roots/github_private.json").read_text(encoding="utf-8").splitlines()[0])
    bundle = instance("GitHub's private instance").bundle
    (whole,) = read_trusted_roots(json.dumps(content).encode(), "whole")
    assert judged(bundle, (whole,)).verdict == "VERIFIED_PRIVATE"
    for entry in content["timestampAuthorities"]:
        entry["validFor"] = {"start": "2030-01-01T00:00:00Z"}
    assert judged(bundle, read_trusted_roots(json.dumps(content).encode(), "cut")).verdict == "INVALID_TIME"


# Roots


def test_a_bundle_of_another_authority_of_the_same_name_is_refused() -> None:
    other = TrustRoot.from_seed(8, "Acme")
    public, private = other.trusted_root_json(), other.private_trusted_root_json()
    roots = (*read_trusted_roots(public, "other"), *read_trusted_roots(private, "other private"))
    for name in BUNDLE_OPTIONS:
        assert judged(instance(name).bundle, roots).verdict.failed


def test_a_private_bundle_is_never_verified_under_the_public_root_nor_the_reverse() -> None:
    public, private = made_up_roots()
    assert judged(instance("public").bundle, (private,)).verdict == "INVALID_CERT"
    assert judged(instance("private").bundle, (public,)).verdict == "INVALID_CERT"


def test_without_its_log_entry_a_public_bundle_is_not_taken_for_a_private_one() -> None:
    bundle = copy.deepcopy(dict(instance("timestamped").bundle))
    del bundle["verificationMaterial"]["tlogEntries"]
    assert judged(bundle).verdict == "INVALID_LOG"


def test_a_root_for_tests_is_never_accepted_beside_the_real_one() -> None:
    with pytest.raises(TrustedRootError, match="made for tests"):
        judged(signed(), (*made_up_roots(), production_root()))


def test_a_verdict_names_the_root_that_it_rests_on() -> None:
    public, private = made_up_roots()
    first, second = judged(instance("public").bundle), judged(instance("private").bundle)
    assert (first.trusted_root, first.trusted_root_sha256) == ("acme.json", public.sha256)
    assert (second.trusted_root, second.trusted_root_sha256) == ("acme-private.json", private.sha256)
    assert "no public log witnessed it" in second.reason


def test_a_root_may_be_of_the_newer_spelling_or_inside_a_clients_configuration() -> None:
    content = json.loads(authority().trusted_root_json())
    newer = content | {"mediaType": "application/vnd.dev.sigstore.trustedroot.v0.2+json"}
    whole = {"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json", "trustedRoot": content}
    for value in (newer, whole):
        roots = read_trusted_roots(json.dumps(value).encode(), "other.json")
        assert judged(instance("public").bundle, roots).verdict == "VERIFIED"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "mediaType"),
        (b'{"mediaType": "x"}', "mediaType"),
        (b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}', "no certificate authority"),
        (
            b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [{}]}',
            "a field is missing",
        ),
    ],
)
def test_what_is_no_root_is_an_error_that_names_the_file(text: bytes, words: str, tmp_path: Any) -> None:
    path = tmp_path / "root.json"
    path.write_bytes(text)
    with pytest.raises(TrustedRootError) as caught:
        load_trusted_roots(path)
    assert words in caught.value.what
    assert caught.value.where == str(path)


def test_a_judgement_is_kept_by_bytes_roots_and_verifier() -> None:
    raw, roots = json.dumps(signed()).encode(), made_up_roots()
    key = cache_key(raw, roots)
    assert key == cache_key(raw, roots)
    assert len({key, cache_key(raw + b" ", roots), cache_key(raw, roots[:1]), cache_key(raw, roots[::-1])}) == 4
    assert "sigstore-python" in key.verifier


# Claims against the certificate


CLAIMS: dict[str, dict[str, Any]] = {
    "source repository": {"repository": "acme/other"},
    "source repository id": {"repository_id": 4712},
    "source owner id": {"owner_id": 13},
    "source commit": {"sha": "de" * 20},
    "source ref": {"ref": "refs/heads/evil"},
    "trigger": {"trigger": "pull_request_target"},
    "runner": {"runner_environment": "self-hosted"},
    "run": {"run_id": 901},
    "builder": {"workflow_path": ".github/workflows/other.yml"},
}


@pytest.mark.parametrize("options", [{}, {"witnessed": False}], ids=["public", "private"])
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_that_the_certificate_contradicts_is_forged(claim: str, options: dict[str, bool]) -> None:
    said = replace(identity(), **CLAIMS[claim])
    judgement = judged(signed(provenance(said, {"shop.tar": DIGEST}), identity(), **options))
    assert judgement.verdict == "FORGED_CLAIMS", judgement.reason
    assert claim in {one.name for one in judgement.claims if one.agrees is False}
    assert judgement.proven
    # What policies read is the certificate's word.
    facts = attested_facts(judgement)
    assert (facts.commit, facts.source_repository_id) == (identity().sha, "4711")


def test_names_in_another_letter_case_are_no_forgery() -> None:
    said = identity(repository="Acme/SHOP")
    assert judged(signed(provenance(said, {"shop.tar": DIGEST}), identity())).verdict == "VERIFIED"


def test_a_reusable_workflow_signs_for_its_caller() -> None:
    who = identity(signer_workflow="acme/ci/.github/workflows/build.yml@refs/tags/v1", signer_sha="ab" * 20)
    judgement = judged(signed(who=who))
    assert judgement.verdict == "VERIFIED"
    assert judgement.certificate is not None
    assert judgement.certificate.build_signer == "https://github.com/acme/ci/.github/workflows/build.yml@refs/tags/v1"


@needs_manifest
def test_the_real_forged_sample_is_forged_and_names_both_repositories() -> None:
    path = real("invalid/provenance/slsa-verifier/bcr_MODULE-wrong-signer.bazel.intoto.jsonl")
    judgement = judge(path.read_bytes(), (production_root(),))
    assert judgement.verdict == "FORGED_CLAIMS"
    assert judgement.certificate is not None
    assert judgement.certificate.source_repository == "https://github.com/loosebazooka/aa-test"
    named = {(claim.claimed, claim.certified) for claim in judgement.claims if claim.agrees is False}
    assert any("aspect-build/rules_lint" in claimed for claimed, _ in named)


# The issuer by extension .8, the repository by its id


class OddIdentity(WorkflowIdentity):
    """A certificate whose deprecated copy of the issuer (.1) is another than .8, or whose .8 is missing."""

    drops_issuer = False

    def extensions(self) -> dict[int, str]:
        texts = super().extensions() | {1: "https://issuer.example"}
        return {number: text for number, text in texts.items() if number != 8 or not self.drops_issuer}


class OldIdentity(OddIdentity):
    drops_issuer = True


def odd(kind: type[OddIdentity]) -> OddIdentity:
    return kind(repository="acme/shop", repository_id=4711, owner_id=12, sha="c0" * 20, run_id=900)


def issuer_check(judgement: Judgement) -> str:
    policy = load_policies(None).of("acme/shop", "shop")
    deployment = DeploymentFacts(
        service="shop",
        repository="acme/shop",
        repository_id="4711",
        sha="c0" * 20,
        digest=DIGEST,
        finished_at=datetime(2024, 5, 1, 13),
        has_sbom=True,
    )
    (check,) = [one for one in evaluate(attested_facts(judgement), deployment, policy) if one.name == "issuer"]
    return check.outcome


def test_the_issuer_is_that_of_extension_8() -> None:
    judgement = judged(signed(who=odd(OddIdentity)))
    assert judgement.certificate is not None
    assert judgement.certificate.issuer == "https://token.actions.githubusercontent.com"
    assert judgement.certificate.issuer_v1 == "https://issuer.example"
    assert issuer_check(judgement) == "passed"
    raw = json.dumps(signed(who=odd(OddIdentity))).encode()
    (asked,) = judge_all(raw, made_up_roots(), identity=Identity(issuer="https://issuer.example"))
    assert asked.verdict == "UNTRUSTED_ISSUER"


def test_a_certificate_with_the_deprecated_issuer_alone_has_none() -> None:
    judgement = judged(signed(who=odd(OldIdentity)))
    assert judgement.certificate is not None
    assert judgement.certificate.issuer is None
    assert issuer_check(judgement) == "failed"


@pytest.mark.parametrize(
    ("signer", "verdict"),
    [
        ("https://github.com/ACME/Shop/.github/workflows/release.yml@refs/heads/main", "VERIFIED"),
        ("https://github.com/acme/shop/.github/workflows/release.yml", "VERIFIED"),
        ("https://github.com/acme/shop/.github/workflows/Release.yml@refs/heads/main", "UNTRUSTED_SIGNER"),
        ("https://github.com/acme/shop/.github/workflows/release.yml@refs/heads/other", "UNTRUSTED_SIGNER"),
        ("https://github.com/acme/shop2/.github/workflows/release.yml@refs/heads/main", "UNTRUSTED_SIGNER"),
    ],
)
def test_an_expected_signer_ignores_letter_case_in_names_alone(signer: str, verdict: str) -> None:
    raw = json.dumps(signed()).encode()
    (asked,) = judge_all(raw, made_up_roots(), identity=Identity(signer=signer))
    assert asked.verdict == verdict


# The signed note around a log's root hash

NOTE = "log.test - 17\n5\ncm9vdA==\n\n\N{EM DASH} log.test AAAAAAAA\n"


def test_a_checkpoint_is_of_the_proofs_tree_and_signed_by_its_log() -> None:
    _check_checkpoint(NOTE, 5)


@pytest.mark.parametrize(
    ("note", "size", "words"),
    [
        (NOTE, 6, "another size"),
        (NOTE.replace("\n5\n", "\n05\n"), 5, "another size"),
        (NOTE.replace("\N{EM DASH} log", "\N{EM DASH} other"), 5, "not signed under the log's name"),
        (NOTE.replace("AAAAAAAA", "AAAAAAA"), 5, "base64"),
        (NOTE + "more\n", 5, "not a signed note's"),
        (NOTE.replace("\N{EM DASH}", "-"), 5, "not a signed note's"),
        (NOTE + "\N{EM DASH} log.test AAAAAAAA\n" * 64, 5, "not a signed note's"),
        ("", 5, "another size"),
    ],
)
def test_a_checkpoint_that_says_anything_else_is_refused(note: str, size: int, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        _check_checkpoint(note, size)
    assert caught.value.verdict == "INVALID_LOG"
