"""What goes wrong after a deployment, how it is put right, and the incidents that tell of it.

Source: metrics.md section 2 (evidence of a failed deployment) and section 6 (E12 to E16, E32, E36, E38).
"""

from __future__ import annotations

from collections.abc import Callable

from analytics.sample.changes import Change, urgent_change
from analytics.sample.delivering import HELD, Draft, Live, Schedule, ServiceDelivery
from analytics.sample.repository import TrunkEntry
from analytics.sample.rollouts import slack
from analytics.sample.timeline import DAY, HOUR, MINUTE, around, stream, utc, utc_or_none
from analytics.sources.entities import Incident

PAGER = "incidents/pager"
TICKETS = "incidents/tickets"

_SYMPTOMS = (
    "Error rate above threshold", "Slow responses", "Orders stuck", "Login fails for some customers", "Empty results",
    "Timeouts towards a partner", "Wrong totals shown", "Memory grows until restart", "Queue is not drained",
)  # fmt: skip

# How a bad deployment is put right, by what the service's tools can do.
_WAYS: dict[str, dict[str, float]] = {
    "environment": {"rollback": 40, "hotfix": 20, "revert": 20, "forward": 12, "switch": 8},
    "workflow": {"rollback": 35, "hotfix": 25, "revert": 30, "switch": 10},
    "gitops": {"rollback": 50, "hotfix": 20, "revert": 20, "forward": 10},
    "tags": {"hotfix": 50, "revert": 35, "switch": 15},
    "releases": {"hotfix": 50, "revert": 35, "switch": 15},
}
_RELEASE_BRANCH_WAYS = {"hotfix": 70.0, "revert": 15.0, "forward": 15.0}
# How often people open an incident at all; without one the remediation is the only evidence.
_TOLD = {"rollback": 0.8, "hotfix": 0.75, "revert": 0.7, "forward": 1.0, "switch": 1.0}


def strike(delivery: ServiceDelivery, live: Live, schedule: Schedule) -> None:
    """Let a deployment turn out bad: an incident in most cases, and a remediation that others wait for."""
    rng = delivery.mishaps
    previous = delivery.live[-2]
    ways = dict(_RELEASE_BRANCH_WAYS if delivery.habit.release_branches else _WAYS[delivery.habit.selector])
    if live.position is None or previous.position is None or previous.position >= live.position:
        ways.pop("rollback", None)
    if not any(entry.service == delivery.habit.name for entry in live.news):
        ways.pop("revert", None)
    way = rng.choices(list(ways), list(ways.values()))[0]
    draft = _draft(delivery, live)
    if rng.random() < _TOLD[way]:
        _link(delivery, draft, live, drafts=delivery.drafts)
    delivery.blame(live)
    delivery.ready_at = HELD
    respond = draft.opened + round(around(rng, 22 * MINUTE))
    if way == "rollback":
        schedule(respond, lambda at: _roll_back(delivery, live, previous, draft, at, schedule))
    elif way == "switch":
        draft.mitigated = delivery.ready_at = respond + round(around(rng, 25 * MINUTE))
        _settle(delivery, draft)
    else:
        _mend(delivery, live, draft, way, respond, schedule)


def strike_openly(delivery: ServiceDelivery, live: Live) -> None:
    """Let a deployment turn out bad without anybody having put it right by `now`."""
    draft = _draft(delivery, live)
    draft.twice = False
    draft.kind = "open_incidents"
    delivery.drafts.append(draft)
    # The next release waits until it hurts; else that one would be to blame.
    delivery.ready_at = max(delivery.ready_at, draft.impact + MINUTE)
    delivery.blame(live)


def _draft(delivery: ServiceDelivery, live: Live) -> Draft:
    rng = delivery.mishaps
    during = live.tries == 1 and live.finished > live.started and rng.random() < 0.12
    if during:
        impact = live.started + (live.finished - live.started) // 2
    else:
        impact = live.finished + min(round(around(rng, 24 * MINUTE, 1.1)), 5 * HOUR)
    severities, weights = ("sev1", "sev2", "sev3", "sev4"), (1, 4, 6, 2)
    if delivery.habit.tier > 1:
        weights = (0, 2, 6, 5)
    return Draft(
        service=delivery.habit.name,
        impact=impact,
        opened=impact + round(around(rng, 9 * MINUTE)),
        title=f"{rng.choice(_SYMPTOMS)} in {delivery.habit.name}",
        severity=rng.choices(severities, weights)[0],
        twice=rng.random() < 0.14,
    )


def _link(delivery: ServiceDelivery, draft: Draft, live: Live, drafts: list[Draft]) -> None:
    """Decide what the incident says about its cause; most say nothing."""
    rng = delivery.mishaps
    drafts.append(draft)
    if rng.random() < 0.35:
        draft.kind = "linked_explicitly"
        requests = [entry.number for entry in live.news if entry.number and entry.service == draft.service]
        if live.entry.deployment_id is not None and rng.random() < 0.6:
            draft.deployment_id = live.entry.deployment_id
            draft.names_service = rng.random() > 0.15
        elif requests and rng.random() < 0.5:
            draft.pull_request = requests[-1]
        else:
            draft.sha = live.sha
    if rng.random() < 0.08:
        # A second incident of the same deployment, while the first one lasts.
        second = _draft(delivery, live)
        second.impact = max(second.impact, draft.impact + 5 * MINUTE)
        second.opened = max(second.opened, second.impact + MINUTE)
        second.twice = False
        second.deployment_id = live.entry.deployment_id
        second.sha = None if second.deployment_id is not None else live.sha
        second.kind = "linked_explicitly"
        second.overlaps = True
        drafts.append(second)


def _settle(delivery: ServiceDelivery, draft: Draft) -> None:
    """Resolve what has been mitigated; an overlapping incident ends a little later."""
    rng = delivery.mishaps
    ends = draft.mitigated
    assert ends is not None
    draft.resolved = ends + round(around(rng, 4 * HOUR, 1.0))
    if rng.random() < 0.12 and not draft.twice:
        draft.mitigated, draft.resolved = None, ends
    for other in reversed(delivery.drafts):
        if other.mitigated is None and other.resolved is None and other.overlaps:
            other.mitigated = max(ends, other.opened) + round(around(rng, 30 * MINUTE))
            other.resolved = other.mitigated + round(around(rng, 3 * HOUR))


def _finish(delivery: ServiceDelivery, draft: Draft, remedy: Live | None, names_fix: float) -> None:
    """End an incident with the deployment that put it right."""
    rng = delivery.mishaps
    if remedy is None:
        return
    draft.mitigated = remedy.finished + round(around(rng, 5 * MINUTE, 0.4))
    if rng.random() < names_fix and draft in delivery.drafts:
        draft.fixed_by = remedy.entry.deployment_id
        if draft.fixed_by is not None:
            delivery.book.plant("incident_fixes", remedy.entry.key)
    _settle(delivery, draft)


def _roll_back(delivery: ServiceDelivery, bad: Live, target: Live, draft: Draft, at: int, schedule: Schedule) -> None:
    rng = delivery.mishaps
    remedy = delivery.release(target.sha, target.position, at, must_succeed=True, companion_sha=target.companion_sha)
    if remedy is None:
        return
    delivery.book.plant("rollbacks", remedy.entry.key)
    _finish(delivery, draft, remedy, 0.3)
    if rng.random() < 0.25:
        again = delivery.timeline.roll(rng, remedy.finished + round(around(rng, 4 * HOUR, 0.4)))
        schedule(again, lambda moment: _redeploy(delivery, bad, moment))
        return
    start = delivery.timeline.roll(rng, remedy.finished + round(around(rng, 3 * HOUR)))
    fix = urgent_change(
        rng, delivery.habit, delivery.team, start, title="Handle the failing case", branch="fix/forward"
    )
    _propose(delivery, fix, schedule, lambda entry: None)


def _redeploy(delivery: ServiceDelivery, bad: Live, at: int) -> None:
    """Bring back what had been rolled back, its cause lying outside the code."""
    if at < delivery.ready_at or delivery.deployed_to != bad.position or delivery.live[-1].sha == bad.sha:
        return
    if delivery.release(bad.sha, bad.position, at, must_succeed=True, companion_sha=bad.companion_sha):
        delivery.book.plant("redeploys", delivery.live[-1].entry.key)


def _mend(delivery: ServiceDelivery, bad: Live, draft: Draft, way: str, respond: int, schedule: Schedule) -> None:
    """Put it right by a change: a hotfix, a revert, or an ordinary one that the incident names."""
    rng, habit, team = delivery.mishaps, delivery.habit, delivery.team
    labels: tuple[str, ...] = ()
    deployment_labels: tuple[str, ...] = ()
    title, branch, body = f"Correct {draft.title.split(' in ')[0].lower()}", "fix/incident", ""
    if way == "revert":
        entry = [entry for entry in bad.news if entry.service == habit.name][-1]
        title, branch, body = f'Revert "{entry.title}"', f"revert/{entry.sha[:8]}", revert_body(delivery, entry)
    elif way == "hotfix":
        # Where the fix is picked onto a release branch, only that branch says hotfix.
        marks = [] if habit.release_branches else ["label", "branch", "title"]
        marks += ["deployment"] if habit.selector == "environment" else []
        mark = rng.choice(marks)
        labels = ("hotfix",) if mark == "label" else ()
        branch = f"hotfix/{bad.sha[:8]}" if mark == "branch" else branch
        title = f"Hotfix: {title.lower()}" if mark == "title" else title
        deployment_labels = ("hotfix",) if mark == "deployment" else ()
    change = urgent_change(rng, habit, team, respond, title=title, branch=branch, labels=labels, body=body)

    def release(entry: TrunkEntry) -> None:
        at = entry.at + round(around(rng, 6 * MINUTE, 0.4))
        schedule(at, lambda moment: deliver(moment, entry))

    def deliver(at: int, entry: TrunkEntry) -> None:
        if way == "hotfix" and habit.release_branches:
            remedy = _release_pick(delivery, bad, entry, at)
        else:
            remedy = delivery.release_head(at, must_succeed=True, labels=deployment_labels, is_patch=way == "hotfix")
        if remedy is None:
            return
        if way == "hotfix":
            delivery.book.plant("hotfixes", remedy.entry.key)
        _finish(delivery, draft, remedy, 1.0 if way == "forward" else 0.3)

    _propose(delivery, change, schedule, release)


def _release_pick(delivery: ServiceDelivery, bad: Live, entry: TrunkEntry, at: int) -> Live | None:
    """Release a hotfix from a release branch: the fix cherry-picked onto what is live."""
    rng = delivery.mishaps
    branch = f"hotfix/{bad.sha[:8]}"
    fix = delivery.repository.originals(entry.number)[-1]
    sha = delivery.repository.pick(fix, bad.sha, at - MINUTE, branch, rng.choice(delivery.team))
    remedy = delivery.release(sha, None, at, must_succeed=True, ref=branch, labels=("hotfix",))
    if remedy is not None:
        delivery.book.plant("cherry_picks", sha)
    return remedy


def revert_body(delivery: ServiceDelivery, entry: TrunkEntry) -> str:
    """What git writes into the message of a revert."""
    if delivery.repository.style == "merge" and entry.number:
        return f"This reverts commit {entry.sha}, reversing\nchanges made to {entry.previous}."
    return f"This reverts commit {entry.sha}."


def _propose(delivery: ServiceDelivery, change: Change, schedule: Schedule, then: Callable[[TrunkEntry], None]) -> None:
    """Open and merge a change that was not planned from the start."""
    assert change.merged is not None
    schedule(change.opened, lambda at: delivery.repository.open(change))
    schedule(change.merged, lambda at: then(delivery.repository.merge(change, at)))


def propose_revert(delivery: ServiceDelivery, entry: TrunkEntry, start: int, schedule: Schedule) -> None:
    """Take a merged change back before anybody has released it."""
    change = urgent_change(
        delivery.mishaps,
        delivery.habit,
        delivery.team,
        start,
        title=f'Revert "{entry.title}"',
        branch=f"revert/{entry.sha[:8]}",
        body=revert_body(delivery, entry),
    )
    _propose(delivery, change, schedule, lambda merged: None)


def far_from_deployments(delivery: ServiceDelivery) -> None:
    """Incidents that no deployment caused: longer after the last one than any window, some of them drift."""
    rng, timeline = stream(delivery.seed, "unlinked", delivery.habit.name), delivery.timeline
    if len(delivery.live) < 2:
        return
    window = round(max(delivery.habit.link_window_hours or 0, 24) * HOUR) + 3 * HOUR
    first, last = delivery.live[0].finished, timeline.now - 3 * DAY
    for _ in range((len(timeline.quarters) + 1) // 2):
        at = round(rng.uniform(first, last))
        before = [finished for started, finished in delivery.spans if started <= at]
        ends_at = at + round(around(rng, 2 * HOUR))
        if not before or at - max(before) <= window + slack(delivery.habit):
            continue
        drift = rng.random() < 0.4
        title = "Settings differ from what is checked in" if drift else "A machine went away"
        delivery.drafts.append(
            Draft(
                delivery.habit.name, at, at + round(around(rng, 10 * MINUTE)), title, rng.choice(("sev3", "sev4")),
                labels=["config-drift"] if drift else ["infrastructure"],
                mitigated=ends_at, resolved=ends_at + HOUR, kind="unlinked_incidents",
            )
        )  # fmt: skip


def blame_nothing_known(delivery: ServiceDelivery) -> None:
    """An incident that names a deployment which no feed holds."""
    at = delivery.timeline.start + (delivery.timeline.end - delivery.timeline.start) // 2
    delivery.drafts.append(
        Draft(
            delivery.habit.name, at, at + 5 * MINUTE, "Blamed on a deployment that nobody knows", "sev4",
            mitigated=at + HOUR, resolved=at + 2 * HOUR, deployment_id="deploy-of-yesterday", kind="linked_to_nothing",
        )
    )  # fmt: skip


def write_incidents(delivery: ServiceDelivery) -> None:
    """Write the records of a service's incidents as they stand at `now`, in the order of their impact."""
    now, book, rng = delivery.timeline.now, delivery.book, delivery.mishaps
    known = [draft for draft in delivery.drafts if draft.opened <= now]
    known.sort(key=lambda draft: (draft.impact, draft.opened))
    for number, draft in enumerate(known, start=1):
        ticket, page = f"{delivery.habit.key}-{number}", f"P{delivery.habit.key}{number:05d}"
        dedupe_key = f"{delivery.habit.name}/{number}" if draft.twice else None
        by_pager = draft.twice or rng.random() < 0.4
        # Told twice: the pager knows when it stopped hurting, the ticket when it was over.
        if by_pager:
            book.add(PAGER, _record(delivery, draft, page, dedupe_key, draft.opened, resolved=not draft.twice))
        if draft.twice or not by_pager:
            opened = min(draft.opened + 11 * MINUTE, now) if draft.twice else draft.opened
            book.add(TICKETS, _record(delivery, draft, ticket, dedupe_key, opened, mitigated=not draft.twice))
        name = page if by_pager else ticket
        ended = utc_or_none(draft.mitigated, now) or utc_or_none(draft.resolved, now)
        if draft.kind != "open_incidents":
            book.plant(draft.kind, name)
        if ended is None:
            book.plant("open_incidents", name)
        if dedupe_key:
            book.plant("told_twice", dedupe_key)
        if "config-drift" in draft.labels:
            book.plant("config_drift", name)
        if draft.overlaps:
            book.plant("overlapping_incidents", name)


def _record(
    delivery: ServiceDelivery,
    draft: Draft,
    name: str,
    dedupe_key: str | None,
    opened: int,
    *,
    mitigated: bool = True,
    resolved: bool = True,
) -> Incident:
    now = delivery.timeline.now
    return Incident(
        incident_id=name,
        service=draft.service if draft.names_service else None,
        title=draft.title,
        severity=draft.severity,
        labels=draft.labels or None,
        opened_at=utc(opened),
        impact_started_at=utc(draft.impact),
        mitigated_at=utc_or_none(draft.mitigated, now) if mitigated else None,
        resolved_at=utc_or_none(draft.resolved, now) if resolved else None,
        deployment_id=draft.deployment_id,
        sha=draft.sha,
        pull_request=draft.pull_request,
        fixed_by_deployment_id=draft.fixed_by,
        dedupe_key=dedupe_key,
        url=f"https://incidents.harbourpine.example/{name}",
    )
