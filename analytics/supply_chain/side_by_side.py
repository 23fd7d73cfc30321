"""Judges many bundles on all cores; a few are judged where they are, since starting processes takes a second.

A judgement depends on a bundle's bytes, the trusted roots and the verifier alone, so that it does not matter where it
is made. Source: supply-chain.md section 1 (cryptography once per bundle).
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from analytics.supply_chain.judging import Row, judged_rows, unread_row
from analytics.supply_chain.trusted_roots import TrustedRoot

# Fewer are judged in about the time in which processes would start.
FEWEST = 2_000
# Each holds the verifying libraries, some 100 MB.
MOST_PROCESSES = 8
_AT_ONCE = 100

# The hash of an input with its bytes, or with words where it cannot be read.
Input = tuple[str, bytes | str]
# Whether an input could be read, its rows of `attestation_judgements`, and the SBOMs that it attests, as (hash, bytes).
Judged = tuple[bool, list[Row], list[tuple[str, bytes]]]

_given: tuple[Sequence[TrustedRoot], str] | None = None


def judge_inputs(
    inputs: Iterable[Input], roots: Sequence[TrustedRoot], roots_hash: str, count: int
) -> Iterator[Judged]:
    """The judgements of inputs in their order; `count` is how many there are.

    Where other processes cannot be started or are ended (too little memory, say), the work is done in this one.
    """
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    if count < FEWEST or processes < 2:
        for one in inputs:
            yield _judge(one, roots, roots_hash)
        return
    # Not forked: other threads of this process, DuckDB's among them, would not exist in the copy.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (tuple(roots), roots_hash))
    waiting: deque[tuple[list[Input], Future[list[Judged]] | None]] = deque()
    remaining = iter(inputs)
    try:
        while chunk := list(islice(remaining, _AT_ONCE)):
            waiting.append((chunk, _submitted(pool, chunk)))
            # No more than the processes are busy with are held in memory.
            if len(waiting) > 2 * processes:
                yield from _finished(*waiting.popleft(), roots, roots_hash)
        while waiting:
            yield from _finished(*waiting.popleft(), roots, roots_hash)
    finally:
        pool.shutdown(cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, chunk: list[Input]) -> Future[list[Judged]] | None:
    try:
        return pool.submit(_judge_chunk, chunk)
    except BrokenProcessPool:
        return None


def _finished(
    chunk: list[Input], future: Future[list[Judged]] | None, roots: Sequence[TrustedRoot], roots_hash: str
) -> list[Judged]:
    try:
        if future is not None:
            return future.result()
    except BrokenProcessPool:
        pass
    return [_judge(one, roots, roots_hash) for one in chunk]


def _begin(roots: Sequence[TrustedRoot], roots_hash: str) -> None:
    global _given
    _given = roots, roots_hash


def _judge_chunk(chunk: list[Input]) -> list[Judged]:
    assert _given is not None
    return [_judge(one, *_given) for one in chunk]


def _judge(one: Input, roots: Sequence[TrustedRoot], roots_hash: str) -> Judged:
    sha256, raw = one
    if isinstance(raw, str):
        return False, [unread_row(sha256, roots_hash, raw)], []
    return True, *judged_rows(sha256, raw, roots, roots_hash)
