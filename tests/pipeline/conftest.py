"""A small world to measure: commits, deployments and incidents by name, times in hours after a base instant.

A test says what happened; the world writes it as the files feed of contract.md section 4, runs the public commands
and hands back what `metrics` and `explain` print. `World.command` is the one place where commands are run.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

BASE = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday in 2026-Q1, which has 90 days
SHOP = "acme/shop"
Moment = float | str | datetime


def stamp(moment: Moment) -> str:
    """Hours after the base instant as RFC 3339 in UTC; text stays as it is."""
    if isinstance(moment, str):
        return moment
    at = moment if isinstance(moment, datetime) else BASE + timedelta(hours=moment)
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def sha_of(name: str) -> str:
    """The 40 hexadecimal digits that stand for a commit's name."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def digest_of(name: str) -> str:
    """The digest that stands for an artifact's name."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def in_process(settings: Path, words: Sequence[str]) -> str:
    """Run a command inside this process; its stdout."""
    from click.testing import CliRunner

    from quarterdeck.cli import main

    result = CliRunner().invoke(main, [*words, "--settings", str(settings)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, f"quarterdeck {' '.join(words)}: exit {result.exit_code}\n{result.output}"
    return result.stdout


def in_subprocess(settings: Path, words: Sequence[str]) -> str:
    """Run a command the way a shell does; its stdout."""
    code = "import sys; from quarterdeck.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", code, *words, "--settings", str(settings)],
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert result.returncode == 0, f"quarterdeck {' '.join(words)}: exit {result.returncode}\n{result.stderr}"
    return result.stdout


def series_of(metric: str) -> str | None:
    """The headline series: only change lead time comes in two."""
    return "human" if metric.startswith("change_lead_time") else None


class Metrics:
    """The rows that `metrics` printed, by (metric, scope, name, series)."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.by_key = {(r["metric"], r["scope"], r["name"], r["series"]): r for r in rows}
        assert len(self.by_key) == len(rows), "a metric stands twice for one scope, name and series"

    def __getitem__(self, key: tuple[str, str, str, str | None]) -> SimpleNamespace:
        return SimpleNamespace(**self.by_key[key])

    def of(self, metric: str, name: str = "checkout", scope: str = "service", **kw: Any) -> SimpleNamespace:
        """One metric of a service (or another scope), in its headline series unless told."""
        return self[metric, scope, name, kw.get("series", series_of(metric))]

    def expect(
        self, metric: str, name: str = "checkout", *, scope: str = "service", series: str | None = "", **fields: Any
    ) -> None:
        """Assert the given fields of one metric; numbers may differ in the last digits only."""
        row = self.by_key[metric, scope, name, series_of(metric) if series == "" else series]
        wrong = {
            field: (row[field], wanted)
            for field, wanted in fields.items()
            if not (
                row[field] is None
                if wanted is None
                else row[field] is not None
                and row[field] == (wanted if isinstance(wanted, str) else pytest.approx(wanted, rel=1e-9, abs=1e-9))
            )
        }
        assert not wrong, f"{metric} of {scope} {name}: (got, wanted) {wrong} in {row}"

    def undefined(self, metric: str, reason: str, name: str = "checkout", **fields: Any) -> None:
        """Assert that a metric has no value, for this reason."""
        self.expect(metric, name, value=None, reason=reason, **fields)

    def ratio(self, metric: str, numerator: int, denominator: int, name: str = "checkout", **fields: Any) -> None:
        """Assert a ratio with both its parts; its n is the denominator (metrics.md section 8)."""
        value = numerator / denominator
        parts = {"value": value, "numerator": numerator, "denominator": denominator, "n": denominator, "reason": None}
        self.expect(metric, name, **parts, **fields)

    def deployments(self, count: int, days: int = 90, name: str = "checkout", **fields: Any) -> None:
        """Assert deployment frequency by its parts."""
        parts = {"value": count / days, "numerator": count, "denominator": days, "n": count, "reason": None}
        self.expect("deployment_frequency", name, **parts, **fields)


class World:
    """What happened, the settings and the catalog; writes them as files and runs the commands on them."""

    base = BASE
    sha = staticmethod(sha_of)
    digest = staticmethod(digest_of)
    stamp = staticmethod(stamp)

    def __init__(self, path: Path, run: Callable[[Path, Sequence[str]], str] = in_process) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.run = run
        self.settings: dict[str, Any] = {
            "organization": "Acme",
            # What is printed is looked at where packs are; a browser for each pack would take minutes.
            "reports": {"printed": []},
            "time_zone": "UTC",
            "storage": "./data",
            "catalog": "catalog.yaml",
            "now": "2026-04-10T00:00:00Z",
            "sources": [{"name": "drops", "type": "files", "path": "./feeds"}],
            "engine": {"threads": 1},  # a handful of rows is read faster by one
        }
        self.catalog: list[dict[str, Any]] = []
        self.records: dict[str, list[dict[str, Any]]] = {
            entity: [] for entity in ("commits", "pull_requests", "deployments", "incidents")
        }

    # What is declared

    def service(self, name: str = "checkout", *, repository: str = SHOP, **entry: Any) -> None:
        """Add a catalog entry."""
        self.catalog.append({"name": name, "team": "payments", "repository": repository, **entry})

    def set(self, **settings: Any) -> None:
        """Override settings."""
        self.settings.update(settings)

    def at(self, now: Moment) -> None:
        """Set the cut-off."""
        self.settings["now"] = stamp(now)

    def collected(self, *entities: str) -> None:
        """Offer a file for these entities even when it is empty."""
        for entity in entities:
            self.records.setdefault(entity, [])

    def not_collected(self, *entities: str) -> None:
        """Offer no file for these entities."""
        for entity in entities:
            del self.records[entity]

    # What happened

    def add(self, entity: str, **fields: Any) -> dict[str, Any]:
        """Add one record as it is; fields that are None are left out."""
        record = {key: value for key, value in fields.items() if value is not None}
        self.records.setdefault(entity, []).append(record)
        return record

    def commit(self, name: str, authored: Moment, *parents: str, repository: str = SHOP, **fields: Any) -> str:
        """Add a commit by its name and its parents' names; committed when authored unless told."""
        committed = fields.pop("committed_at", authored)
        self.add(
            "commits",
            **{
                "repository": repository,
                "sha": sha_of(name),
                "parents": [sha_of(parent) for parent in parents],
                "author": "ada",
                "authored_at": stamp(authored),
                "committed_at": stamp(committed),
                "message": f"Work on {name}",
                **fields,
            },
        )
        return sha_of(name)

    def history(self, *commits: tuple[str, Moment], onto: str | None = None, **fields: Any) -> None:
        """Add a line of commits, each the parent of the next."""
        parent = onto
        for name, authored in commits:
            self.commit(name, authored, *([parent] if parent else []), **fields)
            parent = name

    def pull_request(self, number: int, *, created: Moment, merged: Moment | None = None, **fields: Any) -> None:
        """Add a pull request; `merge` names its merge commit and `commits` its own commits."""
        merge = fields.pop("merge", None)
        commits = fields.pop("commits", None)
        times = {key: stamp(fields.pop(key)) for key in ("first_review_at", "approved_at") if key in fields}
        self.add(
            "pull_requests",
            **{
                "repository": SHOP,
                "number": number,
                "title": f"Change {number}",
                "author": "ada",
                "created_at": stamp(created),
                "merged_at": None if merged is None else stamp(merged),
                "merge_commit_sha": sha_of(merge) if merge else None,
                "commits": [sha_of(name) for name in commits] if commits is not None else None,
                **times,
                **fields,
            },
        )

    def deploy(self, name: str, commit: str, finished: Moment | None, **fields: Any) -> None:
        """Add a deployment attempt of a commit; it started a quarter of an hour before it finished unless told."""
        if finished is None:
            started: Any = fields.pop("started", None)
        else:
            early = finished - 0.25 if isinstance(finished, int | float) else finished
            started = fields.pop("started", early)
        created = fields.pop("created", started)
        digest = fields.pop("digest", None)
        statuses = fields.pop("statuses", None)
        self.add(
            "deployments",
            **{
                "deployment_id": name,
                "repository": SHOP,
                "environment": "production",
                "sha": sha_of(commit),
                "status": "success" if statuses is None else None,
                "statuses": [{"state": state, "at": stamp(at)} for state, at in statuses] if statuses else None,
                "digest": digest_of(digest) if digest else None,
                "created_at": stamp(created),
                "started_at": None if started is None else stamp(started),
                "finished_at": None if finished is None else stamp(finished),
                **fields,
            },
        )

    def seed(self, commit: str = "c0", **fields: Any) -> None:
        """A first commit and its deployment in the quarter before, so that this quarter's numbers hold no seed."""
        repository = fields.get("repository", SHOP)
        self.commit(commit, -300, repository=repository)
        self.deploy(f"seed-{fields.get('service', 'checkout')}", commit, -299, **fields)

    def incident(self, name: str, impact: Moment, **fields: Any) -> None:
        """Add an incident; opened at its impact unless told, and open unless `mitigated` or `resolved` is given."""
        opened = fields.pop("opened", impact)
        ends = {f"{key}_at": stamp(fields.pop(key)) for key in ("mitigated", "resolved") if key in fields}
        self.add(
            "incidents",
            **{
                "incident_id": name,
                "service": "checkout",
                "title": f"Incident {name}",
                "opened_at": stamp(opened),
                "impact_started_at": stamp(impact),
                **ends,
                **fields,
            },
        )

    def pipeline_run(self, run_id: str, conclusion: str | None, created: Moment, **fields: Any) -> None:
        """Add a run attempt; it is still running without a conclusion."""
        commit = fields.pop("commit", "c0")
        self.add(
            "pipeline_runs",
            **{
                "repository": SHOP,
                "run_id": run_id,
                "attempt": 1,
                "workflow": "ci.yml",
                "event": "push",
                "head_sha": sha_of(commit),
                "head_branch": "main",
                "status": "completed" if conclusion else "in_progress",
                "conclusion": conclusion,
                "created_at": stamp(created),
                **fields,
            },
        )

    def job(
        self, run_id: str, job_id: str, times: tuple[Moment | None, Moment | None, Moment | None], **fields: Any
    ) -> None:
        """Add a job of a run attempt by its times created, started and completed."""
        created, started, completed = (None if moment is None else stamp(moment) for moment in times)
        self.add(
            "pipeline_jobs",
            **{
                "repository": SHOP,
                "run_id": run_id,
                "attempt": 1,
                "job_id": job_id,
                "name": "build",
                "status": "completed",
                "conclusion": "success",
                "created_at": created,
                "started_at": started,
                "completed_at": completed,
                **fields,
            },
        )

    # What comes out

    @property
    def settings_path(self) -> Path:
        """The settings file."""
        return self.path / "quarterdeck.yaml"

    @property
    def feeds(self) -> Path:
        """The folder of feed files."""
        return self.path / "feeds"

    def declare(self) -> None:
        """Write settings and catalog. JSON is YAML, and never holds an alias."""
        if not self.catalog:
            self.service()
        self.settings_path.write_text(json.dumps(self.settings, indent=1), encoding="utf-8")
        (self.path / "catalog.yaml").write_text(json.dumps({"services": self.catalog}, indent=1), encoding="utf-8")

    def write(self) -> None:
        """Write settings, catalog and one file per entity."""
        self.declare()
        self.feeds.mkdir(exist_ok=True)
        for entity, records in self.records.items():
            self.write_feed(f"{entity}.jsonl", records)

    def write_feed(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Write one feed file."""
        path = self.feeds / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    def command(self, *words: str) -> str:
        """Run one command on this world; its stdout."""
        return self.run(self.settings_path, words)

    def measure(self, quarter: str = "2026-Q1") -> Metrics:
        """Write everything, pull it, and measure a quarter."""
        self.write()
        self.command("pull")
        return self.measure_landed(quarter)

    def measure_landed(self, quarter: str = "2026-Q1") -> Metrics:
        """Build and measure from what is landed already."""
        self.command("build")
        self.command("measure", "--quarter", quarter)
        return self.metrics(quarter)

    def metrics(self, quarter: str = "2026-Q1") -> Metrics:
        """What `metrics` prints for a measured quarter."""
        return Metrics(json.loads(self.command("metrics", "--quarter", quarter, "--format", "json")))

    def explain(self, metric: str, service: str | None = "checkout", quarter: str = "2026-Q1") -> dict[str, Any]:
        """What `explain` prints for a measured quarter; the organisation's without a service."""
        of = ["--service", service] if service else []
        answer: dict[str, Any] = json.loads(
            self.command("explain", metric, "--quarter", quarter, *of, "--format", "json")
        )
        return answer

    def kinds(self, service: str = "checkout", quarter: str = "2026-Q1") -> dict[str, str]:
        """Deployment name to kind, as the drill-down of deployment frequency shows them."""
        return {
            row["deployment_key"]: row["kind"] for row in self.explain("deployment_frequency", service, quarter)["rows"]
        }

    def failed(self, service: str = "checkout", quarter: str = "2026-Q1") -> dict[str, str]:
        """Failed deployment to the method that found it, as the drill-down of the fail rate shows them."""
        rows = self.explain("change_fail_rate", service, quarter)["rows"]
        return {row["deployment_key"]: row["failure_method"] for row in rows if row["numerator"]}

    def facts(self, table: str, **where: Any) -> list[dict[str, Any]]:
        """Rows of a table that people open in the published database, where columns have these values."""
        with duckdb.connect(self.path / "data" / "analytics.duckdb", read_only=True) as con:
            result = con.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in result.description]
            rows = [dict(zip(columns, row, strict=True)) for row in result.fetchall()]
        return [row for row in rows if all(row[column] == value for column, value in where.items())]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty world whose commands run in this process."""
    return World(tmp_path / "world")


@pytest.fixture
def shell_world(tmp_path: Path) -> World:
    """An empty world whose commands run as a shell would run them."""
    return World(tmp_path / "world", in_subprocess)


@pytest.fixture(scope="session")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], World]:
    """Makes worlds, as many as a property needs."""
    folder = tmp_path_factory.mktemp("worlds")
    numbers: Iterator[int] = iter(range(1_000_000))

    def make() -> World:
        return World(folder / str(next(numbers)))

    return make
