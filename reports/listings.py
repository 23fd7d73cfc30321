"""What the commands print: metric values, explanations, coverage and what a stage did, as text or for programs.

Readers of text get readable numbers and reasons in words; readers of JSON and CSV get the values as they are.
Source: contract.md sections 2 and 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analytics.metrics.values import COLUMNS
from reports import formats
from reports.tables import as_csv, printable, text_table

if TYPE_CHECKING:
    from analytics.delivery.summary import BuildSummary
    from analytics.landing.coverage import Collected, Completeness, Quarantined, Window
    from analytics.landing.pull import PullResult
    from analytics.landing.reprocess import ReprocessResult
    from analytics.metrics.explaining import Explanation

Row = Mapping[str, Any]

# Columns of an explanation that hold a duration.
SECONDS_OF = {"hours": 3600, "minutes": 60}
# Things that no catalog entry claims; the first ones are where to begin.
MOST_UNMAPPED = 20


def readable(value: float | None, unit: str, pace: formats.Pace | None = None) -> str:
    """A value with its unit as people say it, a frequency at its own pace unless one is given.

    Unlike a pack, the command line prints every n.
    """
    if value is None:
        return "-"
    match unit:
        case "hours":
            text = formats.duration(value * 3600)
        case "minutes":
            text = formats.minutes(value)
        case "ratio":
            text = formats.percent(value)
        case "per_day":
            pace = pace or formats.pace_of(value)
            text = f"{formats.number(value * pace.days, 1)} {pace.words}"
        case "count":
            text = formats.quantity(value)
        case _:
            text = formats.number(value, 2)
    # A page must not break a number from its unit; whoever searches terminal output types plain spaces.
    return text.replace(formats.NBSP, " ")


def _unit(row: Row) -> str:
    return formats.spoken_unit(row["metric"], row["unit"])


def _parts(row: Row) -> str:
    numerator, denominator = row["numerator"], row["denominator"]
    if numerator is None or denominator is None:
        return f"n = {formats.number(row['n'])}" if row["n"] is not None else ""
    between = "in" if row["unit"] == "per_day" else "of"
    tail = " days" if row["unit"] == "per_day" else ""
    # A share of time: its parts are hours, n is what they were observed on.
    hours = " h" if row["unit"] == "ratio" and row["n"] != denominator else ""
    return f"{formats.quantity(numerator)}{hours} {between} {formats.quantity(denominator)}{hours}{tail}"


def _beside(row: Row) -> str:
    missing = row.get("missing")
    if row["value"] is None:
        named = missing and row["reason"] == "not_collected"
        words = [formats.reason_words(row["reason"]) + (f": {missing}" if named else "")]
    else:
        words = [row["reading"]] if row["reading"] else []
        if row["low"] is not None and row["high"] is not None:
            # One pace for all three: "1.2 a day" beside "5.5 a week" could not be compared.
            pace = formats.pace_of(row["value"])
            low, high = (readable(row[end], _unit(row), pace) for end in ("low", "high"))
            words.insert(0, f"{low} to {high}")
        if missing:
            words.append(f"without {missing}")
    if row["open"]:
        words.append(f"{row['open']} open")
    return "; ".join(words)


def metrics_table(values: Sequence[Row], width: int | None = None) -> str:
    """Metric values for people, one block per scope and name."""
    blocks: dict[tuple[str, str], list[Row]] = {}
    for row in values:
        blocks.setdefault((row["scope"], row["name"]), []).append(row)
    if not blocks:
        return "No values."
    out = []
    for (scope, name), rows in blocks.items():
        out.append(f"{scope} {printable(name)}, {rows[0]['quarter']}")
        out.append(
            text_table(
                (
                    (
                        f"  {row['metric']}" + (f" ({row['series']})" if row["series"] else ""),
                        readable(row["value"], _unit(row)),
                        _parts(row),
                        _beside(row),
                    )
                    for row in rows
                ),
                ("  metric", ">value", "from", "interval, reading or reason"),
                width=width,
            )
        )
        out.append("")
    return "\n".join(out).rstrip("\n")


def metrics_csv(values: Sequence[Row]) -> str:
    """Metric values as CSV with the JSON output's keys as columns."""
    return as_csv(values, COLUMNS)


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation for programs: the value, its parts and every row, counted or excluded."""
    return {
        "metric": explanation.metric,
        "quarter": str(explanation.quarter),
        "scope": explanation.scope,
        "name": explanation.name,
        "series": explanation.series,
        "value": explanation.value,
        "unit": explanation.unit,
        "n": explanation.n,
        "numerator": explanation.numerator,
        "denominator": explanation.denominator,
        "open": explanation.open,
        "reason": explanation.reason,
        "definition": explanation.definition,
        "rows": [dict(row) for row in explanation.rows],
    }


def explanation_text(explanation: Explanation, limit: int = 50, width: int | None = None) -> str:
    """An explanation for people: the value, the rows that count, then those left out by reason.

    At most `limit` rows of a group are shown (all when 0); how many are not shown is said.
    """
    of = f"{explanation.scope} {explanation.name}, {explanation.quarter}"
    series = f", series {explanation.series}" if explanation.series else ""
    value = readable(explanation.value, formats.spoken_unit(explanation.metric, explanation.unit))
    if explanation.value is None:
        value = f"undefined: {formats.reason_words(explanation.reason)}"
    groups: dict[str, list[Row]] = {"": []}
    for row in explanation.rows:
        groups.setdefault(row["excluded"] or "", []).append(row)
    counted = len(groups[""])
    out = [
        printable(f"{explanation.title} of {of}{series}"),
        f"{value} ({', '.join(_made_of(explanation))})",
        printable(f"{explanation.meaning} ({explanation.definition})"),
        "",
        f"rows that count: {formats.number(counted)}; left out: {formats.number(len(explanation.rows) - counted)}; "
        "times are UTC",
    ]
    for excluded, rows in sorted(groups.items()):
        words = formats.reason_words(excluded)
        # A code that reads like its words is said once.
        said = excluded if words == excluded.replace("_", " ") else f"{words} ({excluded})"
        title = f"left out, {said}" if excluded else "counted"
        out += ["", printable(f"{title}: {len(rows)}")]
        if rows:
            out.append(_rows_table(rows, explanation.columns, limit, width))
    return "\n".join(out)


def _made_of(explanation: Explanation) -> list[str]:
    parts = [f"n = {formats.number(explanation.n)}"]
    if explanation.numerator is not None and explanation.denominator is not None:
        parts.insert(0, f"{formats.quantity(explanation.numerator)} of {formats.quantity(explanation.denominator)}")
    if explanation.open:
        parts.append(f"{formats.number(explanation.open)} still open")
    return parts


def _rows_table(rows: Sequence[Row], columns: Sequence[str], limit: int, width: int | None) -> str:
    shown = rows[:limit] if limit else rows
    # A column without any value says nothing and costs width.
    used = [column for column in columns if column != "excluded" and any(row.get(column) is not None for row in shown)]
    text = text_table(
        ([_cell(column, row.get(column)) for column in used] for row in shown),
        ["duration" if column in ("hours", "minutes") else column.removesuffix("_us") for column in used],
        width=width,
    )
    rest = len(rows) - len(shown)
    return f"{text}\n… and {formats.number(rest)} more (--limit 0 prints all)" if rest else text


def _cell(column: str, value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and column in SECONDS_OF:
        return formats.duration(value * SECONDS_OF[column])
    if isinstance(value, int | float) and column.endswith("_us"):
        return formats.duration(value / 1_000_000)
    if column in ("sha", "head_sha", "original_of") and isinstance(value, str) and len(value) == 40:
        return value[:12]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value


def coverage_json(
    collected: Iterable[Collected],
    windows: Iterable[Window],
    refused: Iterable[Quarantined],
    shares: Iterable[Completeness] = (),
    unmapped: Iterable[Row] = (),
) -> dict[str, Any]:
    """What was collected per source and entity, what each request brought, and every refused record.

    `incomplete` names the requests that did not bring everything, `unmapped` what no catalog entry claims.
    """
    requests = [asdict(row) for row in windows]
    return {
        "collected": [asdict(row) for row in collected],
        "windows": requests,
        "quarantine": [asdict(row) for row in refused],
        "completeness": [asdict(row) for row in shares],
        "incomplete": [
            {name: row[name] for name in ("source", "entity", "request_key")} for row in requests if not row["complete"]
        ],
        "unmapped": [dict(row) for row in unmapped],
    }


def coverage_text(
    collected: Sequence[Collected],
    windows: Sequence[Window],
    refused: Sequence[Quarantined],
    shares: Sequence[Completeness] = (),
    unmapped: Sequence[Row] = (),
    width: int | None = None,
    limit: int = 100,
) -> str:
    """Coverage for people: each entity, the requests that are incomplete, what nobody declared, and refused records.

    Records that are kept stand apart from those that are refused. At most `limit` of each are listed, and
    MOST_UNMAPPED of what nobody declared; all are counted.
    """
    if not collected:
        return "Nothing is collected yet. Run `quarterdeck pull`."
    rows = (
        (
            row.source,
            row.entity,
            formats.number(row.items),
            formats.number(row.quarantined),
            _minute(row.first_at),
            _minute(row.last_at),
            "yes" if row.complete else "no",
        )
        for row in collected
    )
    columns = ("source", "entity", ">items", ">quarantined", "first", "last", "complete")
    out = [text_table(rows, columns, width=width), ""]
    if shares:
        counted = (
            (
                row.source,
                row.entity,
                row.quarter,
                formats.number(row.landed),
                formats.number(row.expected),
                _share(row.landed, row.expected),
            )
            for row in shares
        )
        out += [text_table(counted, ("source", "entity", "quarter", ">landed", ">expected", ">share"), width=width), ""]
    incomplete = [window for window in windows if not window.complete]
    if incomplete:
        out.append("Not complete:")
        out += [printable(f"  {window.source}/{window.request_key} ({window.entity})") for window in incomplete]
        out.append("")
    if unmapped:
        out.append(f"Not in the catalog: {formats.number(len(unmapped))}")
        named = (
            (row["kind"], row["name"], formats.number(row["rows"]), row["detail"]) for row in unmapped[:MOST_UNMAPPED]
        )
        out.append(text_table(named, ("kind", "name", ">rows", "from"), width=width))
        out += [*_more(len(unmapped) - MOST_UNMAPPED), ""]
    kept = [row for row in refused if row.kept]
    if kept:
        out += [*_records("Kept, but not counted as they are", kept, limit, width), ""]
    bad = [row for row in refused if not row.kept]
    out += _records("Refused records", bad, limit, width) if bad else ["No record was refused."]
    return "\n".join(out)


def _records(title: str, rows: Sequence[Quarantined], limit: int, width: int | None) -> list[str]:
    counts = Counter(row.reason for row in rows)
    said = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    found = (
        # A whole file has no line.
        (f"{row.source}/{row.origin}" + (f":{row.line}" if row.line else ""), row.reason, row.json_path, row.detail)
        for row in rows[:limit]
    )
    table = text_table(found, ("where", "reason", "field", "detail"), width=width)
    return [printable(f"{title}: {len(rows)} ({said})"), table, *_more(len(rows) - limit)]


def _more(rest: int) -> list[str]:
    return [f"… and {formats.number(rest)} more (--format json lists all)"] if rest > 0 else []


def _share(landed: int, expected: int) -> str:
    """A share that says 100 % only where nothing is missing."""
    return f"{int(1000 * landed / expected) / 10:.1f} %" if expected else ""


def _minute(value: Any) -> str:
    return "" if value is None else str(value)[:16].replace("T", " ")


def pulled_lines(results: Sequence[PullResult], width: int | None = None) -> str:
    """What a pull landed, one line per source."""
    return text_table(
        (
            (
                result.source,
                formats.number(result.items),
                formats.number(result.quarantined),
                "done" if result.error is None else "failed" if result.resume_at is None else "paused",
            )
            for result in results
        ),
        ("source", ">new items", ">quarantined", "state"),
        width=width,
    )


def reprocessed_lines(results: Sequence[ReprocessResult], width: int | None = None) -> str:
    """What judging again changed, one line per source."""
    rows = (
        (result.source, *map(formats.number, (result.to_quarantine, result.to_items, result.read_anew)))
        for result in results
    )
    return text_table(rows, ("source", ">now refused", ">now counted", ">read anew"), width=width)


def built_lines(summary: BuildSummary, width: int | None = None) -> str:
    """How many rows each table of the lake holds, empty ones left out."""
    rows = [(name, formats.number(count)) for name, count in sorted(summary.tables.items()) if count]
    return text_table(rows, ("table", ">rows"), width=width) if rows else "Every table is empty: nothing is landed."
