"""Reading measured values from the published database; starts fast, so it imports neither Dagster nor statistics.

Source: contract.md section 5 (the shape and its names).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from analytics.engine import connect
from analytics.errors import LakeError
from analytics.metrics.registry import METRICS
from analytics.periods import Quarter
from analytics.settings import Settings

COLUMNS = (
    "metric",
    "scope",
    "name",
    "quarter",
    "series",
    "value",
    "unit",
    "n",
    "numerator",
    "denominator",
    "low",
    "high",
    "open",
    "reason",
    "reading",
    "definition",
    "missing",
    "blended",
)
SCOPES = ("service", "team", "organization")


@contextmanager
def open_published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the published database for reading; raises LakeError when there is none or it cannot be read."""
    path = settings.published_path
    if not path.is_file():
        raise LakeError("nothing has been measured yet", where=str(path), fix="Run `quarterdeck run` first.")
    try:
        with connect(settings, path, read_only=True) as con:
            yield con
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise LakeError(
            f"the published database is from another version: {str(error).splitlines()[0]}",
            where=str(path),
            fix="Run `quarterdeck measure`: it is rebuilt from the lake.",
        ) from error
    except (duckdb.IOException, duckdb.SerializationException) as error:
        raise LakeError(
            f"cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            fix="Run `quarterdeck measure`: it is rebuilt from the lake.",
        ) from error


def metric_values(settings: Settings, quarter: Quarter, scope: str | None = None) -> list[dict[str, Any]]:
    """Every value of a quarter in the registry's order; raises LakeError when the quarter was never measured."""
    order = {metric.name: number for number, metric in enumerate(METRICS)}
    with open_published(settings) as con:
        found = con.execute(
            f"SELECT {', '.join(COLUMNS)} FROM metric_values WHERE quarter = ? AND coalesce(scope = ?, true)",
            [str(quarter), scope],
        ).fetchall()
        if not found:
            known = con.execute("SELECT min(quarter), max(quarter) FROM metric_values").fetchone()
            span = f"measured are {known[0]} to {known[1]}" if known and known[0] else "nothing is measured"
            raise LakeError(
                f"{quarter} has not been measured; {span}",
                where=str(settings.published_path),
                fix=f"Run `quarterdeck measure --quarter {quarter}`.",
            )
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found]
    for row in rows:
        for part in ("numerator", "denominator"):
            if row[part] is not None and float(row[part]).is_integer():
                row[part] = int(row[part])
    rows.sort(
        key=lambda row: (
            order.get(row["metric"], len(order)),
            SCOPES.index(row["scope"]),
            row["name"],
            row["series"] != "human",
        )
    )
    return rows
