"""A byte that changes anywhere in signature, certificate, timestamp, log entry or payload makes a bundle fail."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.supply_chain.envelopes import signature_bytes
from analytics.supply_chain.proofs import RefusedError
from analytics.supply_chain.timestamps import stamped_times
from tests.unit.supply_chain.bundle_world import (
    MADE_UP,
    REAL,
    Instance,
    Path,
    at,
    bytes_of,
    flipped,
    identity,
    instance,
    made_up_roots,
    signed,
)
from tests.unit.supply_chain.manifest_world import needs_manifest

INSTANCES = [*MADE_UP, *(pytest.param(name, marks=needs_manifest) for name in REAL)]


@pytest.mark.parametrize("name", INSTANCES)
def test_the_bundle_as_it_is_passes(name: str) -> None:
    one = instance(name)
    judgement = one.judged(one.bundle)
    private = name in ("private", "GitHub's private instance")
    assert judgement.verdict.value == ("VERIFIED_PRIVATE" if private else "VERIFIED"), judgement.reason
    # Everything that has to be tampered with is looked at.
    kinds = {path[-1] if isinstance(path[-1], str) else path[-2] for path in bytes_of(one)}
    assert kinds & {"payload", "statement", "digest"}
    assert kinds & {"sig", "signature"}
    assert kinds & {"rawBytes", "certificate"}
    assert private <= ("signedTimestamp" in kinds)


@pytest.mark.parametrize("name", INSTANCES)
@settings(max_examples=60)
@given(data=st.data(), mask=st.integers(1, 255))
def test_a_flipped_byte_is_rejected(name: str, data: st.DataObject, mask: int) -> None:
    one = instance(name)
    path = data.draw(st.sampled_from(bytes_of(one)))
    number = data.draw(st.integers(0, 20_000))
    judgement = one.judged(flipped(one, path, number, mask))
    assert judgement.verdict.value.startswith("INVALID_"), (path, judgement.reason)
    assert not judgement.proven
    assert judgement.reason


@pytest.mark.parametrize("name", INSTANCES)
@settings(max_examples=30)
@given(data=st.data())
def test_a_part_that_is_cut_short_or_empty_is_rejected(name: str, data: st.DataObject) -> None:
    one = instance(name)
    path = data.draw(st.sampled_from(bytes_of(one)))
    text = at(one.bundle, path)
    kept = data.draw(st.integers(0, len(text) - 1))
    judgement = one.judged(one.changed(path, text[:kept]))
    assert judgement.verdict.value.startswith("INVALID_"), (path, judgement.reason)


@pytest.mark.parametrize("name", INSTANCES)
@settings(max_examples=30)
@given(data=st.data())
def test_a_second_spelling_of_the_same_bytes_is_rejected(name: str, data: st.DataObject) -> None:
    """Base64 with other padding bits, white space or the other alphabet: the bytes are the same, the file is not."""
    one = instance(name)
    path = data.draw(st.sampled_from(bytes_of(one)))
    text = at(one.bundle, path)
    other = data.draw(
        st.sampled_from([f"{text}\n", f" {text}", text.rstrip("=") + "===", text.replace("+", "-").replace("/", "_")])
    )
    if other != text:
        judgement = one.judged(one.changed(path, other))
        assert not judgement.verdict.passed, (path, judgement.reason)


_CERTIFICATE, _LOG, _TIME = "certificate", "tlogEntries", "timestampVerificationData"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, [_CERTIFICATE]),
        ({}, [_LOG]),
        ({}, [_CERTIFICATE, _LOG]),
        ({"timestamped": True}, [_TIME]),
        ({"timestamped": True}, [_CERTIFICATE, _LOG, _TIME]),
        ({"witnessed": False}, [_CERTIFICATE]),
        ({"witnessed": False}, [_TIME]),
        ({"witnessed": False}, [_CERTIFICATE, _TIME]),
    ],
)
def test_parts_of_two_bundles_do_not_make_one(options: dict[str, bool], parts: list[str]) -> None:
    """Each is whole by itself; the content of one under the proof of another is none."""
    one = Instance(signed(**options), made_up_roots())
    other = signed(who=identity(run_id=901), **options)["verificationMaterial"]
    material = one.bundle["verificationMaterial"] | {part: other[part] for part in parts}
    mixed = one.changed(("verificationMaterial",), material)
    judgement = one.judged(mixed)
    assert judgement.verdict.value.startswith("INVALID_"), judgement.reason


_ENTRY = ("verificationMaterial", "tlogEntries", 0)
NUMBERS: list[Path] = [
    (*_ENTRY, "logIndex"),
    (*_ENTRY, "integratedTime"),
    (*_ENTRY, "inclusionProof", "logIndex"),
    (*_ENTRY, "inclusionProof", "treeSize"),
]


@pytest.mark.parametrize("path", NUMBERS, ids=lambda path: ".".join(map(str, path[3:])))
@pytest.mark.parametrize(
    "name", ["public", *(pytest.param(name, marks=needs_manifest) for name in ("the public instance", "PEP 740"))]
)
def test_a_number_of_the_log_that_changes_is_rejected(name: str, path: Path) -> None:
    one = instance(name)
    if name == "PEP 740":
        path = ("verification_material", "transparency_entries", *path[2:])
    changed = one.changed(path, str(int(at(one.bundle, path)) + 1))
    assert one.judged(changed).verdict == "INVALID_LOG"


@pytest.mark.parametrize(
    "name", ["private", "timestamped", pytest.param("GitHub's private instance", marks=needs_manifest)]
)
def test_no_byte_of_a_timestamp_is_free(name: str) -> None:
    """Every one of them, since few are left unsigned and a draw would miss them."""
    one = instance(name)
    data = one.bundle["verificationMaterial"]["timestampVerificationData"]
    signature = signature_bytes(one.bundle)
    authorities = [authority for root in one.roots for authority in root.timestamp_authorities]
    assert len(stamped_times(data, signature, authorities)) == 1
    raw = base64.b64decode(data["rfc3161Timestamps"][0]["signedTimestamp"])
    passed = []
    for number in range(len(raw)):
        changed = raw[:number] + bytes([raw[number] ^ 1]) + raw[number + 1 :]
        stamp = {"signedTimestamp": base64.b64encode(changed).decode()}
        try:
            stamped_times({"rfc3161Timestamps": [stamp]}, signature, authorities)
        except RefusedError:
            continue
        passed.append(number)
    assert passed == []
