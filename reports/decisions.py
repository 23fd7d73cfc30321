"""What a reader is asked to decide, and the main points of security and of a team: sentences chosen by rules.

Source: reports.md (readers; section 1, items 1, 12 and 13). Nothing here ranks a team or names a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from reports.comparison_charts import FunnelPoint
from reports.evidence import Pipeline
from reports.formats import NOT_MET, duration, number, percent, short_day
from reports.main_points import Point, counted, listed, lowered
from reports.provenance import COVERAGE_WORDS, FindingRow, Provenance
from reports.provenance_charts import k_of_n
from reports.scorecard import ScorecardRow

MOST = 6
GRAVE = ("critical", "high")
# Open longer than this, a grave finding waits for a decision rather than for somebody's time.
OLD_DAYS = 30


@dataclass(frozen=True)
class Decision:
    """A question for the reader, why it is asked, and the page that shows the rows behind it."""

    subject: str
    text: str
    page: str


def choose_decisions(
    rows: Sequence[ScorecardRow],
    provenance: Provenance,
    funnel: Sequence[FunnelPoint],
    pipelines: Sequence[Pipeline],
    next_issue: date,
) -> list[Decision]:
    """Decisions in this order: grave findings, waivers that end, targets missed, services apart, hours lost."""
    decisions = []
    grave = [one for one in provenance.of_state("open") if one.severity in GRAVE]
    if grave:
        old = [one for one in grave if (one.age_days or 0) > OLD_DAYS]
        waiting = f"; {number(len(old))} for more than {OLD_DAYS} days" if old else ""
        decisions.append(
            Decision(
                "Grave findings",
                f"{counted(len(grave), 'critical or high finding')} {'is' if len(grave) == 1 else 'are'} open"
                f"{waiting}. Who fixes {'it' if len(grave) == 1 else 'them'}, and by when? Or who waives?",
                "security.html",
            )
        )
    ending = [one for one in provenance.waivers if one.expiring and one.until <= next_issue]
    expired = [one for one in provenance.waivers if one.expired]
    if ending or expired:
        parts = []
        if ending:
            first = ending[0]
            parts.append(
                f"{counted(len(ending), 'waiver')} {'ends' if len(ending) == 1 else 'end'} before the next issue, the "
                f"first on {short_day(first.until)}"
            )
        if expired:
            parts.append(f"{counted(len(expired), 'waiver')} already {'has' if len(expired) == 1 else 'have'} ended")
        decisions.append(
            Decision(
                "Waivers", f"{'; '.join(parts)}. Fix what they cover, or renew them with a reason?", "security.html"
            )
        )
    for row in [row for row in rows if row.target_word == NOT_MET][:2]:
        decisions.append(
            Decision(
                f"{row.title}: target missed",
                f"{row.shown.sentence} against a target of {(row.target or '').partition(':')[0]}; the whole interval "
                "lies on its wrong side. Keep the target and act, or change it?",
                f"definitions.html#{row.metric}",
            )
        )
    apart = [point for point in funnel if point.position.startswith("above the 99.8")]
    if apart:
        names = listed([point.service for point in sorted(apart, key=lambda one: one.service)[:4]])
        more = f" and {number(len(apart) - 4)} more" if len(apart) > 4 else ""
        decisions.append(
            Decision(
                "Services apart from the rest",
                f"{names}{more} failed more often than chance explains. What is different there?",
                "services.html",
            )
        )
    lost = sum(one.lost_hours for one in pipelines)
    if pipelines and pipelines[0].lost_hours > 0 and lost:
        top = pipelines[0]
        decisions.append(
            Decision(
                "Pipeline hours",
                f"{top.repository} / {top.workflow} alone lost {duration(top.lost_hours * 3600)} of the "
                f"{duration(lost * 3600)} that all workflows lost "
                f"({percent(top.lost_hours / lost)}). Is mending it worth somebody's weeks?",
                "pipelines.html",
            )
        )
    return decisions[:MOST]


def security_points(provenance: Provenance, quarter: str) -> list[Point]:
    """Three to five sentences on findings, coverage, rules and waivers."""
    open_ones = provenance.of_state("open")
    severities = [f"{number(count)} {severity}" for severity, count in provenance.by_severity() if count]
    points = [
        Point(
            f"{counted(len(open_ones), 'finding')} {'is' if len(open_ones) == 1 else 'are'} open"
            if open_ones
            else "No finding is open",
            (f"({listed(severities)}); " if severities else "; ")
            + f"{number(provenance.opened)} {'was' if provenance.opened == 1 else 'were'} first seen in {quarter}, "
            f"{number(provenance.closed)} {'was' if provenance.closed == 1 else 'were'} fixed in it.",
        )
    ]
    covered = provenance.covered_in(quarter)
    kinds = provenance.coverage_kinds
    if covered and covered.digests and kinds:
        words = listed([f"{COVERAGE_WORDS[kind].split()[-1]} {k_of_n(covered, kind)}" for kind in kinds])
        unknown = (
            f"; {counted(covered.without_digest, 'deployment')} of {number(covered.deployments)} could be tied to no "
            "digest"
            if covered.without_digest
            else ""
        )
        points.append(Point("Coverage", f"of {number(covered.digests)} deployed digests: {words}{unknown}."))
    weakest = max(
        (one for one in provenance.controls if one.counts.get("failed")),
        key=lambda one: (one.counts["failed"], one.name),
        default=None,
    )
    if weakest:
        points.append(
            Point(
                "Controls:",
                f"{lowered(words_of(weakest.name))} was missed most often, by {number(weakest.counts['failed'])} of "
                f"{counted(weakest.evaluated, 'deployment')} that it was asked of.",
            )
        )
    waived = provenance.of_state("waived")
    if provenance.waivers:
        holding = [one for one in provenance.waivers if not one.expired]
        ending = sum(1 for one in holding if one.expiring)
        expired = len(provenance.waivers) - len(holding)
        parts = []
        if holding:
            soon = f", of which {number(ending)} {'ends' if ending == 1 else 'end'} within a quarter" if ending else ""
            parts.append(f"{counted(len(waived), 'finding')} under {counted(len(holding), 'waiver')}{soon}")
        if expired:
            ended = "has ended and waives" if expired == 1 else "have ended and waive"
            parts.append(f"{counted(expired, 'waiver')} {ended} nothing now")
        points.append(Point("Waived, and still counted:", "; ".join(parts) + "."))
    failed = [
        (verdict, count) for verdict, count in provenance.verdicts if verdict not in ("VERIFIED", "VERIFIED_PRIVATE")
    ]
    if provenance.unasked:
        points.append(
            Point(
                "Provenance:",
                "no source of attestations is configured, so that nothing is known of who built what was deployed.",
            )
        )
    elif failed:
        verdict, count = failed[0]
        points.append(
            Point(
                "Most common reason why a deployment is not verified:",
                f"{lowered(words_of(verdict))} ({number(count)} of {counted(provenance.judged, 'deployment')}).",
            )
        )
    return points


def team_points(card_rows: Sequence[ScorecardRow], findings: Sequence[FindingRow], open_incidents: int) -> list[Point]:
    """What moved for a team by a test, what is open, and what did not change."""
    verbs: Mapping[str, str] = {"worse": "got worse", "better": "got better", "changed": "changed"}
    points = [
        Point(row.title, f"{verbs[row.reading]}: {row.shown.sentence}.")
        for reading in verbs
        for row in card_rows
        if row.reading == reading and row.shown.state == "value"
    ][:2]
    still = [one for one in findings if one.state == "open"]
    grave = sum(1 for one in still if one.severity in GRAVE)
    if still or open_incidents:
        points.append(
            Point(
                "Open:",
                f"{counted(len(still), 'finding')} ({number(grave)} critical or high), "
                f"{counted(open_incidents, 'incident')}.",
            )
        )
    same = [lowered(row.title) for row in card_rows if row.reading == "no clear change" and row.shown.state == "value"]
    few = sum(1 for row in card_rows if row.reading == "too few data")
    if same:
        rest = [*same[:4], *([f"{number(len(same) - 4)} more"] if len(same) > 4 else [])]
        points.append(Point("No clear change", f"in {listed(rest)}."))
    if few:
        points.append(Point("Too few data", f"to say whether {counted(few, 'measure')} changed."))
    return points[:5]


def words_of(code: str) -> str:
    """A rule, control or verdict as words; abbreviations keep their capitals."""
    text = code.replace("_", " ").lower()
    return " ".join({"sbom": "SBOM", "slsa": "SLSA"}.get(word, word) for word in text.split())
