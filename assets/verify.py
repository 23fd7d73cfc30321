"""Stage verify: judgements, SBOMs, provenance of deployments and findings, one asset per table, written by one step.

Belongs here: calling `analytics.supply_chain.verify`, numbers to plot, and the severity of checks. What is judged and
how stands in `analytics.supply_chain`.
"""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from analytics.lake.schemas import TABLES, VERIFIED_TABLES, Table
from analytics.lake.tables import lake_place
from analytics.settings import Settings
from analytics.supply_chain import quality
from analytics.supply_chain import verify as supply_chain_verify
from analytics.supply_chain.findings import SEVERITY_ORDER
from analytics.supply_chain.rules import Severity
from assets.build import lake_key
from assets.metadata import markdown_table, number, owners, step_tags, table_metadata
from assets.resources import Workspace, stage

GROUP: Final = "verify"
FINDINGS = lake_key("findings")
PROVENANCE = lake_key("deployment_provenance")

# Which tables each is derived from.
DERIVED_FROM: dict[str, tuple[str, ...]] = {
    "attestation_judgements": ("attestations",),
    "attestation_places": ("attestations",),
    "sbom_documents": ("sboms", "attestation_judgements"),
    "sbom_places": ("sboms", "attestation_judgements"),
    "sbom_components": ("sbom_documents",),
    "deployment_provenance": (
        "service_deployments",
        "deployment_attempts",
        "artifacts",
        "deployment_records",
        "repository_ids",
        "run_attempts",
        "attestation_judgements",
        "attestation_places",
        "sbom_places",
    ),
    "provenance_checks": ("deployment_provenance",),
    "deployment_controls": ("deployment_provenance", "pull_requests", "reviews", "approvals"),
    "findings": ("deployment_provenance", "sbom_components", "commits"),
    "verification": ("findings",),
}


def verify_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """All tables, written together: a changed policy judges every quarter again, and verifies nothing anew."""

    @dg.multi_asset(
        name="verify",
        specs=[_spec(settings, TABLES[name]) for name in VERIFIED_TABLES],
        op_tags=step_tags(settings, GROUP),
    )
    def verify(context: dg.AssetExecutionContext, workspace: Workspace) -> Iterator[dg.MaterializeResult[None]]:
        with stage(context):
            now = workspace.settings()
            summary = supply_chain_verify.verify(now)
        verdicts = markdown_table(("verdict", "artifacts"), summary.verdicts.most_common())
        shown: dict[str, dict[str, Any]] = {
            "attestation_judgements": {"judged now": summary.judged, "known": summary.known},
            "deployment_provenance": {"verdicts": dg.MetadataValue.md(verdicts)},
            "findings": {f"open, {severity}": float(summary.findings["open", severity]) for severity in SEVERITY_ORDER},
        }
        for name in VERIFIED_TABLES:
            yield dg.MaterializeResult(
                asset_key=lake_key(name),
                metadata={
                    "dagster/row_count": summary.tables.get(name, 0),
                    "folder": dg.MetadataValue.path(lake_place(now, name)),
                    **shown.get(name, {}),
                },
            )

    return [verify]


def _spec(settings: Settings, table: Table) -> dg.AssetSpec:
    return dg.AssetSpec(
        lake_key(table.name),
        deps=[lake_key(name) for name in DERIVED_FROM[table.name]],
        description=table.description,
        group_name=GROUP,
        kinds={"parquet", "duckdb"},
        owners=owners(settings),
        tags={"stage": GROUP, "table": "fact"},
        metadata=table_metadata(table),
    )


def open_check(severity: Severity) -> str:
    """The name of the check on findings of a severity."""
    return f"no_open_{severity}"


def verify_checks() -> list[dg.AssetChecksDefinition]:
    """Findings by severity, and coverage; none stops the pack, which shows them to its readers."""
    specs = [
        dg.AssetCheckSpec(
            open_check(severity),
            asset=FINDINGS,
            description=f"No {severity} finding is open on what a service runs now; waived ones are counted beside.",
        )
        for severity in SEVERITY_ORDER
    ]

    @dg.multi_asset_check(name="findings_by_severity", specs=specs)
    def findings_by_severity(
        context: dg.AssetCheckExecutionContext, workspace: Workspace
    ) -> Iterator[dg.AssetCheckResult]:
        with stage(context):
            counts = quality.findings_by_severity(workspace.settings())
        for count in counts:
            yield dg.AssetCheckResult(
                asset_key=FINDINGS,
                check_name=open_check(count.severity),
                passed=not count.open_and_live,
                severity=dg.AssetCheckSeverity.ERROR if count.severity == "critical" else dg.AssetCheckSeverity.WARN,
                metadata={
                    "open and live": float(count.open_and_live),
                    "open": float(count.open),
                    "waived": float(count.waived),
                    "fixed": float(count.fixed),
                    "rules": dg.MetadataValue.md(markdown_table(("rule", "open and live"), count.live)),
                },
                description=f"{count.severity}: {count.open_and_live} open on what runs now, {count.open} in all.",
            )

    @dg.asset_check(
        asset=PROVENANCE,
        name="covered",
        description="Everything deployed in the last 90 days has what its policy requires.",
    )
    def covered(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> dg.AssetCheckResult:
        with stage(context):
            share = quality.covered(workspace.settings())
        missing = share.compliance is not None and share.compliance < 1
        return dg.AssetCheckResult(
            passed=not missing,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "artifacts": share.artifacts,
                "signature share": number(share.signature),
                "provenance share": number(share.provenance),
                "sbom share": number(share.sbom),
                "compliance share": number(share.compliance),
            },
            description=(
                f"{share.compliance:.1%} of {share.artifacts} artifacts have what their policy requires."
                if share.compliance is not None
                else f"{share.artifacts} artifacts; no policy says what they need."
            ),
        )

    return [findings_by_severity, covered]
