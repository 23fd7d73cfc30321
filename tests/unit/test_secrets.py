"""Secrets are references; a text without its secrets is otherwise the text it was, and JSON stays JSON."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.errors import SourceError
from analytics.secrets import Secret, scrub

CANARY = "canaryCanaryCanaryCanaryCanary0001"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2lnbmF0dXJlX2NhbmFyeQ"
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n{CANARY}\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize("text", ["ghp_abc", "${A}${B}", "x${A}", "${A} ", "${1A}", "file:", "", "FILE:x"])
def test_only_a_reference_is_a_secret_and_the_text_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must not stand here") as caught:
        Secret(text)
    assert text == "" or text == "file:" or text not in str(caught.value)


def test_a_variable_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Secret("${QD_CANARY}")
    monkeypatch.setenv("QD_CANARY", f" {CANARY}\n")
    assert secret.reveal() == CANARY


def test_a_file_is_read_when_it_is_used(tmp_path: Path) -> None:
    secret = Secret("file:key.pem").rooted(tmp_path)
    (tmp_path / "key.pem").write_text(f"{CANARY}\n", "utf-8")
    assert secret.reveal() == CANARY


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_variable_without_a_value_is_named(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QD_CANARY", raising=False)
    if value is not None:
        monkeypatch.setenv("QD_CANARY", value)
    with pytest.raises(SourceError, match="QD_CANARY is not set"):
        Secret("${QD_CANARY}").reveal()


def test_a_file_that_gives_no_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name in ("none", "empty", "bytes"):
        with pytest.raises(SourceError, match=name):
            Secret(f"file:{tmp_path / name}").reveal()


def test_nothing_that_is_kept_of_a_secret_holds_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QD_CANARY", CANARY)
    secret = Secret("${QD_CANARY}")
    secret.reveal()
    kept = [repr(secret), str(secret), f"{secret}", pickle.dumps(secret).decode("latin-1"), repr(copy.deepcopy(secret))]
    assert CANARY not in "".join(kept)
    assert pickle.loads(pickle.dumps(secret)) == secret


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"token {'ghp_' + CANARY} end", "token *** end"),
        (f"ghs_123456_{JWT}", "***"),
        (f"github_pat_11ABC_{CANARY}", "***"),
        (f"glpat-{CANARY}", "***"),
        (f"a {JWT} b", "a *** b"),
        (KEY, "***"),
        (KEY[:60], "***"),
        (f"Authorization: Bearer {CANARY}", "Authorization: ***"),
        (f"authorization: token {CANARY}", "authorization: ***"),
        (f"{{'Authorization': 'Basic {CANARY}=='}}", "{'Authorization': '***'}"),
        (f'{{"authorization": "{CANARY}"}}', '{"authorization": "***"}'),
        ("https://user:pa@ss@git.test/x", "https://***@git.test/x"),
        (r"https:\/\/user:pass@git.test", r"https:\/\/***@git.test"),
        ("https://s.test/a?sv=1&se=2&sp=r&sig=ab%2Bc%3D&x=1", "https://s.test/a?sv=1&se=2&sp=r&sig=***&x=1"),
        ("https://s.test/a?sv=1&se=2&sp=r", "https://s.test/a?sv=1&se=2&sp=r"),
        ("/a?X-Amz-Date=1&X-Amz-Signature=ab", "/a?X-Amz-Date=***&X-Amz-Signature=***"),
        ("/a?access_token=ab#x", "/a?access_token=***#x"),
        (r'"u?a=1\u0026sig=ab\/c\u002bd\u0026b=2"', r'"u?a=1\u0026sig=***\u0026b=2"'),
        ("u%3Fa%3D1%26sig%3Dab", "u%3Fa%3D1%26sig%3D***"),
        (r'"line\nghp_' + CANARY + r'\n"', r'"line\n***\n"'),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, clean: str) -> None:
    assert scrub(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Fix authorization: add checks",
        '{"authorization": true, "authorization": null, "authorization": 1234567890123456789012345}',
        "https://x.test/a?page=2&per_page=100&design=1",
        "https://x.test/a?mail=a@b.test",
        "git@github.com:acme/shop.git",
        "eyJhbGciOi is how a JWT begins",
        "6dcb09b5b57875f334f61aebed695e2e4193db5e",
        '{"head_sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "token_count": 3}',
    ],
)
def test_an_ordinary_text_stays_as_it_is(text: str) -> None:
    assert scrub(text) == text


def test_given_secrets_are_hidden_however_they_are_written() -> None:
    secret = 'a/b"c+d\ne&f'
    for text in (secret, json.dumps({"x": secret}), f"https://x.test/?q={'a%2Fb%22c%2Bd%0Ae%26f'}"):
        assert "***" in scrub(text, [secret])
        assert "c+d" not in scrub(text, [secret])
        assert "c%2Bd" not in scrub(text, [secret])
    assert json.loads(scrub(json.dumps({"x": secret}), [secret])) == {"x": "***"}


def test_a_digit_of_an_escape_is_not_taken_for_the_start_of_a_token() -> None:
    body = r'{"a": "\u00e' + JWT + '"}'
    json.loads(scrub(body))


texts = st.text(max_size=8) | st.sampled_from(
    ["/", '"', "\\", "\n", "\u00ee", "&", "<", ">", "'", "\u2028", "\U0001f600"]
)  # fmt: skip
starts = st.sampled_from(
    [
        "?sig=", "&sig=", "&token=", "Authorization: Bearer ", "authorization: ", "authorization", "://user:", "://",
        "@", "ghp_" + CANARY, JWT, KEY, KEY[:50], "glpat-" + CANARY, "X-Amz-Signature=", CANARY, "basic ",
    ]
)  # fmt: skip
strings = st.lists(texts | starts, max_size=8).map("".join)
values = st.recursive(
    strings | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
    max_leaves=12,
)


@given(values, st.booleans(), st.booleans(), st.booleans())
def test_json_stays_json(value: object, ascii_only: bool, slashes: bool, html_safe: bool) -> None:
    """However it is written: slashes, <, >, & and all that is not ASCII may be escapes."""
    body = json.dumps({"authorization": value}, ensure_ascii=ascii_only)
    if slashes:
        body = body.replace("/", r"\/")
    if html_safe:
        body = body.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    clean = scrub(body)
    json.loads(clean)
    nested = scrub(json.dumps({"body": body}))
    json.loads(nested)
    assert scrub(clean) == clean


@given(strings, st.booleans())
def test_no_signature_survives_in_json(before: str, html_safe: bool) -> None:
    body = json.dumps({"url": f"{before} https://s.test/a?sv=1&sig={CANARY}&se=2"})
    if html_safe:
        body = body.replace("&", r"\u0026")
    assert f"sig={CANARY}" not in scrub(body)
    assert json.loads(scrub(body))["url"].endswith("&se=2")
