"""Incidents: duplicates merged, explicit links read, ends taken at the cut-off.

Source: metrics.md section 2 (rule 1), section 8 (incident ends, links) and E38.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from analytics.delivery.records import ExplicitLink, Incident

# A label may name the cause as `deployment:4711`, `sha:…`, `pr:12` or `version:v1.2`.
_LABEL = re.compile(
    r"\s*(deployment|deployment_id|sha|commit|pr|pull_request|version|ref|tag|release)\s*[:=]\s*(\S.*?)\s*", re.I
)
_LABEL_KINDS = {
    "deployment": "deployment",
    "deployment_id": "deployment",
    "sha": "sha",
    "commit": "sha",
    "pr": "pull_request",
    "pull_request": "pull_request",
}
_TRAILING_NUMBER = re.compile(r"(\d+)/?\s*$")


def merge_incidents(rows: Iterable[Mapping[str, Any]], now: datetime) -> list[Incident]:
    """Merge the rows that share a dedupe key (per service), ignoring what happened after the cut-off.

    A row may have a `row_hash` over all its columns, by which its incident is compared with what it was.
    """
    groups: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["opened_at"] > now:
            continue
        if row["dedupe_key"]:
            by_key.setdefault(row["dedupe_key"], []).append(row)
        else:
            groups[f"incident:{row['incident_id']}", row["service"]] = [row]
    for key, members in by_key.items():
        services = sorted({row["service"] for row in members if row["service"]})
        for row in members:
            # The pager may know the service where the ticket does not.
            service = row["service"] or (services[0] if services else None)
            groups.setdefault((f"dedupe:{key}", service), []).append(row)
    ordered = sorted(groups.items(), key=lambda group: (group[0][0], group[0][1] is None, group[0][1] or ""))
    return [_merged(key, service, members, now) for (key, service), members in ordered]


def _merged(key: str, service: str | None, rows: list[Mapping[str, Any]], now: datetime) -> Incident:
    rows = sorted(rows, key=lambda row: (row["opened_at"], row["incident_id"]))

    def first(column: str) -> Any:
        return next((row[column] for row in rows if row[column]), None)

    def latest(preferred: str, other: str) -> datetime | None:
        ends = []
        for row in rows:
            known = [at for at in (row[preferred], row[other]) if at is not None and at <= now]
            if known:
                ends.append(known[0])
        return max(ends, default=None)

    links: dict[ExplicitLink, None] = {}
    for row in rows:
        for link in _links(row):
            links[link] = None
    return Incident(
        key=key,
        ids=tuple(row["incident_id"] for row in rows),
        service=service,
        title=first("title"),
        severity=first("severity"),
        labels=tuple(sorted({label for row in rows for label in row["labels"] or ()})),
        opened_at=rows[0]["opened_at"],
        impact_started_at=min(row["impact_started_at"] or row["opened_at"] for row in rows),
        ended_at=latest("mitigated_at", "resolved_at"),
        restored_at=latest("resolved_at", "mitigated_at"),
        links=tuple(links),
        fixed_by=tuple(dict.fromkeys(row["fixed_by_deployment_id"] for row in rows if row["fixed_by_deployment_id"])),
        url=first("url"),
        fingerprint=" ".join([str(service), *(_fingerprint(row, now) for row in rows)]),
    )


def _fingerprint(row: Mapping[str, Any], now: datetime) -> str:
    passed = ["1" if row[name] is not None and row[name] <= now else "0" for name in ("mitigated_at", "resolved_at")]
    return f"{row.get('row_hash', '')}-{''.join(passed)}"


def _links(row: Mapping[str, Any]) -> list[ExplicitLink]:
    links = []
    if row["deployment_id"]:
        links.append(ExplicitLink("deployment", row["deployment_id"]))
    if row["sha"]:
        links.append(ExplicitLink("sha", row["sha"]))
    if row["pull_request"]:
        links.append(ExplicitLink("pull_request", row["pull_request"]))
    for label in row["labels"] or ():
        match = _LABEL.fullmatch(label)
        if match:
            links.append(ExplicitLink(_LABEL_KINDS.get(match[1].lower(), "version"), match[2]))
    return links


def pull_request_number(text: str) -> int | None:
    """The number in `12`, `#12`, `acme/shop#12` or a pull request's URL."""
    match = _TRAILING_NUMBER.search(text)
    return int(match[1]) if match else None
