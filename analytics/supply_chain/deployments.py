"""Each deployment held against its policy: one verdict, the checks behind it, and the findings of what failed.

Nothing is verified here; judgements were made before, so that a changed policy judges all of history again. Source:
supply-chain.md section 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from analytics.supply_chain.controls import Outcome
from analytics.supply_chain.facts import DeploymentFacts
from analytics.supply_chain.findings import REMEDIATION, Finding, finding_id
from analytics.supply_chain.joining import Artifacts, Attestations, Deployed, Shipped
from analytics.supply_chain.judging import kept_facts
from analytics.supply_chain.policy import (
    NOT_ASKED,
    VERIFIED,
    Check,
    choose,
    evaluate,
    evaluate_absent,
    kind_of,
    slsa_level,
)
from analytics.supply_chain.rules import Control, Policies, Policy
from analytics.supply_chain.sbom_reading import SbomRead

Row = dict[str, Any]

_TITLES = {
    "subject": "The attestation is of another artifact",
    "statement_type": "The statement is of a type that is not known",
    "claims": "The predicate claims what the certificate does not say",
    "issuer": "An issuer that is not trusted vouched for the workflow",
    "signer": "A workflow signed that the policy does not name",
    "source_repository": "It was built from another repository",
    "source_commit": "It was built from another commit than was deployed",
    "ref": "It was built from a ref that the policy does not allow",
    "trigger": "Its build was started by an event that the policy does not allow",
    "runner": "It was built on a runner that the policy does not accept",
    "builder": "Its builder does not reach the level that the policy wants",
    "run": "The run that built it was not collected",
    "attested_before_deployed": "It was attested after it had been deployed",
    "attestation": "No attestation was found",
    "sbom": "No SBOM was found",
    "signature": "No signature was found",
}


@dataclass(frozen=True)
class Known:
    """What is known beside attestations: repository ids, collected runs, SBOMs by digest, and the report's time."""

    repository_ids: Mapping[str, str]
    # Repositories (folded) whose runs were collected, and the runs of them that attestations name.
    repositories_with_runs: frozenset[str]
    runs: frozenset[tuple[str, str]]
    # Before this time no source was asked for runs, so that an earlier one is unknown for a good reason.
    runs_since: datetime | None = field(default=None, kw_only=True)
    # The newest valid SBOM of each digest.
    sboms: Mapping[str, str]
    now: datetime
    # The newest document of each digest that has an SBOM and no valid one.
    unfit_sboms: Mapping[str, SbomRead] = field(default_factory=dict, kw_only=True)
    # Whether the organisation has a policy of its own; without one nobody can comply with it.
    has_policy: bool
    # Whether any source or folder was asked for attestations.
    has_source: bool = field(default=True, kw_only=True)
    # Reviews, duties, approvals and tickets by service and deployment key, where any policy requires them.
    process: Mapping[tuple[str, str], Mapping[Control, Outcome]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """A deployment's artifact with its verdict: rows of `deployment_provenance` and `provenance_checks`, findings.

    `controls` are those that the policy requires of it, whatever is waived.
    """

    shipped: Shipped
    provenance: Row
    checks: Sequence[Row]
    findings: Sequence[Finding]
    policy: Policy
    controls: Mapping[Control, Outcome]


def judge_deployments(
    deployments: Sequence[Deployed],
    artifacts: Artifacts,
    attestations: Attestations,
    policies: Policies,
    known: Known,
    owners: Mapping[str, str | None],
) -> Iterator[Judged]:
    """Judge every artifact of every deployment; the newest of each service is what is live."""
    newest = {deployed.service: deployed.deployment_key for deployed in deployments}
    cached: dict[tuple[str, str, int], Policy] = {}
    for deployed in deployments:
        key = deployed.source_repository, deployed.service, policies.period(deployed.day)
        policy = cached.get(key) or cached.setdefault(key, policies.of(*key[:2], deployed.day))
        is_live = newest[deployed.service] == deployed.deployment_key
        for shipped in artifacts.of(deployed):
            yield _judge(shipped, attestations.of(shipped), policy, known, owners.get(deployed.service), is_live)


def _judge(
    shipped: Shipped,
    rows: Sequence[Mapping[str, Any]],
    policy: Policy,
    known: Known,
    owner: str | None,
    is_live: bool,
) -> Judged:
    deployed = shipped.deployed
    facts = _facts(shipped, known)
    # A bare signature says whose the bytes are, and nothing of how they were made.
    candidates = [(row, _kind(row, policy)) for row in rows]
    judged = [
        (row, evaluate(kept_facts(row), _facts_at(facts, row, known), policy))
        for row, kind in candidates
        if kind in ("provenance", "unread")
    ]
    attested_sboms = [
        (row, evaluate(kept_facts(row), facts, policy, kind="sbom")) for row, kind in candidates if kind == "sbom"
    ]
    judgement = choose([checks for _, checks in judged])
    # Where nothing was collected and no policy wants any, the lack of one says nothing.
    sought = known.has_policy or known.has_source
    absent = evaluate_absent(facts, policy, asked=sought) if not judged else ()
    decided = judged[judgement.decided_by][0] if judgement.decided_by is not None else None
    signed = any(_is_of(row, shipped) and row["verdict"] in VERIFIED for row, _ in candidates)
    provenance = any(
        _is_of(row, shipped) and row["verdict"] in VERIFIED for row, kind in candidates if kind == "provenance"
    )
    sbom_sha256 = known.sboms.get(shipped.digest or "")
    failures: list[tuple[Mapping[str, Any] | None, Check]] = [
        (judged[index][0] if index is not None else None, check) for index, check in judgement.failures
    ]
    failures += [(None, check) for check in absent if check.failed]
    failures += [
        (row, check) for row, checks in attested_sboms for check in checks if check.failed and check.name != "sbom"
    ]
    if "signature" in policy.rules.required and not signed and all(check.name == "sbom" for _, check in failures):
        # Nothing else says why it has none.
        severity, line = policy.severity("signature"), policy.line("required")
        failures.append((None, Check("signature", "failed", severity, None, "a signature", "none", line)))
    findings = [
        _finding(check, row, shipped, judgement.verdict, policy, owner, known.now, is_live) for row, check in failures
    ]
    if (unfit := known.unfit_sboms.get(shipped.digest or "")) is not None:
        words = f"The SBOM that was found is not valid, see the finding of rule sbom_schema: {unfit.reason}"
        findings = [
            replace(one, reason=words, sbom_sha256=unfit.sha256) if one.rule == "sbom" else one for one in findings
        ]
    controls = _controls(shipped, judgement.verdict, policy, known, signed=signed, sbom_sha256=sbom_sha256)
    missing = [control for control, outcome in controls.items() if outcome.outcome == "failed"]
    unknown = [control for control, outcome in controls.items() if outcome.outcome == "not_evaluated"]
    provenance_row = {
        "service": deployed.service,
        "deployment_key": deployed.deployment_key,
        "deployment_id": deployed.deployment_id,
        "repository": deployed.repository,
        "sha": deployed.sha,
        "digest": shipped.digest,
        "join_kind": shipped.join_kind,
        "artifact": shipped.artifact,
        "verdict": judgement.verdict,
        "reason": decided["reason"] if decided is not None else "No attestation was found." if sought else NOT_ASKED,
        "bundle_sha256": decided["bundle_sha256"] if decided is not None else None,
        "verified_at": decided["verified_at"] if decided is not None else None,
        "slsa_level": slsa_level(kept_facts(decided), policy) if decided is not None else None,
        "signed": signed,
        "provenance": provenance,
        "sbom": sbom_sha256 is not None,
        "sbom_sha256": sbom_sha256,
        # Nobody knows where a control was not evaluated, and nothing is complied with where none is required.
        "complies": None if not controls or (unknown and not missing) else not missing,
        "missing_controls": missing if controls else None,
        "policy_sha256": policy.sha256,
        "finished_at": deployed.finished_at,
        "day": deployed.day,
    }
    asked: list[tuple[Mapping[str, Any] | None, Check]] = [
        (one, check) for one, checks in (*judged, *attested_sboms) for check in checks
    ]
    asked += [(None, check) for check in absent]
    rows_of_checks = [_check_row(check, one, shipped) for one, check in asked]
    return Judged(shipped, provenance_row, rows_of_checks, findings, policy, controls)


def _controls(
    shipped: Shipped, verdict: str, policy: Policy, known: Known, *, signed: bool, sbom_sha256: str | None
) -> dict[Control, Outcome]:
    """The required controls of an artifact's deployment; none without a policy of the organisation's own."""
    if not known.has_policy:
        return {}
    deployed = shipped.deployed
    unfit = known.unfit_sboms.get(shipped.digest or "")
    no_sbom = f"the SBOM that was found is not valid ({unfit.verdict})" if unfit else "no SBOM was found"
    of_artifact: dict[Control, Outcome] = {
        "signature": Outcome("passed" if signed else "failed", "signed" if signed else "no signature that verifies"),
        "attestation": Outcome("passed" if verdict in VERIFIED else "failed", verdict),
        "sbom": Outcome("passed", f"SBOM {sbom_sha256[:12]}") if sbom_sha256 else Outcome("failed", no_sbom),
    }
    of_process = known.process.get((deployed.service, deployed.deployment_key), {})
    unknown = Outcome("not_evaluated", "the deployment is not among the facts")
    return {control: of_artifact.get(control) or of_process.get(control, unknown) for control in policy.rules.required}


def _facts(shipped: Shipped, known: Known) -> DeploymentFacts:
    deployed = shipped.deployed
    repository = deployed.source_repository.casefold()
    knows: Callable[[str], bool] | None = None
    if repository in known.repositories_with_runs:

        def knows(run_id: str) -> bool:
            return (repository, run_id) in known.runs

    return DeploymentFacts(
        service=deployed.service,
        repository=deployed.source_repository,
        repository_id=known.repository_ids.get(repository),
        sha=deployed.source_sha,
        digest=shipped.digest,
        finished_at=deployed.finished_at,
        run_id=deployed.run_id,
        knows_run=knows,
        has_sbom=None if shipped.digest is None else shipped.digest in known.sboms,
        unfit_sbom=unfit.verdict if (unfit := known.unfit_sboms.get(shipped.digest or "")) else None,
    )


def _facts_at(facts: DeploymentFacts, row: Mapping[str, Any], known: Known) -> DeploymentFacts:
    """The facts for one attestation: of a run from before runs were collected nobody knows whether it is known."""
    at = row["verified_at"]
    early = at is not None and known.runs_since is not None and at < known.runs_since
    return replace(facts, knows_run=None) if early else facts


def _kind(row: Mapping[str, Any], policy: Policy) -> str:
    """What a bundle is evidence of; one that cannot be judged might be provenance, and is a finding."""
    if not row["proven"]:
        return "unread"
    return "signature" if row["statement_type"] is None else kind_of(row["predicate_type"], policy)


def _is_of(row: Mapping[str, Any], shipped: Shipped) -> bool:
    return shipped.digest is None or shipped.digest in (row["subject_digests"] or ())


def _check_row(check: Check, row: Mapping[str, Any] | None, shipped: Shipped) -> Row:
    deployed = shipped.deployed
    return {
        "service": deployed.service,
        "deployment_key": deployed.deployment_key,
        "digest": shipped.digest,
        "bundle_sha256": row["bundle_sha256"] if row is not None else None,
        "name": check.name,
        "outcome": check.outcome,
        "severity": check.severity,
        "verdict": check.verdict,
        "expected": check.expected,
        "found": check.found,
        "policy_line": check.policy_line,
        "note": check.note,
        "day": deployed.day,
    }


def _finding(
    check: Check,
    row: Mapping[str, Any] | None,
    shipped: Shipped,
    verdict: str,
    policy: Policy,
    owner: str | None,
    now: datetime,
    is_live: bool,
) -> Finding:
    deployed = shipped.deployed
    bundle = row["bundle_sha256"] if row is not None else None
    title = _TITLES.get(check.name)
    if row is not None and (title is None or row["verdict"] == check.verdict):
        reason = str(row["reason"])
    else:
        said = [f"found {check.found}"] if check.found and check.found != "none" else []
        said += [f"expected {check.expected}"] if check.expected else []
        reason = f"{title or check.name}: {', '.join(said)}." if said else f"{title or check.name}."
    return Finding(
        id=finding_id(check.name, deployed.service, deployed.deployment_key, shipped.digest, bundle),
        rule=check.name,
        verdict=check.verdict or (None if check.name == "sbom" else verdict),
        severity=check.severity,
        service=deployed.service,
        deployment_id=deployed.deployment_id,
        deployment_key=deployed.deployment_key,
        repository=deployed.repository,
        digest=shipped.digest,
        join_kind=shipped.join_kind,
        reason=reason,
        remediation=REMEDIATION[check.name],
        first_seen=deployed.finished_at,
        last_seen=now,
        is_live=is_live,
        bundle_sha256=bundle,
        expected=check.expected,
        found=check.found,
        owner=owner,
        policy=policy.path.name if policy.path else None,
        policy_line=check.policy_line,
        policy_sha256=policy.sha256,
        trusted_root=row["trusted_root"] if row is not None else None,
        trusted_root_sha256=row["trusted_root_sha256"] if row is not None else None,
        verifier=row["verifier"] if row is not None else None,
        verified_at=row["verified_at"] if row is not None else None,
        verified_at_source=row["verified_at_source"] if row is not None else None,
    )
