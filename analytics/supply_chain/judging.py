"""Cryptography once per bundle: what is judged is kept, and a later run asks only about what is new.

A judgement depends on the bytes, the trusted roots and the verifier, so that it is kept by these three. Source:
supply-chain.md section 1 (two verdicts, kept apart).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from analytics.lake.schemas import TABLES
from analytics.supply_chain.attested import attested_facts
from analytics.supply_chain.bundles import Document, Shape, read_documents
from analytics.supply_chain.facts import AttestedFacts, Claims
from analytics.supply_chain.rules import SBOM_TYPES
from analytics.supply_chain.trusted_roots import TrustedRoot, load_trusted_roots, production_root
from analytics.supply_chain.untrusted import UntrustedInputError, compact, parse_json, printable
from analytics.supply_chain.verification import VERIFIER, Judgement, judge_all

Row = dict[str, Any]

_DIGEST = "sha(?:256:[0-9a-fA-F]{64}|512:[0-9a-fA-F]{128})"
# How a list of root files names the public instance.
PUBLIC = "sigstore"


def trusted_roots(paths: Sequence[Path]) -> tuple[TrustedRoot, ...]:
    """The roots that verdicts rest on: those of the files, and Sigstore's public instance.

    A root that names a log is an instance of its own, and then the public one counts only where the word `sigstore`
    stands in the list: so a root for tests is never accepted beside the real one. Raises TrustedRootError for a file
    that is none.
    """
    named = [path for path in paths if path.name == PUBLIC and not path.exists()]
    found = [root for path in paths if path not in named for root in load_trusted_roots(path)]
    if named or not any(root.has_log or root.for_tests for root in found):
        found.append(production_root())
    return tuple({root.sha256: root for root in found}.values())


def roots_sha256(roots: Sequence[TrustedRoot]) -> str:
    """One hash over all roots, in their order, and the verifier: what a kept judgement is good for."""
    digest = hashlib.sha256(_verifier_version().encode())
    for root in roots:
        digest.update(root.sha256.encode())
    return digest.hexdigest()


@cache
def _verifier_version() -> str:
    libraries = " ".join(f"{name}/{metadata.version(name)}" for name in ("cryptography", "rfc3161-client"))
    return f"{VERIFIER}, {libraries}"


def judged_rows(
    input_sha256: str, raw: bytes, roots: Sequence[TrustedRoot], roots_hash: str
) -> tuple[list[Row], list[tuple[str, bytes]]]:
    """Rows of `attestation_judgements` for the documents in one input, and the SBOMs that were attested in it."""
    rows: list[Row] = []
    attested: list[tuple[str, bytes]] = []
    judgements = judge_all(raw, roots)
    documents: dict[str, Document] = {}
    if any(_is_sbom(judgement) for judgement in judgements):
        try:
            documents = {document.sha256: document for document in read_documents(raw)}
        except UntrustedInputError:
            documents = {}
    for judgement in judgements:
        row = _row(judgement, input_sha256, roots_hash)
        if _is_sbom(judgement) and judgement.bundle_sha256 in documents:
            predicate = _predicate(documents[judgement.bundle_sha256])
            if predicate is not None:
                row["sbom_sha256"] = hashlib.sha256(predicate).hexdigest()
                attested.append((row["sbom_sha256"], predicate))
        rows.append(row)
    return rows, attested


def attested_sboms(raw: bytes, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The SBOMs in an input that was judged before, as (hash, bytes), where their hash is wanted."""
    try:
        documents = read_documents(raw)
    except UntrustedInputError:
        return
    for document in documents:
        predicate = _predicate(document)
        if predicate is not None and (sha256 := hashlib.sha256(predicate).hexdigest()) in wanted:
            yield sha256, predicate


def unread_row(input_sha256: str, roots_hash: str, reason: str) -> Row:
    """The row of a file that could not be read."""
    return {
        "input_sha256": input_sha256,
        "roots_sha256": roots_hash,
        "bundle_sha256": input_sha256,
        "place": "",
        "kind": "bundle",
        "verdict": "ERROR_FETCH",
        "reason": reason,
        "proven": False,
    }


def unfetched_rows(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Rows for attestations that a source knows of and could not hand over; needs the view quarantine.

    They are kept in no table: the next pull asks for them again.
    """
    found = con.execute(
        "SELECT DISTINCT lower(regexp_extract(detail, ?)), source, detail FROM quarantine "
        "WHERE entity = 'attestations' AND reason = 'fetch_failed' ORDER BY ALL",
        [_DIGEST],
    ).fetchall()
    return [
        dict.fromkeys(TABLES["attestation_judgements"].columns)
        | unread_row("", "", f"It could not be fetched from {source}: {printable(detail)}.")
        | {"bundle_sha256": None, "subject_digests": [digest]}
        for digest, source, detail in found
        if digest
    ]


def kept_facts(row: Mapping[str, Any]) -> AttestedFacts:
    """What a kept judgement gives to the policy; of a bundle that was not proven there is the verdict alone.

    Claims were held against the certificate when it was judged: they are evidence only where they contradict.
    """
    if not row["proven"]:
        return AttestedFacts(row["verdict"])
    claims = json.loads(row["claims"]) if row["verdict"] == "FORGED_CLAIMS" and row["claims"] else {}
    return AttestedFacts(
        verdict=row["verdict"],
        issuer=row["issuer"],
        signer_uri=row["signer_uri"],
        build_config_uri=row["build_config_uri"],
        source_repository_uri=row["source_repository_uri"],
        source_repository_id=row["source_repository_id"],
        source_owner_id=row["source_owner_id"],
        commit=row["source_commit"],
        ref=row["source_ref"],
        trigger=row["build_trigger"],
        runner_environment=row["runner_environment"],
        run_invocation_uri=row["run_invocation_uri"],
        statement_type=row["statement_type"],
        predicate_type=row["predicate_type"],
        verified_at=row["verified_at"],
        subject_digests=frozenset(row["subject_digests"] or ()),
        claims=Claims(**claims),
    )


def _row(judgement: Judgement, input_sha256: str, roots_hash: str) -> Row:
    facts = attested_facts(judgement)
    certificate = judgement.certificate
    # Also of what was not proven: it tells which artifact it was meant for.
    digests = sorted(
        f"{algorithm}:{value}".casefold()
        for subject in judgement.subjects
        for algorithm, value in subject.digests.items()
        if algorithm in ("sha256", "sha512")
    )
    return {
        "input_sha256": input_sha256,
        "roots_sha256": roots_hash,
        "bundle_sha256": judgement.bundle_sha256,
        "place": judgement.place,
        "kind": judgement.kind,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "proven": judgement.proven,
        "trusted_root": judgement.trusted_root,
        "trusted_root_sha256": judgement.trusted_root_sha256,
        "verifier": judgement.verifier,
        "verified_at": _naive(judgement.verified_at),
        "verified_at_source": judgement.verified_at_source.value if judgement.verified_at_source else None,
        "log_index": judgement.log_index,
        "issuer": facts.issuer,
        "signer_uri": facts.signer_uri,
        "build_config_uri": facts.build_config_uri,
        "source_repository_uri": facts.source_repository_uri,
        "source_repository_id": facts.source_repository_id,
        "source_owner_id": facts.source_owner_id,
        "source_commit": facts.commit,
        "source_ref": facts.ref,
        "build_trigger": facts.trigger,
        "runner_environment": facts.runner_environment,
        "run_invocation_uri": facts.run_invocation_uri,
        "certificate": msgspec.json.encode(certificate).decode() if certificate is not None else None,
        "statement_type": judgement.statement_type,
        "predicate_type": judgement.predicate_type,
        "subject_digests": sorted(set(digests)),
        "claims": msgspec.json.encode(facts.claims).decode() if judgement.claims else None,
        "exception": f"{judgement.exception_type}: {judgement.exception_text}" if judgement.exception_type else None,
    }


def _is_sbom(judgement: Judgement) -> bool:
    kind = judgement.predicate_type or ""
    return judgement.proven and any(kind == name or kind.startswith(f"{name}/") for name in SBOM_TYPES)


def _predicate(document: Document) -> bytes | None:
    """The SBOM inside a statement, as bytes."""
    if document.shape is not Shape.BUNDLE:
        return None
    envelope = document.value.get("dsseEnvelope")
    try:
        payload = base64.b64decode(envelope["payload"], validate=True) if isinstance(envelope, dict) else b""
        statement = parse_json(payload)
        predicate = statement["predicate"]
    except (UntrustedInputError, ValueError, KeyError, TypeError):
        return None
    return compact(predicate) if isinstance(predicate, dict) else None


def _naive(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def keep_known(rows: Iterable[Row], roots_hash: str, wanted: set[str]) -> list[Row]:
    """The kept judgements that still hold: of inputs that are still there, under the same roots and verifier."""
    return [row for row in rows if row["roots_sha256"] == roots_hash and row["input_sha256"] in wanted]
