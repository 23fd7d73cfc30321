"""The rows behind a pack's charts and lists: lead times, deployments, failures, incidents and pipelines.

Durations are hours unless a name says otherwise; each query covers all services at once. Tables: docs/architecture.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from reports.published import rows

ORGANIZATION = None
STAGES = ("coding", "pickup", "review", "merge", "deploy")

# The rows of the metric change_lead_time, series human.
_COUNTED_LEAD = "excluded IS NULL AND lead_us IS NOT NULL AND NOT coalesce(is_bot, false)"
_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Quantile:
    """A quantile with the observations behind it."""

    hours: float
    n: int


@dataclass(frozen=True)
class SlowChange:
    """A change that waited long, by its commit and the deployment that brought it."""

    service: str
    repository: str
    sha: str
    pull_request: int | None
    deployment_key: str
    finished_at: datetime
    hours: float


@dataclass(frozen=True)
class FailureLink:
    """One piece of evidence that a deployment failed."""

    method: str
    confidence: str | None
    evidence: str | None
    incident_key: str | None


@dataclass(frozen=True)
class FailedDeployment:
    """A deployment of the quarter that is marked failed."""

    service: str
    deployment_key: str
    finished_at: datetime | None
    kind: str | None
    method: str | None
    evidence: str | None
    recovery_hours: float | None
    recovery_open: bool
    recovery_excluded: str | None
    links: tuple[FailureLink, ...] = ()


@dataclass(frozen=True)
class OpenIncident:
    """An incident without an end at the cut-off."""

    service: str
    incident_key: str
    title: str | None
    severity: str | None
    opened_at: datetime
    linked: bool
    url: str | None


@dataclass(frozen=True)
class Pipeline:
    """A workflow's quarter: run attempts, and hours that brought nothing."""

    repository: str
    workflow: str
    runs: int
    attempts: int
    counted: int
    failed: int
    flaky_runs: int
    failed_hours: float
    retried_hours: float
    queue_hours: float

    @property
    def lost_hours(self) -> float:
        """Hours of failed attempts, of attempts that passed on a retry, and of waiting for a runner."""
        return self.failed_hours + self.retried_hours + self.queue_hours


def read_lead_lower_quartiles(
    con: duckdb.DuckDBPyConnection, quarters: Sequence[str]
) -> dict[tuple[str | None, str], Quantile]:
    """Lower quartile of the change lead time by (service, quarter); service None is the organisation."""
    marks = ", ".join("?" for _ in quarters)
    found = rows(
        con,
        "SELECT lead.service AS service, calendar.quarter AS quarter, grouping(lead.service) AS pooled, "
        f"quantile_cont(lead.lead_us, 0.25) / {_HOUR_US}.0e0 AS hours, count(*) AS n "
        "FROM change_lead AS lead JOIN calendar ON calendar.day = lead.day "
        f"WHERE {_COUNTED_LEAD} AND calendar.quarter IN ({marks}) "
        "GROUP BY GROUPING SETS ((lead.service, calendar.quarter), (calendar.quarter))",
        quarters,
    )
    return {
        (ORGANIZATION if row["pooled"] else row["service"], row["quarter"]): Quantile(row["hours"], row["n"])
        for row in found
    }


def read_team_lower_quartiles(
    con: duckdb.DuckDBPyConnection, quarters: Sequence[str]
) -> dict[tuple[str, str], Quantile]:
    """Lower quartile of the change lead time by (team, quarter), over the team's services together."""
    marks = ", ".join("?" for _ in quarters)
    found = rows(
        con,
        f"SELECT team, calendar.quarter AS quarter, quantile_cont(lead.lead_us, 0.25) / {_HOUR_US}.0e0 AS hours, "
        "count(*) AS n FROM change_lead AS lead JOIN calendar ON calendar.day = lead.day "
        "JOIN services ON services.service = lead.service "
        f"WHERE {_COUNTED_LEAD} AND calendar.quarter IN ({marks}) AND team IS NOT NULL GROUP BY ALL",
        quarters,
    )
    return {(row["team"], row["quarter"]): Quantile(row["hours"], row["n"]) for row in found}


def read_stages(con: duckdb.DuckDBPyConnection, quarters: Sequence[str]) -> dict[tuple[str, str], Quantile]:
    """Median hours of each lead-time stage by (quarter, stage), over all services' counted changes."""
    medians = ", ".join(
        f"median({stage}_us) / {_HOUR_US}.0e0 AS {stage}, count({stage}_us) AS n_{stage}" for stage in STAGES
    )
    marks = ", ".join("?" for _ in quarters)
    found = rows(
        con,
        f"SELECT calendar.quarter AS quarter, {medians} FROM change_lead AS lead "
        "JOIN calendar ON calendar.day = lead.day "
        f"WHERE {_COUNTED_LEAD} AND calendar.quarter IN ({marks}) GROUP BY calendar.quarter",
        quarters,
    )
    return {
        (row["quarter"], stage): Quantile(row[stage], row[f"n_{stage}"])
        for row in found
        for stage in STAGES
        if row[stage] is not None
    }


def read_deployments_by_day(con: duckdb.DuckDBPyConnection, first: date, end: date) -> dict[date, int]:
    """Successful production deployments of all services per local day of ``[first, end)``."""
    found = rows(
        con,
        "SELECT day, count(*) AS deployments FROM service_deployments "
        "WHERE outcome = 'success' AND day >= ? AND day < ? GROUP BY day",
        (first, end),
    )
    return {row["day"]: row["deployments"] for row in found}


def read_incidents_by_day(con: duckdb.DuckDBPyConnection, first: date, end: date) -> dict[date, int]:
    """Incidents of all services per local day on which they were opened, in ``[first, end)``."""
    found = rows(
        con,
        "SELECT opened_day, count(*) AS incidents FROM service_incidents "
        "WHERE opened_day >= ? AND opened_day < ? GROUP BY opened_day",
        (first, end),
    )
    return {row["opened_day"]: row["incidents"] for row in found}


def read_weekly_lead(con: duckdb.DuckDBPyConnection, first: date, end: date) -> dict[date, Quantile]:
    """Median change lead time of every ISO week inside ``[first, end)``, by its Monday, over all services."""
    found = rows(
        con,
        f"SELECT date_trunc('week', day)::DATE AS monday, median(lead_us) / {_HOUR_US}.0e0 AS hours, count(*) AS n "
        f"FROM change_lead WHERE {_COUNTED_LEAD} AND day >= ? AND day < ? GROUP BY 1",
        (first, end),
    )
    return {row["monday"]: Quantile(row["hours"], row["n"]) for row in found}


def read_kinds(con: duckdb.DuckDBPyConnection, first: date, end: date) -> dict[str, dict[str, int]]:
    """Successful production deployments per service and kind."""
    kinds: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows(
        con,
        "SELECT service, coalesce(kind, 'unknown') AS kind, count(*) AS deployments FROM service_deployments "
        "WHERE outcome = 'success' AND day >= ? AND day < ? GROUP BY ALL ORDER BY service, deployments DESC, kind",
        (first, end),
    ):
        kinds[row["service"]][row["kind"]] = row["deployments"]
    return kinds


def read_slowest_changes(
    con: duckdb.DuckDBPyConnection, first: date, end: date, per_service: int
) -> dict[str, list[SlowChange]]:
    """The slowest counted changes of every service, slowest first."""
    found = rows(
        con,
        "SELECT service, repository, sha, pull_request, deployment_key, finished_at, "
        f"lead_us / {_HOUR_US}.0e0 AS hours FROM change_lead WHERE {_COUNTED_LEAD} AND day >= ? AND day < ? "
        "QUALIFY row_number() OVER (PARTITION BY service ORDER BY lead_us DESC, repository, sha, deployment_key) <= ? "
        "ORDER BY service, lead_us DESC, repository, sha, deployment_key",
        (first, end, per_service),
    )
    slowest: dict[str, list[SlowChange]] = defaultdict(list)
    for row in found:
        slowest[row["service"]].append(SlowChange(**row))
    return slowest


def read_failed_deployments(con: duckdb.DuckDBPyConnection, first: date, end: date) -> list[FailedDeployment]:
    """Failed deployments of a quarter with every counted link, newest first."""
    links: dict[tuple[str, str], list[FailureLink]] = defaultdict(list)
    for row in rows(
        con,
        "SELECT service, deployment_key, method, confidence, evidence, incident_key FROM failure_links "
        "WHERE coalesce(counted, true) AND deployment_key IN "
        "(SELECT deployment_key FROM service_deployments WHERE failed AND day >= ? AND day < ?) "
        "ORDER BY service, deployment_key, evidence_at, method, incident_key, evidence",
        (first, end),
    ):
        links[row["service"], row["deployment_key"]].append(
            FailureLink(row["method"], row["confidence"], row["evidence"], row["incident_key"])
        )
    found = rows(
        con,
        "SELECT service, deployment_key, coalesce(finished_at, created_at) AS finished_at, kind, "
        "failure_method AS method, failure_evidence AS evidence, "
        f"recovery_us / {_HOUR_US}.0e0 AS recovery_hours, coalesce(recovery_open, false) AS recovery_open, "
        "recovery_excluded FROM service_deployments "
        "WHERE failed AND day >= ? AND day < ? ORDER BY 3 DESC, service, deployment_key",
        (first, end),
    )
    return [FailedDeployment(**row, links=tuple(links[row["service"], row["deployment_key"]])) for row in found]


def read_open_incidents(con: duckdb.DuckDBPyConnection, end: date) -> list[OpenIncident]:
    """Incidents opened before a quarter's end and not ended at the cut-off, oldest first."""
    found = rows(
        con,
        "SELECT service, incident_key, title, severity, opened_at, coalesce(linked, false) AS linked, url "
        "FROM service_incidents WHERE ended_at IS NULL AND restored_at IS NULL AND opened_day < ? "
        "ORDER BY opened_at, service, incident_key",
        (end,),
    )
    return [OpenIncident(**{**row, "service": row["service"] or "no service"}) for row in found]


def read_pipelines(con: duckdb.DuckDBPyConnection, first: date, end: date) -> list[Pipeline]:
    """Workflows by hours lost, most first.

    A failed attempt's hours count as retried when a later attempt of its run passed, else as failed; queue is waiting
    for a runner.
    """
    found = rows(
        con,
        "WITH queued AS ("
        "  SELECT repository, run_id, attempt, sum(queue_us) AS queue_us FROM job_times "
        "  WHERE day >= ? AND day < ? AND NOT coalesce(carried_over, false) GROUP BY ALL"
        "), passed AS ("
        "  SELECT DISTINCT repository, run_id, true AS passed FROM run_attempts WHERE run_succeeded AND attempt > 1"
        ") SELECT repository, workflow, count(*) FILTER (is_first) AS runs, count(*) AS attempts, "
        "count(*) FILTER (counted) AS counted, count(*) FILTER (counted AND NOT succeeded) AS failed, "
        "count(*) FILTER (flaky) AS flaky_runs, "
        f"coalesce(sum(lost_us) FILTER (passed IS NULL), 0) / {_HOUR_US}.0e0 AS failed_hours, "
        f"coalesce(sum(lost_us) FILTER (passed), 0) / {_HOUR_US}.0e0 AS retried_hours, "
        f"coalesce(sum(queue_us), 0) / {_HOUR_US}.0e0 AS queue_hours "
        "FROM run_attempts LEFT JOIN queued USING (repository, run_id, attempt) "
        "LEFT JOIN passed USING (repository, run_id) "
        "WHERE day >= ? AND day < ? GROUP BY repository, workflow",
        (first, end, first, end),
    )
    pipelines = [Pipeline(**row) for row in found]
    return sorted(pipelines, key=lambda one: (-one.lost_hours, one.repository, one.workflow))


def slowest_overall(slowest: Mapping[str, Sequence[SlowChange]], limit: int) -> list[SlowChange]:
    """The slowest changes of all services, given each service's own."""
    everything = [change for changes in slowest.values() for change in changes]
    return sorted(everything, key=lambda one: (-one.hours, one.service, one.repository, one.sha))[:limit]
