"""Dagster's instance of this workspace: its home in the storage, and the UI on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from analytics.errors import QuarterdeckError, UsageError
from analytics.file_lock import file_lock
from analytics.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

SETTINGS_VARIABLE = "QUARTERDECK_SETTINGS"
SECONDS_TO_END = 15
SECONDS_TO_BE_MADE = 120.0
SECONDS_BETWEEN_LOOKS = 0.5

INSTANCE_YAML = """\
# Written by Quarterdeck when the folder was made; yours to change.
telemetry: {enabled: false}
nux: {enabled: false}

# Runs write the same storage: one at a time, the others wait in the queue. The steps of one run go side by side where
# `executor` in the settings says so; `dagster instance concurrency set pull_NAME 2` limits the shards of a source at a
# time. No limit stands here: a `quarterdeck run` that is killed while no daemon runs would keep its place for good.
concurrency:
  pools: {granularity: op}
  runs: {max_concurrent_runs: 1}

# A run whose process died gives its place back.
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 300

# Ticks that did nothing are kept a week; those that failed, a season.
retention:
  schedule: {purge_after_days: {skipped: 7, failure: 90, success: 365}}
  sensor: {purge_after_days: {skipped: 7, failure: 90, success: 365}}
"""

WORKSPACE_YAML = """\
# Written by Quarterdeck when the folder was made: the code that the UI loads.
load_from:
  - python_module:
      module_name: quarterdeck.definitions
      location_name: quarterdeck
"""


def prepare_home(settings: Settings) -> Path:
    """The folder of Dagster's instance, made with its dagster.yaml and workspace.yaml when it has none."""
    home = settings.dagster_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        for name, text in (("dagster.yaml", INSTANCE_YAML), ("workspace.yaml", WORKSPACE_YAML)):
            if not (home / name).exists():
                # Whole or not at all: another process that begins now may read it.
                work = home / f".{name}.{uuid.uuid4().hex}"
                work.write_text(text, encoding="utf-8")
                work.replace(home / name)
    except OSError as error:
        raise QuarterdeckError(
            f"cannot be written ({error.strerror})", where=str(home), fix="Make it writable, or correct `storage`."
        ) from error
    return home


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The workspace's instance, the one whose runs the UI lists; closed in any case."""
    import dagster as dg

    home = prepare_home(settings)

    def too_late() -> QuarterdeckError:
        return QuarterdeckError(
            f"is being made by another process; waited {SECONDS_TO_BE_MADE:g} s",
            where=str(home),
            fix="Let it finish, or end it, then try again.",
        )

    # Dagster looks which tables there are and then makes those that are missing; two at once would make them twice.
    with file_lock(home / "made.turn", deadline_seconds=SECONDS_TO_BE_MADE, too_late=too_late):
        instance = dg.DagsterInstance.from_config(str(home))
    try:
        yield instance
    finally:
        instance.dispose()


def serve_ui(settings: Settings, port: int, ready: Callable[[], None]) -> int:
    """Run webserver and daemon until Ctrl-C, end every process they started, and return their exit code.

    Calls `ready` once the port answers. Raises UsageError when something else listens on it.
    """
    if _listens(port):
        raise UsageError(f"port {port} of 127.0.0.1 is in use", fix="Name another one with --port.")
    # Its tables are made here, since the processes of the UI would all begin to make them.
    with open_instance(settings):
        pass
    home = settings.dagster_home
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        SETTINGS_VARIABLE: str(settings.settings_path),
        # `dg dev` is meant instead, but it is part of the development tools.
        "PYTHONWARNINGS": "ignore:Function `dev_command` is superseded",
    }
    words = ["dev", "--host", "127.0.0.1", "--port", str(port), "--workspace", str(home / "workspace.yaml")]
    quiet = ["--log-level", "warning", "--code-server-log-level", "warning"]

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # Before the start: a child inherits an ignored SIGINT (as in a shell's background), but not a handled one.
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    # A session of its own: Ctrl-C reaches it through us alone, and nothing of it outlives us.
    process = subprocess.Popen(  # noqa: S603 - our interpreter, our words
        [sys.executable, "-m", "dagster", *words, *quiet], env=environment, start_new_session=True
    )
    try:
        while process.poll() is None and not _listens(port):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if process.returncode is None:
            ready()
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _end(process)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the whole session as a terminal does; whatever is left of it after a while is killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
