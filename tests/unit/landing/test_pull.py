"""The pull stage: sources side by side, resuming, failing alone, and what is reported."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics.catalog import Catalog, DeploymentSelector, RollbackReadiness, Service
from analytics.errors import LandingError, SourceError, UsageError
from analytics.landing.pull import PullResult, provider_of, pull
from analytics.landing.store import LandingStore
from analytics.settings import GitSource, Settings
from analytics.sources import feed_pages
from analytics.sources.files import FilesProvider
from analytics.sources.port import Cursor, Page
from tests.unit.landing.landing_world import Workspace, deployment, jsonl

NAME = "deployments.jsonl"


def test_new_records_land_and_are_counted(workspace: Workspace) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1), deployment(None), deployment(2)))
    assert workspace.pull() == [PullResult("drops", "files", items=2, quarantined=1, requests=1)]
    assert workspace.items() == [(NAME, 1, 1), (NAME, 1, 3)]
    assert workspace.refused() == [(NAME, 2, "missing_id")]


def test_pulling_again_lands_nothing(workspace: Workspace) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1), deployment(None)))
    workspace.drops.write("deploymnts.csv", b"")
    workspace.pull()
    (again,) = workspace.pull()
    assert (again.items, again.quarantined, again.ok) == (0, 0, True)
    assert len(workspace.items()) == 1
    assert len(workspace.refused()) == 2


def test_every_format_lands_the_same(workspace: Workspace) -> None:
    import gzip

    import duckdb

    record = deployment(
        "1", attempt=2, labels=["a", "b"], statuses=[{"state": "success", "at": "2026-01-01T00:00:00Z"}]
    )
    text = jsonl(record)
    workspace.drops.write("deployments/a.jsonl", text)
    workspace.drops.write("deployments/b.jsonl.gz", gzip.compress(text))
    header = ",".join(record)
    cells = ",".join(
        '"'
        + (str(value) if isinstance(value, str | int) else jsonl({"x": value})[6:-2].decode()).replace('"', '""')
        + '"'
        for value in record.values()
    )
    workspace.drops.write("deployments/c.csv", f"{header}\n{cells}\n".encode())
    types = {"attempt": "BIGINT", "labels": "VARCHAR[]", "statuses": 'STRUCT(state VARCHAR, "at" VARCHAR)[]'}
    columns = {name: types.get(name, "VARCHAR") for name in record}
    folder = workspace.drops.folder / "deployments"
    with duckdb.connect() as con:
        rows = f"read_json('{folder}/a.jsonl', columns = {columns})"
        zoned = "* REPLACE (created_at::TIMESTAMPTZ AS created_at)"
        con.execute(f"COPY (SELECT {zoned} FROM {rows}) TO '{folder}/d.parquet'")
    (result,) = workspace.pull()
    assert (result.items, result.quarantined) == (4, 0)
    assert {row[0] for row in workspace.items("key")} == {'["1","2"]'}
    assert len({row[0] for row in workspace.items("occurred_at")}) == 1
    (winner,) = workspace.winners()
    assert winner | {"created_at": record["created_at"]} == record


def test_a_file_that_grows_lands_its_tail_and_drops_the_provisional_refusal(workspace: Workspace) -> None:
    whole = jsonl(deployment(2))
    workspace.drops.write(NAME, jsonl(deployment(1)) + whole[:30])
    workspace.pull()
    assert workspace.refused() == [(NAME, 2, "json_truncated")]
    workspace.drops.append(NAME, whole[30:] + jsonl(deployment(3)))
    (result,) = workspace.pull()
    assert (result.items, result.quarantined) == (2, 0)
    assert workspace.refused() == []
    assert workspace.items() == [(NAME, 1, 1), (NAME, 1, 2), (NAME, 1, 3)]


def test_a_rewritten_file_answers_for_its_newest_generation(workspace: Workspace) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1, ref="bad"), deployment(None)))
    workspace.pull()
    workspace.drops.write(NAME, jsonl(deployment(1, ref="good"), deployment(2)))
    workspace.pull()
    assert workspace.refused() == []
    assert [payload.get("ref") for payload in workspace.winners()] == ["good", None]


def test_a_pull_that_was_ended_between_pages_goes_on_where_it_was(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_pages, "PAGE_RECORDS", 2)
    workspace.drops.write(NAME, jsonl(*(deployment(n) for n in range(7))))
    changes = FilesProvider.changes
    read: list[int] = []

    def ends(self: FilesProvider, entity: str, key: str, cursor: Cursor | None) -> Iterator[Page]:
        for number, page in enumerate(changes(self, entity, key, cursor)):
            if number == 2:
                raise KeyboardInterrupt
            read.extend(record.line for record in page.records)
            yield page

    with monkeypatch.context() as patch:
        patch.setattr(FilesProvider, "changes", ends)
        with pytest.raises(KeyboardInterrupt):
            workspace.pull()
    assert workspace.items() == [(NAME, 1, line) for line in (1, 2, 3, 4)]
    assert workspace.collection()["deployments"].complete is False

    (result,) = workspace.pull()
    assert result.items == 3
    assert workspace.items() == [(NAME, 1, line) for line in range(1, 8)]
    assert workspace.collection()["deployments"].complete is True


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from analytics.landing.pull import pull
from analytics.landing.store import LandingStore
from analytics.sources import feed_pages
from tests.unit.landing.landing_world import Workspace
feed_pages.PAGE_RECORDS = 2
insert_page = LandingStore._insert_page
def killed(self, page, *rest):
    insert_page(self, page, *rest)
    if page.cursor["lines"] == 6:
        # In the middle of the third page's transaction.
        os.kill(os.getpid(), signal.SIGKILL)
LandingStore._insert_page = killed
Workspace(Path({folder!r})).pull()
"""


def test_a_pull_that_was_killed_within_a_page_lands_every_line_once(workspace: Workspace, tmp_path: Path) -> None:
    workspace.drops.write(NAME, jsonl(*(deployment(n) for n in range(9))))
    root = Path(__file__).resolve().parents[3]
    script = KILLED.format(root=str(root), folder=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert workspace.items() == [(NAME, 1, line) for line in (1, 2, 3, 4)]
    workspace.pull()
    assert workspace.items() == [(NAME, 1, line) for line in range(1, 10)]


def test_a_page_that_cannot_be_written_fails_the_source(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1)))

    def full(*args: Any) -> None:
        raise LandingError("no space left")

    monkeypatch.setattr(LandingStore, "write", full)
    (result,) = pull(workspace.settings, only=["drops"])
    assert (result.ok, result.error) == (False, "no space left")


def test_a_failing_write_is_not_hidden_by_a_failing_reader(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_page_and_then(self: FilesProvider, entity: str, key: str, cursor: Cursor | None) -> Iterator[Page]:
        yield Page(entity, key, 1, [], [], {})
        raise SourceError("the reader failed")

    def full(*args: Any) -> None:
        raise LandingError("no space left")

    workspace.drops.write(NAME, b"")
    monkeypatch.setattr(FilesProvider, "changes", one_page_and_then)
    monkeypatch.setattr(LandingStore, "write", full)
    (result,) = pull(workspace.settings, only=["drops"])
    assert result.error == "no space left"


def test_a_missing_folder_fails_its_source_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, ["gone", "here"])
    workspace.feeds["here"].write(NAME, jsonl(deployment(1)))
    workspace.feeds["gone"].folder.rmdir()
    gone, here = workspace.pull()
    assert (gone.ok, here.ok, here.items) == (False, True, 1)
    assert gone.error is not None
    assert "gone" in gone.error


def test_when_every_source_fails_the_stage_fails(workspace: Workspace) -> None:
    workspace.drops.folder.rmdir()
    with pytest.raises(SourceError, match="no source could be pulled: drops"):
        workspace.pull()
    # Asked for by name, it says so in its result.
    (result,) = pull(workspace.settings, only=["drops"])
    assert not result.ok


def test_a_request_that_fails_leaves_the_others_and_is_incomplete(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.drops.write(NAME, jsonl(deployment(1)))
    workspace.drops.write("incidents.jsonl", jsonl({"incident_id": 1, "opened_at": "2026-01-01T00:00:00Z"}))
    changes = FilesProvider.changes

    def half(self: FilesProvider, entity: str, key: str, cursor: Cursor | None) -> Iterator[Page]:
        yield from changes(self, entity, key, cursor)
        if entity == "deployments":
            raise SourceError("broke off", where=key)

    monkeypatch.setattr(FilesProvider, "changes", half)
    (result,) = pull(workspace.settings, only=["drops"])
    assert (result.items, result.error) == (2, f"{NAME}: broke off")
    found = workspace.collection()
    assert (found["deployments"].complete, found["incidents"].complete) == (False, True)


def test_only_named_sources_are_pulled(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, ["one", "two"])
    for feeds in workspace.feeds.values():
        feeds.write(NAME, jsonl(deployment(1)))
    assert [result.source for result in pull(workspace.settings, only=["two"])] == ["two"]
    assert len(workspace.items()) == 1


def test_a_name_that_no_source_has_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="'drop'") as raised:
        pull(workspace.settings, only=["drop"])
    assert "drops" in str(raised.value)


def test_settings_without_sources_say_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no source is declared"):
        pull(Settings(organization="Acme", storage=tmp_path))


def test_git_watches_the_runbooks_and_path_filters_of_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = [
        Service(
            name="shop",
            repository="Acme/Shop",
            paths=["shop/**"],
            runbooks=["docs/b.md", "docs/a.md"],
            rollback=RollbackReadiness(runbook="docs/rollback.md"),
        ),
        Service(name="api", repository="acme/api", deploys=DeploymentSelector(releases=True)),
    ]
    monkeypatch.setattr("analytics.landing.providers.load_catalog", lambda paths: Catalog(services))
    source = GitSource(type="git", name="clones", repositories={"acme/shop": "/shop.git", "acme/api": "/api.git"})
    settings = Settings(organization="Acme", storage=tmp_path, sources=[source])
    seen: dict[str, Any] = {}

    class Recorder:
        def __init__(self, name: str, repositories: object, **more: object) -> None:
            seen.update(more, name=name, repositories=repositories)

    monkeypatch.setattr("analytics.landing.providers.GitProvider", Recorder)
    provider_of(settings, source)
    assert seen == {
        "name": "clones",
        "repositories": source.repositories,
        "clones_dir": tmp_path / "clones" / "clones",
        "watched_paths": {"acme/shop": ["docs/a.md", "docs/b.md", "docs/rollback.md"]},
        "path_filtered": ["acme/shop"],
    }


def test_progress_and_files_are_reported(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    workspace.drops.write(NAME, jsonl(deployment(1)))
    workspace.pull()
    progress = [
        (record.qd_message, record.qd_done, record.qd_total)
        for record in caplog.records
        if getattr(record, "qd_stage", None) == "pull"
    ]
    assert (f"drops: deployments of {NAME}", 0, 1) in progress
    assert ("drops: 1 new items, 0 refused", 1, 1) in progress
    assert any(f"reading {workspace.drops.folder / NAME}" in record.getMessage() for record in caplog.records)


def test_a_long_line_is_refused_with_its_number_and_the_rest_lands(workspace: Workspace) -> None:
    with (workspace.drops.folder / NAME).open("wb") as file:
        file.write(jsonl(deployment(1)))
        for _ in range(50):
            file.write(b"x" * 1024 * 1024)
        file.write(b"\n" + jsonl(deployment(2)))
    workspace.pull()
    assert workspace.refused() == [(NAME, 2, "line_too_long")]
    assert workspace.items() == [(NAME, 1, 1), (NAME, 1, 3)]


@pytest.mark.slow
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import json, resource, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from tests.unit.landing.landing_world import Workspace, deployment
        workspace = Workspace(Path(sys.argv[2]), engine={"memory_limit": "256MB"})
        with (workspace.drops.folder / "deployments.jsonl").open("w") as file:
            for n in range(int(sys.argv[3])):
                file.write(json.dumps(deployment(n, ref="x" * 300)) + "\\n")
        workspace.pull()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        """
    )
    root = Path(__file__).resolve().parents[3]

    def peak(name: str, records: int) -> int:
        (tmp_path / name).mkdir()
        arguments = [sys.executable, "-c", script, str(root), str(tmp_path / name), str(records)]
        unit = 1 if sys.platform == "darwin" else 1024
        return int(subprocess.run(arguments, cwd=root, check=True, capture_output=True, text=True).stdout) * unit

    assert peak("large", 600_000) < peak("small", 150_000) + 300 * 1024 * 1024
    assert (tmp_path / "large" / "drops" / NAME).stat().st_size > 200_000_000
