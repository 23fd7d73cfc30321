from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analytics.errors import LakeError
from analytics.lake.turns import holder, lake_turn, turn_path
from analytics.lake.version import (
    LAKE_VERSION,
    check_lake_version,
    lake_version,
    note_lake_version,
)
from analytics.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pathlib import Path
from analytics.lake.turns import lake_turn
from analytics.settings import Settings
with lake_turn(Settings(organization="Acme", storage=Path(sys.argv[1])), "build"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(organization="Acme", storage=tmp_path / "data")


def held_by_another(settings: Settings) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(settings.storage)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


# Turns


def test_a_turn_is_taken_again_and_again(settings: Settings) -> None:
    for _ in range(2):
        with lake_turn(settings, "build"):
            assert f"build in process {os.getpid()} (since 20" in holder(turn_path(settings))
    assert holder(turn_path(settings)) == "another process"  # nobody


def test_a_stage_that_fails_gives_its_turn_back(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), lake_turn(settings, "build"):
        raise ZeroDivisionError
    with lake_turn(settings, "measure", deadline_seconds=0):
        pass


def test_a_second_stage_of_the_same_process_waits_too(settings: Settings) -> None:
    with (
        lake_turn(settings, "build"),
        pytest.raises(LakeError, match=f"is being written by build in process {os.getpid()}"),
        lake_turn(settings, "measure", deadline_seconds=0),
    ):
        raise AssertionError("two have the turn")


def test_whoever_waits_says_for_whom_and_a_killed_stage_blocks_nobody(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quarterdeck.progress")
    other = held_by_another(settings)
    try:
        with (
            pytest.raises(LakeError, match=rf"build in process {other.pid} \(since .* UTC\); waited 0.3 s") as caught,
            lake_turn(settings, "measure", deadline_seconds=0.3),
        ):
            raise AssertionError("two have the turn")
        assert "Let it finish, or end it" in str(caught.value)
        [said] = [record.message for record in caplog.records]
        assert said.startswith(f"measure: waiting for build in process {other.pid} (since")
    finally:
        other.kill()
        other.communicate()
    with lake_turn(settings, "measure", deadline_seconds=0):
        pass


# Versions


def rows(settings: Settings) -> None:
    (settings.lake_dir / "commits" / "quarter=undated").mkdir(parents=True)


def test_a_storage_without_a_lake_has_no_version(settings: Settings) -> None:
    assert lake_version(settings) is None
    check_lake_version(settings, derives=True)


def test_a_lake_of_the_first_release_has_version_1_and_is_built_anew(settings: Settings) -> None:
    rows(settings)
    assert lake_version(settings) == 1
    with pytest.raises(LakeError, match=r"earlier version .*\n.*quarterdeck build"), lake_turn(settings, "measure"):
        raise AssertionError("measured on an old lake")
    with lake_turn(settings, "build", derives=False):
        note_lake_version(settings)
    assert lake_version(settings) == LAKE_VERSION
    with lake_turn(settings, "measure"):
        pass


@pytest.mark.parametrize("derives", [True, False])
def test_a_lake_of_a_newer_release_is_refused_with_words(settings: Settings, derives: bool) -> None:
    rows(settings)
    (settings.storage / "lake.json").write_text('{"version": 99}')
    with (
        pytest.raises(LakeError, match=r"newer version of Quarterdeck \(lake version 99; this one knows"),
        lake_turn(settings, "build", derives=derives),
    ):
        raise AssertionError("written by an older release")


@pytest.mark.parametrize("text", ["", "[]", '{"version": "x"}', "null"])
def test_a_note_that_says_no_version_is_named(settings: Settings, text: str) -> None:
    rows(settings)
    (settings.storage / "lake.json").write_text(text)
    with pytest.raises(LakeError, match=r"lake\.json: does not say"):
        lake_version(settings)
