"""The fake Prometheus on 127.0.0.1: series that are functions of time, a clock, and the limit of points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fakes.serving import FakeApi, Query

TOKEN = "canaryPrometheusToken01"
MOST_POINTS = 11_000
# A series' value at a time; None where it has no sample.
Value = Callable[[int], float | None]


@dataclass
class World:
    now: int = int(datetime(2026, 1, 5, 9, tzinfo=UTC).timestamp())
    # By query: labels and value of each series.
    series: dict[str, list[tuple[dict[str, str], Value]]] = field(default_factory=dict)

    def add(self, query: str, labels: dict[str, str], value: Value) -> None:
        self.series.setdefault(query, []).append((labels, value))

    def advance(self, seconds: int) -> None:
        self.now += seconds


class FakePrometheus(FakeApi):
    def __init__(self, world: World, welcome: str | None = None) -> None:
        super().__init__()
        self.world = world
        self.welcome = welcome
        # More samples than these are not given at once.
        self.most_samples = 1_000_000

    def is_welcome(self, authorization: str | None) -> bool:
        return authorization == self.welcome

    def answer(self, path: str, query: Query) -> tuple[int, Any]:
        form = {name: values[-1] for name, values in query.items()}
        if path == "/api/v1/query":
            assert form.keys() == {"query"}
            if form["query"] == "time()":
                return 200, _success("scalar", [self.world.now, str(self.world.now)])
            return 200, _success(
                "vector", [{"metric": labels} for labels, _ in self.world.series.get(form["query"], [])]
            )
        if path != "/api/v1/query_range":
            return 404, {}
        assert form.keys() == {"query", "start", "end", "step"}
        if form["query"].count("(") != form["query"].count(")"):
            return 400, _error("bad_data", "parse error: unclosed left parenthesis")
        start, end, step = (int(form[name]) for name in ("start", "end", "step"))
        if (end - start) / step > MOST_POINTS:
            return 400, _error("bad_data", "exceeded maximum resolution of 11,000 points per timeseries.")
        found = []
        for labels, value in self.world.series.get(form["query"], []):
            times = [at for at in range(start, end + 1, step) if at <= self.world.now]
            values = [[at, _text(number)] for at in times if (number := value(at)) is not None]
            if values:
                found.append({"metric": labels, "values": values})
        if sum(len(one["values"]) for one in found) > self.most_samples:
            return 422, _error("execution", "query processing would load too many samples into memory")
        return 200, _success("matrix", found)


def _text(number: float) -> str:
    return "NaN" if math.isnan(number) else repr(number)


def _success(kind: str, result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def _error(kind: str, words: str) -> dict[str, Any]:
    return {"status": "error", "errorType": kind, "error": words}
