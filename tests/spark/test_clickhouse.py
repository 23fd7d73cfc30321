"""The same texts on a third engine give the same rows: they are portable, and not what two engines share by chance.

No query is named here: whatever the registry lists, and whatever the build evaluates, is run and compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from analytics.catalog import Catalog, load_catalog
from analytics.delivery.attempts import match_attempts
from analytics.delivery.pipelines import pipeline_facts
from analytics.delivery.practices import practice_facts, runbook_rows
from analytics.engine import connect
from analytics.engines import prelude
from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.lake.schemas import FACT_TABLES
from analytics.landing.winners import open_landing
from analytics.metrics.registry import METRICS, observations_sql
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES
from tests.clickhouse import FUNCTIONS, ClickHouse

QUERIES = list(dict.fromkeys(metric.query for metric in METRICS))
SUMS = ("numerator", "denominator", "amount_us", "amount_trillionths")
LISTS = ("statuses", "labels", "revisions")
QUANTILES = {
    "duckdb": "quantile_cont({}, [0.5, 0.75, 0.95])",
    "clickhouse": "quantilesExactInclusive(0.5, 0.75, 0.95)({})",
}


@pytest.fixture(scope="module")
def clickhouse(sample: Settings) -> Iterator[ClickHouse]:
    """ClickHouse over the lake of the sample."""
    with pytest.MonkeyPatch.context() as patch, ClickHouse(sample) as engine:
        patch.setitem(prelude.FUNCTIONS, "clickhouse", FUNCTIONS)
        prelude.create_prelude(engine, sample)
        engine.read_lake(*ENTITIES, *(name for name in FACT_TABLES if name != "calendar"))
        yield engine


@pytest.fixture(scope="module")
def duckdb_engine(sample: Settings) -> Iterator[DuckEngine]:
    """DuckDB over the same."""
    with connect(sample) as con:
        engine = DuckEngine(con, sample)
        prelude.create_prelude(engine, sample)
        engine.read_lake(*ENTITIES, *(name for name in FACT_TABLES if name != "calendar"))
        yield engine


@pytest.fixture(scope="module")
def catalog(sample: Settings) -> Catalog:
    """The sample's catalog."""
    return load_catalog(list(sample.catalog) if isinstance(sample.catalog, list) else [sample.catalog])


def reduced(engine: Engine, query: str) -> dict[tuple[Any, ...], tuple[list[Any], list[float] | None]]:
    """A query's rows by subject, quarter, series and reason: how many, exact sums, exact quantiles of the amounts."""
    text = observations_sql(query)
    columns = engine.columns(text)
    series = "seen.series" if "series" in columns else "CAST(NULL AS String)"
    sums = [f"CAST(sum(seen.{name}) AS BIGINT) AS total_{name}" for name in SUMS if name in columns]
    amount = next((name for name in ("amount_us", "amount_trillionths") if name in columns), None)
    quantiles = f", {QUANTILES[engine.kind].format(f'seen.{amount}')} AS quantiles" if amount else ""
    found = engine.rows(
        f"SELECT seen.subject AS subject, calendar.quarter AS quarter, {series} AS series, seen.excluded AS excluded, "
        f"{', '.join(['count(*) AS n', *sums])}{quantiles} FROM ({text}) AS seen "
        "JOIN calendar ON calendar.day = seen.day "
        f"GROUP BY seen.subject, calendar.quarter, {series}, seen.excluded"
    )
    # The quantiles of nothing are NULL on one engine, and not a number on the other.
    return {
        row[:4]: (
            list(row[4 : 5 + len(sums)]),
            None if not amount or row[-2] is None or row[-1] is None else list(row[-1]),
        )
        for row in found
    }


@pytest.mark.parametrize("query", QUERIES)
def test_a_metrics_observations_are_the_same_on_clickhouse(
    query: str, clickhouse: ClickHouse, duckdb_engine: DuckEngine
) -> None:
    expected, found = reduced(duckdb_engine, query), reduced(clickhouse, query)
    assert expected, "the sample has no row of this"
    assert found.keys() == expected.keys()
    for key, (exact, quantiles) in expected.items():
        assert found[key][0] == exact, key
        assert (found[key][1] is None) == (quantiles is None), key
        assert quantiles is None or found[key][1] == pytest.approx(quantiles, rel=1e-9, abs=1e-9), key


def test_the_facts_of_a_build_are_the_same_rows_on_clickhouse(
    sample: Settings, clickhouse: ClickHouse, duckdb_engine: DuckEngine, catalog: Catalog
) -> None:
    def canonical(name: str) -> str:
        known = catalog.of_repository(name)
        return known[0].repository if known else name

    written: dict[str, int] = {}
    pipeline_facts(clickhouse, canonical, written)
    with open_landing(sample) as con:
        runbook_rows(con, clickhouse, catalog)
    practice_facts(clickhouse, sample, catalog, canonical, written)
    assert written
    for table, count in written.items():
        assert count, f"the sample has no row of {table}"
        columns = ", ".join(FACT_TABLES[table].columns)
        expected = Counter(duckdb_engine.rows(f"SELECT {columns} FROM {table}"))
        found = Counter(clickhouse.rows(f"SELECT {columns} FROM written_{table}"))
        assert found == expected, (
            table,
            next(iter((found - expected).items())),
            next(iter((expected - found).items())),
        )


def test_attempts_are_matched_alike_on_clickhouse(
    clickhouse: ClickHouse, duckdb_engine: DuckEngine, catalog: Catalog
) -> None:
    engines: tuple[Engine, Engine] = (duckdb_engine, clickhouse)
    for engine in engines:
        engine.create_values("proven_repositories", {"digest": "VARCHAR", "repository": "VARCHAR"}, [])
        match_attempts(engine, catalog)
    # Lists cannot be NULL there.
    simple = [name for name in duckdb_engine.columns("SELECT * FROM matched_attempts") if name not in LISTS]
    expected, found = (Counter(engine.rows(f"SELECT {', '.join(simple)} FROM matched_attempts")) for engine in engines)
    assert expected
    assert found == expected
    places = [engine.rows("SELECT * FROM unmatched_environments") for engine in engines]
    assert sorted(places[1], key=str) == sorted(places[0], key=str)
