"""The stage verify over a small organisation in which each service has one thing wrong, or nothing."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import jsonschema_rs
import pytest
from click.testing import CliRunner

from analytics.supply_chain import side_by_side
from analytics.supply_chain.policy import NOT_ASKED
from quarterdeck.cli import main
from tests.pipeline.conftest import World, digest_of, sha_of
from tests.pipeline.shipping import POLICIES, Shipping

SARIF_SCHEMA = (
    Path(__file__).resolve().parents[1] / "fakes/node_modules/@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json"
)


def flipped(bundle: dict[str, Any]) -> dict[str, Any]:
    """A bundle whose signature is another."""
    signature = bytearray(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    signature[-1] ^= 1
    changed: dict[str, Any] = json.loads(json.dumps(bundle))
    changed["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return changed


# Case: what is wrong with it, and the rules and verdicts that have to be found.
CASES: dict[str, set[tuple[str, str | None]]] = {
    "good": set(),
    "private": set(),
    "letter-case": set(),
    "none": {("attestation", "NO_ATTESTATION")},
    "forged": {("claims", "FORGED_CLAIMS"), ("source_repository", "UNTRUSTED_SOURCE"), ("signer", "UNTRUSTED_SIGNER")},
    "wrong-commit": {("source_commit", "COMMIT_MISMATCH")},
    "self-hosted": {("runner", "UNTRUSTED_RUNNER")},
    "outsiders": {("trigger", "UNTRUSTED_TRIGGER")},
    "late": {("attested_before_deployed", "ATTESTED_AFTER_DEPLOY")},
    "unknown-run": {("run", "RUN_UNKNOWN")},
    "tampered": {("signature", "INVALID_SIGNATURE")},
    "other-artifact": {("subject", "INVALID_SUBJECT")},
    "other-signer": {("signer", "UNTRUSTED_SIGNER")},
    "other-ref": {("ref", "UNTRUSTED_REF")},
    "other-issuer": {("issuer", "UNTRUSTED_ISSUER")},
    "other-id": {("source_repository", "UNTRUSTED_SOURCE")},
    "no-bundle": {("readable", "UNSUPPORTED_NOT_A_BUNDLE")},
    "two": {("signature", "INVALID_SIGNATURE")},
}
VERDICTS = {
    "good": "VERIFIED",
    "private": "VERIFIED_PRIVATE",
    "letter-case": "VERIFIED",
    "none": "NO_ATTESTATION",
    "forged": "FORGED_CLAIMS",
    "no-bundle": "UNSUPPORTED_NOT_A_BUNDLE",
    # One that fails beside one that passes hides it not, and is a finding all the same.
    "two": "VERIFIED",
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipping:
    world = World(tmp_path_factory.mktemp("verify") / "world")
    shipping = Shipping(world)
    for case in CASES:
        digest = shipping.deployed(case)
        match case:
            case "none":
                continue
            case "private":
                bundle = shipping.bundle(case, witnessed=False)
            case "letter-case":
                bundle = shipping.bundle(case, repository="Acme/Letter-Case")
            case "forged":
                attacker = {"repository": "mallory/shop", "repository_id": 666, "owner_id": 66}
                bundle = shipping.bundle(case, says=shipping.identity(case), **attacker)
            case "wrong-commit":
                bundle = shipping.bundle(case, sha="de" * 20)
            case "self-hosted":
                bundle = shipping.bundle(case, runner_environment="self-hosted")
            case "outsiders":
                bundle = shipping.bundle(case, trigger="pull_request_target")
            case "late":
                bundle = shipping.bundle(case, 11)
            case "unknown-run":
                bundle = shipping.bundle(case, run_id=666)
            case "tampered":
                bundle = flipped(shipping.bundle(case))
            case "other-artifact":
                bundle = shipping.bundle(case, subject=digest_of("something else"))
            case "other-signer":
                bundle = shipping.bundle(case, workflow_path=".github/workflows/test.yml")
            case "other-ref":
                bundle = shipping.bundle(case, ref="refs/pull/1/merge")
            case "other-issuer":
                bundle = shipping.bundle(case, issuer="https://issuer.example")
            case "no-bundle":
                bundle = {"payloadType": "x", "payload": "", "signatures": []}
            case "two":
                shipping.hand_in(flipped(shipping.bundle(case)), digest)
                bundle = shipping.bundle(case, 9.5)
            case _:
                bundle = shipping.bundle(case)
        shipping.hand_in(bundle, digest)
    shipping.write(
        "policies.yaml",
        (world.path / "policies.yaml").read_text() + "policies:\n"
        "  - repositories: [acme/other-id]\n"
        "    source_repository_ids: [99]\n",
    )
    shipping.build()
    shipping.verify()
    return shipping


@pytest.mark.parametrize("case", CASES)
def test_what_was_planted_is_found_and_nothing_else(case: str, shipped: Shipping) -> None:
    found = {(one["rule"], one["verdict"]) for one in shipped.findings() if one["service"] == case}
    assert found == CASES[case]


def of(shipping: Shipping, case: str) -> dict[str, Any]:
    """The one finding of a case."""
    (one,) = [one for one in shipping.findings() if one["service"] == case]
    return one


def of_rule(shipping: Shipping, rule: str) -> dict[str, Any]:
    """The one finding of a rule."""
    (one,) = [one for one in shipping.findings() if one["rule"] == rule]
    return one


def statements(shipping: Shipping, *words: str) -> dict[str, dict[str, Any]]:
    """The verification summaries by service."""
    lines = shipping.world.command("findings", "--format", "vsa", *words).splitlines()
    found = [json.loads(line) for line in lines]
    return {one["predicate"]["urn:quarterdeck:deployment"]["service"]: one for one in found}


def test_each_deployment_has_the_verdict_of_its_best_attestation(shipped: Shipping) -> None:
    folder = shipped.world.path / "data/lake/deployment_provenance/*/*.parquet"
    with duckdb.connect() as con:
        rows = con.execute(f"SELECT service, verdict, join_kind, signed, slsa_level FROM '{folder}'").fetchall()
    verdicts = {service: verdict for service, verdict, *_ in rows}
    expected = {case: next((verdict for _, verdict in found if verdict), None) for case, found in CASES.items()}
    assert verdicts == expected | VERDICTS
    assert {join for _, _, join, *_ in rows} == {"payload"}
    assert {service for service, *_, level in rows if level} >= {"good", "private", "two"}


def test_a_finding_has_its_evidence(shipped: Shipping) -> None:
    one = of(shipped, "wrong-commit")
    assert (one["state"], one["severity"], one["join"]) == ("open", "high", "payload")
    assert (one["expected"], one["found"]) == (sha_of("wrong-commit-d1"), "de" * 20)
    assert one["digest"] == digest_of("wrong-commit-d1")
    assert one["deployment_id"] == "wrong-commit-d1"
    assert re.fullmatch("[0-9a-f]{64}", one["bundle_sha256"])
    assert one["trusted_root"] == "root.json"
    assert one["verified_at"] == "2026-01-05T09:00:00Z"
    assert one["owner"] == "payments"
    assert one["remediation"]
    assert of(shipped, "self-hosted")["policy"] == "policies.yaml"


def test_a_quarter_holds_what_was_deployed_in_it(shipped: Shipping) -> None:
    assert len(shipped.findings("--quarter", "2026-Q1")) == len(shipped.findings())
    assert shipped.findings("--quarter", "2025-Q4") == []
    assert statements(shipped, "--quarter", "2025-Q4") == {}


# Exports


def sarif_schema() -> jsonschema_rs.Draft4Validator:
    """The schema, with its one pattern mended that is no regular expression (of a field that we do not write)."""
    text = SARIF_SCHEMA.read_text(encoding="utf-8").replace("|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$", "(-[a-zA-Z]{2})?$")
    return jsonschema_rs.Draft4Validator(json.loads(text), validate_formats=True)


def test_sarif_keeps_to_its_schema_and_holds_every_finding(shipped: Shipping) -> None:
    log = json.loads(shipped.world.command("findings", "--format", "sarif"))
    assert [f"{error.instance_path}: {error.message}" for error in sarif_schema().iter_errors(log)] == []
    (run,) = log["runs"]
    results = {result["partialFingerprints"]["quarterdeckFindingId/v1"]: result for result in run["results"]}
    assert set(results) == {one["id"] for one in shipped.findings()}
    forged = results[of_rule(shipped, "claims")["id"]]
    assert (forged["level"], forged["properties"]["verdict"]) == ("error", "FORGED_CLAIMS")
    assert run["tool"]["driver"]["rules"][forged["ruleIndex"]]["id"] == forged["ruleId"] == "claims"
    ref = results[of(shipped, "other-ref")["id"]]["locations"][0]["physicalLocation"]
    line = (shipped.world.path / "policies.yaml").read_text().splitlines()[ref["region"]["startLine"] - 1]
    assert ref["artifactLocation"]["uri"] == "policies.yaml"
    assert line.strip().startswith("refs:")


def test_the_schema_refuses_what_is_no_sarif() -> None:
    assert not sarif_schema().is_valid({"version": "2.1.0", "runs": [{"results": []}]})


def test_verdicts_are_verification_summaries(shipped: Shipping) -> None:
    found = statements(shipped)
    # Neither true nor false is no failure.
    assert set(found) == set(CASES) - {"no-bundle"}
    for statement in found.values():
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    good = found["good"]["predicate"]
    assert found["good"]["subject"] == [{"digest": {"sha256": digest_of("good-d1").removeprefix("sha256:")}}]
    assert (good["verificationResult"], good["verifiedLevels"]) == ("PASSED", ["SLSA_BUILD_LEVEL_2"])
    assert good["timeVerified"] == "2026-04-10T00:00:00Z"
    assert good["policy"]["uri"] == "policies.yaml"
    assert len(found["two"]["predicate"]["inputAttestations"]) == 2
    assert found["two"]["predicate"]["verificationResult"] == "PASSED"
    for case in ("none", "forged", "tampered"):
        predicate = found[case]["predicate"]
        assert (predicate["verificationResult"], predicate["verifiedLevels"]) == ("FAILED", ["FAILED"])
    assert found["forged"]["predicate"]["urn:quarterdeck:verdict"] == "FORGED_CLAIMS"


def test_a_finding_leads_to_bundle_bytes_certificate_and_policy_line(shipped: Shipping, tmp_path: Path) -> None:
    one = of(shipped, "other-ref")
    found = json.loads(shipped.world.command("evidence", one["id"], "--format", "json"))
    (judgement,) = found["judgements"]
    assert judgement["certificate"]["source_ref"] == "refs/pull/1/merge"
    assert [place["origin"].split(":")[0] for place in judgement["places"]] == ["drops"]
    assert found["policy_text"] == 'refs: ["refs/heads/main", "refs/tags/v*"]'
    assert ("ref", "failed") in [(check["name"], check["outcome"]) for check in found["checks"]]
    table = shipped.world.command("evidence", one["id"], "--save", str(tmp_path / "out"))
    assert 'refs: ["refs/heads/main", "refs/tags/v*"]' in table
    (saved,) = (tmp_path / "out").iterdir()
    assert saved.stem == judgement["input_sha256"]
    root = str(shipped.world.path / "root.json")
    printed = CliRunner().invoke(main, ["inspect", str(saved), "--trusted-root", root, "--format", "json"]).stdout
    (inspected,) = json.loads(printed)
    assert inspected["bundle_sha256"] == one["bundle_sha256"]
    assert inspected["certificate"] == judgement["certificate"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ref-0", "`quarterdeck findings` prints the ids"),
        ("signature-", "2 findings have ids that begin with “signature-”\n  Give one: signature-"),
    ],
)
def test_an_id_that_names_no_finding_or_several_is_a_wrong_word(words: str, said: str, shipped: Shipping) -> None:
    result = CliRunner().invoke(main, ["evidence", words, "--settings", str(shipped.world.settings_path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_the_beginning_of_an_id_is_enough(shipped: Shipping) -> None:
    found = json.loads(shipped.world.command("evidence", "claims", "--format", "json"))
    assert (found["rule"], found["id"]) == ("claims", of_rule(shipped, "claims")["id"])


# Runs after runs


@pytest.fixture
def judged_inputs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The inputs that cryptography is asked about from now on."""
    asked: list[str] = []
    unpatched = side_by_side.judged_rows

    def judged_rows(sha256: str, *words: Any) -> Any:
        asked.append(sha256)
        return unpatched(sha256, *words)

    monkeypatch.setattr(side_by_side, "judged_rows", judged_rows)
    return asked


def test_a_second_run_verifies_nothing_again_and_finds_the_same(shipped: Shipping, judged_inputs: list[str]) -> None:
    before = shipped.findings()
    assert shipped.verify() == before
    assert judged_inputs == []


@pytest.fixture
def small(tmp_path: Path) -> Shipping:
    """Two services: one whose build ran on a machine of its own, one without an attestation."""
    shipping = Shipping(World(tmp_path / "world"))
    shipping.deployed("shop")
    shipping.hand_in(shipping.bundle("shop", runner_environment="self-hosted"))
    shipping.deployed("cart")
    shipping.build()
    return shipping


def states(findings: list[dict[str, Any]]) -> dict[str, str]:
    return {one["rule"]: one["state"] for one in findings}


def waiver(until: str) -> str:
    return f"waivers:\n  - {{rule: runner, service: shop, owner: ann, reason: Old hardware, until: {until}}}\n"


def test_a_finding_is_waived_until_its_day_and_then_open_again(small: Shipping) -> None:
    assert states(small.verify()) == {"runner": "open", "attestation": "open"}
    first = of(small, "shop")
    small.write("waivers.yaml", waiver("2026-04-10"))
    assert states(small.verify()) == {"runner": "waived", "attestation": "open"}
    waived = of(small, "shop")
    assert waived["waiver"] == "waivers.yaml:2: ann, until 2026-04-10: Old hardware"
    assert (waived["owner"], waived["id"], waived["first_seen"]) == ("ann", first["id"], first["first_seen"])
    log = json.loads(small.world.command("findings", "--format", "sarif"))
    assert [len(result.get("suppressions", ())) for result in log["runs"][0]["results"]] == [0, 1]
    small.world.at("2026-04-11T00:00:00Z")
    small.world.declare()
    assert states(small.verify()) == {"runner": "open", "attestation": "open"}
    assert "expired on 2026-04-10" in of(small, "shop")["waiver"]


def test_what_is_not_found_any_more_is_fixed_and_keeps_its_history(small: Shipping) -> None:
    small.verify()
    first = of(small, "cart")
    small.hand_in(small.bundle("cart", run_id=small.runs))
    small.build()
    assert states(small.verify()) == {"runner": "open", "attestation": "fixed"}
    fixed = of(small, "cart")
    assert (fixed["id"], fixed["first_seen"], fixed["is_live"]) == (first["id"], first["first_seen"], False)
    log = json.loads(small.world.command("findings", "--format", "sarif"))
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["runner"]


def test_a_changed_policy_judges_the_past_again_and_verifies_nothing(small: Shipping, judged_inputs: list[str]) -> None:
    small.verify()
    # `build` has judged it: it is of an artifact that was deployed.
    assert judged_inputs == []
    old = of(small, "shop")["policy_sha256"]
    small.write("policies.yaml", POLICIES + "  runner_environments: [self-hosted]\n")
    assert states(small.verify()) == {"runner": "fixed", "attestation": "open"}
    small.write("policies.yaml", POLICIES + "  severities: {runner: critical}\n")
    small.verify()
    one = of(small, "shop")
    assert (one["state"], one["severity"]) == ("open", "critical")
    assert one["policy_sha256"] != old
    assert judged_inputs == []


def test_another_trusted_root_judges_every_bundle_again(small: Shipping, judged_inputs: list[str]) -> None:
    small.verify()
    other = Shipping(World(small.world.path.parent / "other"))
    small.write("root.json", other.root.private_trusted_root_json().decode())
    assert {one["verdict"] for one in small.verify() if one["service"] == "shop" and one["state"] == "open"} == {
        "INVALID_CERT"
    }
    assert len(judged_inputs) == 1


def test_bundles_of_a_folder_are_judged_like_landed_ones_and_one_that_is_none_is_a_row(small: Shipping) -> None:
    small.write("bundles/cart.json", json.dumps(small.bundle("cart", run_id=small.runs)))
    small.write("bundles/hello.txt", "hello")
    assert states(small.verify()) == {"runner": "open"}


def test_an_unknown_policy_key_is_an_error_with_its_line(small: Shipping) -> None:
    small.write("policies.yaml", POLICIES + "  runner_enviroments: [self-hosted]\n")
    result = CliRunner().invoke(main, ["verify", "--settings", str(small.world.settings_path)])
    assert result.exit_code == 2
    assert "policies.yaml:6" in result.stderr
    assert "runner_environments" in result.stderr


def test_the_stage_needs_no_network_and_no_home(
    small: Shipping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any) -> None:
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    small.world.settings["supply_chain"]["trusted_roots"] = []
    small.world.declare()
    # Under the public instance, which knows nothing of the sample's.
    assert {one["verdict"] for one in small.verify()} == {"INVALID_CERT", "NO_ATTESTATION"}
    assert not (tmp_path / "home").exists()


@pytest.fixture
def bare(tmp_path: Path) -> World:
    """A deployment, and nothing configured of attestations, SBOMs or policies."""
    world = World(tmp_path / "world")
    world.history(("c0", 1))
    world.deploy("d1", "c0", 2)
    world.write()
    world.command("pull")
    world.command("build")
    return world


def test_where_nobody_asked_for_attestations_none_is_missing(bare: World) -> None:
    assert "0 judged, 0 known" in bare.command("verify")
    assert json.loads(bare.command("findings", "--format", "json")) == []
    with duckdb.connect() as con:
        lake = bare.path / "data" / "lake"
        rows = con.execute(
            f"SELECT verdict, join_kind, reason FROM '{lake}/deployment_provenance/*/*.parquet'"
        ).fetchall()
        checks = con.execute(
            f"SELECT DISTINCT outcome FROM '{lake}/provenance_checks/*/*.parquet' WHERE name = 'attestation'"
        ).fetchall()
    assert rows == [("NO_ATTESTATION", "commit", NOT_ASKED)]
    assert checks == [("not_applicable",)]
    assert bare.command("measure").splitlines()[0].startswith("values:")


@pytest.mark.parametrize(
    ("settings", "feed"),
    [({"policies": "policies.yaml"}, ()), ({"bundles": ["bundles/*"]}, ()), ({}, ("attestations",))],
    ids=["policy", "folder", "source"],
)
def test_where_anybody_asked_a_lack_of_attestations_is_a_finding(
    bare: World, settings: dict[str, Any], feed: Sequence[str]
) -> None:
    (bare.path / "policies.yaml").write_text("version: 1\n", encoding="utf-8")
    bare.set(supply_chain=settings)
    bare.collected(*feed)
    bare.write()
    for stage in ("pull", "build", "verify"):
        bare.command(stage)
    (one,) = json.loads(bare.command("findings", "--format", "json"))
    assert (one["rule"], one["verdict"], one["join"], one["digest"]) == (
        "attestation",
        "NO_ATTESTATION",
        "commit",
        None,
    )
    assert datetime.fromisoformat(one["last_seen"]) == datetime.fromisoformat("2026-04-10T00:00:00Z")


def test_before_build_it_says_what_to_run(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.write()
    result = CliRunner().invoke(main, ["verify", "--settings", str(world.settings_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Run `quarterdeck build` first" in result.stderr
