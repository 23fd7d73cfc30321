"""Spark builds and measures what DuckDB does: counts exactly, floats to a billionth, the same NULLs and reasons.

No table and no query is named here: whatever the lake's schemas and the registry list is compared. Each organisation is
compared in one test, so that workers who share the tests out do not build it twice.
"""

from analytics.delivery.since import NOTE
from analytics.lake.tables import quarters_of
from analytics.lake.version import LAKE_VERSION, LakeNote, lake_note
from analytics.metrics.registry import METRICS
from analytics.settings import Settings
from tests.spark.conftest import all_differences, metric_rows


def test_every_table_and_metric_of_the_sample_is_the_same_on_spark(sample: Settings, sample_on_spark: Settings) -> None:
    assert all_differences(sample, sample_on_spark) == {}
    # Sameness says something of a query only where it has values.
    with_values = {key[0] for key, row in metric_rows(sample_on_spark).items() if row["value"] is not None}
    assert {metric.name for metric in METRICS} <= with_values
    # A build on Spark says that it came to its end, without being one that DuckDB would continue.
    assert lake_note(sample_on_spark) == LakeNote(LAKE_VERSION)
    assert not quarters_of(sample_on_spark, NOTE)


def test_every_table_and_metric_of_a_million_attempts_is_the_same_on_spark(
    million: Settings, million_on_spark: Settings
) -> None:
    assert all_differences(million, million_on_spark) == {}
    assert any(row["value"] for row in metric_rows(million_on_spark).values())
