"""What a pack says about its data: what was collected, refused, left out, and how much could be connected.

Shares of coverage are a census: they have no interval. Source: reports.md sections 1 (item 16) and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from reports.published import MetricValue, rows

QUARANTINE_SHOWN = 100


@dataclass(frozen=True)
class Collected:
    """What one source offered of one entity; `complete` is None where the source cannot tell."""

    source: str
    entity: str
    first_at: datetime | None
    last_at: datetime | None
    items: int
    quarantined: int
    complete: bool | None


@dataclass(frozen=True)
class Complete:
    """How many records of a quarter landed, of those its source says it has."""

    source: str
    entity: str
    quarter: str
    landed: int
    expected: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.landed / self.expected


@dataclass(frozen=True)
class Refused:
    """One record in quarantine."""

    source: str
    entity: str
    origin: str | None
    line: int | None
    reason: str
    detail: str | None


@dataclass(frozen=True)
class Undeclared:
    """Something that arrived under a name that nobody declared."""

    kind: str
    name: str
    detail: str | None
    rows: int


@dataclass(frozen=True)
class Share:
    """How much of something is covered, k of n."""

    check: str
    covered: int
    of: int
    meaning: str


@dataclass(frozen=True)
class LeftOut:
    """Rows that a metric of the organisation left out, by reason, most first."""

    metric: str
    reasons: list[tuple[str, int]]


@dataclass(frozen=True)
class DataQuality:
    """Everything on the data-quality page."""

    collected: list[Collected]
    completeness: list[Complete]
    refused: list[Refused]
    refused_by_reason: list[tuple[str, str, str, int]]
    undeclared: list[Undeclared]
    shares: list[Share]
    unlinked: list[tuple[str, int]]
    warnings: list[tuple[str, int]]
    left_out: list[LeftOut]

    @property
    def refused_total(self) -> int:
        """All records in quarantine, shown or not."""
        return sum(count for *_, count in self.refused_by_reason)

    def share(self, check: str) -> Share | None:
        """One coverage share by its name."""
        return next((share for share in self.shares if share.check == check), None)


RESOLVED = "Deployments whose revision is in the known history"
FINISH_KNOWN = "Deployments with a known finish"
LINKED = "Incidents linked to a deployment"
QUEUE_KNOWN = "Pipeline jobs with a queue time"


def read_data_quality(
    con: duckdb.DuckDBPyConnection, first: date, end: date, organization: list[MetricValue]
) -> DataQuality:
    """Collection and quarantine of all time, coverage of the local days ``[first, end)``."""
    return DataQuality(
        collected=[
            Collected(**row)
            for row in rows(
                con,
                "SELECT source, entity, first_at, last_at, coalesce(items, 0) AS items, "
                "coalesce(quarantined, 0) AS quarantined, complete FROM collection ORDER BY source, entity",
            )
        ],
        completeness=[
            Complete(**row)
            for row in rows(
                con,
                "SELECT source, entity, quarter, landed, expected FROM completeness WHERE expected > 0 "
                "ORDER BY source, entity, quarter",
            )
        ],
        refused=[
            Refused(**row)
            for row in rows(
                con,
                "SELECT source, entity, origin, line, reason, detail FROM quarantine "
                "ORDER BY source, entity, origin, line, reason, detail LIMIT ?",
                (QUARANTINE_SHOWN,),
            )
        ],
        refused_by_reason=[
            (row["source"], row["entity"], row["reason"], row["records"])
            for row in rows(
                con,
                "SELECT source, entity, reason, count(*) AS records FROM quarantine "
                "GROUP BY ALL ORDER BY source, entity, reason",
            )
        ],
        undeclared=[
            Undeclared(**row)
            for row in rows(
                con,
                "SELECT kind, name, detail, coalesce(rows, 0) AS rows FROM unmapped ORDER BY kind, name, detail",
            )
        ],
        shares=_shares(con, first, end),
        unlinked=[
            (row["reason"], row["incidents"])
            for row in rows(
                con,
                "SELECT coalesce(unlinked_reason, 'no reason recorded') AS reason, count(*) AS incidents "
                "FROM service_incidents WHERE NOT coalesce(linked, false) AND opened_day >= ? AND opened_day < ? "
                "GROUP BY ALL ORDER BY incidents DESC, reason",
                (first, end),
            )
        ],
        warnings=[
            (row["warning"], row["deployments"])
            for row in rows(
                con,
                "SELECT warning, count(*) AS deployments FROM service_deployments "
                "WHERE warning IS NOT NULL AND day >= ? AND day < ? GROUP BY ALL ORDER BY deployments DESC, warning",
                (first, end),
            )
        ],
        left_out=[
            LeftOut(value.metric, sorted(value.excluded.items(), key=lambda pair: (-pair[1], pair[0])))
            for value in organization
            if value.is_headline and value.excluded
        ],
    )


def _shares(con: duckdb.DuckDBPyConnection, first: date, end: date) -> list[Share]:
    deployments = rows(
        con,
        "SELECT count(*) FILTER (coalesce(resolved, false)) AS resolved, "
        "count(*) FILTER (NOT coalesce(finish_unknown, false)) AS finished, count(*) AS all_of "
        "FROM service_deployments WHERE outcome = 'success' AND day >= ? AND day < ?",
        (first, end),
    )[0]
    incidents = rows(
        con,
        "SELECT count(*) FILTER (coalesce(linked, false)) AS linked, count(*) AS all_of FROM service_incidents "
        "WHERE opened_day >= ? AND opened_day < ?",
        (first, end),
    )[0]
    jobs = rows(
        con,
        "SELECT count(queue_us) AS known, count(*) AS all_of FROM job_times "
        "WHERE day >= ? AND day < ? AND NOT coalesce(carried_over, false)",
        (first, end),
    )[0]
    return [
        Share(
            RESOLVED,
            deployments["resolved"],
            deployments["all_of"],
            "The others count in the frequency and have no lead time.",
        ),
        Share(
            FINISH_KNOWN,
            deployments["finished"],
            deployments["all_of"],
            "The others are dated by their creation and have no durations.",
        ),
        Share(
            LINKED,
            incidents["linked"],
            incidents["all_of"],
            "The others count in the time to restore, not in the change fail rate.",
        ),
        Share(QUEUE_KNOWN, jobs["known"], jobs["all_of"], "The others are left out of the queue time."),
    ]
