"""The jobs: what `quarterdeck run` and the UI's launchpad start.

Belongs here: selections of assets that run together. Schedules come later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from assets import build, pull, verify

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

QUARTER_JOB = "quarter"
REFRESH_JOB = "refresh"


def jobs(has_sources: bool) -> list[UnresolvedAssetJobDefinition]:
    """`quarter` runs every stage for one quarter; `refresh` lands, builds and verifies what is new."""
    groups = [*([pull.GROUP] if has_sources else []), build.GROUP, verify.GROUP]
    return [
        dg.define_asset_job(
            QUARTER_JOB,
            selection=dg.AssetSelection.all(),
            description="Pull, build, verify, measure and pack a quarter: what `quarterdeck run` runs.",
        ),
        dg.define_asset_job(
            REFRESH_JOB,
            selection=dg.AssetSelection.groups(*groups),
            description="Pull, build and verify only: land what is new, derive the facts and judge what was shipped.",
        ),
    ]
