"""The limiter: it waits for what is short, stops before what is long, and no answer opens what another closed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from analytics.sources.limits import KEPT_BACK, Budget, RateLimitedError

NOW = 1_790_000_000.0


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def budget(time: Time, **more: float) -> Budget:
    return Budget(clock=lambda: time.now, sleep=time.sleep, **more)  # type: ignore[arg-type]


def ask(limiter: Budget, resource: str = "core", points: int = 1) -> None:
    with limiter.turn(resource, points):
        pass


def left(remaining: int, reset: float, **more: str) -> dict[str, str]:
    return {
        "x-ratelimit-limit": "5000",
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": str(int(reset)),
        **more,
    }


def test_what_is_asked_is_counted_with_its_points() -> None:
    limiter = budget(Time())
    ask(limiter)
    ask(limiter, points=5)
    assert (limiter.requests, limiter.points) == (2, 6)


def test_no_minute_holds_more_than_its_points() -> None:
    time = Time()
    limiter = budget(time, points_per_minute=10)
    made = []
    for _ in range(25):
        ask(limiter, points=2)
        made.append(time.now)
    assert all(sum(2 for other in made if start <= other < start + 60) <= 10 for start in made)
    assert time.now == NOW + 240


def test_nothing_left_and_a_far_reset_stop_before_the_next_request() -> None:
    time = Time()
    limiter = budget(time)
    limiter.note("core", left(0, NOW + 1800))
    with pytest.raises(RateLimitedError) as caught:
        ask(limiter)
    assert caught.value.resume_at == datetime.fromtimestamp(NOW + 1801, UTC)
    assert (limiter.requests, time.slept) == (0, [])


def test_a_near_reset_is_waited_for_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    time = Time()
    limiter = budget(time)
    limiter.note("core", left(0, NOW + 30))
    ask(limiter)
    assert time.slept == [31]
    assert "pause of 31 s" in caplog.text


def test_rest_and_graphql_are_counted_apart() -> None:
    limiter = budget(Time())
    limiter.note("graphql", left(0, NOW + 1800))
    ask(limiter, "core")
    with pytest.raises(RateLimitedError):
        ask(limiter, "graphql")


def test_what_an_answer_was_counted_as_wins_over_what_it_was_asked_as() -> None:
    limiter = budget(Time())
    limiter.note("core", left(0, NOW + 1800, **{"x-ratelimit-resource": "search"}))
    ask(limiter, "core")


def test_some_of_the_hour_is_left_to_others() -> None:
    limiter = budget(Time())
    limiter.note("core", left(KEPT_BACK, NOW + 1800))
    with pytest.raises(RateLimitedError):
        ask(limiter)


def test_a_small_limit_is_used_up_whole() -> None:
    limiter = budget(Time())
    limiter.note("core", {**left(1, NOW + 1800), "x-ratelimit-limit": "60"})
    ask(limiter)


def test_a_wrong_clock_of_ours_does_not_change_the_pause() -> None:
    time = Time()
    limiter = budget(time)
    github_now = NOW - 7200
    date = datetime.fromtimestamp(github_now, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    limiter.note("core", left(0, github_now + 30, date=date))
    ask(limiter)
    assert time.slept == [31]


def test_an_answer_that_was_under_way_does_not_end_a_pause() -> None:
    limiter = budget(Time(), max_wait_seconds=0)
    limiter.pause("core", {"retry-after": "30"})
    limiter.note("core", left(4000, NOW + 1800))
    with pytest.raises(RateLimitedError):
        ask(limiter)


def test_a_late_answer_does_not_open_an_hour_that_is_used_up() -> None:
    limiter = budget(Time(), max_wait_seconds=0)
    limiter.note("core", left(0, NOW + 1800))
    limiter.note("core", left(60, NOW + 1800))
    with pytest.raises(RateLimitedError):
        ask(limiter)
    limiter.note("core", left(4990, NOW + 5400))
    ask(limiter)


def test_a_secondary_limit_closes_every_resource() -> None:
    limiter = budget(Time(), max_wait_seconds=0)
    limiter.pause("core", {"retry-after": "30"})
    with pytest.raises(RateLimitedError):
        ask(limiter, "graphql")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17),
        ({"retry-after": "0"}, 1),
        ({}, 60),
        ({"retry-after": "soon"}, 60),
        ({"retry-after": datetime.fromtimestamp(NOW + 40, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")}, 40),
        (left(0, NOW + 20), 21),
        (left(0, NOW - 500), 1),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "never"}, 60),
    ],
)
def test_a_refusal_pauses_for_as_long_as_it_says_else_a_minute(headers: dict[str, str], seconds: int) -> None:
    limiter = budget(Time())
    assert limiter.pause("core", headers) == datetime.fromtimestamp(NOW + seconds, UTC)


def test_headers_that_make_no_sense_change_nothing() -> None:
    limiter = budget(Time())
    limiter.note("core", {"x-ratelimit-remaining": "none", "x-ratelimit-reset": "1.5e9"})
    ask(limiter)


def test_a_turn_that_failed_is_given_back() -> None:
    limiter = budget(Time(), at_most=1)
    for _ in range(2):
        with pytest.raises(KeyError), limiter.turn("core"):
            raise KeyError
    ask(limiter)
