from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from analytics.sample.timeline import Timeline, stream, utc


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_quarters_begin_at_local_midnight() -> None:
    timeline = Timeline(2)
    assert [str(quarter) for quarter in timeline.quarters] == ["2026-Q2", "2026-Q3"]
    assert [utc(bound).isoformat() for bound in timeline.bounds] == [
        "2026-03-31T22:00:00+00:00",
        "2026-06-30T22:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("evening", "morning"),
    [
        ("2026-07-03T19:30:00", "2026-07-06"),  # Friday to Monday
        ("2026-07-07T23:00:00", "2026-07-08"),  # after midnight in Berlin, before work
        ("2025-12-19T18:30:00", "2026-01-05"),  # over the end of the year
    ],
)
def test_what_would_happen_at_night_happens_on_the_next_working_morning(evening: str, morning: str) -> None:
    timeline = Timeline(4)
    rolled = timeline.roll(random.Random(1), at(evening))
    assert timeline.day(rolled).isoformat() == morning
    assert 8 <= timeline.hour(rolled) < 11


def test_what_happens_at_work_stays() -> None:
    timeline = Timeline(4)
    assert timeline.roll(random.Random(1), at("2026-07-07T09:00:00")) == at("2026-07-07T09:00:00")


@pytest.mark.parametrize(("quarters", "worse"), [(1, None), (3, None), (4, 1), (8, 5), (20, 17)])
def test_two_better_quarters_follow_the_worse_one(quarters: int, worse: int | None) -> None:
    assert Timeline(quarters).worse_quarter == worse


def test_streams_of_different_names_are_independent() -> None:
    assert stream(1, "a").random() == stream(1, "a").random()
    draws = {stream(1, "a").random(), stream(1, "b").random(), stream(2, "a").random(), stream(1, "a", "b").random()}
    assert len(draws) == 4
