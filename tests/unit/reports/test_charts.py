"""Charts: their figures hold the database's values, and their words say what is drawn."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest

from analytics.settings import Settings
from reports.chart_parts import Chart, inert
from reports.comparison_charts import WITHIN, funnel_chart, pipelines_chart, place_in_funnel
from reports.contents import Contents, read_contents
from reports.evidence import Pipeline
from reports.pages import Pages
from reports.published import open_published, rows
from reports.weekly_charts import full_weeks, weekly_chart
from tests.unit.reports.published_world import QUARTER


@pytest.fixture(scope="module")
def contents(settings: Settings) -> Contents:
    return read_contents(settings, QUARTER)


@pytest.fixture(scope="module")
def charts(contents: Contents) -> dict[str, Chart]:
    return {chart.key: chart for chart in Pages(contents).leadership.charts}


def stored(settings: Settings, query: str) -> list[dict[str, Any]]:
    with open_published(settings) as con:
        return rows(con, query)


def organization(settings: Settings, metric: str) -> list[dict[str, Any]]:
    return stored(
        settings,
        "SELECT quarter, value, low, high FROM metric_values "
        f"WHERE scope = 'organization' AND metric = '{metric}' ORDER BY quarter",
    )


def test_the_lead_time_figure_equals_the_database(settings: Settings, charts: dict[str, Chart]) -> None:
    box, median = charts["lead-time"].figure["data"]
    values = organization(settings, "change_lead_time")
    assert median["x"] == [row["quarter"] for row in values]
    assert median["y"] == [row["value"] for row in values]
    assert median["error_y"]["array"] == [row["high"] - row["value"] for row in values]
    assert median["error_y"]["arrayminus"] == [row["value"] - row["low"] for row in values]
    third = stored(
        settings,
        "SELECT quantile_cont(lead_us, 0.25) / 3.6e9 AS hours FROM change_lead "
        "WHERE day >= '2026-07-01' AND excluded IS NULL",
    )
    assert box["x"] == ["2026-Q3"]
    assert box["q1"] == [pytest.approx(third[0]["hours"])]
    assert box["q3"] == [organization(settings, "change_lead_time_p75")[-1]["value"]]
    assert box["upperfence"] == [organization(settings, "change_lead_time_p95")[-1]["value"]]


def test_the_fail_rate_figure_equals_the_database(settings: Settings, charts: dict[str, Chart]) -> None:
    points = charts["fail-rate"].figure["data"][0]
    assert points["y"] == [row["value"] for row in organization(settings, "change_fail_rate")]
    assert charts["fail-rate"].figure["layout"]["shapes"][0]["y0"] == 0.15


def test_the_lead_time_axis_is_logarithmic(charts: dict[str, Chart]) -> None:
    assert charts["lead-time"].figure["layout"]["yaxis"]["type"] == "log"


def test_stages_are_never_stacked_and_say_that_they_do_not_add_up(charts: dict[str, Chart]) -> None:
    stages = charts["stages"]
    assert {trace["type"] for trace in stages.figure["data"]} == {"scatter"}
    assert "do not add up" in stages.caption
    assert stages.table is not None
    assert ("pickup", "not known", "not known", "not known") in stages.table.rows


def test_every_time_chart_has_words_and_a_table(charts: dict[str, Chart]) -> None:
    for chart in charts.values():
        assert chart.summary.endswith(".")
        assert chart.table is not None
        assert all(len(row) == len(chart.table.columns) for row in chart.table.rows)


def test_a_figure_is_plain_json_without_a_template(charts: dict[str, Chart]) -> None:
    for chart in charts.values():
        assert json.loads(json.dumps(chart.figure, allow_nan=False)) == chart.figure
        assert "template" not in chart.figure["layout"]


class TestWeeks:
    def test_only_full_weeks_count_and_an_empty_one_is_zero(self) -> None:
        wednesday = date(2026, 7, 1)
        by_day = {wednesday: 9, date(2026, 7, 6): 2, date(2026, 7, 12): 1, date(2026, 7, 20): 4, date(2026, 7, 27): 9}
        assert full_weeks(by_day, wednesday, date(2026, 7, 28)) == [
            (date(2026, 7, 6), 3),
            (date(2026, 7, 13), 0),
            (date(2026, 7, 20), 4),
        ]

    def test_a_week_outside_the_limits_is_marked_and_counted(self) -> None:
        weeks = [(date(2026, 1, 5) + timedelta(weeks=n), 10 + n % 2) for n in range(20)]
        weeks[12] = (weeks[12][0], 60)
        chart = weekly_chart("weeks", weeks, "Acme")
        assert chart is not None
        assert chart.figure["data"][2]["y"] == [60]
        assert "1 of 20 weeks lie outside" in chart.caption

    def test_too_few_weeks_give_no_chart(self) -> None:
        assert weekly_chart("weeks", [(date(2026, 1, 5), 3)] * 5, "Acme") is None


class TestFunnel:
    COUNTS = (*((f"s{n}", 4, 40) for n in range(20)), ("odd", 20, 40), ("small", 3, 5))

    def test_only_services_of_six_deployments_are_placed(self) -> None:
        placed = place_in_funnel(self.COUNTS)
        assert placed is not None
        pooled, points = placed
        assert pooled == pytest.approx(100 / 840)
        assert {point.service: point.position for point in points} == {
            **{f"s{n}": WITHIN for n in range(20)},
            "odd": "above the 99.8 % limit",
        }

    def test_one_service_alone_has_nothing_to_be_compared_with(self) -> None:
        assert place_in_funnel([("a", 1, 40), ("b", 1, 5)]) is None

    def test_points_are_at_their_counts_and_the_one_outside_is_named(self) -> None:
        placed = place_in_funnel([*self.COUNTS[:-2], ("<b>odd</b>", 20, 40)])
        assert placed is not None
        chart = funnel_chart("funnel", *placed, left_out=1)
        outside = chart.figure["data"][-1]
        assert (outside["x"], outside["y"]) == ([40], [0.5])
        assert [note["text"] for note in chart.figure["layout"]["annotations"]] == ["&lt;b&gt;odd&lt;/b&gt;"]
        assert "1 of 21 services lie" in chart.caption
        assert "1 with fewer than 6 deployments are not drawn" in chart.caption


def test_pipeline_hours_are_ranked_and_stacked() -> None:
    pipelines = [
        Pipeline("acme/a", "build", 10, 11, 10, 2, 1, failed_hours=3.0, retried_hours=1.0, queue_hours=0.5),
        Pipeline("acme/b", "build", 10, 10, 10, 0, 0, failed_hours=0.0, retried_hours=0.0, queue_hours=0.0),
    ]
    chart = pipelines_chart("pipelines", pipelines)
    assert chart is not None
    assert [trace["x"] for trace in chart.figure["data"]] == [[3.0], [1.0], [0.5]]
    assert chart.figure["layout"]["yaxis"]["ticktext"] == ["acme/a / build"]
    assert pipelines_chart("pipelines", pipelines[1:]) is None


def test_a_name_shows_as_it_is_written() -> None:
    assert inert("<b>a</b> & $x$ \u202e") == "&lt;b&gt;a&lt;/b&gt; &amp; &#36;x&#36; \\u202e"
