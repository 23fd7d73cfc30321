"""Numbers as words: durations, shares, rates, intervals and the small-sample rules that every page obeys.

Source: reports.md section 2 (n < 6 no median, n < 20 no p95 and no percentage change, k of n when n < 30, never a
bare 0 %) and metrics.md section 8 (reasons).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from analytics.statistics import (
    MIN_N_MEDIAN,
    MIN_N_P75_INTERVAL,
    MIN_N_P95,
    MIN_N_PERCENTAGE_CHANGE,
    MIN_N_RATIO,
)
from reports.published import Definition, MetricValue

# A number and its unit stay on one line.
NBSP = "\u00a0"
MINUS = "\u2212"

SMALLEST_N_OF_QUANTILE = {0.5: MIN_N_MEDIAN, 0.75: MIN_N_P75_INTERVAL, 0.95: MIN_N_P95}

MET = "met"
NOT_MET = "not met"
WITHIN_INTERVAL = "within the interval"

REASONS = {
    "not_yet_live": "not live yet",
    "not_collected": "not collected",
    "before_since": "before the service was live",
    "no_deployments": "no deployments",
    "no_incident_source": "no incident source",
    "seed_only": "only a first deployment, which owns no change",
    "no_new_commits": "no new commits deployed",
    "no_history": "commit history not known",
    "no_changes": "no deployment brought a change",
    "no_failed_deployments": "no failed deployments",
    "all_open": "every failure is still open",
    "median_not_reached": "at least half are still open",
    "no_incidents": "no incidents",
    "no_runs": "no pipeline runs",
    "no_jobs": "no pipeline jobs",
    "no_policy": "no policy configured",
    "no_catalog_entry": "not in the catalog",
    "not_critical": "not a critical service",
    "no_slo": "no objective with an error budget",
    "no_sample_before": "no sample of the error budget shortly before a deployment",
    "no_sample_after": "no sample of the error budget after a deployment",
    "window_open": "the time after the deployment is not over yet",
    "no_blocked_runs": "no run was blocked",
    "no_survey": "no answers",
    "no_required_controls": "the policy requires nothing",
    "not_evaluated": "some controls could not be evaluated",
    "not_verified": "not verified yet",
    "not_known_then": "not known at that time",
}


@dataclass(frozen=True)
class Shown:
    """A value as a reader sees it: the figure, its interval, and what to know beside it.

    `state` is "value", "few" (suppressed by a small-sample rule) or "undefined" (the reason stands in `main`).
    """

    main: str
    interval: str | None = None
    notes: tuple[str, ...] = ()
    state: str = "value"

    @property
    def sentence(self) -> str:
        """The figure with its interval, for running text."""
        return f"{self.main} ({self.interval})" if self.interval else self.main


def number(value: float, decimals: int = 0) -> str:
    """A plain number with thousands separators and a real minus sign."""
    text = f"{value:,.{decimals}f}"
    return MINUS + text[1:] if text.startswith("-") and text.strip("-0.,") else text.lstrip("-")


def quantity(value: float) -> str:
    """A count; decimals appear only where it is none."""
    return number(value, 0 if float(value).is_integer() else 1)


def percent(share: float, *, unit: bool = True) -> str:
    """A share with one decimal; something above nothing never reads as 0."""
    points = share * 100
    text = "under 0.1" if 0 < points < 0.05 else "100" if points == 100 else number(points, 1)
    return f"{text}{NBSP}%" if unit else text


def duration(seconds: float) -> str:
    """A length of time in the two units that matter: 36 s, 4 min 12 s, 43 min, 5 h 43 min, 4 d 6 h, 35 d."""
    if seconds < 0:
        return MINUS + duration(-seconds)
    if 0 < seconds < 0.5:
        return f"under 1{NBSP}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 600:
        return _two(whole, 60, "min", "s")
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min"
    if minutes < 48 * 60:
        return _two(minutes, 60, "h", "min")
    hours = round(seconds / 3600)
    if hours < 14 * 24:
        return _two(hours, 24, "d", "h")
    return f"{number(round(seconds / 86400))}{NBSP}d"


def _two(count: int, per: int, large: str, small: str) -> str:
    whole, rest = divmod(count, per)
    return f"{whole}{NBSP}{large}{NBSP}{rest}{NBSP}{small}" if rest else f"{whole}{NBSP}{large}"


def day(value: date) -> str:
    """A date without a leading zero: 5 October 2026."""
    return f"{value.day}{NBSP}{value:%B %Y}"


def short_day(value: date) -> str:
    """A date for tables: 5 Oct 2026."""
    return f"{value.day}{NBSP}{value:%b}{NBSP}{value:%Y}"


def moment(value: datetime, zone: ZoneInfo) -> str:
    """A stored UTC time in the report's zone, to the minute; in UTC on the last day there is, where no zone fits."""
    try:
        local = value.replace(tzinfo=UTC).astimezone(zone)
    except OverflowError:
        return f"{short_day(value.date())}, {value:%H:%M}{NBSP}UTC"
    return f"{short_day(local.date())}, {local:%H:%M}"


def reason_words(reason: str | None) -> str:
    """Why a value is undefined, in words."""
    if reason is None:
        return "undefined, and no reason was recorded"
    return REASONS.get(reason, reason.replace("_", " "))


def quantile_of(definition: Definition) -> float | None:
    """Which quantile a metric's headline is, or None for rates, ratios and counts."""
    name = f"{definition.metric} {definition.statistic}".casefold()
    for mark, quantile in (("p95", 0.95), ("p75", 0.75), ("median", 0.5)):
        if mark in name:
            return quantile
    return None


def statistic_words(definition: Definition) -> str | None:
    """What the figure is, where the title does not say it: "median" beside "Change lead time"."""
    return "median" if quantile_of(definition) == 0.5 and "median" not in definition.title.casefold() else None


def smallest_n(definition: Definition) -> int:
    """Fewest observations for which the figure is printed; 0 where every n is."""
    quantile = quantile_of(definition)
    own = definition.minimum_n or 0
    if quantile is None:
        # A share of one is a share; a mean of five answers is not.
        return own if own > 1 else 0
    return max(SMALLEST_N_OF_QUANTILE[quantile], own)


@dataclass(frozen=True)
class Pace:
    """The span over which a frequency reads well: about one or more of them."""

    days: float
    words: str


_PACES = (Pace(1, "a day"), Pace(7, "a week"), Pace(365.2425 / 12, "a month"))


def pace_of(per_day: float) -> Pace:
    """A day, a week or a month, whichever first holds at least one."""
    return next((pace for pace in _PACES if abs(per_day) * pace.days >= 1), _PACES[-1])


def amount(value: float, definition: Definition, pace: Pace | None = None) -> str:
    """One value of a metric in its natural unit, without n, interval or any rule."""
    if definition.unit == "hours":
        return duration(value * 3600)
    if definition.unit == "minutes":
        return minutes(value)
    if definition.unit == "per_day":
        chosen = pace or pace_of(value)
        return f"{number(value * chosen.days, 1)} {chosen.words}"
    if _is_share(definition):
        return percent(value)
    if definition.unit == "count":
        return quantity(value)
    return number(value, 2)


def minutes(value: float) -> str:
    """A pipeline's time: tenths of a minute say enough between one minute and one hour."""
    return f"{number(value, 1)}{NBSP}min" if 1 <= abs(value) < 60 else duration(value * 60)


def show(value: MetricValue | None, definition: Definition) -> Shown:
    """A metric value under the small-sample rules."""
    if value is None:
        return Shown("not measured", state="undefined")
    if value.value is None:
        named = f": {value.missing.replace('_', ' ')}" if value.missing and value.reason == "not_collected" else ""
        return Shown(reason_words(value.reason) + named, notes=_notes(value, with_n=False), state="undefined")
    few = smallest_n(definition)
    if few and (value.n or 0) < few:
        what = f"{value.n or 0} observation{'' if value.n == 1 else 's'}, {few} are needed"
        return Shown(f"too few data: {what}", notes=_notes(value, with_n=False), state="few")
    if _is_share(definition):
        return _show_share(value)
    pace = pace_of(value.value) if definition.unit == "per_day" else None
    notes = _notes(value, with_n=definition.unit in ("hours", "minutes"))
    if definition.unit == "per_day" and value.numerator is not None and value.denominator is not None:
        notes = (f"{quantity(value.numerator)} in {quantity(value.denominator)} days", *notes)
    elif definition.unit == "ratio" and value.numerator is not None and value.denominator is not None:
        notes = (f"{quantity(value.numerator)} for {quantity(value.denominator)}", *notes)
    return Shown(amount(value.value, definition, pace), _interval(value, definition, pace), notes)


def spoken_unit(metric: str, unit: str) -> str:
    """The unit in which a value is said: a ratio that is no part of a whole, as it may pass 1, is a plain number."""
    return "number" if unit == "ratio" and metric.endswith("_per_deployment") else unit


def _is_share(definition: Definition) -> bool:
    return spoken_unit(definition.metric, definition.unit) == "ratio"


def _show_share(value: MetricValue) -> Shown:
    assert value.value is not None
    interval = None
    if value.low is not None and value.high is not None:
        interval = f"{percent(value.low, unit=False)} to {percent(value.high)}"
    notes = _notes(value, with_n=False)
    if value.numerator is None or value.denominator is None:
        return Shown(percent(value.value), interval, notes)
    if value.n != value.denominator:
        # A share of time: its parts are hours, n is what they were observed on.
        parts = f"{number(value.numerator)}{NBSP}h of {number(value.denominator)}{NBSP}h"
        return Shown(percent(value.value), interval, (parts, f"n = {number(value.n or 0)}", *notes))
    counted = f"{quantity(value.numerator)} of {quantity(value.denominator)}"
    # Below 30 a percentage pretends a precision that is not there; "0 of 9" says more than 0 %.
    if value.denominator < MIN_N_RATIO or value.numerator == 0:
        return Shown(counted, interval, notes)
    return Shown(f"{counted}, {percent(value.value)}", interval, notes)


def _interval(value: MetricValue, definition: Definition, pace: Pace | None) -> str | None:
    if value.low is None:
        return None
    if value.high is None:
        # Kaplan-Meier: so much is still open that no upper end can be told.
        return f"{amount(value.low, definition, pace)} or more"
    if pace is not None:
        return f"{number(value.low * pace.days, 1)} to {number(value.high * pace.days, 1)} {pace.words}"
    return f"{amount(value.low, definition)} to {amount(value.high, definition)}"


def _notes(value: MetricValue, *, with_n: bool) -> tuple[str, ...]:
    notes = []
    if with_n and value.n is not None:
        notes.append(f"n = {number(value.n)}")
    if value.open:
        notes.append(f"{number(value.open)} still open")
    return tuple(notes)


def show_change(now: MetricValue | None, before: MetricValue | None, definition: Definition) -> str:
    """How a value moved against an earlier quarter, in natural units; in words where it cannot be said."""
    if before is None:
        return "not measured then"
    if before.value is None:
        return f"then: {reason_words(before.reason)}"
    if now is None or now.value is None:
        earlier = show(before, definition)
        return f"was {earlier.main}" if earlier.state == "value" else "then: too few data"
    if now.definition != before.definition:
        return "definition changed"
    few = smallest_n(definition)
    if few and min(now.n or 0, before.n or 0) < few:
        return "too few data"
    difference = now.value - before.value
    if _is_share(definition):
        sizes = [value.denominator for value in (now, before) if value.denominator is not None]
        if sizes and min(sizes) < MIN_N_RATIO:
            return f"was {show(before, definition).main}"
        return f"{_signed(number(abs(difference) * 100, 1), difference)}{NBSP}points"
    if definition.unit == "hours":
        # Seconds would pretend a precision that a value of hours does not have.
        exact = abs(difference) * 3600
        text = duration(round(exact / 60) * 60 if now.value >= 1 else exact)
    elif definition.unit == "minutes":
        text = minutes(abs(difference))
    elif definition.unit == "per_day":
        pace = pace_of(now.value)
        text = f"{number(abs(difference) * pace.days, 1)} {pace.words}"
    else:
        text = quantity(abs(difference)) if definition.unit == "count" else number(abs(difference), 2)
    enough = definition.unit != "count" and min(now.n or 0, before.n or 0) >= MIN_N_PERCENTAGE_CHANGE
    if before.value and enough and _is_something(text):
        relative = difference / before.value
        return f"{_signed(text, difference)} ({_signed(number(abs(relative) * 100), relative)}{NBSP}%)"
    return _signed(text, difference)


def _is_something(text: str) -> bool:
    return any(c in "123456789" for c in text)


def _signed(text: str, difference: float) -> str:
    if not _is_something(text):
        return f"\u00b1{text}"
    return f"{MINUS if difference < 0 else '+'}{text}"


def target_word(target: float | None, value: MetricValue | None, definition: Definition) -> str | None:
    """Whether the whole interval lies on a target's good side, met, or its bad one; None where that cannot be told."""
    if target is None or value is None or value.value is None or definition.direction is None:
        return None
    few = smallest_n(definition)
    if few and (value.n or 0) < few:
        return None
    low = value.low if value.low is not None else value.value
    high = value.high if value.high is not None else value.value
    best, worst, bound = (low, high, target) if definition.direction == "lower" else (-high, -low, -target)
    if worst <= bound:
        return MET
    return NOT_MET if best > bound else WITHIN_INTERVAL


def show_target(target: float | None, value: MetricValue | None, definition: Definition) -> str | None:
    """The organisation's own target, and whether it is met; None without a target."""
    if target is None:
        return None
    word = target_word(target, value, definition)
    return f"{amount(target, definition)}: {word}" if word else amount(target, definition)
