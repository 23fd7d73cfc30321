"""Stage pull: one asset per source, or per shard of it, its landed items.

Belongs here: calling `analytics.landing.pull` for one of them and saying what came. A source that cannot be read fails
its check rather than its step, so that the other sources are still built, measured and packed.
"""

from collections.abc import Iterator
from typing import Final

import dagster as dg

from analytics.errors import FileInUseError
from analytics.landing import coverage as landing_coverage
from analytics.landing import pull as landing_pull
from analytics.landing.schema import landing_columns
from analytics.landing.shards import Shard, landing_path, shards_of
from analytics.landing.winners import open_landing
from analytics.settings import Settings, Source
from assets.metadata import column_schema, markdown_table, markdown_text, owners, step_tags
from assets.resources import Workspace, stage

GROUP: Final = "pull"
SOURCE_READ = "source_read"
QUARANTINE_SHARE = "quarantine_share"
WARN_ABOVE, ERROR_ABOVE = 0.01, 0.20
# Executors whose steps follow each other; the second is that of `execute_in_process`.
_ONE_PROCESS = (dg.in_process_executor.name, "execute_in_process_executor")


def landing_key(source: str, shard: Shard | None = None) -> dg.AssetKey:
    """The asset of a source, or of one shard of it."""
    return dg.AssetKey(["landing", source, *([str(shard.number)] if shard is not None else [])])


def landing_keys(source: Source) -> list[dg.AssetKey]:
    """The assets that a source lands in."""
    return [landing_key(source.name, shard) for shard in _shards(source)]


def pull_pool(source: str) -> str:
    """The pool in which the shards of a source are pulled: its limit is how many at once."""
    return f"pull_{source}"


def pull_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """One asset per declared source that is not cut, else one per shard."""
    names: set[str] = set()
    return [_pull_asset(settings, source, shard, names) for source in settings.sources for shard in _shards(source)]


def _shards(source: Source) -> list[Shard | None]:
    count = shards_of(source)
    return [Shard(number, count) for number in range(1, count + 1)] if count > 1 else [None]


def _op_name(source: str, shard: Shard | None, names: set[str]) -> str:
    """Letters, digits and _ only, and no name twice: `a-b`, `a_b` and a shard of `a` may be pulled side by side."""
    name = f"pull_{source.replace('-', '_')}{f'_{shard.number}' if shard else ''}"
    while name in names:
        name += "_"
    names.add(name)
    return name


def _pull_asset(settings: Settings, source: Source, shard: Shard | None, names: set[str]) -> dg.AssetsDefinition:
    key = landing_key(source.name, shard)
    part = f", shard {shard} of its repositories" if shard else ""

    @dg.multi_asset(
        name=_op_name(source.name, shard, names),
        specs=[
            dg.AssetSpec(
                key,
                description=(
                    f"Raw items of the {source.type} source {source.name}{part}, as they were found.\n\n"
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
        pool=pull_pool(source.name) if shard else None,
        op_tags=step_tags(settings, GROUP),
    )
    def pull_source(
        context: dg.AssetExecutionContext, workspace: Workspace
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        with stage(context):
            now = workspace.settings()
            # Steps of one process follow each other, and share their pace with nobody.
            side_by_side = context.job_def.executor_def.name not in _ONE_PROCESS
            result = _pulled(now, source, shard, side_by_side=side_by_side)
            collected = _collected(now, source, shard)
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
                "file": dg.MetadataValue.path(landing_path(now, source.name, shard)),
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


def _pulled(settings: Settings, source: Source, shard: Shard | None, *, side_by_side: bool) -> landing_pull.PullResult:
    if shard is None:
        return landing_pull.pull(settings, only=[source.name])[0]
    at_once = shard.count if side_by_side else 1
    return landing_pull.pull(settings, only=[source.name], shard=shard.number, at_once=at_once)[0]


def _collected(settings: Settings, source: Source, shard: Shard | None) -> list[landing_coverage.Collected] | None:
    """What a source, or its shard, has landed; None, unknown, while another process is pulling it, as its check says.

    Shards that others pull meanwhile are not looked at.
    """
    alone = settings.model_copy(update={"sources": [source]})
    try:
        if shard is None:
            return landing_coverage.collection(alone)
        with open_landing(alone, shard=shard) as con:
            return landing_coverage.collection(alone, con)
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
