"""How many findings are open, and how much of what was deployed is covered; Dagster's checks and sensors judge them.

Source: supply-chain.md section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta

import duckdb

from analytics.lake.reading import read_tables
from analytics.settings import Settings
from analytics.supply_chain.findings import SEVERITY_ORDER
from analytics.supply_chain.rules import Severity

# What is deployed now says more of today's workflows than what was deployed a year ago.
RECENT = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class SeverityCount:
    """Findings of one severity by state; `live` are the open ones of what each service runs now, by rule."""

    severity: Severity
    open: int = 0
    waived: int = 0
    fixed: int = 0
    live: tuple[tuple[str, int], ...] = ()

    @property
    def open_and_live(self) -> int:
        """How many open ones are of what runs now."""
        return sum(count for _, count in self.live)


@dataclass(frozen=True, slots=True)
class Covered:
    """Shares of the artifacts deployed in the last 90 days; None where none was, or nobody asked for compliance."""

    artifacts: int
    signature: float | None
    provenance: float | None
    sbom: float | None
    compliance: float | None


def findings_by_severity(settings: Settings) -> list[SeverityCount]:
    """Findings after the last `verify`, the gravest severity first; one entry for each severity."""

    def read(con: duckdb.DuckDBPyConnection) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
        by_state = con.execute("SELECT severity, state, count(*) FROM findings GROUP BY ALL")
        counted = by_state.fetchall()
        by_rule = con.execute(
            "SELECT severity, rule, count(*) AS findings FROM findings WHERE state = 'open' AND is_live "
            "GROUP BY ALL ORDER BY findings DESC, rule"
        )
        return counted, by_rule.fetchall()

    counted, live = read_tables(settings, ["findings"], read)
    states = {(severity, state): count for severity, state, count in counted}
    return [
        SeverityCount(
            severity,
            states.get((severity, "open"), 0),
            states.get((severity, "waived"), 0),
            states.get((severity, "fixed"), 0),
            tuple((rule, count) for of, rule, count in live if of == severity),
        )
        for severity in SEVERITY_ORDER
    ]


def covered(settings: Settings) -> Covered:
    """How much of what was deployed in the 90 days before the cut-off is signed, attested, described and compliant."""
    since = (settings.now() - RECENT).astimezone(UTC).replace(tzinfo=None)
    (row,) = read_tables(
        settings,
        ["deployment_provenance"],
        lambda con: con.execute(
            "SELECT count(*), avg(signed::INT), avg(provenance::INT), avg(sbom::INT), avg(complies::INT) "
            "FROM deployment_provenance WHERE finished_at >= ?",
            [since],
        ).fetchall(),
    )
    return Covered(*row)
