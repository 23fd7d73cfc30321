"""The rows behind one value: the very observations it was made from, with those left out and why.

The headline and the drill-down read one table (metrics.md I6, I8), so they cannot disagree.
"""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from analytics.engines.duck import DuckEngine
from analytics.engines.prelude import create_functions, create_params
from analytics.errors import LakeError, UsageError
from analytics.metrics.coverage import OF_NOTHING, create_members, read_cut_off
from analytics.metrics.registry import BY_NAME, MICROSECONDS, TRILLION, Metric
from analytics.metrics.values import metric_values, open_published
from analytics.periods import Quarter
from analytics.settings import Settings


@dataclass(frozen=True)
class Explanation:
    """A value and its rows; a row counts when its `excluded` is None. Durations are in the metric's unit."""

    metric: str
    title: str
    quarter: str
    scope: str
    name: str
    series: str | None
    value: float | None
    unit: str
    n: int
    numerator: float | None
    denominator: float | None
    open: int
    reason: str | None
    definition: str
    meaning: str
    columns: list[str]
    rows: list[dict[str, Any]]

    @property
    def excluded(self) -> dict[str, int]:
        """Rows left out, by reason."""
        return dict(sorted(Counter(row["excluded"] for row in self.rows if row["excluded"]).items()))


def explain(
    settings: Settings,
    metric: str,
    quarter: Quarter,
    service: str | None = None,
    team: str | None = None,
    series: str | None = None,
) -> Explanation:
    """Explain a metric for a service, a team or (by default) the organisation.

    Raises UsageError naming the nearest known metric, service or team, and LakeError when nothing is measured.
    """
    definition = BY_NAME.get(metric)
    if definition is None:
        raise UsageError(f"there is no metric '{metric}'", fix=_nearest(metric, BY_NAME))
    wanted_series = series or definition.series[0]
    if wanted_series not in definition.series:
        known = ", ".join(str(name) for name in definition.series if name) or "none"
        raise UsageError(f"{metric} has no series '{series}'", fix=f"Known series: {known}.")
    scope = "service" if service else "team" if team else "organization"
    values = [row for row in metric_values(settings, quarter, scope) if row["metric"] == metric]
    name = service or team or (values[0]["name"] if values else settings.organization)
    if not values:
        raise LakeError(
            f"{metric} has not been measured yet", where=str(settings.published_path), fix="Run `quarterdeck measure`."
        )
    value = next((row for row in values if row["name"] == name and row["series"] == wanted_series), None)
    if value is None:
        raise UsageError(f"there is no {scope} '{name}'", fix=_nearest(name, {row["name"] for row in values}))
    columns, rows = _rows(settings, definition, quarter, scope, name, wanted_series)
    if value["reason"] in OF_NOTHING:
        for row in rows:
            row["excluded"] = row["excluded"] or value["reason"]
    return Explanation(
        metric=metric,
        title=definition.title,
        quarter=str(quarter),
        scope=scope,
        name=name,
        series=wanted_series,
        value=value["value"],
        unit=definition.unit,
        n=value["n"],
        numerator=value["numerator"],
        denominator=value["denominator"],
        open=value["open"],
        reason=value["reason"],
        definition=value["definition"],
        meaning=definition.definition,
        columns=columns,
        rows=rows,
    )


def _rows(
    settings: Settings, metric: Metric, quarter: Quarter, scope: str, name: str, series: str | None
) -> tuple[list[str], list[dict[str, Any]]]:
    with open_published(settings) as con:
        create_members(con, [(scope, name)])
        engine = DuckEngine(con, settings)
        create_functions(engine, settings.time_zone)
        create_params(engine, read_cut_off(con))
        con.execute(f"CREATE TEMP VIEW observations AS {metric.observations_sql()}")
        given = [row[0] for row in con.execute("DESCRIBE observations").fetchall()]
        hidden = {"subject", "day", "excluded", "series", "cluster"}
        details = [column for column in given if column not in hidden]
        by_series = "AND o.series = $series" if "series" in given else ""
        order = ", ".join(f"o.{column}" for column in details)
        parameters: dict[str, Any] = {
            "quarter": str(quarter),
            "kind": metric.subject,
            "scope": scope,
            "name": name,
        }
        if by_series:
            parameters["series"] = series
        cursor = con.execute(
            f"SELECT o.subject, o.day, o.excluded, {', '.join(f'o.{column}' for column in details)} "
            "FROM observations o "
            "JOIN calendar c ON c.day = o.day AND c.quarter = $quarter "
            "JOIN members m ON m.subject_kind = $kind AND m.subject = o.subject "
            f"AND m.scope = $scope AND m.name = $name WHERE true {by_series} "
            f"ORDER BY o.excluded IS NOT NULL, o.excluded, o.day, {order}",
            parameters,
        )
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    subject = metric.subject
    amount_column = next((name for name in ("amount_us", "amount_trillionths") if name in names), None)
    shown_as = "share" if amount_column == "amount_trillionths" else metric.unit
    scale = TRILLION if amount_column == "amount_trillionths" else MICROSECONDS.get(metric.unit, 1)
    columns = list(dict.fromkeys({"subject": subject, amount_column: shown_as}.get(name, name) for name in names))
    for row in rows:
        row[subject] = row.pop("subject")
        if amount_column is not None:
            amount = row.pop(amount_column)
            row[shown_as] = None if amount is None else amount / scale
    return columns, [{column: row[column] for column in columns} for row in rows]


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.4)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(sorted(known)[:20])}."
