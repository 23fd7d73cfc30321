"""SBOMs that sources, folders and attestations hold: each read once, with its facts in tables.

Source: supply-chain.md section 2. What was read is kept by the hash of its bytes and the version of the reader.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import duckdb
import msgspec

from analytics import progress
from analytics.lake.parts import TableParts
from analytics.lake.tables import create_views, write_table
from analytics.settings import Settings
from analytics.supply_chain.gathering import Place, folder_files, handed_in_files, landed_sbom_bytes, landed_sboms
from analytics.supply_chain.sboms.extraction import read_facts
from analytics.supply_chain.sboms.facts import GITHUB_DEPENDENCY_GRAPH, Component, Facts, Licence
from analytics.supply_chain.sboms.identifiers import parsed_purl
from analytics.supply_chain.sboms.quality import completeness
from analytics.supply_chain.sboms.reading import UnreadableSbomError, read_document
from analytics.supply_chain.sboms.validation import judge

Row = dict[str, Any]

VALID, UNREADABLE = "SCHEMA_VALID", "UNREADABLE"
# Ours changes whenever facts or verdicts would differ, so that no older reading is taken from the table.
READER = f"quarterdeck 2, cyclonedx-python-lib {version('cyclonedx-python-lib')}"
# What an SBOM is told of the artifact that it describes; GitHub's export is of today's default branch.
ORIGINS = ("handed_in", "file", "attested", GITHUB_DEPENDENCY_GRAPH)
_MOST_SUBJECTS = 100
# States of CycloneDX's VEX analysis with which a vulnerability is nothing to do any more.
_SETTLED = frozenset({"not_affected", "false_positive", "resolved", "resolved_with_pedigree"})
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
    """Every SBOM there is; `of_digest` gives the newest valid one of an artifact, `any_of_digest` a bad one as well."""

    documents: dict[str, SbomRead] = field(default_factory=dict)
    of_digest: dict[str, str] = field(default_factory=dict)
    any_of_digest: dict[str, str] = field(default_factory=dict)


class SbomReader:
    """Reads each new SBOM once and lets its bytes go: ten thousand of them would not fit into memory.

    What this reader's version read in an earlier run is not read again. Needs the views `sbom_documents` and
    `sbom_components`.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, parts: TableParts) -> None:
        self._parts = parts
        self.known = {
            sha256
            for (sha256,) in con.execute("SELECT sbom_sha256 FROM sbom_documents WHERE reader = ?", [READER]).fetchall()
        }
        self.read: set[str] = set()

    def is_new(self, sha256: str) -> bool:
        """Whether it was read neither in an earlier run nor in this one."""
        return sha256 not in self.known and sha256 not in self.read

    def take(self, sha256: str, raw: bytes | str, origin_kind: str) -> None:
        """Read one SBOM unless that was done; words stand for one whose bytes could not be had."""
        if not self.is_new(sha256):
            return
        if len(self.read) % _EVERY == 0:
            progress.report("verify", f"{len(self.read):,} SBOMs read")
        self.read.add(sha256)
        row, components = sbom_rows(sha256, raw, origin_kind)
        self._parts.add("sbom_documents", row)
        for component in components:
            self._parts.add("sbom_components", component)


def gather_sboms(
    con: duckdb.DuckDBPyConnection, settings: Settings, reader: SbomReader, parts: TableParts
) -> tuple[Sboms, int]:
    """Read what sources and folders hold, write the tables `sbom_*`, and give every SBOM by artifact.

    SBOMs of bundles that were judged now were given to `reader` before; those of bundles judged earlier stand in
    `attestation_judgements`. Also gives how many were read now.
    """
    places = landed_sboms(con)
    for sha256, document in landed_sbom_bytes(con, [one.sha256 for one in places if reader.is_new(one.sha256)]):
        reader.take(sha256, document, "handed_in")
    for place, raw in handed_in_files(con, settings):
        reader.take(place.sha256, raw, "handed_in")
        places.append(place)
    for place, raw in folder_files(settings, settings.supply_chain.sboms, "sboms"):
        reader.take(place.sha256, raw, "file")
        places.append(place)
    places += [
        Place(sha256, f"attestation {bundle}", digest)
        for sha256, bundle, digest in con.execute(
            "SELECT sbom_sha256, bundle_sha256, unnest(subject_digests) FROM attestation_judgements "
            "WHERE sbom_sha256 IS NOT NULL AND proven ORDER BY ALL"
        ).fetchall()
    ]
    _write(con, settings, reader, places, parts)
    return _by_digest(con, places), len(reader.read)


def _write(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    reader: SbomReader,
    places: Sequence[Place],
    parts: TableParts,
) -> None:
    """Write the tables, those of documents only where something came or went."""
    for name, hashes in (("present_sboms", {place.sha256 for place in places}), ("read_sboms", reader.read)):
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT unnest(?::VARCHAR[]) AS sbom_sha256", [sorted(hashes)]
        )
    # What an older version of the reader read stays where the bytes are out of reach (inside a bundle judged before).
    kept = (
        "sbom_sha256 IN (SELECT sbom_sha256 FROM present_sboms) "
        "AND sbom_sha256 NOT IN (SELECT sbom_sha256 FROM read_sboms)"
    )
    ((gone,),) = con.execute(f"SELECT count(*) FROM sbom_documents WHERE NOT ({kept})").fetchall()
    if reader.read or gone:
        for table in ("sbom_documents", "sbom_components"):
            # Its files are replaced while it is read from.
            con.execute(f"CREATE OR REPLACE TEMP TABLE kept_rows AS SELECT * FROM {table} WHERE {kept}")
            query = f"SELECT * FROM kept_rows UNION ALL BY NAME {parts.relation(table)}"
            write_table(con, settings, table, query)
        con.execute("DROP TABLE IF EXISTS kept_rows")
        create_views(con, settings, "sbom_documents", "sbom_components")
    for place in places:
        parts.add("sbom_places", {"sbom_sha256": place.sha256, "digest": place.digest, "origin": place.origin})
    write_table(con, settings, "sbom_places", parts.relation("sbom_places"))


def sbom_rows(sha256: str, raw: bytes | str, origin_kind: str) -> tuple[Row, Iterable[Row]]:
    """The row of `sbom_documents` and the rows of `sbom_components` of one document, whatever it holds.

    Words stand for a document whose bytes could not be had: they are the reason.
    """
    row: Row = {"sbom_sha256": sha256, "reader": READER, "origin_kind": origin_kind, "component_count": 0}
    if isinstance(raw, str):
        return {**row, "verdict": UNREADABLE, "reason": raw}, ()
    try:
        document = read_document(raw)
    except UnreadableSbomError as error:
        named = {"format": error.format, "spec_version": error.spec_version}
        return {**row, **named, "verdict": UNREADABLE, "reason": error.what}, ()
    judgement = judge(document)
    facts = read_facts(document)
    row |= {
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "format": f"{document.format} {document.encoding}",
        "spec_version": document.spec_version,
        "made_at": _moment(facts.timestamp),
        "component_count": len(facts.components),
        "subject_path": facts.subject.path if facts.subject is not None else None,
        "subject_digests": subject_digests(facts),
        "tools": [tool.name for tool in facts.tools][:_MOST_SUBJECTS],
        "origin_kind": facts.origin or origin_kind,
        "elements": _json(completeness(facts)),
        "errors": _json(judgement.problems[:20]),
    }
    vex = _vex_of(facts)
    return row, (_component_row(sha256, component, vex) for component in facts.components)


def subject_digests(facts: Facts) -> list[str]:
    """The digests of what the document says it describes, as `sha256:…`."""
    hashes = facts.subject.hashes if facts.subject is not None else ()
    return sorted({f"{one.algorithm.replace('-', '').casefold()}:{one.value}" for one in hashes})[:_MOST_SUBJECTS]


def keep_components(con: duckdb.DuckDBPyConnection, sboms: Iterable[str]) -> None:
    """Copy the components of some SBOMs to where `components_of` finds those of each at once."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE wanted_sboms AS SELECT unnest(?::VARCHAR[]) AS sbom_sha256", [sorted(sboms)]
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE judged_components AS "
        "SELECT sbom_sha256, path, name, version, purl, licences, vex, "
        "coalesce(path = subject_path, false) AS described "
        "FROM sbom_components LEFT JOIN (SELECT sbom_sha256, subject_path FROM sbom_documents) USING (sbom_sha256) "
        "WHERE sbom_sha256 IN (SELECT sbom_sha256 FROM wanted_sboms) ORDER BY sbom_sha256"
    )


@dataclass(frozen=True, slots=True)
class KeptComponent:
    """A component with what licences and vulnerabilities are judged by.

    `settled` are ids of vulnerabilities of which the SBOM's author says that they do not matter to it. `is_subject` is
    what the document describes, which SPDX lists among the packages and CycloneDX does not.
    """

    component: Component
    settled: frozenset[str]
    is_subject: bool


def components_of(con: duckdb.DuckDBPyConnection, sbom_sha256: str) -> list[KeptComponent]:
    """The kept components of one SBOM, those alike once."""
    rows = con.execute(
        "SELECT min(path), name, version, purl, licences, vex, described FROM judged_components WHERE sbom_sha256 = ? "
        "GROUP BY ALL ORDER BY 1",
        [sbom_sha256],
    ).fetchall()
    return [
        KeptComponent(
            Component(
                path=path,
                ref=None,
                kind=None,
                group=None,
                name=name,
                version=version,
                purl_text=purl,
                purl=parsed_purl(purl)[0] if purl else None,
                licences=_licences(licences),
            ),
            frozenset(one["id"] for one in json.loads(vex) if one["state"] in _SETTLED) if vex else frozenset(),
            described,
        )
        for path, name, version, purl, licences, vex, described in rows
    ]


@lru_cache(maxsize=4_096)
def _licences(text: str | None) -> tuple[Licence, ...]:
    return tuple(_licence(one) for one in json.loads(text)) if text else ()


def _licence(raw: Mapping[str, Any]) -> Licence:
    return Licence(raw["text"], raw["expression"], tuple(raw["unknown"]), raw["role"], raw["problem"])


def _vex_of(facts: Facts) -> dict[str, list[dict[str, str]]]:
    """What the author says of vulnerabilities, by the component's own name in the document."""
    link = f"urn:cdx:{(facts.identity or '').removeprefix('urn:uuid:')}/{facts.revision}#"
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for statement in facts.vex:
        if statement.id and statement.state:
            for ref in dict.fromkeys(one.removeprefix(link) for one in statement.affects):
                found[ref].append({"id": statement.id, "state": statement.state})
    return found


def _component_row(sha256: str, component: Component, vex: Mapping[str, list[dict[str, str]]]) -> Row:
    name = f"{component.group}/{component.name}" if component.group and component.name else component.name
    return {
        "sbom_sha256": sha256,
        "path": component.path,
        "name": name,
        "version": component.version,
        "purl": component.purl.text if component.purl else component.purl_text,
        "supplier": component.supplier,
        "licences": _json(component.licences) if component.licences else None,
        "hashes": _json({one.algorithm: one.value for one in component.hashes}) if component.hashes else None,
        "vex": json.dumps(vex[component.ref]) if component.ref is not None and component.ref in vex else None,
    }


def _by_digest(con: duckdb.DuckDBPyConnection, places: Sequence[Place]) -> Sboms:
    at: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        at[place.sha256].append(place)
    sboms = Sboms()
    rows = con.execute(
        "SELECT sbom_sha256, verdict, reason, made_at, component_count, subject_digests, origin_kind "
        "FROM sbom_documents ORDER BY verdict <> 'UNREADABLE', made_at NULLS FIRST, sbom_sha256"
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


def _json(value: Any) -> str:
    """JSON of dataclasses, without the copies that dictionaries of them would be."""
    return msgspec.json.encode(value).decode()


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
