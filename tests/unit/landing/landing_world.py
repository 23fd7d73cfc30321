"""A workspace in a test: feed folders, settings over them, and what lands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analytics.landing.coverage import Collected, Quarantined, collection, quarantined
from analytics.landing.pull import PullResult, pull
from analytics.landing.store import LandingStore
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import FilesSource, Settings
from analytics.sources.port import Page, RawRecord, Refusal
from tests.unit.sources.feed_world import Feeds, deployment, jsonl

__all__ = ["Workspace", "deployment", "jsonl", "page"]

NOW = "2026-10-05T06:00:00Z"


class Workspace:
    """A storage folder and one feed folder per source."""

    def __init__(self, root: Path, sources: Sequence[str] = ("drops",), **more: Any) -> None:
        self.feeds = {name: Feeds(root / name) for name in sources}
        self.drops = next(iter(self.feeds.values()))
        self.settings = Settings.model_validate(
            {
                "organization": "Acme",
                "storage": root / "data",
                "now": NOW,
                "sources": [FilesSource(type="files", name=name, path=root / name) for name in sources],
            }
            | more
        )

    def pull(self) -> list[PullResult]:
        return pull(self.settings)

    def winners(self, entity: str = "deployments") -> list[dict[str, Any]]:
        """The payloads that win, in the order of their keys."""
        with open_landing(self.settings) as con:
            view = create_winners(con, entity)
            rows = con.execute(f"SELECT payload FROM {view} ORDER BY key").fetchall()
        return [json.loads(payload) for (payload,) in rows]

    def items(self, columns: str = "origin, generation, line") -> list[tuple[Any, ...]]:
        """Landed items in the order of their places."""
        with open_landing(self.settings) as con:
            return con.execute(
                f"SELECT {columns} FROM landed_items ORDER BY source, origin, generation, line"
            ).fetchall()

    def refused(self) -> list[tuple[str, int, str]]:
        return [(row.origin, row.line, row.reason) for row in self.quarantine()]

    def quarantine(self) -> list[Quarantined]:
        return quarantined(self.settings)

    def collection(self) -> dict[str, Collected]:
        return {row.entity: row for row in collection(self.settings)}

    def store(self) -> LandingStore:
        return LandingStore.open(self.settings, self.settings.sources[0].name, deadline_seconds=0)

    def temporary_files(self) -> list[Path]:
        return [path for path in self.settings.temp_dir.rglob("*") if path.is_file()]


def page(
    *records: Mapping[str, Any] | bytes,
    entity: str = "deployments",
    key: str = "deployments.jsonl",
    generation: int = 1,
    first_line: int = 1,
    refusals: Sequence[Refusal] = (),
    cursor: Mapping[str, Any] | None = None,
    **more: Any,
) -> Page:
    """A page of records on consecutive lines."""
    payloads = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    raw = [RawRecord(line, payload) for line, payload in enumerate(payloads, start=first_line)]
    return Page(entity, key, generation, raw, list(refusals), cursor or {"generation": generation}, **more)
