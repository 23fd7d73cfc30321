"""What Jira answers, as records of incidents and approvals.

When an incident was mitigated and when it was over is told by the changes of its status, so that one that was opened
again counts as over only when it was closed for the last time. Source: contract.md section 4, metrics.md section 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from analytics.sources.port import RawRecord
from analytics.sources.service_names import ServiceNames

Record = dict[str, Any]
# A pager's address or id in a ticket says that both are one incident.
_PAGERDUTY = re.compile(r"pagerduty\.com/incidents/(\w+)", re.ASCII)


@dataclass(frozen=True)
class Rules:
    """How issues are read; fields are named as people see them, or by id."""

    mitigated_statuses: Sequence[str] = ("Mitigated",)
    resolved_statuses: Sequence[str] = ()
    approved_statuses: Sequence[str] = ("Approved",)
    revoked_statuses: Sequence[str] = ("Rejected", "Declined", "Cancelled", "Canceled")
    service_field: str | None = None
    severity_field: str | None = None
    impact_started_field: str | None = None
    deployment_field: str | None = None
    dedupe_field: str | None = None
    change_deployment_field: str | None = None

    def named_fields(self) -> list[str]:
        """The fields of one's own that are read."""
        own = (
            self.service_field, self.severity_field, self.impact_started_field, self.deployment_field,
            self.dedupe_field, self.change_deployment_field,
        )  # fmt: skip
        return [name for name in own if name is not None]


def records_of(
    kind: str, body: str, repository: str, rules: Rules, services: ServiceNames
) -> dict[str, list[RawRecord]]:
    """The records of a kept answer: kinds `incidents` and `changes` (approvals), each with its `issues`."""
    answer = msgspec.json.decode(body)
    ids = answer["fields"]
    records: list[RawRecord] = []
    for issue in answer["issues"]:
        found = (
            approvals(issue, ids, rules)
            if kind == "changes"
            else [incident(issue, ids, rules, services, answer["site"])]
        )
        for record in found:
            known = {name: value for name, value in record.items() if value is not None}
            records.append(RawRecord(len(records) + 1, msgspec.json.encode(known)))
    return {"approvals" if kind == "changes" else "incidents": records}


def incident(issue: Record, ids: Mapping[str, str], rules: Rules, services: ServiceNames, site: str) -> Record:
    """An issue as an incident; its severity is a field's, else the priority."""
    fields = _mapping(issue.get("fields"))
    service, named = _service(fields, ids, rules, services)
    deduped = _text(_own(fields, ids, rules.dedupe_field))
    pager = _PAGERDUTY.search(deduped or "")
    return {
        "incident_id": f"jira:{issue['id']}" if issue.get("id") else None,
        "service": service or named,
        "title": fields.get("summary"),
        "severity": _text(_own(fields, ids, rules.severity_field)) or _at(fields, "priority", "name"),
        "labels": fields.get("labels"),
        "opened_at": _moment(fields.get("created")),
        "impact_started_at": _moment(_own(fields, ids, rules.impact_started_field)),
        "mitigated_at": _mitigated_at(issue, rules),
        "resolved_at": _resolved_at(issue, rules),
        "deployment_id": _text(_own(fields, ids, rules.deployment_field)),
        "dedupe_key": f"pagerduty:{pager[1]}" if pager else deduped,
        "key": issue.get("key"),
        "url": f"{site}/browse/{issue['key']}" if issue.get("key") else None,
        "updated_at": _moment(fields.get("updated")),
    }


def approvals(issue: Record, ids: Mapping[str, str], rules: Rules) -> Iterator[Record]:
    """The approvals of a change ticket that is done, for each deployment that it names.

    What is not done may still be taken back, and a ticket that ended revoked approves nothing.
    """
    fields = _mapping(issue.get("fields"))
    if not _is_done(fields, rules) or _status(fields) in _folded(rules.revoked_statuses):
        return
    newest: dict[str, str] = {}
    for change in _changes(issue):
        if change["to"] in _folded(rules.approved_statuses) and isinstance(change["by"], str):
            newest[change["by"]] = change["at"]
    for deployment in _texts(_own(fields, ids, rules.change_deployment_field)):
        for approver, at in newest.items():
            yield {
                "deployment_id": deployment,
                "approver": approver,
                "approved_at": at,
                "ticket": issue.get("key"),
                "updated_at": _moment(fields.get("updated")),
            }


def shortened(issue: Record, changes: Sequence[Any]) -> Record:
    """An issue as it is kept: of its changes only those of the status."""
    kept = []
    for change in changes:
        items = [item for item in _list(_at(change, "items")) if _at(item, "field") == "status"]
        if items:
            author = _at(change, "author", "name") or _at(change, "author", "displayName")
            last = items[-1]
            kept.append({"at": _at(change, "created"), "by": author, "to": _at(last, "toString")})
    return {"id": issue.get("id"), "key": issue.get("key"), "fields": issue.get("fields"), "changes": kept}


def _changes(issue: Record) -> list[Record]:
    """Changes of the status, oldest first: when, by whom, to what (folded)."""
    found = [
        {"at": at, "by": change.get("by"), "to": str(change.get("to")).casefold()}
        for change in _list(issue.get("changes"))
        if isinstance(change, dict) and isinstance(at := _moment(change.get("at")), str)
    ]
    return sorted(found, key=lambda change: change["at"])


def _resolved_at(issue: Record, rules: Rules) -> str | None:
    """When the issue came to where it is over, for the last time; None while it is not."""
    fields = _mapping(issue.get("fields"))
    if not _is_done(fields, rules):
        return None
    over = _folded(rules.resolved_statuses) or {_status(fields)}
    # From one such status to another it is still over.
    resolved: str | None = None
    for change in reversed(_changes(issue)):
        if change["to"] not in over:
            break
        resolved = change["at"]
    return resolved or _moment(fields.get("resolutiondate")) or _moment(fields.get("updated"))


def _mitigated_at(issue: Record, rules: Rules) -> str | None:
    """When it was first mitigated since it was last worse."""
    fields = _mapping(issue.get("fields"))
    mild = _folded(rules.mitigated_statuses)
    over = _folded(rules.resolved_statuses) or ({_status(fields)} if _is_done(fields, rules) else set())
    mitigated: str | None = None
    for change in reversed(_changes(issue)):
        if change["to"] in mild:
            mitigated = change["at"]
        elif change["to"] not in over:
            break
    return mitigated


def _is_done(fields: Record, rules: Rules) -> bool:
    if rules.resolved_statuses:
        return _status(fields) in _folded(rules.resolved_statuses)
    return bool(_at(fields, "status", "statusCategory", "key") == "done")


def _status(fields: Record) -> str:
    return str(_at(fields, "status", "name")).casefold()


def _folded(names: Sequence[str]) -> set[str]:
    return {name.casefold() for name in names}


def _service(
    fields: Record, ids: Mapping[str, str], rules: Rules, services: ServiceNames
) -> tuple[str | None, str | None]:
    """The service by a field of one's own, a component or a label; and the name that the first of these gives."""
    own = _texts(_own(fields, ids, rules.service_field))
    components = [str(name) for one in _list(fields.get("components")) if (name := _at(one, "name"))]
    labels = [str(label) for label in _list(fields.get("labels"))]
    named = [label.partition(":")[2] for label in labels if label.startswith("service:")]
    return services.of(*own, *components, *named, *labels), next(iter([*own, *named, *components]), None)


def _own(fields: Record, ids: Mapping[str, str], name: str | None) -> Any:
    return fields.get(ids.get(name, name)) if name is not None else None


def _texts(value: Any, depth: int = 3) -> list[str]:
    """What a field says, whatever its kind: text, a choice, several of either; nothing lies deeper than that."""
    if depth == 0 or isinstance(value, bool) or value is None:
        return []
    if isinstance(value, list):
        return [text for one in value for text in _texts(one, depth - 1)]
    if isinstance(value, Mapping):
        return _texts(value.get("value") or value.get("name") or value.get("label"), depth - 1)
    text = str(value).strip()
    return [text] if text else []


def _text(value: Any) -> str | None:
    return next(iter(_texts(value)), None)


def _moment(text: Any) -> Any:
    """A time in UTC; what is none stays as it is, to be refused with its place."""
    if not isinstance(text, str):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is None:
        return text
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").replace("000Z", "Z")


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
