"""The jobs: what `quarterdeck run`, the UI's launchpad, the schedules and the sensors start.

Belongs here: selections of assets that run together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from assets import build, pack, pull, verify
from sensors.flash import flash_job

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

QUARTER_JOB = "quarter"
REFRESH_JOB = "refresh"
NIGHTLY_JOB = "nightly"


def jobs(has_sources: bool) -> list[UnresolvedAssetJobDefinition | dg.JobDefinition]:
    """`quarter` runs every stage, `nightly` all but the pack, `refresh` ends with verifying, `flash` tells values."""
    groups = [*([pull.GROUP] if has_sources else []), build.GROUP, verify.GROUP]
    return [
        dg.define_asset_job(
            QUARTER_JOB,
            selection=dg.AssetSelection.all(),
            description="Pull, build, verify, measure and pack a quarter: what `quarterdeck run` runs.",
        ),
        dg.define_asset_job(
            NIGHTLY_JOB,
            selection=dg.AssetSelection.all() - dg.AssetSelection.groups(pack.GROUP),
            description="Every stage but the pack: what came in is landed, built, verified and measured.",
        ),
        dg.define_asset_job(
            REFRESH_JOB,
            selection=dg.AssetSelection.groups(*groups),
            description="Pull, build and verify only: land what is new, derive the facts and judge what was shipped.",
        ),
        flash_job,
    ]
