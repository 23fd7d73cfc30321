"""Charts that compare: services in a funnel, pipelines by the hours they lost.

Source: reports.md section 1, items 8 and 11; Spiegelhalter 2005 (funnel plots instead of league tables).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from analytics.statistics import MIN_N_MEDIAN, funnel_limits
from reports.chart_parts import (
    BLUE,
    GREY,
    LIGHT_BLUE,
    ORANGE,
    PALE,
    PLUM,
    TEAL,
    Chart,
    axis,
    inert,
    layout_of,
    plain,
)
from reports.evidence import Pipeline
from reports.formats import duration, number, percent


@dataclass(frozen=True)
class FunnelPoint:
    """A service in the funnel: failures of deployments, and where it lies."""

    service: str
    failures: int
    deployments: int
    position: str


WITHIN = "within the limits"


def place_in_funnel(counts: Sequence[tuple[str, int, int]]) -> tuple[float, list[FunnelPoint]] | None:
    """Where services of at least six deployments lie around their pooled rate; None with fewer than two of them."""
    enough = [(service, k, n) for service, k, n in counts if n >= MIN_N_MEDIAN]
    if len(enough) < 2:
        return None
    pooled = sum(k for _, k, _ in enough) / sum(n for _, _, n in enough)
    limits = funnel_limits([n for _, _, n in enough], pooled)
    points = []
    for index, (service, k, n) in enumerate(enough):
        share = k / n
        if share > limits.high_998[index]:
            position = "above the 99.8 % limit"
        elif share < limits.low_998[index]:
            position = "below the 99.8 % limit"
        elif share > limits.high_95[index]:
            position = "above the 95 % limit"
        elif share < limits.low_95[index]:
            position = "below the 95 % limit"
        else:
            position = WITHIN
        points.append(FunnelPoint(service, k, n, position))
    return pooled, points


def funnel_chart(key: str, pooled: float, points: Sequence[FunnelPoint], left_out: int) -> Chart:
    """Change fail rate of every service against its deployments, inside the limits of chance (Spiegelhalter 2005)."""
    largest = max(point.deployments for point in points)
    smallest = min(point.deployments for point in points)
    grid = sorted({*range(smallest, min(largest, 60) + 1), *_spread(smallest, largest, 60)})
    limits = funnel_limits(grid, pooled)
    outer = [point for point in points if "99.8" in point.position]
    inner = [point for point in points if "99.8" not in point.position]

    def band(low: Sequence[float], high: Sequence[float], color: str, name: str) -> list[Any]:
        return [
            go.Scatter(x=grid, y=list(low), mode="lines", line={"width": 0}, hoverinfo="skip", showlegend=False),
            go.Scatter(
                x=grid,
                y=list(high),
                mode="lines",
                line={"width": 0},
                fill="tonexty",
                fillcolor=color,
                hoverinfo="skip",
                name=name,
            ),
        ]

    def hover(some: Sequence[FunnelPoint]) -> list[str]:
        return [f"{inert(one.service)}<br>{one.failures} of {one.deployments} failed<br>{one.position}" for one in some]

    figure = go.Figure(
        data=[
            *band(limits.low_998.tolist(), limits.high_998.tolist(), PALE, "99.8 % of services, if all were alike"),
            *band(limits.low_95.tolist(), limits.high_95.tolist(), LIGHT_BLUE, "95 %"),
            go.Scatter(
                x=[grid[0], grid[-1]],
                y=[pooled, pooled],
                mode="lines",
                line={"color": BLUE, "width": 1.5},
                hoverinfo="skip",
                name=f"all together, {percent(pooled)}",
            ),
            go.Scatter(
                x=[one.deployments for one in inner],
                y=[one.failures / one.deployments for one in inner],
                mode="markers",
                marker={"color": GREY, "size": 7, "opacity": 0.85},
                text=hover(inner),
                hoverinfo="text",
                cliponaxis=False,
                name="a service",
            ),
            go.Scatter(
                x=[one.deployments for one in outer],
                y=[one.failures / one.deployments for one in outer],
                mode="markers",
                marker={"color": PLUM, "size": 10, "symbol": "diamond"},
                text=hover(outer),
                hoverinfo="text",
                cliponaxis=False,
                name="outside the 99.8 % limits",
                showlegend=bool(outer),
            ),
        ],
        layout=layout_of(
            xaxis=axis(
                type="log",
                title={"text": "deployments in the quarter (log scale)"},
                showgrid=False,
                tickvals=[tick for tick in (6, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if tick <= largest * 1.2],
            ),
            yaxis=axis(tickformat=".0%", rangemode="tozero", title={"text": "change fail rate"}),
            showlegend=True,
            annotations=_labels(outer, pooled),
        ),
    )
    beyond = (
        f"{number(len(outer))} of {number(len(points))} services lie outside the 99.8 % limits"
        if outer
        else f"none of {number(len(points))} services lies outside the 99.8 % limits"
    )
    return Chart(
        key,
        "Which services differ from the rest?",
        f"All services together failed in {percent(pooled)} of deployments; {beyond}.",
        f"Each point is one service. Line: all services together ({percent(pooled)}). Bands: where 95 % and 99.8 % of "
        f"services would lie if they differed by chance alone; {beyond}. Only those are worth a question."
        + (f" {number(left_out)} with fewer than {MIN_N_MEDIAN} deployments are not drawn." if left_out else ""),
        plain(figure),
        None,
        height=400,
    )


def _labels(points: Sequence[FunnelPoint], pooled: float) -> list[dict[str, Any]]:
    """Names beside the points outside, turned to alternating sides so that neighbours do not write over each other."""
    ordered = sorted(points, key=lambda one: (one.failures / one.deployments, one.service), reverse=True)
    return [
        {
            # Annotations on a log axis are placed by the exponent.
            "x": math.log10(one.deployments),
            "y": one.failures / one.deployments,
            "text": inert(one.service if len(one.service) <= 28 else one.service[:27] + "\u2026"),
            "showarrow": True,
            "arrowhead": 0,
            "arrowwidth": 1,
            "arrowcolor": PLUM,
            "ax": 0,
            # A name below a point near zero would stand on the axis.
            "ay": 18 if index % 2 and one.failures / one.deployments > pooled else -18,
            "font": {"color": PLUM, "size": 12},
        }
        for index, one in enumerate(ordered[:12])
    ]


def _spread(low: int, high: int, count: int) -> list[int]:
    """Whole numbers spread evenly on a log scale."""
    ratio = high / low
    return [round(low * ratio ** (step / count)) for step in range(count + 1)]


def pipelines_chart(key: str, pipelines: Sequence[Pipeline], limit: int = 10) -> Chart | None:
    """Hours lost by workflow: failed, passed on a retry, waiting for a runner; None when nothing was lost."""
    top = [one for one in pipelines[:limit] if one.lost_hours > 0]
    if not top:
        return None
    names = [f"{one.repository} / {one.workflow}" for one in top]
    parts = (
        ("failed attempts", BLUE, "", [one.failed_hours for one in top]),
        ("passed on a retry", ORANGE, "/", [one.retried_hours for one in top]),
        ("waiting for a runner", TEAL, ".", [one.queue_hours for one in top]),
    )
    order = list(range(len(top)))
    figure = go.Figure(
        data=[
            go.Bar(
                x=hours,
                y=order,
                orientation="h",
                marker={
                    "color": color,
                    "pattern": {
                        "shape": shape,
                        "fillmode": "overlay",
                        "fgcolor": "#FFFFFF",
                        "size": 7,
                        "solidity": 0.25,
                    },
                },
                text=[
                    f"{inert(name)}<br>{words}: {duration(value * 3600)}"
                    for name, value in zip(names, hours, strict=True)
                ],
                textposition="none",
                hoverinfo="text",
                name=words,
            )
            for words, color, shape, hours in parts
        ],
        layout=layout_of(
            barmode="stack",
            bargap=0.35,
            xaxis=axis(title={"text": "hours lost in the quarter"}, rangemode="tozero", showgrid=True),
            yaxis=axis(
                autorange="reversed",
                tickvals=order,
                ticktext=[inert(_shortened(name, 34)) for name in names],
                showgrid=False,
                ticks="",
            ),
            showlegend=True,
        ),
    )
    total = sum(one.lost_hours for one in pipelines)
    return Chart(
        key,
        "Where pipeline hours went",
        f"{names[0]} lost the most, {duration(top[0].lost_hours * 3600)} of {duration(total * 3600)} in all workflows.",
        f"The {number(len(top))} workflows that lost the most hours. These parts are sums and do add up.",
        plain(figure),
        None,
        height=max(260, 110 + 30 * len(top)),
    )


def _shortened(text: str, length: int) -> str:
    """The end of a long name: that is where workflows differ."""
    return text if len(text) <= length else "\u2026" + text[-(length - 1) :]
