"""What the UI shows beside a materialization: numbers it can plot, words, a sparkline and a table.

Belongs here: turning values into Dagster metadata. Not here: computing them.
Source: spec architecture.md section 3 (plain numbers first, every key each time; an SVG only as a data URI, shown
inline under 1,000 characters and 320 pixels).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from analytics.lake.schemas import TABLES, VALUE_MEANINGS, Table
from analytics.settings import Settings, StageName, StepSettings
from reports.formats import spoken_unit
from reports.listings import readable
from reports.tables import printable

SPARKLINE_WIDTH, SPARKLINE_HEIGHT = 160, 32
INLINE_CHARACTERS = 1000
TOP_ROWS = 10
# What Dagster takes for an address; any other text, a handle such as @platform too, is a team's name.
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]()<>#+-.!|~&"})


def step_tags(settings: Settings, stage: StageName) -> dict[str, Any]:
    """What Celery and Kubernetes read of a stage's steps: the queue, and what the pod asks for."""
    wanted = settings.executor.steps.get(stage, StepSettings())
    tags: dict[str, Any] = {}
    if wanted.queue is not None:
        tags["dagster-celery/queue"] = wanted.queue
    asked = {name: value for name, value in (("cpu", wanted.cpu), ("memory", wanted.memory)) if value is not None}
    if asked:
        # A pod that takes more memory than it asked for is ended rather than its neighbours.
        limits = {"limits": {"memory": wanted.memory}} if wanted.memory is not None else {}
        tags["dagster-k8s/config"] = {"container_config": {"resources": {"requests": asked, **limits}}}
    return tags


def column_schema(columns: Mapping[str, str], descriptions: Mapping[str, str] | None = None) -> dg.TableSchema:
    """A table's columns and types as Dagster shows them."""
    said = descriptions or {}
    return dg.TableSchema([dg.TableColumn(name, kind, said.get(name)) for name, kind in columns.items()])


def value_columns() -> dict[str, Any]:
    """The columns of metric values, with what each holds."""
    return {"dagster/column_schema": column_schema(TABLES["metric_values"].columns, VALUE_MEANINGS)}


def table_metadata(table: Table) -> dict[str, Any]:
    """Metadata of a lake table that needs no run."""
    return {"dagster/column_schema": column_schema(table.columns)}


def markdown_text(value: object) -> str:
    """A name as plain text in Markdown: nothing in it is markup, and it stays on its line."""
    return printable(value).translate(_SPECIAL)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table of escaped cells."""
    lines = ["| " + " | ".join(map(markdown_text, columns)) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    return "\n".join(lines)


def sparkline(values: Sequence[float | None], label: str) -> str:
    """A line over quarters as a Markdown image with a text alternative; a gap where a value is undefined.

    Empty text when nothing is defined; only the newest values are drawn when all would not be shown inline.
    """
    kept = list(values)
    while kept:
        image = f"![{markdown_text(label)}](data:image/svg+xml;base64,{_svg(kept)})"
        if len(image) < INLINE_CHARACTERS:
            return image if any(value is not None for value in kept) else ""
        kept = kept[1:]
    return ""


def _svg(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    step = (SPARKLINE_WIDTH - 8) / max(1, len(values) - 1)

    def point(index: int, value: float) -> tuple[int, int]:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(4 + index * step), round(SPARKLINE_HEIGHT - 4 - share * (SPARKLINE_HEIGHT - 8))

    parts: list[str] = []
    run: list[tuple[int, int]] = []
    for index, value in [*enumerate(values), (len(values), None)]:
        if value is not None:
            run.append(point(index, value))
        elif run:
            # A value between two gaps has no line; the round cap of a line of no length makes it a dot.
            parts.append("M" + "L".join(f"{x} {y}" for x, y in run) + ("h0" if len(run) == 1 else ""))
            run = []
    drawn = "".join(parts)
    dots = [point(index, value) for index, value in enumerate(values) if value is not None][-1:]
    dot = "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="#12436D"/>' for x, y in dots)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SPARKLINE_WIDTH}" height="{SPARKLINE_HEIGHT}">'
        f'<path d="{drawn}" fill="none" stroke="#12436D" stroke-width="2" stroke-linecap="round"/>{dot}</svg>'
    )
    return base64.b64encode(svg.encode()).decode()


def number(value: float | int | None) -> dg.MetadataValue[Any]:
    """A number that the UI plots; null, which leaves a gap, where it is undefined."""
    if value is None:
        return dg.MetadataValue.null()
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    # Ten digits are more than a reader needs and hide the noise of binary fractions.
    return dg.MetadataValue.float(float(f"{value:.10g}"))


def value_metadata(
    row: Mapping[str, Any],
    history: Sequence[tuple[str, float | None]],
    services: Sequence[Mapping[str, Any]],
    pack: str = "-",
) -> dict[str, Any]:
    """Metadata of one metric in one quarter: numbers, words, trend and the ten services with most observations.

    `row` is the organization's value in the shape of contract.md section 5, `history` its values by quarter, and
    `services` the services' rows of the same quarter. `pack` is the address of the quarter's pack, newest or to come.
    """
    unit = str(row["unit"])
    spoken = spoken_unit(str(row["metric"]), unit)
    trend = ", ".join(f"{quarter} {readable(value, spoken)}" for quarter, value in history)
    largest = sorted(services, key=lambda each: (-(each["n"] or 0), each["name"]))[:TOP_ROWS]
    table = markdown_table(
        ("service", "value", "n", "reading or reason"),
        (
            (each["name"], readable(each["value"], spoken), each["n"], each["reason"] or each["reading"] or "")
            for each in largest
        ),
    )
    return {
        "value": number(row["value"]),
        "n": number(row["n"]),
        "low": number(row["low"]),
        "high": number(row["high"]),
        "open": number(row["open"]),
        "unit": unit,
        "quarter": str(row["quarter"]),
        "reading": row["reading"] or "-",
        "reason": row["reason"] or "-",
        "shown as": readable(row["value"], spoken),
        "definition": row["definition"],
        "trend": dg.MetadataValue.md(sparkline([value for _, value in history], trend) or "no value yet"),
        "trend in words": trend,
        "services": dg.MetadataValue.md(table),
        "pack": dg.MetadataValue.url(pack),
        "dagster/partition_row_count": 1 + len(services),
    }


def owners(settings: Settings) -> list[str]:
    """Who answers for the numbers: the report's owner where it is an address, else the team of that name."""
    owner = settings.reports.owner or ""
    if _ADDRESS.fullmatch(owner):
        return [owner]
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in owner.lower()).strip("-")
    return [f"team:{name or 'delivery-metrics'}"]
