"""Findings: what a person should look at, each with its evidence, its remedy and where it stands.

Source: supply-chain.md section 3, contract.md section 6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from analytics.supply_chain.rules import Severity
from analytics.supply_chain.waivers import Waiver, state_of

SEVERITY_ORDER: tuple[Severity, ...] = ("critical", "high", "medium", "low", "info")

# What each rule asks.
RULE_TITLES: Mapping[str, str] = {
    "readable": "The attestation can be shown true or false",
    "signature": "The signature holds",
    "log": "The log entry or timestamp holds, at a time when its key was valid",
    "certificate": "The certificate was issued by a trusted authority, in its window",
    "subject": "The attestation is of the artifact that was deployed",
    "statement_type": "The statement is of a known type",
    "predicate_type": "The predicate is provenance or an SBOM",
    "claims": "The predicate claims what the certificate says",
    "issuer": "A trusted issuer vouches for the workflow",
    "signer": "A workflow signed that the policy names",
    "source_repository": "It was built from the service's own repository",
    "source_commit": "It was built from the commit that was deployed",
    "ref": "It was built from a ref that the policy allows",
    "trigger": "Its build was started by an event that the policy allows",
    "runner": "It was built on a runner that the policy accepts",
    "builder": "Its builder reaches the SLSA level that the policy wants",
    "run": "It was built by a run that was collected",
    "attested_before_deployed": "It was attested before it was deployed",
    "attestation": "The artifact has an attestation",
    "sbom": "The artifact has an SBOM",
    "review": "The change was reviewed",
    "separation_of_duties": "Somebody else than the author deployed or approved it",
    "approval": "The deployment was approved",
    "change_ticket": "The deployment has a change ticket",
    "sbom_schema": "The SBOM keeps to its schema",
    "sbom_subject": "The SBOM describes the artifact that was deployed",
    "sbom_age": "The SBOM was made with the artifact",
    "component_count": "The number of components changes little from one deployment to the next",
    "license_denied": "No component has a licence that the policy denies",
    "license_review": "Somebody decided on each component's licence",
    "vulnerability": "No component has a known vulnerability of the policy's severity",
}

# What to do about a finding, by its rule.
REMEDIATION: Mapping[str, str] = {
    "readable": "Attach a Sigstore bundle with a log entry or a timestamp; look at the reason for what this file is.",
    "signature": "Treat the artifact as untrusted: find out where it came from, and deploy one that verifies.",
    "log": "Treat the artifact as untrusted: its log entry or time does not hold. Attest it again by its workflow.",
    "certificate": "Check that the right trusted root is configured; if it is, treat the artifact as untrusted.",
    "subject": "The attestation is of another artifact: find the one of what runs, or attest it.",
    "statement_type": "Attest with an in-toto statement of version 1.",
    "predicate_type": "Nothing, unless this was meant as provenance: then attest with a SLSA provenance predicate.",
    "claims": "Treat the artifact as forged: the predicate names another source than the certificate. Roll back.",
    "issuer": "Build where a trusted issuer vouches for the workflow, or add the issuer to the policy.",
    "signer": "Let a workflow sign that the policy names, or add this one to `signers` after reviewing it.",
    "source_repository": "The artifact was built from another repository: find out why before it is deployed again.",
    "source_commit": "It was built from another commit than the deployment names: deploy what was built of that one.",
    "ref": "Build releases from a branch or tag that the policy allows.",
    "trigger": "Build releases on push, not on events that outsiders start; review what this run executed.",
    "runner": "Build on a hosted runner, or list the environment in the policy with a waiver and a date.",
    "builder": "Build with a known builder of the wanted SLSA level.",
    "run": "No such run was collected: check that runs of the repository are pulled; if they are, treat it as forged.",
    "attested_before_deployed": "Let the deployment wait for the attestation, and check it there.",
    "attestation": "Attest the artifact in the workflow that builds it (actions/attest-build-provenance).",
    "sbom": "Make an SBOM in the workflow that builds the artifact, and attest it there.",
    "review": "Let somebody else approve every pull request before it is merged; require it in the branch's rules.",
    "separation_of_duties": "Let somebody who wrote none of the change approve the deployment.",
    "approval": "Let the deployment wait for an approval, and record it.",
    "change_ticket": "Name the change's ticket in the approval of the deployment.",
    "sbom_schema": "Correct the tool that writes it; the first errors are in the reason.",
    "sbom_subject": "The SBOM describes another artifact: make one of what was deployed.",
    "sbom_age": "Make the SBOM when the artifact is built.",
    "component_count": "Look at what came or went: an SBOM that lost components often lost a lock file.",
    "license_denied": "Replace the component, or ask whoever owns the licence policy.",
    "license_review": "Let somebody decide on the licence and add it to a list of the policy.",
    "vulnerability": "Update the component to a version that is not affected, or say in a VEX why it does not matter.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at; columns are those of the table `findings`."""

    id: str
    rule: str
    verdict: str | None
    severity: Severity
    service: str | None
    deployment_id: str | None
    deployment_key: str | None
    repository: str | None
    digest: str | None
    join_kind: str | None
    reason: str
    remediation: str
    first_seen: datetime | None
    last_seen: datetime
    is_live: bool
    bundle_sha256: str | None = None
    sbom_sha256: str | None = None
    component: str | None = None
    expected: str | None = None
    found: str | None = None
    owner: str | None = None
    policy: str | None = None
    policy_line: int | None = None
    policy_sha256: str | None = None
    trusted_root: str | None = None
    trusted_root_sha256: str | None = None
    verifier: str | None = None
    verified_at: datetime | None = None
    verified_at_source: str | None = None
    state: str = "open"
    waiver: str | None = None
    waived_until: date | None = None


def finding_id(rule: str, *parts: str | None) -> str:
    """An id that stays the same as long as the same thing is found of the same artifact."""
    text = "\0".join([rule, *(part or "" for part in parts)])
    return f"{rule}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def with_states(
    found: Sequence[Finding], earlier: Sequence[Finding], waivers: Sequence[Waiver], local_now: datetime
) -> list[Finding]:
    """Findings of this run and of earlier ones, each with its state: what is not found any more is fixed.

    A waiver that has ended waives nothing: its finding is open again, and names it. A finding that was seen before
    keeps the time at which it was first seen.
    """
    now = {finding.id: finding for finding in found}
    before = {finding.id: finding for finding in earlier}
    placed: list[Finding] = []
    for finding in now.values():
        known = before.get(finding.id)
        starts = [at for at in (finding.first_seen, known.first_seen if known else None) if at is not None]
        seen = replace(finding, first_seen=min(starts, default=finding.last_seen))
        if finding.state == "fixed":
            placed.append(seen)
            continue
        state = state_of(seen, waivers, local_now)
        if state.waiver is not None:
            seen = replace(seen, waiver=_words(state.waiver, "until"), owner=state.waiver.owner)
        elif state.expired is not None:
            seen = replace(seen, waiver=_words(state.expired, "expired on"))
        placed.append(replace(seen, state=state.state, waived_until=state.until))
    gone = [replace(finding, state="fixed", is_live=False) for key, finding in before.items() if key not in now]
    return sorted([*placed, *gone], key=_order)


def _words(waiver: Waiver, until: str) -> str:
    return f"{waiver.where}: {waiver.owner}, {until} {waiver.until}: {waiver.reason}"


def _order(finding: Finding) -> tuple[int, int, str, str]:
    state = ("open", "waived", "fixed").index(finding.state)
    return state, SEVERITY_ORDER.index(finding.severity), finding.service or "", finding.id
