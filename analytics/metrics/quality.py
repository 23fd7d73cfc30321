"""Shares and contradictions that say how far the numbers can be trusted; Dagster's checks judge them.

Source: metrics.md section 2 (coverage = resolved / all deployments; authored_after_deploy) and section 5 (I2, I4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from analytics.lake.reading import read_tables
from analytics.metrics.values import metric_values, open_published
from analytics.periods import Quarter
from analytics.settings import Settings

# Interventions per deployment may exceed one; every other ratio is a share.
SHARES_ABOVE_ONE = frozenset({"manual_interventions_per_deployment", "error_budget_impact"})
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Share:
    """A part of a whole; of nothing it is 0."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """The part as a share of the whole."""
        return self.part / self.whole if self.whole else 0.0


def resolved_deployments(settings: Settings) -> Share:
    """Successful production deployments whose commit is in the known history, of all."""
    return _share(
        settings,
        "service_deployments",
        "SELECT count(*) FILTER (kind <> 'unresolved'), count(*) FROM service_deployments WHERE outcome = 'success'",
    )


def negative_lead_times(settings: Settings) -> Share:
    """Owned commits that are dated after their deployment, of all."""
    return _share(
        settings,
        "change_lead",
        "SELECT count(*) FILTER (excluded = 'authored_after_deploy'), count(*) FROM change_lead",
    )


def undeclared_names(settings: Settings) -> list[str]:
    """Environments, repositories and services that no catalog entry claims, most frequent first."""
    query = "SELECT kind, name FROM unmapped ORDER BY rows DESC, kind, name"
    rows = read_tables(settings, ["unmapped"], lambda con: con.execute(query).fetchall())
    return [f"{kind} {name}" for kind, name in rows]


def undeclared(settings: Settings) -> list[dict[str, Any]]:
    """The published rows of `unmapped`, most rows first: kind, name, detail, rows, first_at and last_at (UTC).

    Empty before anything is published; raises LakeError for a database that cannot be read.
    """
    if not settings.published_path.is_file():
        return []
    columns = ("kind", "name", "detail", "rows", "first_at", "last_at")
    with open_published(settings) as con:
        found = con.execute(
            f"SELECT {', '.join(columns)} FROM unmapped ORDER BY rows DESC, kind, name, detail"
        ).fetchall()
    return [
        {
            column: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
            for column, value in zip(columns, row, strict=True)
        }
        for row in found
    ]


def _share(settings: Settings, table: str, query: str) -> Share:
    part, whole = read_tables(settings, [table], lambda con: con.execute(query).fetchone()) or (0, 0)
    return Share(int(part), int(whole))


def contradictions(settings: Settings, quarters: Sequence[Quarter]) -> list[str]:
    """Published values that cannot be true, each named with what is wrong about it."""
    wrong: list[str] = []
    for quarter in quarters:
        for row in metric_values(settings, quarter):
            of = f"{row['metric']} of {row['scope']} {row['name']} in {quarter}"
            value, numerator, denominator = row["value"], row["numerator"], row["denominator"]
            if value is None:
                if not row["reason"]:
                    wrong.append(f"{of} is undefined without a reason")
                continue
            if row["unit"] == "ratio" and row["metric"] not in SHARES_ABOVE_ONE and not 0 <= value <= 1:
                wrong.append(f"{of} is {value}, which is no share")
            parted = row["unit"] == "ratio" and numerator is not None and denominator
            if parted and abs(numerator / denominator - value) > TOLERANCE:
                wrong.append(f"{of} is {value}, but its parts are {numerator} of {denominator}")
            if row["unit"] in ("hours", "minutes", "count", "per_day") and value < 0:
                wrong.append(f"{of} is {value}, which cannot be negative")
    return wrong
