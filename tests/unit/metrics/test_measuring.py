"""However rows come together, the values and words are the same."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analytics.errors import LakeError
from analytics.metrics import aggregates, measuring, readings
from analytics.metrics.measure import measured_quarters, measured_values, open_facts
from analytics.metrics.registry import METRICS
from analytics.settings import Settings

KEY = ["metric", "scope", "name", "quarter", "series"]
TIMED = [metric for metric in METRICS if metric.kind in ("quantile", "mean")]


def values(settings: Settings) -> pl.DataFrame:
    with open_facts(settings, TIMED) as facts:
        quarters = measured_quarters(facts, settings.calendar)
        return measured_values(facts, settings.calendar, quarters, TIMED).sort(KEY)


def test_what_was_never_built_is_not_measured(tmp_path: Path) -> None:
    with (
        pytest.raises(LakeError, match=r"nothing has been built yet\n.*`quarterdeck build`"),
        open_facts(Settings(organization="A", storage=tmp_path), TIMED),
    ):
        raise AssertionError("measured")


def test_durations_that_the_engine_orders_have_the_same_quantiles(
    sample: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = values(sample)
    assert here["p_value"].count() > 100
    monkeypatch.setattr(aggregates, "MOST_ROWS_HERE", -1)
    assert_frame_equal(values(sample), here, check_exact=True)


def test_medians_of_deployments_that_span_services_are_those_of_each_service(
    sample: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = pl.col("scope") == "service"
    own = values(sample).filter(services).drop("reading")
    monkeypatch.setattr(readings, "_any_spans", lambda _: True)
    assert_frame_equal(values(sample).filter(services).drop("reading"), own, check_exact=True)


@pytest.mark.parametrize(("sessions", "room"), [(1, 4_000_000), (4, 1)])
def test_values_are_the_same_however_many_metrics_are_measured_at_once(
    sample: Settings, monkeypatch: pytest.MonkeyPatch, sessions: int, room: int
) -> None:
    side_by_side = values(sample)
    monkeypatch.setattr(measuring, "MOST_SESSIONS", sessions)
    monkeypatch.setattr(measuring, "MOST_ROWS_HERE", room)
    assert_frame_equal(values(sample), side_by_side, check_exact=True)
