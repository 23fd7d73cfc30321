from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from analytics.landing.store import LandingStore
from analytics.landing.winners import open_landing
from tests.unit.landing.landing_world import Workspace, deployment, jsonl


def test_a_pull_of_a_file_in_use_waits_for_it_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quarterdeck.progress")
    workspace = Workspace(tmp_path)
    workspace.drops.write("deployments.jsonl", jsonl(deployment("d1")))
    LandingStore.open(workspace.settings, "drops").close()
    reading = ExitStack()
    reading.enter_context(open_landing(workspace.settings))
    soon = threading.Timer(0.4, reading.close)
    soon.start()
    try:
        [result] = workspace.pull()
    finally:
        soon.join()
    assert (result.items, result.error) == (1, None)
    [said] = [record.message for record in caplog.records if "waiting for" in record.message]
    assert said == "landing: waiting for drops.duckdb, in use by this process"


def test_two_that_make_a_landing_file_at_once_share_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    errors: list[BaseException] = []

    def open_once() -> None:
        try:
            LandingStore.open(workspace.settings, "drops").close()
        except BaseException as error:  # told to the test
            errors.append(error)

    threads = [threading.Thread(target=open_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in workspace.settings.landing_dir.iterdir()] == ["drops.duckdb"]
