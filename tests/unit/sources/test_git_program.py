from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from analytics.errors import SourceError
from analytics.sources.git_program import Git, require_git, scrub, userinfo


def program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program named git before the real one."""
    path = folder / "bin" / "git"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("text", "location", "expected"),
    [
        ("fatal: 'https://ada:s3cret@host/x'", "", "fatal: 'https://***@host/x'"),
        ("https://ghp_token@host/x", "https://ghp_token@host/x", "https://***@host/x"),
        ("bad password p@ss:word!", "https://ada:p@ss:word!@host/x", "bad password ***"),
        ("decoded pa/ss", "https://ada:pa%2Fss@host/x", "decoded ***"),
        ("bad URL https://ada:pa/ss@host/x", "https://ada:pa/ss@host/x", "bad URL https://***@host/x"),
        ("Authorization: Basic abcdef", "", "Authorization: ***"),
        ("GET https://host/x?sig=abc&t=1 failed", "", "GET https://host/x?*** failed"),
        ("git was here", "ssh://git@host/x", "git was here"),
        ("git@host: denied", "git@host:x", "git@host: denied"),
        ("two ssh://a:b@h/x ssh://c@i/y", "", "two ssh://***@h/x ssh://***@i/y"),
        ("\x1b[31mred\x07\u202e", "", "\N{REPLACEMENT CHARACTER}[31mred" + "\N{REPLACEMENT CHARACTER}" * 2),
    ],
)
def test_credentials_and_control_characters_are_scrubbed(text: str, location: str, expected: str) -> None:
    assert scrub(text, location) == expected


def test_at_sign_in_a_path_is_no_credential() -> None:
    assert userinfo("https://host:8443/path@v1") == ""


@pytest.mark.parametrize("url", [None, "https://ada:s3cret@host/path"])
def test_error_is_cut_to_two_kilobytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    line = "fetching https://ada:s3cret@host/path"
    program(tmp_path, f'i=0; while [ $i -lt 400 ]; do echo "{line}" >&2; i=$((i+1)); done; exit 3', monkeypatch)
    with pytest.raises(SourceError) as caught:
        Git("acme/shop", "Try again.", tmp_path, url=url).output("fetch")
    assert "git fetch failed (exit code 3): " in caught.value.what
    assert 1900 < len(caught.value.what) < 2100
    assert "s3cret" not in str(caught.value)


def test_credential_that_is_cut_in_half_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of what git says 8 KiB are kept: here they begin within the password, and the long query is scrubbed away.
    said = f"https://ada:s3cret@host https://h/?{'q' * 8170}"
    program(tmp_path, f"echo '{said}' >&2; exit 3", monkeypatch)
    with pytest.raises(SourceError) as caught:
        Git("acme/shop", "", tmp_path, url="https://ada:s3cret@host").output("fetch")
    assert caught.value.what == "git fetch failed (exit code 3): https://h/?***"


def test_output_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "exec yes", monkeypatch)
    with pytest.raises(SourceError, match="printed more than 1000 bytes"):
        Git("acme/shop", "", tmp_path).output("log", limit=1000)


def test_output_that_ends_early_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="git version ended early"), Git("acme/shop", "", tmp_path).stream("version"):
        raise EOFError


def test_program_ends_with_the_block_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, f"echo $$ > {tmp_path}/pid; echo started; exec sleep 600", monkeypatch)
    with suppress(KeyboardInterrupt), Git("acme/shop", "", tmp_path).stream("log") as out:
        assert out.readline() == b"started\n"
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_time_limit_ends_children_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "sleep 600 & wait", monkeypatch)
    with pytest.raises(SourceError, match=r"git fetch took longer than 0\.2 seconds"):
        Git("acme/shop", "", tmp_path).output("fetch", seconds=0.2)


@pytest.mark.parametrize("url", [None, "https://host/x"])
def test_environment_that_would_redirect_or_trace_git_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    program(tmp_path, "env", monkeypatch)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_TRACE", "GIT_CURL_VERBOSE", "GIT_EXTERNAL_DIFF", "GIT_NAMESPACE"):
        monkeypatch.setenv(name, "hostile")
    assert b"hostile" not in Git("acme/shop", "", tmp_path, url=url).output("env")


def test_only_a_remote_sees_what_users_set_for_remotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "env", monkeypatch)
    given = {
        "GIT_SSH_COMMAND": "users-ssh",
        "GIT_ASKPASS": "users-askpass",
        "GIT_CONFIG_GLOBAL": "/users/config",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": "users-header",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    local = Git("acme/shop", "", tmp_path).output("env").decode()
    remote = Git("acme/shop", "", tmp_path, url="https://host/x").output("env").decode()
    for value in ("users-ssh", "users-askpass", "/users/config", "users-header"):
        assert value not in local
        assert value in remote
    assert "GIT_CONFIG_KEY_1=core.hooksPath" in remote
    assert "GIT_CONFIG_KEY_0=core.hooksPath" in local
    assert "GIT_ALLOW_PROTOCOL=none" in local
    assert "GIT_TERMINAL_PROMPT=0" in remote


def test_git_that_would_ignore_the_pins_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "echo git version 2.30.2", monkeypatch)
    with pytest.raises(SourceError, match=r"git is too old \(git version 2\.30\.2\)"):
        require_git()


def test_missing_git_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="the program git is not installed"):
        require_git()
    with pytest.raises(SourceError, match="git could not be started"):
        Git("acme/shop", "", tmp_path).output("version")


def test_installed_git_is_accepted() -> None:
    assert require_git() >= (2, 31)
