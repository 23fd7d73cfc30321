"""YAML read by the parser in C and by the one in Python: the same values, lines and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analytics import yaml_lines
from analytics.errors import SettingsError
from analytics.yaml_lines import read_yaml

# What the two parsers are known to take for different things, beside ordinary pieces of YAML.
PIECES = [
    *" \t\n-:?[]{},#&*!|>'\"%a0~\\",
    *("- ", ": ", "? ", "---\n", "...\n", "|#", "|\n", ">-\n", "!!int ", "&a ", "*a", "\ufeff", "\x85", "\u2028"),
    *("\r\n", '"\\ud800"', '"\\x00"', "key: value\n", "key:\n", "  - one\n", "{a: 1, b: [2]}", "%YAML 1.1\n---\n"),
]

in_c = pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="this PyYAML was built without the parser in C")


def outcome(path: Path) -> object:
    try:
        return [(document.value, document.lines) for document in read_yaml(path)]
    except SettingsError as error:
        return str(error)


@in_c
@hypothesis_settings(max_examples=150)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12))
def test_both_parsers_read_the_same_or_refuse_it_in_the_same_words(
    pieces: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "either.yaml"
    path.write_text("".join(pieces), encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        fast = outcome(path)
        patch.setattr(yaml_lines, "_FAST_LOADER", None)
        assert repr(fast) == repr(outcome(path))


@pytest.mark.parametrize("text", ["-\ta", "!", "\n\ufeffa", "{a? b: 1}", ">#", "- >-#", "---\n "])
def test_what_the_parser_in_c_reads_otherwise_is_left_to_the_other(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")
    fast = outcome(path)
    monkeypatch.setattr(yaml_lines, "_FAST_LOADER", None)
    assert repr(fast) == repr(outcome(path))


@in_c
def test_a_plain_file_is_given_to_the_parser_in_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("services:\n  - name: shop\n", encoding="utf-8")
    expected = outcome(path)
    monkeypatch.setattr(yaml_lines, "_FAST_LOADER", type("Fast", (yaml.SafeLoader,), {}))
    monkeypatch.setattr(yaml, "SafeLoader", lambda _: yaml.CSafeLoader(""))
    assert outcome(path) == expected
