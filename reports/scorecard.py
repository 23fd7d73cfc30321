"""The scorecard: one row per measure, with its interval, target, change in natural units, sparkline and reading.

Source: reports.md section 1, items 2 to 4. The reading is printed as it was measured, never derived from a sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from analytics.periods import Quarter
from reports.formats import Shown, show, show_change, show_target, statistic_words, target_word
from reports.published import Definition, MetricValue, Values
from reports.sparkline import SparkPoint, sparkline

# Leading measures in the order of metrics.md section 4; every other measured metric is a companion.
LEADING = (
    "deployment_frequency",
    "change_lead_time",
    "change_fail_rate",
    "failed_deployment_recovery_time",
    "deployment_rework_rate",
    "incident_time_to_restore",
    "deployment_success_rate",
    "pipeline_success_rate",
    "pipeline_duration_median",
    "queue_time_median",
    "runner_utilization",
    "rollback_readiness",
    "verification_coverage",
    "error_budget_impact",
    "gate_false_positive_rate",
    "policy_compliance_rate",
    "signature_coverage",
    "provenance_coverage",
    "sbom_coverage",
    "config_drift_incidents",
    "manual_interventions_per_deployment",
    "satisfaction_score",
    "services_onboarded",
    "runbook_freshness",
)

# All seventeen indicators of metrics.md section 4: a pack shows each, and says so where nothing measures it.
INDICATORS = {
    1: "Deployment frequency",
    2: "Lead time for changes",
    3: "Change fail rate",
    4: "Recovery time of failed deployments",
    5: "Pipeline success rate",
    6: "Pipeline duration",
    7: "Queue time and runner utilisation",
    8: "Rollback readiness",
    9: "Automated deployment verification",
    10: "Post-deploy error-budget impact",
    11: "Security gate effectiveness",
    12: "Policy compliance",
    13: "Configuration drift incidents",
    14: "Rework on deployments",
    15: "Stakeholder satisfaction",
    16: "Enablement throughput",
    17: "Runbook freshness",
}
GROUPS = (
    ("Delivery", (1, 2, 3, 4, 14)),
    ("Pipelines", (5, 6, 7)),
    ("Readiness and reliability", (8, 9, 10, 13, 17)),
    ("Security and policy", (11, 12)),
    ("People and platform", (15, 16)),
)
# For a database whose definitions do not carry the indicator.
_INDICATOR_OF = {
    "deployment_frequency": 1,
    "deployment_success_rate": 1,
    "change_lead_time": 2,
    "change_fail_rate": 3,
    "failed_deployment_recovery_time": 4,
    "incident_time_to_restore": 4,
    "deployment_rework_rate": 14,
    "manual_interventions_per_deployment": 14,
    "pipeline_success_rate": 5,
    "pipeline_duration_median": 6,
    "queue_time_median": 7,
    "runner_utilization": 7,
    "rollback_readiness": 8,
    "verification_coverage": 9,
    "error_budget_impact": 10,
    "gate_false_positive_rate": 11,
    "policy_compliance_rate": 12,
    "signature_coverage": 12,
    "provenance_coverage": 12,
    "sbom_coverage": 12,
    "config_drift_incidents": 13,
    "satisfaction_score": 15,
    "services_onboarded": 16,
    "runbook_freshness": 17,
}

_READING_CLASSES = {"better": "better", "worse": "worse", "changed": "changed", "no clear change": "same"}
SERIES_WORDS = {"human": "people", "all": "people and bots"}
NO_READING = "no reading"


@dataclass(frozen=True)
class Periods:
    """The quarter of a pack and the ones it is compared with."""

    quarter: str
    last_quarter: str
    last_year: str
    shown: tuple[str, ...]

    @classmethod
    def of(cls, quarter: Quarter, count: int = 8) -> Periods:
        """The quarter, the one before, the same one a year ago, and the last `count`, oldest first."""
        return cls(
            str(quarter),
            str(quarter.plus(-1)),
            str(quarter.plus(-4)),
            tuple(str(quarter.plus(-back)) for back in range(count - 1, -1, -1)),
        )


@dataclass(frozen=True)
class ScorecardRow:
    """One measure of one scope."""

    metric: str
    title: str
    statistic: str | None
    series: str | None
    value: MetricValue
    shown: Shown
    target: str | None
    target_word: str | None
    on_last_quarter: str
    on_last_year: str
    spark: Markup
    reading: str
    reading_class: str
    indicator: int | None = None


@dataclass(frozen=True)
class ScorecardGroup:
    """Measures that belong together, and indicators for which no measure exists."""

    title: str
    rows: list[ScorecardRow]
    missing: list[str]


@dataclass(frozen=True)
class Scorecard:
    """Leading measures, and the companions that stand beside them."""

    leading: list[ScorecardRow]
    companions: list[ScorecardRow]

    @property
    def groups(self) -> list[ScorecardGroup]:
        """The leading measures by theme; every one of the seventeen indicators is in a group, measured or not."""
        groups = []
        for title, numbers in GROUPS:
            rows = [row for number in numbers for row in self.leading if row.indicator == number]
            measured = {row.indicator for row in rows}
            groups.append(ScorecardGroup(title, rows, [INDICATORS[n] for n in numbers if n not in measured]))
        others = [row for row in self.leading if row.indicator not in INDICATORS]
        return [*groups, ScorecardGroup("Other measures", others, [])] if others else groups


def make_scorecard(
    values: Values,
    definitions: Mapping[str, Definition],
    scope: str,
    name: str,
    periods: Periods,
    targets: Mapping[str, float],
) -> Scorecard:
    """The scorecard of a scope from every metric that was measured for it in the quarter."""
    leading: list[ScorecardRow] = []
    companions: list[ScorecardRow] = []
    found: list[tuple[MetricValue, Mapping[str, MetricValue]]] = []
    for metric in definitions:
        for series in values.series_of(scope, name, metric):
            history = values.by_key[scope, name, metric, series]
            if periods.quarter in history:
                found.append((history[periods.quarter], history))
    for value, history in sorted(found, key=lambda pair: _order(pair[0])):
        row = _row(value, history, definitions[value.metric], periods, targets.get(value.metric))
        (leading if value.metric in LEADING and value.is_headline else companions).append(row)
    return Scorecard(leading, companions)


def measure_order(metric: str) -> tuple[int, str]:
    """Leading metrics in their order; a companion such as change_lead_time_p95 right behind its own metric."""
    stems = [stem for stem in LEADING if metric.startswith(stem.removesuffix("_median"))]
    position = LEADING.index(max(stems, key=len)) if stems else len(LEADING)
    return position, metric


def _order(value: MetricValue) -> tuple[tuple[int, str], bool, str]:
    return measure_order(value.metric), not value.is_headline, value.series or ""


def _row(
    value: MetricValue,
    history: Mapping[str, MetricValue],
    definition: Definition,
    periods: Periods,
    target: float | None,
) -> ScorecardRow:
    reading = value.reading or NO_READING
    return ScorecardRow(
        metric=value.metric,
        title=definition.title,
        statistic=statistic_words(definition),
        series=None if value.is_headline else SERIES_WORDS.get(value.series or "", value.series),
        value=value,
        shown=show(value, definition),
        target=show_target(target, value, definition),
        target_word=target_word(target, value, definition),
        on_last_quarter=show_change(value, history.get(periods.last_quarter), definition),
        on_last_year=show_change(value, history.get(periods.last_year), definition),
        spark=sparkline(spark_points(history, definition, periods.shown)),
        reading=reading,
        reading_class=_READING_CLASSES.get(reading, "few"),
        indicator=definition.indicator or _INDICATOR_OF.get(value.metric),
    )


def spark_points(
    history: Mapping[str, MetricValue], definition: Definition, quarters: Sequence[str]
) -> list[SparkPoint]:
    """One point per quarter; a value that a page would not print is a gap here too."""
    points = []
    for quarter in quarters:
        value = history.get(quarter)
        shown = show(value, definition)
        points.append(
            SparkPoint(quarter, value.value if value is not None and shown.state == "value" else None, shown.main)
        )
    return points
