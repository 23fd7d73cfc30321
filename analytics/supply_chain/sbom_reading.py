"""SBOMs that sources, folders and attestations hold: each read once, with its facts in tables.

Source: supply-chain.md section 2. What was read is kept by the hash of its bytes and the version of the reader.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb

from analytics import progress
from analytics.lake.parts import TableParts
from analytics.lake.tables import create_views, write_table
from analytics.settings import Settings
from analytics.supply_chain.gathering import Place, files_of, landed_sboms, read_file
from analytics.supply_chain.sboms.extraction import read_facts
from analytics.supply_chain.sboms.facts import GITHUB_DEPENDENCY_GRAPH, Component, Facts, Licence
from analytics.supply_chain.sboms.identifiers import parsed_purl
from analytics.supply_chain.sboms.quality import completeness
from analytics.supply_chain.sboms.reading import UnreadableSbomError, read_document
from analytics.supply_chain.sboms.validation import judge

Row = dict[str, Any]

VALID = "SCHEMA_VALID"
# What an SBOM is told of the artifact that it describes; GitHub's export is of today's default branch.
ORIGINS = ("handed_in", "file", "attested", GITHUB_DEPENDENCY_GRAPH)
_MOST_SUBJECTS = 100
_EVERY = 200


@dataclass(frozen=True)
class SbomRead:
    """One SBOM as it is kept, and where it was found."""

    sha256: str
    verdict: str
    reason: str
    made_at: datetime | None
    component_count: int
    subject_digests: frozenset[str]
    origin_kind: str
    places: tuple[Place, ...]


@dataclass
class Sboms:
    """Every SBOM there is; `of_digest` gives the newest valid one of an artifact, `any_of_digest` a bad one as well.

    `unread` are places that hold none, with the artifact they were meant for.
    """

    documents: dict[str, SbomRead] = field(default_factory=dict)
    of_digest: dict[str, str] = field(default_factory=dict)
    any_of_digest: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def gather_sboms(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    attested: Sequence[tuple[str, str, bytes]],
    parts: TableParts,
) -> Sboms:
    """Read what is new, write the tables `sbom_*`, and give every SBOM by artifact.

    `attested` are SBOMs of bundles that were judged now, as (hash, hash of the bundle, bytes); those of bundles judged
    before stand in `attestation_judgements`.
    """
    con.execute("CREATE OR REPLACE TEMP TABLE known_sboms AS SELECT * FROM sbom_documents")
    con.execute("CREATE OR REPLACE TEMP TABLE known_components AS SELECT * FROM sbom_components")
    known = {sha256 for (sha256,) in con.execute("SELECT sbom_sha256 FROM known_sboms").fetchall()}
    documents, places, unread = landed_sboms(con, settings)
    kinds = dict.fromkeys(documents, "handed_in")
    for path in files_of(settings, settings.supply_chain.sboms, "sboms"):
        try:
            raw = read_file(path)
        except (OSError, ValueError):
            # Read as what it is not: the row says why.
            raw = b""
        sha256 = hashlib.sha256(raw).hexdigest()
        documents.setdefault(sha256, raw)
        kinds.setdefault(sha256, "file")
        places.append(Place(sha256, str(path)))
    for sha256, _, raw in attested:
        documents.setdefault(sha256, raw)
        kinds.setdefault(sha256, "attested")
    places += [
        Place(sha256, f"attestation {bundle}", digest)
        for sha256, bundle, digest in con.execute(
            "SELECT sbom_sha256, bundle_sha256, unnest(subject_digests) FROM attestation_judgements "
            "WHERE sbom_sha256 IS NOT NULL AND proven ORDER BY ALL"
        ).fetchall()
    ]
    new = {sha256: raw for sha256, raw in documents.items() if sha256 not in known}
    for number, (sha256, raw) in enumerate(new.items()):
        if number % _EVERY == 0:
            progress.report("verify", "SBOMs", number, len(new))
        row, components = sbom_rows(sha256, raw, kinds[sha256])
        parts.add("sbom_documents", row)
        for component in components:
            parts.add("sbom_components", component)
    present = sorted({place.sha256 for place in places})
    con.execute("CREATE OR REPLACE TEMP TABLE present_sboms AS SELECT unnest(?::VARCHAR[]) AS sbom_sha256", [present])
    for table, kept in (("sbom_documents", "known_sboms"), ("sbom_components", "known_components")):
        query = (
            f"SELECT * FROM {kept} WHERE sbom_sha256 IN (SELECT sbom_sha256 FROM present_sboms) "
            f"UNION ALL BY NAME {parts.relation(table)}"
        )
        write_table(con, settings, table, query)
    create_views(con, settings, "sbom_documents", "sbom_components")
    for place in places:
        parts.add("sbom_places", {"sbom_sha256": place.sha256, "digest": place.digest, "origin": place.origin})
    write_table(con, settings, "sbom_places", parts.relation("sbom_places"))
    found = _by_digest(con, places)
    found.unread = {one.digest: one.reason for one in unread if one.digest is not None}
    return found


def sbom_rows(sha256: str, raw: bytes, origin_kind: str) -> tuple[Row, list[Row]]:
    """The row of `sbom_documents` and the rows of `sbom_components` of one document, whatever it holds."""
    row: Row = {"sbom_sha256": sha256, "origin_kind": origin_kind, "component_count": 0}
    try:
        document = read_document(raw)
    except UnreadableSbomError as error:
        return {**row, "verdict": "UNREADABLE", "reason": error.what, "format": error.format}, []
    judgement = judge(document)
    facts = read_facts(document)
    row |= {
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "format": f"{document.format} {document.encoding}",
        "spec_version": document.spec_version,
        "made_at": _moment(facts.timestamp),
        "component_count": len(facts.components),
        "subject_digests": subject_digests(facts),
        "tools": [tool.name for tool in facts.tools][:_MOST_SUBJECTS],
        "origin_kind": facts.origin or origin_kind,
        "elements": json.dumps([asdict(one) for one in completeness(facts)]),
        "errors": json.dumps([asdict(one) for one in judgement.problems[:20]]),
    }
    return row, [_component_row(sha256, component) for component in facts.components]


def subject_digests(facts: Facts) -> list[str]:
    """The digests of what the document says it describes, as `sha256:…`."""
    hashes = facts.subject.hashes if facts.subject is not None else ()
    return sorted({f"{one.algorithm.replace('-', '').casefold()}:{one.value}" for one in hashes})[:_MOST_SUBJECTS]


def components_of(con: duckdb.DuckDBPyConnection, sboms: Sequence[str]) -> dict[str, list[Component]]:
    """The kept components of some SBOMs, with what licences and vulnerabilities are judged by."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE wanted_sboms AS SELECT unnest(?::VARCHAR[]) AS sbom_sha256", [list(sboms)]
    )
    found: dict[str, list[Component]] = defaultdict(list)
    rows = con.execute(
        "SELECT sbom_sha256, path, name, version, purl, licences FROM sbom_components "
        "WHERE sbom_sha256 IN (SELECT sbom_sha256 FROM wanted_sboms) ORDER BY sbom_sha256, path"
    )
    while batch := rows.fetchmany(10_000):
        for sha256, path, name, version, purl, licences in batch:
            found[sha256].append(
                Component(
                    path=path,
                    ref=None,
                    kind=None,
                    group=None,
                    name=name,
                    version=version,
                    purl_text=purl,
                    purl=parsed_purl(purl)[0] if purl else None,
                    licences=tuple(_licence(one) for one in json.loads(licences or "[]")),
                )
            )
    return found


def _licence(raw: Mapping[str, Any]) -> Licence:
    return Licence(raw["text"], raw["expression"], tuple(raw["unknown"]), raw["role"], raw["problem"])


def _component_row(sha256: str, component: Component) -> Row:
    name = f"{component.group}/{component.name}" if component.group and component.name else component.name
    return {
        "sbom_sha256": sha256,
        "path": component.path,
        "name": name,
        "version": component.version,
        "purl": component.purl.text if component.purl else component.purl_text,
        "supplier": component.supplier,
        "licences": json.dumps([asdict(one) for one in component.licences]) if component.licences else None,
        "hashes": json.dumps({one.algorithm: one.value for one in component.hashes}) if component.hashes else None,
    }


def _by_digest(con: duckdb.DuckDBPyConnection, places: Sequence[Place]) -> Sboms:
    at: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        at[place.sha256].append(place)
    sboms = Sboms()
    rows = con.execute(
        "SELECT sbom_sha256, verdict, reason, made_at, component_count, subject_digests, origin_kind "
        "FROM sbom_documents ORDER BY made_at NULLS FIRST, sbom_sha256"
    ).fetchall()
    for sha256, verdict, reason, made_at, count, subjects, kind in rows:
        read = SbomRead(
            sha256, verdict, reason, made_at, count, frozenset(subjects or ()), kind, tuple(at.get(sha256, ()))
        )
        sboms.documents[sha256] = read
        # It is of the artifact for which it was handed in or attested; else of what it says it describes.
        for digest in _described(read):
            sboms.any_of_digest[digest] = sha256
            if verdict == VALID:
                sboms.of_digest[digest] = sha256
    return sboms


def _described(read: SbomRead) -> Iterator[str]:
    stated = {place.digest for place in read.places if place.digest}
    # An export of today's default branch is of no artifact, unless somebody says so.
    yield from stated or (read.subject_digests if read.origin_kind != GITHUB_DEPENDENCY_GRAPH else ())


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
