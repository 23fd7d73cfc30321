"""Runs work in a process of its own and tells what it took, with everything that the process started.

A Spark session is a Python process, a JVM and Python workers: peak memory and CPU seconds are those of the whole tree.
Of several processes the proportional share is summed, in which a page that two of them share counts half for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# How often the tree's memory is looked at; one process alone is also asked for its own greatest, which misses nothing.
_EVERY_SECONDS = 0.2
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measurement:
    """What one process took: seconds of the work, its tree's peak memory, and what it said of its result."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    result: dict[str, Any]


@dataclass(frozen=True)
class _Process:
    session: int
    cpu_seconds: float
    resident_bytes: int


def run_module(module: str, *words: str) -> Measurement:
    """Run `python -m MODULE WORDS` from the project's root, which must end with `report`.

    Raises RuntimeError when it fails; what it wrote to stderr stands there.
    """
    # A session of its own tells its processes from all others, whoever their parent is by then.
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True, cwd=_ROOT, start_new_session=True
    )
    sampled = [0]
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, ended, sampled), daemon=True)
    watcher.start()
    try:
        assert process.stdout is not None
        said = process.stdout.read()
        process.stdout.close()
        # Only the resources of this child; those of all children together would keep the greatest peak.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        ended.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(words)} ended with exit code {process.returncode}")
    times = json.loads(said.splitlines()[-1])
    # Linux says kilobytes, macOS bytes.
    own = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measurement(times["seconds"], times["cpu_seconds"], max(own, sampled[0]) / 1e6, times["result"])


def report(work: Callable[[], dict[str, Any]]) -> None:
    """Do the work of such a process and print what it took, without what was imported before."""
    began, cpu_began = time.perf_counter(), cpu_seconds()
    result = work()
    times = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu_began, "result": result}
    print(json.dumps(times))


def cpu_seconds() -> float:
    """CPU seconds so far of this process and of those it started: of a process of `run_module` with all that live."""
    times = os.times()
    ended = time.process_time() + times.children_user + times.children_system
    session = os.getsid(0)
    if session != os.getpid():
        return ended
    # Each counts its own ended children; processes of the session whose parent ended first are few and short.
    others = (found for pid, found in _processes() if pid != session and found.session == session)
    return ended + sum(found.cpu_seconds for found in others)


def _watch(session: int, ended: threading.Event, greatest: list[int]) -> None:
    while not ended.wait(_EVERY_SECONDS):
        tree = [(pid, found.resident_bytes) for pid, found in _processes() if found.session == session]
        # The share of a process costs a walk over its pages, so it is asked for only where something can be shared.
        resident = sum(size if len(tree) == 1 else _share(pid, size) for pid, size in tree)
        greatest[0] = max(greatest[0], resident)


def _share(pid: int, resident_bytes: int) -> int:
    """A process's proportional share of its memory; all that is resident where nobody tells."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident_bytes


def _processes() -> Iterator[tuple[int, _Process]]:
    """Every process that this user may look at; none where there is no /proc."""
    if not sys.platform.startswith("linux"):
        return
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):  # noqa: PTH208 many times a second
        if name.isdigit():
            try:
                # The command stands in brackets and may hold anything; fields are numbered from 3 after it.
                fields = Path(f"/proc/{name}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:  # ended in the meantime
                continue
            yield int(name), _Process(int(fields[3]), sum(map(int, fields[11:15])) / ticks, int(fields[21]) * page)
