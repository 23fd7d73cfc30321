"""The machine-readable annex: metric values as CSV and JSON, and a dictionary of their columns.

Numbers are written unrounded, so that sums of the annex match the pages. Source: reports.md section 1, item 20.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from reports.published import Definition, MetricValue
from reports.tables import as_csv


@dataclass(frozen=True)
class Column:
    """One column of an annex file; `kind` is text, number, integer, date or object."""

    name: str
    kind: str
    meaning: str


VALUE_COLUMNS = (
    Column("metric", "text", "Name of the metric; its definition stands in definitions.csv."),
    Column("scope", "text", "service, team or organization."),
    Column("name", "text", "Name of the service, the team or the organisation."),
    Column("quarter", "text", "The quarter that the value describes."),
    Column("series", "text", "human (without bots) or all, for lead times; empty elsewhere."),
    Column("value", "number", "The value, unrounded; empty when undefined, and then reason says why."),
    Column("unit", "text", "hours, minutes, ratio (0 to 1), per_day, count."),
    Column("n", "integer", "Observations behind the value; a ratio's denominator, a frequency's deployments."),
    Column("numerator", "number", "What is counted on top, for ratios and frequencies."),
    Column("denominator", "number", "What it is divided by: the whole of a ratio, the days of a frequency."),
    Column("low", "number", "Lower end of the two-sided 95 % interval; empty when there is none."),
    Column("high", "number", "Upper end of the two-sided 95 % interval."),
    Column("open", "integer", "Observations not finished at the cut-off (censored)."),
    Column("reason", "text", "Why there is no value, as a code."),
    Column("reading", "text", "better, worse, no clear change or too few data, against the quarter before, by a test."),
    Column("definition", "text", "Metric and version of the definition that was applied."),
    Column("covered_from", "date", "First local day that was covered."),
    Column("covered_to", "date", "The day after the last covered one."),
    Column("excluded", "object", "Rows left out, by reason; JSON text in the CSV."),
)

DEFINITION_COLUMNS = (
    Column("metric", "text", "Name of the metric."),
    Column("title", "text", "The name on the pages."),
    Column("unit", "text", "Unit of the value."),
    Column("direction", "text", "lower or higher is better; empty when neither is."),
    Column("statistic", "text", "The statistic that the headline is."),
    Column("minimum_n", "integer", "Fewest observations for which a page prints the figure."),
    Column("definition", "text", "What is counted, in words."),
    Column("version", "integer", "Version of the definition; it changes with the meaning."),
    Column("sources", "text", "What the metric needs."),
    Column("series", "text", "The series that leads, where there are several."),
    Column("indicator", "integer", "Number of the indicator that the metric belongs to."),
)

# Columns of each annex table; the pages print them too.
DICTIONARY = {
    "metric_values": VALUE_COLUMNS,
    "metric_history": VALUE_COLUMNS,
    "definitions": DEFINITION_COLUMNS,
}


def annex_files(values: Sequence[MetricValue], quarter: str, definitions: Sequence[Definition]) -> dict[str, str]:
    """The annex's files by name, as text.

    `metric_values` holds the quarter for every scope; `metric_history`, as CSV alone for its size, the earlier
    quarters that pages show.
    """
    present = [_record(value, VALUE_COLUMNS) for value in values if value.quarter == quarter]
    earlier = [_record(value, VALUE_COLUMNS) for value in values if value.quarter != quarter]
    meanings = [_record(definition, DEFINITION_COLUMNS) for definition in definitions]
    dictionary = [
        {"file": name, "column": column.name, "kind": column.kind, "meaning": column.meaning}
        for name, columns in DICTIONARY.items()
        for column in columns
    ]
    return {
        "metric_values.csv": as_csv(present, _names(VALUE_COLUMNS)),
        "metric_values.json": _json_lines(present),
        "metric_history.csv": as_csv(earlier, _names(VALUE_COLUMNS)),
        "definitions.csv": as_csv(meanings, _names(DEFINITION_COLUMNS)),
        "definitions.json": _json_lines(meanings),
        "dictionary.csv": as_csv(dictionary, ("file", "column", "kind", "meaning")),
        "dictionary.json": _json_lines(dictionary),
    }


def _names(columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns]


def _record(item: MetricValue | Definition, columns: Sequence[Column]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for column in columns:
        value = getattr(item, column.name)
        if isinstance(value, date):
            value = value.isoformat()
        record[column.name] = dict(value) if column.kind == "object" else value
    return record


def _json_lines(records: Sequence[dict[str, Any]]) -> str:
    """One object per line inside a list: readable by any parser, and a difference of two packs stays small."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
    return f"[\n{lines}\n]\n" if records else "[]\n"
