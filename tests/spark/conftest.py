"""What tests on Spark share: a JVM per test process, organisations measured on DuckDB, a copy of one for Spark."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.lake.schemas import TABLES, VERIFIED_TABLES
from analytics.lake.tables import lake_relation
from analytics.settings import Settings, load_settings

Row = dict[str, Any]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


CONNECT_PORT = _free_port()
JVM = {
    # What a JVM of minutes would compile to the last is lost.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    # It also serves Spark Connect.
    "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": CONNECT_PORT,
}


@pytest.fixture(scope="session")
def connect_address(spark_session: Any) -> str:
    """Where the JVM of these tests serves Spark Connect."""
    return f"sc://127.0.0.1:{CONNECT_PORT}"


@pytest.fixture(scope="session")
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session on two threads that stays: each stage gets a new one in the same JVM in a fraction of a second."""
    if shutil.which("java") is None:
        pytest.skip("there is no Java here; Debian's openjdk-17-jre-headless brings it")
    from analytics.engines.spark import start_session

    storage = tmp_path_factory.mktemp("spark")
    settings = on_spark(Settings(organization="Acme"), storage)
    session = start_session(settings.model_copy(update={"engine": settings.engine.model_copy(update={"options": JVM})}))
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


@pytest.fixture(scope="session")
def sample_on_spark(spark_session: Any, sample: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The sample organisation, built and measured on Spark; verdicts are those of its first verification."""
    again = on_spark(sample, copied(sample, tmp_path_factory.mktemp("sample_on_spark")))
    _build_and_measure_anew(again)
    return again


@pytest.fixture(scope="session")
def million(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An organisation of a million run attempts, measured on DuckDB."""
    from analytics.delivery.build import build
    from analytics.landing.pull import pull
    from analytics.metrics.measure import measure
    from benchmarks.feeds import Size, write_feeds, write_settings

    folder = tmp_path_factory.mktemp("million") / "organization"
    size = Size(1_000_000, services=20)
    settings = load_settings(write_settings(folder, size))
    write_feeds(folder, size, seed=3)
    pull(settings)
    build(settings)
    measure(settings)
    return settings


@pytest.fixture(scope="session")
def million_on_spark(spark_session: Any, million: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same, built and measured on Spark."""
    again = on_spark(million, copied(million, tmp_path_factory.mktemp("million_on_spark")))
    _build_and_measure_anew(again)
    return again


def _build_and_measure_anew(settings: Settings) -> None:
    """Run both stages in a copied storage that holds nothing of what they write."""
    from analytics.delivery.build import build
    from analytics.metrics.measure import measure

    for name in TABLES:
        if name not in VERIFIED_TABLES:
            shutil.rmtree(settings.lake_dir / name, ignore_errors=True)
    build(settings)
    measure(settings)


# What updates of the last build and measuring ask for. On Spark a build derives everything anew and notes nothing; a
# measuring notes its engine and the bytes that it read.
NOTES = {
    "build_note",
    "attempt_inputs",
    "incident_inputs",
    "commit_reach",
    "commit_references",
    "measured_from",
}


def all_differences(expected: Settings, found: Settings) -> dict[str, list[Any]]:
    """What differs between two lakes, by table, over all tables that there are."""
    return {
        table: told for table in TABLES if table not in NOTES and (told := lake_differences(table, expected, found))
    }


def lake_differences(table: str, expected: Settings, found: Settings) -> list[Any]:
    """Rows that only one of two lakes has, or what the paired ones say differently; floats as in `differences`."""
    columns = ", ".join(f'"{column}"' for column in TABLES[table].columns)
    with duckdb.connect() as con:
        one, other = (f"SELECT {columns} FROM {lake_relation(settings, table)}" for settings in (expected, found))
        # Most are wholly the same, which the sums of their rows' hashes tell in a fraction of the time.
        sums = [f"SELECT count(*), sum(hash(rows)) FROM ({query}) AS rows" for query in (one, other)]
        if len({tuple(con.execute(query).fetchall()) for query in sums}) == 1:
            return []
        only_one = _as_rows(con, f"({one}) EXCEPT ALL ({other})")
        only_other = _as_rows(con, f"({other}) EXCEPT ALL ({one})")
    if len(only_one) != len(only_other):
        return [*only_one[:3], "on DuckDB alone; on Spark alone", *only_other[:3]]
    return [told for left, right in zip(only_one, only_other, strict=True) if (told := differences(left, right))]


def _as_rows(con: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    """Rows in the order of all that is no float."""
    found = con.execute(query)
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, values, strict=True)) for values in found.fetchall()]
    return sorted(rows, key=lambda row: [str(value) for value in row.values() if not isinstance(value, float)])


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
