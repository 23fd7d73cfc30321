"""The monthly flash: the quarter so far, in a few lines of plain text.

Belongs here: choosing and wording values that are measured. A flash is no pack: it is not signed, holds no evidence and
may still change with every late fact. Source: spec reports.md section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analytics.errors import LakeError
from analytics.metrics.values import metric_values
from analytics.periods import Quarter
from analytics.settings import Settings
from reports.formats import spoken_unit
from reports.listings import readable

# DORA's five, in its order.
HEADLINES: Sequence[str] = (
    "deployment_frequency",
    "change_lead_time",
    "change_fail_rate",
    "failed_deployment_recovery_time",
    "deployment_rework_rate",
)


def flash_lines(settings: Settings, quarter: Quarter) -> list[str]:
    """One line per headline metric of the organisation: value, rows, reading, and the quarter before where known.

    Raises LakeError when the quarter was never measured. An undefined value gives its reason, never a number.
    """
    now = _headlines(settings, quarter)
    try:
        before = _headlines(settings, quarter.plus(-1))
    except LakeError:  # the first quarter with data has none before it
        before = {}
    return [_line(now[metric], before.get(metric), quarter.plus(-1)) for metric in HEADLINES if metric in now]


def _line(row: Mapping[str, Any], before: Mapping[str, Any] | None, earlier: Quarter) -> str:
    name, unit = row["metric"].replace("_", " "), spoken_unit(row["metric"], row["unit"])
    if row["value"] is None:
        return f"{name}: undefined ({row['reason']})"
    parts = [f"{name}: {readable(row['value'], unit)} (n = {row['n']})"]
    if row["reading"]:
        parts.append(row["reading"])
    if before is not None and before["value"] is not None:
        parts.append(f"{earlier}: {readable(before['value'], unit)}")
    return "; ".join(parts)


def _headlines(settings: Settings, quarter: Quarter) -> dict[str, dict[str, Any]]:
    rows = metric_values(settings, quarter, "organization")
    return {row["metric"]: row for row in rows if row["series"] in (None, "human")}
