"""Bytes of strangers are read within caps, in one way only, or refused in words."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.errors import SourceError
from analytics.sources.github import attestations
from analytics.supply_chain import untrusted
from analytics.supply_chain.untrusted import UntrustedInputError, compact, decode_base64, parse_json, printable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50)
@given(JSON)
def test_what_is_json_is_read_as_it_is(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair is no text
    assert parse_json(text) == value
    assert parse_json(compact(value)) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"a": 1} {"b": 2}', "is not JSON"),
        (b'{"a": 1, "a": 2}', "gives the key “a” twice"),
        (b'{"a": [{"b": 1, "\\u0062": 2}]}', "gives the key “b” twice"),
        (b"NaN", "is not a JSON number"),
        (b"[Infinity]", "is not a JSON number"),
        (b"1e999", "too large a number"),
        (b"9" * 5_000, "is not JSON"),
        (b'"\xff"', "is not JSON"),
        (b'"\\ud800"', "is not JSON"),
        (b"[" * (untrusted.MAX_DEPTH + 1) + b"]" * (untrusted.MAX_DEPTH + 1), "nests deeper than 64 levels"),
        (b"[" * 10_000 + b"]" * 10_000, "nests deeper than 64 levels"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nests deeper than 64 levels"),
        (b"[" * 1_000_000, "nests deeper than 64 levels"),
        (b"[" + b"0," * 1_000_000 + b"0]", "more than 1000000 values"),
        (b'"' + b"x" * untrusted.MAX_BYTES + b'"', "more than the 16777216 that are read"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_what_is_no_json_or_breaks_a_cap_is_refused_in_words(text: bytes, words: str) -> None:
    with pytest.raises(UntrustedInputError) as caught:
        parse_json(text)
    assert words in caught.value.what
    assert len(caught.value.what) < 400


def test_the_deepest_that_is_read_is_read() -> None:
    assert parse_json(b"[" * untrusted.MAX_DEPTH + b"]" * untrusted.MAX_DEPTH)


@given(st.binary(max_size=200))
def test_base64_has_one_spelling(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text, what="part") == data
    for other in {f"{text}=", f"{text}\n", f" {text}", f"{text}====", text[:-1], text.replace("=", "")} - {text, ""}:
        with pytest.raises(UntrustedInputError):
            decode_base64(other, what="part")


@pytest.mark.parametrize("text", [None, 7, b"AAAA", ["AAAA"], "AA-_", "AB==", "é"])
def test_what_is_no_base64_is_refused(text: Any) -> None:
    with pytest.raises(UntrustedInputError, match="The part is"):
        decode_base64(text, what="part")


@given(st.text())
def test_shown_text_is_one_line_without_control_characters(text: str) -> None:
    shown = printable(text, limit=20)
    assert shown.isprintable()
    assert len(shown) <= 21


# GitHub's stores serve compressed bundles


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xff\xff\xff\xff\x0f" + b"\x00" * 64,  # says 4 GiB
        b"\x81\x80\x80\x08" + b"\xfe\xff\xff" * 1000,  # one byte above the cap
    ],
)
def test_a_bomb_is_refused_by_the_length_that_it_states(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def decompress_raw(*_: Any) -> Any:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr(cramjam.snappy, "decompress_raw", decompress_raw)
    with pytest.raises(SourceError, match="unpacks to more than"):
        attestations.decompressed(bomb)


@given(st.binary(max_size=300))
def test_any_bytes_unpack_within_the_cap_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert len(attestations.decompressed(data)) <= attestations.MAX_BUNDLE_BYTES


@given(st.binary(max_size=300))
def test_what_was_packed_unpacks_and_what_was_cut_does_not(data: bytes) -> None:
    packed = bytes(cramjam.snappy.compress_raw(data))
    assert attestations.decompressed(packed) == data
    if data:
        with pytest.raises(SourceError):
            attestations.decompressed(packed[:-1])
