"""A source of many repositories without a network: what each holds grows, and is told behind a cursor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from analytics.landing.coverage import collection, completeness, quarantined
from analytics.landing.pull import PullResult, pull
from analytics.landing.winners import create_winners, open_landing
from analytics.secrets import Secret
from analytics.settings import GitHubSource, GitSource, Settings, Source
from analytics.sources.port import Capabilities, Collected, Cursor, Page, RawRecord, Refusal
from tests.unit.sources.feed_world import deployment

NOW = "2026-10-05T06:00:00Z"


class Host:
    """Repositories by id, each a list of records of which some are bad; pages of two."""

    def __init__(self, *ids: str) -> None:
        self.records: dict[str, list[bytes]] = {one: [] for one in ids}
        self.names = {one: f"acme/repository-{one}" for one in ids}
        self.silent: set[str] = set()

    def deploy(self, one: str, number: int, updated_day: int | None = None, **more: Any) -> None:
        record = deployment(f"{one}-{number}", repository=self.names[one], **more)
        if updated_day is not None:
            record["updated_at"] = f"2026-09-{updated_day:02}T00:00:00Z"
        self.records[one].append(json.dumps(record, separators=(",", ":")).encode())

    def say_nonsense(self, one: str) -> None:
        self.records[one].append(b'{"deployment_id": null}')


class HostProvider:
    """The host behind the port; every page is observed, as those of an API are."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = "hub"

    def capabilities(self) -> Capabilities:
        return Capabilities(frozenset({"deployments"}))

    def discover(self) -> Collected:
        return Collected({"deployments": sorted(self.host.records)}, dict(self.host.names))

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        records = self.host.records[request_key]
        start = int((cursor or {}).get("read", 0))
        while start < len(records):
            part = [RawRecord(line, payload) for line, payload in enumerate(records[start : start + 2], start=1)]
            start += len(part)
            yield Page(
                entity, request_key, 1, part, (), {"read": start}, total_count=len(records), observed=True,
            )  # fmt: skip
        if request_key in self.host.silent:
            yield Page(entity, request_key, 1, (), (Refusal(0, "not_available", "will not say more"),), None)


class Sharded:
    """A workspace whose one source is the host, cut as each pull wants it."""

    def __init__(self, root: Path, host: Host, monkeypatch: pytest.MonkeyPatch, *, by_name: bool = False) -> None:
        self.host = host
        self.by_name = by_name
        root.mkdir(parents=True, exist_ok=True)
        catalog = root / "catalog.yaml"
        catalog.write_text("services: []\n", encoding="utf-8")
        self._given = {
            "organization": "Acme",
            "storage": root / "data",
            "now": NOW,
            "catalog": catalog,
            "engine": {"threads": 1},
        }
        self.shards = 1
        monkeypatch.setattr("analytics.landing.pull.provider_of", lambda *_: HostProvider(host))

    @property
    def settings(self) -> Settings:
        source: Source = GitHubSource(
            type="github", name="hub", organization="acme", token=Secret("${NO_TOKEN}"), shards=self.shards
        )
        if self.by_name:
            source = GitSource(
                type="git", name="hub", repositories=dict.fromkeys(self.host.records, "."), shards=self.shards
            )
        return Settings.model_validate({**self._given, "sources": [source]})

    def pull(self, shards: int | None = None, shard: int | None = None) -> PullResult:
        self.shards = shards or self.shards
        (result,) = pull(self.settings, only=["hub"], shard=shard)
        return result

    def files(self) -> list[str]:
        return sorted(path.name for path in self.settings.landing_dir.iterdir())

    def told(self) -> dict[str, Any]:
        """All that readers are told of the source, but for how the records are laid out."""
        settings = self.settings
        with open_landing(settings) as con:
            winners = con.execute(
                f"SELECT origin, key, payload FROM {create_winners(con, 'deployments')} ORDER BY key"
            ).fetchall()
            places = con.execute("SELECT count(DISTINCT place), count(*) FROM landed_items").fetchall()
            assert places[0][0] == places[0][1]
            return {
                "winners": winners,
                "collection": [asdict(row) for row in collection(settings, con)],
                "windows": con.execute("SELECT * FROM windows ORDER BY ALL").fetchall(),
                "completeness": [asdict(row) for row in completeness(settings, con)],
                # Its line says behind which page of the file it came.
                "quarantine": sorted(
                    (row.entity, row.origin, row.reason, row.sha256 or "") for row in quarantined(settings, con)
                ),
            }
