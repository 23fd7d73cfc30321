"""Verdicts as in-toto statements that hold a SLSA verification summary (VSA).

Unsigned: whoever hands them on signs them. The format knows PASSED and FAILED only; what could be shown neither true
nor false (UNSUPPORTED_*, ERROR_FETCH) has no summary, since it did not fail. Source: supply-chain.md section 1,
https://slsa.dev/verification_summary/v1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from typing import Any

from analytics.supply_chain.verdicts import Verdict

Row = Mapping[str, Any]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
SLSA_VERSION = "1.1"
# Names of ours, which readers of the format skip.
OURS = "urn:quarterdeck:"


def verification_summaries(rows: Sequence[Row], made_under: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A statement per artifact of a deployment, in the order of the rows (listing.provenance_list).

    The subject is the artifact's digest; where only the commit is known, the commit as `gitCommit`, and `join` says so.
    """
    for row in rows:
        result = _result(Verdict(row["verdict"]), row["complies"])
        subject = _subject(row)
        if result is not None and subject is not None:
            yield {
                "_type": STATEMENT_TYPE,
                "subject": [subject],
                "predicateType": PREDICATE_TYPE,
                "predicate": _predicate(row, result, made_under),
            }


def as_lines(statements: Iterator[dict[str, Any]]) -> str:
    """JSON lines in ASCII, one statement each."""
    return "".join(json.dumps(statement, separators=(",", ":")) + "\n" for statement in statements)


def _result(verdict: Verdict, complies: bool | None) -> str | None:
    if verdict.unsupported or verdict is Verdict.ERROR_FETCH:
        return None
    # A policy may require more than an attestation that holds.
    return "PASSED" if verdict.passed and complies is not False else "FAILED"


def _subject(row: Row) -> dict[str, Any] | None:
    name = {"name": row["artifact"]} if row["artifact"] else {}
    if row["digest"]:
        algorithm, _, value = row["digest"].partition(":")
        return {**name, "digest": {algorithm: value}}
    return {"name": row["repository"], "digest": {"gitCommit": row["sha"]}} if row["sha"] else None


def _predicate(row: Row, result: str, made_under: Mapping[str, str]) -> dict[str, Any]:
    passed = result == "PASSED"
    level = row["slsa_level"]
    return {
        "verifier": {
            "id": f"{OURS}verify",
            "version": {"quarterdeck": metadata.version("quarterdeck"), "checks": made_under["verifier"]},
        },
        "timeVerified": made_under["cut_off"],
        "resourceUri": row["artifact"] or f"{OURS}service:{row['service']}",
        "policy": {
            "uri": made_under.get("policy", f"{OURS}policy:built-in"),
            "digest": {"sha256": row["policy_sha256"]},
        },
        "inputAttestations": [{"digest": {"sha256": sha256}} for sha256 in row["bundles"] or ()],
        "verificationResult": result,
        "verifiedLevels": [f"SLSA_BUILD_LEVEL_{'UNEVALUATED' if level is None else level}" if passed else "FAILED"],
        "slsaVersion": SLSA_VERSION,
        f"{OURS}verdict": row["verdict"],
        f"{OURS}reason": row["reason"],
        f"{OURS}missing_controls": row["missing_controls"] or [],
        f"{OURS}deployment": {
            "service": row["service"],
            "deployment_id": row["deployment_id"],
            "repository": row["repository"],
            "sha": row["sha"],
            "finished_at": _time(row["finished_at"]),
            "join": row["join_kind"],
        },
        f"{OURS}trusted_roots": [value for key, value in made_under.items() if key.startswith("trusted_root ")],
    }


def _time(value: datetime | None) -> str | None:
    return value.isoformat(timespec="seconds") + "Z" if value is not None else None
