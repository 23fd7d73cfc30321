"""From bytes to documents that can be judged one by one: bundles, PEP 740 attestations, bare envelopes.

A file may hold one bundle, JSON lines of them, a PEP 740 provenance object with many attestations, or an answer of
GitHub's attestation API. Nothing is judged here, and one unreadable document never hides its neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from analytics.supply_chain.untrusted import MAX_BYTES, UntrustedInputError, compact, parse_json

MAX_DOCUMENTS = 1_000
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle"
_BUNDLE_KEYS = frozenset({"mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature"})


class Shape(StrEnum):
    """What kind of document it is."""

    BUNDLE = "bundle"
    # One attestation of PEP 740.
    ATTESTATION = "attestation"
    # A signed envelope with neither log entry nor timestamp.
    ENVELOPE = "envelope"
    # GitHub's answer names a bundle without holding it.
    NOT_FETCHED = "not fetched"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Document:
    """One thing to judge. `sha256` is that of the bytes it was read from, or of its compact JSON when it was nested."""

    shape: Shape
    sha256: str
    value: Mapping[str, Any] = field(default_factory=dict)
    # Where in the file: "line 2", "attestations[0]"; empty for the whole of it.
    place: str = ""
    # The text that `value` was read from, when it is the whole of it: it has one reading (untrusted.py).
    text: bytes | None = None
    # Why it cannot be read.
    problem: str | None = None
    # Who published, as the index says beside a PEP 740 attestation; signed by nobody.
    publisher: Mapping[str, Any] | None = None


def read_documents(raw: bytes) -> tuple[Document, ...]:
    """The documents in the bytes of a file or an answer, in their order; raises UntrustedInputError for none at all."""
    if len(raw) > MAX_BYTES:
        raise UntrustedInputError(f"The file has {len(raw)} bytes, more than the {MAX_BYTES} that are read.")
    if not raw.strip():
        raise UntrustedInputError("The file is empty.")
    if _begins_with_an_object_and_more(raw):
        # Counted before anything is split: a file of line ends would become millions of lines.
        if raw.count(b"\n") >= 2 * MAX_DOCUMENTS:
            raise UntrustedInputError(f"The file has more than {MAX_DOCUMENTS} lines.")
        lines = [(number, line.strip()) for number, line in enumerate(raw.split(b"\n"), start=1) if line.strip()]
        if len(lines) > MAX_DOCUMENTS:
            raise UntrustedInputError(f"The file has {len(lines)} lines, more than the {MAX_DOCUMENTS} that are read.")
        found = [document for number, line in lines for document in _from_line(line, f"line {number}")]
    else:
        found = list(_from_value(parse_json(raw), raw, ""))
    if len(found) > MAX_DOCUMENTS:
        raise UntrustedInputError(f"The file has {len(found)} bundles, more than the {MAX_DOCUMENTS} that are read.")
    return tuple(found)


def bundle_document(bundle: Mapping[str, Any]) -> Document:
    """A bundle that was parsed already, as a document; its hash is that of its compact JSON."""
    return next(iter(_from_value(parse_json(compact(bundle)), None, "")))


def _begins_with_an_object_and_more(raw: bytes) -> bool:
    """Whether these are JSON lines; a pretty-printed file opens with a line that is no value by itself."""
    first, _, rest = raw.strip().partition(b"\n")
    if not rest:
        return False
    try:
        return isinstance(parse_json(first), dict)
    except UntrustedInputError:
        return False


def _from_line(line: bytes, place: str) -> Iterator[Document]:
    try:
        yield from _from_value(parse_json(line, what=f"document on {place}"), line, place)
    except UntrustedInputError as error:
        yield Document(Shape.UNREADABLE, _sha256(line), place=place, problem=error.what)


def _from_value(value: Any, raw: bytes | None, place: str) -> Iterator[Document]:
    sha256 = _sha256(raw if raw is not None else compact(value))
    if not isinstance(value, dict):
        problem = "The document is JSON but no object."
        yield Document(Shape.UNREADABLE, sha256, place=place, problem=problem)
    elif "attestation_bundles" in value:
        yield from _from_provenance(value, sha256, place)
    elif isinstance(value.get("attestations"), list):
        yield from _from_answer(value["attestations"], place)
    elif "bundle" in value and not _BUNDLE_KEYS & value.keys():
        yield from _from_answer([value], place)
    elif "verification_material" in value and "envelope" in value:
        yield Document(Shape.ATTESTATION, sha256, value, place)
    elif str(value.get("mediaType", "")).startswith(_MEDIA_TYPE) or "verificationMaterial" in value:
        text = raw.removeprefix(b"\xef\xbb\xbf") if raw is not None else None
        yield Document(Shape.BUNDLE, sha256, value, place, text)
    elif "payload" in value and "signatures" in value:
        yield Document(Shape.ENVELOPE, sha256, value, place)
    else:
        problem = "The document is neither a Sigstore bundle, a PEP 740 attestation nor a signed envelope."
        yield Document(Shape.UNREADABLE, sha256, place=place, problem=problem)


def _from_provenance(value: Mapping[str, Any], sha256: str, place: str) -> Iterator[Document]:
    """PEP 740: attestations grouped by the publisher that uploaded them."""
    groups = value["attestation_bundles"]
    if value.get("version") != 1 or not isinstance(groups, list) or not groups:
        problem = "The provenance object is not version 1 of PEP 740 with a list of attestation bundles."
        yield Document(Shape.UNREADABLE, sha256, place=place, problem=problem)
        return
    for group_number, group in enumerate(groups):
        attestations = group.get("attestations") if isinstance(group, dict) else None
        publisher = group.get("publisher") if isinstance(group, dict) else None
        for number, attestation in enumerate(attestations if isinstance(attestations, list) else [None]):
            where = _join(place, f"attestation_bundles[{group_number}].attestations[{number}]")
            if not isinstance(attestation, dict):
                problem = f"{where} is no attestation."
                yield Document(Shape.UNREADABLE, sha256, place=where, problem=problem)
                continue
            named = publisher if isinstance(publisher, dict) else None
            yield Document(Shape.ATTESTATION, _sha256(compact(attestation)), attestation, where, publisher=named)


def _from_answer(attestations: list[Any], place: str) -> Iterator[Document]:
    """GitHub's attestation API: `bundle`, or null beside a `bundle_url` that somebody has to fetch."""
    if not attestations:
        raise UntrustedInputError("The answer holds no attestation.")
    for number, entry in enumerate(attestations):
        where = _join(place, f"attestations[{number}]")
        bundle = entry.get("bundle") if isinstance(entry, dict) else None
        if isinstance(bundle, dict):
            yield from _from_value(bundle, None, where)
        elif isinstance(entry, dict) and entry.get("bundle_url"):
            problem = f"{where} names a bundle_url; the bundle behind it was not fetched."
            yield Document(Shape.NOT_FETCHED, _sha256(compact(entry)), place=where, problem=problem)
        else:
            problem = f"{where} holds no bundle."
            yield Document(Shape.UNREADABLE, _sha256(compact(entry)), place=where, problem=problem)


def _join(place: str, part: str) -> str:
    return f"{place}, {part}" if place else part


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
