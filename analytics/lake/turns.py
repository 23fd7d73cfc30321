"""Taking turns: one stage writes a storage's lake at a time, whatever starts it (a command, the UI, a schedule).

A stage reads several tables and replaces several; two at once would leave tables of two states side by side. The turn
is the operating system's lock on a file: it ends with the process that holds it, however that ends, so that a killed
stage blocks nobody. Whoever waits says for whom, and gives up after an hour.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from analytics import progress
from analytics.errors import LakeError
from analytics.lake.places import lake_of
from analytics.lake.version import check_lake_version
from analytics.settings import Settings

try:
    import fcntl
except ImportError:  # not on Windows, where a person sees to it
    fcntl = None  # type: ignore[assignment]

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE_SECONDS = 3600.0
_PAUSE_SECONDS = 0.2
_REMIND_SECONDS = 30.0


def turn_path(settings: Settings) -> Path:
    """The file whose lock is the turn; it says who has it, or had it last."""
    return settings.temp_dir / "lake.turn"


@contextmanager
def lake_turn(
    settings: Settings, stage: str, *, derives: bool = True, deadline_seconds: float = DEADLINE_SECONDS
) -> Iterator[None]:
    """Hold the turn for as long as the block lasts, on a lake that this version can write.

    `derives` says that the stage reads what `build` wrote, which must then be of this version. Raises LakeError naming
    the holder when the deadline has passed, and for a lake of another version.
    """
    settings.temp_dir.mkdir(parents=True, exist_ok=True)
    path = turn_path(settings)
    # Never removed: two processes could then each lock a file of that name.
    with path.open("a+", encoding="utf-8") as file:
        _wait(file.fileno(), path, stage, deadline_seconds, lake_of(settings).place())
        file.truncate(0)
        file.write(json.dumps(_myself(stage)))
        file.flush()
        try:
            check_lake_version(settings, derives=derives)
            yield
        finally:
            file.truncate(0)


def taking_turns(
    stage: str, *, derives: bool = True
) -> Callable[[Callable[Concatenate[Settings, P], T]], Callable[Concatenate[Settings, P], T]]:
    """Let a stage, a function of the settings and more, run only while it holds the turn."""

    def decorate(function: Callable[Concatenate[Settings, P], T]) -> Callable[Concatenate[Settings, P], T]:
        @wraps(function)
        def in_turn(settings: Settings, /, *arguments: P.args, **named: P.kwargs) -> T:
            with lake_turn(settings, stage, derives=derives):
                return function(settings, *arguments, **named)

        return in_turn

    return decorate


def _wait(descriptor: int, path: Path, stage: str, deadline_seconds: float, where: str) -> None:
    if fcntl is None:
        return
    began = time.monotonic()
    said_at = float("-inf")
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
            if waited >= deadline_seconds:
                raise LakeError(
                    f"is being written by {holder(path)}; waited {deadline_seconds:g} s",
                    where=where,
                    fix="Let it finish, or end it, then try again.",
                ) from None
            if waited - said_at >= _REMIND_SECONDS:
                said_at = waited
                progress.report(stage, f"waiting for {holder(path)}")
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _myself(stage: str) -> dict[str, object]:
    return {
        "stage": stage,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }


def holder(path: Path) -> str:
    """Who has the turn, in words."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        elsewhere = "" if noted["host"] == socket.gethostname() else f" on {noted['host']}"
        return f"{noted['stage']} in process {noted['process']}{elsewhere} (since {noted['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # being written, or by somebody who could not say
        return "another process"
