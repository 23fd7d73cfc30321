"""What assets are given: the workspace, that is the settings as they are when a run starts.

Belongs here: the one resource, and how an error for a reader becomes a failure that Dagster shows without a traceback.
Not here: connections; the stages open and close their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import dagster as dg

from analytics.errors import QuarterdeckError
from analytics.faults import in_words, is_interruption
from analytics.settings import Settings, load_settings
from reports.progress import LineHandler, listening


class Workspace(dg.ConfigurableResource[None]):
    """Where the settings are; read anew by each step, so that a changed file needs no restart."""

    settings_path: str
    # The cut-off that all steps of one run share; the settings' own, else the wall clock, when not given.
    now: str | None = None

    def settings(self) -> Settings:
        """The settings, with this run's cut-off."""
        settings = load_settings(Path(self.settings_path))
        if self.now is None:
            return settings
        return settings.model_copy(update={"fixed_now": datetime.fromisoformat(self.now)})


@contextmanager
def stage(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext,
) -> Iterator[None]:
    """Log a stage's progress in the run, and turn our errors and the machine's faults into failures in words.

    Dagster's managed loggers would store each of ten thousand steps; a line every two seconds is enough.
    """
    with listening(LineHandler(context.log.info), context.log.warning):
        try:
            yield
        except QuarterdeckError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        except Exception as error:
            if is_interruption(error):
                raise dg.DagsterExecutionInterruptedError from error  # which its handler of the signal had raised
            fault = in_words(error)
            if fault is None:
                raise
            raise dg.Failure(description=str(fault), allow_retries=False) from error
