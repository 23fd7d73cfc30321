"""Every metric on Spark is what it is on DuckDB: counts exactly, floats to a billionth, the same NULLs and reasons.

No query is named here: whatever the registry lists is measured and compared.
"""

from analytics.metrics.registry import METRICS
from analytics.settings import Settings
from tests.spark.conftest import differences, metric_rows


def hold_against_duckdb(settings: Settings, measured_on_spark: Settings) -> None:
    """Compare every value of two storages."""
    expected, found = metric_rows(settings), metric_rows(measured_on_spark)
    assert found.keys() == expected.keys()
    told = {key: why for key, row in expected.items() if (why := differences(row, found[key]))}
    assert not told, f"{len(told)} of {len(expected)} values differ, such as {next(iter(told.items()))}"


def test_every_metric_of_the_sample_is_the_same_on_spark(sample: Settings, sample_on_spark: Settings) -> None:
    hold_against_duckdb(sample, sample_on_spark)
    # Sameness says something of a query only where it has values.
    with_values = {key[0] for key, row in metric_rows(sample_on_spark).items() if row["value"] is not None}
    assert {metric.name for metric in METRICS} <= with_values


def test_every_metric_of_a_million_attempts_is_the_same_on_spark(million: Settings, million_on_spark: Settings) -> None:
    hold_against_duckdb(million, million_on_spark)
