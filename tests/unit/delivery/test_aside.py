"""Steps of an update side by side."""

import sys
import threading
import time
from collections.abc import Iterator

import duckdb
import pytest

from analytics.delivery.aside import aside
from analytics.engines.duck import DuckEngine
from analytics.settings import Settings


@pytest.fixture
def engine() -> Iterator[DuckEngine]:
    with duckdb.connect() as con:
        yield DuckEngine(con, Settings(organization="Acme"))


def test_what_is_given_is_done_in_its_order_in_another_thread(engine: DuckEngine) -> None:
    done: list[tuple[int, bool]] = []
    here = threading.get_ident()
    with aside(engine, Settings(organization="Acme"), threaded=True) as beside:
        for number in range(20):
            beside.give(lambda number=number: done.append((number, threading.get_ident() == here)))  # type: ignore[misc]
    assert done == [(number, False) for number in range(20)]


def test_the_session_aside_sees_the_database_and_keeps_its_own_names_to_itself(engine: DuckEngine) -> None:
    engine.con.execute("CREATE TABLE told AS SELECT 1 AS told")
    engine.create_values("own", {"own": "BIGINT"}, [(1,)])
    with aside(engine, Settings(organization="Acme"), threaded=True) as beside:
        other = beside.engine

        def read() -> list[tuple[int]]:
            other.create_values("own", {"own": "BIGINT"}, [(2,)])
            return other.rows("SELECT told + own FROM told, own")

        assert beside.give(read)() == [(3,)]
    assert engine.rows("SELECT own FROM own") == [(1,)]


def test_no_step_is_begun_behind_one_that_failed_and_its_error_is_raised(engine: DuckEngine) -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError("the first")

    def run() -> None:
        with aside(engine, Settings(organization="Acme"), threaded=True) as beside:
            beside.give(fail)
            beside.give(lambda: done.append("behind it"))

    with pytest.raises(ValueError, match="the first"):
        run()
    assert done == []


def test_who_waits_for_a_step_that_was_not_begun_is_told_what_failed(engine: DuckEngine) -> None:
    def fail() -> None:
        raise ValueError("the first")

    def run() -> None:
        with aside(engine, Settings(organization="Acme"), threaded=True) as beside:
            beside.give(fail)
            beside.give(lambda: 1)()

    with pytest.raises(ValueError, match="the first"):
        run()


def test_a_failure_here_lets_no_waiting_step_begin(engine: DuckEngine) -> None:
    done: list[str] = []
    begun, stopped = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        stopped.wait()

    def run() -> None:
        with aside(engine, Settings(organization="Acme"), threaded=True) as beside:
            beside.give(hold)
            beside.give(lambda: done.append("waiting"))
            begun.wait()
            threading.Timer(0.05, stopped.set).start()
            raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        run()
    assert done == []


@pytest.mark.parametrize("pause_seconds", [0, 0.05], ids=["in a query", "between two queries"])
def test_a_failure_here_interrupts_the_query_aside(engine: DuckEngine, pause_seconds: float) -> None:
    begun = threading.Event()
    ended: list[str] = []

    def count(con: duckdb.DuckDBPyConnection) -> None:
        begun.set()
        # With a pause, the first interrupt meets no query.
        time.sleep(pause_seconds)
        try:
            # Longer than the patience of whoever pressed Ctrl-C.
            con.execute("SELECT sum(a.range * b.range) FROM range(100_000) AS a, range(100_000) AS b")
        except duckdb.InterruptException:
            ended.append("interrupted")
            raise
        ended.append("to its end")

    def run() -> None:
        with aside(engine, Settings(organization="Acme"), threaded=True) as beside:
            other = beside.engine
            assert isinstance(other, DuckEngine)
            beside.give(lambda: count(other.con))
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert ended == ["interrupted"]
    assert engine.rows("SELECT 1") == [(1,)]


def test_without_a_thread_all_is_done_at_once_on_the_session_itself(engine: DuckEngine) -> None:
    with aside(engine, Settings(organization="Acme"), threaded=False) as beside:
        assert beside.engine is engine
        assert beside.give(threading.get_ident)() == threading.get_ident()


def test_threads_take_turns_more_often_while_there_are_two(engine: DuckEngine) -> None:
    before = sys.getswitchinterval()
    with aside(engine, Settings(organization="Acme"), threaded=True):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
