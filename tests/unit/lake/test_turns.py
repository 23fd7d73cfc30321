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
    LakeNote,
    check_lake,
    lake_note,
    lake_version,
    note_begun,
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
    check_lake(settings, "measure", derives=True)


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


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", '{"version": "x"}', '{"version": 1e999}'),
        *(f'{{"version": 2, "unfinished": {stages}}}' for stages in ("1", '"build"', '["pull"]', "[[]]", "null")),
    ],
)
def test_a_note_that_says_no_version_is_named(settings: Settings, text: str) -> None:
    rows(settings)
    (settings.storage / "lake.json").write_text(text)
    with pytest.raises(LakeError, match=r"lake\.json: does not say"):
        lake_version(settings)


# Stages that have not ended


def test_what_a_stage_has_begun_to_write_no_other_one_derives_from(settings: Settings) -> None:
    rows(settings)
    note_lake_version(settings)
    note_begun(settings, "build")
    for stage in ("verify", "measure"):
        with (
            pytest.raises(LakeError, match=rf"last build has not come to its end.*{stage}.*\n.*`quarterdeck build`"),
            lake_turn(settings, stage),
        ):
            raise AssertionError("derived from tables of two states")
    with lake_turn(settings, "build", derives=False):
        note_lake_version(settings, "build")
    assert lake_note(settings) == LakeNote(LAKE_VERSION)
    with lake_turn(settings, "measure"):
        pass


def test_a_stage_may_follow_upon_itself_and_the_end_of_another_is_not_its_own(settings: Settings) -> None:
    note_begun(settings, "verify")
    note_begun(settings, "build")
    note_lake_version(settings, "build")
    assert lake_note(settings) == LakeNote(LAKE_VERSION, frozenset({"verify"}))
    with lake_turn(settings, "verify"):
        pass
    with pytest.raises(LakeError, match="the last verify has not come to its end"), lake_turn(settings, "measure"):
        raise AssertionError("derived from tables of two states")


def test_a_first_build_that_did_not_end_is_not_taken_for_one_of_an_earlier_version(settings: Settings) -> None:
    note_begun(settings, "build")
    rows(settings)
    with pytest.raises(LakeError, match="the last build has not come to its end"), lake_turn(settings, "measure"):
        raise AssertionError("derived from tables of two states")


def test_an_older_lake_keeps_its_version_until_it_is_built_to_the_end(settings: Settings) -> None:
    rows(settings)
    note_begun(settings, "build")
    assert lake_note(settings) == LakeNote(1, frozenset({"build"}))
    # Another release reads no more of it than the version.
    assert (settings.storage / "lake.json").read_text() == '{"version": 1, "unfinished": ["build"]}\n'


def test_a_lake_whose_version_noted_no_beginning_is_derived_from(settings: Settings) -> None:
    rows(settings)
    (settings.storage / "lake.json").write_text('{"version": 2}\n')
    with lake_turn(settings, "measure"):
        assert lake_note(settings) == LakeNote(2)
