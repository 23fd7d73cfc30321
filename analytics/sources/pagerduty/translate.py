"""What PagerDuty answers, as records of our incidents.

Acknowledging is no mitigation: `acknowledged_at` is kept beside the times that metrics use. An `incident_key` comes
again with every recurrence of an alert, so that incidents are one only where PagerDuty merged them.
Source: contract.md section 4 (incidents), metrics.md section 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from analytics.sources.port import RawRecord
from analytics.sources.service_names import ServiceNames

Record = dict[str, Any]


def records_of(kind: str, body: str, repository: str, services: ServiceNames) -> dict[str, list[RawRecord]]:
    """The records of a kept answer: a list of `incident` with its `log_entries`."""
    found: list[RawRecord] = []
    for item in msgspec.json.decode(body):
        if not isinstance(item, dict) or not isinstance(item.get("incident"), dict):
            continue
        entries = item.get("log_entries")
        record = incident(item["incident"], entries if isinstance(entries, list) else (), services)
        known = {name: value for name, value in record.items() if value is not None}
        found.append(RawRecord(len(found) + 1, msgspec.json.encode(known)))
    return {"incidents": found}


def incident(raw: Record, log_entries: Sequence[Any], services: ServiceNames) -> Record:
    """An incident; its severity is the priority, else the urgency, its end the last change of one that is resolved."""
    priority, urgency = _at(raw, "priority", "summary"), raw.get("urgency")
    name = _at(raw, "service", "summary")
    is_over = raw.get("status") == "resolved"
    acknowledged = [
        str(_at(entry, "created_at"))
        for entry in log_entries
        if _at(entry, "type") in ("acknowledge_log_entry", "acknowledge_log_entry_reference")
        and _at(entry, "created_at")
    ]
    labels = {"urgency": urgency, "priority": priority, "type": _at(raw, "incident_type", "name")}
    return {
        "incident_id": own_id(raw.get("id")),
        "service": services.of(_at(raw, "service", "id"), name) or name,
        "title": raw.get("title") or raw.get("summary"),
        "severity": priority or urgency,
        "labels": [f"{label}:{value}" for label, value in labels.items() if value],
        "opened_at": raw.get("created_at"),
        "acknowledged_at": min(acknowledged, default=None),
        "resolved_at": (raw.get("resolved_at") or raw.get("last_status_change_at")) if is_over else None,
        "dedupe_key": own_id(_at(raw, "resolve_reason", "incident", "id") or raw.get("id")),
        "incident_key": raw.get("incident_key"),
        "url": raw.get("html_url"),
        "updated_at": raw.get("updated_at") or raw.get("last_status_change_at"),
    }


def own_id(native_id: Any) -> str | None:
    """Ids stand beside those of other tools."""
    return f"pagerduty:{native_id}" if native_id and isinstance(native_id, str) else None


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
