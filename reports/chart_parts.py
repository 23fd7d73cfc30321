"""What charts share: colours, axes, the figure with its words and table, and names made inert.

Figures are plain data without random ids, so that the same snapshot gives the same bytes. Source: reports.md section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from reports.tables import printable

BLUE = "#12436D"
TEAL = "#28A197"
PLUM = "#801650"
ORANGE = "#F46A25"
GREY = "#3D3D3D"
LIGHT_BLUE = "#BFD3E6"
PALE = "#E3EBF3"
GRID = "#E3E5E8"

_HOUR_TICKS = (
    (1 / 60, "1 min"),
    (5 / 60, "5 min"),
    (15 / 60, "15 min"),
    (1, "1 h"),
    (3, "3 h"),
    (6, "6 h"),
    (12, "12 h"),
    (24, "1 d"),
    (48, "2 d"),
    (96, "4 d"),
    (168, "1 wk"),
    (336, "2 wk"),
    (720, "30 d"),
    (1440, "60 d"),
    (2880, "120 d"),
    (8760, "1 yr"),
)


_FEWEST_TICKS = 3
# For values that lie close together.
_FINE_HOUR_TICKS = sorted(
    {
        *_HOUR_TICKS,
        *((minutes / 60, f"{minutes} min") for minutes in (2, 3, 10, 20, 30, 45)),
        *((hours, f"{hours} h") for hours in (2, 4, 5, 8, 10, 15, 18, 20, 30, 36, 40)),
        *((days * 24, f"{days} d") for days in (3, 5, 6, 9, 11, 18, 21, 45, 90)),
    }
)


@dataclass(frozen=True)
class DataTable:
    """The values behind a chart, as texts; the first column names each row."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Chart:
    """A figure with its words; `key` is unique on its page, `summary` is its text alternative."""

    key: str
    title: str
    summary: str
    caption: str
    figure: dict[str, Any]
    table: DataTable | None
    height: int = 330


def inert(name: str) -> str:
    """A name that Plotly shows as it is written: no tags, no entities, no formula between dollar signs."""
    escaped = printable(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("$", "&#36;")


def layout_of(**parts: Any) -> dict[str, Any]:
    """A layout in the pack's look; later parts win."""
    return {
        "template": go.layout.Template(),
        "font": {
            "family": "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
            "size": 13,
            "color": GREY,
        },
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#FFFFFF", "bordercolor": GREY, "font": {"color": "#1B1B1B"}, "align": "left"},
        "dragmode": False,
        "showlegend": False,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "itemclick": False,
            "traceorder": "normal",
        },
        **parts,
    }


def axis(**parts: Any) -> dict[str, Any]:
    """An axis in the pack's look; later parts win."""
    return {
        "gridcolor": GRID,
        "linecolor": "#8A8A8A",
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "tickcolor": "#8A8A8A",
        "ticklen": 4,
        "automargin": True,
        "fixedrange": True,
        **parts,
        **({"title": {"font": {"size": 13}, **parts["title"]}} if "title" in parts else {}),
    }


def quarters_axis(quarters: Sequence[str]) -> dict[str, Any]:
    """One place per quarter, named in two lines; a quarter without a value keeps its place."""
    labels = [f"{quarter[5:]}<br>{quarter[:4]}" for quarter in quarters]
    return axis(
        type="category",
        categoryorder="array",
        categoryarray=list(quarters),
        range=[-0.5, len(quarters) - 0.5],
        tickvals=list(quarters),
        ticktext=labels,
        showgrid=False,
    )


def hours_axis(hours: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis of hours whose ticks read as minutes, hours, days and weeks."""
    positive = [value for value in hours if value > 0]
    low, high = min(positive) / 1.35, max(positive) * 1.35
    ticks = [(value, label) for value, label in _HOUR_TICKS if low <= value <= high]
    if len(ticks) < _FEWEST_TICKS:
        ticks = [(value, label) for value, label in _FINE_HOUR_TICKS if low <= value <= high]
    return axis(
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=[value for value, _ in ticks],
        ticktext=[label for _, label in ticks],
    )


def plain(figure: go.Figure) -> dict[str, Any]:
    """A figure as JSON values, without Plotly's template."""
    value: dict[str, Any] = figure.to_plotly_json()
    value["layout"].pop("template", None)
    return value
