"""Judges what was not judged before and keeps it, for whichever stage asks first.

Cryptography is done once per bundle, trusted roots and verifier; `build` asks about deployed artifacts, whose
provenance says what they were built of, and `verify` about all the rest. Source: supply-chain.md section 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from analytics import progress
from analytics.lake.parts import TableParts
from analytics.lake.tables import create_views, write_table
from analytics.settings import Settings
from analytics.supply_chain.gathering import Place, files_of, landed_bundle_bytes, landed_bundles, read_file
from analytics.supply_chain.judging import attested_sboms, roots_sha256
from analytics.supply_chain.sbom_reading import SbomReader
from analytics.supply_chain.side_by_side import judge_inputs
from analytics.supply_chain.trusted_roots import TrustedRoot

_EVERY = 500


@dataclass
class Kept:
    """How many inputs were judged now, how many were known, and where they lie."""

    judged: int = 0
    known: int = 0
    places: list[Place] = field(default_factory=list)


def judge_new_bundles(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    roots: Sequence[TrustedRoot],
    parts: TableParts,
    reader: SbomReader,
) -> Kept:
    """Judge every bundle that was not judged under these roots; what is gone, or was judged under others, is dropped.

    `reader` gets the SBOMs that they attest, also of bundles that `build` or a run that was ended judged before. Writes
    `attestation_judgements` and `attestation_places` and leaves the temp table `present_bundles`. Needs the views
    attestations and attestation_judgements.
    """
    kept, files, known, new = _present(con, settings, roots, None)
    (stale,) = con.execute(
        f"SELECT (SELECT count(*) FROM attestation_judgements) - (SELECT count(*) FROM ({known}))"
    ).fetchall()[0]
    _judge(con, roots, parts, kept, files, new, reader)
    if new or stale:
        _write(con, settings, parts, known)
    write_table(con, settings, "attestation_places", "SELECT * FROM present_bundles")
    _read_others(con, files, reader)
    progress.report("verify", f"{kept.judged:,} bundles judged, {kept.known:,} known")
    return kept


def judge_bundles_of(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    roots: Sequence[TrustedRoot],
    parts: TableParts,
    digests: Collection[str],
) -> Kept:
    """Judge the bundles that may speak of some artifacts (`sha256:…`): handed in for them, or for none that is named.

    Everything kept stays. Writes `attestation_judgements` and leaves the temp table `present_bundles` with what was
    asked about. Needs the views attestations and attestation_judgements.
    """
    kept, files, _, new = _present(con, settings, roots, digests)
    _judge(con, roots, parts, kept, files, new, None)
    if new:
        _write(con, settings, parts, "SELECT * FROM attestation_judgements")
    return kept


def _present(
    con: duckdb.DuckDBPyConnection, settings: Settings, roots: Sequence[TrustedRoot], digests: Collection[str] | None
) -> tuple[Kept, dict[str, tuple[Place, Path]], str, list[str]]:
    """What there is, the query of what is known of it, and what is new."""
    files = {place.sha256: (place, path) for place, path in _files(settings)}
    places = [*landed_bundles(con), *(place for place, _ in files.values())]
    if digests is not None:
        places = [place for place in places if place.digest is None or place.digest in digests]
    con.execute(
        "CREATE OR REPLACE TEMP TABLE present_bundles (input_sha256 VARCHAR, stated_digest VARCHAR, origin VARCHAR)"
    )
    if places:
        con.execute(
            "INSERT INTO present_bundles SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
            [[one.sha256 for one in places], [one.digest for one in places], [one.origin for one in places]],
        )
    known = (
        "SELECT * FROM attestation_judgements "
        f"WHERE roots_sha256 = '{roots_sha256(roots)}' AND input_sha256 IN (SELECT input_sha256 FROM present_bundles)"
    )
    new = con.execute(
        "SELECT DISTINCT input_sha256 FROM present_bundles WHERE input_sha256 NOT IN "
        f"(SELECT input_sha256 FROM ({known})) ORDER BY 1"
    ).fetchall()
    kept = Kept(places=places)
    (kept.known,) = con.execute(f"SELECT count(DISTINCT input_sha256) FROM ({known})").fetchall()[0]
    return kept, files, known, [sha256 for (sha256,) in new]


def _judge(
    con: duckdb.DuckDBPyConnection,
    roots: Sequence[TrustedRoot],
    parts: TableParts,
    kept: Kept,
    files: Mapping[str, tuple[Place, Path]],
    new: Sequence[str],
    reader: SbomReader | None,
) -> None:
    stage = "verify" if reader else "build"
    roots_hash = roots_sha256(roots)
    judged = judge_inputs(_bytes(con, new, files), roots, roots_hash, len(new))
    for number, (was_read, rows, documents) in enumerate(judged):
        if number % _EVERY == 0:
            progress.report(stage, "bundles", number, len(new))
        for row in rows:
            parts.add("attestation_judgements", row)
        if reader is not None:
            for sbom_sha256, document in documents:
                reader.take(sbom_sha256, document, "attested")
        kept.judged += was_read


def _write(con: duckdb.DuckDBPyConnection, settings: Settings, parts: TableParts, known: str) -> None:
    # What was known is read into memory first: its files are replaced.
    con.execute(f"CREATE OR REPLACE TEMP TABLE kept_judgements AS {known}")
    query = f"SELECT * FROM kept_judgements UNION ALL BY NAME {parts.relation('attestation_judgements')}"
    write_table(con, settings, "attestation_judgements", query)
    create_views(con, settings, "attestation_judgements")


def _read_others(con: duckdb.DuckDBPyConnection, files: Mapping[str, tuple[Place, Path]], reader: SbomReader) -> None:
    """Read SBOMs that nobody has read, in bundles that were judged before."""
    wanted: dict[str, set[str]] = {}
    for input_sha256, sbom_sha256 in con.execute(
        "SELECT input_sha256, sbom_sha256 FROM attestation_judgements WHERE sbom_sha256 IS NOT NULL ORDER BY ALL"
    ).fetchall():
        if reader.is_new(sbom_sha256):
            wanted.setdefault(input_sha256, set()).add(sbom_sha256)
    for input_sha256, raw in _bytes(con, list(wanted), files) if wanted else ():
        for sbom_sha256, document in attested_sboms(raw, wanted[input_sha256]) if isinstance(raw, bytes) else ():
            reader.take(sbom_sha256, document, "attested")


def _files(settings: Settings) -> Iterator[tuple[Place, Path]]:
    for path in files_of(settings, settings.supply_chain.bundles, "bundles"):
        try:
            sha256 = hashlib.sha256(read_file(path)).hexdigest()
        except (OSError, ValueError) as error:
            # What cannot be read is known by its name, so that it is a row too.
            sha256 = hashlib.sha256(f"{path}: {error}".encode()).hexdigest()
        yield Place(sha256, str(path)), path


def _bytes(
    con: duckdb.DuckDBPyConnection, wanted: Sequence[str], files: Mapping[str, tuple[Place, Path]]
) -> Iterator[tuple[str, bytes | str]]:
    """The bytes of inputs, or words where a file cannot be read."""
    yield from landed_bundle_bytes(con, [sha256 for sha256 in wanted if sha256 not in files])
    for sha256 in wanted:
        if sha256 in files:
            try:
                yield sha256, read_file(files[sha256][1])
            except (OSError, ValueError) as error:
                yield sha256, f"{files[sha256][1]} cannot be read: {error}"
