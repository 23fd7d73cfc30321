"""What a metric is made of; the registry lists them all."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Literal

Statistic = Literal["per_day", "ratio", "quantile", "recovery_median", "utilization", "count", "mean", "rate"]
MICROSECONDS = {"hours": 3_600_000_000, "minutes": 60_000_000}
# Shares that are averaged are kept as whole trillionths: sums of doubles differ between plans.
TRILLION = 1_000_000_000_000


@dataclass(frozen=True)
class Metric:
    """One indicator: how it is named, what it means, and from which rows it is made."""

    name: str
    title: str
    unit: str
    # Which way is better; None where neither is.
    direction: Literal["lower", "higher"] | None
    kind: Statistic
    # The number of observations below which packs print no value (reports.md section 2).
    minimum_n: int
    definition: str
    query: str
    # Lake tables that the query reads, and feed entities without which the metric is undefined.
    tables: tuple[str, ...]
    entities: tuple[str, ...]
    # What an undefined value says when the sources are there and no earlier reason applies.
    empty_reason: str
    version: int = 1
    quantile: float = 0.5
    series: tuple[str | None, ...] = (None,)
    subject: Literal["service", "repository", "team"] = "service"
    needs_deployments: bool = False
    # The row of metrics.md section 4 that the metric belongs to.
    indicator: int = 0
    # Entities that add to the value but that it does not need; a missing one is named beside it.
    optional: tuple[str, ...] = ()
    # Everything there is was counted, so that there is no interval (reports.md section 2).
    census: bool = False
    # Whether two quarters can be held against each other by a test; the same few things counted twice cannot.
    tested: bool = True
    # Whether an undefined value says why most of its rows were left out.
    reason_of_rows: bool = False

    @property
    def definition_id(self) -> str:
        """The name and version that stand beside every value."""
        return f"{self.name}@{self.version}"

    @property
    def statistic(self) -> str:
        """The headline statistic in words."""
        if self.kind == "quantile":
            return "median" if self.quantile == 0.5 else f"{round(self.quantile * 100)}th percentile"
        return {
            "per_day": "count per calendar day",
            "ratio": "share",
            "recovery_median": "median, open ones censored",
            "utilization": "share of time",
            "count": "count",
            "mean": "mean",
            "rate": "count per deployment",
        }[self.kind]

    def observations_sql(self) -> str:
        """The query's text."""
        return observations_sql(self.query)


def observations_sql(query: str) -> str:
    """The text of one observations query."""
    return resources.files("analytics.metrics").joinpath("observations", f"{query}.sql").read_text(encoding="utf-8")
