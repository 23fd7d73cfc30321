"""Some questions answered by hand in Polars: it shares no SQL with the registry, so that agreeing says something.

Quarters are those of a year that begins in January, cut from the day itself and not from the calendar table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from analytics.settings import Settings

_COUNTED = ["success", "failure", "timed_out", "startup_failure"]
_Answer = Callable[[Settings], pl.LazyFrame]


def oracle_rows(settings: Settings, question: str) -> list[tuple[Any, ...]]:
    """The rows of a question's answer, in the order of its columns; raises KeyError for one that it does not know."""
    return ANSWERS[question](settings).collect(engine="streaming").rows()


def _table(settings: Settings, name: str) -> pl.LazyFrame:
    frame = pl.scan_parquet(settings.lake_dir / name / "quarter=*" / "*.parquet", hive_partitioning=False)
    day = pl.col("day")
    return frame.with_columns(quarter=pl.format("{}-Q{}", day.dt.year(), day.dt.quarter()), series=pl.lit(""))


def _grouped(rows: pl.LazyFrame, subject: str, counts: pl.Expr, *values: pl.Expr) -> pl.LazyFrame:
    groups = rows.filter(pl.col("day").is_not_null()).group_by(subject, "quarter", "series")
    return groups.agg(pl.len().alias("seen"), counts.sum().cast(pl.Int64).alias("n"), *values)


def _share(rows: pl.LazyFrame, subject: str, hit: pl.Expr, counts: pl.Expr) -> pl.LazyFrame:
    hits, trials = (hit & counts).sum().cast(pl.Int64), counts.sum().cast(pl.Int64)
    some = trials > 0
    return _grouped(
        rows,
        subject,
        counts,
        pl.when(some).then(hits).alias("numerator"),
        pl.when(some).then(trials).alias("denominator"),
        pl.when(some).then(hits / trials).alias("share"),
    )


def _amounts(rows: pl.LazyFrame, subject: str, amount: str, counts: pl.Expr, *quantiles: float) -> pl.LazyFrame:
    kept = pl.col(amount).filter(counts)
    return _grouped(
        rows,
        subject,
        counts,
        pl.when(kept.count() > 0).then(kept.sum()).alias("total_us"),
        *(kept.quantile(p, interpolation="linear").alias(f"p{100 * p:.0f}") for p in quantiles),
    )


def _success_rate(settings: Settings) -> pl.LazyFrame:
    first = _table(settings, "run_attempts").filter(pl.col("attempt") == 1)
    return _share(first, "repository", pl.col("outcome") == "success", pl.col("outcome").is_in(_COUNTED))


def _flake_rate(settings: Settings) -> pl.LazyFrame:
    final = _table(settings, "run_attempts").filter("is_final")
    return _share(final, "repository", pl.col("flaky"), pl.col("outcome") == "success")


def _duration(settings: Settings) -> pl.LazyFrame:
    counts = pl.col("outcome").is_in(["success", "failure"]) & pl.col("duration_us").is_not_null()
    return _amounts(_table(settings, "run_attempts"), "repository", "duration_us", counts, 0.5, 0.95)


def _queue_time(settings: Settings) -> pl.LazyFrame:
    counts = ~pl.col("carried_over") & pl.col("created_at").is_not_null() & pl.col("started_at").is_not_null()
    return _amounts(_table(settings, "job_times"), "repository", "queue_us", counts, 0.5, 0.95)


def _lead_time(settings: Settings) -> pl.LazyFrame:
    commits = _table(settings, "change_lead")
    both = pl.concat([commits.with_columns(series=pl.lit(series)) for series in ("human", "all")])
    counts = pl.col("excluded").is_null() & ~((pl.col("series") == "human") & pl.col("is_bot"))
    return _amounts(both, "service", "lead_us", counts, 0.5, 0.75, 0.95)


def _deployments(settings: Settings) -> pl.LazyFrame:
    return _grouped(_table(settings, "service_deployments"), "service", pl.col("outcome") == "success")


ANSWERS: dict[str, _Answer] = {
    "pipeline_success_rate": _success_rate,
    "pipeline_flake_rate": _flake_rate,
    "pipeline_duration": _duration,
    "queue_time": _queue_time,
    "change_lead_time": _lead_time,
    "deployment_frequency": _deployments,
}
