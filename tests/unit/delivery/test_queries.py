"""Queries of the build that say in the portable subset what one engine has a word for: as-of joins, NULL as a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analytics.catalog import Catalog, Service
from analytics.delivery.attempts import match_attempts
from analytics.delivery.queries import create_tables
from analytics.engine import connect
from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import create_functions
from analytics.lake.schemas import TABLES
from analytics.settings import Settings

NOW = datetime(2026, 10, 1)
HOUR_US = 3_600_000_000
BUDGET_STEPS = ("budget_samples", "budget_windows", "budget_points", "budget_impacts")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckEngine]:
    settings = Settings(organization="Acme").model_copy(update={"storage": tmp_path_factory.mktemp("storage")})
    with connect(settings) as con:
        made = DuckEngine(con, settings)
        create_functions(made, "Europe/Berlin")
        made.create_values("params", {"now": "TIMESTAMP"}, [(NOW,)])
        made.create_values("service_deployments", TABLES["service_deployments"].columns, [])
        made.create_view("budget_deployments", "SELECT * FROM service_deployments")
        yield made


def table(engine: DuckEngine, name: str, rows: Sequence[dict[str, Any]] = ()) -> None:
    """A lake table with these rows; what they do not name is NULL."""
    columns = TABLES[name].columns
    engine.create_values(name, columns, [tuple(row.get(column) for column in columns) for row in rows])


# Hours before the cut-off, few enough to meet at the edges.
hours = st.integers(-6, 12)
samples = st.dictionaries(st.tuples(st.sampled_from(["a", "b"]), hours), st.integers(0, 8), max_size=12)


@hypothesis_settings(max_examples=30)
@given(samples=samples, ages=st.lists(hours, min_size=1, max_size=4), window=st.integers(1, 5))
def test_budgets_are_read_off_the_sample_that_holds_at_each_edge(
    engine: DuckEngine, samples: dict[tuple[str, int], int], ages: list[int], window: int
) -> None:
    table(
        engine,
        "slo_samples",
        [
            {"service": "shop", "slo": slo, "at": NOW - timedelta(hours=age), "error_budget_remaining": eighths / 8}
            for (slo, age), eighths in samples.items()
        ],
    )
    table(
        engine,
        "service_deployments",
        [
            {
                "service": "shop",
                "deployment_key": str(n),
                "outcome": "success",
                "created_at": NOW - timedelta(hours=age),
            }
            for n, age in enumerate(ages)
        ],
    )
    engine.create_values("budget_window", {"span_us": "BIGINT"}, [(window * HOUR_US,)])
    create_tables(engine, *BUDGET_STEPS)
    found = engine.rows(
        "SELECT deployment_key, slo, remaining_base, remaining_before, remaining_after, excluded FROM budget_impacts"
    )

    expected = []
    for n, age in enumerate(ages):
        known = {slo: {-a: left / 8 for (of, a), left in samples.items() if of == slo and a >= 0} for slo in "ab"}
        for slo in [slo for slo in "ab" if known[slo]] or [None]:
            levels = known[slo] if slo else {}

            def last(levels: dict[int, float], at: int) -> int | None:
                return max((moment for moment in levels if moment <= at), default=None)

            before, after, base = last(levels, -age), last(levels, -age + window), last(levels, -age - window)
            if base is None or base < -age - 2 * window:
                base = min((moment for moment in levels if moment >= -age - window), default=None)
            excluded = (
                "no_slo"
                if slo is None
                else "window_open"
                if -age + window > 0
                else "no_sample_before"
                if before is None or before < -age - window
                else "no_sample_after"
                if after is None or after <= -age
                else None
            )
            at = [None if moment is None else levels[moment] for moment in (base, before, after)]
            expected.append((str(n), slo, *at, excluded))
    assert sorted(found, key=str) == sorted(expected, key=str)


DEPLOYMENT = {
    "repository": "acme/shop",
    "environment": "production",
    "sha": "1" * 40,
    "created_at": NOW - timedelta(days=1),
    "source": "drops",
    "origin": "deployments.jsonl",
}


def matched(engine: DuckEngine, deployments: Sequence[dict[str, Any]], artifacts: Sequence[dict[str, Any]] = ()) -> Any:
    """What `matched_attempts` makes of deployments of one service."""
    for name in ("pipeline_runs", "pipeline_jobs", "tags", "releases", "commits"):
        table(engine, name)
    table(engine, "artifacts", artifacts)
    table(engine, "deployments", [{**DEPLOYMENT, "line": n, **row} for n, row in enumerate(deployments, start=1)])
    engine.create_values("proven_repositories", {"digest": "VARCHAR", "repository": "VARCHAR"}, [])
    match_attempts(engine, Catalog([Service(name="checkout", repository="acme/shop")]))
    return engine


def test_a_deployment_that_names_an_empty_service_is_not_one_that_names_none(engine: DuckEngine) -> None:
    matched(engine, [{"deployment_id": "1"}, {"deployment_id": "2", "service": ""}])
    assert engine.rows("SELECT source_id, service FROM matched_attempts") == [("1", "checkout")]
    assert engine.rows("SELECT service, rows FROM unmatched_environments") == [("", 1)]


def test_an_attempt_keeps_its_own_statuses_labels_and_revisions(engine: DuckEngine) -> None:
    statuses = [[{"state": state, "at": NOW}] for state in ("success", "failure")]
    matched(
        engine,
        [
            {"deployment_id": "1", "attempt": 1, "statuses": statuses[0], "labels": ["x"]},
            {"deployment_id": "1", "attempt": 2, "statuses": statuses[1], "labels": []},
            {"deployment_id": "2", "revisions": [{"repository": "acme/lib", "sha": "2" * 40}]},
        ],
    )
    found = engine.rows("SELECT source_id, attempt, statuses, labels, revisions FROM matched_attempts ORDER BY line")
    assert found == [
        ("1", 1, statuses[0], ["x"], None),
        ("1", 2, statuses[1], [], None),
        ("2", 1, None, None, [{"repository": "acme/lib", "sha": "2" * 40}]),
    ]


def test_an_artifact_of_several_names_is_of_the_first_that_knows_its_commit(engine: DuckEngine) -> None:
    matched(
        engine,
        [{"deployment_id": "1", "digest": "d"}, {"deployment_id": "2", "digest": "unknown"}],
        [
            {"digest": "d", "name": "a"},
            {"digest": "d", "name": "c", "repository": "acme/c", "sha": "c"},
            {"digest": "d", "name": "b", "repository": "acme/b", "sha": "b"},
        ],
    )
    assert engine.rows("SELECT digest, name, repository, sha, built_in FROM artifact_of ORDER BY digest") == [
        ("d", "a", "acme/b", "b", "acme/b"),
        ("unknown", None, None, None, None),
    ]
    found = engine.rows("SELECT source_id, artifact_repository, artifact_sha FROM matched_attempts ORDER BY source_id")
    assert found == [("1", "acme/b", "b"), ("2", None, None)]
