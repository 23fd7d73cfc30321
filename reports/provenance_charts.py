"""The chart of the security edition: how many deployed digests are covered, quarter by quarter.

Shares of coverage are a census and have no interval. Source: reports.md section 1, item 14.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from reports.chart_parts import BLUE, PLUM, TEAL, Chart, DataTable, axis, layout_of, plain, quarters_axis
from reports.formats import number, percent
from reports.provenance import COVERAGE_WORDS, Covered

_LOOKS = {
    "signature": {"color": BLUE, "symbol": "circle", "size": 10},
    "provenance": {"color": TEAL, "symbol": "square", "size": 10},
    "sbom": {"color": PLUM, "symbol": "diamond-open", "size": 11, "line": {"width": 2}},
}


def coverage_chart(
    key: str, coverage: Sequence[Covered], kinds: Sequence[str], quarters: Sequence[str], whose: str
) -> Chart | None:
    """Share of distinct deployed digests with each of `kinds` (COVERAGE); None without digests or kinds."""
    known = [one for one in coverage if one.digests]
    if not known or not kinds:
        return None
    figure = go.Figure(
        data=[
            go.Scatter(
                x=[one.quarter for one in known],
                y=[one.covered[kind] / one.digests for one in known],
                mode="lines+markers",
                line={"color": _LOOKS[kind]["color"], "width": 1.5},
                marker=_LOOKS[kind],
                text=[f"{one.quarter}<br>{COVERAGE_WORDS[kind]}: {k_of_n(one, kind)}" for one in known],
                hoverinfo="text",
                cliponaxis=False,
                name=COVERAGE_WORDS[kind],
            )
            for kind in kinds
        ],
        layout=layout_of(
            xaxis=quarters_axis(list(quarters)), yaxis=axis(range=[0, 1.02], tickformat=".0%"), showlegend=True
        ),
    )
    last = known[-1]
    words = "; ".join(f"{COVERAGE_WORDS[kind]}: {k_of_n(last, kind)}" for kind in kinds)
    return Chart(
        key,
        "What covers the deployed digests",
        f"{whose}, {last.quarter}: {words}.",
        "Share of the distinct digests deployed to production in each quarter. Every digest is counted, so that there "
        "is no interval.",
        plain(figure),
        DataTable(
            ("Quarter", "Digests", *(COVERAGE_WORDS[kind] for kind in kinds)),
            [(one.quarter, number(one.digests), *(k_of_n(one, kind) for kind in kinds)) for one in known],
        ),
    )


def k_of_n(one: Covered, kind: str) -> str:
    """`94 of 100 (94.0 %)`; without a per cent figure where there is nothing or nothing is covered."""
    k, n = one.covered[kind], one.digests
    return f"{number(k)} of {number(n)}" + (f" ({percent(k / n)})" if k and n else "")
