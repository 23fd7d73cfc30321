"""Every metric, defined once: this list drives the assets, `metrics`, `explain`, the pack and docs/metrics.md.

A metric's query stands in `observations/<query>.sql`; it yields the rows that count and the rows that were left out.
Its worked example stands in a file of `worked_examples/`. A change of meaning bumps `version` and the CHANGELOG.
Source: metrics.md; names and units: contract.md section 5.
"""

from __future__ import annotations

from analytics.metrics.delivery_metrics import DELIVERY
from analytics.metrics.metric import MICROSECONDS, TRILLION, Metric, Statistic, observations_sql
from analytics.metrics.pipeline_metrics import PIPELINE
from analytics.metrics.practice_metrics import PRACTICE
from analytics.metrics.supply_chain_metrics import SUPPLY_CHAIN

__all__ = ["BY_NAME", "METRICS", "MICROSECONDS", "TRILLION", "Metric", "Statistic", "observations_sql"]

METRICS: tuple[Metric, ...] = (*DELIVERY, *PIPELINE, *PRACTICE, *SUPPLY_CHAIN)

BY_NAME = {metric.name: metric for metric in METRICS}
