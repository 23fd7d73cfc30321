"""From a finding down to what it rests on: the bytes that were judged, the certificate's fields, the policy's line.

Source: supply-chain.md section 3 (evidence).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from analytics.lake.reading import read_tables
from analytics.settings import Settings
from analytics.supply_chain.gathering import handed_in_files, landed_bundle_bytes, landed_sbom_bytes, read_file
from analytics.supply_chain.listing import finding_row
from analytics.supply_chain.untrusted import printable

_READ = (
    "attestations",
    "attestation_judgements",
    "attestation_places",
    "provenance_checks",
    "sbom_documents",
    "sbom_places",
    "sboms",
)


def evidence(settings: Settings, finding_id: str) -> dict[str, Any]:
    """A finding with `judgements` (verdict, certificate, places of the bytes), `checks`, `sbom` and `policy_text`.

    `policy_text` is the policy's line as the file holds it now, None where the file has changed since. Raises
    UsageError for an id that no finding has, LakeError where `verify` has not run.
    """
    finding = finding_row(settings, finding_id)

    def read(con: duckdb.DuckDBPyConnection) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        judgements = _rows(
            con,
            "SELECT * EXCLUDE (roots_sha256) FROM attestation_judgements WHERE bundle_sha256 = ? ORDER BY input_sha256",
            [finding["bundle_sha256"]],
        )
        for judgement in judgements:
            judgement["certificate"] = json.loads(judgement["certificate"]) if judgement["certificate"] else None
            judgement["claims"] = json.loads(judgement["claims"]) if judgement["claims"] else None
            judgement["places"] = _rows(
                con,
                "SELECT origin, stated_digest FROM attestation_places WHERE input_sha256 = ? ORDER BY ALL",
                [judgement["input_sha256"]],
            )
        checks = _rows(
            con,
            "SELECT bundle_sha256, name, outcome, severity, verdict, expected, found, policy_line, note "
            "FROM provenance_checks WHERE service = ? AND deployment_key = ? AND digest IS NOT DISTINCT FROM ? "
            "AND (bundle_sha256 = ? OR bundle_sha256 IS NULL) ORDER BY outcome <> 'failed', name",
            [finding["service"], finding["deployment_key"], finding["digest"], finding["bundle_sha256"]],
        )
        sboms = _rows(
            con,
            "SELECT sbom_sha256, verdict, reason, format, spec_version, made_at, origin_kind FROM sbom_documents "
            "WHERE sbom_sha256 = ?",
            [finding["sbom_sha256"]],
        )
        for sbom in sboms:
            sbom["places"] = _rows(
                con,
                "SELECT origin, digest FROM sbom_places WHERE sbom_sha256 = ? ORDER BY ALL",
                [sbom["sbom_sha256"]],
            )
        return judgements, checks, sboms

    judgements, checks, sboms = read_tables(settings, _READ, read)
    return {
        **finding,
        "policy_text": _policy_text(settings, finding),
        "judgements": judgements,
        "checks": checks,
        "sbom": sboms[0] if sboms else None,
    }


def save_evidence(settings: Settings, found: dict[str, Any], folder: Path) -> list[Path]:
    """Write the bytes that a finding rests on into a folder, each file named by its SHA-256; gives the files.

    Bundles as they were handed in, and SBOMs that came by themselves; an attested one stands in its bundle. What is not
    there any more, or has changed, is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def save(con: duckdb.DuckDBPyConnection) -> list[Path]:
        written: list[Path] = []
        for sha256, raw in _bytes(con, settings, found):
            path = folder / f"{sha256}.json"
            temporary = folder / f".{sha256}.part"
            temporary.write_bytes(raw)
            temporary.replace(path)
            written.append(path)
        return written

    return read_tables(settings, _READ, save)


def _bytes(con: duckdb.DuckDBPyConnection, settings: Settings, found: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    inputs = {judgement["input_sha256"]: judgement["places"] for judgement in found["judgements"]}
    sbom = found["sbom"]
    if sbom is not None:
        inputs[sbom["sbom_sha256"]] = sbom["places"]
        for (input_sha256,) in con.execute(
            "SELECT DISTINCT input_sha256 FROM attestation_judgements WHERE sbom_sha256 = ?", [sbom["sbom_sha256"]]
        ).fetchall():
            inputs.setdefault(input_sha256, [])
    landed: dict[str, bytes] = {}
    if inputs:
        landed = dict(landed_sbom_bytes(con, sorted(inputs)))
        landed |= {place.sha256: raw for place, raw in handed_in_files(con, settings) if isinstance(raw, bytes)}
        landed |= dict(landed_bundle_bytes(con, sorted(inputs)))
    for sha256, places in sorted(inputs.items()):
        raw = landed.get(sha256) or _from_files(sha256, [place["origin"] for place in places])
        if raw is not None:
            yield sha256, raw


def _from_files(sha256: str, origins: list[str]) -> bytes | None:
    """A file's bytes, if a place of the document is a file that still holds it."""
    for path in map(Path, origins):
        try:
            raw = read_file(path) if path.is_absolute() else b""
        except (OSError, ValueError):
            continue
        if hashlib.sha256(raw).hexdigest() == sha256:
            return raw
    return None


def _policy_text(settings: Settings, finding: dict[str, Any]) -> str | None:
    path, line = settings.supply_chain.policies, finding["policy_line"]
    if path is None or line is None:
        return None
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(raw).hexdigest() != finding["policy_sha256"]:
        return None
    lines = raw.decode(errors="replace").splitlines()
    return printable(lines[line - 1].strip()) if line <= len(lines) else None


def _rows(con: duckdb.DuckDBPyConnection, query: str, values: list[Any]) -> list[dict[str, Any]]:
    found = con.execute(query, values)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
