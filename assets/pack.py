"""Stage pack: the report pack of a quarter, and its way to the readers.

Belongs here: calling `reports.pack` and `reports.delivery`, and saying where the pack lies and what was delivered.
"""

from typing import Final

import dagster as dg

from analytics.settings import Settings
from assets.measure import PUBLISHED
from assets.metadata import owners, step_tags, value_columns
from assets.partitions import quarter_of_key, settled_beta
from assets.resources import Workspace, stage
from reports import pack as report_pack
from reports.delivery import deliver as report_delivery

GROUP: Final = "pack"
PACK = dg.AssetKey(["packs", "quarterly"])
DELIVERED = dg.AssetKey(["packs", "delivered"])


def pack_assets(settings: Settings, partitions: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The quarterly pack, one partition per quarter; and its delivery, where the settings name a destination."""
    with settled_beta():

        @dg.asset(
            key=PACK,
            op_tags=step_tags(settings, GROUP),
            deps=[PUBLISHED],
            partitions_def=partitions,
            # One policy for all partitioned assets, or a backfill of a job takes one run per quarter.
            backfill_policy=dg.BackfillPolicy.single_run(),
            group_name=GROUP,
            kinds={"html", "plotly"},
            owners=owners(settings),
            tags={"stage": GROUP},
            # Of the annex, which holds every value that the pages show.
            metadata=value_columns(),
            description=(
                "The report pack of a quarter: pages, charts and the values behind them.\n\n"
                "A folder that is never overwritten; one with other contents becomes the next revision."
            ),
        )
        def quarterly_pack(context: dg.AssetExecutionContext, workspace: Workspace) -> None:
            for key in context.partition_keys:
                with stage(context):
                    now = workspace.settings()
                    quarter = quarter_of_key(now.calendar, key)
                    made = report_pack.make_pack(now, quarter)
                context.add_asset_metadata(
                    {
                        "revision": made.revision,
                        "quarter": str(quarter),
                        "pack": dg.MetadataValue.url((made.path / "index.html").as_uri()),
                        "folder": dg.MetadataValue.path(made.path),
                        "pack_id": made.pack_id,
                        "unchanged": made.unchanged,
                    },
                    asset_key=PACK,
                    partition_key=key,
                )

        @dg.asset(
            key=DELIVERED,
            op_tags=step_tags(settings, GROUP),
            deps=[PACK],
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
            group_name=GROUP,
            owners=owners(settings),
            tags={"stage": GROUP},
            description=(
                "The pack at its readers: a folder, e-mail, a webhook, as the settings say.\n\n"
                "Each destination gets a pack once. A run over several quarters delivers the newest alone."
            ),
        )
        def delivered_pack(context: dg.AssetExecutionContext, workspace: Workspace) -> None:
            key = max(context.partition_keys)
            with stage(context):
                now = workspace.settings()
                folder = report_delivery.newest_pack(now, quarter_of_key(now.calendar, key))
                done = report_delivery.deliver_pack(now, folder)
            failed = [one for one in done if not one.sent]
            if failed:
                words = "; ".join(f"delivery {one.delivery}: {one.words}" for one in failed)
                raise dg.Failure(description=words, allow_retries=False)
            context.add_asset_metadata(
                {"pack": folder.name, **{one.delivery: one.words for one in done}},
                asset_key=DELIVERED,
                partition_key=key,
            )

    return [quarterly_pack, *([delivered_pack] if settings.reports.delivery else [])]
