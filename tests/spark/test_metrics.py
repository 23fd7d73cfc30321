"""Every metric on Spark is what it is on DuckDB: counts exactly, floats to a billionth, the same NULLs and reasons.

No query is named here: whatever the registry lists is measured and compared.
"""

from pathlib import Path
from typing import Any

from analytics.metrics.measure import measure
from analytics.metrics.registry import METRICS
from analytics.settings import Settings
from tests.spark.conftest import copied, differences, metric_rows, on_spark


def hold_against_duckdb(settings: Settings, measured_on_spark: Settings) -> None:
    """Compare every value of two storages."""
    expected, found = metric_rows(settings), metric_rows(measured_on_spark)
    assert found.keys() == expected.keys()
    told = {key: why for key, row in expected.items() if (why := differences(row, found[key]))}
    assert not told, f"{len(told)} of {len(expected)} values differ, such as {next(iter(told.items()))}"


def test_every_metric_of_the_sample_is_the_same_on_spark(spark_session: Any, sample: Settings, tmp_path: Path) -> None:
    again = on_spark(sample, copied(sample, tmp_path))
    for file in (again.lake_dir / "metric_values").rglob("*.parquet"):
        file.unlink()
    measure(again)
    hold_against_duckdb(sample, again)
    # Sameness says something of a query only where it has values.
    with_values = {key[0] for key, row in metric_rows(again).items() if row["value"] is not None}
    assert {metric.name for metric in METRICS} <= with_values
