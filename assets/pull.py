"""Stage pull: one asset per source, its landed items.

Belongs here: calling `analytics.landing.pull` for one source and saying what came. A source that cannot be read fails
its check rather than its step, so that the other sources are still built, measured and packed.
"""

from collections.abc import Iterator

import dagster as dg

from analytics.errors import FileInUseError
from analytics.landing import coverage as landing_coverage
from analytics.landing import pull as landing_pull
from analytics.landing.schema import landing_columns
from analytics.settings import Settings, Source
from assets.metadata import column_schema, markdown_table, markdown_text, owners
from assets.resources import Workspace, stage

GROUP = "pull"
SOURCE_READ = "source_read"
QUARANTINE_SHARE = "quarantine_share"
WARN_ABOVE, ERROR_ABOVE = 0.01, 0.20


def landing_key(source: str) -> dg.AssetKey:
    """The asset of a source."""
    return dg.AssetKey(["landing", source])


def pull_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """One asset per declared source."""
    return [_pull_asset(settings, source) for source in settings.sources]


def _pull_asset(settings: Settings, source: Source) -> dg.AssetsDefinition:
    key = landing_key(source.name)

    @dg.multi_asset(
        name=f"pull_{source.name.replace('-', '_')}",
        specs=[
            dg.AssetSpec(
                key,
                description=(
                    f"Raw items of the {source.type} source {source.name}, as they were found.\n\n"
                    "Append-only; a page, its items and the cursor are committed together."
                ),
                group_name=GROUP,
                kinds={"duckdb", source.type},
                owners=owners(settings),
                tags={"stage": GROUP, "source_type": source.type},
                metadata={"dagster/column_schema": column_schema(landing_columns("items"))},
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(SOURCE_READ, asset=key, description="The source could be read to its end."),
            dg.AssetCheckSpec(
                QUARANTINE_SHARE,
                asset=key,
                description="Few records are refused: a warning above 1 %, an error above 20 %.",
            ),
        ],
    )
    def pull_source(
        context: dg.AssetExecutionContext, workspace: Workspace
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        with stage(context):
            now = workspace.settings()
            result = landing_pull.pull(now, only=[source.name])[0]
            collected = _collected(now, source)
        known = collected or []
        items = sum(row.items for row in known)
        refused = sum(row.quarantined for row in known)
        rows = ((row.entity, row.items, row.quarantined, row.last_at or "") for row in known)
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                **({"dagster/row_count": items} if collected is not None else {}),
                "new_items": result.items,
                "quarantined": refused,
                "file": dg.MetadataValue.path(now.landing_dir / f"{source.name}.duckdb"),
                "entities": dg.MetadataValue.md(markdown_table(("entity", "items", "quarantined", "last"), rows)),
            },
        )
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=SOURCE_READ,
            passed=result.error is None,
            severity=dg.AssetCheckSeverity.ERROR,
            # The UI reads descriptions as Markdown; the error as it is stands beside it.
            description=markdown_text(result.error or "Read to its end."),
            metadata={"error": dg.MetadataValue.text(result.error)} if result.error else {},
        )
        yield quarantine_result(key, items, refused)

    return pull_source


def _collected(settings: Settings, source: Source) -> list[landing_coverage.Collected] | None:
    """What a source has landed; None, unknown, while another process is pulling it, as its check says."""
    alone = settings.model_copy(update={"sources": [source]})
    try:
        return landing_coverage.collection(alone)
    except FileInUseError:
        return None


def quarantine_result(key: dg.AssetKey, items: int, refused: int) -> dg.AssetCheckResult:
    """Judge the share of refused records; bad records alone never stop a run."""
    share = refused / (items + refused) if items + refused else 0.0
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=QUARANTINE_SHARE,
        passed=share <= WARN_ABOVE,
        severity=dg.AssetCheckSeverity.ERROR if share > ERROR_ABOVE else dg.AssetCheckSeverity.WARN,
        metadata={"share": float(share), "quarantined": refused, "items": items},
        description=f"{refused} of {items + refused} records were refused; `quarterdeck coverage` lists them.",
    )
