"""Stage build: typed tables and facts of the lake, one asset per table, written by one step.

Belongs here: calling `analytics.delivery.build` and saying how many rows each table has. What a table means stands in
`analytics.lake.schemas`.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import dagster as dg

from analytics.delivery import build as delivery_build
from analytics.lake.schemas import FACT_TABLES, TABLES, TYPED_TABLES, VERIFIED_TABLES, Table
from analytics.lake.tables import lake_place
from analytics.settings import Settings
from assets.metadata import owners, step_tags, table_metadata
from assets.pull import landing_keys
from assets.resources import Workspace, stage

GROUP: Final = "build"

# Written by `verify` and by `measure`.
NOT_BUILT = {*VERIFIED_TABLES, "metric_values", "metric_definitions", "restatements", "measure_inputs", "measured_from"}

# Which tables a fact is derived from; the catalog and the calendar need none.
DERIVED_FROM: dict[str, tuple[str, ...]] = {
    "deployment_attempts": ("deployments", "pipeline_runs", "pipeline_jobs", "releases", "tags", "artifacts"),
    "service_deployments": ("deployment_attempts", "commits", "pull_requests", "incidents"),
    "change_lead": ("service_deployments", "commits", "pull_requests"),
    "failure_links": ("service_deployments", "incidents"),
    "service_incidents": ("incidents", "service_deployments"),
    "run_attempts": ("pipeline_runs", "pipeline_jobs"),
    "job_times": ("pipeline_jobs",),
    "runner_windows": ("job_times",),
    "rollback_drills": ("drills", "services"),
    "service_runbooks": ("file_revisions", "commits"),
    "runbook_changes": ("file_revisions", "commits"),
    "deployment_checks": ("checks", "job_times", "deployment_attempts", "service_deployments"),
    "budget_impacts": ("slo_samples", "service_deployments"),
    "gate_outcomes": ("gate_results",),
    "manual_interventions": ("deployment_attempts", "run_attempts", "gate_results", "service_deployments"),
    "drift_incidents": ("incidents", "service_incidents"),
    "survey_answers": ("survey_responses",),
    "template_adoption": ("pipeline_runs", "services"),
    "unmapped": ("deployments", "incidents"),
    "scope_members": ("services",),
    "covered": ("collection", "services"),
}


def lake_key(table: str) -> dg.AssetKey:
    """The asset of a lake table."""
    return dg.AssetKey(["lake", table])


def built_tables() -> list[Table]:
    """The tables that this stage writes."""
    return [table for table in TABLES.values() if table.name not in NOT_BUILT]


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """All tables, written together: they are facts about one state of the landed items."""
    sources = [key for source in settings.sources for key in landing_keys(source)]

    @dg.multi_asset(
        name="build",
        specs=[_spec(settings, table, sources) for table in built_tables()],
        op_tags=step_tags(settings, GROUP),
    )
    def build(context: dg.AssetExecutionContext, workspace: Workspace) -> Iterator[dg.MaterializeResult[None]]:
        with stage(context):
            now = workspace.settings()
            summary = delivery_build.build(now)
        for table in built_tables():
            yield dg.MaterializeResult(
                asset_key=lake_key(table.name),
                metadata={
                    "dagster/row_count": summary.tables.get(table.name, 0),
                    "folder": dg.MetadataValue.path(lake_place(now, table.name)),
                },
            )

    return [build]


def _spec(settings: Settings, table: Table, sources: Sequence[dg.AssetKey]) -> dg.AssetSpec:
    landed = table.name in TYPED_TABLES or table.name in ("collection", "quarantine")
    return dg.AssetSpec(
        lake_key(table.name),
        deps=sources if landed else [lake_key(name) for name in DERIVED_FROM.get(table.name, ())],
        description=table.description,
        group_name=GROUP,
        kinds={"parquet", "duckdb"},
        owners=owners(settings),
        tags={"stage": GROUP, "table": "fact" if table.name in FACT_TABLES else "typed"},
        metadata=table_metadata(table),
    )
