"""The facts of runs that an update touches, put in the place of those that they had.

What is said of an attempt depends on the other attempts of its run, on its jobs, and on the runs of its sha; a runner's
window on all its jobs of a quarter. What it leaves is what `analytics.delivery.pipelines` makes of the same records.
Source: metrics.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable

from analytics.delivery.pipelines import STEPS, name_repositories
from analytics.delivery.queries import create_tables, sql
from analytics.delivery.since import Since
from analytics.engines.duck import DuckEngine
from analytics.lake.tables import lake_relation
from analytics.lake.updating import count_rows, replace_rows
from analytics.settings import Settings

_PASSING = ("created_at", "started_at", "completed_at")
_IS_TOUCHED = "EXISTS (SELECT 1 FROM touched_runs AS t WHERE t.repository = kept.repository AND t.run_id = kept.run_id)"


def update_pipeline_facts(
    engine: DuckEngine, settings: Settings, canonical: Callable[[str], str], since: Since, written: dict[str, int]
) -> None:
    """Update `job_times`, `run_attempts` and `runner_windows`; needs what `pipeline_facts` needs."""
    con = engine.con
    name_repositories(engine, canonical)
    _create_touched(engine, since)
    if con.execute("SELECT 1 FROM touched_runs LIMIT 1").fetchall():
        _update(engine, settings)
    for table in ("job_times", "run_attempts", "runner_windows"):
        written[table] = count_rows(con, settings, table)
    engine.read_lake("job_times")


def _create_touched(engine: DuckEngine, since: Since) -> None:
    """The tables `touched_runs` (repository, run_id), whose facts may change, and `needed_runs`, which these come of.

    `named_runs` gives each attempt its repository as the facts spell it.
    """
    for name, columns in (("runs", "run_id, head_sha"), ("jobs", "run_id")):
        renamed = (
            f"SELECT coalesce(names.canonical, told.repository) AS repository, {columns} FROM {{}} AS told "
            "LEFT JOIN repository_names AS names ON names.seen = told.repository"
        )
        parts = [f"{renamed.format(f'pipeline_{name}')} WHERE {since.passed(*_PASSING)}"]
        if f"pipeline_{name}" in since.entities:
            parts += [renamed.format(f"pipeline_{name}_{when}") for when in ("now", "before")]
        engine.create_table(f"changed_{name}", " UNION ".join(parts))
        if name == "runs":
            engine.create_table("named_runs", renamed.format("pipeline_runs"))
    engine.create_table("first_runs", "SELECT repository, run_id FROM changed_runs UNION SELECT * FROM changed_jobs")
    shas = "SELECT repository, head_sha FROM named_runs SEMI JOIN {} USING (repository, run_id)"
    engine.create_table(
        "touched_shas", f"SELECT repository, head_sha FROM changed_runs UNION {shas.format('first_runs')}"
    )
    of_shas = "SELECT repository, run_id FROM named_runs SEMI JOIN {} USING (repository, head_sha)"
    engine.create_table("touched_runs", f"SELECT * FROM first_runs UNION {of_shas.format('touched_shas')}")
    # An attempt of a touched run may be of another sha, whose runs say whether it recovered.
    engine.create_table("needed_shas", f"SELECT DISTINCT * FROM ({shas.format('touched_runs')})")
    engine.create_table("needed_runs", f"SELECT * FROM touched_runs UNION {of_shas.format('needed_shas')}")


def _update(engine: DuckEngine, settings: Settings) -> None:
    con = engine.con
    jobs_before = f"SELECT * FROM {lake_relation(settings, 'job_times')} AS kept WHERE {_IS_TOUCHED}"
    engine.create_table("jobs_before", jobs_before)
    for name in ("pipeline_jobs", "pipeline_runs"):
        engine.create_table(
            name,
            f"SELECT told.* FROM {lake_relation(settings, name)} AS told "
            "LEFT JOIN repository_names AS names ON names.seen = told.repository "
            "JOIN needed_runs AS needed ON needed.repository = coalesce(names.canonical, told.repository) "
            "AND needed.run_id = told.run_id",
        )
    engine.create_table("job_times", sql("job_times.sql"))
    coming = f"SELECT * FROM job_times AS kept WHERE {_IS_TOUCHED}"
    replace_rows(con, settings, "job_times", leaving=_IS_TOUCHED, coming=coming)
    create_tables(engine, *STEPS)
    coming = f"SELECT * FROM ({sql('run_attempts.sql')}) AS kept WHERE {_IS_TOUCHED}"
    replace_rows(con, settings, "run_attempts", leaving=_IS_TOUCHED, coming=coming)
    engine.create_table(
        "touched_runners",
        f"SELECT DISTINCT runner FROM (SELECT runner FROM jobs_before UNION SELECT runner FROM job_times AS kept "
        f"WHERE {_IS_TOUCHED}) WHERE runner IS NOT NULL",
    )
    for name in ("pipeline_jobs", "pipeline_runs", "job_times", *STEPS):
        engine.drop(name)
    of_runner = "kept.runner IN (SELECT runner FROM touched_runners)"
    engine.create_table("job_times", f"SELECT * FROM {lake_relation(settings, 'job_times')} AS kept WHERE {of_runner}")
    replace_rows(con, settings, "runner_windows", leaving=of_runner, coming=sql("runner_windows.sql"))
    engine.drop("job_times")
