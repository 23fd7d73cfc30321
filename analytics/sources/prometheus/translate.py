"""What Prometheus answers, as samples of error budgets and as incidents.

Source: contract.md section 4 (slo_samples, incidents).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from analytics.sources.port import RawRecord
from analytics.sources.service_names import ServiceNames

Record = dict[str, Any]
# Labels of an alert that are no part of what it is about.
_ABOUT_THE_ALERT = ("__name__", "alertstate")


def records_of(kind: str, body: str, repository: str, services: ServiceNames) -> dict[str, list[RawRecord]]:
    """The records of a kept answer: kinds `slo` (samples) and `alerts` (incidents)."""
    answer = msgspec.json.decode(body)
    entity, found = (
        ("incidents", (incident(answer, firing, services) for firing in stretches(answer)))
        if kind == "alerts"
        else ("slo_samples", samples(answer, services))
    )
    return {
        entity: [
            RawRecord(line, msgspec.json.encode({name: value for name, value in record.items() if value is not None}))
            for line, record in enumerate(found, start=1)
        ]
    }


def service_of(labels: Mapping[str, Any], label: str, services: ServiceNames) -> str | None:
    """The service that a label names; what neither settings nor catalog know keeps its name."""
    named = labels.get(label)
    return (services.of(named) or str(named)) if named else None


def samples(answer: Record, services: ServiceNames) -> Iterator[Record]:
    """Samples of the budget that is left, 0 to 1.

    A budget that is overspent is one with nothing left: Prometheus' negative number is kept as `measured`. No number
    (no traffic) is no sample. A series without the service's label gives one record without a service, to be refused.
    """
    for series in answer["series"]:
        labels = series["labels"]
        service = service_of(labels, answer["service_label"], services)
        values = series["values"] if service else series["values"][-1:]
        for at, text in values:
            value = _number(text)
            if value is not None and math.isnan(value):
                continue
            is_finite = value is not None and math.isfinite(value)
            yield {
                "service": service,
                "slo": labels.get(answer["slo_label"]) if answer.get("slo_label") else answer["slo"],
                "at": _moment(at),
                "error_budget_remaining": max(0.0, value) if value is not None and is_finite else text,
                "measured": value if value is not None and is_finite and value < 0 else None,
            }


def stretches(answer: Record) -> Iterator[Record]:
    """Spans in which an alert fired without a break: labels, opened and closed (seconds; None where it fires on).

    An answer begins at `start` and ends at `end`, both evaluated; `open` holds what fired at the end of the answer
    before it, by fingerprint.
    """
    start, end, step = answer["start"], answer["end"], answer["step"]
    known = answer["open"]
    seen = set()
    for series in answer["series"]:
        key = fingerprint(series["labels"])
        seen.add(key)
        times = [int(at) for at, _ in series["values"]]
        spans: list[list[int]] = []
        for at in times:
            if spans and at - spans[-1][1] <= step:
                spans[-1][1] = at
            else:
                spans.append([at, at])
        if key in known and (not spans or spans[0][0] > start):
            yield {"labels": known[key]["labels"], "opened": known[key]["opened"], "closed": start}
        for opened, last in spans:
            fires_on_from_before = key in known and opened == start
            yield {
                "labels": series["labels"],
                "opened": known[key]["opened"] if fires_on_from_before else opened,
                "closed": last + step if last < end else None,
            }
    for key, before in known.items():
        if key not in seen:
            yield {"labels": before["labels"], "opened": before["opened"], "closed": start}


def incident(answer: Record, firing: Record, services: ServiceNames) -> Record:
    """An incident for a span in which an alert fired; of its labels only those that cannot name a deployment."""
    labels = firing["labels"]
    name, severity = labels.get("alertname"), labels.get(answer["severity_label"])
    return {
        "incident_id": f"prometheus:{fingerprint(labels)}:{firing['opened']}",
        "service": service_of(labels, answer["service_label"], services),
        "title": name,
        "severity": severity,
        "labels": [f"alert:{name}"] if name else None,
        "opened_at": _moment(firing["opened"]),
        "resolved_at": _moment(firing["closed"]) if firing["closed"] is not None else None,
    }


def fingerprint(labels: Mapping[str, Any]) -> str:
    """A short name of an alert with its labels."""
    about = sorted((name, str(text)) for name, text in labels.items() if name not in _ABOUT_THE_ALERT)
    return hashlib.sha256(msgspec.json.encode(about)).hexdigest()[:16]


def open_after(found: Sequence[Record]) -> dict[str, Record]:
    """What fires on at the end of an answer, by fingerprint, for the answer after it."""
    return {
        fingerprint(firing["labels"]): {"labels": firing["labels"], "opened": firing["opened"]}
        for firing in found
        if firing["closed"] is None
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").replace(".000000Z", "Z")


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
