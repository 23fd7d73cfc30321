"""`python -m benchmarks.daily`: one more day of facts against the time that everything took, in one run.

An organisation is pulled, built and measured, each in a process of its own, and then once more with one day's records
and a cut-off a day later. What that leaves in the lake must be what everything made anew leaves. Source: metrics.md
section 1 (a late event recomputes the chain from the earliest change on), architecture.md section 4.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb

from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation
from analytics.settings import load_settings
from benchmarks.feeds import Size, write_feeds, write_settings
from benchmarks.stages import STAGES, run_in_process

MOST = 0.1
# The day whose records come later, and what dates a record.
DAY, NEXT = "2026-09-26", "2026-09-27"
DATED_BY = {
    "commits": "committed_at",
    "pull_requests": "merged_at",
    "deployments": "finished_at",
    "incidents": "opened_at",
    "pipeline_runs": "created_at",
    "pipeline_jobs": "created_at",
}
# What stages say of themselves: when, and from where on.
OWN = ("build_note", "build_inputs", "measure_inputs", "measured_from", "restatements", "verification")


@dataclass(frozen=True)
class Organisation(Size):
    """As many commits, deployments and incidents as are asked for."""

    links: int = 0
    deployed: int = 0
    broken: int = 0

    @property
    def commits(self) -> int:
        """Commits, of which nearly all are linked to a deployment."""
        return self.links

    @property
    def deployments(self) -> int:
        """Deployments to production."""
        return self.deployed

    @property
    def incidents(self) -> int:
        """Incidents."""
        return self.broken


def main() -> int:
    """Measure, print, and say whether the limit holds; 1 when it does not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daily", description=__doc__)
    parser.add_argument("--commits", type=int, default=1_000_000)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where files are written")
    chosen = parser.parse_args()
    size = Organisation(
        chosen.commits // 10,
        chosen.services,
        links=chosen.commits,
        deployed=chosen.commits // 5,
        broken=chosen.commits // 50,
    )
    folder = chosen.out.resolve() / "daily"
    shutil.rmtree(folder, ignore_errors=True)
    settings_file = write_settings(folder, size)
    write_feeds(folder, size, chosen.seed)
    _set_now(settings_file, DAY)
    held_back = _hold_back(folder)
    print(f"{size.services} services; load {os.getloadavg()[0]:.1f} at the start")
    whole = _run("everything", settings_file)
    for path in held_back:
        path.rename(folder / "feeds" / path.parent.name / path.name)
    _set_now(settings_file, NEXT)
    day = _run("one more day", settings_file)
    other = folder / "anew"
    other.mkdir()
    for name in ("quarterdeck.yaml", "catalog.yaml"):
        shutil.copy(folder / name, other / name)
    (other / "feeds").symlink_to(folder / "feeds")
    shutil.copytree(folder / "storage" / "landing", other / "storage" / "landing")
    for stage in ("build", "measure"):
        run_in_process(stage, other / "quarterdeck.yaml")
    differing = _differing(settings_file, other / "quarterdeck.yaml")
    ratio, cpu_ratio = day[0] / whole[0], day[1] / whole[1]
    checks = [
        (ratio < MOST, f"one more day took {ratio:.3f} of the whole time (CPU {cpu_ratio:.3f}); under {MOST}"),
        (not differing, f"tables that differ from those made anew: {', '.join(differing) or 'none'}"),
    ]
    for passed, words in checks:
        print(f"{'PASS' if passed else 'FAIL'}  {words}")
    return 0 if all(passed for passed, _ in checks) else 1


def _set_now(settings_file: Path, day: str) -> None:
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    settings["now"] = f"{day}T00:00:00Z"
    settings_file.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _hold_back(folder: Path) -> list[Path]:
    """Cut the feeds at the day, and write the day's records where they are not read yet."""
    held_back = []
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for entity, at in DATED_BY.items():
            feeds = folder / "feeds" / entity
            late = folder / "held back" / entity / "99.parquet"
            late.parent.mkdir(parents=True)
            con.execute(
                f"COPY (SELECT * FROM read_parquet('{feeds}/*.parquet') WHERE {at} >= TIMESTAMPTZ '{DAY} 00:00:00+00' "
                f"AND {at} < TIMESTAMPTZ '{NEXT} 00:00:00+00') TO '{late}' (FORMAT parquet)"
            )
            held_back.append(late)
            for file in sorted(feeds.glob("*.parquet")):
                cut = file.with_suffix(".cut")
                con.execute(
                    f"COPY (SELECT * FROM read_parquet('{file}') WHERE {at} < TIMESTAMPTZ '{DAY} 00:00:00+00') "
                    f"TO '{cut}' (FORMAT parquet)"
                )
                cut.replace(file)
    return held_back


def _run(what: str, settings_file: Path) -> tuple[float, float]:
    """Run every stage once; seconds and CPU seconds of all together."""
    seconds = cpu_seconds = 0.0
    print(f"{what:<14} {'seconds':>9} {'CPU s':>9} {'peak MB':>9} {'rows':>12}")
    for stage in STAGES:
        taken = run_in_process(stage, settings_file)
        seconds, cpu_seconds = seconds + taken.seconds, cpu_seconds + taken.cpu_seconds
        print(
            f"  {stage:<12} {taken.seconds:>9.2f} {taken.cpu_seconds:>9.2f} {taken.peak_mb:>9,.0f} "
            f"{taken.result['rows']:>12,}",
            flush=True,
        )
    return seconds, cpu_seconds


def _differing(one: Path, other: Path) -> list[str]:
    """Tables whose rows are not the same in both lakes."""
    here, there = load_settings(one), load_settings(other)
    found = []
    with duckdb.connect() as con:
        for name in TABLES:
            if name not in OWN:
                a, b = lake_relation(here, name), lake_relation(there, name)
                rows = con.execute(
                    f"SELECT count(*) FROM ((SELECT * FROM {a} EXCEPT ALL SELECT * FROM {b}) UNION ALL "
                    f"(SELECT * FROM {b} EXCEPT ALL SELECT * FROM {a}))"
                ).fetchall()
                if rows != [(0,)]:
                    found.append(name)
    return found


if __name__ == "__main__":
    sys.exit(main())
