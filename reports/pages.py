"""The pages of a pack: which rows and charts stand on each, for the three editions and the lists behind them.

The overview is the leadership edition, `security.html` that of security, and each team has its own page: one set of
components in another order. Source: reports.md section 1, items 1 to 19, 21, 26 and 27.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analytics.statistics import MIN_N_MEDIAN
from reports import formats
from reports.annex import ANNEX_FILES, DICTIONARY
from reports.chart_parts import Chart
from reports.charts import LeadQuarter, lead_time_chart, rate_chart, stages_chart
from reports.comparison_charts import FunnelPoint, funnel_chart, pipelines_chart, place_in_funnel
from reports.contents import Contents
from reports.coverage import QUARANTINE_SHOWN
from reports.decisions import Decision, choose_decisions, security_points, team_points
from reports.evidence import ORGANIZATION, Quantile, slowest_overall
from reports.findings_data import evidence_words, findings_script
from reports.main_points import Point, choose_main_points
from reports.provenance import FindingRow
from reports.provenance_charts import coverage_chart
from reports.published import ServiceEntry
from reports.rendering import Rendering, day_before
from reports.restated import RESTATED_SHOWN, Restatement
from reports.scorecard import Scorecard, make_scorecard
from reports.weekly_charts import full_weeks, incidents_chart, lead_weeks_chart, weekly_chart

SERVICES_PER_PAGE = 100
FINDINGS_PER_PAGE = 50
FINDINGS_SHOWN = 15
FINDINGS_OF_A_SERVICE = 10
FAILED_SHOWN = 50
FAILED_SHOWN_PER_SERVICE = 25
INCIDENTS_SHOWN = 50
PIPELINES_SHOWN = 30
SLOWEST_SHOWN = 10

PIPELINE_METRICS = ("pipeline_", "queue_", "runner_")


@dataclass(frozen=True)
class ServiceLine:
    """One service in the table of services."""

    service: ServiceEntry
    page: str
    deployments: str
    lead_time: formats.Shown | None
    fail_rate: formats.Shown | None
    position: str


@dataclass(frozen=True)
class RestatedLine:
    """A restatement in words."""

    row: Restatement
    title: str
    before: str
    after: str


@dataclass(frozen=True)
class Edition:
    """One audience's pages: what its screen and its print have in common."""

    path: str
    title: str
    template: str
    context: Mapping[str, Any]
    charts: Sequence[Chart]


class Pages:
    """Renders every page of one pack."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.rendering = Rendering(contents)
        self.page_of = self.rendering.page_of

    def render(self) -> Iterator[tuple[str, str]]:
        """Every page, and the script with the findings, as path and text, markers still in it."""
        contents = self.contents
        page = self.rendering.page
        for edition in self.editions:
            yield page(edition.path, edition.title, edition.template, charts=edition.charts, **edition.context)
        yield from self._findings()
        yield page("measures.html", "Companion measures", rows=self.card.companions)
        yield page("teams.html", "Teams", teams=self._team_lines())
        yield from self._services()
        yield page("pipelines.html", "Pipelines", **self._pipelines())
        yield page("outliers.html", "Outliers", **self._outliers())
        yield page("changes.html", "Restatements and changes", **self._changes())
        yield page("quality.html", "Data quality", quality=contents.quality, quarantine_shown=QUARANTINE_SHOWN)
        yield page("definitions.html", "Definitions", dictionary=DICTIONARY, annex_files=ANNEX_FILES)
        yield page("benchmarks.html", "Appendix: benchmarks")
        yield from self._service_pages()

    # --- editions ----------------------------------------------------------------------------------------------------

    @cached_property
    def editions(self) -> list[Edition]:
        """Leadership, security, and one for each team."""
        return [self.leadership, self._security(), *(self._team(team) for team in self.contents.teams)]

    @cached_property
    def card(self) -> Scorecard:
        """The organisation's scorecard."""
        return self.scorecard(*self.contents.organization)

    def scorecard(self, scope: str, name: str) -> Scorecard:
        """The scorecard of the organisation, a team or a service."""
        contents = self.contents
        return make_scorecard(
            contents.values, contents.definitions, scope, name, contents.periods, contents.settings.targets
        )

    @cached_property
    def points(self) -> list[Point]:
        """The main points of the organisation."""
        contents = self.contents
        return choose_main_points(
            self.card.leading,
            contents.values,
            contents.definitions,
            contents.organization,
            contents.periods,
            contents.quality,
            sum(1 for failed in contents.failed if failed.recovery_open),
            contents.open_incidents,
        )

    @cached_property
    def decisions(self) -> list[Decision]:
        """What leadership is asked."""
        contents = self.contents
        next_quarter = contents.settings.calendar.quarter_of_day(contents.end_day)
        return choose_decisions(
            self.card.leading,
            contents.provenance,
            list(self._placed.values()),
            contents.pipelines,
            day_before(contents.settings.calendar.days(next_quarter)[1]),
        )

    @cached_property
    def leadership(self) -> Edition:
        """Main points, decisions, scorecard and the charts of the organisation."""
        contents = self.contents
        weeks_from, weeks_end = contents.weeks_from, contents.weeks_end
        quarters = (
            (contents.periods.last_year, contents.periods.last_year),
            (contents.periods.last_quarter, contents.periods.last_quarter),
            (contents.periods.quarter, contents.periods.quarter),
        )
        whose = contents.settings.organization
        charts = _drawn(
            *self._time_charts(contents.organization, contents.lower_quartiles, ORGANIZATION),
            stages_chart("stages", contents.stages, quarters),
            weekly_chart("weeks", full_weeks(contents.deployments_by_day, weeks_from, weeks_end), whose),
            lead_weeks_chart("lead-weeks", contents.weekly_lead, weeks_from, weeks_end, whose),
            incidents_chart("incident-weeks", full_weeks(contents.incidents_by_day, weeks_from, weeks_end), whose),
        )
        return Edition(
            "index.html",
            "Overview",
            "index.html",
            {"card": self.card, "points": self.points, "decisions": self.decisions},
            charts,
        )

    def _security(self) -> Edition:
        contents = self.contents
        provenance = contents.provenance
        open_ones = provenance.of_state("open")
        metrics = ("policy_compliance_rate", "gate_false_positive_rate", "signature_", "provenance_", "sbom_")
        return Edition(
            "security.html",
            "Security",
            "security.html",
            {
                "provenance": provenance,
                "points": security_points(provenance, contents.periods.quarter),
                "rows": [row for row in self.card.leading if row.metric.startswith(metrics)],
                "worst": self._finding_lines(open_ones[:FINDINGS_SHOWN]),
                "open_total": len(open_ones),
                "covered": provenance.covered_in(contents.periods.quarter),
            },
            _drawn(
                coverage_chart(
                    "coverage",
                    provenance.coverage,
                    provenance.coverage_kinds,
                    contents.periods.shown,
                    contents.settings.organization,
                )
            ),
        )

    def _team(self, team: str) -> Edition:
        contents = self.contents
        services = contents.teams[team]
        card = self.scorecard("team", team)
        findings = contents.provenance.of_services(services)
        still_open = [one for one in findings if one.state == "open"]
        failed = [one for one in contents.failed if one.service in services]
        incidents = [one for one in contents.open_incidents if one.service in services]
        slowest = slowest_overall({name: contents.slowest.get(name, []) for name in services}, SLOWEST_SHOWN)
        return Edition(
            f"teams/{self.rendering.team_page_of[team]}",
            team,
            "team.html",
            {
                "team": team,
                "card": card,
                "points": team_points(card.leading, findings, len(incidents)),
                "lines": [self._service_line(one) for one in contents.services if one.team == team],
                "failed": failed[:FAILED_SHOWN_PER_SERVICE],
                "failed_total": len(failed),
                "incidents": incidents[:INCIDENTS_SHOWN],
                "incidents_total": len(incidents),
                "slowest": slowest,
                "findings": self._finding_lines(still_open[:FINDINGS_SHOWN]),
                "findings_total": len(still_open),
            },
            _drawn(*self._time_charts(("team", team), contents.team_lower_quartiles, team)),
        )

    def _time_charts(
        self, scope: tuple[str, str], quartiles: Mapping[Any, Quantile], whose: str | None
    ) -> list[Chart | None]:
        """Lead time and change fail rate over the quarters shown; lower quartiles are by (whose, quarter)."""
        contents = self.contents
        values, quarters = contents.values, contents.periods.shown
        lead = [
            LeadQuarter(
                quarter,
                values.get(*scope, "change_lead_time", quarter),
                quartiles.get((whose, quarter)),
                values.get(*scope, "change_lead_time_p75", quarter),
                values.get(*scope, "change_lead_time_p95", quarter),
            )
            for quarter in quarters
        ]
        charts = [lead_time_chart("lead-time", lead, contents.definitions, scope[1])]
        definition = contents.definitions.get("change_fail_rate")
        if definition is not None:
            history = values.history(*scope, "change_fail_rate")
            charts.append(
                rate_chart(
                    "fail-rate",
                    definition.title,
                    [(quarter, history.get(quarter)) for quarter in quarters],
                    definition,
                    contents.settings.targets.get("change_fail_rate"),
                    scope[1],
                )
            )
        return charts

    # --- findings ----------------------------------------------------------------------------------------------------

    def _finding_lines(self, findings: Sequence[FindingRow]) -> list[tuple[FindingRow, str]]:
        """Findings with their evidence in words."""
        return [(one, evidence_words(one)) for one in findings]

    def _findings(self) -> Iterator[tuple[str, str]]:
        findings = self.contents.provenance.findings
        chunks = [findings[at : at + FINDINGS_PER_PAGE] for at in range(0, len(findings), FINDINGS_PER_PAGE)] or [[]]
        names = ["findings.html", *(f"findings/{number}.html" for number in range(2, len(chunks) + 1))]
        for number, (name, chunk) in enumerate(zip(names, chunks, strict=True)):
            around = {"first": 0, "previous": number - 1, "next": number + 1, "last": len(names) - 1}
            yield self.rendering.page(
                name,
                "Findings" if number == 0 else f"Findings, part {number + 1}",
                template="findings.html",
                lines=self._finding_lines(chunk),
                total=len(findings),
                from_number=number * FINDINGS_PER_PAGE + 1,
                to_number=number * FINDINGS_PER_PAGE + len(chunk),
                steps=[(words, names[to]) for words, to in around.items() if 0 <= to < len(names) and to != number],
                provenance=self.contents.provenance,
            )
        pages = {name: f"services/{page}" for name, page in self.page_of.items()}
        yield "findings-data.js", findings_script(findings, pages)

    # --- services and teams ------------------------------------------------------------------------------------------

    @cached_property
    def _funnel(self) -> tuple[float, list[FunnelPoint], int] | None:
        """The pooled rate, the services placed around it, and how many were too small to place."""
        contents = self.contents
        counts = []
        for service in contents.services:
            rate = contents.values.get("service", service.service, "change_fail_rate", contents.periods.quarter)
            if rate and rate.value is not None and rate.numerator is not None and rate.denominator:
                counts.append((service.service, int(rate.numerator), int(rate.denominator)))
        placed = place_in_funnel(counts)
        return (*placed, len(counts) - len(placed[1])) if placed else None

    @cached_property
    def _placed(self) -> dict[str, FunnelPoint]:
        return {point.service: point for point in self._funnel[1]} if self._funnel else {}

    @cached_property
    def funnel(self) -> Chart | None:
        """All services against chance; None with fewer than two of enough deployments."""
        if self._funnel is None:
            return None
        pooled, points, left_out = self._funnel
        return funnel_chart("funnel", pooled, points, left_out=left_out)

    def _services(self) -> Iterator[tuple[str, str]]:
        lines = [self._service_line(service) for service in self.contents.services]
        parts = [lines[at : at + SERVICES_PER_PAGE] for at in range(0, len(lines), SERVICES_PER_PAGE)] or [[]]
        names = ["services.html", *(f"services-{number}.html" for number in range(2, len(parts) + 1))]
        for number, (name, part) in enumerate(zip(names, parts, strict=True), start=1):
            yield self.rendering.page(
                name,
                "Services" if number == 1 else f"Services, part {number}",
                template="services.html",
                lines=part,
                chart_of_page=self.funnel if number == 1 else None,
                parts=[
                    (other, f"{p[0].service.service} to {p[-1].service.service}")
                    for other, p in zip(names, parts, strict=True)
                    if p
                ],
                total=len(lines),
            )

    def _service_line(self, service: ServiceEntry) -> ServiceLine:
        contents = self.contents
        point = self._placed.get(service.service)

        def shown(metric: str) -> formats.Shown | None:
            definition = contents.definitions.get(metric)
            value = contents.values.get("service", service.service, metric, contents.periods.quarter)
            return formats.show(value, definition) if definition else None

        rate = contents.values.get("service", service.service, "change_fail_rate", contents.periods.quarter)
        if point is not None:
            position = point.position
        elif rate is not None and rate.denominator:
            position = f"fewer than {MIN_N_MEDIAN} deployments"
        else:
            position = "not placed"
        return ServiceLine(
            service,
            f"services/{self.page_of[service.service]}",
            formats.number(sum(contents.kinds.get(service.service, {}).values())),
            shown("change_lead_time"),
            shown("change_fail_rate"),
            position,
        )

    def _team_lines(self) -> list[tuple[str, int, str, int]]:
        """Team, services, deployments, open findings; by name, because a ranking would mostly sort luck."""
        contents = self.contents
        return [
            (
                team,
                len(services),
                formats.number(sum(sum(contents.kinds.get(name, {}).values()) for name in services)),
                sum(1 for one in contents.provenance.of_services(services) if one.state == "open"),
            )
            for team, services in contents.teams.items()
        ]

    def _service_pages(self) -> Iterator[tuple[str, str]]:
        contents = self.contents
        failed, incidents = contents.failed_of(), contents.open_incidents_of()
        findings: dict[str, list[FindingRow]] = {}
        for one in contents.provenance.findings:
            if one.service is not None and one.state == "open":
                findings.setdefault(one.service, []).append(one)
        for service in contents.services:
            name = service.service
            yield self.rendering.page(
                f"services/{self.page_of[name]}",
                name,
                template="service.html",
                service=service,
                card=self.scorecard("service", name),
                charts=_drawn(*self._time_charts(("service", name), contents.lower_quartiles, name)),
                kinds=contents.kinds.get(name, {}),
                failed=failed.get(name, [])[:FAILED_SHOWN_PER_SERVICE],
                failed_total=len(failed.get(name, [])),
                incidents=incidents.get(name, [])[:INCIDENTS_SHOWN],
                incidents_total=len(incidents.get(name, [])),
                slowest=contents.slowest.get(name, []),
                findings=self._finding_lines(findings.get(name, [])[:FINDINGS_OF_A_SERVICE]),
                findings_total=len(findings.get(name, [])),
            )

    # --- lists behind the figures ------------------------------------------------------------------------------------

    def _pipelines(self) -> dict[str, Any]:
        pipelines = self.contents.pipelines
        everything = (*self.card.leading, *self.card.companions)
        chosen = [row for row in everything if row.metric.startswith(PIPELINE_METRICS)]
        return {
            "rows": chosen,
            "chart_of_page": pipelines_chart("pipelines", pipelines),
            "pipelines": pipelines[:PIPELINES_SHOWN],
            "total": len(pipelines),
        }

    def _outliers(self) -> dict[str, Any]:
        contents = self.contents
        return {
            "failed": contents.failed[:FAILED_SHOWN],
            "failed_total": len(contents.failed),
            "incidents": contents.open_incidents[:INCIDENTS_SHOWN],
            "incidents_total": len(contents.open_incidents),
            "slowest": slowest_overall(contents.slowest, SLOWEST_SHOWN),
        }

    def _changes(self) -> dict[str, Any]:
        contents = self.contents
        lines = []
        for row in contents.restatements[:RESTATED_SHOWN]:
            definition = contents.definitions.get(row.metric)

            def said(value: float | None, n: int | None, definition: Any = definition) -> str:
                if value is None:
                    return "undefined"
                words = formats.amount(value, definition) if definition else formats.number(value, 2)
                return f"{words} (n = {formats.number(n)})" if n is not None else words

            lines.append(
                RestatedLine(
                    row,
                    definition.title if definition else row.metric,
                    said(row.old_value, row.old_n),
                    said(row.new_value, row.new_n),
                )
            )
        return {"lines": lines, "total": len(contents.restatements)}


def _drawn(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]
