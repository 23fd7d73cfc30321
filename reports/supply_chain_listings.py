"""What `findings`, `inspect` and `verify` print: for people as tables, for programs as the objects of contract.md.

Source: contract.md section 6, supply-chain.md section 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.tables import printable, text_table

if TYPE_CHECKING:
    from analytics.supply_chain.verify import VerifySummary

Row = Mapping[str, Any]

_HASH_SHOWN = 12
_REASON_SHOWN = 100
_MOST_PROBLEMS = 5
_MOST_SUBJECTS = 10
_CERTIFICATE_TITLES = {
    "issuer": "issuer (.8)",
    "build_signer": "signer (.9)",
    "source_repository": "repository (.12)",
    "source_repository_id": "repository id (.15)",
    "source_commit": "commit (.13)",
    "source_ref": "ref (.14)",
    "build_trigger": "trigger (.20)",
    "runner_environment": "runner (.11)",
    "run_invocation": "run (.21)",
    "visibility": "visibility (.22)",
}


def findings_text(findings: Sequence[Row], width: int | None = None) -> str:
    """Findings as a table, open ones first, with their counts; ids are what a waiver names."""
    if not findings:
        return "No findings."
    counts = Counter(row["state"] for row in findings)
    said = ", ".join(f"{counts[state]:,} {state}" for state in ("open", "waived", "fixed") if counts[state])
    table = text_table(
        (
            (
                row["severity"],
                row["state"],
                row["rule"],
                row["verdict"],
                row["service"],
                row["deployment_id"],
                short_digest(row["digest"]),
                _cut(row["reason"]),
                row["id"],
            )
            for row in findings
        ),
        ("severity", "state", "rule", "verdict", "service", "deployment", "artifact", "reason", "id"),
        width=width,
    )
    return f"{table}\n\n{len(findings):,} findings: {said}"


def _cut(reason: str | None) -> str:
    """As much of a reason as leaves the ids beside it in sight; `evidence` and JSON have it whole."""
    text = printable(reason)
    return text if len(text) <= _REASON_SHOWN else f"{text[: _REASON_SHOWN - 1].rstrip()}…"


def short_digest(digest: str | None) -> str:
    """A digest as long as a person can compare; empty where there is none."""
    if digest is None:
        return ""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:_HASH_SHOWN]}" if value else digest[:_HASH_SHOWN]


def inspections_text(objects: Sequence[Row], width: int | None = None) -> str:
    """What `inspect` found, file by file."""
    return "\n\n".join(_inspection_text(one, width) for one in objects)


def _inspection_text(one: Row, width: int | None) -> str:
    lines = [f"{one['verdict']}  {printable(one['path'])}", f"  {printable(one['reason'])}"]
    rows = _sbom_rows(one) if one["kind"] == "sbom" else _bundle_rows(one)
    if rows:
        lines.append(_pairs(rows, width))
    for document in one.get("documents", ()):
        lines.append(f"  {printable(document['place'])}: {document['verdict']}  {printable(document['reason'])}")
    return "\n".join(lines)


def _bundle_rows(one: Row) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("bundle sha256", one["bundle_sha256"])]
    if one["trusted_root"] is not None:
        rows.append(("trusted root", f"{one['trusted_root']} (sha256 {one['trusted_root_sha256']})"))
    if one["verified_at"] is not None:
        rows.append(("verified time", f"{one['verified_at']} ({one['verified_at_source']})"))
    if one["certificate"] and not one["proven"]:
        rows.append(("", "Not proven; what follows is what the file says of itself:"))
    for key, title in _CERTIFICATE_TITLES.items():
        if one["certificate"] and one["certificate"].get(key) is not None:
            rows.append((title, one["certificate"][key]))
    if one["predicate_type"] is not None:
        rows.append(("predicate type", one["predicate_type"]))
    for subject in one["subjects"][:_MOST_SUBJECTS]:
        digests = ", ".join(f"{name}:{value}" for name, value in subject["digest"].items())
        rows.append(("subject", f"{subject['name']} {digests}".strip()))
    if len(one["subjects"]) > _MOST_SUBJECTS:
        rows.append(("", f"… and {len(one['subjects']) - _MOST_SUBJECTS:,} more subjects"))
    rows += [
        ("claim", f"{claim['claim']}: “{claim['claimed']}”, certificate: “{claim['certificate']}”")
        for claim in one["claims"]
        if claim["agrees"] is False
    ]
    return rows


def _sbom_rows(one: Row) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("sbom sha256", one["sbom_sha256"])]
    if one["format"] is not None:
        rows.append(("format", f"{one['format']} {one['spec_version'] or ''}".rstrip()))
    rows.append(("components", f"{one['components']:,}"))
    if one.get("describes_digest") is not None:
        rows.append(("describes the digest", "yes" if one["describes_digest"] else "no"))
    problems = one.get("problems", ())
    rows += [("problem", f"{problem['path']}: {problem['message']}") for problem in problems[:_MOST_PROBLEMS]]
    if len(problems) > _MOST_PROBLEMS:
        rows.append(("", f"… and {len(problems) - _MOST_PROBLEMS:,} more"))
    return rows


def evidence_text(found: Row, width: int | None = None) -> str:
    """A finding with what it rests on, for people."""
    rows: list[tuple[str, object]] = [
        ("state", found["state"] + (f" ({found['waiver']})" if found["waiver"] else "")),
        ("service", found["service"]),
        ("deployment", found["deployment_id"]),
        ("artifact", f"{found['digest'] or 'unknown'} (join: {found['join']})"),
        ("component", found["component"]),
        ("expected", found["expected"]),
        ("found", found["found"]),
        ("to do", found["remediation"]),
        ("owner", found["owner"]),
    ]
    if found["policy"] is not None:
        line = f":{found['policy_line']}" if found["policy_line"] is not None else ""
        text = f"  {found['policy_text']}" if found["policy_text"] else ""
        rows.append(("policy", f"{found['policy']}{line} (sha256 {found['policy_sha256']}){text}"))
    else:
        rows.append(("policy", "the rules that hold without a policy file"))
    lines = [f"{found['severity']}  {found['rule']}  {found['verdict'] or ''}".rstrip(), printable(found["reason"])]
    lines.append(_pairs(rows, width))
    for judgement in found["judgements"]:
        lines.append(_judgement_text(judgement, width))
    if found["sbom"] is not None:
        sbom = found["sbom"]
        told: list[tuple[str, object]] = [
            ("sbom sha256", sbom["sbom_sha256"]),
            ("format", f"{sbom['format'] or 'unknown'} {sbom['spec_version'] or ''}".rstrip()),
            *(("found at", place["origin"]) for place in sbom["places"]),
        ]
        lines += ["", f"{sbom['verdict']}  {printable(sbom['reason'])}", _pairs(told, width)]
    lines += _checks_lines(found, width)
    return "\n".join(lines)


def _checks_lines(found: Row, width: int | None) -> list[str]:
    """What else failed, with its evidence; the rest by name."""
    others: list[tuple[str, object]] = []
    for check in found["checks"]:
        if check["outcome"] == "failed" and check["name"] != found["rule"]:
            others += [
                (check["name"], f"failed {check['verdict'] or ''}".rstrip()),
                ("  expected", check["expected"]),
                ("  found", check["found"]),
            ]
    for outcome, title in (("passed", "passed"), ("not_applicable", "not asked")):
        names = sorted({check["name"] for check in found["checks"] if check["outcome"] == outcome})
        if names:
            others.append((title, ", ".join(names)))
    return ["", "Other checks of the same artifact", _pairs(others, width)] if others else []


def _judgement_text(judgement: Row, width: int | None) -> str:
    rows: list[tuple[str, object]] = [("bundle sha256", judgement["bundle_sha256"])]
    for place in judgement["places"]:
        inside = f", {judgement['place']}" if judgement["place"] else ""
        rows.append(("found at", f"{place['origin']}{inside}"))
    if judgement["trusted_root"] is not None:
        rows.append(("trusted root", f"{judgement['trusted_root']} (sha256 {judgement['trusted_root_sha256']})"))
    if judgement["verified_at"] is not None:
        at = judgement["verified_at"].isoformat(timespec="seconds")
        rows.append(("verified time", f"{at}Z ({judgement['verified_at_source']})"))
    rows.append(("verifier", judgement["verifier"]))
    certificate = judgement["certificate"] or {}
    rows += [
        (title, certificate[key]) for key, title in _CERTIFICATE_TITLES.items() if certificate.get(key) is not None
    ]
    head = f"{judgement['verdict']}  {printable(judgement['reason'])}"
    return f"\n{head}\n{_pairs(rows, width)}"


def _pairs(rows: Sequence[tuple[str, object]], width: int | None) -> str:
    said = ((f"  {title}", value) for title, value in rows if value is not None)
    # The first line is an empty header.
    return text_table(said, ("", ""), width=width).lstrip("\n")


def verified_lines(summary: VerifySummary, width: int | None = None) -> str:
    """What the stage verify judged, by verdict, and the findings by severity and state."""
    lines = [f"bundles: {summary.judged:,} judged, {summary.known:,} known; SBOMs: {summary.sboms:,}"]
    if summary.verdicts:
        verdicts = sorted(summary.verdicts.items(), key=lambda one: (-one[1], one[0]))
        lines += ["", text_table(((name, f"{count:,}") for name, count in verdicts), ("verdict", ">artifacts"))]
    if summary.findings:
        order = ("critical", "high", "medium", "low", "info")
        severities = sorted({severity for _, severity in summary.findings}, key=order.index)
        rows = (
            (severity, *(f"{summary.findings[state, severity]:,}" for state in ("open", "waived", "fixed")))
            for severity in severities
        )
        lines += ["", text_table(rows, ("findings", ">open", ">waived", ">fixed"))]
    return "\n".join(lines)
