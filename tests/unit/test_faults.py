from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import duckdb
import polars as pl
import pytest

from analytics.errors import LakeError
from analytics.faults import DAMAGED_FIX, FORBIDDEN_FIX, FULL_FIX, MEMORY_FIX, in_words, is_interruption


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/lake/x.parquet")


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (os_error(errno.ENOSPC), FULL_FIX),
        (os_error(errno.EDQUOT), FULL_FIX),
        (os_error(errno.EROFS), FORBIDDEN_FIX),
        (os_error(errno.EACCES), FORBIDDEN_FIX),
        (
            duckdb.IOException('IO Error: Could not write file "/data/lake/x.parquet": No space left on device'),
            FULL_FIX,
        ),
        (duckdb.IOException('IO Error: Cannot open file "/data/lake/x.parquet": Read-only file system'), FORBIDDEN_FIX),
        (duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block of size 256.0 KiB"), MEMORY_FIX),
        (
            pl.exceptions.ComputeError("got external error: Out of Memory Error: could not allocate 1 KiB"),
            MEMORY_FIX,
        ),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to offload data block of size 1 KiB"), FULL_FIX),
        (MemoryError(), MEMORY_FIX),
        (duckdb.Error("Out of buffer"), DAMAGED_FIX),
        (duckdb.Error("Payload value bigger than allowed. Corrupted file?"), DAMAGED_FIX),
        (pl.exceptions.ComputeError("got external error: Varint-decoding found too large number"), DAMAGED_FIX),
    ],
)
def test_a_fault_says_what_to_do(error: BaseException, fix: str) -> None:
    said = in_words(error)
    assert said is not None
    assert said.fix == fix
    assert said.where in ("/data/lake/x.parquet", None)
    assert said.exit_code == 1


def test_damaged_files_are_known_by_what_really_comes(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pl.DataFrame({"a": range(1000)}).write_parquet(whole)
    data = whole.read_bytes()
    for name, damaged in (("empty", b""), ("cut", data[: len(data) // 2]), ("tail", data[:-8] + b"\0" * 8)):
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(damaged)
        with pytest.raises(duckdb.Error) as caught:
            duckdb.sql(f"SELECT sum(a) FROM read_parquet('{path}')").fetchall()
        said = in_words(caught.value)
        assert said is not None, (name, str(caught.value))
        assert said.fix == DAMAGED_FIX
        assert said.where == str(path), (name, str(caught.value))


def test_damaged_pages_are_known_by_what_really_comes(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.parquet", tmp_path / "damaged.parquet"
    duckdb.sql(f"COPY (SELECT i, CAST(hash(i) AS VARCHAR) AS text FROM range(400) AS r(i)) TO '{whole}'")
    data = whole.read_bytes()
    errors: list[duckdb.Error] = []
    for at in range(4, len(data) - 300, 31):
        path.write_bytes(data[:at] + b"\xa5" * 40 + data[at + 40 :])
        try:
            duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchall()
        except duckdb.Error as error:
            errors.append(error)
    assert any("Variable-length int" in str(error) for error in errors)
    assert [str(error) for error in errors if in_words(error) is None] == []


def test_a_zone_that_duckdb_does_not_know_is_named() -> None:
    with pytest.raises(duckdb.Error) as caught:
        duckdb.sql("SELECT timezone('Europe/Atlantis', TIMESTAMP '2026-01-01')").fetchall()
    said = in_words(caught.value)
    assert said is not None
    assert "Europe/Atlantis" in said.what
    assert said.where == "time_zone"


def interrupted_query() -> Exception | None:
    """What a query raises into which a signal comes, whose handler raises an error of its own."""

    class PressedError(Exception):
        """Not KeyboardInterrupt, which would end the whole run where the signal meets no query."""

    def press(*_: object) -> None:
        raise PressedError

    before = signal.signal(signal.SIGINT, press)
    signal_soon = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    try:
        with duckdb.connect() as con:
            signal_soon.start()
            con.execute("SELECT hash(CAST(i AS VARCHAR)) FROM range(20000000) AS r(i)").fetchnumpy()
            signal_soon.join()
    except (RuntimeError, PressedError) as error:
        return error
    finally:
        signal.signal(signal.SIGINT, before)
    return None


def test_what_a_signal_makes_of_a_query_is_known_by_what_really_comes() -> None:
    # Between two tasks of a query the handler's own error may come through.
    errors = (interrupted_query() for _ in range(50))
    error = next(error for error in errors if isinstance(error, RuntimeError))
    assert is_interruption(error)
    assert not is_interruption(RuntimeError("other"))


def test_other_errors_are_left_alone() -> None:
    for error in (
        ValueError("No space left on device"),
        duckdb.BinderException("no such column"),
        os_error(errno.ENOENT),
    ):
        assert in_words(error) is None
    # What is in words already stays so.
    assert in_words(LakeError("x")) is None
