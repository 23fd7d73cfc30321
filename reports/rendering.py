"""Templates, their words and filters, for pages, prints and mails: autoescaped, without a clock or a random id.

What changes from run to run although the data did not (cut-off, snapshot, code version, revision) is written as a
marker, so that two packs can be compared without it; `stamp` puts the values in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reports import formats
from reports.contents import Contents
from reports.decisions import words_of
from reports.links import page_names, safe_url
from reports.provenance import COVERAGE_WORDS, OUTCOME_WORDS, OUTCOMES
from reports.provenance_charts import k_of_n
from reports.scorecard import measure_order
from reports.sources import SourceLinks
from reports.tables import printable

LONGEST_TEXT = 200
VOLATILE = ("cut_off", "snapshot_id", "code_version", "pack_name", "revision_note", "printed_note")

_HERE = Path(__file__).parent
# Private-use characters around a marker: no name in a feed looks like one by chance.
_MARKERS = {name: f"\ue0f0{name}\ue0f1" for name in VOLATILE}


def stamp(text: str, values: Mapping[str, str], *, escaped: bool = True) -> str:
    """Put the values of this run into a rendered page; they are escaped here, unless they are markup of ours."""
    for name, marker in _MARKERS.items():
        if marker in text:
            text = text.replace(marker, str(Markup.escape(values[name])) if escaped else values[name])
    return text


class Rendering:
    """The templates of one pack."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.page_of = page_names(service.service for service in contents.services)
        self.team_page_of = page_names(contents.teams)
        self.environment = self._environment()

    def page(self, path: str, title: str, template: str | None = None, **context: Any) -> tuple[str, str]:
        """One page as path and text, markers still in it."""
        text = self.environment.get_template(template or path).render(
            root="../" if "/" in path else "", path=path, page_title=title, **context
        )
        return path, text

    def _environment(self) -> jinja2.Environment:
        contents = self.contents
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=jinja2.select_autoescape(["html"], default=True, disabled_extensions=["txt"]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_visible,
        )
        environment.policies["json.dumps_kwargs"] = {
            "sort_keys": True,
            "ensure_ascii": False,
            "separators": (",", ":"),
        }
        zone = contents.settings.calendar.zone
        services, teams = self.page_of, self.team_page_of
        links = SourceLinks(contents.settings)
        environment.filters.update(
            day=formats.day,
            short_day=formats.short_day,
            moment=lambda value: formats.moment(value, zone) if isinstance(value, datetime) else "not known",
            count=formats.quantity,
            hours=lambda value: formats.duration(value * 3600),
            percent=formats.percent,
            reason=formats.reason_words,
            words=words_of,
            short=_shortened,
            safe_url=safe_url,
            day_before=day_before,
        )
        next_quarter = contents.settings.calendar.quarter_of_day(contents.end_day)
        environment.globals.update(
            settings=contents.settings,
            title=contents.settings.reports.title or f"{contents.settings.organization}: software delivery",
            periods=contents.periods,
            first_day=contents.first_day,
            end_day=contents.end_day,
            next_quarter_last_day=day_before(contents.settings.calendar.days(next_quarter)[1]),
            next_quarter=str(next_quarter),
            definitions=dict(sorted(contents.definitions.items(), key=lambda pair: measure_order(pair[0]))),
            definitions_version=contents.definitions_version,
            service_page=lambda name: f"services/{services[name]}" if name in services else None,
            team_page=lambda name: f"teams/{teams[name]}" if name in teams else None,
            commit_url=links.commit,
            pull_request_url=links.pull_request,
            marks={name: Markup(marker) for name, marker in _MARKERS.items()},  # noqa: S704 - constants of ours
            partial=_partial(contents),
            coverage_words=COVERAGE_WORDS,
            outcomes=OUTCOMES,
            outcome_words=OUTCOME_WORDS,
            k_of_n=k_of_n,
        )
        return environment


def _partial(contents: Contents) -> Callable[[date | None, date | None], str | None]:
    """A function that says which days a value covers when they are not the whole quarter."""

    def words(covered_from: date | None, covered_to: date | None) -> str | None:
        start, end = covered_from or contents.first_day, covered_to or contents.end_day
        if (start <= contents.first_day and end >= contents.end_day) or start >= end:
            return None
        return f"covers {formats.short_day(start)} to {formats.short_day(day_before(end))}"

    return words


def day_before(value: date) -> date:
    """The last day of a period whose end is the day after it."""
    return value - timedelta(days=1)


def _shortened(text: str | None, length: int = LONGEST_TEXT) -> str:
    """A text of a feed, cut to a length that a table bears."""
    if text is None:
        return ""
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def _visible(value: Any) -> Any:
    """Text in which characters that a reader would obey without seeing them are written out."""
    return printable(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value
