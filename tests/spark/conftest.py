"""What tests on Spark share: a JVM per test process, organisations measured on DuckDB, a copy of one for Spark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.settings import Settings, load_settings

Row = dict[str, Any]


@pytest.fixture(scope="session")
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session on two threads that stays: each stage gets a new one in the same JVM in a fraction of a second."""
    if shutil.which("java") is None:
        pytest.skip("there is no Java here; Debian's openjdk-17-jre-headless brings it")
    from analytics.engines.spark import start_session

    storage = tmp_path_factory.mktemp("spark")
    settings = Settings(organization="Acme").model_copy(update={"storage": storage})
    session = start_session(on_spark(settings))
    yield session
    session.stop()


def on_spark(settings: Settings, storage: Path | None = None) -> Settings:
    """The same settings with Spark as engine, in another storage if one is named."""
    engine = settings.engine.model_copy(update={"type": "spark", "threads": 2})
    return settings.model_copy(update={"engine": engine, "storage": storage or settings.storage})


def copied(settings: Settings, folder: Path) -> Path:
    """A copy of a storage."""
    storage = folder / "storage"
    shutil.copytree(settings.storage, storage)
    return storage


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The sample organisation, measured on DuckDB."""
    from analytics.delivery.build import build
    from analytics.landing.pull import pull
    from analytics.metrics.measure import measure
    from analytics.sample.writing import write_sample
    from analytics.supply_chain.verify import verify

    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    settings = load_settings(folder / "quarterdeck.yaml")
    pull(settings)
    build(settings)
    verify(settings)
    measure(settings)
    return settings


def metric_rows(settings: Settings) -> dict[tuple[Any, ...], Row]:
    """The measured values in the lake by metric, scope, name, quarter and series."""
    pattern = str(settings.lake_dir / "metric_values" / "*" / "*.parquet")
    with duckdb.connect() as con:
        found = con.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [pattern])
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, values, strict=True)) for values in found.fetchall()]
    return {tuple(row[name] for name in ("metric", "scope", "name", "quarter", "series")): row for row in rows}


def differences(expected: Row, found: Row) -> list[str]:
    """What two rows say differently: floats may differ by a billionth, everything else not at all."""
    told = []
    for column, value in expected.items():
        other = found[column]
        if isinstance(value, float) and isinstance(other, float):
            if abs(value - other) > 1e-9 * max(1.0, abs(value)):
                told.append(f"{column}: {value!r} on DuckDB, {other!r} on Spark")
        elif value != other or type(value) is not type(other):
            told.append(f"{column}: {value!r} on DuckDB, {other!r} on Spark")
    return told
