"""The bytes of a file that somebody else chose: regular files only, and never more than a limit.

A glob or a record may name a named pipe (which waits for its writer for ever), a device, or a file without end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular_file(path: Path, most_bytes: int) -> bytes:
    """The bytes of a regular file; raises OSError where it cannot be read, ValueError where it is not to be read."""
    # Without O_NONBLOCK, opening a named pipe waits for its writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no regular file")
        if facts.st_size > most_bytes:
            raise ValueError(f"it has {facts.st_size:,} bytes; at most {most_bytes:,} are read")
        # It may grow between the two calls.
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes, the most that are read")
    return content


def read_named_file(path: Path, most_bytes: int) -> bytes:
    """The first `most_bytes` of a file that a person named, and one more where it is longer.

    Raises OSError where it cannot be read, a named pipe that lies in a folder included: its writer may never come. A
    shell's `<(…)` is a pipe too, with a writer for certain, and is read.
    """
    if path.is_fifo() and not any(path.is_relative_to(folder) for folder in ("/dev/fd", "/proc")):
        raise OSError(errno.ESPIPE, "it is a named pipe, which may never end")
    with path.open("rb") as file:
        return file.read(most_bytes + 1)
