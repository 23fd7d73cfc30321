"""Writes docs/metrics.md from the registry: `make docs`. A test holds the committed page against the registry."""

from __future__ import annotations

import sys
from pathlib import Path

from analytics.metrics.registry import METRICS, Metric

_HEAD = """# What every metric means

Written by `make docs` from `analytics/metrics/registry.py`; edit it there. A change of meaning raises the version that
stands behind the name, is listed in the CHANGELOG and is shown by the next pack.

Every value has its n and, where it is undefined, a reason; `quarterdeck explain METRIC` lists the rows behind it and
the rows left out. Intervals are at 95 %: Wilson for shares, exact order statistics for quantiles, Poisson for counts,
widened where weeks vary more than chance. The reading compares a quarter with the one before by a test, corrected for
how many services are compared at once.
"""

_SUBJECTS = {
    "service": "rows of the services themselves",
    "repository": "rows of the services' repositories; a shared repository counts once per team and organisation",
}


def document() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for metric in METRICS:
        parts.append(_section(metric))
    return "\n".join(parts)


def _section(metric: Metric) -> str:
    better = {"lower": "lower is better", "higher": "higher is better", None: "neither way is better"}[metric.direction]
    series = ", ".join(f"`{name}`" for name in metric.series if name)
    facts = [
        f"- **Value:** {metric.statistic}, in {metric.unit.replace('_', ' ')}; {better}.",
        f"- **Made from:** {_SUBJECTS[metric.subject]}; query `analytics/metrics/observations/{metric.query}.sql` over "
        + ", ".join(f"`{table}`" for table in metric.tables)
        + ".",
        f"- **Needs:** {', '.join(f'`{entity}`' for entity in metric.entities)}.",
        f"- **Packs print it from** n = {metric.minimum_n}.",
    ]
    if series:
        facts.append(f"- **Series:** {series}; the first is the headline.")
    return f"## {metric.title}\n\n`{metric.definition_id}`\n\n{metric.definition}\n\n" + "\n".join(facts) + "\n"


def main() -> None:
    """Write the page to the path given."""
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
