"""Whatever stands in a bundle, it gets a verdict with a reason, and only what was signed ever passes."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.sample.signing import in_toto_statement
from analytics.supply_chain.bundles import MAX_DOCUMENTS
from analytics.supply_chain.inspection import inspect_file
from analytics.supply_chain.trusted_roots import production_root
from analytics.supply_chain.untrusted import MAX_BYTES
from analytics.supply_chain.verification import Judgement, judge, judge_all
from tests.unit.supply_chain.bundle_world import (
    MADE_UP,
    REAL,
    Instance,
    Path,
    at,
    instance,
    made_up_roots,
    signed,
)
from tests.unit.supply_chain.manifest_world import needs_manifest

INSTANCES = [*MADE_UP, *(pytest.param(name, marks=needs_manifest) for name in REAL)]

# What nobody expects where something else should stand.
HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1.5, 1e308, 2**63, 10**40]),
    st.sampled_from(["", "\u0000", "\ud7ff", "A" * 100_000, "=" * 50, "../../etc/passwd", "9" * 400, "🙂" * 500]),
    st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()),
    st.sampled_from([[], {}, [[]], {"": {}}, [None] * 1_000]),
    st.integers(1, 400).map(lambda depth: json.loads("[" * depth + "]" * depth)),
)


def every_place(value: Any, path: Path = ()) -> Iterator[Path]:
    """The places of everything in a value, itself left out."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from every_place(inner, (*path, key))


def is_bounded(judgement: Judgement) -> None:
    assert judgement.reason
    assert len(judgement.reason) < 2_000
    assert judgement.reason.isprintable()


def passes_only_as_signed(judgement: Judgement, one: Instance) -> None:
    """A bundle that still passes says nothing else than the one that was signed."""
    is_bounded(judgement)
    if judgement.verdict.passed:
        true = one.judged(one.bundle)
        for field in ("verdict", "certificate", "subjects", "statement_type", "predicate_type", "verified_at"):
            assert getattr(judgement, field) == getattr(true, field), field


@pytest.mark.parametrize("name", INSTANCES)
@settings(max_examples=60)
@given(data=st.data(), value=HOSTILE)
def test_any_value_in_any_place_gets_a_verdict(name: str, data: st.DataObject, value: Any) -> None:
    one = instance(name)
    path = data.draw(st.sampled_from(list(every_place(one.bundle))))
    passes_only_as_signed(one.judged(one.changed(path, value)), one)


@pytest.mark.parametrize("name", INSTANCES)
@settings(max_examples=30)
@given(data=st.data())
def test_any_part_may_be_missing_doubled_or_under_another_name(name: str, data: st.DataObject) -> None:
    one = instance(name)
    path = data.draw(st.sampled_from(list(every_place(one.bundle))))
    bundle = copy.deepcopy(dict(one.bundle))
    parent, key = at(bundle, path[:-1]), path[-1]
    change = data.draw(st.sampled_from(["missing", "doubled", "renamed"]))
    if change == "missing":
        del parent[key]
    elif isinstance(parent, list):
        parent.append(parent[0])
    else:
        parent[f"{key}_" if change == "renamed" else f"x{key}"] = parent[key]
    passes_only_as_signed(one.judged(bundle), one)


@pytest.mark.parametrize("name", ["public", "private"])
@settings(max_examples=100)
@given(data=st.data())
def test_any_bytes_of_the_file_may_change(name: str, data: st.DataObject) -> None:
    one = instance(name)
    raw = bytearray(json.dumps(one.bundle).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw) - 1))
        raw[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    for judgement in judge_all(bytes(raw), one.roots):
        passes_only_as_signed(judgement, one)


@settings(max_examples=100)
@given(raw=st.binary(max_size=400))
def test_any_bytes_at_all_get_a_verdict(raw: bytes) -> None:
    judgement = judge(raw, (production_root(),))
    is_bounded(judgement)
    assert not judgement.verdict.passed
    one = inspect_file(raw, (production_root(),))
    assert one["verdict"]
    assert one["reason"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is empty"),
        (b"\n" * 5_000_000, "is empty"),
        (b"{}" + b"\n" * 5_000_000 + b"{}", "more than 1000 lines"),
        (b"{}\n" * (MAX_DOCUMENTS + 1), "more than the 1000 that are read"),
        (b'{"attestations": [' + b"{}," * MAX_DOCUMENTS + b"{}]}", "more than the 1000 that are read"),
        (b'{"attestations": []}', "holds no attestation"),
        (b"x" * (MAX_BYTES + 1), "more than the 16777216 that are read"),
        (b"[" * 10_000 + b"]" * 10_000, "nests deeper than 64 levels"),
        (b'{"mediaType":' * 10_000, "nests deeper than 64 levels"),
        (b'{"verificationMaterial": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nests deeper than 64 levels"),
        (b'{"mediaType": "x", "mediaType": "y"}', "twice"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_file_beyond_a_cap_is_refused_in_words(raw: bytes, words: str) -> None:
    judgement = judge(raw, (production_root(),))
    assert judgement.verdict == "UNSUPPORTED_NOT_A_BUNDLE"
    assert words in judgement.reason
    is_bounded(judgement)


@pytest.mark.parametrize("options", [{}, {"witnessed": False}], ids=["public", "private"])
def test_a_bundle_with_a_million_subjects_is_refused_for_their_number(options: dict[str, bool]) -> None:
    statement = in_toto_statement("https://slsa.dev/provenance/v1", {}, {"a": "sha256:aa"})
    statement["subject"] = [0] * 1_000_000
    bundle = signed(statement, **options)
    judgement = judge(json.dumps(bundle).encode(), made_up_roots())
    assert judgement.verdict == "INVALID_SUBJECT"
    assert "more than 1" in judgement.reason
    is_bounded(judgement)


@pytest.mark.parametrize("options", [{}, {"witnessed": False}], ids=["public", "private"])
def test_a_signed_payload_that_nests_without_end_is_refused(options: dict[str, bool]) -> None:
    statement = in_toto_statement("https://slsa.dev/provenance/v1", {}, {"a": "sha256:aa"})
    inner: Any = {}
    for _ in range(400):
        inner = {"materials": [inner]}
    statement["predicate"] = inner
    judgement = judge(json.dumps(signed(statement, **options)).encode(), made_up_roots())
    assert judgement.verdict == "INVALID_SUBJECT"
    assert "nests deeper" in judgement.reason


@pytest.mark.parametrize("name", INSTANCES)
def test_megabytes_of_base64_in_any_field_are_judged(name: str) -> None:
    """Of the size that is read; ten times as large, the file is refused before it is parsed."""
    one = instance(name)
    huge = base64.b64encode(bytes(3_000_000)).decode()
    fields: dict[str, Path] = {}
    for path in every_place(one.bundle):
        if isinstance(at(one.bundle, path), str):
            fields.setdefault(str([part for part in path if isinstance(part, str)][-1]), path)
    for path in list(fields.values())[:: max(1, len(fields) // 4)]:
        judgement = one.judged(one.changed(path, huge))
        is_bounded(judgement)
        assert not judgement.verdict.passed or path[-1] not in ("payload", "sig", "rawBytes")


def test_an_unreadable_document_hides_none_of_its_neighbours() -> None:
    good = json.dumps(instance("public").bundle).encode()
    found = judge_all(b"\n".join([b"{}", good, b"{,", b"[]", b"null", good]), made_up_roots())
    assert [judgement.verdict.passed for judgement in found] == [False, True, False, False, False, True]
    assert [judgement.place for judgement in found] == [f"line {number}" for number in range(1, 7)]
