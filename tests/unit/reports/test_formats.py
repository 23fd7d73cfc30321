"""Numbers as words, and the rules that keep small samples from saying too much."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from analytics.statistics import wilson
from reports.formats import (
    Shown,
    duration,
    moment,
    number,
    percent,
    quantile_of,
    reason_words,
    show,
    show_change,
    show_target,
)
from reports.published import Definition, MetricValue, local_day


def definition(metric: str = "change_lead_time", unit: str = "hours", **more: Any) -> Definition:
    plain: dict[str, Any] = {
        "metric": metric,
        "title": "Change lead time",
        "unit": unit,
        "direction": "lower",
        "statistic": "median",
        "minimum_n": None,
        "definition": "",
        "version": 1,
    }
    return Definition(**{**plain, **more})


LEAD = definition()
P95 = definition("change_lead_time_p95", statistic="95th percentile")
RATE = definition("change_fail_rate", "ratio", statistic="share", minimum_n=1)
FREQUENCY = definition("deployment_frequency", "per_day", statistic="count per calendar day", direction="higher")


def value(value: float | None, metric: str = "change_lead_time", **more: Any) -> MetricValue:
    plain: dict[str, Any] = {
        "metric": metric,
        "scope": "organization",
        "name": "Acme",
        "quarter": "2026-Q3",
        "series": None,
        "value": value,
        "unit": "hours",
        "definition": f"{metric}@1",
    }
    return MetricValue(**{**plain, **more})


def share(k: int, n: int, **more: Any) -> MetricValue:
    low, high = wilson(k, n)
    return value(k / n, "change_fail_rate", n=n, numerator=k, denominator=n, low=low, high=high, **more)


def plain(text: str | None) -> str:
    """Text with ordinary spaces and hyphens, as a reader would type it."""
    assert text is not None
    return text.replace("\u00a0", " ").replace("\u2212", "-")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.2, "under 1 s"),
        (36, "36 s"),
        (59.7, "1 min"),
        (252, "4 min 12 s"),
        (599.6, "10 min"),
        (43 * 60, "43 min"),
        (5 * 3600 + 43 * 60, "5 h 43 min"),
        (3600, "1 h"),
        (3599.9, "1 h"),
        (47.999 * 3600, "2 d"),
        (102 * 3600, "4 d 6 h"),
        (35 * 86400, "35 d"),
        (-90, "-1 min 30 s"),
    ],
)
def test_durations_read_in_the_two_units_that_matter(seconds: float, words: str) -> None:
    assert plain(duration(seconds)) == words


def test_numbers_have_separators_and_a_real_minus_sign() -> None:
    assert number(1287) == "1,287"
    assert number(-3.25, 1) == "\u22123.2"
    assert number(-0.01, 1) == "0.0"


def test_something_above_nothing_never_reads_as_zero_percent() -> None:
    assert plain(percent(0.0001)) == "under 0.1 %"
    assert plain(percent(1.0)) == "100 %"
    assert plain(percent(0.9999)) == "100.0 %"


def test_a_share_reads_as_k_of_n_with_percent_and_interval() -> None:
    assert plain(show(share(8, 94), RATE).sentence) == "8 of 94, 8.5 % (4.4 to 15.9 %)"


def test_below_thirty_a_share_is_k_of_n_without_a_percentage() -> None:
    assert plain(show(share(2, 29), RATE).main) == "2 of 29"
    assert plain(show(share(2, 30), RATE).main) == "2 of 30, 6.7 %"


def test_no_failure_is_never_a_bare_zero_percent() -> None:
    assert plain(show(share(0, 9), RATE).sentence) == "0 of 9 (0.0 to 29.9 %)"
    assert plain(show(share(0, 400), RATE).sentence) == "0 of 400 (0.0 to 1.0 %)"


@pytest.mark.parametrize(("n", "state"), [(5, "few"), (6, "value")])
def test_a_median_needs_six_observations(n: int, state: str) -> None:
    assert show(value(8.5, n=n), LEAD).state == state


@pytest.mark.parametrize(("n", "state"), [(19, "few"), (20, "value")])
def test_a_95th_percentile_needs_twenty_observations(n: int, state: str) -> None:
    assert show(value(8.5, "change_lead_time_p95", n=n), P95).state == state


def test_a_suppressed_value_is_not_printed() -> None:
    shown = show(value(8.5, n=5), LEAD)
    assert shown.main == "too few data: 5 observations, 6 are needed"
    assert shown.interval is None
    assert show(value(8.5, n=1), LEAD).main == "too few data: 1 observation, 6 are needed"


def test_a_definition_may_ask_for_more_observations_than_the_rules() -> None:
    assert show(value(8.5, n=30), definition(minimum_n=31)).state == "few"


def test_a_median_reads_with_interval_n_and_what_is_open() -> None:
    shown = show(value(5.75, n=113, open=9, low=5.0, high=6.5), LEAD)
    assert plain(shown.sentence) == "5 h 45 min (5 h to 6 h 30 min)"
    assert shown.notes == ("n = 113", "9 still open")


def test_an_interval_without_an_upper_end_says_so() -> None:
    assert plain(show(value(5.0, n=8, open=4, low=3.0), LEAD).interval) == "3 h or more"


@pytest.mark.parametrize(
    ("per_day", "words"), [(2.5, "2.5 a day"), (0.5, "3.5 a week"), (0.05, "1.5 a month"), (0.0, "0.0 a month")]
)
def test_a_frequency_is_told_over_the_span_that_holds_about_one(per_day: float, words: str) -> None:
    assert show(value(per_day, "deployment_frequency"), FREQUENCY).main == words


def test_a_pipeline_time_is_told_in_tenths_of_minutes() -> None:
    minutes = definition("pipeline_duration_median", "minutes")
    assert plain(show(value(12.44, "pipeline_duration_median", n=50), minutes).main) == "12.4 min"
    assert plain(show(value(0.62, "pipeline_duration_median", n=50), minutes).main) == "37 s"
    assert plain(show(value(150, "pipeline_duration_median", n=50), minutes).main) == "2 h 30 min"


def test_a_share_of_time_shows_hours_and_not_a_count() -> None:
    utilization = definition("runner_utilization", "ratio", statistic="share of time", direction=None)
    shown = show(value(0.25, "runner_utilization", n=3, numerator=120.0, denominator=480.0), utilization)
    assert plain(shown.main) == "25.0 %"
    assert [plain(note) for note in shown.notes] == ["120 h of 480 h", "n = 3"]


def test_interventions_per_deployment_are_no_percentage() -> None:
    per = definition("manual_interventions_per_deployment", "ratio", statistic="share")
    shown = show(value(1.25, "manual_interventions_per_deployment", n=40, numerator=50, denominator=40), per)
    assert (shown.main, shown.notes) == ("1.25", ("50 for 40",))


def test_an_undefined_value_reads_as_its_reason() -> None:
    assert show(value(None, reason="no_incident_source"), RATE) == Shown("no incident source", state="undefined")
    assert show(None, RATE).main == "not measured"


def test_an_unknown_reason_is_still_words() -> None:
    assert reason_words("no_such_thing") == "no such thing"
    assert "no reason" in reason_words(None)


@pytest.mark.parametrize(
    ("metric", "statistic", "quantile"),
    [
        ("change_lead_time", "median", 0.5),
        ("change_lead_time_p75", "75th percentile", 0.75),
        ("pipeline_duration_p95", "95th percentile", 0.95),
        ("failed_deployment_recovery_time", "median, open ones censored", 0.5),
        ("change_fail_rate", "share", None),
    ],
)
def test_quantiles_are_recognised_by_name_or_statistic(metric: str, statistic: str, quantile: float | None) -> None:
    assert quantile_of(definition(metric, statistic=statistic)) == quantile


class TestChange:
    def test_is_told_in_natural_units(self) -> None:
        change = show_change(value(10.0, n=40), value(12.5, n=40), LEAD)
        assert plain(change) == "-2 h 30 min (-20 %)"

    def test_of_a_share_is_in_points(self) -> None:
        assert plain(show_change(share(8, 94), share(12, 94), RATE)) == "-4.3 points"

    def test_of_a_small_share_tells_what_it_was(self) -> None:
        assert show_change(share(8, 94), share(1, 9), RATE) == "was 1 of 9"

    def test_has_no_percentage_below_twenty(self) -> None:
        assert plain(show_change(value(10.0, n=19), value(12.5, n=40), LEAD)) == "-2 h 30 min"

    def test_is_not_told_from_a_suppressed_median(self) -> None:
        assert show_change(value(10.0, n=40), value(12.5, n=5), LEAD) == "too few data"

    def test_says_why_there_is_nothing_to_compare_with(self) -> None:
        before = value(None, reason="not_collected")
        assert show_change(value(10.0, n=40), before, LEAD) == "then: not collected"
        assert show_change(value(10.0, n=40), None, LEAD) == "not measured then"

    def test_to_nothing_tells_what_it_was(self) -> None:
        gone = value(None, reason="no_incidents")
        assert plain(show_change(gone, value(12.5, n=40), LEAD)) == "was 12 h 30 min"
        assert show_change(gone, value(12.5, n=2), LEAD) == "then: too few data"

    def test_is_not_told_across_definitions(self) -> None:
        before = value(12.5, n=40, definition="change_lead_time@0")
        assert show_change(value(10.0, n=40), before, LEAD) == "definition changed"

    def test_of_nothing_has_no_sign_and_no_percentage(self) -> None:
        assert plain(show_change(value(10.0, n=40), value(10.0, n=40), LEAD)) == "\u00b10 s"

    def test_of_hours_is_rounded_to_minutes(self) -> None:
        assert plain(show_change(value(5.0, n=40), value(4.885, n=40), LEAD)) == "+7 min (+2 %)"


class TestTarget:
    def test_is_met_only_when_the_whole_interval_is_on_its_good_side(self) -> None:
        assert plain(show_target(24, value(20.0, n=40, low=18.0, high=23.0), LEAD)) == "24 h: met"
        assert plain(show_target(24, value(20.0, n=40, low=18.0, high=25.0), LEAD)) == "24 h: within the interval"
        assert plain(show_target(24, value(30.0, n=40, low=25.0, high=35.0), LEAD)) == "24 h: not met"

    def test_of_a_higher_is_better_metric_is_turned_around(self) -> None:
        now = value(2.0, "deployment_frequency", low=1.5, high=2.5)
        assert show_target(1.0, now, FREQUENCY) == "1.0 a day: met"
        assert show_target(3.0, now, FREQUENCY) == "3.0 a day: not met"

    def test_is_not_judged_by_too_few_data(self) -> None:
        assert plain(show_target(24, value(20.0, n=5, low=18.0, high=23.0), LEAD)) == "24 h"

    def test_that_was_never_set_is_none(self) -> None:
        assert show_target(None, value(20.0, n=40), LEAD) is None


def test_a_value_that_was_not_collected_names_the_source() -> None:
    undefined = value(None, "change_fail_rate", reason="not_collected", missing="slo_samples, drills")
    assert show(undefined, RATE).main == "not collected: slo samples, drills"


def test_a_mean_of_too_few_answers_is_not_printed() -> None:
    score = definition("satisfaction_score", "ratio", statistic="mean", minimum_n=6)
    assert show(value(0.8, "satisfaction_score", n=5), score).state == "few"
    assert show(value(0.8, "satisfaction_score", n=6), score).main == "80.0\u00a0%"


def test_the_last_day_there_is_can_be_shown_east_of_greenwich() -> None:
    last, zone = datetime(9999, 12, 31, 23, 59), ZoneInfo("Europe/Berlin")
    assert plain(moment(last, zone)) == "31 Dec 9999, 23:59 UTC"
    assert local_day(last, zone) == last.date()
