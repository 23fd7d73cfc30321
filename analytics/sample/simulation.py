"""Lets one repository live through the period: merges, releases, mishaps and their remedies in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial

from analytics.sample.book import Book
from analytics.sample.changes import Change, plan_changes
from analytics.sample.delivering import HELD, Live, ServiceDelivery
from analytics.sample.mishaps import (
    blame_nothing_known,
    far_from_deployments,
    propose_revert,
    strike,
    strike_openly,
    write_incidents,
)
from analytics.sample.organisation import (
    Estate,
    failure_mood,
    lead_mood,
    live_from,
    people,
    quiet_quarter,
    release_mood,
)
from analytics.sample.pipelines import Pipelines
from analytics.sample.repository import Repository, TrunkEntry
from analytics.sample.rollouts import Try
from analytics.sample.runs import RunWriter
from analytics.sample.surroundings import write_drills, write_slo_samples
from analytics.sample.timeline import DAY, HOUR, MINUTE, Timeline, around, poisson, stream


def simulate(seed: int, estate: Estate, timeline: Timeline) -> Book:
    """All records of one repository and its services, and what was planted among them."""
    return _Simulation(seed, estate, timeline).run()


class _Simulation:
    def __init__(self, seed: int, estate: Estate, timeline: Timeline) -> None:
        self.seed = seed
        self.estate = estate
        self.timeline = timeline
        self.book = Book()
        self._queue: list[tuple[int, int, Callable[[int], None]]] = []
        self._tickets = 0
        main = estate.habits[0]
        began = live_from(main, timeline)
        begun = (timeline.start - 10 * DAY) if began is None else began - 21 * DAY
        self.repository = Repository(seed, estate.repository, main.merges, timeline.now)
        self.repository.begin(people(seed, main.team)[0], begun - 3 * HOUR, ["README.md"])
        self.deliveries = {
            habit.name: ServiceDelivery(seed, estate, habit, timeline, self.repository, self.book)
            for habit in estate.habits
        }
        # How often something rare has happened to a service.
        self._done: dict[tuple[str, str], int] = {}
        self._now_at = 0

    def run(self) -> Book:
        for delivery in self.deliveries.values():
            self._plan(delivery)
        while self._queue and self._queue[0][0] <= self.timeline.now:
            at, _, action = heapq.heappop(self._queue)
            action(at)
        self._close()
        return self.book

    def _schedule(self, at: int, action: Callable[[int], None]) -> None:
        self._tickets += 1
        heapq.heappush(self._queue, (at, self._tickets, action))

    def _plan(self, delivery: ServiceDelivery) -> None:
        for change in plan_changes(self.seed, delivery.habit, self.timeline, delivery.team):
            self._plan_change(delivery, change)
        for at in self._release_moments(delivery):
            self._schedule(at, partial(self._release, delivery))
        if delivery.companion is not None:
            self._plan_companion(delivery)
        if delivery.habit.selector == "workflow":
            rng = stream(self.seed, "skipped", delivery.habit.name)
            for _ in range(len(self.timeline.quarters)):
                at = round(rng.uniform(delivery.live_from + 5 * DAY, self.timeline.now - DAY))
                self._schedule(at, partial(self._skip, delivery))

    def _plan_change(self, delivery: ServiceDelivery, change: Change) -> None:
        if change.branch is not None:
            self._schedule(change.opened, lambda _: self.repository.open(change))
        if change.merged is not None:
            self._schedule(change.merged, lambda at: self._merged(delivery, self.repository.merge(change, at)))

    def _plan_companion(self, delivery: ServiceDelivery) -> None:
        companion, rng = delivery.companion, stream(self.seed, "companion", delivery.habit.name)
        assert companion is not None
        begin = self.timeline.day_index(companion.head.at) + 1
        for day in range(begin, self.timeline.day_index(self.timeline.now)):
            for _ in range(poisson(rng, 0.1 * self.timeline.activity(day))):
                at = self.timeline.working_moment(rng, day)
                author = rng.choice(delivery.team)
                change = Change(delivery.habit.name, author, "Adjust colours", None, [at], [["theme.css"]], at, at)
                self._schedule(at + 10 * MINUTE, partial(_push, companion, change))

    def _release_moments(self, delivery: ServiceDelivery) -> list[int]:
        """When a service is meant to be released, apart from releases that follow a merge."""
        habit, timeline = delivery.habit, self.timeline
        rng = stream(self.seed, "plan", habit.name)
        first = timeline.day_index(delivery.live_from)
        moments: list[int] = []
        if habit.pace == "continuous" or habit.live_after is not None:
            # Somebody has to begin.
            while not timeline.is_working_day(first):
                first += 1
            moments.append(timeline.midnight(first) + round(rng.uniform(9.5, 11.5) * HOUR))
        waited = rng.randint(0, habit.train_days) if habit.train_days else 0
        for day in range(first + bool(moments), timeline.day_index(timeline.now) + 1):
            if habit.pace == "paced":
                pace = release_mood(habit, timeline, timeline.midnight(day)) / 5
                for _ in range(poisson(rng, pace * timeline.release_activity(day))):
                    moments.append(timeline.midnight(day) + round(min(max(rng.gauss(13, 2.4), 8), 18.5) * HOUR))
            elif habit.pace == "train" and timeline.release_activity(day) > 0.5:
                waited += 1
                if waited >= habit.train_days:
                    waited = rng.choice((-1, 0, 0, 0, 1))
                    moments.append(timeline.midnight(day) + round(rng.gauss(10.5, 0.8) * HOUR))
        return sorted(moments)

    def _merged(self, delivery: ServiceDelivery, entry: TrunkEntry) -> None:
        for other in self.deliveries.values():
            if other.habit.pace == "continuous" and entry.concerns(other.habit.name):
                slow = lead_mood(other.habit, self.timeline, entry.at)
                at = entry.at + round(around(other.rng, 16 * MINUTE * slow))
                self._schedule(at, partial(self._release, other))
        if delivery.habit.pace == "train" and entry.number and delivery.mishaps.random() < 0.02:
            propose_revert(delivery, entry, entry.at + HOUR, self._schedule)

    def _is_due(self, delivery: ServiceDelivery, what: str, *shares: float) -> bool:
        """Whether the next thing of a rare kind is to happen, each share of the period bringing one."""
        done = self._done.get((delivery.habit.name, what), 0)
        begin = delivery.live_from
        return done < len(shares) and self._now_at > begin + (self.timeline.end - begin) * shares[done]

    def _did(self, delivery: ServiceDelivery, what: str) -> None:
        key = (delivery.habit.name, what)
        self._done[key] = self._done.get(key, 0) + 1

    def _release(self, delivery: ServiceDelivery, at: int) -> None:
        """A moment at which a service is meant to be released."""
        habit = delivery.habit
        if at < delivery.live_from:
            return
        if at < delivery.ready_at:
            later = at + 2 * HOUR if delivery.ready_at == HELD else delivery.ready_at + MINUTE
            self._schedule(later, partial(self._release, delivery))
            return
        quiet = quiet_quarter(habit, self.timeline)
        if quiet is not None and self.timeline.quarter_index(at) == quiet and at < self.timeline.end:
            return
        self._now_at = at
        news = delivery.news()
        if delivery.live and not news:
            self._release_again(delivery, at)
            return
        if delivery.live and self._release_specially(delivery, news, at):
            return
        image_is_known = True
        if habit.selector == "gitops" and delivery.live and self._is_due(delivery, "image", 0.3, 0.7):
            self._did(delivery, "image")
            image_is_known = False
        head = self.repository.head
        if head.sha in delivery.lost_images:
            return
        if habit.staging:
            staged = max(head.at + MINUTE, at - 3 * HOUR)
            delivery.ledger.write_elsewhere(head.sha, "main", staged, "staging")
        first = not delivery.live
        live = delivery.release(head.sha, head.position, at, image_is_known=image_is_known)
        if live is None:
            return
        if first:
            delivery.book.plant("seeds", live.entry.key)
        elif not image_is_known:
            delivery.book.plant("unresolved", live.entry.key)
            delivery.unrelease(live)
        elif not self._tamper(delivery, live):
            self._consider_mishap(delivery, live, quiet)

    def _release_again(self, delivery: ServiceDelivery, at: int) -> None:
        """Nothing is new: mostly nothing happens, sometimes the same commit goes out again."""
        live = delivery.live[-1]
        if delivery.habit.selector in ("tags", "releases") or delivery.rng.random() >= 0.08:
            return
        again = delivery.release(live.sha, live.position, at, companion_sha=live.companion_sha)
        if again is not None:
            delivery.book.plant("noops", again.entry.key)

    def _release_specially(self, delivery: ServiceDelivery, news: list[TrunkEntry], at: int) -> bool:
        """A release that is rare on purpose; says whether there was one."""
        habit, book = delivery.habit, delivery.book
        if habit.force_pushes and self._is_due(delivery, "force push", 0.45, 0.8):
            self._did(delivery, "force push")
            book.plant("unresolved", delivery.release_unknown(at))
            return True
        if habit.races and len(news) >= 2 and self._is_due(delivery, "race", 0.3, 0.65):
            self._did(delivery, "race")
            older, newer = news[-2], self.repository.head
            quick = Try(at + 7 * MINUTE, at + 9 * MINUTE, at + 10 * MINUTE, at + 22 * MINUTE, "success")
            slow = Try(at, at + 2 * MINUTE, at + 4 * MINUTE, at + 80 * MINUTE, "success")
            if delivery.release(newer.sha, newer.position, at, tries=[quick]) is not None:
                late = delivery.release(older.sha, older.position, at, tries=[slow])
                if late is not None:
                    book.plant("downgrades", late.entry.key)
            return True
        return False

    def _tamper(self, delivery: ServiceDelivery, live: Live) -> bool:
        """Small lies that real feeds tell about a deployment; says whether one was told."""
        habit, book = delivery.habit, delivery.book
        if habit.direct_share and self._is_due(delivery, "clock", 0.5):
            pushed = [entry for entry in live.news if entry.number == 0]
            if pushed:
                self._did(delivery, "clock")
                self.repository.postdate(pushed[-1].sha, live.finished + 5 * HOUR)
                book.plant("authored_after_deploy", pushed[-1].sha)
                return True
        if habit.companion and self._is_due(delivery, "finish", 0.6):
            key = delivery.ledger.forget_finish()
            if key is not None:
                self._did(delivery, "finish")
                book.plant("finish_unknown", key)
                return True
        return False

    def _consider_mishap(self, delivery: ServiceDelivery, live: Live, quiet: int | None) -> None:
        habit, timeline = delivery.habit, self.timeline
        if habit.ends_with_open_incident and live.finished > timeline.now - 12 * DAY:
            if self._is_due(delivery, "open", 0.0):
                self._did(delivery, "open")
                strike_openly(delivery, live)
            return
        # Nobody would have told of it by now, nor put it right.
        if live.finished > timeline.now - 2 * DAY:
            return
        # What a mishap leads to must not reach into a quarter without deployments.
        if quiet is not None and timeline.quarter_index(live.finished + 14 * DAY) == quiet:
            return
        if delivery.mishaps.random() < failure_mood(habit, timeline, live.finished):
            strike(delivery, live, self._schedule)

    def _skip(self, delivery: ServiceDelivery, at: int) -> None:
        delivery.book.plant("skipped_deploy_jobs", delivery.ledger.write_skipped(self.repository.head.sha, at))

    def _close(self) -> None:
        """What can only be written once everything has happened."""
        repository, book, timeline = self.repository, self.book, self.timeline
        for delivery in self.deliveries.values():
            far_from_deployments(delivery)
            if delivery.habit.races:
                blame_nothing_known(delivery)
            write_incidents(delivery)
            write_slo_samples(delivery)
            write_drills(delivery)
            if delivery.habit.races and delivery.live:
                key = delivery.ledger.write_in_progress(repository.head.sha, timeline.now - 7 * MINUTE)
                delivery.book.plant("in_progress", key)
            # Nobody collects the commits of a GitOps repository: its digests have to say what was deployed.
            for commit in delivery.companion.commits.values() if delivery.companion else ():
                delivery.book.add("commits", commit)
        main = self.deliveries[self.estate.habits[0].name]
        writer = RunWriter(book, repository.name, main.ledger.runs.templates_from, timeline.now)
        Pipelines(self.seed, main.habit, self.estate.number, writer, timeline).answer(repository)
        for commit in repository.commits.values():
            book.add("commits", commit)
        for request in repository.pull_request_records():
            book.add("pull_requests", request)
        for review in repository.review_records():
            book.add("reviews", review)
        for revision in repository.runbooks.values():
            book.add("file_revisions", revision)


def _push(repository: Repository, change: Change, at: int) -> None:
    repository.merge(change, at)
