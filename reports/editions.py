"""What is made from the pages once the charts can be drawn: printed editions and the e-mail edition.

Both are parts of the pack, signed and listed like its pages. A chart that cannot be drawn gives way to its data table,
an edition that cannot be printed is left out, and the pack says so. Source: reports.md sections 1 (22, 23) and 3.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from analytics.programs import find_browser, missing_print_libraries
from analytics.progress import report
from reports.chart_parts import Chart
from reports.drawing import DrawingError, Picture, draw, inline_svg
from reports.pages import Edition, Pages
from reports.printing import PrintingError, print_pdf
from reports.rendering import stamp

LOG = logging.getLogger("analytics.pack")

NO_CHARTS = "charts are not drawn in print and mail, because no browser was found; their data tables stand instead"
NO_PDF = "no edition is printed as PDF, because Pango or HarfBuzz was not found"
MAIL_CHARTS = ("lead-time", "fail-rate")
# In pixels of the chart, which print scales to the column: letters of 13 pixels come out at 7 points.
WIDE, HALF = 900, 460
TALL, LOW = 330, 290
FINDINGS_PRINTED = 60


@dataclass
class Made:
    """Files by path, and what is missing from them, in words."""

    files: dict[str, bytes] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sheet:
    """One edition to print: where it goes, its template, and the size of its charts."""

    path: str
    template: str
    edition: Edition
    charts: Sequence[tuple[Chart, int, int]]


def expected_missing(printed: Sequence[str]) -> list[str]:
    """What this machine lacks for print and mail, before anything is tried."""
    if not printed:
        return []
    return [
        *([NO_CHARTS] if find_browser() is None else []),
        *([NO_PDF] if missing_print_libraries() else []),
    ]


def sheets(pages: Pages) -> list[Sheet]:
    """The editions that the settings want printed."""
    wanted = pages.contents.settings.reports.printed
    leadership, security, *teams = pages.editions
    found = []
    if "leadership" in wanted:
        by_key = {chart.key: chart for chart in leadership.charts}
        halves = [(by_key[key], HALF, LOW) for key in ("lead-time", "fail-rate", "stages", "weeks") if key in by_key]
        found.append(Sheet("leadership.pdf", "leadership", leadership, halves))
    if "security" in wanted:
        found.append(Sheet("security.pdf", "security", security, [(chart, WIDE, TALL) for chart in security.charts]))
    if "team" in wanted:
        found += [
            Sheet(team.path.removesuffix(".html") + ".pdf", "team", team, [(chart, HALF, LOW) for chart in team.charts])
            for team in teams
        ]
    return found


def printed_texts(pages: Pages, drawn: Mapping[tuple[str, str], Markup]) -> dict[str, str]:
    """The HTML of each printed edition by its PDF's path, markers still in it; without drawn charts, with tables."""
    texts = {}
    for sheet in sheets(pages):
        charts = [(chart, drawn.get((sheet.path, chart.key))) for chart, _, _ in sheet.charts]
        _, texts[sheet.path] = pages.rendering.page(
            sheet.path,
            sheet.edition.title,
            template=f"printed/{sheet.template}.html",
            **{**sheet.edition.context, "charts": charts, "findings_printed": FINDINGS_PRINTED},
        )
    return texts


def mail_texts(pages: Pages, pictures: Sequence[str]) -> dict[str, str]:
    """The e-mail edition as HTML and plain text, with pictures by their file names; no SVG and no script."""
    by_key = {chart.key: chart for chart in pages.leadership.charts}
    context = {
        **pages.leadership.context,
        "pictures": [(f"{key}.png", by_key[key]) for key in MAIL_CHARTS if key in by_key and f"{key}.png" in pictures],
    }
    _, html = pages.rendering.page("email/message.html", "E-mail edition", "email.html", **context)
    text = pages.rendering.environment.get_template("email.txt").render(path="email/message.txt", **context)
    return {"email/message.html": html, "email/message.txt": str(text)}


def make_editions(pages: Pages, values: Mapping[str, str]) -> Made:
    """Draw, print and write what the settings want, with the values of this run put in."""
    made = Made()
    wanted = sheets(pages)
    drawn: dict[tuple[str, str], Markup] = {}
    png_files: dict[str, bytes] = {}
    if wanted:
        try:
            drawn, png_files = _drawn(pages, wanted)
        except DrawingError as error:
            LOG.warning("%s", error)
            made.missing.append(NO_CHARTS)
        try:
            for number, (path, html) in enumerate(printed_texts(pages, drawn).items()):
                report("pack", "printing", number, len(wanted))
                made.files[path] = print_pdf(stamp(html, values))
        except PrintingError as error:
            LOG.warning("%s", error)
            made.missing.append(NO_PDF)
            made.files.clear()
    made.files |= {f"email/{name}": content for name, content in png_files.items()}
    for path, text in mail_texts(pages, list(png_files)).items():
        # Plain text is not escaped: nothing in it is markup.
        made.files[path] = stamp(text, values, escaped=path.endswith(".html")).encode()
    return made


def _drawn(pages: Pages, wanted: Sequence[Sheet]) -> tuple[dict[tuple[str, str], Markup], dict[str, bytes]]:
    """Charts of the sheets as SVG, and those of the mail as PNG."""
    places = [(sheet.path, chart) for sheet in wanted for chart, _, _ in sheet.charts]
    pictures = [Picture(chart, width, height) for sheet in wanted for chart, width, height in sheet.charts]
    mailed = [chart for chart in pages.leadership.charts if chart.key in MAIL_CHARTS]
    pictures += [Picture(chart, 600, 280, "png") for chart in mailed]
    contents = draw(pictures)
    svgs = {
        (path, chart.key): inline_svg(content, chart)
        for (path, chart), content in zip(places, contents[: len(places)], strict=True)
    }
    pngs = {f"{chart.key}.png": content for chart, content in zip(mailed, contents[len(places) :], strict=True)}
    return svgs, pngs


def printed_notes(paths: Sequence[str], missing: Sequence[str], wanted: Sequence[str]) -> dict[str, Markup]:
    """What each page says of its printed edition, by the page's path; under "" what every other page says."""
    notes: dict[str, Markup] = {"": Markup("")}
    for path in paths:
        if path.endswith(".pdf"):
            page = "index.html" if path == "leadership.pdf" else f"{path.removesuffix('.pdf')}.html"
            notes[page] = Markup('Printed: <a href="{0}">{0}</a>').format(Path(path).name)
    said = "; ".join(missing)
    if said:
        for page in ("index.html", "security.html"):
            before = notes.get(page)
            notes[page] = Markup("{}{}").format(before + ". " if before else "", f"{said[:1].upper()}{said[1:]}.")
    elif not wanted:
        notes["index.html"] = Markup("No edition is printed: the settings ask for none.")
    return notes
