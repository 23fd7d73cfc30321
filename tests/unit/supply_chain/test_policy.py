"""Every check of an attestation, the verdict that its failure makes, and how a policy file changes it."""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from analytics.errors import SettingsError
from analytics.supply_chain.policy import (
    VERDICT_ORDER,
    Claims,
    choose,
    evaluate_absent,
    kind_of,
    slsa_level,
    verdict_of,
)
from analytics.supply_chain.rules import RULE_SEVERITIES, load_policies
from tests.unit.supply_chain.judging_world import (
    COMMIT,
    DEPLOYMENT,
    DIGEST,
    FACTS,
    REPOSITORY_URI,
    WORKFLOW_URI,
    default_policy,
    failures,
    judged,
    named,
    policies,
)

OTHER = "https://github.com/mallory/shop"


def test_an_attestation_that_fits_passes_every_check_by_default() -> None:
    checks = judged()
    assert failures(checks) == []
    assert verdict_of(checks) == "VERIFIED"
    assert {check.outcome for check in checks} == {"passed"}
    assert len(checks) == 19


def test_every_rule_of_an_evaluation_has_a_severity() -> None:
    for check in (*judged(), *evaluate_absent(DEPLOYMENT, default_policy())):
        assert check.severity == RULE_SEVERITIES[check.name]


# Cryptography


@pytest.mark.parametrize(
    ("verdict", "check"),
    [
        ("INVALID_SIGNATURE", "signature"),
        ("INVALID_LOG", "log"),
        ("INVALID_TIME", "log"),
        ("INVALID_CERT", "certificate"),
        ("UNSUPPORTED_LOG_ENTRY", "readable"),
        ("UNSUPPORTED_MANAGED_KEY", "readable"),
        ("UNSUPPORTED_NOT_A_BUNDLE", "readable"),
        ("UNSUPPORTED_NO_PROOF", "readable"),
        ("ERROR_FETCH", "readable"),
    ],
)
def test_a_cryptographic_verdict_fails_its_check_and_stays_the_verdict(verdict: str, check: str) -> None:
    checks = judged(verdict=verdict)
    assert failures(checks) == [(check, verdict)]
    assert verdict_of(checks) == verdict


def test_nothing_signed_is_judged_when_the_signature_does_not_hold() -> None:
    checks = judged(verdict="INVALID_SIGNATURE", source_repository_uri=OTHER, trigger="pull_request_target")
    assert verdict_of(checks) == "INVALID_SIGNATURE"
    assert named(checks, "source_repository").outcome == "not_applicable"
    assert named(checks, "trigger").note == "what was signed is not authentic"


def test_a_verdict_nobody_knows_is_never_a_pass() -> None:
    checks = judged(verdict="VERIFIED_SOMEHOW")
    assert verdict_of(checks) == "VERIFIED_SOMEHOW"
    assert failures(checks) == [("readable", "VERIFIED_SOMEHOW")]


def test_a_private_attestation_says_that_no_public_log_witnessed_it() -> None:
    checks = judged(verdict="VERIFIED_PRIVATE")
    assert verdict_of(checks) == "VERIFIED_PRIVATE"
    assert named(checks, "log").note == "no public log witnessed it"


def test_no_checks_are_no_verification() -> None:
    assert verdict_of([]) == "NO_ATTESTATION"


# One change each


@pytest.mark.parametrize(
    ("changed", "name", "verdict"),
    [
        ({"subject_digests": frozenset({"sha256:" + "00" * 32})}, "subject", "INVALID_SUBJECT"),
        ({"subject_digests": frozenset()}, "subject", "INVALID_SUBJECT"),
        ({"verdict": "INVALID_SUBJECT"}, "subject", "INVALID_SUBJECT"),
        ({"statement_type": "https://in-toto.io/Link/v1"}, "statement_type", "INVALID_SUBJECT"),
        ({"predicate_type": "https://example.com/notes/v1"}, "predicate_type", "NO_ATTESTATION"),
        ({"issuer": "https://accounts.google.com"}, "issuer", "UNTRUSTED_ISSUER"),
        ({"issuer": None}, "issuer", "UNTRUSTED_ISSUER"),
        ({"ref": "refs/pull/7/merge"}, "ref", "UNTRUSTED_REF"),
        ({"ref": None}, "ref", "UNTRUSTED_REF"),
        ({"commit": "d1" * 20}, "source_commit", "COMMIT_MISMATCH"),
        ({"commit": None}, "source_commit", "COMMIT_MISMATCH"),
        ({"trigger": "pull_request_target"}, "trigger", "UNTRUSTED_TRIGGER"),
        ({"trigger": None}, "trigger", "UNTRUSTED_TRIGGER"),
        ({"runner_environment": "self-hosted"}, "runner", "UNTRUSTED_RUNNER"),
        ({"runner_environment": None}, "runner", "UNTRUSTED_RUNNER"),
        ({"run_invocation_uri": f"{REPOSITORY_URI}/actions/runs/901/attempts/1"}, "run", "RUN_UNKNOWN"),
        ({"run_invocation_uri": f"{OTHER}/actions/runs/900/attempts/1"}, "run", "RUN_UNKNOWN"),
        ({"run_invocation_uri": f"{REPOSITORY_URI}/somewhere"}, "run", "RUN_UNKNOWN"),
        (
            {"verified_at": datetime(2024, 5, 1, 13, 0, 1, tzinfo=UTC)},
            "attested_before_deployed",
            "ATTESTED_AFTER_DEPLOY",
        ),
        ({"verdict": "FORGED_CLAIMS"}, "claims", "FORGED_CLAIMS"),
    ],
)
def test_one_wrong_fact_fails_one_check(changed: dict[str, Any], name: str, verdict: str) -> None:
    checks = judged(**({"claims": Claims()} | changed))
    assert failures(checks) == [(name, verdict)]
    assert verdict_of(checks) == verdict
    assert named(checks, name).expected


def test_a_workflow_of_another_repository_may_not_sign() -> None:
    signer = "https://github.com/mallory/ci/.github/workflows/build.yml@refs/heads/main"
    checks = judged(signer_uri=signer, builder_id=None, claims=Claims())
    assert failures(checks) == [("signer", "UNTRUSTED_SIGNER")]
    assert named(checks, "signer").found == signer


def test_an_unknown_builder_is_not_trusted() -> None:
    checks = judged(builder_id="https://builds.example.com/robot", claims=Claims())
    assert failures(checks) == [("builder", "UNTRUSTED_BUILDER")]


def test_a_builder_below_the_level_asked_for_is_not_trusted(tmp_path: Path) -> None:
    policy = policies(tmp_path, "defaults:\n  minimum_slsa_level: 3\n").of("acme/shop")
    check = named(judged(policy=policy), "builder")
    assert (check.verdict, check.policy_line) == ("UNTRUSTED_BUILDER", 2)
    assert check.found == f"{WORKFLOW_URI}, SLSA Build L2"


def test_the_builder_gives_the_slsa_level_on_an_accepted_runner() -> None:
    generator = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows"
    tagged = replace(FACTS, builder_id=f"{generator}/generator_generic_slsa3.yml@refs/tags/v2.1.0")
    policy = default_policy()
    assert slsa_level(FACTS, policy) == 2
    assert slsa_level(tagged, policy) == 3
    assert (
        slsa_level(replace(tagged, builder_id=f"{generator}/generator_generic_slsa3.yml@refs/heads/main"), policy) == 2
    )
    assert slsa_level(replace(tagged, runner_environment="self-hosted"), policy) == 1
    assert slsa_level(replace(FACTS, builder_id="https://builds.example.com/robot"), policy) is None


# Source repository: ids before names


def test_another_repository_is_not_the_source() -> None:
    checks = judged(
        source_repository_uri=OTHER,
        source_repository_id=None,
        run_invocation_uri=f"{OTHER}/actions/runs/900",
        claims=Claims(),
    )
    assert failures(checks) == [("source_repository", "UNTRUSTED_SOURCE")]


def test_names_of_github_ignore_letter_case() -> None:
    deployment = replace(DEPLOYMENT, repository="Acme/Shop", repository_id=None)
    checks = judged(
        deployment=deployment,
        source_repository_uri="https://github.com/ACME/shop",
        signer_uri=WORKFLOW_URI.replace("acme", "aCme"),
    )
    assert failures(checks) == []


def test_the_path_of_a_workflow_minds_letter_case(tmp_path: Path) -> None:
    policy = policies(tmp_path, f"defaults:\n  signers: ['{WORKFLOW_URI}']\n").of("acme/shop")
    assert failures(judged(policy=policy)) == []
    shouted = WORKFLOW_URI.replace("release.yml", "Release.yml")
    assert failures(judged(policy=policy, signer_uri=shouted, builder_id=WORKFLOW_URI)) == [
        ("signer", "UNTRUSTED_SIGNER")
    ]


def test_a_renamed_repository_is_known_by_its_id() -> None:
    checks = judged(deployment=replace(DEPLOYMENT, repository="acme/store"))
    assert failures(checks) == []
    assert named(checks, "source_repository").note == "the same repository by its id, under another name"


def test_a_repository_that_took_over_the_name_is_not_the_source() -> None:
    checks = judged(source_repository_id="9999", claims=Claims())
    assert failures(checks) == [("source_repository", "UNTRUSTED_SOURCE")]
    assert named(checks, "source_repository").found == f"{REPOSITORY_URI} (id 9999)"


def test_the_same_id_on_another_host_is_another_repository() -> None:
    checks = judged(source_repository_uri="https://gitlab.com/acme/shop", claims=Claims())
    assert ("source_repository", "UNTRUSTED_SOURCE") in failures(checks)


def test_a_policy_may_name_source_ids_and_owners(tmp_path: Path) -> None:
    ids = policies(tmp_path, "defaults: {source_repository_ids: [5000]}\n").of("acme/shop")
    moved: dict[str, Any] = {
        "source_repository_uri": "https://github.com/elsewhere/built",
        "source_repository_id": "5000",
        "run_invocation_uri": None,
        "claims": Claims(),
    }
    assert failures(judged(policy=ids, **moved)) == []
    assert failures(judged(policy=ids)) == [("source_repository", "UNTRUSTED_SOURCE")]
    owners = policies(tmp_path, "defaults: {source_owner_ids: [99]}\n").of("acme/shop")
    assert failures(judged(policy=owners)) == [("source_repository", "UNTRUSTED_SOURCE")]


def test_a_repository_named_like_a_glob_trusts_nobody() -> None:
    checks = judged(deployment=replace(DEPLOYMENT, repository="*/*", repository_id=None))
    assert ("source_repository", "UNTRUSTED_SOURCE") in failures(checks)
    assert ("signer", "UNTRUSTED_SIGNER") in failures(checks)


# Claims


@pytest.mark.parametrize(
    "claims",
    [
        Claims(source_repository_uri=OTHER),
        Claims(source_repository_id="1"),
        Claims(commit="d1" * 20),
        Claims(ref="refs/tags/v1"),
        Claims(build_config_uri=f"{OTHER}/.github/workflows/release.yml@refs/heads/main"),
        Claims(builder_id=f"{OTHER}/.github/workflows/release.yml@refs/heads/main"),
        Claims(trigger="release"),
        Claims(runner_environment="self-hosted"),
        Claims(run_invocation_uri=f"{REPOSITORY_URI}/actions/runs/1/attempts/1"),
    ],
)
def test_a_claim_that_the_certificate_contradicts_is_forged(claims: Claims) -> None:
    checks = judged(claims=claims)
    assert failures(checks) == [("claims", "FORGED_CLAIMS")]
    assert verdict_of(checks) == "FORGED_CLAIMS"


def test_a_copied_provenance_is_forged_before_it_is_untrusted() -> None:
    checks = judged(source_repository_uri=OTHER, source_repository_id="1", signer_uri=f"{OTHER}/x.yml@refs/heads/main")
    assert {verdict for _, verdict in failures(checks)} >= {"FORGED_CLAIMS", "UNTRUSTED_SOURCE", "UNTRUSTED_SIGNER"}
    assert verdict_of(checks) == "FORGED_CLAIMS"
    assert f"source repository {REPOSITORY_URI}" in (named(checks, "claims").found or "")


def test_githubs_older_builder_id_names_the_runner() -> None:
    assert failures(judged(claims=Claims(builder_id="https://github.com/actions/runner/github-hosted"))) == []


def test_a_claim_about_what_the_certificate_does_not_say_is_not_forged() -> None:
    checks = judged(source_repository_id=None, claims=Claims(source_repository_id="4711", commit=COMMIT))
    assert failures(checks) == []


def test_claims_that_say_nothing_are_not_judged() -> None:
    assert named(judged(claims=Claims()), "claims").outcome == "not_applicable"


# What is not known fails nothing


@pytest.mark.parametrize(
    ("unknown", "name"),
    [
        ({"digest": None}, "subject"),
        ({"sha": None}, "source_commit"),
        ({"finished_at": None}, "attested_before_deployed"),
        ({"knows_run": None}, "run"),
        ({"has_sbom": None}, "sbom"),
    ],
)
def test_a_deployment_that_does_not_say_is_not_judged_by_it(unknown: dict[str, Any], name: str) -> None:
    checks = judged(deployment=replace(DEPLOYMENT, **unknown))
    assert named(checks, name).outcome == "not_applicable"
    assert verdict_of(checks) == "VERIFIED"


def test_the_run_that_deployed_is_known_without_a_list() -> None:
    checks = judged(deployment=replace(DEPLOYMENT, knows_run=None, run_id="900"))
    assert named(checks, "run").outcome == "passed"


def test_an_attestation_at_the_second_of_the_deployment_is_in_time() -> None:
    checks = judged(verified_at=datetime(2024, 5, 1, 13, 0, tzinfo=UTC))
    assert named(checks, "attested_before_deployed").outcome == "passed"


def test_a_deployments_naive_time_is_utc_wherever_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert named(judged(), "attested_before_deployed").outcome == "passed"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_digests_and_commits_ignore_letter_case() -> None:
    assert failures(judged(subject_digests=frozenset({DIGEST.upper()}), commit=COMMIT.upper(), claims=Claims())) == []
    assert failures(judged(deployment=replace(DEPLOYMENT, digest=DIGEST.upper()))) == []


def test_a_start_by_hand_passes_and_is_mentioned() -> None:
    check = named(judged(trigger="workflow_dispatch", claims=Claims()), "trigger")
    assert (check.outcome, check.note) == ("passed", "started by workflow_dispatch")


# SBOMs and missing attestations


def test_a_missing_sbom_is_a_finding_and_leaves_the_verdict(tmp_path: Path) -> None:
    policy = policies(tmp_path, "defaults:\n  required: [attestation, sbom]\n").of("acme/shop")
    without = replace(DEPLOYMENT, has_sbom=False)
    checks = judged(policy=policy, deployment=without)
    assert failures(checks) == [("sbom", None)]
    assert verdict_of(checks) == "VERIFIED"
    assert named(checks, "sbom").policy_line == 2
    assert named(judged(deployment=without), "sbom").outcome == "not_applicable"


def test_a_deployment_without_attestation_fails_where_one_is_required(tmp_path: Path) -> None:
    assert failures(evaluate_absent(DEPLOYMENT, default_policy())) == [("attestation", "NO_ATTESTATION")]
    lenient = policies(tmp_path, "defaults: {required: []}\n").of("acme/shop")
    checks = evaluate_absent(DEPLOYMENT, lenient)
    assert failures(checks) == []
    assert verdict_of(checks) == "NO_ATTESTATION"


def test_an_attestation_of_another_kind_is_no_provenance_and_not_judged_as_one() -> None:
    kind = "https://in-toto.io/attestation/release/v0.2"
    release = judged(predicate_type=kind, trigger="pull_request_target", claims=Claims())
    assert failures(release) == [("predicate_type", "NO_ATTESTATION")]
    assert named(release, "trigger").outcome == "not_applicable"
    forged = judged(predicate_type=kind, verdict="FORGED_CLAIMS")
    assert verdict_of(forged) == "FORGED_CLAIMS"


def test_an_attested_sbom_is_judged_as_one() -> None:
    assert kind_of("https://slsa.dev/provenance/v1", default_policy()) == "provenance"
    assert kind_of("https://cyclonedx.org/bom/v1.5", default_policy()) == "sbom"
    assert kind_of("https://spdx.dev/Document/v2.3", default_policy()) == "sbom"
    assert kind_of("https://example.com/notes", default_policy()) == "other"
    assert kind_of(None, default_policy()) == "other"
    kind: dict[str, Any] = {"predicate_type": "https://cyclonedx.org/bom", "claims": Claims()}
    assert failures(judged(kind="sbom", **kind)) == []
    assert failures(judged(kind="sbom", **(kind | {"ref": "refs/pull/7/merge"}))) == [("ref", "UNTRUSTED_REF")]


# The verdict of a deployment


def test_a_failing_attestation_does_not_hide_a_passing_one_nor_is_it_hidden() -> None:
    good, bad = judged(), judged(ref="refs/pull/7/merge", claims=Claims())
    for attestations in ([good, bad], [bad, good]):
        judgement = choose(attestations)
        assert judgement.verdict == "VERIFIED"
        assert judgement.decided_by == attestations.index(good)
        assert [(index, check.verdict) for index, check in judgement.failures] == [
            (attestations.index(bad), "UNTRUSTED_REF")
        ]
        assert sorted(judgement.verdicts) == ["UNTRUSTED_REF", "VERIFIED"]


def test_the_gravest_verdict_decides_where_none_passes() -> None:
    judgement = choose([judged(verdict="UNSUPPORTED_LOG_ENTRY"), judged(verdict="INVALID_SIGNATURE")])
    assert (judgement.verdict, judgement.decided_by) == ("INVALID_SIGNATURE", 1)
    assert len(judgement.failures) == 2


def test_a_witnessed_attestation_comes_before_a_private_one() -> None:
    judgement = choose([judged(verdict="VERIFIED_PRIVATE"), judged()])
    assert (judgement.verdict, judgement.decided_by) == ("VERIFIED", 1)


def test_the_same_failure_of_two_attestations_is_two_and_a_missing_sbom_one(tmp_path: Path) -> None:
    policy = policies(tmp_path, "defaults: {required: [sbom]}\n").of("acme/shop")
    checks = judged(policy=policy, deployment=replace(DEPLOYMENT, has_sbom=False), runner_environment="self-hosted")
    found = [(index, check.name) for index, check in choose([checks, checks]).failures if check.name != "claims"]
    assert found == [(0, "runner"), (None, "sbom"), (1, "runner")]


def test_no_attestation_is_a_verdict() -> None:
    assert choose([]).verdict == "NO_ATTESTATION"


def test_the_order_of_verdicts_is_that_of_a_reader() -> None:
    assert len(set(VERDICT_ORDER)) == len(VERDICT_ORDER)
    assert VERDICT_ORDER[0] == "FORGED_CLAIMS"
    assert VERDICT_ORDER[-3:] == ("NO_ATTESTATION", "VERIFIED_PRIVATE", "VERIFIED")


# The file


def test_a_changed_policy_judges_the_same_facts_otherwise(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"runner_environment": "self-hosted", "claims": Claims()}
    before = policies(tmp_path, "version: 1\n")
    after = policies(tmp_path, "version: 1\ndefaults:\n  runner_environments: [github-hosted, self-hosted]\n")
    assert verdict_of(judged(policy=before.of("acme/shop"), **facts)) == "UNTRUSTED_RUNNER"
    checks = judged(policy=after.of("acme/shop"), **facts)
    assert verdict_of(checks) == "VERIFIED"
    assert named(checks, "runner").policy_line == 3
    assert before.sha256 != after.sha256


def test_the_version_of_a_policy_is_the_digest_of_its_file(tmp_path: Path) -> None:
    text = "version: 1\n# a comment counts too\n"
    assert policies(tmp_path, text).sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert policies(tmp_path, text).of("acme/shop").sha256 == policies(tmp_path, text).sha256
    assert len(load_policies(None).sha256) == 64


def test_later_entries_replace_what_earlier_ones_state_and_nothing_else(tmp_path: Path) -> None:
    file = policies(
        tmp_path,
        """\
version: 1
defaults:
  refs: ["refs/heads/main"]
  severities: {ref: low, runner: low}
policies:
  - repositories: ["acme/*"]
    refs: ["refs/heads/main", "refs/tags/**"]
    severities:
      runner: critical
  - services: [shop]
    triggers:
      deny: [pull_request_target, push]
""",
    )
    shop = file.of("Acme/shop", "shop")
    assert shop.rules.refs == ["refs/heads/main", "refs/tags/**"]
    assert (shop.severity("ref"), shop.severity("runner"), shop.severity("claims")) == ("low", "critical", "critical")
    check = named(judged(policy=shop), "trigger")
    assert (check.outcome, check.policy_line) == ("failed", 12)
    assert named(judged(policy=shop), "ref").policy_line == 7
    assert named(judged(policy=shop), "issuer").policy_line is None
    assert file.of("acme/shop", "cart").rules.triggers.deny == ["pull_request_target"]
    assert file.of("other/shop").rules.refs == ["refs/heads/main"]


def test_a_line_that_another_entry_replaced_is_not_the_reason(tmp_path: Path) -> None:
    file = policies(
        tmp_path,
        """\
defaults:
  triggers:
    deny: [push]
policies:
  - services: [shop]
    triggers:
      report: [push]
""",
    )
    assert named(judged(policy=file.of("acme/shop", "cart")), "trigger").policy_line == 3
    check = named(judged(policy=file.of("acme/shop", "shop")), "trigger")
    assert (check.outcome, check.note, check.policy_line) == ("passed", "started by push", 6)


def test_triggers_may_be_a_closed_list(tmp_path: Path) -> None:
    policy = policies(tmp_path, "defaults: {triggers: {allow: [release]}}\n").of("acme/shop")
    assert failures(judged(policy=policy)) == [("trigger", "UNTRUSTED_TRIGGER")]
    assert failures(judged(policy=policy, trigger="release", claims=Claims())) == []


def test_reusable_workflows_are_trusted_by_a_glob(tmp_path: Path) -> None:
    glob = "https://github.com/Acme/ci/.github/workflows/*@refs/tags/*"
    policy = policies(tmp_path, f"defaults:\n  signers: ['{glob}']\n").of("acme/shop")
    ours = "https://github.com/acme/ci/.github/workflows/build.yml@refs/tags/v1"
    assert failures(judged(policy=policy, signer_uri=ours, claims=Claims())) == []
    branch = ours.replace("refs/tags/v1", "refs/heads/mine")
    check = named(judged(policy=policy, signer_uri=branch, claims=Claims()), "signer")
    assert (check.verdict, check.policy_line, check.expected) == ("UNTRUSTED_SIGNER", 2, glob)


def test_an_empty_file_states_nothing(tmp_path: Path) -> None:
    assert policies(tmp_path, "# nothing yet\n").of("acme/shop").rules == default_policy().rules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2\n", ["policies.yaml:1", "version"]),
        ("policys: []\n", ["policies.yaml:1", "'policys'", "Did you mean 'policies'?"]),
        ("defaults:\n  isuers: []\n", ["policies.yaml:2", "Did you mean 'issuers'?"]),
        ("defaults:\n  triggers:\n    denny: []\n", ["policies.yaml:3", "Did you mean 'deny'?"]),
        ("defaults:\n  severities:\n    runer: low\n", ["policies.yaml:3", "'runer'", "Did you mean 'runner'?"]),
        ("defaults:\n  severities:\n    runner: bad\n", ["policies.yaml:3", "'critical'"]),
        ("policies:\n  - refs: ['refs/heads/main']\n", ["policies.yaml:2", "give repositories, or services"]),
        ("defaults:\n  refs: [main]\n", ["policies.yaml:2", "write refs/heads/main"]),
        ("defaults:\n  signers: ['acme/ci/build.yml']\n", ["policies.yaml:2", "starts with https://"]),
        ("defaults:\n  signers: ['https://github.com/acme/ci/b.yml']\n", ["policies.yaml:2", "names no ref"]),
        ("defaults:\n  builders: [{id: 'https://x', level: 4}]\n", ["policies.yaml:2", "level"]),
        ("defaults:\n  required: [vsa]\n", ["policies.yaml:2", "'attestation', 'sbom'"]),
        ("policies:\n  - services: [shop]\n    since: soon\n", ["policies.yaml:3", "since"]),
        ("defaults:\n  since: 2026-04-01\n", ["policies.yaml:2", "unknown key 'since'"]),
        ("defaults:\n  licenses:\n    alow: []\n", ["policies.yaml:3", "Did you mean 'allow'?"]),
        ("- a\n", ["policies.yaml:1", "expected a mapping"]),
        ("version: 1\n---\nversion: 1\n", ["holds 2 YAML documents"]),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        policies(tmp_path, text)
    for part in said:
        assert part in str(caught.value)


def test_an_entry_with_a_beginning_says_nothing_of_earlier_days(tmp_path: Path) -> None:
    file = policies(
        tmp_path,
        "defaults: {required: []}\n"
        "policies:\n"
        "  - {services: [shop], since: 2026-04-01, required: [attestation]}\n"
        "  - {services: [shop], since: 2026-07-01, required: [attestation, sbom]}\n",
    )

    def required(day: date | None) -> list[str]:
        return list(file.of("acme/shop", "shop", day).rules.required)

    assert required(date(2026, 3, 31)) == []
    assert required(date(2026, 4, 1)) == required(date(2026, 6, 30)) == ["attestation"]
    assert required(date(2026, 7, 1)) == required(None) == ["attestation", "sbom"]
    days = (date(2020, 1, 1), date(2026, 3, 31), date(2026, 4, 1), date(2026, 6, 30), date(2026, 7, 1), None)
    assert [file.period(day) for day in days] == [0, 0, 1, 1, 2, 2]


def test_a_policy_file_knows_what_it_requires_of_anything(tmp_path: Path) -> None:
    file = policies(tmp_path, "policies:\n  - {services: [till], required: [approval]}\n")
    assert file.require("review", "approval")
    assert not file.require("review", "change_ticket")


def test_licences_and_vulnerabilities_are_read(tmp_path: Path) -> None:
    file = policies(
        tmp_path,
        "defaults:\n  licenses: {deny: [AGPL-3.0-only], allow: [MIT]}\n  vulnerabilities: {threshold: critical}\n",
    )
    rules = file.of("acme/shop").rules
    assert (rules.licenses.deny, rules.licenses.allow, rules.licenses.review) == (["AGPL-3.0-only"], ["MIT"], [])
    assert (rules.vulnerabilities.threshold, rules.vulnerabilities.known_exploited) == ("critical", True)
