"""All findings as one script of the pack, so that a browser can filter ten thousand of them without a server.

A page that is opened from a folder may load a script beside it and nothing else. Texts stand once and rows refer to
them by number: remedies and rules repeat. Source: reports.md section 1, item 12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from reports.formats import short_day
from reports.provenance import FindingRow
from reports.tables import printable

COLUMNS = (
    "id",
    "severity",
    "state",
    "rule",
    "verdict",
    "reason",
    "remediation",
    "service",
    "deployment",
    "digest",
    "owner",
    "first",
    "age",
    "waiver",
    "evidence",
)


def findings_script(findings: Sequence[FindingRow], pages: Mapping[str, str]) -> str:
    """`window.quarterdeckFindings = {columns, texts, rows, pages}`; `pages` leads a service's name to its page."""
    texts: dict[str, int] = {}

    def placed(value: str | int | None) -> int:
        text = "" if value is None else printable(value)
        return texts.setdefault(text, len(texts))

    rows = [[placed(value) for value in _cells(finding)] for finding in findings]
    services = {finding.service for finding in findings if finding.service}
    document = {
        "columns": list(COLUMNS),
        "texts": list(texts),
        "rows": rows,
        "pages": {printable(name): page for name, page in sorted(pages.items()) if name in services},
    }
    # `<` would be harmless in a script file; escaped all the same, so that no reader has to think about it.
    body = json.dumps(document, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    return f"window.quarterdeckFindings = {body};\n"


def _cells(one: FindingRow) -> tuple[str | int | None, ...]:
    return (
        one.id,
        one.severity,
        one.state,
        one.rule.replace("_", " "),
        (one.verdict or "").replace("_", " ").lower(),
        one.reason,
        one.remediation,
        one.service,
        one.deployment_id,
        one.digest,
        one.owner,
        short_day(one.first_day) if one.first_day else "not known",
        one.age_days,
        one.waiver,
        evidence_words(one),
    )


def evidence_words(one: FindingRow) -> str:
    """Where the evidence lies: bundle, SBOM, trusted root, policy line, what was expected and found."""
    parts = (
        ("expected", one.expected),
        ("found", one.found),
        ("component", one.component),
        ("joined by", one.join_kind),
        ("bundle", f"sha256:{one.bundle_sha256}" if one.bundle_sha256 else None),
        ("SBOM", f"sha256:{one.sbom_sha256}" if one.sbom_sha256 else None),
        ("policy", f"{one.policy or 'defaults'}, line {one.policy_line}" if one.policy_line else one.policy),
        ("trusted root", one.trusted_root),
        ("verifier", one.verifier),
    )
    return "; ".join(f"{name}: {value}" for name, value in parts if value)
