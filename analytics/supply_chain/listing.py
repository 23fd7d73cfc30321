"""Findings as they stand after the last `verify`, in the shape and order that programs read.

They are read from the lake, which the stage writes: after `verify` alone the published database is still of before.
Source: contract.md section 6, supply-chain.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import duckdb

from analytics.errors import LakeError, UsageError
from analytics.lake.reading import read_tables
from analytics.lake.tables import lake_place
from analytics.periods import Quarter
from analytics.settings import Settings
from analytics.supply_chain.findings import SEVERITY_ORDER

T = TypeVar("T")
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
# How many ids an error names.
_MOST_IDS = 5
STATES = ("open", "waived", "fixed")


def findings_list(settings: Settings, quarter: Quarter | None = None) -> list[dict[str, Any]]:
    """Findings with the keys of COLUMNS, times naive UTC: open ones first, the gravest first.

    With a quarter, those of what was deployed in it: a finding runs from when it was first seen to the (latest)
    deployment that it names. Raises LakeError where `verify` has not run.
    """
    selected = ", ".join('join_kind AS "join"' if column == "join" else column for column in COLUMNS)
    within = ""
    bounds: list[object] = []
    if quarter is not None:
        within = (
            "WHERE first_seen < ? AND coalesce((SELECT max(finished_at) FROM deployment_provenance AS deployed "
            "WHERE deployed.service = findings.service AND deployed.deployment_key = findings.deployment_key), "
            "first_seen) >= ?"
        )
        start, end = _bounds(settings, quarter)
        bounds = [end, start]
    found = _read_verified(
        settings,
        ("findings", "deployment_provenance"),
        lambda con: con.execute(f"SELECT {selected} FROM findings {within}", bounds).fetchall(),
    )
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


def finding_row(settings: Settings, finding_id: str) -> dict[str, Any]:
    """One finding with the keys of COLUMNS, by its id or by a beginning that no other id has.

    Raises UsageError for an id that none has, and for a beginning of several.
    """
    found = [row for row in findings_list(settings) if row["id"].startswith(finding_id)]
    exact = [row for row in found if row["id"] == finding_id]
    if not found:
        raise UsageError(f"no finding has the id “{finding_id}”", fix="`quarterdeck findings` prints the ids.")
    if len(found) > 1 and not exact:
        ids = ", ".join(row["id"] for row in found[:_MOST_IDS])
        more = ", …" if len(found) > _MOST_IDS else ""
        raise UsageError(
            f"{len(found)} findings have ids that begin with “{finding_id}”", fix=f"Give one: {ids}{more}."
        )
    return (exact or found)[0]


def provenance_list(settings: Settings, quarter: Quarter | None = None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of `deployment_provenance`, each with the `bundles` that were held against it; and what they rest on.

    With a quarter, of what was deployed in it. Raises LakeError where `verify` has not run.
    """
    bounds: list[object] = [None, None] if quarter is None else _bounds(settings, quarter)

    def read(con: duckdb.DuckDBPyConnection) -> tuple[list[dict[str, Any]], dict[str, str]]:
        made_under = dict(con.execute("SELECT key, value FROM verification WHERE value IS NOT NULL").fetchall())
        found = con.execute(
            "SELECT provenance.*, asked.bundles FROM deployment_provenance AS provenance LEFT JOIN "
            "(SELECT service, deployment_key, digest, list_sort(list(DISTINCT bundle_sha256)) AS bundles "
            "FROM provenance_checks WHERE bundle_sha256 IS NOT NULL GROUP BY ALL) AS asked "
            "ON asked.service = provenance.service AND asked.deployment_key = provenance.deployment_key "
            "AND asked.digest IS NOT DISTINCT FROM provenance.digest "
            "WHERE ?::TIMESTAMP IS NULL OR (finished_at >= ? AND finished_at < ?) "
            "ORDER BY finished_at, provenance.service, provenance.deployment_key, provenance.digest",
            [bounds[0], *bounds],
        )
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()], made_under

    return _read_verified(settings, ("deployment_provenance", "provenance_checks"), read)


def _read_verified(settings: Settings, tables: Sequence[str], read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """What a function reads of some tables that `verify` wrote."""

    def read_if_any(con: duckdb.DuckDBPyConnection) -> T:
        if con.execute("SELECT count(*) FROM verification").fetchall() == [(0,)]:
            raise LakeError(
                "nothing has been verified yet",
                where=lake_place(settings),
                fix="Run `quarterdeck verify`, or `quarterdeck run`, first.",
            )
        return read(con)

    return read_tables(settings, ["verification", *tables], read_if_any)


def _bounds(settings: Settings, quarter: Quarter) -> list[object]:
    return [bound.replace(tzinfo=None) for bound in settings.calendar.bounds_utc(quarter)]
