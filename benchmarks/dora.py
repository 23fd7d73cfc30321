"""`python -m benchmarks.dora`: the four DORA metrics of every scope and quarter beside a DuckDB script written by hand.

Both read the same Parquet files of one lake, with the same limits of memory and threads, each in a process of its own
and timed without its imports; they take turns, and the medians of a few turns are compared. Both end with a Parquet
file of rows for every service, team and the organisation in every quarter, and both must say the same n and, to
1e-9, the same value.

The script is what somebody who knows DuckDB would write to have these numbers once: views on the files, one pass with
grouping sets per metric, Kaplan and Meier's median by window functions. It knows that every service has one team, that
nothing is missing and which rows count. The product is asked for the same metrics by its own code path: from opening
the lake to finished rows of `metric_values`, each with its 95 % interval, its covered days, how many rows were left out
for which reason, why a value is undefined, and a reading, the test against the quarter before. All of that is on the
product's side of the verdict; beside it stands the time without the readings. Not in either are other metrics,
restatements and the published database: none of them is needed for these four.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import numpy as np

from analytics.change_tests import Changes
from analytics.engine import connect
from analytics.lake.tables import lake_relation
from analytics.settings import Settings, load_settings
from benchmarks.feeds import Size, write_feeds, write_settings
from benchmarks.processes import Measurement, report, run_module
from benchmarks.stages import run_in_process

MOST_TIMES_AS_LONG = 2.0
TURNS = 5
METRICS = (
    "deployment_frequency",
    "change_lead_time",
    "change_fail_rate",
    "failed_deployment_recovery_time",
)
PARTS = ("script", "product", "values")


@dataclass(frozen=True)
class DeliverySize(Size):
    """An organisation by its pull-request commits; runs are few, because no DORA metric reads them."""

    commits_asked: int = 1_000_000

    @property
    def commits(self) -> int:
        """As many as asked for."""
        return self.commits_asked

    @property
    def deployments(self) -> int:
        """One for five commits."""
        return self.commits_asked // 5

    @property
    def incidents(self) -> int:
        """One for ten deployments."""
        return self.deployments // 10


# Who belongs to whom, and the days on which anything of a scope was live and collected.
_SCOPES = """
CREATE TEMP TABLE service AS SELECT service, team, since FROM {services};
CREATE TEMP TABLE scope AS
SELECT CASE WHEN grouping(service) = 0 THEN 'service' WHEN grouping(team) = 0 THEN 'team' ELSE 'organization' END
       AS scope,
       coalesce(service, team, (SELECT value FROM {snapshot} WHERE key = 'organization')) AS name,
       service, team, bool_or(since IS NULL) AS always, min(since) AS since
FROM service GROUP BY GROUPING SETS ((service), (team), ()) HAVING NOT (grouping(team) = 0 AND team IS NULL);
CREATE TEMP TABLE day AS SELECT day, quarter FROM {calendar};
CREATE TEMP TABLE quarter AS SELECT quarter, min(day) AS first_day, max(day) AS last_day FROM day
WHERE day >= (SELECT min(day) FROM {service_deployments}) - INTERVAL 100 DAYS GROUP BY quarter
HAVING last_day >= (SELECT min(day) FROM {service_deployments}) AND first_day <= DATE '{today}';
CREATE TEMP TABLE cell AS
SELECT scope.*, quarter.quarter, greatest(0, 1 + date_diff('day',
           CASE WHEN always THEN first_day ELSE greatest(first_day, since) END,
           least(last_day, DATE '{today}'))) AS days
FROM scope CROSS JOIN quarter;
"""
_SETS = "GROUPING SETS ((quarter, service), (quarter, team), (quarter))"
# Every deployment that counts, once: three of the metrics read it.
_DEPLOYMENTS = """
CREATE TEMP TABLE deployed AS
SELECT day.quarter, d.service, s.team, d.outcome = 'success' AS succeeded, d.day >= coalesce(s.since, d.day) AS live,
       d.counts_as_failed_attempt, d.failed, d.recovery_excluded, d.recovery_open, d.recovery_us,
       epoch_us(TIMESTAMP '{now}') - epoch_us(coalesce(d.finished_at, d.created_at)) AS open_us
FROM {service_deployments} AS d JOIN service AS s USING (service) JOIN day USING (day);
CREATE TEMP TABLE counted AS
SELECT quarter, service, team, count(*) FILTER (WHERE succeeded AND live) AS deployments,
       count(*) FILTER (WHERE succeeded AND NOT counts_as_failed_attempt) AS changes,
       count(*) FILTER (WHERE succeeded AND failed AND NOT counts_as_failed_attempt) AS failures
FROM deployed GROUP BY {sets};
"""
_LEAD = """
CREATE TEMP TABLE lead AS
SELECT quarter, service, team, quantile_cont(lead_us, 0.5) / 3.6e9 AS all_hours, count(*) AS all_n,
       quantile_cont(lead_us, 0.5) FILTER (WHERE NOT is_bot) / 3.6e9 AS human_hours,
       count(*) FILTER (WHERE NOT is_bot) AS human_n
FROM (SELECT day.quarter, l.service, s.team, l.lead_us, l.is_bot
      FROM {change_lead} AS l JOIN service AS s USING (service) JOIN day USING (day) WHERE l.excluded IS NULL)
GROUP BY {sets};
"""
_RECOVERY = """
CREATE TEMP TABLE recovery AS
WITH ends AS (
    SELECT quarter, service, team, CASE WHEN recovery_open THEN open_us ELSE recovery_us END AS us,
           count(*) FILTER (WHERE NOT recovery_open) AS ended, count(*) AS leaving
    FROM deployed WHERE failed AND recovery_excluded IS NULL
    GROUP BY GROUPING SETS ((quarter, service, us), (quarter, team, us), (quarter, us))
), risks AS (
    SELECT *, sum(leaving) OVER (PARTITION BY quarter, service, team ORDER BY us DESC) AS at_risk FROM ends
), survivals AS (
    SELECT *, sum(CASE WHEN ended = at_risk THEN -1e9 ELSE ln(1 - ended / at_risk) END)
              OVER (PARTITION BY quarter, service, team ORDER BY us) AS log_survival FROM risks
), medians AS (
    SELECT quarter, service, team, min(us) FILTER (WHERE log_survival <= ln(0.5 + 1e-9)) AS us, sum(ended) AS n
    FROM survivals GROUP BY ALL
), plain AS (
    SELECT quarter, service, team, count_if(recovery_open) AS still_open,
           quantile_cont(recovery_us, 0.5) FILTER (WHERE NOT recovery_open) AS us
    FROM deployed WHERE failed AND recovery_excluded IS NULL GROUP BY {sets}
)
SELECT medians.quarter, medians.service, medians.team, n,
       CASE WHEN still_open = 0 THEN plain.us ELSE medians.us END / 3.6e9 AS hours
FROM medians JOIN plain ON plain.quarter = medians.quarter AND plain.service IS NOT DISTINCT FROM medians.service
     AND plain.team IS NOT DISTINCT FROM medians.team;
"""
_HERE = (
    "{0}.quarter = cell.quarter AND {0}.service IS NOT DISTINCT FROM cell.service "
    "AND {0}.team IS NOT DISTINCT FROM cell.team"
)
_ROWS = f"""
SELECT 'deployment_frequency' AS metric, scope, name, cell.quarter, NULL::VARCHAR AS series,
       CASE WHEN days > 0 THEN coalesce(deployments, 0) / days END AS value, coalesce(deployments, 0) AS n
FROM cell LEFT JOIN counted ON {_HERE.format("counted")}
UNION ALL
SELECT 'change_fail_rate', scope, name, cell.quarter, NULL, CASE WHEN changes > 0 THEN failures / changes END,
       coalesce(changes, 0)
FROM cell LEFT JOIN counted ON {_HERE.format("counted")}
UNION ALL
SELECT 'change_lead_time', scope, name, cell.quarter, 'human', human_hours, coalesce(human_n, 0)
FROM cell LEFT JOIN lead ON {_HERE.format("lead")}
UNION ALL
SELECT 'change_lead_time', scope, name, cell.quarter, 'all', all_hours, coalesce(all_n, 0)
FROM cell LEFT JOIN lead ON {_HERE.format("lead")}
UNION ALL
SELECT 'failed_deployment_recovery_time', scope, name, cell.quarter, NULL, hours, coalesce(recovery.n, 0)
FROM cell LEFT JOIN recovery ON {_HERE.format("recovery")}
"""


def script(settings: Settings, out: Path) -> None:
    """The metrics as somebody writes them once, for this lake."""
    tables = ("services", "snapshot", "calendar", "service_deployments", "change_lead")
    read = {name: lake_relation(settings, name) for name in tables}
    today = settings.calendar.local_day(settings.now()).isoformat()
    now = settings.now().astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    with connect(settings) as con:
        for text in (_SCOPES, _DEPLOYMENTS, _LEAD, _RECOVERY):
            con.execute(text.format(**read, sets=_SETS, today=today, now=now))
        con.execute(f"COPY ({_ROWS}) TO '{_literal(out)}' (FORMAT parquet)")


def product(settings: Settings, out: Path) -> None:
    """The metrics as `measure` has them, rows of `metric_values`."""
    from analytics.metrics.measure import measured_quarters, measured_values, open_facts
    from analytics.metrics.registry import BY_NAME

    metrics = [BY_NAME[name] for name in METRICS]
    with open_facts(settings, metrics) as facts:
        quarters = measured_quarters(facts, settings.calendar)
        # DuckDB, which writes the script's file, compresses in this way.
        measured_values(facts, settings.calendar, quarters, metrics).write_parquet(out, compression="snappy")


def values(settings: Settings, out: Path) -> None:
    """As `product`, but nothing is held against the quarter before."""
    from analytics.metrics.measuring import Measuring
    from analytics.metrics.readings import Comparing

    def nothing(_: object, __: object, found: object, ___: object) -> Changes:
        size = found.n.size  # type: ignore[attr-defined]
        return Changes(np.full(size, np.nan), np.zeros(size, dtype=np.int64))

    with (
        mock.patch.object(Comparing, "changes", nothing),
        mock.patch.object(Measuring, "is_clustered", return_value=False),
    ):
        product(settings, out)


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")


def differences(by_hand: Path, measured: Path) -> list[tuple[object, ...]]:
    """Rows that only one side has, whose n differ or whose values differ by more than 1e-9."""
    with duckdb.connect() as con:
        return con.execute(
            f"SELECT * FROM '{_literal(by_hand)}' AS a FULL JOIN "
            f"(SELECT metric, scope, name, quarter, series, value, n FROM '{_literal(measured)}') AS b "
            "ON a.metric = b.metric AND a.scope = b.scope AND a.name = b.name AND a.quarter = b.quarter "
            "AND a.series IS NOT DISTINCT FROM b.series WHERE a.metric IS NULL OR b.metric IS NULL OR a.n <> b.n "
            "OR (a.value IS NULL) <> (b.value IS NULL) OR abs(a.value - b.value) > 1e-9 * greatest(1, abs(a.value)) "
            "LIMIT 20"
        ).fetchall()


def _part(part: str, settings_file: Path, out: Path) -> None:
    """The work of a process; what it imports is not part of its time."""
    for module in ("scipy.special", "scipy.stats", "analytics.metrics.measure"):
        importlib.import_module(module)
    settings = load_settings(settings_file)

    def work() -> dict[str, Any]:
        {"script": script, "product": product, "values": values}[part](settings, out)
        return {}

    report(work)


def main() -> int:
    """Measure, print, and say whether the limit holds; 1 when it does not, or when a value differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dora", description=__doc__)
    parser.add_argument("--commits", type=int, default=1_000_000)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--settings", type=Path, help="a lake that is built already")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where files are written")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        _part(chosen.part, chosen.settings, chosen.out)
        return 0
    folder = chosen.out.resolve() / f"commits-{chosen.commits}"
    shutil.rmtree(folder, ignore_errors=True)
    with ExitStack() as left_behind:
        left_behind.callback(shutil.rmtree, folder, ignore_errors=True)
        settings_file = chosen.settings
        if settings_file is None:
            size = DeliverySize(chosen.commits // 10, chosen.services, chosen.commits)
            settings_file = write_settings(folder, size)
            write_feeds(folder, size, chosen.seed)
            for stage in ("pull", "build"):
                run_in_process(stage, settings_file)
        folder.mkdir(parents=True, exist_ok=True)
        return _compare(settings_file.resolve(), folder, chosen.turns)


def _compare(settings_file: Path, folder: Path, turns: int) -> int:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, {turns} turns each")
    taken: dict[str, list[Measurement]] = {part: [] for part in PARTS}
    for _ in range(turns):
        for part in PARTS:
            out = folder / f"{part}.parquet"
            words = ("--part", part, "--settings", str(settings_file), "--out", str(out))
            taken[part].append(run_module("benchmarks.dora", *words))
    names = {"script": "written by hand", "product": "the product", "values": "the same without readings"}
    seconds = {part: statistics.median(one.seconds for one in taken[part]) for part in PARTS}
    cpu = {part: statistics.median(one.cpu_seconds for one in taken[part]) for part in PARTS}
    for part in ("script", "values", "product"):
        print(
            f"{names[part]:<26} {seconds[part]:6.2f} s {cpu[part]:6.2f} CPU s   "
            f"{seconds[part] / seconds['script']:.2f} times as long, {cpu[part] / cpu['script']:.2f} of CPU"
        )
    differing = differences(folder / "script.parquet", folder / "product.parquet")
    with duckdb.connect() as con:
        ((rows, defined),) = con.execute(
            f"SELECT count(*), count(value) FROM '{_literal(folder / 'product.parquet')}'"
        ).fetchall()
    for row in differing:
        print("differs:", row)
    checks = [
        (not differing, f"{rows:,} rows, {defined:,} with a value: the same n and, to 1e-9, the same value"),
        (
            seconds["product"] <= MOST_TIMES_AS_LONG * seconds["script"],
            f"{seconds['product'] / seconds['script']:.2f} times as long as the script, at most {MOST_TIMES_AS_LONG:g}",
        ),
    ]
    for passed, text in checks:
        print(f"{'PASS' if passed else 'FAIL'}  {text}")
    return 0 if all(passed for passed, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
