"""What else an organisation records: error budgets, rollback drills, survey answers.

Source: metrics.md section 4 (indicators 8, 10 and 15).
"""

from __future__ import annotations

from datetime import timedelta

from analytics.sample.book import Book
from analytics.sample.delivering import ServiceDelivery
from analytics.sample.timeline import DAY, HOUR, Timeline, around, stream, utc
from analytics.sources.entities import Drill, SloSample, SurveyResponse

BUDGET_WINDOW = 28 * DAY
QUESTIONS = ("I can release my changes when I want to", "Our pipelines are reliable", "I would recommend our tools")
MAX_SCORE = 5.0

# Minutes of impact that use up the whole budget, by severity.
_BUDGET_MINUTES = {"sev1": 240.0, "sev2": 900.0, "sev3": 4000.0, "sev4": 20000.0}


def write_slo_samples(delivery: ServiceDelivery) -> None:
    """The error budget that is left, four times a day for the most critical services, else daily or weekly."""
    timeline, tier = delivery.timeline, delivery.habit.tier
    step = {0: 6 * HOUR, 1: DAY}.get(tier, 7 * DAY)
    spent: list[tuple[int, float]] = []
    for draft in delivery.drafts:
        ends = draft.mitigated or draft.resolved or timeline.now
        minutes = max(min(ends, timeline.now) - draft.impact, 0) / 60
        spent.append((draft.impact, min(minutes / _BUDGET_MINUTES[draft.severity], 0.9)))
    spent.sort()
    rng = stream(delivery.seed, "budget", delivery.habit.name)
    at, oldest = delivery.live_from + 5 * HOUR, 0
    while at <= timeline.now:
        while oldest < len(spent) and spent[oldest][0] <= at - BUDGET_WINDOW:
            oldest += 1
        used = sum(share for moment, share in spent[oldest:] if moment <= at)
        # Some errors happen on any day.
        remaining = max(0.0, 1.0 - used - rng.uniform(0.03, 0.05))
        delivery.book.add(
            "slo_samples",
            SloSample(
                service=delivery.habit.name,
                slo="availability",
                at=utc(at),
                error_budget_remaining=round(remaining, 5),
            ),
        )
        at += step


def write_drills(delivery: ServiceDelivery) -> None:
    """Rollback drills of critical services: most quarters, not all."""
    if delivery.habit.tier > 1:
        return
    rng = stream(delivery.seed, "drills", delivery.habit.name)
    for start in delivery.timeline.bounds:
        held, day = rng.random() < (0.8 if delivery.habit.rollback_ready else 0.25), rng.uniform(10, 80)
        outcome = rng.choices(("success", "failure"), (88, 12))[0]
        at = start + round(day * DAY) + 10 * HOUR
        if held and at > delivery.live_from:
            delivery.book.add(
                "drills", Drill(service=delivery.habit.name, performed_at=utc(at), kind="rollback", outcome=outcome)
            )


def survey(seed: int, teams: list[str], timeline: Timeline) -> Book:
    """The quarterly survey of the teams, answered by people who are known by a number only."""
    book = Book()
    for team in teams:
        rng = stream(seed, "survey", team)
        mood = rng.gauss(3.6, 0.35)
        for index, quarter in enumerate(timeline.quarters):
            day = timeline.calendar.days(quarter)[1] - timedelta(days=rng.randint(12, 20))
            midnight = int(timeline.calendar.midnight_utc(day).timestamp())
            worse = 0.7 if index == timeline.worse_quarter else 0.0
            for person in range(rng.randint(3, 7)):
                at = midnight + round(rng.uniform(9, 17) * HOUR)
                for question in QUESTIONS:
                    at += round(around(rng, 20, 0.4))
                    score = min(max(round(rng.gauss(mood - worse + 0.04 * index, 0.8)), 1), 5)
                    book.add(
                        "survey_responses",
                        SurveyResponse(
                            respondent=f"{team}/{person + 1}",
                            question=question,
                            answered_at=utc(at),
                            team=team,
                            score=float(score),
                            max_score=MAX_SCORE,
                        ),
                    )
    return book
