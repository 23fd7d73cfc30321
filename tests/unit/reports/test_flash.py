from __future__ import annotations

from pathlib import Path

import pytest

from analytics.errors import LakeError
from analytics.periods import Quarter
from reports.flash import flash_lines
from tests.unit.reports.published_world import publish, settings_of, small_world


def test_a_flash_words_the_headlines_with_their_rows_and_the_quarter_before(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    publish(settings, small_world())
    lines = flash_lines(settings, Quarter(2026, 3))
    assert [line.split(":")[0] for line in lines] == [
        "deployment frequency",
        "change lead time",
        "change fail rate",
        "failed deployment recovery time",
    ]
    assert lines[1] == "change lead time: 23 h 30 min (n = 412); better; 2026-Q2: 30 h"
    assert "(n = 94)" in lines[2]


def test_the_first_quarter_has_none_before_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    publish(settings, small_world())
    assert all("2026-Q1" not in line for line in flash_lines(settings, Quarter(2026, 2)))


def test_an_undefined_value_gives_its_reason(tmp_path: Path) -> None:
    settings, world = settings_of(tmp_path), small_world()
    world.value("deployment_rework_rate", None, reason="no_deployments")
    publish(settings, world)
    assert flash_lines(settings, Quarter(2026, 3))[-1] == "deployment rework rate: undefined (no_deployments)"


def test_a_quarter_that_was_never_measured_is_an_error(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    publish(settings, small_world())
    with pytest.raises(LakeError, match="2031-Q1 has not been measured"):
        flash_lines(settings, Quarter(2031, 1))
