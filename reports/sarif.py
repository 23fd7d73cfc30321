"""Findings as a SARIF 2.1.0 log, which code-scanning services take in.

Source: OASIS, SARIF 2.1.0 (errata 01); supply-chain.md section 3. Waived findings are suppressed results, so that they
stay counted; fixed ones are left out, by which a service closes them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from importlib import metadata
from typing import Any
from urllib.parse import quote

from analytics.settings import Settings
from analytics.supply_chain.findings import REMEDIATION, RULE_TITLES
from analytics.supply_chain.rules import RULE_SEVERITIES
from reports.tables import printable

Row = Mapping[str, Any]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
VERSION = "2.1.0"
FINGERPRINT = "quarterdeckFindingId/v1"

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
# The scale on which GitHub's code scanning sorts: 9.0 and more is critical, 7.0 high, 4.0 medium.
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0", "info": "0.0"}
_LEFT_OUT = frozenset({"id", "rule", "reason", "state", "remediation"})


def sarif_log(findings: Sequence[Row], settings: Settings) -> dict[str, Any]:
    """One run with a rule for each that was broken and a result for each finding that is open or waived.

    A result stands at the line of the policy that it breaks, else in the settings file, where a policy would be named;
    what it is about stands in its logical locations.
    """
    folder = settings.settings_path.parent
    policies = settings.supply_chain.policies or settings.settings_path
    path = policies.relative_to(folder).as_posix() if policies.is_relative_to(folder) else policies.name
    shown = [row for row in findings if row["state"] != "fixed"]
    rules = sorted({row["rule"] for row in shown})
    index = {rule: number for number, rule in enumerate(rules)}
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Quarterdeck",
                        "version": metadata.version("quarterdeck"),
                        "rules": [_rule(rule) for rule in rules],
                    }
                },
                "automationDetails": {"id": "quarterdeck/supply-chain/"},
                "columnKind": "unicodeCodePoints",
                "results": [_result(row, index[row["rule"]], path) for row in shown],
                "properties": {"fixed": len(findings) - len(shown)},
            }
        ],
    }


def _rule(rule: str) -> dict[str, Any]:
    severity = RULE_SEVERITIES[rule]
    return {
        "id": rule,
        "name": "".join(part.capitalize() for part in rule.split("_")),
        "shortDescription": {"text": f"{RULE_TITLES[rule]}."},
        "help": {"text": REMEDIATION[rule]},
        "defaultConfiguration": {"level": _LEVELS[severity]},
        "properties": {
            "tags": ["security", "supply-chain"],
            "precision": "very-high",
            "security-severity": _SCORES[severity],
        },
    }


def _result(row: Row, rule_index: int, path: str) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(path)}}
    if row["policy"] is not None and row["policy_line"] is not None:
        physical["region"] = {"startLine": row["policy_line"]}
    result: dict[str, Any] = {
        "ruleId": row["rule"],
        "ruleIndex": rule_index,
        "guid": _guid(row["id"]),
        "kind": "fail",
        "level": _LEVELS[row["severity"]],
        "message": {"text": _unlinked(printable(_message(row)))},
        "locations": [{"physicalLocation": physical, "logicalLocations": _about(row)}],
        "partialFingerprints": {FINGERPRINT: row["id"]},
        "properties": {
            "remediation": row["remediation"],
            "security-severity": _SCORES[row["severity"]],
            **{key: _value(value) for key, value in row.items() if key not in _LEFT_OUT and value is not None},
        },
    }
    if row["state"] == "waived":
        suppression = {"kind": "external", "status": "accepted", "justification": printable(row["waiver"])}
        result["suppressions"] = [suppression]
    return result


def _unlinked(text: str) -> str:
    """A message in which a name makes no link: SARIF takes `[text](target)` for one (section 3.11.6)."""
    return text.replace("](", "] (")


def _message(row: Row) -> str:
    where = f"{row['service'] or 'no service'}, deployment {row['deployment_id'] or row['deployment_key'] or 'unknown'}"
    return f"{row['reason']} ({where}{', ' + row['digest'] if row['digest'] else ''})"


def _about(row: Row) -> list[dict[str, Any]]:
    """What the finding is about, outermost first."""
    names = (
        ("service", row["service"]),
        ("deployment", row["deployment_id"] or row["deployment_key"]),
        ("artifact", row["digest"]),
        ("component", row["component"]),
    )
    said = [(kind, printable(name)) for kind, name in names if name]
    paths = [quote(name, safe=":@") for _, name in said]
    return [
        {"name": name, "kind": kind, "fullyQualifiedName": "/".join(paths[: number + 1])}
        for number, (kind, name) in enumerate(said)
    ]


def _guid(finding_id: str) -> str:
    """The same for the same finding; SARIF wants the form of a UUID with a version."""
    return str(uuid.UUID(bytes=hashlib.sha256(finding_id.encode()).digest()[:16], version=5))


def _value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    return printable(value) if isinstance(value, str) else value
