"""Taking turns: one stage writes a storage's lake at a time, whatever starts it (a command, the UI, a schedule).

A stage reads several tables and replaces several; two at once would leave tables of two states side by side. The turn
is the operating system's lock on a file: it ends with the process that holds it, however that ends, so that a killed
stage blocks nobody. Whoever waits says for whom, and gives up after an hour.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from analytics import progress
from analytics.errors import LakeError
from analytics.file_lock import file_lock
from analytics.lake.places import lake_of
from analytics.lake.version import check_lake
from analytics.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE_SECONDS = 3600.0


def turn_path(settings: Settings) -> Path:
    """The file whose lock is the turn; it says who has it, or had it last."""
    return settings.temp_dir / "lake.turn"


@contextmanager
def lake_turn(
    settings: Settings, stage: str, *, derives: bool = True, deadline_seconds: float = DEADLINE_SECONDS
) -> Iterator[None]:
    """Hold the turn for as long as the block lasts, on a lake that this version can write and nobody left half written.

    `derives` says that the stage reads what `build` wrote, which must then be of this version and written to its end.
    Raises LakeError naming the holder when the deadline has passed, and as `check_lake` does.
    """
    path = turn_path(settings)

    def too_late() -> LakeError:
        return LakeError(
            f"is being written by {holder(path)}; waited {deadline_seconds:g} s",
            where=lake_of(settings).place(),
            fix="Let it finish, or end it, then try again.",
        )

    def waiting() -> None:
        progress.report(stage, f"waiting for {holder(path)}")

    with file_lock(path, deadline_seconds=deadline_seconds, too_late=too_late, waiting=waiting) as file:
        file.truncate(0)
        file.write(json.dumps(_myself(stage)))
        file.flush()
        try:
            check_lake(settings, stage, derives=derives)
            for table in lake_of(settings).settle():
                progress.report(stage, f"{table}: did to its end what a killed stage had begun")
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
