"""A service's chain continued from where it was known: the last deployments derived again, those before them kept.

What lies before the window is known by what later steps ask of it: which commits it had not reached, which of these it
had recorded, the deployment that was live. Whoever is asked about anything else before the window says so
(BehindWindow), and the service is derived from its beginning: the facts are the same either way. Source: spec
architecture.md section 4, metrics.md section 1 (the chain from the earliest change on).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics.catalog import Service
from analytics.delivery.attempts import attempts_of
from analytics.delivery.batch import Terms, histories_of, pull_requests_of
from analytics.delivery.deployments import ServiceChain, group_attempts
from analytics.delivery.failures import FailureSearch, is_version, source_names
from analytics.delivery.history import CommitFacts, History
from analytics.delivery.incidents import pull_request_number
from analytics.delivery.records import Deployment, Incident, PullRequestFacts, ServiceFacts
from analytics.delivery.service_facts import reach_rows

# The number of a commit that was live before the window: no commit of the window stands before it.
_BEFORE = -1


class BehindWindow(Exception):  # noqa: N818 (a question that has its answer elsewhere is no error)
    """Something that lies before the window, and was not loaded, decides."""


class WindowHistory(History):
    """The commits that nothing before the window had reached; it answers for others only where it knows."""

    def __init__(
        self,
        commits: Iterable[CommitFacts],
        asked: AbstractSet[str],
        before: AbstractSet[str],
        patches_before: AbstractSet[str],
    ) -> None:
        super().__init__(commits)
        self._asked = asked
        self._before = before
        self._patches_before = patches_before

    def find(self, sha: str) -> int | None:
        """The number of a commit; BehindWindow for one that was reached before, or of which nothing is known."""
        number = self.index.get(sha)
        if number is None and (sha in self._before or sha not in self._asked):
            raise BehindWindow(f"commit {sha}")
        return number

    def full_sha(self, text: str) -> str | None:
        """As for a whole history, but for an abbreviation: it may mean a commit that is not here."""
        if 7 <= len(text) < 40 and text not in self.index:
            raise BehindWindow(f"abbreviation {text}")
        return text if self.find(text) is not None else None

    def starting_with(self, prefix: str) -> str | None:
        """Nothing can be said of a prefix alone."""
        raise BehindWindow(f"abbreviation {prefix}")

    def with_patch(self, patch_id: str) -> list[int]:
        """Commits that carry the same patch; BehindWindow where one of them was reached before."""
        if patch_id in self._patches_before:
            raise BehindWindow(f"patch {patch_id}")
        return super().with_patch(patch_id)

    def is_before(self, older: int, newer: int) -> bool:
        """All between a commit that was not reached before and its descendant was not reached before either."""
        return newer != _BEFORE and super().is_before(older, newer)


@dataclass(frozen=True)
class Window:
    """The end of a service's chain, with the rows that it is derived from and what is known of the chain before it.

    Rows are of ATTEMPT_COLUMNS, COMMIT_COLUMNS and PULL_REQUEST_COLUMNS, all of the one repository `folded`.
    """

    service: Service
    folded: str
    start: datetime
    # The last successful deployment before the window, and the number of the last one that the last build knew.
    live: Deployment
    last: int
    # Keys of the deployments that are derived, those of the last build among them.
    keys: frozenset[str]
    # When the earliest of them began, by the last build.
    began_at: datetime | None
    attempts: Sequence[Sequence[Any]]
    commits: Sequence[Sequence[Any]]
    pull_requests: Sequence[Sequence[Any]]
    # Commits of the window that were recorded before it, as a pull request's: the deployment's sequence, and whether
    # they counted.
    recorded: Mapping[str, tuple[int, bool]]
    # Commits that came with this update; shas that were looked for, and those of them that were reached before.
    added: frozenset[str]
    asked: frozenset[str]
    before: frozenset[str]
    patches_before: frozenset[str]
    # What messages and parents of the repository's commits name: (sha, kind, named).
    references: Sequence[tuple[str, str, str]]
    # Numbers of pull requests that have changed, and the shas that they named before.
    changed_requests: frozenset[int]
    shas_before: frozenset[str]
    # Of deployments before the window: names, shas that were not known, what a fix is said to have fixed.
    names_before: frozenset[str]
    unresolved_before: frozenset[str]
    fixes_before: Sequence[str]
    changed_incidents: frozenset[str]
    # Incidents with a link to a deployment before the window.
    linked_before: frozenset[str]


class _WindowSearch(FailureSearch):
    """The failures of a window; what only a deployment before it could answer is BehindWindow."""

    def _deployed_before(self, deployment: Deployment) -> Deployment | None:
        found = super()._deployed_before(deployment)
        if found is None:
            raise BehindWindow("the deployment before a hotfix")
        return found

    def _by_time(self, incident: Incident) -> tuple[Deployment | None, str]:
        found, reason = super()._by_time(incident)
        if reason == "no_deployment_before":
            raise BehindWindow("the deployment before an incident")
        return found, reason


def derive_window(window: Window, incidents: Sequence[Incident], terms: Terms) -> tuple[ServiceFacts, set[str]]:
    """Facts of the window's deployments, and the keys of the incidents whose rows are among them.

    Raises BehindWindow where the facts depend on more of what lies before.
    """
    service = window.service
    attempts = attempts_of(window.attempts, terms.rules.now, None).get(service.name, [])
    deployments = group_attempts(service, attempts)
    if any(deployment.at < window.start for deployment in deployments):
        raise BehindWindow("a deployment")
    commits = histories_of(window.commits, terms.bots).get(window.folded, History(())).commits
    history = WindowHistory(commits, window.asked, window.before, window.patches_before)
    requests = pull_requests_of(window.pull_requests, terms.rules.now).get(window.folded, [])
    _check_history(window, history, requests)
    chain = ServiceChain(service, {window.folded: history}, {window.folded: requests})
    _take_up(chain, window, history)
    successes = [deployment for deployment in deployments if deployment.outcome == "success"]
    assert window.live.sequence is not None
    if window.live.sequence + len(successes) < window.last:
        # With fewer deployments, some that were too far back are among the last ones again.
        raise BehindWindow("a deployment that is one of the last again")
    chain.extend(successes, after=window.live.sequence)
    chosen = _incidents_of(window, deployments, history, requests, incidents)
    search = _WindowSearch(service, deployments, chain, {window.folded: requests}, terms.rules)
    search.run(sorted(chosen, key=lambda incident: (incident.impact_started_at, incident.key)))
    own = set(map(id, deployments))
    if any(id(link.deployment) not in own for link in search.links):
        raise BehindWindow("a deployment that failed")
    facts = ServiceFacts(service, deployments, chain.owned, search.links, search.incident_rows)
    facts.reach = list(reach_rows(chain, {sha: counted for sha, (_, counted) in window.recorded.items()}))
    return facts, {incident.key for incident in chosen} | window.changed_incidents


def _take_up(chain: ServiceChain, window: Window, history: WindowHistory) -> None:
    """Let a chain be where the deployments before the window left it."""
    chain.started.add(window.folded)
    chain.live = window.live
    chain.live_commit[window.folded] = _BEFORE
    for sha, (sequence, counted) in window.recorded.items():
        key = (window.folded, sha)
        chain.recorded.add(key)
        chain.owner[key] = _before(window, sequence)
        if counted:
            chain.counted.add(key)
            number = history.index.get(sha)
            if number is not None and (patch := history.commits[number].patch_id):
                chain.patches.add((window.folded, patch))


def _before(window: Window, sequence: int) -> Deployment:
    """A deployment before the window, of which only its place is known."""
    live = window.live
    return Deployment(
        live.service,
        live.key,
        [],
        "success",
        live.repository,
        live.environment,
        live.sha,
        None,
        None,
        live.created_at,
        None,
        None,
        (),
        sequence,
    )


def _check_history(window: Window, history: WindowHistory, requests: Sequence[PullRequestFacts]) -> None:
    """Raise BehindWindow where a new commit or pull request means something to what was shipped before."""
    if not window.added.isdisjoint(window.unresolved_before):
        raise BehindWindow("a deployment whose commit was not known")
    shas = [commit.sha for commit in history.commits]
    picks = {text for commit in history.commits for text in commit.picked_from}
    numbers = {request.number for request in requests} | window.changed_requests
    for sha, kind, named in window.references:
        if sha in history.index:
            continue
        if kind == "parent":
            is_meant = named in window.added
        elif kind == "revert_pull_request":
            is_meant = int(named) in numbers
        else:
            at = bisect_left(shas, named)
            is_meant = (at < len(shas) and shas[at].startswith(named)) or (kind == "picked_from" and named in picks)
        if is_meant:
            raise BehindWindow(f"commit {sha}, which names {named}")
    for sha in window.shas_before:
        _check_unshipped(history, sha)
    for request in requests:
        named_shas = {*request.commits, *([request.merge_commit_sha] if request.merge_commit_sha else [])}
        if request.number in window.changed_requests or not window.added.isdisjoint(named_shas):
            for sha in named_shas:
                _check_unshipped(history, sha)


def _check_unshipped(history: WindowHistory, sha: str) -> None:
    number = history.find(sha)
    if number is not None and (patch := history.commits[number].patch_id):
        history.with_patch(patch)


def _incidents_of(
    window: Window,
    deployments: Sequence[Deployment],
    history: WindowHistory,
    requests: Sequence[PullRequestFacts],
    incidents: Sequence[Incident],
) -> list[Incident]:
    """Incidents that may speak of the window's deployments; all others speak of those before it, as they did."""
    names = {name for deployment in deployments for name in source_names(deployment)} | window.keys
    if not names.isdisjoint(window.names_before):
        raise BehindWindow("a deployment of the same name")
    starts = [deployment.rollout_start for deployment in deployments if deployment.outcome == "success"]
    if window.began_at is not None:
        starts.append(window.began_at)
    first = min(starts, default=None)
    chosen: list[Incident] = []
    for incident in incidents:
        named = {link.value for link in incident.links if link.kind == "deployment"} | set(incident.fixed_by)
        is_near = first is not None and incident.impact_started_at >= first
        if is_near or incident.key in window.changed_incidents or not names.isdisjoint(named):
            others = any(link.kind != "deployment" for link in incident.links)
            if others or incident.key in window.linked_before or not named.isdisjoint(window.names_before):
                raise BehindWindow(f"incident {incident.key}")
            chosen.append(incident)
        elif any(_is_named(link.kind, link.value, deployments, history, requests) for link in incident.links):
            raise BehindWindow(f"incident {incident.key}")
    for key in window.changed_incidents:
        if key in window.linked_before or (window.fixes_before and not _fixed_nothing(key, incidents, window)):
            raise BehindWindow(f"incident {key}")
    return chosen


def _is_named(
    kind: str,
    value: str,
    deployments: Sequence[Deployment],
    history: WindowHistory,
    requests: Sequence[PullRequestFacts],
) -> bool:
    if kind == "sha":
        return value in history.index or any(deployment.sha == value for deployment in deployments)
    if kind == "pull_request":
        return pull_request_number(value) in {request.number for request in requests}
    return kind == "version" and any(is_version(deployment, value) for deployment in deployments)


def _fixed_nothing(key: str, incidents: Sequence[Incident], window: Window) -> bool:
    """Whether no deployment before the window is said to have fixed an incident."""
    if not key.startswith("incident:"):
        return False
    ids = {key.removeprefix("incident:")}.union(*(incident.ids for incident in incidents if incident.key == key))
    return not any(name in evidence for evidence in window.fixes_before for name in ids)
