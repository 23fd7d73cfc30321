"""One service's way to production: what is new since the last deployment, what is live, and what is released next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from analytics.sample.book import Book
from analytics.sample.changes import Change
from analytics.sample.ledger import DEPLOY_BOT, Entry, Ledger, gitops_repository, image_digest
from analytics.sample.organisation import OWNER, Estate, Habit, live_from, people
from analytics.sample.repository import Repository, TrunkEntry
from analytics.sample.rollouts import Rollout, Try, plan_tries, region_delay, slack
from analytics.sample.shipments import Shipment
from analytics.sample.timeline import HOUR, Timeline, stream

# Nothing is released until whoever set this says so.
HELD = 1 << 60

Schedule = Callable[[int, Callable[[int], None]], None]


@dataclass(frozen=True)
class Live:
    """A deployment that succeeded."""

    entry: Entry
    sha: str
    # Where its sha stands on the trunk; None on a release branch.
    position: int | None
    started: int
    finished: int
    tries: int
    companion_sha: str | None
    news: tuple[TrunkEntry, ...]


@dataclass
class Draft:
    """An incident as it develops; it becomes records when the story has ended."""

    service: str
    impact: int
    opened: int
    title: str
    severity: str
    labels: list[str] = field(default_factory=list)
    mitigated: int | None = None
    resolved: int | None = None
    deployment_id: str | int | None = None
    sha: str | None = None
    pull_request: int | None = None
    fixed_by: str | int | None = None
    # Told by the pager and by a ticket.
    twice: bool = False
    names_service: bool = True
    # Beside another incident of the same deployment.
    overlaps: bool = False
    kind: str = "linked_by_time"


class ServiceDelivery:
    """Releases one service in the order of time and remembers what is live."""

    def __init__(
        self, seed: int, estate: Estate, habit: Habit, timeline: Timeline, repository: Repository, book: Book
    ) -> None:
        self.seed = seed
        self.habit = habit
        self.timeline = timeline
        self.repository = repository
        # A service beyond the asked number lives its life, but leaves no trace.
        self.declared = habit.name in estate.declared
        self.book = book if self.declared else Book()
        self.team = people(seed, habit.team)
        self.rng = stream(seed, "releases", habit.name)
        self.mishaps = stream(seed, "mishaps", habit.name)
        began = live_from(habit, timeline)
        self.live_from = timeline.start if began is None else began
        share = habit.templates_after
        after = timeline.now + 1 if share is None else timeline.start + round((timeline.end - timeline.start) * share)
        number = estate.service_numbers[habit.name]
        self.ledger = Ledger(
            seed, habit, number, self.book, stream(seed, "ledger", habit.name), max(after, self.live_from), timeline.now
        )
        self.live: list[Live] = []
        self.drafts: list[Draft] = []
        # (started, finished) of every success, known commit or not.
        self.spans: list[tuple[int, int]] = []
        self.deployed_to = -1
        self.ready_at = 0
        self.companion = self._second(f"{OWNER}/{habit.companion}") if habit.companion else None
        self.environment = self._second(gitops_repository(habit)) if habit.selector == "gitops" else None
        self.lost_images: set[str] = set()
        self._images: set[str] = set()

    def _second(self, name: str) -> Repository:
        second = Repository(self.seed, name, "direct", self.timeline.now)
        second.begin(self.team[0], self.repository.head.at + HOUR, ["README.md"])
        return second

    def news(self) -> list[TrunkEntry]:
        """What the trunk holds for this service beyond its newest deployment."""
        entries = self.repository.trunk[self.deployed_to + 1 :]
        return [entry for entry in entries if entry.concerns(self.habit.name)]

    def release_head(
        self, at: int, *, must_succeed: bool = False, labels: tuple[str, ...] = (), is_patch: bool = False
    ) -> Live | None:
        """Release the trunk's head; None when that did not succeed, or would end after `now`."""
        head = self.repository.head
        return self.release(head.sha, head.position, at, must_succeed=must_succeed, labels=labels, is_patch=is_patch)

    def release(
        self,
        sha: str,
        position: int | None,
        at: int,
        *,
        must_succeed: bool = False,
        labels: tuple[str, ...] = (),
        ref: str = "main",
        is_patch: bool = False,
        tries: list[Try] | None = None,
        companion_sha: str | None = None,
        image_is_known: bool = True,
    ) -> Live | None:
        """Release a commit; None when that did not succeed, or would end after `now`."""
        habit, rng = self.habit, self.rng
        tries = tries or plan_tries(rng, habit, at, must_succeed=must_succeed)
        ends = tries[-1].finished + region_delay(habit, max(len(habit.regions) - 1, 0))
        if ends + HOUR > self.timeline.now:
            return None
        if self.companion is not None:
            companion_sha = companion_sha or self.companion.head.sha
        by_hand = must_succeed or rng.random() < 0.25
        rollout = Rollout(
            sha=sha,
            ref=ref,
            tries=tries,
            creator=rng.choice(self.team) if by_hand else DEPLOY_BOT,
            labels=labels,
            digest=self._image(sha, companion_sha, at, known=image_is_known) if self._names_image else None,
            environment_sha=self._environment_commit(sha, at) if self.environment else None,
            companion_sha=companion_sha,
            is_patch=is_patch,
        )
        entry = self.ledger.write(rollout)
        self.ready_at = ends + slack(habit)
        if len(tries) > 1 and rollout.succeeded:
            self.book.plant("retried", entry.key)
        if habit.regions and rollout.succeeded:
            self.book.plant("several_regions", entry.key)
        if not rollout.succeeded:
            cancelled = tries[-1].outcome == "cancelled"
            self.book.plant("cancelled" if cancelled else "never_succeeded", entry.key)
            if habit.failed_attempt_is_failure and not cancelled:
                self._fail(entry)
            return None
        news = tuple(self.news()) if position is not None and position > self.deployed_to else ()
        news = tuple(one for one in news if position is not None and one.position <= position)
        if not self.live:
            news = ()
        live = Live(entry, sha, position, tries[0].started, tries[-1].finished, len(tries), companion_sha, news)
        self._ship(entry, rollout, news, image_is_known=image_is_known)
        self.spans.append((live.started, live.finished))
        self._judge_reverts(live)
        self.live.append(live)
        if position is not None:
            self.deployed_to = max(self.deployed_to, position)
        return live

    def release_unknown(self, at: int) -> str | None:
        """Release a commit that a force push has removed since; returns the deployment's key."""
        tries = plan_tries(self.rng, self.habit, at, must_succeed=True)
        sha = self.repository.force_pushed_away()
        image = image_digest(self.seed, self.habit, sha)
        rollout = Rollout(sha, "main", tries, self.rng.choice(self.team), digest=image)
        entry = self.ledger.write(rollout)
        self._ship(entry, rollout, ())
        self.ready_at = tries[-1].finished + slack(self.habit)
        self.spans.append((tries[0].started, tries[-1].finished))
        return entry.key

    def unrelease(self, live: Live) -> None:
        """Forget a deployment whose image nobody can trace to a commit: what it shipped is still to be counted."""
        self.live.remove(live)
        self.deployed_to = max((one.position for one in self.live if one.position is not None), default=-1)
        self.lost_images.add(live.sha)

    def owner_of(self, sha: str) -> Live | None:
        """The deployment that first shipped a trunk commit."""
        return next((live for live in self.live if any(entry.sha == sha for entry in live.news)), None)

    def _judge_reverts(self, live: Live) -> None:
        """A revert of a deployed change blames its deployment; one that ships together with it blames nobody."""
        together = {entry.sha for entry in live.news}
        for entry in live.news:
            if entry.reverts is None or entry.service != self.habit.name:
                continue
            if entry.reverts in together:
                self.book.plant("reverted_before_release", entry.reverts)
            elif owner := self.owner_of(entry.reverts):
                self.book.plant("reverts", live.entry.key)
                self.blame(owner)

    def blame(self, live: Live) -> None:
        """Remember that a deployment failed, by whatever evidence, once."""
        self._fail(live.entry)

    def _fail(self, entry: Entry) -> None:
        if entry.key not in self.book.planted["failed_deployments"]:
            self.book.plant("failed_deployments", entry.key)

    @property
    def _names_image(self) -> bool:
        """Whether a deployment's record holds the digest of what it shipped."""
        return self.habit.selector in ("environment", "gitops")

    def _ship(
        self, entry: Entry, rollout: Rollout, news: tuple[TrunkEntry, ...], *, image_is_known: bool = True
    ) -> None:
        """Remember what reached production, for those who attest it."""
        versioned = self.habit.selector in ("tags", "releases")
        commits = self.repository.commits
        written = {sha for one in news for sha in (self.repository.originals(one.number) if one.number else [one.sha])}
        self.book.shipments.append(
            Shipment(
                service=self.habit.name,
                key=entry.key,
                deployment_id=entry.deployment_id,
                image=rollout.digest or image_digest(self.seed, self.habit, rollout.sha, rollout.companion_sha),
                image_is_known=image_is_known,
                sha=rollout.sha,
                ref=f"refs/heads/{rollout.ref}",
                run_id=entry.run_id,
                release=entry.key if versioned else None,
                templated=rollout.tries[0].run_at >= self.ledger.runs.templates_from,
                created=rollout.tries[0].created,
                finished=rollout.tries[-1].finished,
                creator=rollout.creator,
                authors=frozenset(commits[sha].author for sha in written if not commits[sha].is_bot),
            )
        )

    def _image(self, sha: str, companion_sha: str | None, at: int, *, known: bool) -> str:
        digest = image_digest(self.seed, self.habit, sha, companion_sha)
        if self.environment is None:
            return digest
        if known and digest not in self._images:
            self._images.add(digest)
            self.book.add("artifacts", self.ledger.artifact(sha, at))
        return digest

    def _environment_commit(self, sha: str, at: int) -> str:
        assert self.environment is not None
        title = f"Run {self.habit.name} at {sha[:7]}"
        values = [[f"apps/{self.habit.name}/values.yaml"]]
        change = Change(self.habit.name, DEPLOY_BOT, title, None, [at], values, at, at, is_bot=True)
        return self.environment.merge(change, at).sha
