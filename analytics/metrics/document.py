"""Writes docs/metrics.md from the registry: `make docs`. A test holds the committed page against the registry."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analytics.metrics.examples import CUT_OFF, QUARTER, Example, example_of, examples
from analytics.metrics.registry import METRICS, Metric

_HEAD = """# What every metric means

Written by `make docs` from `analytics/metrics/registry.py`; edit it there. A change of meaning raises the version that
stands behind the name, is listed in the CHANGELOG and is shown by the next pack.

Every value has its n and, where it is undefined, a reason; a source that is missing is named beside it (`missing`).
`quarterdeck explain METRIC` lists the rows behind a value and the rows left out. Teams and the organisation pool the
rows of their services, never their averages; such a value is marked as blended. Intervals are at 95 %: Wilson for
shares, exact order statistics for quantiles, Poisson for counts, widened where weeks vary more than chance, Student's
for means, widened where rows belong together. A census, where everything there is was counted, has no interval. The
reading compares a quarter with the one before by a test, corrected for how many services are compared at once; what
cannot be tested says so.
"""

_EXAMPLES = f"""# Worked examples

Small enough to be checked by hand; a test runs them all. They lie in {QUARTER}, in UTC, with the cut-off {CUT_OFF}.
"""

_SUBJECTS = {
    "service": "rows of the services themselves",
    "repository": "rows of the services' repositories; a shared repository counts once per team and organisation",
    "team": "rows of the services' teams; the organisation counts those of no team too",
}


def document() -> str:
    """The page as Markdown."""
    parts = [_HEAD, *(_section(metric) for metric in METRICS), _EXAMPLES, *(_example(one) for one in examples())]
    return "\n".join(parts)


def _section(metric: Metric) -> str:
    better = {"lower": "lower is better", "higher": "higher is better", None: "neither way is better"}[metric.direction]
    series = ", ".join(f"`{name}`" for name in metric.series if name)
    facts = [
        f"- **Value:** {metric.statistic}, in {metric.unit.replace('_', ' ')}; {better}.",
        f"- **Made from:** {_SUBJECTS[metric.subject]}; query `analytics/metrics/observations/{metric.query}.sql` over "
        + f"{_code(metric.tables)}.",
        f"- **Needs:** {', '.join(f'`{entity}`' for entity in metric.entities)}."
        + (
            f" Adds where collected: {', '.join(f'`{entity}`' for entity in metric.optional)}."
            if metric.optional
            else ""
        ),
        f"- **Packs print it from** n = {metric.minimum_n}.",
    ]
    if series:
        facts.append(f"- **Series:** {series}; the first is the headline.")
    if metric.census:
        facts.append("- **Interval:** none, it is a census.")
    if not metric.tested:
        facts.append("- **Reading:** not tested, because two quarters count the same few things.")
    example, answer = example_of(metric.name)
    facts.append(f"- **[Example](#{_anchor(example.title)}):** {_number(answer.parts['value'])}. {answer.because}")
    return f"## {metric.title}\n\n`{metric.definition_id}`\n\n{metric.definition}\n\n" + "\n".join(facts) + "\n"


def _example(example: Example) -> str:
    parts = [f"## {example.title}", example.story, "Catalog:"]
    parts.append("```yaml\n" + "\n".join(f"- {json.dumps(dict(service))}" for service in example.services) + "\n```")
    for entity in (*example.records, *example.tables):
        shared = example.common.get(entity, {})
        each = "; each has " + ", ".join(f"{name} {_cell(value)}" for name, value in shared.items()) if shared else ""
        rows = example.records.get(entity) or example.tables[entity]
        parts.append(f"`{entity}`{each}\n\n{_table(rows)}")
    metrics = ", ".join(f"`{answer.metric}` = {_number(answer.parts['value'])}" for answer in example.answers)
    parts.append(f"Makes {metrics}.")
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _anchor(title: str) -> str:
    """How GitHub names the anchor of a heading."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


def main() -> None:
    """Write the page to the path given."""
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
