"""Eight quarters as a small inline SVG whose `<title>` says every value in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.chart_parts import BLUE

WIDTH = 120
HEIGHT = 28
_MARGIN = 4
# As attributes: a style sheet does not reach into a picture that is printed.
_STROKE = f'fill="none" stroke="{BLUE}" stroke-width="1.6" stroke-linejoin="round" stroke-linecap="round"'


@dataclass(frozen=True)
class SparkPoint:
    """One quarter: its value (None leaves a gap) and what a reader should be told about it."""

    quarter: str
    value: float | None
    words: str


def sparkline(points: Sequence[SparkPoint]) -> Markup:
    """Draw the values between their own minimum and maximum; a line joins neighbours only, so a gap stays a gap."""
    words = "; ".join(f"{point.quarter}: {point.words}" for point in points)
    known = [point.value for point in points if point.value is not None]
    if not known:
        return Markup('<span class="no-value" title="{}">no values to draw</span>').format(words)
    low, high = min(known), max(known)
    step = (WIDTH - 2 * _MARGIN) / max(len(points) - 1, 1)
    runs: list[list[tuple[float, float]]] = [[]]
    for index, point in enumerate(points):
        if point.value is None:
            runs.append([])
            continue
        height = (point.value - low) / (high - low) if high > low else 0.5
        runs[-1].append((_MARGIN + index * step, HEIGHT - _MARGIN - height * (HEIGHT - 2 * _MARGIN)))
    shapes = []
    for run in runs:
        if len(run) == 1:
            shapes.append(_dot(run[0], "1.6"))
        elif run:
            shapes.append(f'<polyline {_STROKE} points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>')
    if points and points[-1].value is not None:
        shapes.append(_dot(runs[-1][-1], "3"))
    return Markup(  # noqa: S704 - numbers of ours, and words that are escaped
        f'<svg class="spark" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f"<title>{escape(words)}</title>{''.join(shapes)}</svg>"
    )


def _dot(at: tuple[float, float], radius: str) -> str:
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}" fill="{BLUE}"/>'
