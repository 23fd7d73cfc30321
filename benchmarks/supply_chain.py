"""`python -m benchmarks.supply_chain`: bundles beside bare sigstore-python calls, SBOMs, and what a second run costs.

Bundles are verified by the library alone and judged by the stage's own code in turns, some at a time, in one process,
so that a ratio compares times of the same minutes of the same machine. Then the stage runs as a whole, each run in a
process of its own, so that its peak memory is its own. Judging on all cores is held against the clock; what is one
thread's work is held against CPU seconds, which are wall seconds on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analytics.sample.signing import GITHUB_ISSUER
from benchmarks.processes import Measurement, cpu_seconds
from benchmarks.shipped import bundles, sbom, trust_root, write_organisation
from benchmarks.stages import run_in_process

MOST_TIMES_AS_LONG = 1.3
MOST_SHARE_OF_SECOND_RUN = 0.02
MOST_SECONDS_FOR_SBOMS = 60
MOST_MB = 1_500
_AT_ONCE = 50


@dataclass
class Spent:
    """Wall and CPU seconds of one side."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, work: Callable[[], object]) -> None:
        """Time a piece of work."""
        began, cpu_began = time.perf_counter(), cpu_seconds()
        work()
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += cpu_seconds() - cpu_began


def main() -> int:
    """Measure, print, and say whether the limits hold; 1 when one does not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.supply_chain", description=__doc__)
    parser.add_argument("--bundles", type=int, default=10_000)
    parser.add_argument("--sboms", type=int, default=1_000, help="documents that are judged and read by themselves")
    parser.add_argument("--described", type=int, default=2_000, help="deployed artifacts with an SBOM")
    parser.add_argument("--components", type=int, default=500, help="components of each SBOM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where files are written")
    chosen = parser.parse_args()
    print(
        f"Supply chain: seed {chosen.seed}; Python {platform.python_version()}, sigstore-python {version('sigstore')}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    )
    checks = [_bundles(chosen.bundles, chosen.seed), _sboms(chosen.sboms, chosen.components)]
    checks += _stage(chosen.out.resolve() / "attested", chosen.seed, chosen.bundles, 0, chosen.components)
    checks += _stage(chosen.out.resolve() / "described", chosen.seed, 0, chosen.described, chosen.components)
    print()
    for passed, words in checks:
        print(f"{'PASS' if passed else 'FAIL'}  {words}")
    return 0 if all(passed for passed, _ in checks) else 1


def _bundles(count: int, seed: int) -> tuple[bool, str]:
    """The library's calls and the stage's judging, in turns on the same bundles."""
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier
    from sigstore.verify.policy import OIDCIssuerV2
    from sigstore_models.trustroot.v1 import TrustedRoot as TrustedRootModel

    from analytics.supply_chain.judging import judged_rows, roots_sha256
    from analytics.supply_chain.side_by_side import Input, judge_inputs
    from analytics.supply_chain.trusted_roots import read_trusted_roots

    root = trust_root(seed)
    raw_root = root.trusted_root_json()
    verifier = Verifier(trusted_root=TrustedRoot(TrustedRootModel.from_json(raw_root)))
    anyone = OIDCIssuerV2(GITHUB_ISSUER)
    roots = read_trusted_roots(raw_root, "benchmark")
    roots_hash = roots_sha256(roots)
    bare, ours = Spent(), Spent()
    _say(f"signing {count:,} bundles")
    signed = [raw for _, raw in bundles(root, count)]

    def by_library(chunk: Sequence[bytes]) -> None:
        for raw in chunk:
            verifier.verify_dsse(Bundle.from_json(raw), anyone)

    def by_stage(chunk: Sequence[bytes]) -> None:
        for raw in chunk:
            (row,), _ = judged_rows(hashlib.sha256(raw).hexdigest(), raw, roots, roots_hash)
            if row["verdict"] != "VERIFIED":
                raise RuntimeError(row["reason"])

    def on_all_cores(half: Sequence[Input]) -> None:
        deque(judge_inputs(half, roots, roots_hash, len(half)), maxlen=0)

    _say("verifying them")
    # Both are warm before they are timed.
    by_library(signed[:_AT_ONCE])
    by_stage(signed[:_AT_ONCE])
    for number, first in enumerate(range(0, count, _AT_ONCE)):
        chunk = signed[first : first + _AT_ONCE]
        turns = [(bare, by_library), (ours, by_stage)]
        for spent, work in turns if number % 2 else reversed(turns):
            spent.add(partial(work, chunk))
    # As the stage does it: in as many processes as there are cores, their start included; before and after the library.
    _say("verifying them on all cores")
    inputs: list[Input] = [(hashlib.sha256(raw).hexdigest(), raw) for raw in signed]
    whole, alone = Spent(), Spent()
    for number in range(2):
        first, end = number * count // 2, (number + 1) * count // 2
        sides: list[tuple[Spent, Callable[[], object]]] = [
            (alone, partial(by_library, signed[first:end])),
            (whole, partial(on_all_cores, inputs[first:end])),
        ]
        for spent, run in sides if number else reversed(sides):
            spent.add(run)
    each = sum(map(len, signed)) / count / 1e3
    print(f"\n{count:,} bundles of {each:.0f} KB; first in turns of {_AT_ONCE}, then in halves")
    print(f"{'':<28} {'seconds':>9} {'CPU s':>9} {'ms each':>9}")
    for name, spent in (
        ("bare sigstore-python", bare),
        ("judged in one process", ours),
        ("bare sigstore-python", alone),
        ("judged by the stage", whole),
    ):
        print(f"{name:<28} {spent.seconds:>9.1f} {spent.cpu_seconds:>9.1f} {spent.seconds / count * 1e3:>9.2f}")
    ratio, cpu_ratio = whole.seconds / alone.seconds, ours.cpu_seconds / bare.cpu_seconds
    return (
        ratio <= MOST_TIMES_AS_LONG,
        f"judging {count:,} bundles took {ratio:.2f} times as long as bare sigstore-python calls "
        f"(in one process {cpu_ratio:.2f} times their CPU time); at most {MOST_TIMES_AS_LONG}",
    )


def _sboms(count: int, components: int) -> tuple[bool, str]:
    """Documents judged against their schema and read, with completeness and the rows of their components."""
    from analytics.supply_chain.sbom_reading import sbom_rows

    _say(f"reading {count:,} SBOMs")
    spent = Spent()
    size = rows = 0

    def read(raw: bytes) -> None:
        nonlocal rows
        row, found = sbom_rows(hashlib.sha256(raw).hexdigest(), raw, "file")
        rows += sum(1 for _ in found)
        if row["verdict"] != "SCHEMA_VALID":
            raise RuntimeError(row["reason"])

    for number in range(count):
        raw = json.dumps(sbom(number, components)).encode()
        size += len(raw)
        spent.add(lambda raw=raw: read(raw))  # type: ignore[misc]
    print(
        f"\n{count:,} SBOMs of {components:,} components ({size / count / 1e3:.0f} KB each): {spent.seconds:.1f} s, "
        f"CPU {spent.cpu_seconds:.1f} s, {rows:,} components"
    )
    return (
        spent.cpu_seconds < MOST_SECONDS_FOR_SBOMS,
        f"{count:,} SBOMs were validated and read in {spent.cpu_seconds:.1f} CPU seconds; "
        f"under {MOST_SECONDS_FOR_SBOMS}",
    )


def _stage(folder: Path, seed: int, attested: int, described: int, components: int) -> list[tuple[bool, str]]:
    """The stage on an organisation, and once more when everything is known."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _say(f"writing an organisation with {attested:,} bundles and {described:,} SBOMs")
        settings = write_organisation(folder, seed, attested=attested, described=described, components=components)
        for stage in ("pull", "build"):
            _say(f"running {stage}")
            run_in_process(stage, settings)
        runs: list[Measurement] = []
        for words in ("verify", "verify again"):
            _say(f"running {words}")
            runs.append(run_in_process("verify", settings))
        first, second = runs
        what = f"{attested:,} bundles" if attested else f"{described:,} SBOMs of {components:,} components"
        print(f"\nverify on {what}")
        print(f"{'':<28} {'seconds':>9} {'CPU s':>9} {'peak MB':>9}")
        for name, run in (("everything is new", first), ("everything is known", second)):
            print(f"{name:<28} {run.seconds:>9.1f} {run.cpu_seconds:>9.1f} {run.peak_mb:>9.0f}  {_counts(run.result)}")
        checks = [
            (
                max(first.peak_mb, second.peak_mb) < MOST_MB,
                f"verify on {what} peaked at {max(first.peak_mb, second.peak_mb):,.0f} MB; under {MOST_MB:,}",
            )
        ]
        if attested:
            share = second.cpu_seconds / first.cpu_seconds
            checks.append(
                (
                    share < MOST_SHARE_OF_SECOND_RUN,
                    f"a run in which all {attested:,} bundles are known took {share:.1%} of the first one's CPU time "
                    f"({second.seconds / first.seconds:.1%} of the wall time); under {MOST_SHARE_OF_SECOND_RUN:.0%}",
                )
            )
        return checks
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _counts(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in result.items())


def _say(text: str) -> None:
    print(f"benchmarks: {text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
