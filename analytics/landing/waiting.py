"""Opening a landing file that another process may hold: DuckDB's own lock is waited for, up to a deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb

from analytics import progress
from analytics.errors import FileInUseError, LandingError

DEADLINE_SECONDS = 30.0
_PAUSE_SECONDS = 0.1
_HOLDER = re.compile(r"held in (.+?) \(PID (\d+)\)")
# Held by this very process: DuckDB words it differently.
_HELD_HERE = ("Unique file handle conflict", "different configuration than existing connections")

T = TypeVar("T")


def wait_for_file(path: Path, open_file: Callable[[], T], deadline_seconds: float = DEADLINE_SECONDS) -> T:
    """What `open_file` gives, tried again while another process holds the file.

    Raises FileInUseError naming the holder when the deadline has passed, and LandingError saying why the file cannot be
    opened at all.
    """
    give_up_at = time.monotonic() + deadline_seconds
    said = False
    while True:
        try:
            return open_file()
        except duckdb.Error as error:
            text = str(error)
            is_held = "Could not set lock" in text or any(words in text for words in _HELD_HERE)
            if not is_held:
                raise LandingError(
                    f"cannot be opened: {text.partition(chr(10))[0]}",
                    where=str(path),
                    fix="Move the file away and pull again, if its sources are still there.",
                ) from error
            if time.monotonic() >= give_up_at:
                raise FileInUseError(
                    f"is in use by {_holder(text)}; waited {deadline_seconds:g} s",
                    where=str(path),
                    fix="Let it finish, or end it, then try again.",
                ) from error
            if not said:
                progress.report("landing", f"waiting for {path.name}, in use by {_holder(text)}")
                said = True
            time.sleep(_PAUSE_SECONDS)


def _holder(text: str) -> str:
    match = _HOLDER.search(text)
    if match:
        return f"process {match[2]} ({match[1]})"
    return "this process" if any(words in text for words in _HELD_HERE) else "another process"
