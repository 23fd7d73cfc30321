"""A workspace on disk, and the stages' functions replaced by ones that say what a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from analytics.metrics.registry import METRICS
from analytics.periods import Quarter
from analytics.settings import Settings, load_settings

SETTINGS = """
organization: Acme
now: 2026-04-10T00:00:00Z
time_zone: Europe/Berlin
sources:
  - {name: drops, type: files, path: ./feeds}
  - {name: other-drops, type: files, path: ./feeds}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with two sources whose cut-off lies in 2026-Q2."""
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(SETTINGS, encoding="utf-8")
    return load_settings(path)


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    """One ephemeral instance for all tests."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def value_row(metric: str, quarter: Quarter, scope: str, name: str, **fields: Any) -> dict[str, Any]:
    """A row of `metrics`, by default with the quarter's number as its value."""
    definition = next(each for each in METRICS if each.name == metric)
    row = {
        "metric": metric,
        "scope": scope,
        "name": name,
        "quarter": str(quarter),
        "series": definition.series[0],
        "value": quarter.number / 10,
        "unit": definition.unit,
        "n": 10,
        "numerator": None,
        "denominator": None,
        "low": 0.05,
        "high": 0.5,
        "open": 0,
        "reason": None,
        "reading": "no clear change",
        "definition": definition.definition_id,
    }
    return {**row, **fields}


class Stages:
    """The stages as a test wants them: what they return, and what they were asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, str] = {}
        self.quarantined = 0
        self.quarters = [Quarter(2025, 3), Quarter(2025, 4), Quarter(2026, 1), Quarter(2026, 2)]
        # Fields of the rows of a metric in a quarter that differ from the defaults.
        self.changed: dict[tuple[str, str], dict[str, Any]] = {}
        self.nows: list[Any] = []

    def pull(self, settings: Settings, only: Any = None, shard: int | None = None, at_once: int | None = None) -> Any:
        self.calls.append(f"pull {','.join(only)}{f' shard {shard} of {at_once} at once' if shard else ''}")
        return [
            SimpleNamespace(source=name, items=5, quarantined=self.quarantined, error=self.errors.get(name))
            for name in only
        ]

    def collection(self, settings: Settings, con: Any = None) -> list[SimpleNamespace]:
        row = {"entity": "deployments", "items": 100 - self.quarantined, "quarantined": self.quarantined}
        return [SimpleNamespace(source=source.name, last_at=None, **row) for source in settings.sources]

    def build(self, settings: Settings) -> SimpleNamespace:
        self.calls.append("build")
        self.nows.append(settings.now())
        return SimpleNamespace(tables={"deployments": 3, "services": 2}, unmapped=0)

    def measure(self, settings: Settings, quarters: Any = None) -> SimpleNamespace:
        self.calls.append("measure")
        self.nows.append(settings.now())
        return SimpleNamespace(quarters=sorted({*self.quarters, *(quarters or ())}), values=1)

    def metric_values(self, settings: Settings, quarter: Quarter, scope: str | None = None) -> list[dict[str, Any]]:
        rows = []
        for metric in METRICS:
            changed = self.changed.get((metric.name, str(quarter)), {})
            for row_scope, name in (("service", "checkout"), ("service", "a|b"), ("organization", "Acme")):
                rows += [
                    value_row(metric.name, quarter, row_scope, name, **{**changed, "series": series})
                    for series in metric.series
                ]
        return rows

    def make_pack(self, settings: Settings, quarter: Quarter) -> SimpleNamespace:
        self.calls.append(f"pack {quarter}")
        path = settings.packs_dir / str(quarter)
        return SimpleNamespace(path=path, pack_id="abc", unchanged=False, revision=0)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Replaces every stage's function."""
    # A module that is first imported while another is patched would keep the fake for good.
    for module in (
        "analytics.delivery.build",
        "analytics.metrics.measure",
        "analytics.metrics.quality",
        "reports.pack",
    ):
        import_module(module)
    fake = Stages()
    monkeypatch.setattr("analytics.landing.pull.pull", fake.pull)
    monkeypatch.setattr("analytics.landing.coverage.collection", fake.collection)
    monkeypatch.setattr("analytics.delivery.build.build", fake.build)
    monkeypatch.setattr("analytics.metrics.measure.measure", fake.measure)
    monkeypatch.setattr("analytics.metrics.values.metric_values", fake.metric_values)
    monkeypatch.setattr("analytics.metrics.quality.metric_values", fake.metric_values)
    monkeypatch.setattr("reports.pack.make_pack", fake.make_pack)
    return fake
