"""What the stage verify found, as a pack shows it: findings, waivers, coverage of digests, rules and controls.

Shares of coverage are a census: they have no interval. Findings are as the snapshot holds them; what was first seen
after the quarter is left to the next pack. Source: reports.md section 1, items 12 to 15; supply-chain.md section 3.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from analytics.supply_chain.findings import SEVERITY_ORDER
from analytics.supply_chain.policy import NOT_ASKED
from reports.published import has_table, local_day, rows

STATES = ("open", "waived", "fixed")
COVERAGE = ("signature", "provenance", "sbom")
COVERAGE_WORDS = {"signature": "Verified signature", "provenance": "SLSA provenance", "sbom": "SBOM"}
OUTCOMES = ("passed", "failed", "waived", "not_evaluated")
OUTCOME_WORDS = {"passed": "pass", "failed": "fail", "waived": "waived", "not_evaluated": "not evaluated"}
# A waiver that ends within so many days of the quarter's end is called out.
EXPIRING_DAYS = 92

_UNTIL = re.compile(r", (until|expired on) (\d{4}-\d{2}-\d{2}): ")
_PLACE = re.compile(r"(?P<place>.*?:\d+|[^:]*): (?P<owner>.*)", re.DOTALL)


@dataclass(frozen=True)
class FindingRow:
    """One finding; `first_day` is local, `age_days` is counted to the last day of the quarter that is covered."""

    id: str
    rule: str
    verdict: str | None
    severity: str
    state: str
    service: str | None
    deployment_id: str | None
    digest: str | None
    join_kind: str | None
    bundle_sha256: str | None
    sbom_sha256: str | None
    component: str | None
    reason: str
    expected: str | None
    found: str | None
    remediation: str
    owner: str | None
    policy: str | None
    policy_line: int | None
    trusted_root: str | None
    verifier: str | None
    waiver: str | None
    waived_until: date | None
    first_day: date | None
    age_days: int | None

    @property
    def audited(self) -> bool:
        """Whether somebody has decided about it."""
        return self.state == "waived"


@dataclass(frozen=True)
class Waived:
    """A waiver with the findings it covers; `expired` ones cover nothing any more and their findings are open again."""

    place: str
    owner: str
    reason: str
    until: date
    expired: bool
    findings: int
    days_left: int

    @property
    def expiring(self) -> bool:
        """Whether it ends soon after the quarter."""
        return not self.expired and self.days_left <= EXPIRING_DAYS


@dataclass(frozen=True)
class Covered:
    """How many distinct deployed digests of a quarter are covered, k of n, and deployments known by no digest."""

    quarter: str
    digests: int
    covered: Mapping[str, int]
    deployments: int
    without_digest: int


@dataclass(frozen=True)
class Outcomes:
    """One rule or control with the number of deployments by outcome."""

    name: str
    counts: Mapping[str, int]

    @property
    def evaluated(self) -> int:
        """Deployments for which the question was answered."""
        return sum(self.counts.get(outcome, 0) for outcome in ("passed", "failed", "waived"))


@dataclass(frozen=True)
class Provenance:
    """Everything on the security pages; empty when the stage verify has not run or found nothing to judge."""

    findings: Sequence[FindingRow] = ()
    waivers: Sequence[Waived] = ()
    coverage: Sequence[Covered] = ()
    controls: Sequence[Outcomes] = ()
    checks: Sequence[Outcomes] = ()
    verdicts: Sequence[tuple[str, int]] = ()
    opened: int = 0
    closed: int = 0
    judged: int = 0
    has_policy: bool = False
    # Deployments were judged and nobody asked for attestations: that there are none says nothing.
    unasked: bool = False
    _by_service: dict[str, list[FindingRow]] = field(default_factory=dict, repr=False)

    def of_state(self, state: str) -> list[FindingRow]:
        """Findings that stand so."""
        return [finding for finding in self.findings if finding.state == state]

    def by_severity(self, state: str = "open") -> list[tuple[str, int]]:
        """How many of a state there are of each severity, gravest first; severities without one are 0."""
        counts = Counter(finding.severity for finding in self.findings if finding.state == state)
        return [(severity, counts[severity]) for severity in SEVERITY_ORDER]

    def of_services(self, services: Sequence[str]) -> list[FindingRow]:
        """Findings of some services, in their order."""
        wanted = set(services)
        return [finding for finding in self.findings if finding.service in wanted]

    @property
    def coverage_kinds(self) -> Sequence[str]:
        """What coverage is known of: where nobody asked for attestations, SBOMs alone, if there are any."""
        if not self.unasked:
            return COVERAGE
        return [kind for kind in COVERAGE if kind == "sbom" and any(one.covered[kind] for one in self.coverage)]

    def covered_in(self, quarter: str) -> Covered | None:
        """Coverage of one quarter."""
        return next((one for one in self.coverage if one.quarter == quarter), None)


def read_provenance(
    con: duckdb.DuckDBPyConnection, quarters: Sequence[str], first: date, end: date, covered_to: date, zone: ZoneInfo
) -> Provenance:
    """Findings first seen before a quarter's end, and coverage, rules and controls of its days ``[first, end)``."""
    if not has_table(con, "findings"):
        return Provenance()
    findings = _findings(con, end, covered_to, zone)
    verdicts = [
        (row["verdict"] or "not judged", row["deployments"])
        for row in rows(
            con,
            "SELECT verdict, count(*) AS deployments FROM deployment_provenance WHERE day >= ? AND day < ? "
            "GROUP BY ALL ORDER BY deployments DESC, verdict",
            (first, end),
        )
    ]
    unasked = bool(rows(con, "SELECT 1 FROM deployment_provenance WHERE reason = ? LIMIT 1", (NOT_ASKED,)))
    opened = sum(1 for one in findings if one.first_day and first <= one.first_day < end)
    closed = [
        row["last_seen"]
        for row in rows(con, "SELECT last_seen FROM findings WHERE state = 'fixed' AND last_seen IS NOT NULL")
    ]
    return Provenance(
        findings=findings,
        waivers=_waivers(findings, covered_to),
        coverage=_coverage(con, quarters),
        controls=_controls(con, first, end),
        checks=_checks(con, first, end),
        verdicts=verdicts,
        opened=opened,
        closed=sum(1 for at in closed if first <= local_day(at, zone) < end),
        judged=sum(count for _, count in verdicts),
        has_policy=has_table(con, "verification")
        and bool(rows(con, "SELECT 1 FROM verification WHERE key = 'policy' AND value IS NOT NULL")),
        unasked=unasked,
    )


def _findings(con: duckdb.DuckDBPyConnection, end: date, covered_to: date, zone: ZoneInfo) -> list[FindingRow]:
    # `last_seen` and `verified_at` move with every run: a pack that said them would never be the same twice.
    found = rows(
        con,
        "SELECT id, rule, verdict, severity, state, service, deployment_id, digest, join_kind, bundle_sha256, "
        "sbom_sha256, component, reason, expected, found, remediation, owner, policy, policy_line, trusted_root, "
        "verifier, waiver, waived_until, first_seen FROM findings",
    )
    placed = []
    for row in found:
        first_seen: datetime | None = row.pop("first_seen")
        first_day = local_day(first_seen, zone) if first_seen is not None else None
        if first_day is not None and first_day >= end:
            continue
        age = max(0, (covered_to - first_day).days) if first_day is not None else None
        placed.append(FindingRow(**{**row, "reason": row["reason"] or ""}, first_day=first_day, age_days=age))
    return sorted(placed, key=_order)


def _order(finding: FindingRow) -> tuple[int, int, int, str, str]:
    """Open ones first, then by severity, the oldest first."""
    severity = SEVERITY_ORDER.index(finding.severity) if finding.severity in SEVERITY_ORDER else len(SEVERITY_ORDER)
    state = STATES.index(finding.state) if finding.state in STATES else len(STATES)
    return state, severity, -(finding.age_days or 0), finding.service or "", finding.id


def _waivers(findings: Sequence[FindingRow], covered_to: date) -> list[Waived]:
    """Waivers by the words that the findings carry: `file:line: owner, until DATE: reason`."""
    counts = Counter(finding.waiver for finding in findings if finding.waiver and finding.state != "fixed")
    waivers = []
    for words, count in counts.items():
        assert words is not None
        match = _UNTIL.search(words)
        if match is None:
            continue
        place = _PLACE.fullmatch(words[: match.start()])
        until = date.fromisoformat(match[2])
        waivers.append(
            Waived(
                place=place["place"] if place else "",
                owner=place["owner"] if place else words[: match.start()],
                reason=words[match.end() :],
                until=until,
                expired=match[1] != "until",
                findings=count,
                days_left=(until - covered_to).days,
            )
        )
    return sorted(waivers, key=lambda one: (one.until, one.place, one.owner, one.reason))


def _coverage(con: duckdb.DuckDBPyConnection, quarters: Sequence[str]) -> list[Covered]:
    marks = ", ".join("?" for _ in quarters)
    found = rows(
        con,
        "WITH digests AS ("
        "  SELECT c.quarter, p.digest, bool_or(coalesce(signed, false)) AS signature, "
        "  bool_or(coalesce(provenance, false)) AS provenance, bool_or(coalesce(sbom, false)) AS sbom "
        "  FROM deployment_provenance p JOIN calendar c ON c.day = p.day WHERE p.digest IS NOT NULL GROUP BY ALL"
        "), deployed AS ("
        "  SELECT c.quarter, count(DISTINCT (service, deployment_key)) AS deployments, "
        "  count(DISTINCT CASE WHEN digest IS NULL THEN (service, deployment_key) END) AS without_digest "
        "  FROM deployment_provenance p JOIN calendar c ON c.day = p.day GROUP BY ALL"
        ") SELECT deployed.quarter AS quarter, deployments, without_digest, count(digests.digest) AS digests, "
        "count(*) FILTER (signature) AS signature, count(*) FILTER (provenance) AS provenance, "
        "count(*) FILTER (sbom) AS sbom FROM deployed LEFT JOIN digests ON digests.quarter = deployed.quarter "
        f"WHERE deployed.quarter IN ({marks}) GROUP BY ALL ORDER BY deployed.quarter",
        quarters,
    )
    return [
        Covered(
            row["quarter"],
            row["digests"],
            {kind: row[kind] for kind in COVERAGE},
            row["deployments"],
            row["without_digest"],
        )
        for row in found
    ]


def _controls(con: duckdb.DuckDBPyConnection, first: date, end: date) -> list[Outcomes]:
    if not has_table(con, "deployment_controls"):
        return []
    return _outcomes(
        con,
        "SELECT control AS name, outcome, count(*) AS deployments FROM deployment_controls "
        "WHERE day >= ? AND day < ? GROUP BY ALL ORDER BY ALL",
        (first, end),
    )


def _checks(con: duckdb.DuckDBPyConnection, first: date, end: date) -> list[Outcomes]:
    """Rules by deployment: one that fails in any of a deployment's attestations that count fails for it."""
    return _outcomes(
        con,
        "SELECT name, outcome, count(*) AS deployments FROM ("
        "  SELECT service, deployment_key, name, CASE WHEN bool_or(outcome = 'failed') THEN 'failed' "
        "  WHEN bool_or(outcome = 'passed') THEN 'passed' ELSE 'not_evaluated' END AS outcome "
        "  FROM provenance_checks WHERE day >= ? AND day < ? GROUP BY ALL"
        ") GROUP BY ALL ORDER BY ALL",
        (first, end),
    )


def _outcomes(con: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any]) -> list[Outcomes]:
    counts: dict[str, dict[str, int]] = {}
    for row in rows(con, query, parameters):
        outcome = row["outcome"] if row["outcome"] in OUTCOMES else "not_evaluated"
        of = counts.setdefault(row["name"], {})
        of[outcome] = of.get(outcome, 0) + row["deployments"]
    return [Outcomes(name, found) for name, found in counts.items()]
