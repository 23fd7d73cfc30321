"""Figures of earlier packs that changed since: which, from what to what, and why.

Source: reports.md section 1, item 17; metrics.md section 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import duckdb

from reports.published import has_table, rows

RESTATED_SHOWN = 200


@dataclass(frozen=True)
class Restatement:
    """One published value that was measured again with another result; NULL stands for an undefined value."""

    metric: str
    scope: str
    name: str
    quarter: str
    series: str | None
    definition: str | None
    old_value: float | None
    new_value: float | None
    old_n: int | None
    new_n: int | None
    cause: str | None


def read_restatements(con: duckdb.DuckDBPyConnection, quarter: str, first: date, zone: ZoneInfo) -> list[Restatement]:
    """Restatements of a quarter and those before it that were recorded since its first day, newest quarter first.

    A value that was restated several times is told once: from its first figure to its last.
    """
    if not has_table(con, "restatements"):
        return []
    since = datetime.combine(first, time(), zone).astimezone(ZoneInfo("UTC")).replace(tzinfo=None)
    found = rows(
        con,
        "SELECT metric, scope, name, quarter, series, arg_max(definition, recorded_at) AS definition, "
        "arg_min({'value': old_value}, recorded_at).value AS old_value, "
        "arg_max({'value': new_value}, recorded_at).value AS new_value, "
        "arg_min({'n': old_n}, recorded_at).n AS old_n, arg_max({'n': new_n}, recorded_at).n AS new_n, "
        "string_agg(DISTINCT cause, '; ' ORDER BY cause) AS cause FROM restatements "
        "WHERE recorded_at >= ? AND quarter <= ? GROUP BY metric, scope, name, quarter, series "
        "ORDER BY quarter DESC, scope, name, metric, series NULLS FIRST",
        (since, quarter),
    )
    return [Restatement(**row) for row in found]
