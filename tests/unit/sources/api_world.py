"""A workspace with one source that asks an API, and what it landed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analytics.doctor import Finding, examine
from analytics.errors import SourceError
from analytics.landing.pull import PullResult, pull
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import Settings, load_settings
from analytics.sources.port import Provider

CATALOG = {"services": [{"name": "shop", "repository": "acme/shop"}, {"name": "till", "repository": "acme/till"}]}


def workspace_of(folder: Path, source: dict[str, Any]) -> Settings:
    (folder / "catalog.yaml").write_text(json.dumps(CATALOG), "utf-8")
    path = folder / "quarterdeck.yaml"
    path.write_text(json.dumps({"organization": "Acme", "sources": [{"name": "api", **source}]}), "utf-8")
    return load_settings(path)


def pulled(workspace: Settings) -> PullResult:
    (result,) = pull(workspace, only=["api"])
    return result


def landed(workspace: Settings, entity: str) -> list[dict[str, Any]]:
    with open_landing(workspace) as con:
        rows = con.execute(f"SELECT payload FROM {create_winners(con, entity)}").fetchall()
    return sorted((json.loads(payload) for (payload,) in rows), key=lambda one: json.dumps(one, sort_keys=True))


def one(workspace: Settings, entity: str) -> dict[str, Any]:
    (record,) = landed(workspace, entity)
    return record


def examined(folder: Path) -> Finding:
    (finding,) = [found for found in examine(folder / "quarterdeck.yaml") if found.subject == "source api"]
    return finding


def holds(workspace: Settings, secret: str) -> bool:
    """Whether any file of the workspace's storage holds a text, packed columns read back."""
    files = [file for file in workspace.storage.rglob("*") if file.is_file()]
    if any(secret.encode() in file.read_bytes() for file in files):
        return True
    with open_landing(workspace) as con:
        (found,) = con.execute("SELECT count(*) FROM landed_items WHERE contains(payload, ?)", [secret]).fetchall()[0]
    return bool(found)


class InMemory:
    """A landing of the simplest kind, for properties over many pulls: the last record of a key, and the last cursor."""

    def __init__(self, provider: Provider, entity: str, key_field: str) -> None:
        self.provider = provider
        self.entity = entity
        self.key_field = key_field
        self.records: dict[Any, dict[str, Any]] = {}
        self.cursors: dict[str, Any] = {}

    def pull(self) -> bool:
        """Land page by page; a source that falls silent ends it, and what was landed stays. Says whether it ended."""
        try:
            for key in self.provider.discover().requests[self.entity]:
                for page in self.provider.changes(self.entity, key, self.cursors.get(key)):
                    for raw in page.records:
                        record = json.loads(raw.payload)
                        self.records[record[self.key_field]] = record
                    if page.cursor is not None:
                        self.cursors[key] = json.loads(json.dumps(page.cursor))
        except SourceError:
            return False
        return True
