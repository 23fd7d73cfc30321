"""A feed folder in a test: records, files, and reading one file the way a pull does."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analytics.sources.files import FilesProvider
from analytics.sources.port import Cursor, Page

LONG_AGO_NS = 1_600_000_000_000_000_000


def deployment(identity: object, **more: Any) -> dict[str, Any]:
    """A valid deployment record."""
    return {
        "deployment_id": identity,
        "repository": "acme/shop",
        "environment": "production",
        "sha": "abc",
        "created_at": "2026-01-01T00:00:00Z",
    } | more


def jsonl(*records: Mapping[str, Any]) -> bytes:
    """Records as lines."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@dataclass
class Reading:
    """What the pages of one reading held, and the cursor behind them."""

    pages: list[Page]
    cursor: Cursor | None
    lines: list[int] = field(init=False)
    refusals: list[tuple[int, str]] = field(init=False)

    def __post_init__(self) -> None:
        records = [record for page in self.pages for record in page.records]
        self.lines = [record.line for record in records]
        self.refusals = [(refusal.line, refusal.reason) for page in self.pages for refusal in page.refusals]

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(record.payload) for page in self.pages for record in page.records]

    @property
    def generation(self) -> int:
        return self.pages[0].generation


class Feeds:
    """A feed folder and the provider on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def append(self, name: str, data: bytes) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def age(self, name: str) -> None:
        """Make a file look as if it had not been touched for years."""
        os.utime(self.folder / name, ns=(LONG_AGO_NS, LONG_AGO_NS))

    def requests(self) -> dict[str, list[str]]:
        return {entity: list(keys) for entity, keys in FilesProvider("drops", self.folder).discover().requests.items()}

    def read(self, entity: str, name: str, cursor: Cursor | None = None) -> Reading:
        provider = FilesProvider("drops", self.folder)
        pages = list(provider.changes(entity, name, cursor))
        return Reading(pages, pages[-1].cursor if pages else cursor)
