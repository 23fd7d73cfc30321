"""Progress on a terminal or in a log: listens to `analytics.progress`, never writes to stdout."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from analytics.progress import LOGGER_NAME
from reports.tables import printable

# A log file wants to know that work goes on, not each of ten thousand steps.
SECONDS_BETWEEN_LINES = 2.0


class LineHandler(logging.Handler):
    """Writes one plain line per step; of counted steps only the first, the last and one every two seconds."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._last: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as `stage: message (done/total)`."""
        done, total = getattr(record, "qd_done", None), getattr(record, "qd_total", None)
        stage = str(getattr(record, "qd_stage", ""))
        line = printable(record.getMessage())
        if done is not None:
            now = time.monotonic()
            if stage in self._last and done != total and now - self._last[stage] < SECONDS_BETWEEN_LINES:
                return
            self._last[stage] = now
            line = f"{line} ({done:,}/{total:,})" if total is not None else f"{line} ({done:,})"
        try:
            self._write(line)
        except (OSError, ValueError):
            self.handleError(record)


class WarningHandler(logging.Handler):
    """Writes what the stages warn of; what fails is said once, by the command or the check that it fails."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as `warning: message`."""
        if record.levelno == logging.WARNING:
            self._write(f"warning: {printable(record.getMessage())}")


class TerminalHandler(logging.Handler):
    """Shows one live line per stage with a spinner, a bar where the total is known, and the time it took."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

        self._tasks: dict[str, TaskID] = {}
        self.live = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            # markup=False: a name such as [red] in a message is only text.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=Console(file=stream),
            transient=False,
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Move the stage's line on; a new stage finishes the one before."""
        stage = str(getattr(record, "qd_stage", record.levelname.lower()))
        done, total = getattr(record, "qd_done", None), getattr(record, "qd_total", None)
        if stage not in self._tasks:
            self.finish()
            self._tasks[stage] = self.live.add_task(stage, total=None)
        text = printable(record.getMessage())
        counted = f" ({done:,}/{total:,})" if done is not None and total is not None else ""
        self.live.update(self._tasks[stage], description=text + counted, completed=done or 0, total=total)

    def write(self, line: str) -> None:
        """Print a line above the live ones."""
        self.live.console.print(line, markup=False, highlight=False)

    def finish(self) -> None:
        """Mark every stage that is still turning as done."""
        for task in self.live.tasks:
            if not task.finished:
                self.live.update(task.id, completed=1, total=1)


@contextmanager
def listening(progress: logging.Handler, warn: Callable[[str], None], level: int = logging.INFO) -> Iterator[None]:
    """Give progress to one handler and the stages' warnings to a function, as long as the block lasts."""
    stages, warnings = logging.getLogger(LOGGER_NAME), logging.getLogger("analytics")
    warning_handler = WarningHandler(warn)
    before = (stages.level, stages.propagate, warnings.propagate)
    # A lower level that an outer listener asked for stays.
    stages.setLevel(min(before[0], level) if before[0] else level)
    # A library that logs through the root logger gives it a handler, which would say everything twice.
    stages.propagate = warnings.propagate = False
    stages.addHandler(progress)
    warnings.addHandler(warning_handler)
    try:
        yield
    finally:
        stages.removeHandler(progress)
        warnings.removeHandler(warning_handler)
        stages.setLevel(before[0])
        stages.propagate, warnings.propagate = before[1:]


@contextmanager
def shown_progress(stream: TextIO | None = None, *, debug: bool = False) -> Iterator[None]:
    """Show progress on stderr while a command works: live on a terminal, plain lines elsewhere or with debug."""
    out = stream or sys.stderr

    def write(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    if not out.isatty() or debug:
        with listening(LineHandler(write), write, logging.DEBUG if debug else logging.INFO):
            yield
        return
    handler = TerminalHandler(out)
    with handler.live, listening(handler, handler.write):
        yield
        handler.finish()
