"""Run attempts, jobs and runners, wholly in SQL: they are by far the most rows. Source: metrics.md section 3."""

from __future__ import annotations

from collections.abc import Callable

from analytics.delivery.queries import create_tables, sql
from analytics.engines.port import Engine

# Each is read by those after it, and none after the run attempts are written.
STEPS = ("run_base", "run_last_attempt", "run_failed_before", "sha_failed", "sha_recovered", "attempt_duration")


def pipeline_facts(engine: Engine, canonical: Callable[[str], str], written: dict[str, int]) -> None:
    """Write `job_times`, `run_attempts` and `runner_windows`; needs `pipeline_runs`, `pipeline_jobs` and the prelude.

    `canonical` gives the catalog's spelling of a repository; `written` gets the number of rows per table.
    """
    name_repositories(engine, canonical)
    written["job_times"] = engine.write_lake("job_times", sql("job_times.sql"))
    engine.read_lake("job_times")
    create_tables(engine, *STEPS)
    written["run_attempts"] = engine.write_lake("run_attempts", sql("run_attempts.sql"))
    for table in STEPS:
        engine.drop(table)
    written["runner_windows"] = engine.write_lake("runner_windows", sql("runner_windows.sql"))


def name_repositories(engine: Engine, canonical: Callable[[str], str]) -> None:
    """Make the table `repository_names` (seen, canonical) of what runs and jobs say."""
    seen = engine.rows(
        "SELECT DISTINCT repository FROM (SELECT repository FROM pipeline_runs UNION ALL "
        "SELECT repository FROM pipeline_jobs) AS seen"
    )
    engine.create_values(
        "repository_names", {"seen": "VARCHAR", "canonical": "VARCHAR"}, [(name, canonical(name)) for (name,) in seen]
    )
