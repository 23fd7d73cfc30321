"""The job of the monthly flash.

Belongs here: one op that words and delivers it. What a flash says stands in `reports.flash`. Annotations are evaluated
here, because Dagster looks at the class of an op's configuration when it is defined.
"""

import dagster as dg

from analytics.periods import Quarter
from assets.resources import Workspace, stage
from reports.flash import flash_lines
from sensors.alerts import Alert, deliver

FLASH_JOB = "flash"
FLASH_OP = "tell_flash"


class FlashConfig(dg.Config):
    """Which quarter a flash is about, such as 2026-Q3; the one in progress unless told."""

    quarter: str | None = None


@dg.op(name=FLASH_OP, description="Tell the organization's headline values of a quarter so far.")
def tell_flash(context: dg.OpExecutionContext, config: FlashConfig, workspace: Workspace) -> None:
    """Word the flash and deliver it like an alert."""
    with stage(context):
        settings = workspace.settings()
        quarter = Quarter.parse(config.quarter) if config.quarter else settings.calendar.quarter_of(settings.now())
        said = deliver(settings, Alert("flash", f"{quarter} so far", flash_lines(settings, quarter)))
    context.log.info(said)


@dg.job(name=FLASH_JOB, description="The quarter so far, in a few lines, to the log and the webhook.")
def flash_job() -> None:
    """One op."""
    tell_flash()
