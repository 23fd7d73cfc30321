"""Required controls of a deployment over all of its artifacts, and what a waiver makes of one that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from analytics.supply_chain.control_rows import control_findings, control_rows
from analytics.supply_chain.controls import Outcome
from analytics.supply_chain.deployments import Judged
from analytics.supply_chain.findings import Finding
from analytics.supply_chain.joining import Deployed, Shipped
from analytics.supply_chain.rules import Control, load_policies

NOW = datetime(2026, 4, 10)
PASSED, UNKNOWN = Outcome("passed", "fine"), Outcome("not_evaluated", "nobody knows")
FAILED = Outcome("failed", "nobody approved it")
DEPLOYED = Deployed(
    service="shop",
    deployment_key="500",
    deployment_id="d1",
    repository="acme/shop",
    source_repository="acme/shop",
    sha="c0" * 20,
    ref="main",
    digest=None,
    run_id="500",
    finished_at=datetime(2026, 3, 2, 12),
    day=date(2026, 3, 2),
    sequence=1,
    source_sha="c0" * 20,
)


def judged(controls: Mapping[Control, Outcome], digest: str = "sha256:aa", key: str = "500") -> Judged:
    deployed = replace(DEPLOYED, deployment_key=key, deployment_id=f"d{key}")
    return Judged(Shipped(deployed, digest, "release"), {}, [], [], load_policies(None).of("acme/shop"), controls)


def finding(rule: str, state: str, key: str = "500") -> Finding:
    [made] = control_findings([judged({"approval": FAILED}, key=key)], {}, NOW)
    return replace(made, id=f"{rule}-{state}", rule=rule, state=state)


def outcomes(artifacts: list[Judged], *findings: Finding) -> list[tuple[str, str, str]]:
    return [(row["deployment_key"], row["control"], row["outcome"]) for row in control_rows(artifacts, findings)]


def test_a_deployment_meets_a_control_only_with_every_artifact() -> None:
    artifacts = [judged({"attestation": PASSED, "sbom": PASSED}), judged({"attestation": FAILED, "sbom": UNKNOWN}, "b")]
    assert outcomes([*artifacts, judged({"attestation": PASSED}, key="501")]) == [
        ("500", "attestation", "failed"),
        ("500", "sbom", "not_evaluated"),
        ("501", "attestation", "passed"),
    ]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([("runner", "waived")], "waived"),
        ([("runner", "waived"), ("trigger", "waived")], "waived"),
        ([("runner", "waived"), ("trigger", "open")], "failed"),
        ([("runner", "open")], "failed"),
        ([("runner", "fixed")], "failed"),
        # Of another control, or of what an SBOM says.
        ([("approval", "waived"), ("license_denied", "waived")], "failed"),
        ([("runner", "waived"), ("license_denied", "open"), ("approval", "open")], "waived"),
        ([], "failed"),
    ],
)
def test_an_attestation_is_waived_where_everything_behind_its_failure_is(
    states: list[tuple[str, str]], expected: str
) -> None:
    found = [finding(rule, state) for rule, state in states]
    assert outcomes([judged({"attestation": FAILED})], *found) == [("500", "attestation", expected)]


def test_another_deployments_waiver_waives_nothing_here() -> None:
    assert outcomes([judged({"approval": FAILED})], finding("approval", "waived", key="501")) == [
        ("500", "approval", "failed")
    ]


def test_what_passed_is_not_waived() -> None:
    assert outcomes([judged({"approval": PASSED})], finding("approval", "waived")) == [("500", "approval", "passed")]


def test_a_failed_control_of_the_process_is_one_finding_for_all_artifacts() -> None:
    artifacts = [judged({"approval": FAILED, "review": PASSED, "sbom": FAILED}, digest) for digest in ("a", "b")]
    [made] = control_findings(artifacts, {"shop": "payments"}, NOW)
    assert (made.rule, made.severity, made.owner, made.state) == ("approval", "medium", "payments", "open")
    assert made.reason == "The deployment was not approved: nobody approved it."
    assert made.remediation
    [again] = control_findings(artifacts, {}, datetime(2026, 5, 1))
    assert again.id == made.id


def test_findings_of_the_newest_deployment_are_live() -> None:
    found: list[Any] = control_findings([judged({"review": FAILED}), judged({"review": FAILED}, key="501")], {}, NOW)
    assert [(one.deployment_key, one.is_live) for one in found] == [("500", False), ("501", True)]
