"""Everything that a pack says, read once from the published database and handed to the pages."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from analytics.errors import PackError
from analytics.periods import Quarter
from analytics.settings import Settings
from reports.coverage import DataQuality, read_data_quality
from reports.evidence import (
    FailedDeployment,
    OpenIncident,
    Pipeline,
    Quantile,
    SlowChange,
    read_deployments_by_day,
    read_failed_deployments,
    read_incidents_by_day,
    read_kinds,
    read_lead_lower_quartiles,
    read_open_incidents,
    read_pipelines,
    read_slowest_changes,
    read_stages,
    read_team_lower_quartiles,
    read_weekly_lead,
)
from reports.provenance import Provenance, read_provenance
from reports.published import (
    Definition,
    MetricValue,
    ServiceEntry,
    Values,
    group_values,
    measured_quarters,
    open_published,
    read_definitions,
    read_services,
    read_snapshot,
    read_values,
)
from reports.restated import Restatement, read_restatements
from reports.scorecard import LEADING, Periods

QUARTERS_SHOWN = 8
WEEKS_QUARTERS = 4
SLOWEST_PER_SERVICE = 10


@dataclass(frozen=True)
class Contents:
    """One quarter of an organisation, ready to be shown; days are local, `end` is the day after the last."""

    settings: Settings
    periods: Periods
    first_day: date
    end_day: date
    snapshot: Mapping[str, str]
    definitions: Mapping[str, Definition]
    all_values: Sequence[MetricValue]
    values: Values
    services: Sequence[ServiceEntry]
    quality: DataQuality
    lower_quartiles: Mapping[tuple[str | None, str], Quantile]
    team_lower_quartiles: Mapping[tuple[str, str], Quantile]
    stages: Mapping[tuple[str, str], Quantile]
    deployments_by_day: Mapping[date, int]
    incidents_by_day: Mapping[date, int]
    weekly_lead: Mapping[date, Quantile]
    weeks_from: date
    weeks_end: date
    kinds: Mapping[str, Mapping[str, int]]
    slowest: Mapping[str, Sequence[SlowChange]]
    failed: Sequence[FailedDeployment]
    open_incidents: Sequence[OpenIncident]
    pipelines: Sequence[Pipeline]
    provenance: Provenance
    restatements: Sequence[Restatement]

    @property
    def definitions_version(self) -> str:
        """The snapshot's own, else a digest of every metric's name, version and text."""
        recorded = self.snapshot.get("definitions_version")
        if recorded:
            return recorded
        texts = sorted(f"{one.metric}@{one.version} {one.definition}" for one in self.definitions.values())
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]

    @property
    def organization(self) -> tuple[str, str]:
        """Scope and name of the organisation's values."""
        return "organization", self.settings.organization

    @property
    def teams(self) -> Mapping[str, list[str]]:
        """Services by team, in the catalog's order; services without a team belong to none."""
        teams: dict[str, list[str]] = defaultdict(list)
        for service in self.services:
            if service.team:
                teams[service.team].append(service.service)
        return dict(sorted(teams.items()))

    def failed_of(self) -> Mapping[str, list[FailedDeployment]]:
        """Failed deployments by service."""
        by_service: dict[str, list[FailedDeployment]] = defaultdict(list)
        for deployment in self.failed:
            by_service[deployment.service].append(deployment)
        return by_service

    def open_incidents_of(self) -> Mapping[str, list[OpenIncident]]:
        """Open incidents by service."""
        by_service: dict[str, list[OpenIncident]] = defaultdict(list)
        for incident in self.open_incidents:
            by_service[incident.service].append(incident)
        return by_service


def read_contents(settings: Settings, quarter: Quarter) -> Contents:
    """Read a quarter; raises PackError when it was not measured or the database is missing or of another version."""
    periods = Periods.of(quarter, QUARTERS_SHOWN)
    first, end = settings.calendar.days(quarter)
    with open_published(settings) as con:
        measured = measured_quarters(con)
        if periods.quarter not in measured:
            raise PackError(
                f"no metric values for {periods.quarter}; measured: {', '.join(measured) or 'none'}",
                where=str(settings.published_path),
                fix=f"Run `quarterdeck measure --quarter {periods.quarter}`.",
            )
        all_values = read_values(con, periods.shown)
        organization = [
            value for value in all_values if value.scope == "organization" and value.quarter == periods.quarter
        ]
        year_start, _ = settings.calendar.days(quarter.plus(1 - WEEKS_QUARTERS))
        covered_to = max((value.covered_to for value in organization if value.covered_to), default=end)
        weeks_end = min(end, covered_to)
        by_day = read_deployments_by_day(con, year_start, weeks_end)
        return Contents(
            settings=settings,
            periods=periods,
            first_day=first,
            end_day=end,
            snapshot=read_snapshot(con),
            definitions=read_definitions(con),
            all_values=all_values,
            values=group_values(all_values),
            services=read_services(con),
            quality=read_data_quality(con, first, end, [value for value in organization if value.metric in LEADING]),
            lower_quartiles=read_lead_lower_quartiles(con, periods.shown),
            team_lower_quartiles=read_team_lower_quartiles(con, periods.shown),
            stages=read_stages(con, (periods.last_year, periods.last_quarter, periods.quarter)),
            deployments_by_day=by_day,
            incidents_by_day=read_incidents_by_day(con, year_start, weeks_end),
            weekly_lead=read_weekly_lead(con, year_start, weeks_end),
            # Weeks before the first known deployment are not known to be empty.
            weeks_from=max(year_start, min(by_day, default=year_start)),
            weeks_end=weeks_end,
            kinds=read_kinds(con, first, end),
            slowest=read_slowest_changes(con, first, end, SLOWEST_PER_SERVICE),
            failed=read_failed_deployments(con, first, end),
            open_incidents=read_open_incidents(con, end),
            pipelines=read_pipelines(con, first, end),
            provenance=read_provenance(con, periods.shown, first, end, weeks_end, settings.calendar.zone),
            restatements=read_restatements(con, periods.quarter, first, settings.calendar.zone),
        )
