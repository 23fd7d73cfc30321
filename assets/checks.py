"""What is checked beside the assets: coverage, anomalies and the soundness of values.

Belongs here: severity and whether a failure stops the pack. What is counted stands in `analytics.metrics.quality`.
"""

from collections.abc import Sequence

import dagster as dg

from analytics.metrics import quality
from analytics.metrics.quality import Share
from analytics.periods import Quarter
from analytics.settings import Settings
from assets.build import lake_key
from assets.metadata import markdown_text
from assets.resources import Workspace, stage

VALUES_SOUND = "values_sound"
RESOLVED_AT_LEAST = 0.95
NEGATIVE_AT_MOST = 0.01


def quality_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of the facts; each warns, because a pack shows the same shares to its readers."""

    @dg.asset_check(
        asset=lake_key("service_deployments"),
        name="resolved_share",
        description="Successful deployments whose commit is in the known history: lead times cover only these.",
    )
    def resolved_share(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> dg.AssetCheckResult:
        with stage(context):
            share = quality.resolved_deployments(workspace.settings())
        return _judged(share, not share.whole or share.value >= RESOLVED_AT_LEAST, "deployments are resolved")

    @dg.asset_check(
        asset=lake_key("change_lead"),
        name="negative_lead_times",
        description="Commits dated after their deployment: excluded from lead time, a sign of wrong clocks.",
    )
    def negative_lead_times(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> dg.AssetCheckResult:
        with stage(context):
            share = quality.negative_lead_times(workspace.settings())
        return _judged(share, share.value <= NEGATIVE_AT_MOST, "commits are dated after their deployment")

    @dg.asset_check(
        asset=lake_key("unmapped"),
        name="undeclared_names",
        description="Environments, repositories and services that arrived but that no catalog entry claims.",
    )
    def undeclared_names(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> dg.AssetCheckResult:
        with stage(context):
            names = quality.undeclared_names(workspace.settings())
        return dg.AssetCheckResult(
            passed=not names,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"names": len(names)},
            description=f"{len(names)} names are declared nowhere"
            + (f": {', '.join(map(markdown_text, names[:10]))}" if names else "."),
        )

    return [resolved_share, negative_lead_times, undeclared_names]


def _judged(share: Share, passed: bool, words: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"share": float(share.value), "part": share.part, "whole": share.whole},
        description=f"{share.part} of {share.whole} {words}.",
    )


def values_sound_spec(published: dg.AssetKey) -> dg.AssetCheckSpec:
    """The one check that stops a pack: a value that cannot be true must not be printed."""
    return dg.AssetCheckSpec(
        VALUES_SOUND,
        asset=published,
        blocking=True,
        description="Shares lie in [0, 1], parts fit their value, and each undefined value has its reason.",
    )


def judge_values(published: dg.AssetKey, settings: Settings, quarters: Sequence[Quarter]) -> dg.AssetCheckResult:
    """Look at the values of some quarters; the first contradictions are named."""
    wrong = quality.contradictions(settings, quarters)
    return dg.AssetCheckResult(
        asset_key=published,
        check_name=VALUES_SOUND,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"contradictions": len(wrong)},
        description="; ".join(map(markdown_text, wrong[:5])) or "Every value is possible.",
    )
