"""`python -m benchmarks.engines`: the same questions on DuckDB, Polars, Spark, and a bare scan, in one interleaved run.

A generated organisation becomes a lake: typed tables, then the facts by the product's own steps, each in a process of
its own. Then every engine answers the registry's delivery and pipeline queries once a round, in an order that rotates,
so that ratios compare times of the same minutes of the same machine. Answers must be equal.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from analytics.settings import load_settings
from benchmarks.answers import ENGINES, REFERENCE, asked
from benchmarks.feeds import Size, write_settings
from benchmarks.lake import lake_bytes
from benchmarks.processes import Measurement, run_module
from benchmarks.questions import KEYS, Question, questions
from benchmarks.stages import run_in_process

SCAN = "bare scan"
STEPS = ("typed tables", "runs", "ownership", "publish")
# Of the steps that derive facts, at any size.
MOST_MB = 8000
TOLERANCE = 1e-9


@dataclass
class Timings:
    """What an engine took, one entry a round."""

    runs: list[Measurement] = field(default_factory=list)

    def start(self) -> tuple[float, float]:
        """Median wall and CPU seconds until the engine could be asked."""
        return median(self._starts(0)), median(self._starts(1))

    def totals(self, of: Iterable[str], what: int) -> list[float]:
        """Seconds of all these questions, wall (0) or CPU (1), by round."""
        names = list(of)
        return [sum(run.result["questions"][name][what] for name in names) for run in self.runs]

    def question(self, name: str, what: int) -> float:
        """Median seconds of one question."""
        return float(median(run.result["questions"][name][what] for run in self.runs))

    def _starts(self, what: int) -> list[float]:
        return [run.result["start"][what] for run in self.runs]


def main() -> int:
    """Measure, compare, print; 1 when answers differ or a step needs more memory than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000, help="run attempts")
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--engines",
        default=",".join(ENGINES),
        help=f"which to ask, with commas; a word is enough (default: {', '.join(ENGINES)}; none: only the steps)",
    )
    parser.add_argument("--measure", action="store_true", help="run the stage measure on the lake, too")
    parser.add_argument("--memory", default="2GB", help="memory_limit of the settings")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where files are written")
    parser.add_argument("--keep", action="store_true", help="keep the files, and use them when they are there")
    chosen = parser.parse_args()
    size = Size(chosen.attempts, chosen.services)
    engines = _chosen(parser, chosen.engines)
    print(
        f"{size.attempts:,} run attempts of {size.services} services, seed {chosen.seed}; Python "
        f"{platform.python_version()}, DuckDB {version('duckdb')}, Polars {version('polars')}, PySpark "
        f"{version('pyspark')}; memory_limit {chosen.memory}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at "
        "the start"
    )
    folder = chosen.out.resolve() / f"engines-{size.attempts}-{size.services}-{chosen.seed}"
    try:
        settings_file = folder / "quarterdeck.yaml"
        checks = []
        if not (chosen.keep and (folder / "derived").exists()):
            shutil.rmtree(folder, ignore_errors=True)
            write_settings(folder, size, chosen.memory)
            steps = (*STEPS, "measure") if chosen.measure else STEPS
            checks += _derive(settings_file, size, chosen.seed, steps)
            (folder / "derived").touch()
        if engines:
            checks += _compare(settings_file, engines, chosen.rounds)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print()
    for passed, words in checks:
        print(f"{'PASS' if passed else 'FAIL'}  {words}")
    return 0 if all(passed for passed, _ in checks) else 1


def _chosen(parser: argparse.ArgumentParser, words: str) -> list[str]:
    """The engines that were asked for, the bare scan and the reference among them."""
    wanted = [word.strip().lower() for word in words.replace("DuckDB, ", "").split(",") if word.strip()]
    if wanted in ([], ["none"]):
        return []
    for word in wanted:
        if not any(word in engine.lower() for engine in ENGINES):
            parser.error(f"no engine '{word}'; there are {', '.join(ENGINES)}")
    return [e for e in ENGINES if e in (SCAN, REFERENCE) or any(word in e.lower() for word in wanted)]


def _derive(settings_file: Path, size: Size, seed: int, steps: Sequence[str]) -> list[tuple[bool, str]]:
    """Make the lake step by step; says whether each step of facts keeps to its memory."""
    settings = load_settings(settings_file)
    print(f"\n{'step':<14} {'seconds':>9} {'CPU s':>9} {'peak MB':>9} {'rows':>14} {'written MB':>11}")
    checks = []
    for step in steps:
        _say(f"{step} of {size.attempts:,} run attempts")
        words = (str(size.attempts), str(size.services), str(seed)) if step == "typed tables" else ()
        before = lake_bytes(settings)
        taken = run_in_process(step, settings_file, *words)
        written = (
            settings.published_path.stat().st_size if step in ("publish", "measure") else lake_bytes(settings) - before
        )
        print(
            f"{step:<14} {taken.seconds:>9,.1f} {taken.cpu_seconds:>9,.1f} {taken.peak_mb:>9,.0f} "
            f"{taken.result['rows']:>14,} {written / 1e6:>11,.0f}",
            flush=True,
        )
        if step in ("runs", "ownership"):
            words_of = "the flaky step" if step == "runs" else "the ownership step"
            checks.append((taken.peak_mb < MOST_MB, f"{words_of} peaked at {taken.peak_mb:,.0f} MB; under {MOST_MB:,}"))
    return checks


def _compare(settings_file: Path, engines: Sequence[str], rounds: int) -> list[tuple[bool, str]]:
    """Ask every engine in turns and print what it took and whether it agrees."""
    timings = {engine: Timings() for engine in engines}
    answers: dict[str, dict[str, list[list[Any]]]] = {}
    settings = load_settings(settings_file)
    for file in (*settings.lake_dir.rglob("*.parquet"), settings.published_path):
        # Once through the file cache, so that nobody pays for being the first.
        with file.open("rb") as opened:
            while opened.read(1 << 24):
                pass
    for number in range(rounds):
        turn = number % len(engines)
        for engine in (*engines[turn:], *engines[:turn]):
            _say(f"round {number + 1} of {rounds}: {engine}")
            file = settings_file.parent / "answers.json"
            timings[engine].runs.append(run_module("benchmarks.answers", engine, str(settings_file), str(file)))
            answers[engine] = json.loads(file.read_text(encoding="utf-8"))
            file.unlink()
    _print_totals(timings, rounds)
    _print_questions(timings)
    return _print_equality(answers)


def _print_totals(timings: dict[str, Timings], rounds: int) -> None:
    everything = questions()
    print(f"\n{len(everything)} questions, {rounds} rounds in turns; min / median / max over the rounds")
    print(
        f"{'engine':<16} {'questions':>9} {'start s':>8} {'wall s':>22} {'CPU s':>22} {'peak MB':>8} "
        f"{'x scan':>7} {'x Parquet':>9}"
    )
    for engine, timing in timings.items():
        own = [question.name for question in asked(engine)]
        ratios = []
        for base in (SCAN, REFERENCE):
            # Round by round, so that both have met the same minutes.
            pairs = zip(timing.totals(own, 1), timings[base].totals(own, 1), strict=True)
            ratios.append(median(mine / theirs for mine, theirs in pairs))
        print(
            f"{engine:<16} {len(own):>9} {timing.start()[0]:>8.2f} {_spread(timing.totals(own, 0)):>22} "
            f"{_spread(timing.totals(own, 1)):>22} {max(run.peak_mb for run in timing.runs):>8,.0f} "
            f"{ratios[0]:>7.1f} {ratios[1]:>9.2f}"
        )
    print(
        "x: median over the rounds of its CPU seconds by those of the bare scan, of DuckDB on Parquet (same questions)"
    )


def _print_questions(timings: dict[str, Timings]) -> None:
    print(f"\n{'CPU s (median)':<34} " + " ".join(f"{engine:>15}" for engine in timings))
    for question in questions():
        cells = [
            f"{timing.question(question.name, 1):.3f}" if question in asked(engine) else "-"
            for engine, timing in timings.items()
        ]
        print(f"{question.name:<34} " + " ".join(f"{cell:>15}" for cell in cells))


def _print_equality(answers: dict[str, dict[str, list[list[Any]]]]) -> list[tuple[bool, str]]:
    """Per question and engine: rows that are the same as the reference's, and the greatest difference of a float."""
    compared = [engine for engine in answers if engine not in (SCAN, REFERENCE)]
    print(f"\n{'equal to DuckDB on Parquet':<34} {'rows':>8} {'NULLs':>8} " + " ".join(f"{e:>22}" for e in compared))
    failed: Counter[str] = Counter()
    for question in questions():
        expected = answers[REFERENCE][question.name]
        cells = []
        for engine in compared:
            if question not in asked(engine):
                cells.append("-")
                continue
            difference = compare(question, expected, answers[engine][question.name])
            cells.append(difference.words)
            failed[engine] += not difference.equal
        nulls = sum(value is None for row in expected for value in row)
        print(f"{question.name:<34} {len(expected):>8,} {nulls:>8,} " + " ".join(f"{cell:>22}" for cell in cells))
    return [
        (
            not failed[engine],
            f"{engine}: {len(asked(engine)) - failed[engine]} of {len(asked(engine))} answers equal those of DuckDB on "
            f"Parquet (counts and NULLs exact, floats to {TOLERANCE:g})",
        )
        for engine in compared
    ]


@dataclass(frozen=True)
class Difference:
    """How two answers to one question compare."""

    equal: bool
    words: str


def compare(question: Question, expected: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]) -> Difference:
    """Hold an answer against another, both sorted by their keys: counts and NULLs exact, floats to the tolerance."""
    width = len(KEYS)
    if [row[:width] for row in expected] != [row[:width] for row in found]:
        return Difference(False, f"{len(found):,} rows, other keys")
    greatest = 0.0
    for mine, theirs in zip(expected, found, strict=True):
        for name, a, b in zip((*KEYS, *question.columns), mine, theirs, strict=True):
            if isinstance(a, float) and isinstance(b, float):
                greatest = max(greatest, abs(a - b) / max(abs(a), 1.0))
                if not math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                    return Difference(False, f"{name} off by {abs(a - b):.3g}")
            elif a != b or type(a) is not type(b):
                return Difference(False, f"{name}: {b} for {a}")
    return Difference(True, "equal" if greatest == 0 else f"equal to {greatest:.0e}")


def _spread(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in (min(values), median(values), max(values)))


def _say(text: str) -> None:
    print(f"benchmarks: {text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
