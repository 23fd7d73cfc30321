"""What every engine is asked: the registry's observations, verbatim, reduced per subject and quarter.

The text is the same for each engine, behind the product's own prelude (`analytics.engines.prelude`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import duckdb

from analytics.engines.prelude import FUNCTIONS
from analytics.lake.schemas import TABLES
from analytics.metrics.delivery_metrics import DELIVERY
from analytics.metrics.metric import Metric
from analytics.metrics.pipeline_metrics import PIPELINE

# Columns by which an answer's rows are known.
KEYS = ("subject", "quarter", "series")


@dataclass(frozen=True)
class Question:
    """One query of the registry and the metrics that are made of it."""

    name: str
    metrics: tuple[Metric, ...]
    # A column of the answer after the keys, and its SQL over observations `o`.
    columns: dict[str, str]

    @property
    def tables(self) -> tuple[str, ...]:
        """Lake tables that the query reads."""
        return tuple(dict.fromkeys(table for metric in self.metrics for table in metric.tables))

    def sql(self) -> str:
        """One row per subject, quarter and series, also where every row was left out."""
        metric = self.metrics[0]
        series = "o.series" if metric.series != (None,) else "''"
        columns = ", ".join(f"{expression} AS {name}" for name, expression in self.columns.items())
        return (
            f"SELECT o.subject AS subject, calendar.quarter AS quarter, {series} AS series, {columns} "
            f"FROM ({metric.observations_sql()}) AS o JOIN calendar ON calendar.day = o.day "
            f"GROUP BY o.subject, calendar.quarter{', o.series' if series == 'o.series' else ''}"
        )


def _counted(expression: str) -> str:
    return f"CASE WHEN o.excluded IS NULL THEN {expression} END"


def _columns(metrics: tuple[Metric, ...]) -> dict[str, str]:
    """What is asked of the rows: how many there are, how many count, and the parts of the metrics' statistics."""
    columns = {"seen": "count(*)", "n": f"count({_counted('1')})"}
    kind = metrics[0].kind
    if kind in ("ratio", "rate", "utilization"):
        columns["numerator"] = f"sum({_counted('o.numerator')})"
        columns["denominator"] = f"sum({_counted('o.denominator')})"
        columns["share"] = f"CAST({columns['numerator']} AS DOUBLE) / CAST({columns['denominator']} AS DOUBLE)"
    if kind in ("quantile", "recovery_median"):
        columns["total_us"] = f"sum({_counted('o.amount_us')})"
        for metric in metrics:
            columns[metric.name] = f"percentile({_counted('o.amount_us')}, {metric.quantile}e0)"
    if kind == "recovery_median":
        columns["still_open"] = f"sum({_counted('CASE WHEN o.open THEN 1 ELSE 0 END')})"
    return columns


def questions() -> tuple[Question, ...]:
    """Every query of the registry's delivery and pipeline metrics; metrics of one query and kind are asked together."""
    together: dict[tuple[str, str], list[Metric]] = {}
    for metric in (*PIPELINE, *DELIVERY):
        together.setdefault((metric.query, metric.kind), []).append(metric)
    return tuple(Question(query, tuple(metrics), _columns(tuple(metrics))) for (query, _), metrics in together.items())


def columns_read(question: Question) -> dict[str, list[str]]:
    """Columns that a question's answer cannot do without, by table: what DuckDB's plan reads of empty tables."""
    with duckdb.connect() as con:
        # Neither may values be told from statistics, nor may a filter hide the column that it reads.
        con.execute("SET disabled_optimizers = 'statistics_propagation,filter_pushdown,filter_pullup,join_order'")
        for function in FUNCTIONS["duckdb"]:
            con.execute(function.format(zone="UTC", kept="TEMP "))
        con.execute("CREATE TABLE params AS SELECT CAST(NULL AS TIMESTAMP) AS now")
        for table in (*question.tables, "calendar"):
            columns = ", ".join(f'"{name}" {kind}' for name, kind in TABLES[table].columns.items())
            con.execute(f"CREATE TABLE {table} ({columns})")
            con.execute(f"INSERT INTO {table} SELECT {', '.join('NULL' for _ in TABLES[table].columns)}")
        ((_, plan),) = con.execute(f"EXPLAIN (FORMAT json) {question.sql()}").fetchall()
    found: dict[str, list[str]] = {}

    def walk(node: dict[str, object]) -> None:
        info = node.get("extra_info") or {}
        assert isinstance(info, dict)
        if "Table" in info:
            table = str(info["Table"]).rpartition(".")[2]
            given = info.get("Projections", [])
            for column in [given] if isinstance(given, str) else given:
                if column not in found.setdefault(table, []):
                    found[table].append(column)
        children = node["children"]
        assert isinstance(children, list)
        for child in children:
            walk(child)

    for node in json.loads(plan):
        walk(node)
    return {table: sorted(columns) for table, columns in found.items() if table not in ("calendar", "params")}
