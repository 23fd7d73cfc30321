from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import yaml

from analytics.errors import QuarterdeckError, UsageError
from analytics.file_lock import file_lock
from analytics.settings import Settings, load_settings
from sensors.instance import open_instance, prepare_home, serve_ui

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text("organization: Acme\n", encoding="utf-8")
    return load_settings(path)


def test_telemetry_and_nux_are_off(settings: Settings) -> None:
    config = yaml.safe_load((prepare_home(settings) / "dagster.yaml").read_text(encoding="utf-8"))
    assert config["telemetry"] == {"enabled": False}
    assert config["nux"] == {"enabled": False}


def test_the_instance_accepts_what_is_written_and_keeps_runs_there(settings: Settings) -> None:
    with open_instance(settings) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert Path(instance.root_directory) == settings.dagster_home
        assert instance.get_runs_count() == 0


def test_what_the_user_changed_is_kept(settings: Settings) -> None:
    config = prepare_home(settings) / "dagster.yaml"
    config.write_text("telemetry: {enabled: false}\n# mine\n", encoding="utf-8")
    prepare_home(settings)
    assert "# mine" in config.read_text(encoding="utf-8")


def test_a_home_that_cannot_be_made_is_an_error_for_a_reader(settings: Settings) -> None:
    settings.storage.touch()
    with pytest.raises(QuarterdeckError, match="quarterdeck-data"):
        prepare_home(settings)


def test_an_instance_is_made_by_one_at_a_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    make, making = dg.DagsterInstance.from_config, threading.Semaphore(1)
    together = []

    def watched(home: str) -> dg.DagsterInstance:
        if not making.acquire(blocking=False):
            together.append(home)
        time.sleep(0.05)
        try:
            return make(home)
        finally:
            making.release()

    def opened(_: int) -> int:
        with open_instance(settings) as instance:
            return instance.get_runs_count()

    monkeypatch.setattr(dg.DagsterInstance, "from_config", watched)
    with ThreadPoolExecutor(4) as several:
        assert list(several.map(opened, range(4))) == [0] * 4
    assert together == []


def test_whoever_waits_too_long_for_an_instance_that_is_being_made_is_told_where(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.instance.SECONDS_TO_BE_MADE", 0)
    with (
        file_lock(prepare_home(settings) / "made.turn", too_late=AssertionError),
        pytest.raises(QuarterdeckError, match="is being made by another process"),
        open_instance(settings),
    ):
        raise AssertionError("two make it")


def test_a_port_in_use_is_an_error_of_the_words(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="in use"):
            serve_ui(settings, taken.getsockname()[1], lambda: None)


def session_of(leader: int) -> list[int]:
    """Processes of a session, by the kernel's account."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def children_of(parent: int) -> list[int]:
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts processes by /proc")
def test_the_ui_answers_and_ends_with_everything_it_started(settings: Settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["ui", "--port", str(port), "--settings", str(settings.settings_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", f"from quarterdeck.cli import main; main({words!r})"],
        cwd=settings.settings_path.parent,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
                    assert b"dagster_version" in answer.read()
                break
            except OSError:
                assert process.poll() is None, "the UI ended by itself"
                assert time.monotonic() < deadline, "the UI does not answer"
                time.sleep(0.5)
        listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # 127.0.0.1 as the kernel writes it, and nothing else on that port.
        assert [place for place in listening if place.endswith(f":{port:04X}")].count(f"0100007F:{port:04X}") >= 1
        assert f"00000000:{port:04X}" not in listening
        [leader] = children_of(process.pid)
        assert len(session_of(leader)) > 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert session_of(leader) == []
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
