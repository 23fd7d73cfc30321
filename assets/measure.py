"""Stage measure: one asset per metric of the registry, by quarter, and the published database.

Belongs here: calling `analytics.metrics.measure` once for all metrics and showing each value beside its trend.
What a metric means stands in `analytics.metrics.registry`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dagster as dg

from analytics.lake.schemas import VERIFIED_TABLES
from analytics.metrics import measure as metrics_measure
from analytics.metrics import values as metrics_values
from analytics.metrics.registry import METRICS, Metric
from analytics.periods import Calendar, Quarter
from analytics.settings import Settings
from assets.build import lake_key
from assets.checks import VALUES_SOUND, judge_values, values_sound_spec
from assets.metadata import owners, step_tags, value_columns, value_metadata
from assets.partitions import key_of_quarter, quarter_of_key, settled_beta
from assets.resources import Workspace, stage
from reports.shelf import folder_name, newest_revision

GROUP: Final = "measure"
PUBLISHED = dg.AssetKey(["published", "analytics"])
HEADLINE_SERIES = (None, "human")
# What must be the same for an earlier quarter not to be reported again.
RESTATED_BY = ("value", "n", "open", "reason", "definition")

Row = Mapping[str, Any]


def metric_key(metric: str) -> dg.AssetKey:
    """The asset of a metric."""
    return dg.AssetKey(["metrics", metric])


@dataclass(frozen=True)
class MeasuredRows:
    """Headline rows of every measured quarter: the organization's by metric, and the services' by metric."""

    organization: Mapping[Quarter, Mapping[str, Row]]
    services: Mapping[Quarter, Mapping[str, Sequence[Row]]]
    # Where the packs of the quarters lie.
    packs_dir: Path

    def history(self, metric: str, until: Quarter) -> list[tuple[str, float | None]]:
        """The organization's values up to a quarter, oldest first."""
        return [
            (str(quarter), self.organization[quarter][metric]["value"])
            for quarter in sorted(self.organization)
            if quarter <= until and metric in self.organization[quarter]
        ]

    def metadata(self, metric: str, quarter: Quarter) -> dict[str, Any]:
        """What to show of a metric in a quarter; a quarter without data says so."""
        row = self.organization.get(quarter, {}).get(metric)
        if row is None:
            empty = dict.fromkeys(("value", "n", "low", "high", "open", "reading"))
            row = {**empty, "unit": "", "quarter": str(quarter), "reason": "not_measured", "definition": metric}
        services = self.services.get(quarter, {}).get(metric, ())
        folder = folder_name(quarter, max(0, newest_revision(self.packs_dir, quarter)))
        pack = (self.packs_dir / folder / "index.html").as_uri()
        return value_metadata(row, self.history(metric, quarter), services, pack)


def read_measured(settings: Settings, quarters: Sequence[Quarter]) -> MeasuredRows:
    """Read back what was published for some quarters."""
    organization: dict[Quarter, dict[str, Row]] = {}
    services: dict[Quarter, dict[str, list[Row]]] = {}
    for quarter in quarters:
        by_metric: dict[str, list[Row]] = {}
        for row in metrics_values.metric_values(settings, quarter):
            if row["series"] not in HEADLINE_SERIES:
                continue
            if row["scope"] == "organization":
                organization.setdefault(quarter, {})[row["metric"]] = row
            elif row["scope"] == "service":
                by_metric.setdefault(row["metric"], []).append(row)
        services[quarter] = by_metric
    return MeasuredRows(organization, services, settings.packs_dir)


def measure_assets(settings: Settings, partitions: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """All metrics and the published database, computed together."""
    specs = [_metric_spec(settings, metric) for metric in METRICS]
    published = dg.AssetSpec(
        PUBLISHED,
        # What `verify` found is published too, whether a metric reads it or not.
        deps=[*(spec.key for spec in specs), *map(lake_key, VERIFIED_TABLES)],
        skippable=True,
        description=(
            "The database that people and BI tools open: facts, metric values and definitions.\n\n"
            "Rebuilt from the lake into a fresh file and renamed; nobody writes to it."
        ),
        group_name=GROUP,
        kinds={"duckdb"},
        owners=owners(settings),
        tags={"stage": GROUP},
        metadata=value_columns(),
    )
    with settled_beta():

        @dg.multi_asset(
            name="measure",
            specs=[*specs, published],
            op_tags=step_tags(settings, GROUP),
            check_specs=[values_sound_spec(PUBLISHED)],
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
            can_subset=True,
        )
        def measure(
            context: dg.AssetExecutionContext, workspace: Workspace
        ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
            with stage(context):
                now = workspace.settings()
                asked = [quarter_of_key(now.calendar, key) for key in context.partition_keys]
                # A late fact restates an earlier quarter, so that every quarter with data is measured each time.
                summary = metrics_measure.measure(now, asked)
                rows = read_measured(now, summary.quarters)
            for metric in METRICS:
                if metric_key(metric.name) in context.selected_asset_keys:
                    yield _report(context, now.calendar, metric.name, rows, asked)
            if PUBLISHED in context.selected_asset_keys:
                for quarter in asked:
                    context.add_asset_metadata(
                        {
                            "values": sum(map(len, rows.services[quarter].values())),
                            "quarter": str(quarter),
                            "file": dg.MetadataValue.path(now.published_path),
                        },
                        asset_key=PUBLISHED,
                        partition_key=key_of_quarter(now.calendar, quarter),
                    )
                yield dg.MaterializeResult(asset_key=PUBLISHED)
            if any(check.name == VALUES_SOUND for check in context.selected_asset_check_keys):
                with stage(context):
                    yield judge_values(PUBLISHED, now, asked)

        def _report(
            context: dg.AssetExecutionContext,
            calendar: Calendar,
            metric: str,
            rows: MeasuredRows,
            asked: Sequence[Quarter],
        ) -> dg.MaterializeResult[None]:
            """Show a metric's value in each asked quarter, and in the others that are new or restated."""
            key = metric_key(metric)
            for quarter in asked:
                context.add_asset_metadata(
                    rows.metadata(metric, quarter), asset_key=key, partition_key=key_of_quarter(calendar, quarter)
                )
            shown = set(partitions.get_partition_keys())
            others = {
                key_of_quarter(calendar, quarter): rows.metadata(metric, quarter)
                for quarter in rows.organization
                if quarter not in asked
            }
            others = {partition: metadata for partition, metadata in others.items() if partition in shown}
            for partition in sorted(_restated(context.instance, key, others)):
                context.log_event(
                    dg.AssetMaterialization(key, metadata=others[partition], partition=partition),
                )
            return dg.MaterializeResult(asset_key=key)

    return [measure]


def _restated(
    instance: dg.DagsterInstance, key: dg.AssetKey, current: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Partitions whose newest event says something else than now, or that have none."""
    if not current:
        return
    # Newest first; a partition that lies further back than this is merely reported once more.
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=list(current)), limit=4 * len(current)
    ).records
    newest: dict[str, Mapping[str, dg.MetadataValue[Any]]] = {}
    for record in records:
        if record.asset_materialization is not None and record.partition_key is not None:
            newest.setdefault(record.partition_key, record.asset_materialization.metadata)
    for partition, metadata in current.items():
        before = newest.get(partition)
        if before is None or any(_plain(before.get(name)) != _plain(metadata[name]) for name in RESTATED_BY):
            yield partition


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, dg.MetadataValue) else value


def _metric_spec(settings: Settings, metric: Metric) -> dg.AssetSpec:
    unit = f", in {metric.unit}" if metric.unit in ("hours", "minutes") else ""
    return dg.AssetSpec(
        metric_key(metric.name),
        deps=[lake_key(table) for table in metric.tables],
        skippable=True,
        description=f"{metric.title}: {metric.statistic}{unit}.\n\n{metric.definition}",
        group_name=GROUP,
        kinds={"duckdb", "sql"},
        owners=owners(settings),
        tags={"stage": GROUP, "unit": metric.unit},
        code_version=str(metric.version),
        metadata=value_columns(),
    )
