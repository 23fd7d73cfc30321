"""Progress of long work as log records, so that a terminal, a log file and Dagster each show it their way."""

from __future__ import annotations

import logging

LOGGER_NAME = "quarterdeck.progress"
_logger = logging.getLogger(LOGGER_NAME)


def report(stage: str, message: str, done: int | None = None, total: int | None = None) -> None:
    """Say where a stage is; `done` and `total` count the unit that `message` names."""
    _logger.info(
        "%s: %s", stage, message, extra={"qd_stage": stage, "qd_message": message, "qd_done": done, "qd_total": total}
    )
