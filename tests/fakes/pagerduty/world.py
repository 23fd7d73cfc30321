"""What happens on the fake PagerDuty, by a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Raw = dict[str, Any]


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class World:
    now: datetime = datetime(2026, 1, 5, 9, tzinfo=UTC)
    incidents: list[Raw] = field(default_factory=list)
    log_entries: list[Raw] = field(default_factory=list)
    ids: int = 0

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def trigger(self, service: str = "shop", urgency: str = "high", priority: str | None = None, **more: Any) -> Raw:
        self.ids += 1
        native_id, at = f"P{self.ids:06d}", text(self.now)
        raw = {
            "id": native_id, "type": "incident", "incident_number": self.ids, "title": "The till is down",
            "summary": f"[#{self.ids}] The till is down", "created_at": at, "updated_at": at,
            "last_status_change_at": at, "resolved_at": None, "status": "triggered", "urgency": urgency,
            "priority": priority and {"id": "PR1", "type": "priority_reference", "summary": priority},
            "service": {"id": f"S-{service}", "type": "service_reference", "summary": service},
            "incident_key": f"till-{service}", "html_url": f"https://acme.pagerduty.test/incidents/{native_id}",
            "acknowledgements": [], "resolve_reason": None, **more,
        }  # fmt: skip
        self.incidents.append(raw)
        self._log(raw, "trigger_log_entry")
        return raw

    def acknowledge(self, raw: Raw) -> None:
        self._change(raw, "acknowledged", "acknowledge_log_entry")

    def resolve(self, raw: Raw) -> None:
        self._change(raw, "resolved", "resolve_log_entry")
        raw["resolved_at"] = text(self.now)

    def merge(self, raw: Raw, into: Raw) -> None:
        self.resolve(raw)
        raw["resolve_reason"] = {"type": "merge_resolve_reason", "incident": {"id": into["id"]}}

    def _change(self, raw: Raw, status: str, entry: str) -> None:
        raw.update(status=status, updated_at=text(self.now), last_status_change_at=text(self.now))
        self._log(raw, entry)

    def _log(self, raw: Raw, kind: str) -> None:
        entry = {
            "id": f"R{len(self.log_entries):06d}", "type": kind, "created_at": text(self.now),
            "incident": {"id": raw["id"], "type": "incident_reference"},
            "agent": {"type": "user_reference", "summary": "Ada", "id": "PADA"},
        }  # fmt: skip
        self.log_entries.append(entry)
