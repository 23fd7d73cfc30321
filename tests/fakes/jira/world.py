"""What happens on the fake Jira, by a clock: whatever changes gets the clock's time as its last change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Raw = dict[str, Any]
STATUSES = {
    "Open": "new", "In Progress": "indeterminate", "Mitigated": "indeterminate", "Approved": "indeterminate",
    "Done": "done", "Closed": "done", "Rejected": "done",
}  # fmt: skip


@dataclass
class World:
    now: datetime = datetime(2026, 1, 5, 9, tzinfo=UTC)
    # In which JQL's times are read, and in which times are written.
    zone: str = "Europe/Berlin"
    is_cloud: bool = True
    issues: list[Raw] = field(default_factory=list)
    histories: dict[str, list[Raw]] = field(default_factory=dict)
    ids: int = 10_000

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def text(self) -> str:
        local = self.now.astimezone(ZoneInfo(self.zone))
        return local.strftime("%Y-%m-%dT%H:%M:%S.") + f"{local.microsecond // 1000:03d}" + local.strftime("%z")

    def issue(self, kind: str = "Incident", **fields: Any) -> Raw:
        self.ids += 1
        raw = {
            "id": str(self.ids), "key": f"OPS-{self.ids - 10_000}",
            "fields": {
                "summary": "The till is down", "issuetype": {"name": kind}, "created": self.text(),
                "updated": self.text(), "resolutiondate": None, "priority": {"name": "High"}, "labels": [],
                "components": [], "status": _status("Open"), **fields,
            },
        }  # fmt: skip
        self.issues.append(raw)
        self.histories[raw["id"]] = []
        return raw

    def move(self, raw: Raw, status: str, who: str = "Ada") -> None:
        before = raw["fields"]["status"]["name"]
        raw["fields"].update(status=_status(status), updated=self.text())
        raw["fields"]["resolutiondate"] = self.text() if STATUSES[status] == "done" else None
        self.change(raw, "status", before, status, who)

    def change(self, raw: Raw, name: str, before: str, after: str, who: str = "Ada") -> None:
        raw["fields"]["updated"] = self.text()
        author = {"displayName": who, "accountId": f"id-{who}"} if self.is_cloud else {"name": who, "displayName": who}
        items = [{"field": name, "fromString": before, "toString": after}]
        history = {"id": str(len(self.histories[raw["id"]])), "author": author, "created": self.text(), "items": items}
        self.histories[raw["id"]].append(history)


def _status(name: str) -> Raw:
    return {"name": name, "statusCategory": {"key": STATUSES[name]}}
