"""The pages of a pack: each template with its rows and charts, autoescaped, without a clock or a random id.

What changes from run to run although the data did not (cut-off, snapshot, code version, revision) is written as a
marker, so that two packs can be compared without it; `stamp` puts the values in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analytics.statistics import MIN_N_MEDIAN
from reports import formats
from reports.annex import DICTIONARY
from reports.chart_parts import Chart
from reports.charts import LeadQuarter, full_weeks, lead_time_chart, rate_chart, stages_chart, weekly_chart
from reports.comparison_charts import FunnelPoint, funnel_chart, pipelines_chart, place_in_funnel
from reports.contents import Contents
from reports.coverage import QUARANTINE_SHOWN
from reports.evidence import ORGANIZATION, slowest_overall
from reports.links import page_names, safe_url
from reports.main_points import choose_main_points
from reports.published import ServiceEntry
from reports.scorecard import Scorecard, make_scorecard, measure_order
from reports.tables import printable

SERVICES_PER_PAGE = 100
FAILED_SHOWN = 50
FAILED_SHOWN_PER_SERVICE = 25
INCIDENTS_SHOWN = 50
PIPELINES_SHOWN = 30
SLOWEST_SHOWN = 10
LONGEST_TEXT = 200

PIPELINE_METRICS = ("pipeline_", "queue_", "runner_")
VOLATILE = ("cut_off", "snapshot_id", "code_version", "pack_name", "revision_note")

_HERE = Path(__file__).parent
# Private-use characters around a marker: no name in a feed looks like one by chance.
_MARKERS = {name: f"\ue0f0{name}\ue0f1" for name in VOLATILE}


def stamp(text: str, values: Mapping[str, str]) -> str:
    """Put the values of this run into a rendered page; they are escaped here."""
    for name, marker in _MARKERS.items():
        if marker in text:
            text = text.replace(marker, str(Markup.escape(values[name])))
    return text


@dataclass(frozen=True)
class ServiceLine:
    """One service in the table of services."""

    service: ServiceEntry
    page: str
    deployments: str
    lead_time: formats.Shown | None
    fail_rate: formats.Shown | None
    position: str


class Pages:
    """Renders every page of one pack."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.page_of = page_names(service.service for service in contents.services)
        self.environment = _environment(contents)

    def render(self) -> Iterator[tuple[str, str]]:
        """Every page as path and text, markers still in it."""
        contents = self.contents
        card = self.scorecard(*contents.organization)
        yield self._page("index.html", "Overview", card=card, **self.overview(card))
        yield from self._services()
        yield self._page("pipelines.html", "Pipelines", **self._pipelines(card))
        yield self._page("outliers.html", "Outliers", **self._outliers())
        yield self._page("quality.html", "Data quality", quality=contents.quality, quarantine_shown=QUARANTINE_SHOWN)
        yield self._page("definitions.html", "Definitions", dictionary=DICTIONARY)
        yield self._page("benchmarks.html", "Appendix: benchmarks")
        yield from self._service_pages()

    def _page(self, path: str, title: str, template: str | None = None, **context: Any) -> tuple[str, str]:
        text = self.environment.get_template(template or path).render(
            root="../" if "/" in path else "", path=path, page_title=title, **context
        )
        return path, text

    def scorecard(self, scope: str, name: str) -> Scorecard:
        """The scorecard of the organisation or of one service."""
        contents = self.contents
        return make_scorecard(
            contents.values, contents.definitions, scope, name, contents.periods, contents.settings.targets
        )

    def overview(self, card: Scorecard) -> dict[str, Any]:
        """Main points and charts of the first page."""
        contents = self.contents
        weeks = full_weeks(contents.deployments_by_day, contents.weeks_from, contents.weeks_end)
        quarters = (
            (contents.periods.last_year, contents.periods.last_year),
            (contents.periods.last_quarter, contents.periods.last_quarter),
            (contents.periods.quarter, contents.periods.quarter),
        )
        return {
            "points": choose_main_points(
                card.leading,
                contents.values,
                contents.definitions,
                contents.organization,
                contents.periods,
                contents.quality,
                sum(1 for failed in contents.failed if failed.recovery_open),
                contents.open_incidents,
            ),
            "charts": _drawn(
                *self._time_charts(contents.organization, ORGANIZATION),
                weekly_chart("weeks", weeks, contents.settings.organization),
                stages_chart("stages", contents.stages, quarters),
            ),
        }

    def _time_charts(self, scope: tuple[str, str], service: str | None) -> list[Chart | None]:
        """Lead time and change fail rate over the quarters shown."""
        contents = self.contents
        values, quarters = contents.values, contents.periods.shown
        lead = [
            LeadQuarter(
                quarter,
                values.get(*scope, "change_lead_time", quarter),
                contents.lower_quartiles.get((service, quarter)),
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

    def _services(self) -> Iterator[tuple[str, str]]:
        contents = self.contents
        counts = []
        for service in contents.services:
            rate = contents.values.get("service", service.service, "change_fail_rate", contents.periods.quarter)
            if rate and rate.value is not None and rate.numerator is not None and rate.denominator:
                counts.append((service.service, int(rate.numerator), int(rate.denominator)))
        placed = place_in_funnel(counts)
        points = {point.service: point for point in placed[1]} if placed else {}
        chart = funnel_chart("funnel", *placed, left_out=len(counts) - len(points)) if placed else None
        lines = [self._service_line(service, points.get(service.service)) for service in contents.services]
        parts = [lines[at : at + SERVICES_PER_PAGE] for at in range(0, len(lines), SERVICES_PER_PAGE)] or [[]]
        names = ["services.html", *(f"services-{number}.html" for number in range(2, len(parts) + 1))]
        for number, (name, part) in enumerate(zip(names, parts, strict=True), start=1):
            yield self._page(
                name,
                "Services",
                template="services.html",
                lines=part,
                chart_of_page=chart if number == 1 else None,
                parts=[
                    (other, f"{p[0].service.service} to {p[-1].service.service}")
                    for other, p in zip(names, parts, strict=True)
                    if p
                ],
                total=len(lines),
            )

    def _service_line(self, service: ServiceEntry, point: FunnelPoint | None) -> ServiceLine:
        contents = self.contents

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

    def _service_pages(self) -> Iterator[tuple[str, str]]:
        contents = self.contents
        failed, incidents = contents.failed_of(), contents.open_incidents_of()
        for service in contents.services:
            name = service.service
            yield self._page(
                f"services/{self.page_of[name]}",
                name,
                template="service.html",
                service=service,
                card=self.scorecard("service", name),
                charts=_drawn(*self._time_charts(("service", name), name)),
                kinds=contents.kinds.get(name, {}),
                failed=failed.get(name, [])[:FAILED_SHOWN_PER_SERVICE],
                failed_total=len(failed.get(name, [])),
                incidents=incidents.get(name, [])[:INCIDENTS_SHOWN],
                incidents_total=len(incidents.get(name, [])),
                slowest=contents.slowest.get(name, []),
            )

    def _pipelines(self, card: Scorecard) -> dict[str, Any]:
        pipelines = self.contents.pipelines
        chosen = [row for row in (*card.leading, *card.companions) if row.metric.startswith(PIPELINE_METRICS)]
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


def _drawn(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _environment(contents: Contents) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "ensure_ascii": False, "separators": (",", ":")}
    zone = contents.settings.calendar.zone
    names = page_names(service.service for service in contents.services)
    environment.filters.update(
        day=formats.day,
        short_day=formats.short_day,
        moment=lambda value: formats.moment(value, zone) if isinstance(value, datetime) else "not known",
        count=formats.quantity,
        hours=lambda value: formats.duration(value * 3600),
        percent=formats.percent,
        reason=formats.reason_words,
        short=_shortened,
        safe_url=safe_url,
        day_before=_day_before,
    )
    environment.globals.update(
        settings=contents.settings,
        title=contents.settings.reports.title or f"{contents.settings.organization}: software delivery",
        periods=contents.periods,
        first_day=contents.first_day,
        end_day=contents.end_day,
        next_quarter_last_day=_day_before(contents.settings.calendar.days(_next(contents))[1]),
        next_quarter=str(_next(contents)),
        definitions=dict(sorted(contents.definitions.items(), key=lambda pair: measure_order(pair[0]))),
        definitions_version=contents.definitions_version,
        service_page=lambda name: f"services/{names[name]}" if name in names else None,
        marks={name: Markup(marker) for name, marker in _MARKERS.items()},  # noqa: S704 - constants of ours
        partial=_partial(contents),
    )
    return environment


def _next(contents: Contents) -> Any:
    return contents.settings.calendar.quarter_of_day(contents.end_day)


def _partial(contents: Contents) -> Any:
    """A function that says which days a value covers when they are not the whole quarter."""

    def words(covered_from: date | None, covered_to: date | None) -> str | None:
        start, end = covered_from or contents.first_day, covered_to or contents.end_day
        if (start <= contents.first_day and end >= contents.end_day) or start >= end:
            return None
        return f"covers {formats.short_day(start)} to {formats.short_day(_day_before(end))}"

    return words


def _day_before(value: date) -> date:
    return value - timedelta(days=1)


def _shortened(text: str | None, length: int = LONGEST_TEXT) -> str:
    """A text of a feed, cut to a length that a table bears."""
    if text is None:
        return ""
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def _visible(value: Any) -> Any:
    """Text in which characters that a reader would obey without seeing them are written out."""
    return printable(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value
