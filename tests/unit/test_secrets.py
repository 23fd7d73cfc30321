"""Secrets stay references, and texts lose what looks like one."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from analytics.errors import SettingsError, SourceError
from analytics.secrets import Secret, scrub
from analytics.settings import load_settings


def test_a_secret_is_read_when_it_is_used_and_held_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QD_TEST_SECRET", "canary")
    secret = Secret("${QD_TEST_SECRET}")
    assert secret.reveal() == "canary"
    assert b"canary" not in pickle.dumps(secret)
    assert "canary" not in repr(secret)


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary\n", "utf-8")
    assert Secret(f"file:{tmp_path / 'token'}").reveal() == "canary"
    with pytest.raises(SourceError, match="cannot be read"):
        Secret(f"file:{tmp_path / 'none'}").reveal()


def test_a_secret_written_into_the_settings_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(
        "organization: A\nsources:\n  - {name: g, type: github, organization: a, token: canary-value}\n", "utf-8"
    )
    with pytest.raises(SettingsError, match="write a reference") as caught:
        load_settings(path)
    assert "canary-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Authorization: Bearer abc.def", "abc.def"),
        ("token ghp_abcdefghijklmnopqrstuvwxyz0123", "ghp_abcdefghijklmnopqrstuvwxyz0123"),
        ("https://user:pass@host/x", "user:pass"),
        ("https://blob.test/x?sv=1&sig=abc%3D&se=2", "abc%3D"),
        ("https://s3.test/x?X-Amz-Signature=deadbeef", "deadbeef"),
        ("given secret: hunter22", "hunter22"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, hidden: str) -> None:
    assert hidden not in scrub(text, ["hunter22"])


def test_json_stays_json() -> None:
    found = {"url": "https://blob.test/x?sig=abc", "next": ["https://u:p@h/x", 'say "https://b.test/?token=t"']}
    assert set(json.loads(scrub(json.dumps(found)))) == {"url", "next"}
