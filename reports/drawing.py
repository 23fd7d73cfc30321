"""Charts as pictures for print and mail, all drawn by one browser that is started once for a pack.

Without a browser nothing is drawn: each chart gives way to its data table. Source: reports.md section 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from analytics.errors import PackError
from analytics.programs import BROWSER_FIX, find_browser
from analytics.progress import report
from reports.chart_parts import Chart

# Fonts that the systems of readers and the program that prints share; Plotly measures with them.
PRINT_FONT = "'Liberation Sans', Arial, Helvetica, 'DejaVu Sans', sans-serif"
PNG_SCALE = 2
_RANDOM_ID = re.compile(r'<defs id="defs-([0-9a-f]{6})"')


class DrawingError(PackError):
    """Charts cannot be drawn as pictures."""


@dataclass(frozen=True)
class Picture:
    """One chart in one size, in pixels of the page."""

    chart: Chart
    width: int
    height: int
    form: Literal["svg", "png"] = "svg"


def draw(pictures: Sequence[Picture]) -> list[bytes]:
    """Draw all pictures with one browser, in their order; the same chart gives the same bytes.

    Raises DrawingError without a browser, or when it ends.
    """
    if not pictures:
        return []
    if find_browser() is None:
        raise DrawingError("no browser was found that could draw charts", fix=BROWSER_FIX)
    drawn: list[bytes] = []
    with _browser() as render:
        for number, picture in enumerate(pictures):
            report("pack", "charts as pictures", number, len(pictures))
            drawn.append(_drawn(render(_figure(picture), _options(picture)), picture, number))
    return drawn


def inline_svg(svg: bytes, chart: Chart) -> Markup:
    """An SVG for a page: its first child says what it shows, which is all the alternative text that a PDF takes."""
    text = svg.decode()
    start = text.index(">", text.index("<svg")) + 1
    title = f"<title>{escape(chart.title)}. {escape(chart.summary)}</title>"
    return Markup(text[:start] + title + text[start:])  # noqa: S704 - drawn by Plotly, and words that are escaped


@contextmanager
def _browser() -> Iterator[Any]:
    # Imported here: it takes a third of a second, which a pack without pictures need not wait for.
    import kaleido
    from kaleido import PageGenerator

    def render(figure: dict[str, Any], options: dict[str, Any]) -> bytes:
        drawn: bytes = kaleido.calc_fig_sync(figure, opts=options)
        return drawn

    try:
        # Nothing is fetched: plotly.js is the one that plotly brings, and formulas are not set.
        kaleido.start_sync_server(n=1, page_generator=PageGenerator(mathjax=False), silence_warnings=True)
        try:
            yield render
        finally:
            kaleido.stop_sync_server(silence_warnings=True)
    except PackError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise DrawingError(f"the browser could not draw charts: {first}", fix=BROWSER_FIX) from error


def _figure(picture: Picture) -> dict[str, Any]:
    figure = picture.chart.figure
    layout = {
        **figure["layout"],
        "font": {**figure["layout"].get("font", {}), "family": PRINT_FONT},
        "width": picture.width,
        "height": picture.height,
    }
    # Plotly would give each trace a random name.
    traces = [{**trace, "uid": f"t{number:05x}"} for number, trace in enumerate(figure["data"])]
    return {"data": traces, "layout": layout}


def _options(picture: Picture) -> dict[str, Any]:
    scale = PNG_SCALE if picture.form == "png" else 1
    return {"format": picture.form, "width": picture.width, "height": picture.height, "scale": scale}


def _drawn(content: bytes, picture: Picture, number: int) -> bytes:
    """The picture without Plotly's random id, which would make two packs of one snapshot differ."""
    if picture.form != "svg":
        return content
    text = content.decode()
    match = _RANDOM_ID.search(text)
    if match:
        text = re.sub(rf'(?<=[a-z-]){match[1]}(?=[a-z"_)-])', f"z{number:05x}", text)
    return text.encode()
