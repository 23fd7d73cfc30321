"""Many bundles are judged on all cores, and the rows are the same as in one process."""

from __future__ import annotations

import hashlib
import os

import pytest

from analytics.sample.signing import TrustRoot
from analytics.supply_chain import side_by_side
from analytics.supply_chain.side_by_side import Input, judge_inputs
from analytics.supply_chain.trusted_roots import TrustedRoot, read_trusted_roots
from benchmarks.shipped import bundles

COUNT = 250


@pytest.fixture(scope="module")
def signer() -> TrustRoot:
    return TrustRoot.from_seed(5, "Side by side")


@pytest.fixture(scope="module")
def roots(signer: TrustRoot) -> tuple[TrustedRoot, ...]:
    return read_trusted_roots(signer.trusted_root_json(), "root.json")


@pytest.fixture(scope="module")
def inputs(signer: TrustRoot) -> list[Input]:
    signed: list[Input] = [(hashlib.sha256(raw).hexdigest(), raw) for _, raw in bundles(signer, COUNT)]
    return [*signed, ("f" * 64, "it cannot be read"), ("0" * 64, b"no bundle")]


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "FEWEST", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.slow
@pytest.mark.usefixtures("two_processes")
def test_other_processes_judge_as_this_one_does(
    monkeypatch: pytest.MonkeyPatch, inputs: list[Input], roots: tuple[TrustedRoot, ...]
) -> None:
    alone = [side_by_side._judge(one, roots, "hash") for one in inputs]
    monkeypatch.setattr(side_by_side, "_judge", None)  # nothing may be judged here
    assert list(judge_inputs(iter(inputs), roots, "hash", len(inputs))) == alone
    assert [was_read for was_read, _, _ in alone].count(False) == 1
    assert {row["verdict"] for _, rows, _ in alone for row in rows} == {
        "VERIFIED",
        "ERROR_FETCH",
        "UNSUPPORTED_NOT_A_BUNDLE",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("two_processes")
def test_where_processes_end_the_work_goes_on_in_this_one(
    monkeypatch: pytest.MonkeyPatch, inputs: list[Input], roots: tuple[TrustedRoot, ...]
) -> None:
    monkeypatch.setattr(side_by_side, "_begin", os._exit)
    found = list(judge_inputs(iter(inputs), (), 1, len(inputs)))  # type: ignore[arg-type] # the exit code that ends them
    assert len(found) == len(inputs)


def test_a_few_are_judged_without_other_processes(
    monkeypatch: pytest.MonkeyPatch, inputs: list[Input], roots: tuple[TrustedRoot, ...]
) -> None:
    monkeypatch.setattr(side_by_side, "ProcessPoolExecutor", None)
    assert len(list(judge_inputs(inputs[:3], roots, "hash", 3))) == 3
