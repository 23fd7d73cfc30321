"""Main points: which sentences are chosen, and how they are worded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analytics.statistics import wilson
from reports.coverage import LINKED, RESOLVED, Collected, DataQuality, Share
from reports.evidence import OpenIncident
from reports.main_points import Point, choose_main_points
from reports.published import Definition, MetricValue, group_values
from reports.scorecard import Periods, make_scorecard
from tests.unit.reports.published_world import DEFINITIONS, QUARTER, utc

ACME = ("organization", "Acme")
PERIODS = Periods.of(QUARTER)
KNOWN = {
    metric: Definition(metric, title, unit, direction, statistic, minimum_n, "", 1)
    for metric, title, unit, direction, statistic, minimum_n in DEFINITIONS
}


def value(metric: str, amount: float | None, quarter: str = "2026-Q3", **more: Any) -> MetricValue:
    return MetricValue(
        metric=metric, scope="organization", name="Acme", quarter=quarter, series=None, value=amount,
        unit=KNOWN[metric].unit, definition=f"{metric}@1", **more,
    )  # fmt: skip


def rate(k: int, n: int, quarter: str = "2026-Q3", metric: str = "change_fail_rate", **more: Any) -> MetricValue:
    low, high = wilson(k, n)
    return value(metric, k / n, quarter, n=n, numerator=k, denominator=n, low=low, high=high, **more)


def quality(shares: Sequence[Share] = (), refused: int = 0) -> DataQuality:
    collected = [Collected("drops", "deployments", None, None, 990, refused, True)]
    return DataQuality(collected, [], [], [], [], list(shares), [], [], [])


def points(
    values: Sequence[MetricValue],
    data: DataQuality | None = None,
    open_failures: int = 0,
    incidents: Sequence[OpenIncident] = (),
    targets: dict[str, float] | None = None,
) -> list[Point]:
    grouped = group_values(values)
    card = make_scorecard(grouped, KNOWN, *ACME, PERIODS, targets or {})
    return choose_main_points(card.leading, grouped, KNOWN, ACME, PERIODS, data or quality(), open_failures, incidents)


def plain(point: Point) -> str:
    return f"{point.subject} {point.text}".replace("\u00a0", " ")


LEAD = [
    value("change_lead_time", 23.5, n=412, low=22.5, high=24.75, reading="better"),
    value("change_lead_time", 30.0, "2026-Q2", n=380, low=29.0, high=31.25),
]


def test_a_change_is_told_with_both_intervals() -> None:
    assert plain(points(LEAD)[0]) == (
        "Change lead time got better: a median of 23 h 30 min (22 h 30 min to 24 h 45 min), "
        "against 30 h (29 h to 31 h 15 min) in 2026-Q2."
    )


def test_the_word_comes_from_the_reading_and_not_from_the_sign() -> None:
    fell = [
        value("deployment_frequency", 1.0, n=92, numerator=92, denominator=92, reading="worse"),
        value("deployment_frequency", 1.5, "2026-Q2", n=137, numerator=137, denominator=91),
    ]
    unread = [value("change_lead_time", 10.0, n=412, reading="no clear change"), LEAD[1]]
    assert plain(points(fell)[0]).startswith("Deployment frequency got worse: 1.0 a day")
    assert plain(points(unread)[0]).startswith("No clear change in change lead time: a median of 10 h")


def test_one_point_is_about_what_did_not_change() -> None:
    unchanged = [*LEAD, rate(8, 94, reading="no clear change"), rate(12, 94, "2026-Q2")]
    found = [plain(point) for point in points(unchanged) if point.subject == "No clear change"]
    assert found == [
        "No clear change in change fail rate: 8 of 94, 8.5 % (4.4 to 15.9 %), against 12 of 94, 12.8 % "
        "(7.5 to 21.0 %) in 2026-Q2; this can come by chance."
    ]


def test_without_any_test_no_measure_is_said_to_have_stayed_the_same() -> None:
    untested = [value("change_lead_time", 23.5, n=8, reading="too few data")]
    told = [plain(point) for point in points(untested)]
    assert told[0].startswith("No measure is known to have stayed the same")
    assert any("too few data to say whether it changed" in text for text in told)


def test_worse_is_told_before_better() -> None:
    both = [*LEAD, rate(30, 94, reading="worse"), rate(12, 94, "2026-Q2")]
    assert [point.subject for point in points(both)[:2]] == ["Change fail rate", "Change lead time"]


def test_what_is_open_is_told_with_the_oldest_date() -> None:
    incident = OpenIncident("checkout", "INC-7", None, None, utc(2026, 7, 8), True, None)
    told = [plain(point) for point in points(LEAD, open_failures=1, incidents=[incident])]
    assert (
        "Still open: 1 failed deployment of the quarter had not recovered at the cut-off and is counted as open, "
        "not left out; 1 incident had no end, the oldest opened on 8 July 2026."
    ) in told


def test_poor_coverage_is_a_main_point() -> None:
    poor = quality([Share(RESOLVED, 80, 100, ""), Share(LINKED, 2, 10, "")])
    assert (
        "Read with care: 20 of 100 deployments (20.0 %) have no lead time, because their revision is outside the known "
        "history; only 2 of 10 incidents could be linked to a deployment."
    ) in map(plain, points(LEAD, poor))


def test_good_coverage_is_none() -> None:
    good = quality([Share(RESOLVED, 99, 100, ""), Share(LINKED, 9, 10, "")])
    assert not any(point.subject == "Read with care:" for point in points(LEAD, good))


def test_records_in_quarantine_are_told_above_one_in_a_hundred() -> None:
    told = "Read with care: 11 of 1,001 deployments could not be read and stand in quarantine."
    assert told in map(plain, points(LEAD, quality(refused=11)))
    assert not any(point.subject == "Read with care:" for point in points(LEAD, quality(refused=9)))


def test_targets_are_told_when_there_is_room() -> None:
    told = points([*LEAD, rate(30, 94)], targets={"change_lead_time": 24, "change_fail_rate": 0.15})
    assert plain(told[-1]) == ("Targets are not met for change fail rate; too close to tell for change lead time.")


def test_an_undefined_measure_is_told_with_its_reason() -> None:
    missing = [*LEAD, value("change_fail_rate", None, reason="no_incident_source")]
    assert "Read with care: change fail rate has no value (no incident source)." in map(plain, points(missing))


def test_there_are_three_to_five_points() -> None:
    everything = [
        row
        for number, metric in enumerate(("change_fail_rate", "deployment_rework_rate", "pipeline_success_rate"))
        for row in (rate(8, 94, metric=metric, reading="worse"), rate(12, 94, "2026-Q2", metric=metric))
    ]
    crowded = points(
        [*LEAD, *everything, value("policy_compliance_rate", None, reason="no_policy")],
        quality([Share(RESOLVED, 80, 100, "")], refused=9),
        open_failures=3,
    )
    assert len(crowded) == 5
    assert any("stayed the same" in point.subject for point in crowded)
    assert len(points([*LEAD, rate(8, 94), value("policy_compliance_rate", None, reason="no_policy")])) >= 3
