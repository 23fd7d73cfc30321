"""The operating system's lock on a file: who holds it goes first, others wait, and it ends with its process.

That is what a file which merely exists could not do: a killed process blocks nobody. Locked files are never removed,
for two processes could then each lock a file of that name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows, where a person sees to it
    fcntl = None  # type: ignore[assignment]

_PAUSE_SECONDS = 0.1
_REMIND_SECONDS = 30.0


@contextmanager
def file_lock(
    path: Path,
    *,
    alone: bool = True,
    deadline_seconds: float = 0.0,
    too_late: Callable[[], Exception],
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[IO[str]]:
    """Hold the lock while the block lasts, `alone` or beside others who hold it not alone; gives the file, for notes.

    `waiting` is called when it begins to wait, and each half minute after. Raises the error of `too_late` when somebody
    else still holds the lock after the deadline.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        began = say_at = time.monotonic()
        while not _taken(file, alone=alone):
            now = time.monotonic()
            if now - began >= deadline_seconds:
                raise too_late()
            if now >= say_at:
                waiting()
                say_at = now + _REMIND_SECONDS
            time.sleep(_PAUSE_SECONDS)
        yield file


def _taken(file: IO[str], *, alone: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file.fileno(), (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
