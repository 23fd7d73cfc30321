"""`python -m benchmarks`: every stage at full size and at a tenth of it, beside a plain scan of the same columns.

The stages run on a generated organisation (benchmarks/feeds.py), each in its own process. A scan by DuckDB of the
columns that a stage needs runs just before and just after it, on the same files and with the same limits, so that a
ratio compares times of the same minutes of the same machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.feeds import Size, write_settings
from benchmarks.processes import Measurement
from benchmarks.stages import STAGES, run_in_process

MOST_TIMES_AS_LONG = 12
MOST_MB = 4000


@dataclass(frozen=True)
class StageFigures:
    """A stage and the mean of the scans around it."""

    stage: str
    taken: Measurement
    scan_seconds: float
    scan_cpu_seconds: float


def main() -> int:
    """Measure, print, and say whether the limits hold; 1 when one does not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--attempts", type=int, default=10_000_000, help="run attempts at full size")
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where files are written")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    chosen = parser.parse_args()
    size = Size(chosen.attempts, chosen.services)
    print(
        f"Quarterdeck at scale: {size.services} services, seed {chosen.seed}; Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    )
    tenth = _measure(size.tenth, chosen.out, chosen.seed, chosen.keep)
    whole = _measure(size, chosen.out, chosen.seed, chosen.keep)
    return _verdict(size, tenth, whole)


def _measure(size: Size, out: Path, seed: int, keep: bool) -> list[StageFigures]:
    """Generate an organisation and run every stage on it once."""
    folder = out.resolve() / f"attempts-{size.attempts}"
    shutil.rmtree(folder, ignore_errors=True)
    settings_file = write_settings(folder, size)
    try:
        _say(f"generating {size.attempts:,} run attempts")
        made = run_in_process("generate", settings_file, str(size.attempts), str(size.services), str(seed))
        feed_mb = sum(path.stat().st_size for path in folder.glob("feeds/*/*.parquet")) / 1e6
        print(
            f"\n{size.attempts:,} run attempts: {made.result['rows']:,} records in {feed_mb:,.0f} MB of Parquet, "
            f"generated in {made.seconds:.0f} s"
        )
        print("  " + ", ".join(f"{name} {rows:,}" for name, rows in made.result["entities"].items()))
        print(
            f"{'stage':<8} {'seconds':>9} {'CPU s':>9} {'peak MB':>9} {'rows':>12} {'scan s':>8} {'ratio':>7} "
            f"{'CPU ratio':>10}"
        )
        figures = [_stage(stage, settings_file) for stage in STAGES]
        landed = figures[0].taken.result
        if landed["refused"] or landed["rows"] != made.result["rows"]:
            raise RuntimeError(f"of {made.result['rows']:,} clean records, these landed: {landed}")
        return figures
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _stage(stage: str, settings_file: Path) -> StageFigures:
    before = _scan(stage, settings_file)
    _say(f"running {stage}")
    taken = run_in_process(stage, settings_file)
    after = _scan(stage, settings_file)
    figures = StageFigures(
        stage, taken, (before.seconds + after.seconds) / 2, (before.cpu_seconds + after.cpu_seconds) / 2
    )
    print(
        f"{stage:<8} {taken.seconds:>9,.1f} {taken.cpu_seconds:>9,.1f} {taken.peak_mb:>9,.0f} "
        f"{taken.result['rows']:>12,} {figures.scan_seconds:>8,.2f} {taken.seconds / figures.scan_seconds:>7,.1f} "
        f"{taken.cpu_seconds / figures.scan_cpu_seconds:>10,.1f}",
        flush=True,
    )
    return figures


def _scan(stage: str, settings_file: Path) -> Measurement:
    _say(f"scanning what {stage} needs")
    return run_in_process("scan", settings_file, stage)


def _verdict(size: Size, tenth: list[StageFigures], whole: list[StageFigures]) -> int:
    print()
    long, short = (sum(figures.taken.seconds for figures in all_stages) for all_stages in (whole, tenth))
    long_cpu, short_cpu = (sum(figures.taken.cpu_seconds for figures in all_stages) for all_stages in (whole, tenth))
    peak = max(whole, key=lambda figures: figures.taken.peak_mb)
    checks = [
        (
            long <= MOST_TIMES_AS_LONG * short,
            f"ten times the data took {long / short:.1f} times the time ({long:,.0f} s against {short:,.0f} s; "
            f"CPU {long_cpu / short_cpu:.1f} times); at most {MOST_TIMES_AS_LONG}",
        ),
        (
            peak.taken.peak_mb < MOST_MB,
            f"{size.attempts:,} run attempts peaked at {peak.taken.peak_mb:,.0f} MB, in {peak.stage}; "
            f"under {MOST_MB:,}",
        ),
    ]
    for passed, words in checks:
        print(f"{'PASS' if passed else 'FAIL'}  {words}")
    return 0 if all(passed for passed, _ in checks) else 1


def _say(text: str) -> None:
    print(f"benchmarks: {text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
