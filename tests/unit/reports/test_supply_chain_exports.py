"""SARIF and verification summaries say what a finding and a verdict say, whatever names stand in them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from analytics.settings import Settings, SupplyChainSettings
from analytics.supply_chain.findings import REMEDIATION, RULE_TITLES
from analytics.supply_chain.listing import COLUMNS
from analytics.supply_chain.rules import RULE_SEVERITIES
from analytics.supply_chain.verdicts import Verdict
from reports.sarif import sarif_log
from reports.verification_summaries import as_lines, verification_summaries

DIGEST = "sha256:" + "5a" * 32
MADE_UNDER = {"cut_off": "2026-10-05T06:00:00Z", "verifier": "quarterdeck 1", "trusted_root 1": "acme.json sha256:aa"}


def finding(**fields: Any) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | {
        "id": "runner-0",
        "rule": "runner",
        "severity": "medium",
        "state": "open",
        "service": "shop",
        "deployment_id": "d1",
        "reason": "It was built elsewhere.",
        "remediation": "Build on a hosted runner.",
        "first_seen": datetime(2026, 5, 1, 10),
        "last_seen": datetime(2026, 7, 1),
        "is_live": True,
    }
    return row | fields


def settings(policies: str | None = None) -> Settings:
    path = None if policies is None else Path(policies)
    chain = SupplyChainSettings(policies=path)
    return Settings(organization="Acme", supply_chain=chain).model_copy(
        update={"settings_path": Path("/srv/acme/quarterdeck.yaml")}
    )


def results(*rows: dict[str, Any], policies: str | None = None) -> list[dict[str, Any]]:
    log = json.loads(json.dumps(sarif_log(rows, settings(policies))))
    found: list[dict[str, Any]] = log["runs"][0]["results"]
    return found


def test_every_rule_has_a_title_a_severity_and_a_remedy() -> None:
    assert set(RULE_TITLES) == set(RULE_SEVERITIES) == set(REMEDIATION)


@pytest.mark.parametrize(
    ("severity", "level"),
    [("critical", "error"), ("high", "error"), ("medium", "warning"), ("low", "note"), ("info", "note")],
)
def test_a_severity_is_a_level_and_a_score(severity: str, level: str) -> None:
    (result,) = results(finding(severity=severity))
    assert result["level"] == level
    assert 0 <= float(result["properties"]["security-severity"]) < 10


def test_a_fixed_finding_is_left_out_and_counted() -> None:
    log = sarif_log([finding(state="fixed"), finding(id="runner-1")], settings())
    (run,) = log["runs"]
    assert [result["partialFingerprints"] for result in run["results"]] == [{"quarterdeckFindingId/v1": "runner-1"}]
    assert run["properties"] == {"fixed": 1}


def test_a_waived_finding_is_suppressed_with_its_reason() -> None:
    (result,) = results(finding(state="waived", waiver="waivers.yaml:2: ann, until …", waived_until=date(2026, 12, 31)))
    assert result["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "waivers.yaml:2: ann, until …"}
    ]
    assert result["properties"]["waived_until"] == "2026-12-31"


@pytest.mark.parametrize(
    ("policies", "line", "uri"),
    [
        (None, None, "quarterdeck.yaml"),
        ("/srv/acme/policies.yaml", 4, "policies.yaml"),
        ("/srv/acme/our rules/policies.yaml", 4, "our%20rules/policies.yaml"),
        ("/etc/policies.yaml", 4, "policies.yaml"),
    ],
)
def test_a_result_stands_where_the_policy_does(policies: str | None, line: int | None, uri: str) -> None:
    (result,) = results(finding(policy=policies and "policies.yaml", policy_line=line), policies=policies)
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == uri
    assert place.get("region") == ({"startLine": line} if line else None)


def test_a_name_makes_no_link_in_a_message() -> None:
    (result,) = results(finding(service="[x](javascript:alert(1))"))
    assert "[x] (javascript:alert(1))" in result["message"]["text"]


def test_names_that_a_terminal_would_obey_are_written_out() -> None:
    (result,) = results(finding(service="\x1b[31mshop\u202e", reason="\x07bell", component="a/b@1"))
    assert "\x1b" not in json.dumps(result, ensure_ascii=False)
    assert "\x07" not in result["message"]["text"]
    names = [place["fullyQualifiedName"] for place in result["locations"][0]["logicalLocations"]]
    assert names[-1].endswith("/d1/a%2Fb@1")


def verdict(**fields: Any) -> dict[str, Any]:
    row = {
        "service": "shop",
        "deployment_key": "k1",
        "deployment_id": "d1",
        "repository": "acme/shop",
        "sha": "c0" * 20,
        "digest": DIGEST,
        "join_kind": "payload",
        "artifact": "ghcr.io/acme/shop",
        "verdict": "VERIFIED",
        "reason": "Signed.",
        "slsa_level": 2,
        "complies": None,
        "missing_controls": None,
        "policy_sha256": "ab" * 32,
        "finished_at": datetime(2026, 5, 1, 10),
        "bundles": ["cd" * 32],
    }
    return row | fields


def summaries(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in as_lines(verification_summaries(rows, MADE_UNDER)).splitlines()]


def test_a_summary_names_artifact_policy_evidence_and_time() -> None:
    (statement,) = summaries(verdict())
    assert statement["subject"] == [{"name": "ghcr.io/acme/shop", "digest": {"sha256": "5a" * 32}}]
    predicate = statement["predicate"]
    assert predicate["resourceUri"] == "ghcr.io/acme/shop"
    assert predicate["inputAttestations"] == [{"digest": {"sha256": "cd" * 32}}]
    assert predicate["policy"] == {"uri": "urn:quarterdeck:policy:built-in", "digest": {"sha256": "ab" * 32}}
    assert datetime.fromisoformat(predicate["timeVerified"]) == datetime(2026, 10, 5, 6, tzinfo=UTC)
    assert predicate["urn:quarterdeck:deployment"]["finished_at"] == "2026-05-01T10:00:00Z"


@pytest.mark.parametrize("word", list(Verdict))
def test_each_verdict_passes_fails_or_has_no_summary(word: Verdict) -> None:
    found = [one["predicate"]["verificationResult"] for one in summaries(verdict(verdict=word.value))]
    if word.unsupported or word is Verdict.ERROR_FETCH:
        assert found == []
    else:
        assert found == ["PASSED" if word.passed else "FAILED"]


def test_a_missing_control_fails_what_is_verified() -> None:
    (statement,) = summaries(verdict(complies=False, missing_controls=["sbom"]))
    predicate = statement["predicate"]
    assert (predicate["verificationResult"], predicate["verifiedLevels"]) == ("FAILED", ["FAILED"])
    assert predicate["urn:quarterdeck:missing_controls"] == ["sbom"]


def test_of_an_unknown_builder_the_level_is_not_evaluated() -> None:
    (statement,) = summaries(verdict(slsa_level=None))
    assert statement["predicate"]["verifiedLevels"] == ["SLSA_BUILD_LEVEL_UNEVALUATED"]


def test_where_only_the_commit_is_known_it_is_the_subject() -> None:
    (statement,) = summaries(verdict(digest=None, artifact=None, join_kind="commit"))
    assert statement["subject"] == [{"name": "acme/shop", "digest": {"gitCommit": "c0" * 20}}]
    assert statement["predicate"]["resourceUri"] == "urn:quarterdeck:service:shop"
    assert summaries(verdict(digest=None, sha=None)) == []
