"""Required controls of each deployment as rows, and what failed of its process as findings.

A control that failed is waived where somebody answers for everything that made it fail; it is still not met. Source:
metrics.md section 4 (indicator 12), supply-chain.md section 3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from analytics.supply_chain.controls import Outcome
from analytics.supply_chain.deployments import Judged
from analytics.supply_chain.findings import REMEDIATION, Finding, finding_id
from analytics.supply_chain.rules import PROCESS_CONTROLS, RULE_SEVERITIES, Control

_TITLES: Final[Mapping[Control, str]] = {
    "review": "What it shipped was not reviewed by somebody else",
    "separation_of_duties": "Whoever wrote it brought it to production alone",
    "approval": "The deployment was not approved",
    "change_ticket": "The deployment has no change ticket",
}
# What is no matter of attestations: what SBOMs say, and the process.
_OF_OTHERS = frozenset(
    {
        "sbom",
        "sbom_schema",
        "sbom_subject",
        "sbom_age",
        "component_count",
        "license_denied",
        "license_review",
        "vulnerability",
        *PROCESS_CONTROLS,
    }
)
_OF_ATTESTATIONS = frozenset(RULE_SEVERITIES) - _OF_OTHERS


def control_findings(judged: Sequence[Judged], owners: Mapping[str, str | None], now: datetime) -> list[Finding]:
    """Failed controls of the process, one finding for each and deployment, however many artifacts it had."""
    found: dict[str, Finding] = {}
    newest = {one.shipped.deployed.service: one.shipped.deployed.deployment_key for one in judged}
    for one in judged:
        deployed, policy = one.shipped.deployed, one.policy
        for control in PROCESS_CONTROLS:
            outcome = one.controls.get(control)
            if outcome is None or outcome.outcome != "failed":
                continue
            key = finding_id(control, deployed.service, deployed.deployment_key)
            found[key] = Finding(
                id=key,
                rule=control,
                verdict=None,
                severity=policy.severity(control),
                service=deployed.service,
                deployment_id=deployed.deployment_id,
                deployment_key=deployed.deployment_key,
                repository=deployed.repository,
                digest=one.shipped.digest,
                join_kind=one.shipped.join_kind,
                reason=f"{_TITLES[control]}: {outcome.note}.",
                remediation=REMEDIATION[control],
                first_seen=deployed.finished_at,
                last_seen=now,
                is_live=newest[deployed.service] == deployed.deployment_key,
                owner=owners.get(deployed.service),
                policy=policy.path.name if policy.path else None,
                policy_line=policy.line("required"),
                policy_sha256=policy.sha256,
            )
    return list(found.values())


def control_rows(judged: Sequence[Judged], findings: Sequence[Finding]) -> Iterator[dict[str, Any]]:
    """Rows of `deployment_controls`, one for each control that the policy requires of a deployment.

    `findings` are those of this run with their states; give the artifacts of a deployment beside each other.
    """
    states: dict[tuple[str | None, str | None], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.state != "fixed":
            states[finding.service, finding.deployment_key].append(finding)
    for key, group in groupby(
        judged, key=lambda one: (one.shipped.deployed.service, one.shipped.deployed.deployment_key)
    ):
        artifacts = list(group)
        deployed = artifacts[0].shipped.deployed
        for control in artifacts[0].controls:
            worst = min((one.controls[control] for one in artifacts), key=_gravity)
            waived = worst.outcome == "failed" and _is_waived(control, states.get(key, ()))
            yield {
                "service": deployed.service,
                "deployment_key": deployed.deployment_key,
                "control": control,
                "outcome": "waived" if waived else worst.outcome,
                "note": worst.note,
                "finished_at": deployed.finished_at,
                "day": deployed.day,
            }


def _gravity(outcome: Outcome) -> int:
    return ("failed", "not_evaluated", "passed").index(outcome.outcome)


def _is_waived(control: Control, findings: Sequence[Finding]) -> bool:
    rules = _OF_ATTESTATIONS if control in ("signature", "attestation") else {control}
    states = {finding.state for finding in findings if finding.rule in rules}
    return states == {"waived"}
