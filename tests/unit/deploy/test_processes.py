"""The containers' processes, without containers: Postgres, code server, webserver and daemon on this machine."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sensors.instance import SETTINGS_VARIABLE
from tests.unit.sensors.ops_world import workspace

REPOSITORY = Path(__file__).resolve().parents[3]
CONTAINERS = REPOSITORY / "deploy" / "containers"
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
GIVE_UP_SECONDS = 180
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix" or not SERVERS, reason="needs a PostgreSQL server (Debian: postgresql)"),
]

RUNS = """{
  workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } }
  runsOrError { ... on Runs { results { jobName status tags { key value } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } }
}"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def process(words: list[str], log: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, ended with all that it started."""
    with log.open("ab") as file:
        started = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True, **more)
    try:
        yield started
    finally:
        os.killpg(started.pid, signal.SIGINT)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@contextmanager
def postgres(folder: Path, port: int) -> Iterator[None]:
    """A Postgres on loopback, its data in a folder of the user that may run it."""
    programs = SERVERS[-1].parent
    # Postgres refuses to run as root; Debian's package makes a user for it.
    as_user: dict[str, Any] = {}
    # Not below the tests' folders, which are their user's alone.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as own:
        data, secret = Path(own) / "data", Path(own) / "password"
        data.mkdir()
        secret.write_text("a-password")
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            for path in (Path(own), data, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        options = ["--username", "dagster", "--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8"]
        subprocess.run(
            [str(programs / "initdb"), "--pgdata", str(data), "--pwfile", str(secret), "--locale", "C", *options],
            check=True,
            capture_output=True,
            cwd="/",
            **as_user,
        )
        words = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(data), "-F"]
        with process(words, folder / "postgres.log", cwd="/", **as_user):
            until(lambda: listens(port), folder)
            yield


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(is_so: Callable[[], Any], folder: Path) -> Any:
    """Wait for something to be so; what it gives."""
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    while True:
        found = is_so()
        if found:
            return found
        if time.monotonic() > give_up_at:
            logs = "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in folder.glob("*.log"))
            raise AssertionError(logs)
        time.sleep(0.5)


def test_a_sensor_starts_a_run_over_postgres_and_it_succeeds(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("deployment")
    (folder / "feeds").mkdir()
    (folder / "feeds" / "deployments.jsonl").touch()
    (folder / "catalog.yaml").write_text(json.dumps({"services": [{"name": "shop", "repository": "acme/shop"}]}))
    settings = workspace(folder, engine={"threads": 1})
    home = folder / "home"
    home.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(CONTAINERS / name, home / name)
    database, code, web = free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_HOST": "127.0.0.1",
        "DAGSTER_POSTGRES_PORT": str(database),
        "DAGSTER_POSTGRES_USER": "dagster",
        "DAGSTER_POSTGRES_PASSWORD": "a-password",
        "DAGSTER_POSTGRES_DB": "postgres",
        "QUARTERDECK_DAGSTER_DATA": str(folder / "dagster"),
        "QUARTERDECK_CODE_HOST": "127.0.0.1",
        "QUARTERDECK_CODE_PORT": str(code),
        "PYTHONPATH": str(REPOSITORY),
        SETTINGS_VARIABLE: str(settings.settings_path),
    }
    python, where = sys.executable, str(home / "workspace.yaml")
    here = ["--host", "127.0.0.1", "--port"]
    module = ["--module-name", "quarterdeck.definitions"]
    commands = {
        "code": [python, "-m", "dagster", "code-server", "start", *here, str(code), *module],
        "webserver": [python, "-m", "dagster_webserver", *here, str(web), "--workspace", where],
        "daemon": [python, "-m", "dagster._daemon", "run", "--workspace", where],
    }

    def ask() -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{web}/graphql",
            data=json.dumps({"query": RUNS}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def finished() -> Any:
        runs = ask()["runsOrError"]["results"]
        return [run for run in runs if run["status"] in ("SUCCESS", "FAILURE", "CANCELED")]

    with ExitStack() as running:
        running.enter_context(postgres(folder, database))
        for name, words in commands.items():
            running.enter_context(process(words, folder / f"{name}.log", env=environment, cwd=folder))
            if name != "daemon":
                until(lambda port={"code": code, "webserver": web}[name]: listens(port), folder)
        [entry] = until(ask, folder)["workspaceOrError"]["locationEntries"]
        assert (entry["name"], entry["locationOrLoadError"]["__typename"]) == ("quarterdeck", "RepositoryLocation")
        [run, *_] = until(finished, folder)
        assert (run["jobName"], run["status"]) == ("nightly", "SUCCESS")
        assert {"key": "dagster/sensor_name", "value": "new_feed_files"} in run["tags"]
        health = ask()["instance"]["daemonHealth"]["allDaemonStatuses"]
        assert all(daemon["healthy"] for daemon in health if daemon["required"])
    assert settings.published_path.exists()
    # Events are in Postgres, not in files.
    assert not list(folder.rglob("*.db"))
