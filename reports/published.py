"""Typed reading of the published database: everything a pack shows is asked for here or in `reports.evidence`.

Each query is asked once for all services and grouped in Python. Tables and columns: docs/architecture.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from analytics.engine import connect
from analytics.errors import PackError
from analytics.settings import Settings

HEADLINE_SERIES = "human"


@dataclass(frozen=True)
class Definition:
    """One metric of the registry as it was published; `direction` is "lower" or "higher" (better), or None."""

    metric: str
    title: str
    unit: str
    direction: str | None
    statistic: str
    minimum_n: int | None
    definition: str
    version: int
    sources: str | None = None
    series: str | None = None
    # The row of metrics.md section 4 that the metric belongs to.
    indicator: int | None = None


@dataclass(frozen=True)
class MetricValue:
    """One row of metric_values; `excluded` maps a reason to the rows left out for it."""

    metric: str
    scope: str
    name: str
    quarter: str
    series: str | None
    value: float | None
    unit: str
    n: int | None = None
    numerator: float | None = None
    denominator: float | None = None
    low: float | None = None
    high: float | None = None
    open: int | None = None
    reason: str | None = None
    reading: str | None = None
    definition: str | None = None
    covered_from: date | None = None
    covered_to: date | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)
    # Sources that the metric needs, or that would add to it, and that nobody offers.
    missing: str | None = None
    # Whether rows of several services were pooled.
    blended: bool | None = None

    @property
    def is_headline(self) -> bool:
        """Whether this is the metric's only series or the one that leads (people, without bots)."""
        return self.series in (None, "", HEADLINE_SERIES)


@dataclass(frozen=True)
class ServiceEntry:
    """A service of the catalog."""

    service: str
    team: str | None
    tier: int | None
    repository: str


@dataclass(frozen=True)
class Values:
    """Metric values by (scope, name, metric, series) and quarter."""

    by_key: Mapping[tuple[str, str, str, str | None], Mapping[str, MetricValue]]
    series: Mapping[tuple[str, str, str], Sequence[str | None]]

    def series_of(self, scope: str, name: str, metric: str) -> Sequence[str | None]:
        """The series in which a metric was measured for a scope."""
        return self.series.get((scope, name, metric), ())

    def history(self, scope: str, name: str, metric: str, series: str | None = None) -> Mapping[str, MetricValue]:
        """All quarters of one value; without a series, the headline one."""
        if series is None:
            for candidate in (None, HEADLINE_SERIES, ""):
                found = self.by_key.get((scope, name, metric, candidate))
                if found:
                    return found
            return {}
        return self.by_key.get((scope, name, metric, series), {})

    def get(self, scope: str, name: str, metric: str, quarter: str, series: str | None = None) -> MetricValue | None:
        """One value, or None when it was not measured."""
        return self.history(scope, name, metric, series).get(quarter)


@contextmanager
def open_published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the published database read-only; raises PackError when it is missing or unreadable."""
    path = settings.published_path
    if not path.is_file():
        raise PackError(
            "there is no published database yet",
            where=str(path),
            fix="Run `quarterdeck run`, or `quarterdeck measure`.",
        )
    try:
        with connect(settings, path, read_only=True) as con:
            yield con
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise PackError(
            f"the published database is from another version: {str(error).splitlines()[0]}",
            where=str(path),
            fix="Run `quarterdeck measure` to publish it again.",
        ) from error
    except duckdb.IOException as error:
        raise PackError(f"cannot be opened: {str(error).splitlines()[0]}", where=str(path)) from error


def rows(con: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """A query's rows as mappings from column to value."""
    result = con.execute(query, list(parameters))
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def has_table(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether the database holds a table: one that an earlier version published may lack the newest."""
    return bool(rows(con, "SELECT 1 FROM duckdb_tables() WHERE table_name = ?", (name,)))


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """The local day of a stored UTC time; its UTC day where that is the last there is."""
    try:
        return at.replace(tzinfo=UTC).astimezone(zone).date()
    except OverflowError:
        return at.date()


def read_snapshot(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What the published numbers stand on: snapshot_id, code_version, cut_off, time_zone, definitions_version, …."""
    return {str(row["key"]): str(row["value"]) for row in rows(con, "SELECT key, value FROM snapshot ORDER BY key")}


def read_definitions(con: duckdb.DuckDBPyConnection) -> dict[str, Definition]:
    """All published metric definitions by metric name."""
    found = rows(
        con,
        "SELECT metric, title, unit, direction, statistic, minimum_n, definition, version, sources, series, indicator "
        "FROM metric_definitions ORDER BY metric",
    )
    return {
        row["metric"]: Definition(
            metric=row["metric"],
            title=row["title"],
            unit=row["unit"],
            direction=row["direction"] or None,
            statistic=row["statistic"] or "",
            minimum_n=row["minimum_n"],
            definition=row["definition"] or "",
            version=int(row["version"]),
            sources=_text_list(row["sources"]),
            series=_text_list(row["series"]),
            indicator=row["indicator"],
        )
        for row in found
    }


def read_values(con: duckdb.DuckDBPyConnection, quarters: Sequence[str]) -> list[MetricValue]:
    """Metric values of some quarters, in a fixed order."""
    marks = ", ".join("?" for _ in quarters)
    found = rows(
        con,
        "SELECT metric, scope, name, quarter, series, value, unit, n, numerator, denominator, low, high, open, reason, "
        "reading, definition, covered_from, covered_to, excluded, missing, blended FROM metric_values "
        f"WHERE quarter IN ({marks}) ORDER BY quarter, scope, name, metric, series NULLS FIRST",
        quarters,
    )
    return [MetricValue(**{**row, "excluded": _counts(row["excluded"])}) for row in found]


def group_values(values: Sequence[MetricValue]) -> Values:
    """Values by key and quarter."""
    by_key: dict[tuple[str, str, str, str | None], dict[str, MetricValue]] = {}
    series: dict[tuple[str, str, str], list[str | None]] = {}
    for value in values:
        key = (value.scope, value.name, value.metric, value.series)
        if key not in by_key:
            series.setdefault(key[:3], []).append(value.series)
        by_key.setdefault(key, {})[value.quarter] = value
    return Values(by_key, series)


def measured_quarters(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Quarters that hold any metric value."""
    return [str(row["quarter"]) for row in rows(con, "SELECT DISTINCT quarter FROM metric_values ORDER BY quarter")]


def read_services(con: duckdb.DuckDBPyConnection) -> list[ServiceEntry]:
    """The catalog's services by name."""
    found = rows(con, "SELECT service, team, tier, repository FROM services ORDER BY service")
    return [ServiceEntry(row["service"], row["team"], row["tier"], row["repository"]) for row in found]


def _counts(text: str | None) -> dict[str, int]:
    """The excluded rows by reason, from their JSON text."""
    if not text:
        return {}
    value = json.loads(text)
    return {str(key): int(count) for key, count in sorted(value.items())} if isinstance(value, dict) else {}


def _text_list(value: Any) -> str | None:
    """Text as it is, a list joined by commas."""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or None
    return None if value is None else str(value) or None
