"""The machine-readable annex: every table behind the pages as CSV, Parquet and JSON, and a dictionary of the columns.

Numbers are written unrounded, so that sums of the annex match the pages. Source: reports.md section 1, item 20.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from analytics.lake.schemas import VALUE_MEANINGS
from reports.contents import Contents
from reports.tables import as_csv


@dataclass(frozen=True)
class Column:
    """One column of an annex file; `kind` is text, number, integer, date, time (UTC) or object."""

    name: str
    kind: str
    meaning: str


VALUE_COLUMNS = tuple(
    Column(name, kind, VALUE_MEANINGS[name])
    for name, kind in (
        ("metric", "text"),
        ("scope", "text"),
        ("name", "text"),
        ("quarter", "text"),
        ("series", "text"),
        ("value", "number"),
        ("unit", "text"),
        ("n", "integer"),
        ("numerator", "number"),
        ("denominator", "number"),
        ("low", "number"),
        ("high", "number"),
        ("open", "integer"),
        ("reason", "text"),
        ("reading", "text"),
        ("definition", "text"),
        ("covered_from", "date"),
        ("covered_to", "date"),
        ("excluded", "object"),
        ("missing", "text"),
        ("blended", "text"),
    )
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

FINDING_COLUMNS = (
    Column("id", "text", "Stays the same as long as the same thing is found of the same artifact."),
    Column("rule", "text", "The rule that is broken."),
    Column("verdict", "text", "The verdict on the attestation, where the rule is about one."),
    Column("severity", "text", "critical, high, medium, low or info."),
    Column("state", "text", "open, waived or fixed, at the cut-off."),
    Column("service", "text", "The service deployed."),
    Column("deployment_id", "text", "The deployment in which it was found last."),
    Column("digest", "text", "The artifact's digest, with its algorithm."),
    Column("join_kind", "text", "How the artifact was found for the deployment: payload, record, release or commit."),
    Column("bundle_sha256", "text", "SHA-256 of the attestation's bundle: the evidence."),
    Column("sbom_sha256", "text", "SHA-256 of the SBOM, where the rule is about one."),
    Column("component", "text", "The component of the SBOM."),
    Column("reason", "text", "What was found, in words."),
    Column("expected", "text", "What the policy expects."),
    Column("found", "text", "What was found instead."),
    Column("remediation", "text", "What to do about it."),
    Column("owner", "text", "Who answers for it: the waiver's owner, else the team."),
    Column("policy", "text", "The policy that applied."),
    Column("policy_line", "integer", "Its line in the policy file."),
    Column("trusted_root", "text", "The trusted root under which the bundle was judged."),
    Column("verifier", "text", "The program that judged, with its version."),
    Column("waiver", "text", "The waiver that covers it or used to, with owner, end and reason."),
    Column("waived_until", "date", "The last day on which it is waived."),
    Column("first_day", "date", "The local day on which it was first seen."),
    Column("age_days", "integer", "Days from then to the last covered day of the quarter."),
)

WAIVER_COLUMNS = (
    Column("place", "text", "File and line of the waiver."),
    Column("owner", "text", "Who answers for it."),
    Column("reason", "text", "Why."),
    Column("until", "date", "The last day on which it waives anything."),
    Column("expired", "text", "yes when it has ended and its findings are open again."),
    Column("findings", "integer", "Findings that carry it and are not fixed."),
    Column("days_left", "integer", "Days from the last covered day of the quarter to its end."),
)

COVERAGE_COLUMNS = (
    Column("quarter", "text", "The quarter of the deployments."),
    Column("digests", "integer", "Distinct digests deployed to production."),
    Column("signature", "integer", "Of these, with a verified signature."),
    Column("provenance", "integer", "Of these, with verified SLSA provenance."),
    Column("sbom", "integer", "Of these, with an SBOM."),
    Column("deployments", "integer", "Successful production deployments that were judged."),
    Column("without_digest", "integer", "Of these, without any known digest."),
)

COMPLIANCE_COLUMNS = (
    Column("kind", "text", "control (required by the policy) or rule (asked of each attestation)."),
    Column("name", "text", "The control or rule."),
    Column("outcome", "text", "passed, failed, waived or not_evaluated."),
    Column("deployments", "integer", "Deployments of the quarter with this outcome."),
)

PIPELINE_COLUMNS = (
    Column("repository", "text", "The repository of the workflow."),
    Column("workflow", "text", "The workflow."),
    Column("runs", "integer", "Runs of the quarter."),
    Column("attempts", "integer", "Their attempts."),
    Column("counted", "integer", "Attempts that succeeded or failed; the rest were cancelled, skipped or unfinished."),
    Column("failed", "integer", "Counted attempts that failed."),
    Column("flaky_runs", "integer", "Runs that passed after the same commit had failed."),
    Column("failed_hours", "number", "Hours of failed attempts of runs that never passed."),
    Column("retried_hours", "number", "Hours of failed attempts of runs that passed later."),
    Column("queue_hours", "number", "Hours that jobs waited for a runner."),
    Column("lost_hours", "number", "The three together."),
)

FAILED_COLUMNS = (
    Column("service", "text", "The service."),
    Column("deployment_key", "text", "The deployment."),
    Column("finished_at", "time", "When it finished."),
    Column("kind", "text", "change, redeploy, rollback, …"),
    Column("method", "text", "The rule by which it counts as failed."),
    Column("evidence", "text", "The evidence in words."),
    Column("recovery_hours", "number", "Hours to recovery; empty when it is open or not counted."),
    Column("recovery_open", "text", "yes when it had not recovered at the cut-off."),
    Column("recovery_excluded", "text", "Why its recovery does not count, as a code."),
)

RESTATEMENT_COLUMNS = (
    Column("metric", "text", "The metric that was measured again with another result."),
    Column("scope", "text", "service, team or organization."),
    Column("name", "text", "Name of the service, the team or the organisation."),
    Column("quarter", "text", "The quarter that the value describes."),
    Column("series", "text", "human or all, for lead times."),
    Column("definition", "text", "The definition now applied."),
    Column("old_value", "number", "The value before; empty when it was undefined."),
    Column("new_value", "number", "The value now."),
    Column("old_n", "integer", "Observations before."),
    Column("new_n", "integer", "Observations now."),
    Column("cause", "text", "Why it changed."),
)

DICTIONARY_COLUMNS = (
    Column("file", "text", "The annex table, without its ending."),
    Column("column", "text", "Name of the column."),
    Column("kind", "text", "text, number, integer, date, time (UTC) or object (JSON)."),
    Column("meaning", "text", "What it holds."),
)

# Columns of each annex table; the pages print them too.
DICTIONARY: Mapping[str, tuple[Column, ...]] = {
    "metric_values": VALUE_COLUMNS,
    "metric_history": VALUE_COLUMNS,
    "definitions": DEFINITION_COLUMNS,
    "findings": FINDING_COLUMNS,
    "waivers": WAIVER_COLUMNS,
    "coverage": COVERAGE_COLUMNS,
    "compliance": COMPLIANCE_COLUMNS,
    "pipelines": PIPELINE_COLUMNS,
    "failed_deployments": FAILED_COLUMNS,
    "restatements": RESTATEMENT_COLUMNS,
    "dictionary": DICTIONARY_COLUMNS,
}

ANNEX_FILES = tuple(
    (table, tuple(f"{table}.{ending}" for ending in ("csv", "parquet", "json"))) for table in DICTIONARY
)

_PARQUET = {
    "text": pl.String(),
    "number": pl.Float64(),
    "integer": pl.Int64(),
    "date": pl.Date(),
    "time": pl.Datetime("us", "UTC"),
    "object": pl.String(),
}


def annex_files(contents: Contents) -> dict[str, bytes]:
    """The annex's files by name: every table as CSV, Parquet and JSON.

    `metric_values` holds the quarter for every scope, `metric_history` the earlier quarters that pages show.
    """
    files: dict[str, bytes] = {}
    for name, records in _tables(contents).items():
        columns = DICTIONARY[name]
        files[f"{name}.csv"] = as_csv(map(_plain, records), [column.name for column in columns]).encode()
        files[f"{name}.json"] = _json_lines([_plain(record) for record in records]).encode()
        files[f"{name}.parquet"] = _parquet(records, columns)
    return files


def _tables(contents: Contents) -> dict[str, list[dict[str, Any]]]:
    quarter, provenance = contents.periods.quarter, contents.provenance
    records: dict[str, Iterable[Any]] = {
        "metric_values": [value for value in contents.all_values if value.quarter == quarter],
        "metric_history": [value for value in contents.all_values if value.quarter != quarter],
        "definitions": contents.definitions.values(),
        "findings": provenance.findings,
        "waivers": provenance.waivers,
        "coverage": [
            {
                "quarter": one.quarter,
                "digests": one.digests,
                **one.covered,
                "deployments": one.deployments,
                "without_digest": one.without_digest,
            }
            for one in provenance.coverage
        ],
        "compliance": [
            {"kind": kind, "name": one.name, "outcome": outcome, "deployments": count}
            for kind, group in (("control", provenance.controls), ("rule", provenance.checks))
            for one in group
            for outcome, count in sorted(one.counts.items())
        ],
        "pipelines": contents.pipelines,
        "failed_deployments": contents.failed,
        "restatements": contents.restatements,
        "dictionary": [
            {"file": name, "column": column.name, "kind": column.kind, "meaning": column.meaning}
            for name, columns in DICTIONARY.items()
            for column in columns
        ],
    }
    return {name: [_record(item, DICTIONARY[name]) for item in items] for name, items in records.items()}


def _record(item: Any, columns: Sequence[Column]) -> dict[str, Any]:
    read: Callable[[str], Any] = item.__getitem__ if isinstance(item, dict) else lambda name: getattr(item, name)
    record: dict[str, Any] = {}
    for column in columns:
        value = read(column.name)
        if column.kind == "object":
            value = dict(value)
        elif column.kind == "text" and isinstance(value, bool):
            value = "yes" if value else "no"
        record[column.name] = value
    return record


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Days and times as text."""
    return {
        name: f"{value.isoformat()}Z"
        if isinstance(value, datetime)
        else value.isoformat()
        if isinstance(value, date)
        else value
        for name, value in record.items()
    }


def _json_lines(records: Sequence[dict[str, Any]]) -> str:
    """One object per line inside a list: readable by any parser, and a difference of two packs stays small."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
    return f"[\n{lines}\n]\n" if records else "[]\n"


def _parquet(records: Sequence[dict[str, Any]], columns: Sequence[Column]) -> bytes:
    """Typed columns; what is an object is JSON text, and a time is marked as UTC."""
    out = io.BytesIO()
    data = {
        column.name: [
            json.dumps(record[column.name], ensure_ascii=False) if column.kind == "object" else record[column.name]
            for record in records
        ]
        for column in columns
    }
    schema = {column.name: _PARQUET[column.kind] for column in columns}
    naive = {name: pl.Datetime("us") if kind == _PARQUET["time"] else kind for name, kind in schema.items()}
    pl.DataFrame(data, schema=naive).with_columns(
        pl.col(name).dt.replace_time_zone("UTC") for name, kind in schema.items() if kind == _PARQUET["time"]
    ).write_parquet(out, compression="zstd", statistics=False)
    return out.getvalue()
