"""Charts over quarters: lead time, fail rate, and lead time by stage.

Each gives None rather than an empty figure. Source: reports.md section 1, items 5 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from analytics.statistics import MIN_N_MEDIAN
from reports.chart_parts import (
    BLUE,
    LIGHT_BLUE,
    PLUM,
    TEAL,
    Chart,
    DataTable,
    axis,
    hours_axis,
    layout_of,
    plain,
    quarters_axis,
)
from reports.evidence import STAGES, Quantile
from reports.formats import duration, number, percent, quantity, show
from reports.published import Definition, MetricValue


@dataclass(frozen=True)
class LeadQuarter:
    """One quarter of the lead-time chart, in hours."""

    quarter: str
    median: MetricValue | None
    lower_quartile: Quantile | None
    upper_quartile: MetricValue | None
    p95: MetricValue | None


def lead_time_chart(
    key: str, quarters: Sequence[LeadQuarter], definitions: Mapping[str, Definition], whose: str
) -> Chart | None:
    """Median with interval, middle half and 95th percentile per quarter, on a log axis; None when nothing is shown."""
    median_of, p75_of, p95_of = (definitions.get(f"change_lead_time{part}") for part in ("", "_p75", "_p95"))
    if median_of is None:
        return None
    boxes: dict[str, list[Any]] = {"x": [], "q1": [], "median": [], "q3": [], "lower": [], "upper": []}
    points: dict[str, list[Any]] = {"x": [], "y": [], "plus": [], "minus": [], "text": []}
    table = []
    for one in quarters:
        shown = show(one.median, median_of)
        p75 = show(one.upper_quartile, p75_of) if p75_of else None
        p95 = show(one.p95, p95_of) if p95_of else None
        lower = one.lower_quartile if one.lower_quartile and one.lower_quartile.n >= MIN_N_MEDIAN else None
        table.append(
            (
                one.quarter,
                number(one.median.n or 0) if one.median and one.median.value is not None else "none",
                shown.main,
                shown.interval or "none",
                duration(lower.hours * 3600) if lower else "too few data",
                p75.main if p75 else "not measured",
                p95.main if p95 else "not measured",
            )
        )
        if shown.state != "value" or one.median is None or one.median.value is None or one.median.value <= 0:
            continue
        median = one.median.value
        points["x"].append(one.quarter)
        points["y"].append(median)
        points["plus"].append((one.median.high or median) - median)
        points["minus"].append(median - (one.median.low or median))
        points["text"].append(f"{one.quarter}<br>median {shown.sentence}<br>n = {number(one.median.n or 0)}")
        if lower and p75 and p75.state == "value" and one.upper_quartile and one.upper_quartile.value is not None:
            q3 = one.upper_quartile.value
            boxes["x"].append(one.quarter)
            boxes["q1"].append(lower.hours)
            boxes["median"].append(median)
            boxes["q3"].append(q3)
            boxes["lower"].append(lower.hours)
            boxes["upper"].append(one.p95.value if one.p95 and p95 and p95.state == "value" else q3)
    if not points["x"]:
        return None
    figure = go.Figure(
        data=[
            go.Box(
                x=boxes["x"],
                q1=boxes["q1"],
                median=boxes["median"],
                q3=boxes["q3"],
                lowerfence=boxes["lower"],
                upperfence=boxes["upper"],
                fillcolor=LIGHT_BLUE,
                line={"color": "#7F9DB9", "width": 1},
                whiskerwidth=0.35,
                width=0.5,
                hoverinfo="skip",
                name="middle half, line to the 95th percentile",
            ),
            go.Scatter(
                x=points["x"],
                y=points["y"],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": points["plus"],
                    "arrayminus": points["minus"],
                    "color": BLUE,
                    "thickness": 2.5,
                    "width": 6,
                },
                mode="markers",
                marker={"color": BLUE, "size": 9},
                text=points["text"],
                hoverinfo="text",
                name="median with its 95 % interval",
            ),
        ],
        layout=layout_of(
            xaxis=quarters_axis([one.quarter for one in quarters]),
            yaxis=hours_axis([*points["y"], *boxes["lower"], *boxes["upper"]]),
        ),
    )
    first, last = points["x"][0], points["x"][-1]
    return Chart(
        key,
        "Change lead time",
        f"{whose}: the median lead time was {duration(points['y'][0] * 3600)} in {first} and "
        f"{duration(points['y'][-1] * 3600)} in {last}.",
        "Point and bar: median with its 95 % interval. Box: middle half of the changes. Thin line: up to the 95th "
        "percentile, shown from 20 changes on. Logarithmic scale.",
        plain(figure),
        DataTable(("Quarter", "Changes", "Median", "95 % interval", "Lower quartile", "Upper quartile", "95th"), table),
    )


def rate_chart(
    key: str,
    title: str,
    history: Sequence[tuple[str, MetricValue | None]],
    definition: Definition,
    target: float | None,
    whose: str,
) -> Chart | None:
    """A share per quarter with its Wilson interval and the target as a dashed line; None when no quarter has one."""
    xs, ys, plus, minus, texts, table = [], [], [], [], [], []
    for quarter, value in history:
        shown = show(value, definition)
        if value is None or value.value is None:
            table.append((quarter, "none", "none", shown.main, "none"))
            continue
        table.append(
            (
                quarter,
                quantity(value.numerator or 0),
                quantity(value.denominator or 0),
                shown.main,
                shown.interval or "none",
            )
        )
        xs.append(quarter)
        ys.append(value.value)
        plus.append((value.high if value.high is not None else value.value) - value.value)
        minus.append(value.value - (value.low if value.low is not None else value.value))
        texts.append(f"{quarter}<br>{shown.sentence}")
    if not xs:
        return None
    shapes = []
    annotations = []
    if target is not None:
        shapes.append(
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": target,
                "y1": target,
                "line": {"color": PLUM, "width": 1.5, "dash": "dash"},
            }
        )
        annotations.append(
            {
                "xref": "paper",
                "x": 1,
                "xanchor": "right",
                "y": target,
                "yanchor": "bottom",
                "text": f"target {percent(target)}",
                "showarrow": False,
                "font": {"color": PLUM, "size": 12},
                "bgcolor": "rgba(255,255,255,0.85)",
            }
        )
    top = max([y + up for y, up in zip(ys, plus, strict=True)] + [target or 0]) * 1.12
    figure = go.Figure(
        data=[
            go.Scatter(
                x=xs,
                y=ys,
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": plus,
                    "arrayminus": minus,
                    "color": BLUE,
                    "thickness": 2.5,
                    "width": 6,
                },
                mode="markers",
                marker={"color": BLUE, "size": 9},
                text=texts,
                hoverinfo="text",
                cliponaxis=False,
                name=title,
            )
        ],
        layout=layout_of(
            xaxis=quarters_axis([quarter for quarter, _ in history]),
            yaxis=axis(range=[0, min(1, top) or 1], tickformat=".0%"),
            shapes=shapes,
            annotations=annotations,
        ),
    )
    last = next(show(value, definition) for _, value in reversed(history) if value and value.value is not None)
    return Chart(
        key,
        title,
        f"{whose}: {xs[-1]} had {last.sentence}.",
        "Point: share of production deployments that failed. Bar: 95 % interval (Wilson)."
        + (" Dashed line: the organisation's own target." if target is not None else ""),
        plain(figure),
        DataTable(("Quarter", "Failed", "Deployments", "Rate", "95 % interval"), table),
    )


def stages_chart(
    key: str, stages: Mapping[tuple[str, str], Quantile], quarters: Sequence[tuple[str, str]]
) -> Chart | None:
    """Median of each lead-time stage, this quarter beside earlier ones; None when no stage is known.

    `quarters` are pairs of quarter and legend, the present one last. Medians of parts do not add up to the median of
    the whole, so they are never stacked.
    """
    present = quarters[-1][0]
    looks = (
        {"symbol": "diamond-open", "color": PLUM, "size": 11, "line": {"width": 2}},
        {"symbol": "circle-open", "color": TEAL, "size": 11, "line": {"width": 2}},
        {"symbol": "circle", "color": BLUE, "size": 12},
    )
    known = {where: found for where, found in stages.items() if found.n >= MIN_N_MEDIAN and found.hours > 0}
    if not any((present, stage) in known for stage in STAGES):
        return None
    traces = [
        go.Scatter(
            x=[known[quarter, stage].hours for stage in STAGES if (quarter, stage) in known],
            y=[stage for stage in STAGES if (quarter, stage) in known],
            mode="markers",
            marker=look,
            text=[
                f"{stage}, {quarter}<br>median {duration(known[quarter, stage].hours * 3600)}"
                f"<br>n = {number(known[quarter, stage].n)}"
                for stage in STAGES
                if (quarter, stage) in known
            ],
            hoverinfo="text",
            name=legend,
        )
        for (quarter, legend), look in zip(quarters, looks[-len(quarters) :], strict=True)
    ]
    hours = [found.hours for found in known.values()]
    figure = go.Figure(
        data=traces,
        layout=layout_of(
            xaxis=hours_axis(hours),
            yaxis=axis(
                type="category", categoryorder="array", categoryarray=list(reversed(STAGES)), showgrid=True, ticks=""
            ),
            showlegend=True,
        ),
    )
    at_zero = [
        stage
        for stage in STAGES
        if (found := stages.get((present, stage))) and found.hours <= 0 and found.n >= MIN_N_MEDIAN
    ]
    longest = max(
        (stage for stage in STAGES if (present, stage) in known), key=lambda stage: known[present, stage].hours
    )

    def words(quarter: str, stage: str) -> str:
        found = stages.get((quarter, stage))
        if found is None:
            return "not known"
        if found.n < MIN_N_MEDIAN:
            return f"too few data (n = {number(found.n)})"
        return f"{duration(found.hours * 3600)} (n = {number(found.n)})"

    return Chart(
        key,
        "Where lead time goes",
        f"The longest stage in {present} was {longest}, with a median of "
        f"{duration(known[present, longest].hours * 3600)}.",
        "Median time of a change in each stage. Coding: from the author date to the pull request; pickup: to the first "
        "review; review: to the approval; merge: to the merge; deploy: to the end of the deployment. Changes without a "
        "pull request have no stages. Logarithmic scale; medians of stages do not add up to the median lead time."
        + (f" Not drawn, because the median is 0 s: {', '.join(at_zero)}." if at_zero else ""),
        plain(figure),
        DataTable(
            ("Stage", *(legend for _, legend in quarters)),
            [(stage, *(words(quarter, stage) for quarter, _ in quarters)) for stage in STAGES],
        ),
    )
