"""The real daemon: a sensor and a schedule tick by themselves, and the runs that they start succeed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from sensors.instance import SETTINGS_VARIABLE, open_instance, prepare_home
from tests.unit.sensors.ops_world import webhook, workspace

REPOSITORY = Path(__file__).resolve().parents[3]
GIVE_UP_SECONDS = 180


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="ends a process group")
def test_the_daemon_ticks_and_the_runs_it_starts_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = {
        "deployment_id": "1",
        "service": "checkout",
        "repository": "acme/shop",
        "environment": "production",
        "sha": "a" * 40,
        "status": "success",
        "created_at": (datetime.now(UTC) - timedelta(hours=2)).isoformat(),
        "finished_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
    }
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "deployments.jsonl").write_text(json.dumps(deployment) + "\n")
    (tmp_path / "catalog.yaml").write_text(json.dumps({"services": [{"name": "checkout", "repository": "acme/shop"}]}))
    with webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        settings = workspace(
            tmp_path, schedules={"nightly": "* * * * *"}, alerts={"webhook": "${ALERT_WEBHOOK}"}, engine={"threads": 1}
        )
        home = prepare_home(settings)
        words = ["-m", "dagster._daemon", "run", "--workspace", str(home / "workspace.yaml")]
        with (tmp_path / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, *words],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "DAGSTER_HOME": str(home),
                    SETTINGS_VARIABLE: str(settings.settings_path),
                    "PYTHONPATH": str(REPOSITORY),
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            with open_instance(settings) as instance:
                started = {"dagster/sensor_name": "new_feed_files", "dagster/schedule_name": "nightly"}
                runs = {tag: awaited(instance, daemon, tag, name, tmp_path) for tag, name in started.items()}
                assert {tag: run.status for tag, run in runs.items()} == dict.fromkeys(
                    started, dg.DagsterRunStatus.SUCCESS
                )
        finally:
            os.killpg(daemon.pid, signal.SIGINT)
            try:
                daemon.wait(30)
            finally:
                if daemon.poll() is None:
                    os.killpg(daemon.pid, signal.SIGKILL)
    assert settings.published_path.exists()
    # Before the first run nothing had been read, and the sensor said so.
    assert "stale_sources" in {post["kind"] for post in hook.posts}


def awaited(
    instance: dg.DagsterInstance, daemon: subprocess.Popen[bytes], tag: str, name: str, folder: Path
) -> dg.DagsterRun:
    """The first run that something started, once it has ended."""
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    while True:
        runs = instance.get_runs(dg.RunsFilter(tags={tag: name}))
        if runs and runs[-1].is_finished:
            return runs[-1]
        log = (folder / "daemon.log").read_text(encoding="utf-8", errors="replace")
        assert daemon.poll() is None, log
        assert "Error while importing" not in log, log
        assert time.monotonic() < give_up_at, log
        time.sleep(0.5)
