"""Main points: three to five sentences chosen and worded by rules, each with its interval, one on what did not change.

Source: reports.md section 1, item 1. What moved is taken from the measured reading, never from a difference's sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.coverage import LINKED, RESOLVED, DataQuality
from reports.evidence import OpenIncident
from reports.formats import MET, NOT_MET, WITHIN_INTERVAL, number, percent, show
from reports.published import Definition, MetricValue, Values
from reports.scorecard import Periods, ScorecardRow

# Readings that report a change, in the order in which they are told.
_VERBS = {"worse": "got worse", "better": "got better", "changed": "changed"}
MOST = 5
LEAST = 3
MOST_CHANGED = 2
# Below this share a reader must know before reading the numbers that stand on it.
RESOLVED_ENOUGH = 0.95
LINKED_ENOUGH = 0.5
# Above this share of records of one kind in quarantine.
REFUSED_ENOUGH = 0.01


@dataclass(frozen=True)
class Point:
    """One main point: what it is about (set in bold) and the sentence that follows."""

    subject: str
    text: str


def choose_main_points(
    rows: Sequence[ScorecardRow],
    values: Values,
    definitions: Mapping[str, Definition],
    scope: tuple[str, str],
    periods: Periods,
    quality: DataQuality,
    open_failures: int,
    open_incidents: Sequence[OpenIncident],
) -> list[Point]:
    """Pick points in this order: worse, better, what did not change, what is open, what to be careful about, targets.

    Five at most. When that gives fewer than three, the levels of the first measures follow.
    """
    changed = [row for reading in _VERBS for row in rows if row.reading == reading and row.shown.state == "value"]
    unchanged = [row for row in rows if row.reading == "no clear change" and row.shown.state == "value"]

    def before(row: ScorecardRow) -> MetricValue | None:
        return values.get(*scope, row.metric, periods.last_quarter)

    points = [_moved(row, before(row), definitions[row.metric], periods) for row in changed[:MOST_CHANGED]]
    more = changed[MOST_CHANGED:]
    points.append(_unchanged(unchanged, [before(row) for row in unchanged], definitions, periods, len(rows)))
    still_open = _open(open_failures, open_incidents)
    if still_open:
        points.append(still_open)
    care = _care(rows, quality)
    if care:
        points.append(care)
    for row in more[: MOST - len(points)]:
        points.insert(MOST_CHANGED, _moved(row, before(row), definitions[row.metric], periods))
    targets = _targets(rows)
    if targets:
        points.append(targets)
    told = {row.metric for row in (*changed, *unchanged[:1])}
    levels = [row for row in rows if row.metric not in told and row.shown.state == "value"]
    for row in levels[: max(0, LEAST - len(points))]:
        points.append(Point(row.title, f"was {_what(row)}{row.shown.sentence}; {_why_no_reading(row)}."))
    for row in [row for row in rows if row.shown.state != "value"][: max(0, LEAST - len(points))]:
        points.append(Point(row.title, f"has no value: {row.shown.main}."))
    return points[:MOST]


def _why_no_reading(row: ScorecardRow) -> str:
    return (
        "too few data to say whether it changed" if row.reading == "too few data" else "no test was made of its change"
    )


def _moved(row: ScorecardRow, before: MetricValue | None, definition: Definition, periods: Periods) -> Point:
    earlier = show(before, definition)
    against = f", against {earlier.sentence} in {periods.last_quarter}" if earlier.state == "value" else ""
    return Point(row.title, f"{_VERBS[row.reading]}: {_what(row)}{row.shown.sentence}{against}.")


def _unchanged(
    unchanged: Sequence[ScorecardRow],
    before: Sequence[MetricValue | None],
    definitions: Mapping[str, Definition],
    periods: Periods,
    measures: int,
) -> Point:
    if not unchanged:
        return Point(
            "No measure is known to have stayed the same",
            f"among {number(measures)}: where no change is reported, there were too few data to tell.",
        )
    first = unchanged[0]
    earlier = show(before[0], definitions[first.metric])
    against = f", against {earlier.sentence} in {periods.last_quarter}" if earlier.state == "value" else ""
    others = [lowered(row.title) for row in unchanged[1:5]]
    if len(unchanged) > 5:
        others.append(f"{number(len(unchanged) - 5)} more")
    rest = f" The same holds for {listed(others)}" if others else ""
    return Point(
        "No clear change",
        f"in {lowered(first.title)}: {_what(first)}{first.shown.sentence}{against}; "
        + (f"a difference like this can come by chance.{rest}." if rest else "this can come by chance."),
    )


def _open(open_failures: int, incidents: Sequence[OpenIncident]) -> Point | None:
    parts = []
    if open_failures:
        parts.append(
            f"{counted(open_failures, 'failed deployment')} of the quarter had not recovered at the cut-off and "
            f"{'is' if open_failures == 1 else 'are'} counted as open, not left out"
        )
    if incidents:
        oldest = incidents[0].opened_at
        parts.append(
            f"{counted(len(incidents), 'incident')} had no end, the oldest opened on {oldest.day}\u00a0{oldest:%B %Y}"
        )
    return Point("Still open:", "; ".join(parts) + ".") if parts else None


def _targets(rows: Sequence[ScorecardRow]) -> Point | None:
    """Which of the organisation's own targets are met, missed, or too close to call."""
    words = (
        (NOT_MET, "not met for {}"),
        (MET, "met for {}"),
        (WITHIN_INTERVAL, "too close to tell for {}"),
    )
    parts = []
    for word, sentence in words:
        titles = [lowered(row.title) for row in rows if row.target_word == word]
        if titles:
            parts.append(sentence.format(listed(titles)))
    return Point("Targets", f"are {'; '.join(parts)}.") if parts else None


def _care(rows: Sequence[ScorecardRow], quality: DataQuality) -> Point | None:
    """The most serious reason to read the numbers with care, or None."""
    missing = [row for row in rows if row.shown.state == "undefined"]
    refused = [
        item for item in quality.collected if item.quarantined > REFUSED_ENOUGH * (item.items + item.quarantined)
    ]
    incomplete = sum(1 for item in quality.collected if item.complete is False)
    resolved, linked = quality.share(RESOLVED), quality.share(LINKED)
    parts = []
    if resolved and resolved.of and resolved.covered / resolved.of < RESOLVED_ENOUGH:
        lost = resolved.of - resolved.covered
        parts.append(
            f"{number(lost)} of {number(resolved.of)} deployments ({percent(lost / resolved.of)}) have no lead time, "
            "because their revision is outside the known history"
        )
    if linked and linked.of and linked.covered / linked.of < LINKED_ENOUGH:
        parts.append(f"only {number(linked.covered)} of {number(linked.of)} incidents could be linked to a deployment")
    if incomplete:
        parts.append(f"{counted(incomplete, 'feed')} {'is' if incomplete == 1 else 'are'} incomplete")
    if refused:
        worst = max(refused, key=lambda item: (item.quarantined / (item.items + item.quarantined), item.entity))
        things = worst.entity.replace("_", " ")
        parts.append(
            f"{number(worst.quarantined)} of {number(worst.items + worst.quarantined)} {things} could not be read and "
            "stand in quarantine"
        )
    if missing:
        first = missing[0]
        others = f", nor have {number(len(missing) - 1)} other measures" if len(missing) > 1 else ""
        parts.append(f"{lowered(first.title)} has no value ({first.shown.main}){others}")
    return Point("Read with care:", "; ".join(parts[:2]) + ".") if parts else None


def _what(row: ScorecardRow) -> str:
    return f"a {row.statistic} of " if row.statistic else ""


def counted(count: int, thing: str) -> str:
    """`1 incident`, `2 incidents`."""
    return f"{number(count)} {thing}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def lowered(title: str) -> str:
    """A title inside a sentence; an abbreviation keeps its capitals."""
    return title if title[:2].isupper() else title[:1].lower() + title[1:]
