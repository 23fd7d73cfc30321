"""Every number is made of the rows that `explain` lists: reduced again by other means, they give the headline.

One small sample organisation is measured once; each metric is then taken apart for every service, team and the
organisation (metrics.md I4, I6, I7, I8).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analytics.metrics.explaining import Explanation, explain
from analytics.metrics.registry import METRICS, Metric
from analytics.metrics.values import metric_values, open_published
from analytics.periods import Quarter
from analytics.settings import Settings, load_settings

QUARTER = Quarter(2026, 3)
SHOWN_AS = {"hours": "hours", "minutes": "minutes"}


@dataclass(frozen=True)
class Sample:
    """The settings of a measured sample, its values and the counts of rows left out, by metric, scope, name, series."""

    settings: Settings
    values: dict[tuple[str, str, str, str | None], dict[str, Any]]
    excluded: dict[tuple[str, str, str, str | None], dict[str, int]]
    explained: dict[str, list[tuple[dict[str, Any], Explanation]]] = field(default_factory=dict)

    def of(self, metric: Metric) -> list[tuple[dict[str, Any], Explanation]]:
        """Each value of a metric with its explanation, asked for once."""
        if metric.name not in self.explained:
            self.explained[metric.name] = list(self._explain(metric.name))
        return self.explained[metric.name]

    def _explain(self, metric: str) -> Iterator[tuple[dict[str, Any], Explanation]]:
        for (name, scope, who, series), row in self.values.items():
            if name == metric:
                whose = {scope: who} if scope != "organization" else {}
                yield row, explain(self.settings, name, QUARTER, series=series, **whose)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    from quarterdeck.cli import main

    folder = tmp_path_factory.mktemp("explained") / "sample"
    runner = CliRunner()
    assert runner.invoke(main, ["sample", str(folder), "--services", "5", "--quarters", "2"]).exit_code == 0
    for stage in ("pull", "build", "verify", "measure"):
        result = runner.invoke(main, [stage, "--settings", str(folder / "quarterdeck.yaml")])
        assert result.exit_code == 0, result.output
    settings = load_settings(Path(folder / "quarterdeck.yaml"))
    rows = metric_values(settings, QUARTER)
    with open_published(settings) as con:
        left_out = con.execute(
            "SELECT metric, scope, name, series, excluded FROM metric_values WHERE quarter = ?", [str(QUARTER)]
        ).fetchall()
    return Sample(
        settings,
        {(row["metric"], row["scope"], row["name"], row["series"]): row for row in rows},
        {tuple(row[:4]): json.loads(row[4]) for row in left_out},
    )


def rows_that_count(explanation: Explanation) -> list[dict[str, Any]]:
    return [row for row in explanation.rows if row["excluded"] is None]


def quantile(amounts: list[float], p: float) -> float:
    """Hyndman and Fan's definition 7, from the sorted list."""
    place = (len(amounts) - 1) * p
    low = math.floor(place)
    high = min(low + 1, len(amounts) - 1)
    return amounts[low] + (place - low) * (amounts[high] - amounts[low])


def recovery_median(rows: list[dict[str, Any]]) -> float | None:
    """The median, or with something open the first time at which at most half are still running."""
    ended = sorted(row["hours"] for row in rows if not row["open"])
    running = [row["hours"] for row in rows if row["open"]]
    if not running:
        return quantile(ended, 0.5) if ended else None
    alive = Fraction(1)
    for time in sorted(set(ended)):
        at_risk = sum(each >= time for each in [*ended, *running])
        alive *= 1 - Fraction(ended.count(time), at_risk)
        if alive <= Fraction(1, 2):
            return time
    return None


def utilization(rows: list[dict[str, Any]]) -> float | None:
    busy: dict[str, int] = defaultdict(int)
    window: dict[str, int] = defaultdict(int)
    for row in rows:
        busy[row["runner"]] += row["numerator"]
        window[row["runner"]] = max(window[row["runner"]], row["denominator"])
    total = sum(window.values())
    return sum(min(busy[name], window[name]) for name in window) / total if total else None


def reduced(metric: Metric, rows: list[dict[str, Any]], days: float) -> float | None:
    """The headline made of the rows that count."""
    if metric.kind == "per_day":
        return len(rows) / days
    if metric.kind == "count":
        return float(len(rows))
    if metric.kind == "mean":
        return math.fsum(row["share"] for row in rows) / len(rows) if rows else None
    if metric.kind == "quantile":
        amounts = sorted(row[SHOWN_AS[metric.unit]] for row in rows)
        return quantile(amounts, metric.quantile) if amounts else None
    if metric.kind == "recovery_median":
        return recovery_median(rows)
    if metric.kind == "utilization":
        return utilization(rows)
    whole = sum(row["denominator"] for row in rows)
    return sum(row["numerator"] for row in rows) / whole if whole else None


def size(metric: Metric, rows: list[dict[str, Any]]) -> int:
    if metric.kind in ("ratio", "rate"):
        return int(sum(row["denominator"] for row in rows))
    if metric.kind == "utilization":
        return len({row["runner"] for row in rows})
    if metric.kind == "recovery_median":
        return sum(not row["open"] for row in rows)
    return len(rows)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_rows_that_count_make_the_value(metric: Metric, sample: Sample) -> None:
    seen = 0
    for value, explanation in sample.of(metric):
        rows = rows_that_count(explanation)
        of = f"{value['metric']} of {value['scope']} {value['name']} {value['series']}"
        assert explanation.value == value["value"], of
        if value["value"] is None:
            assert value["reason"], of
        else:
            assert reduced(metric, rows, value["denominator"] or 0) == pytest.approx(value["value"], rel=1e-9), of
            assert size(metric, rows) == value["n"], of
            seen += 1
        key = (value["metric"], value["scope"], value["name"], value["series"])
        left_out = Counter(row["excluded"] for row in explanation.rows if row["excluded"])
        assert left_out == sample.excluded[key], of
    assert seen, f"{metric.name} has no value at all in the sample"


POOLED = {metric.query: metric for metric in METRICS if metric.subject == "service"}


@pytest.mark.parametrize("metric", POOLED.values(), ids=POOLED)
def test_teams_and_the_organisation_pool_the_rows_of_their_services(metric: Metric, sample: Sample) -> None:
    def key(row: dict[str, Any]) -> str:
        return json.dumps(row, default=str, sort_keys=True)

    by_scope: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    for value, explanation in sample.of(metric):
        by_scope[value["scope"], value["series"]].update(map(key, rows_that_count(explanation)))
    for series in metric.series:
        assert by_scope["service", series] == by_scope["organization", series] == by_scope["team", series]


def test_what_is_pooled_of_several_services_is_marked_as_blended(sample: Sample) -> None:
    services = {who for _, scope, who, _ in sample.values if scope == "service"}
    assert len(services) > 1
    for (metric, scope, _, _), row in sample.values.items():
        if scope == "service":
            assert row["blended"] is False, row
        if scope == "organization":
            assert row["blended"] is True, (metric, row)
    assert {row["blended"] for (_, scope, _, _), row in sample.values.items() if scope == "team"} == {True, False}
