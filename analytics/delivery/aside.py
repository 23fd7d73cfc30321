"""Steps of an update that need nothing of each other, side by side: a second session has a thread of its own.

DuckDB and Python leave each other's core idle in turns where a day's few records are put in their places. Making
everything anew does one step after the other: a heavy step needs the memory limit for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.engines.prelude import create_functions
from analytics.settings import Settings

T = TypeVar("T")
_TURN_SECONDS = 0.0005
_LOOK_SECONDS = 0.02


class Aside:
    """A session, and the work that is done on it in the order in which it is given."""

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor | None) -> None:
        """Without a thread, what is given is done at once."""
        self.engine = engine
        self._thread = thread
        self._given: list[Future[Any]] = []
        self._has_failed = False

    def give(self, work: Callable[[], T]) -> Callable[[], T]:
        """Have some work done, and get what waits for its result; what it raises is raised there or by `wait`."""
        if self._thread is None:
            made = work()
            return lambda: made
        given = self._thread.submit(self._after_others, work)
        self._given.append(given)

        def result() -> T:
            try:
                return given.result()
            except CancelledError:
                # What was not begun cannot say why; what failed before it can.
                self.wait()
                raise

        return result

    def _after_others(self, work: Callable[[], T]) -> T:
        """Do some work, unless what it may need has failed."""
        if self._has_failed:
            raise CancelledError
        try:
            return work()
        except BaseException:
            self._has_failed = True
            raise

    def wait(self) -> None:
        """Wait for all that was given; raises what the first of it raised that failed."""
        for given in self._given:
            given.result()
        self._given.clear()

    def stop(self, interrupt: Callable[[], None]) -> None:
        """Let nothing more begin, and interrupt the query of a step under way until that step has ended."""
        self._has_failed = True
        # A step may be between two queries, and the next one would run to its end.
        while wait_for(self._given, timeout=0).not_done:
            interrupt()
            wait_for(self._given, timeout=_LOOK_SECONDS)


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads take turns more often: else a statement of a millisecond waits five for the other thread."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def aside(engine: Engine, settings: Settings, *, threaded: bool) -> Iterator[Aside]:
    """A session beside the given one, which sees what stands in its database and not what is temporary in it.

    It is that session itself unless `threaded`. Nothing that was given is still at work when the block ends.
    """
    if not threaded:
        yield Aside(engine, None)
        return
    assert isinstance(engine, DuckEngine)
    with closing(engine.con.cursor()) as con, ThreadPoolExecutor(1) as thread, _short_turns():
        con.execute("SET TimeZone = 'UTC'")
        session = DuckEngine(con, settings)
        create_functions(session, settings.time_zone)
        beside = Aside(session, thread)
        try:
            yield beside
            beside.wait()
        except BaseException:
            # A step that waits for its turn might read what this session has not made, and nobody waits for a result:
            # Ctrl-C ends a build in a moment and not after minutes.
            beside.stop(con.interrupt)
            raise
