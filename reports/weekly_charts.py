"""Weekly process-behaviour charts: one figure a week inside its natural process limits.

Each gives None rather than an empty figure. Source: reports.md section 1, item 7; NHS Making Data Count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import plotly.graph_objects as go

from analytics.statistics import MIN_N_MEDIAN, process_limits
from reports.chart_parts import BLUE, GREY, ORANGE, Chart, DataTable, axis, layout_of, plain
from reports.evidence import Quantile
from reports.formats import duration, number, short_day

Week = tuple[date, float | None]


@dataclass(frozen=True)
class _Words:
    """How the figures of one chart are said."""

    title: str
    column: str
    axis: str
    figure: Callable[[float], str]
    average: Callable[[float], str]
    note: str


def weekly_chart(key: str, weeks: Sequence[tuple[date, int]], whose: str) -> Chart | None:
    """Deployments per full ISO week with natural process limits; None with fewer weeks than limits need."""
    return _process_chart(
        key,
        weeks,
        whose,
        _Words(
            "Deployments week by week",
            "Deployments",
            "deployments a week",
            lambda value: f"{number(value)} deployments",
            lambda value: f"{number(value, 1)} deployments a week",
            "Full ISO weeks only.",
        ),
    )


def incidents_chart(key: str, weeks: Sequence[tuple[date, int]], whose: str) -> Chart | None:
    """Incidents opened per full ISO week with natural process limits; None where there is none at all."""
    if not any(count for _, count in weeks):
        return None
    return _process_chart(
        key,
        weeks,
        whose,
        _Words(
            "Incidents week by week",
            "Incidents opened",
            "incidents opened a week",
            lambda value: f"{number(value)} incidents",
            lambda value: f"{number(value, 1)} incidents a week",
            "By the day on which they were opened; full ISO weeks only.",
        ),
    )


def lead_weeks_chart(key: str, by_week: Mapping[date, Quantile], first: date, end: date, whose: str) -> Chart | None:
    """Median lead time of each full ISO week with natural process limits; a week with few changes is a gap."""
    weeks: list[Week] = []
    monday = first + timedelta(days=-first.weekday() % 7)
    while monday + timedelta(days=7) <= end:
        found = by_week.get(monday)
        weeks.append((monday, found.hours if found and found.n >= MIN_N_MEDIAN else None))
        monday += timedelta(days=7)
    return _process_chart(
        key,
        weeks,
        whose,
        _Words(
            "Lead time week by week",
            "Median lead time",
            "median lead time, hours",
            lambda value: f"median {duration(value * 3600)}",
            lambda value: f"a weekly median of {duration(value * 3600)}",
            f"Weeks with fewer than {MIN_N_MEDIAN} changes have no median; full ISO weeks only.",
        ),
    )


def _process_chart(key: str, weeks: Sequence[Week], whose: str, words: _Words) -> Chart | None:
    limits = process_limits([value for _, value in weeks], smallest=0)
    if limits is None:
        return None
    known = [(monday, value) for monday, value in weeks if value is not None]
    outside = [(monday, value) for monday, value in known if not limits.low <= value <= limits.high]
    inside = [(monday, value) for monday, value in known if limits.low <= value <= limits.high]

    def hover(points: Sequence[tuple[date, float]]) -> list[str]:
        return [f"week of {short_day(monday)}<br>{words.figure(value)}" for monday, value in points]

    def level(y: float, dash: str, color: str) -> dict[str, Any]:
        return {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": y,
            "y1": y,
            "layer": "below",
            "line": {"color": color, "width": 1.5, "dash": dash},
        }

    figure = go.Figure(
        data=[
            go.Scatter(
                x=[monday.isoformat() for monday, _ in weeks],
                y=[value for _, value in weeks],
                mode="lines",
                line={"color": BLUE, "width": 1.5},
                hoverinfo="skip",
                showlegend=False,
                name=words.column,
            ),
            go.Scatter(
                x=[monday.isoformat() for monday, _ in inside],
                y=[value for _, value in inside],
                mode="markers",
                marker={"color": BLUE, "size": 6},
                text=hover(inside),
                hoverinfo="text",
                name="within the limits",
            ),
            go.Scatter(
                x=[monday.isoformat() for monday, _ in outside],
                y=[value for _, value in outside],
                mode="markers",
                marker={"color": ORANGE, "size": 11, "symbol": "diamond", "line": {"color": GREY, "width": 1}},
                text=hover(outside),
                hoverinfo="text",
                name="outside: look for a cause",
            ),
        ],
        layout=layout_of(
            xaxis=axis(type="date", showgrid=False, tickformat="%-d %b<br>%Y"),
            yaxis=axis(
                range=[0, max([*(value for _, value in known), limits.high]) * 1.08], title={"text": words.axis}
            ),
            shapes=[
                level(limits.centre, "solid", GREY),
                level(limits.high, "dash", "#7A7A7A"),
                *([level(limits.low, "dash", "#7A7A7A")] if limits.low > 0 else []),
            ],
            showlegend=bool(outside),
        ),
    )
    weeks_outside = (
        f"{number(len(outside))} of {number(len(known))} weeks lie outside the limits"
        if outside
        else f"all {number(len(known))} weeks lie within the limits"
    )

    def against(value: float | None) -> str:
        if value is None:
            return "no figure"
        return "within" if limits.low <= value <= limits.high else "above" if value > limits.high else "below"

    return Chart(
        key,
        words.title,
        f"{whose}: on average {words.average(limits.centre)}; {weeks_outside}.",
        f"Solid line: mean, {words.average(limits.centre)}. Dashed lines: natural process limits "
        f"({words.figure(limits.low)} to {words.figure(limits.high)}), between which weeks vary without a particular "
        f"cause. Here {weeks_outside}. {words.note}",
        plain(figure),
        DataTable(
            ("Week of", words.column, "Against the limits"),
            [
                (short_day(monday), words.figure(value) if value is not None else "too few data", against(value))
                for monday, value in weeks
            ],
        ),
    )


def full_weeks(by_day: Mapping[date, int], first: date, end: date) -> list[tuple[date, int]]:
    """Events of every full ISO week inside ``[first, end)``, by its Monday; a week without an event counts 0."""
    monday = first + timedelta(days=-first.weekday() % 7)
    weeks = []
    while monday + timedelta(days=7) <= end:
        weeks.append((monday, sum(by_day.get(monday + timedelta(days=offset), 0) for offset in range(7))))
        monday += timedelta(days=7)
    return weeks
