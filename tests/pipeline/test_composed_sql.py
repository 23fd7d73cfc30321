"""What Python puts together for an engine is in the portable subset too, not the files alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from analytics.engines.duck import DuckEngine
from tests.portable_sql import problems

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

# Where a method of the port takes its query.
ASKED = {"rows": 0, "arrays": 0, "create_view": 1, "create_table": 1, "write_lake": 1}
# Only Python reads these rows, by their places, or a view of our own with all that it has.
MEANT = ("without a name", "SELECT *")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, None]:
    """Every query that the engine is asked from now on; what it asks itself is in its own words."""
    queries: dict[str, None] = {}
    own: list[str] = []

    def listening(name: str, place: int) -> Callable[..., Any]:
        method = getattr(DuckEngine, name)

        def ask(self: DuckEngine, *arguments: Any) -> Any:
            if not own:
                queries[arguments[place]] = None
            return method(self, *arguments)

        return ask

    unnested = DuckEngine.create_unnested

    def create_unnested(self: DuckEngine, *arguments: Any) -> None:
        own.append("create_unnested")
        unnested(self, *arguments)
        own.pop()

    for name, place in ASKED.items():
        monkeypatch.setattr(DuckEngine, name, listening(name, place))
    monkeypatch.setattr(DuckEngine, "create_unnested", create_unnested)
    return queries


def test_what_a_run_asks_of_its_engine_is_portable(world: World, asked: dict[str, None]) -> None:
    world.service(deploys={"environments": ["production"]})
    for n in range(12):
        world.commit(f"c{n}", n, *([f"c{n - 1}"] if n else []))
        world.deploy(f"d{n}", f"c{n}", 24 * n + 3)
        world.pipeline_run(f"r{n}", "success", 24 * n)
        world.job(f"r{n}", f"j{n}", (24 * n, 24 * n + 1, 24 * n + 2))
    world.incident("i1", 30, deployment_id="d1", resolved_at=world.stamp(40))
    world.measure()
    told = {query: found for query in asked if (found := [p for p in problems(query) if not p.what.endswith(MEANT)])}
    assert not told, next(iter(told.items()))
    # It listened: to the build, to what a metric counts and to how it is reduced.
    assert [query for query in asked if "unmatched_environments" in query]
    assert [query for query in asked if "FROM dated" in query]
