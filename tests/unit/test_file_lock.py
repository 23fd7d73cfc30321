from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from analytics import file_lock as module
from analytics.file_lock import file_lock

REPOSITORY = Path(__file__).resolve().parents[2]


class TooLateError(Exception):
    pass


def test_several_hold_it_together_but_nobody_alone_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.turn"
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(file_lock(path, alone=False, too_late=TooLateError))
        with pytest.raises(TooLateError), file_lock(path, too_late=TooLateError):
            raise AssertionError("alone beside others")
    with file_lock(path, too_late=TooLateError), pytest.raises(TooLateError):
        held.enter_context(file_lock(path, alone=False, too_late=TooLateError))


def test_what_its_last_holder_noted_is_kept(tmp_path: Path) -> None:
    with file_lock(tmp_path / "a.turn", too_late=TooLateError) as file:
        file.write("me")
    with file_lock(tmp_path / "a.turn", too_late=TooLateError):
        assert (tmp_path / "a.turn").read_text(encoding="utf-8") == "me"


def test_whoever_waits_says_so_at_once_and_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(module, "_REMIND_SECONDS", 0.02)
    said: list[str] = []
    with (
        file_lock(tmp_path / "a.turn", too_late=TooLateError),
        pytest.raises(TooLateError),
        file_lock(
            tmp_path / "a.turn", deadline_seconds=0.2, too_late=TooLateError, waiting=lambda: said.append("waiting")
        ),
    ):
        raise AssertionError("two hold it")
    assert 2 <= len(said) <= 11


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from analytics.file_lock import file_lock\n"
        "with file_lock(Path(sys.argv[1]), too_late=TimeoutError): print('held', flush=True); time.sleep(600)"
    )
    holding = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a.turn")], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    try:
        assert holding.stdout is not None
        assert holding.stdout.readline() == b"held\n"
        with pytest.raises(TooLateError), file_lock(tmp_path / "a.turn", too_late=TooLateError):
            raise AssertionError("two hold it")
    finally:
        holding.kill()
        holding.communicate()
    with file_lock(tmp_path / "a.turn", too_late=TooLateError):
        pass
