"""Findings as they stand after the last `verify`, in the shape and order that programs read.

They are read from the lake, which the stage writes: after `verify` alone the published database is still of before.
Source: contract.md section 6, supply-chain.md section 3.
"""

from __future__ import annotations

from typing import Any

from analytics.engine import connect
from analytics.errors import LakeError
from analytics.lake.tables import create_views
from analytics.periods import Quarter
from analytics.settings import Settings
from analytics.supply_chain.findings import SEVERITY_ORDER

# Those of contract.md section 6, then the evidence behind a finding.
COLUMNS = (
    "id",
    "rule",
    "verdict",
    "severity",
    "state",
    "service",
    "deployment_id",
    "digest",
    "join",
    "bundle_sha256",
    "reason",
    "remediation",
    "owner",
    "first_seen",
    "last_seen",
    "waiver",
    "waived_until",
    "is_live",
    "repository",
    "deployment_key",
    "sbom_sha256",
    "component",
    "expected",
    "found",
    "policy",
    "policy_line",
    "policy_sha256",
    "trusted_root",
    "trusted_root_sha256",
    "verifier",
    "verified_at",
    "verified_at_source",
)
STATES = ("open", "waived", "fixed")


def findings_list(settings: Settings, quarter: Quarter | None = None) -> list[dict[str, Any]]:
    """Findings with the keys of COLUMNS, times naive UTC: open ones first, the gravest first.

    With a quarter, those of what was deployed in it: a finding runs from when it was first seen to the (latest)
    deployment that it names. Raises LakeError where `verify` has not run.
    """
    selected = ", ".join('join_kind AS "join"' if column == "join" else column for column in COLUMNS)
    with connect(settings) as con:
        create_views(con, settings, "findings", "deployment_provenance", "verification")
        if con.execute("SELECT count(*) FROM verification").fetchall() == [(0,)]:
            raise LakeError(
                "nothing has been verified yet",
                where=str(settings.lake_dir),
                fix="Run `quarterdeck verify`, or `quarterdeck run`, first.",
            )
        within = ""
        bounds: list[object] = []
        if quarter is not None:
            within = (
                "WHERE first_seen < ? AND coalesce((SELECT max(finished_at) FROM deployment_provenance AS deployed "
                "WHERE deployed.service = findings.service AND deployed.deployment_key = findings.deployment_key), "
                "first_seen) >= ?"
            )
            start, end = (bound.replace(tzinfo=None) for bound in settings.calendar.bounds_utc(quarter))
            bounds = [end, start]
        found = con.execute(f"SELECT {selected} FROM findings {within}", bounds).fetchall()
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found]
    rows.sort(
        key=lambda row: (
            STATES.index(row["state"]),
            SEVERITY_ORDER.index(row["severity"]),
            row["service"] or "",
            row["first_seen"],
            row["id"],
        )
    )
    return rows
