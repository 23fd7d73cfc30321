"""Reads a written sample the plain way, so that tests need none of the stages that they are there to feed."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from analytics.sample.writing import SampleSummary
from analytics.sources.entities import ENTITIES, Commit, Deployment, Incident, Record


def fingerprint(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class World:
    """The records of a sample: per entity the newest version of each key, and the lines that are no record."""

    def __init__(self, summary: SampleSummary) -> None:
        self.summary = summary
        self.planted = summary.planted
        self.feeds = summary.target / "feeds"
        self.refused: list[str] = []
        self.lines: dict[str, int] = {}
        self._records: dict[str, list[Any]] = {}
        for name, entity in ENTITIES.items():
            newest: dict[tuple[Any, ...], Record] = {}
            count = 0
            for where, payload in self._payloads(name):
                count += 1
                try:
                    record = entity.decoder.decode(payload)
                except msgspec.MsgspecError:
                    self.refused.append(where)
                    continue
                key = tuple(getattr(record, part) for part in entity.key)
                known = newest.get(key)
                if known is None or (record.updated_at and known.updated_at and record.updated_at > known.updated_at):
                    newest[key] = record
            self.lines[name] = count
            self._records[name] = list(newest.values())

    def records(self, entity: str) -> list[Any]:
        return self._records[entity]

    def _payloads(self, entity: str) -> Iterator[tuple[str, bytes]]:
        files = [path for path in self.feeds.rglob("*") if path.is_file()]
        for path in sorted(files):
            relative = str(path.relative_to(self.feeds))
            if relative.split(".")[0].split("/")[0] != entity:
                continue
            for number, payload in enumerate(_rows(path), start=1):
                yield f"{relative}:{number}", payload

    @cached_property
    def commits(self) -> dict[str, Commit]:
        return {commit.sha: commit for commit in self.records("commits")}

    def ancestors(self, sha: str) -> set[str]:
        """Every commit that a commit reaches, itself included."""
        reached: set[str] = set()
        waiting = [sha]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting += self.commits[one].parents
        return reached

    def service_of(self, deployment: Deployment) -> str:
        return deployment.service or deployment.repository.split("/")[1]

    @cached_property
    def attempts(self) -> dict[str, list[Deployment]]:
        """Production rows by deployment key."""
        found: dict[str, list[Deployment]] = defaultdict(list)
        for row in self.records("deployments"):
            if row.environment == "production":
                found[str(row.run_id or row.deployment_id)].append(row)
        return dict(found)

    @cached_property
    def finishes(self) -> dict[str, datetime]:
        """Key to the first success, of deployments that have one with a time."""
        found: dict[str, datetime] = {}
        for key, rows in self.attempts.items():
            times = [at for row in rows if (at := success_at(row)) is not None]
            if times:
                found[key] = min(times)
        return found

    @cached_property
    def chains(self) -> dict[str, list[str]]:
        """Keys of successes per service, in the order of their finish."""
        found: dict[str, list[str]] = defaultdict(list)
        for key in sorted(self.finishes, key=lambda key: (self.finishes[key], key)):
            found[self.service_of(self.attempts[key][0])].append(key)
        return dict(found)

    def before(self, key: str) -> list[str]:
        """The keys that succeeded before one, of the same service, oldest first."""
        chain = self.chains[self.service_of(self.attempts[key][0])]
        return chain[: chain.index(key)]

    def deployed_sha(self, key: str) -> str | None:
        """The commit that a deployment brought; by its image where the row is of another repository."""
        row = self.attempts[key][0]
        if row.repository.endswith("-gitops"):
            return {artifact.digest: artifact.sha for artifact in self.records("artifacts")}.get(row.digest)
        return row.sha

    def incidents_of(self, name: str) -> list[Incident]:
        wanted = set(self.planted[name])
        return [incident for incident in self.records("incidents") if incident.incident_id in wanted]


def success_at(row: Deployment) -> datetime | None:
    if row.statuses is not None:
        return next((status.at for status in row.statuses if status.state == "success"), None)
    return row.finished_at if row.status == "success" else None


def _rows(path: Path) -> Iterator[bytes]:
    if path.suffix == ".csv":
        for cells in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            values: dict[str, Any] = {name: value for name, value in cells.items() if value}
            for number in ("score", "max_score"):
                values[number] = float(values[number])
            yield json.dumps(values).encode()
    elif path.suffix == ".parquet":
        for row in pl.read_parquet(path).iter_rows(named=True):
            yield msgspec.json.encode(row)
    else:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        yield from data.splitlines()
