"""What the stage verify says of deployments. Source: metrics.md section 4, row 12; contract.md section 5."""

from __future__ import annotations

from analytics.metrics.metric import Metric

_COVERAGE = (
    " A deployment that shipped several artifacts is covered when all of them are. Deployments that have not been "
    "verified yet are left out."
)

SUPPLY_CHAIN: tuple[Metric, ...] = (
    Metric(
        name="policy_compliance_rate",
        title="Policy compliance",
        unit="ratio",
        direction="higher",
        kind="ratio",
        minimum_n=1,
        definition=(
            "Successful production deployments that passed every control that the policy requires of them (signature, "
            "attestation, SBOM, review, separation of duties, approval, change ticket), divided by those that could be "
            "judged. A waived control is not passed: the waiver says who answers for it. A deployment of which nothing "
            "failed but something could not be evaluated is left out."
        ),
        query="policy_compliance_rate",
        tables=("service_deployments", "deployment_controls", "deployment_provenance"),
        entities=("deployments",),
        empty_reason="no_required_controls",
        needs_deployments=True,
        indicator=12,
        census=True,
        reason_of_rows=True,
    ),
    *(
        Metric(
            name=f"{name}_coverage",
            title=f"{title} coverage",
            unit="ratio",
            direction="higher",
            kind="ratio",
            minimum_n=1,
            definition=f"Successful production deployments {what}, divided by all of them." + _COVERAGE,
            query=f"{name}_coverage",
            tables=("service_deployments", "deployment_provenance"),
            entities=("deployments", entity),
            empty_reason="not_verified",
            needs_deployments=True,
            indicator=12,
            census=True,
            reason_of_rows=True,
        )
        for name, title, entity, what in (
            ("signature", "Signature", "attestations", "whose artifact carries a valid signature"),
            ("provenance", "Provenance", "attestations", "whose artifact has valid provenance of its build"),
            ("sbom", "SBOM", "sboms", "whose artifact has a valid SBOM"),
        )
    ),
)
