"""The plain records that delivery facts are derived from and turned into; times are naive UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from analytics.catalog import Service
from analytics.settings import IncidentRules, ReworkRules


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to bring a service to production (metrics.md section 1)."""

    service: str
    deployment_key: str
    source_deployment_id: str | None
    run_id: str | None
    attempt: int
    region: str | None
    repository: str
    environment: str
    sha: str
    digest: str | None
    ref: str | None
    outcome: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    carried_over: bool = False
    creator: str | None = None
    labels: tuple[str, ...] = ()
    # (repository, sha) pairs beyond the record's own, for a deployment over several repositories.
    revisions: tuple[tuple[str, str], ...] = ()
    artifact: tuple[str | None, str] | None = None
    # (repository, sha) pairs that verified provenance says its artifact was built of.
    provenance: tuple[tuple[str, str], ...] = ()
    origin: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class PullRequestFacts:
    """What lead-time stages, squash originals and hotfix rules ask of a pull request."""

    repository: str
    number: int
    title: str | None
    labels: tuple[str, ...]
    head_ref: str | None
    created_at: datetime
    first_review_at: datetime | None
    approved_at: datetime | None
    merged_at: datetime | None
    merge_commit_sha: str | None
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExplicitLink:
    """What an incident names as its cause: kind is deployment, sha, pull_request or version."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Incident:
    """A merged incident: earliest impact, latest end, all links (metrics.md section 8)."""

    key: str
    ids: tuple[str, ...]
    service: str | None
    title: str | None
    severity: str | None
    labels: tuple[str, ...]
    opened_at: datetime
    impact_started_at: datetime
    # End of recovery: mitigation, else resolution; None while nothing has ended.
    ended_at: datetime | None
    # End of restoration: resolution, else mitigation.
    restored_at: datetime | None
    links: tuple[ExplicitLink, ...]
    fixed_by: tuple[str, ...]
    url: str | None
    # A fingerprint of its rows, and of which of their ends have come to pass; "" where nobody compares.
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """A human decision about a deployment or an incident, which wins over every rule."""

    failed: bool
    reason: str
    deployment_id: str | None = None
    incident_id: str | None = None


@dataclass(frozen=True)
class Rules:
    """The settings that failures and rework depend on, with the cut-off."""

    incidents: IncidentRules
    rework: ReworkRules
    now: datetime
    overrides: tuple[Override, ...] = ()

    def window(self, service: Service) -> timedelta:
        """How long after a deployment an incident may still be linked to it by time."""
        hours = service.link_window_hours
        return timedelta(hours=self.incidents.link_window_hours if hours is None else hours)


@dataclass(slots=True, eq=False)
class Deployment:
    """A deployment in the making: attempts that share a key, then kind, owned commits and evidence."""

    service: str
    key: str
    attempts: list[Attempt]
    outcome: str
    repository: str
    environment: str
    sha: str
    digest: str | None
    ref: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    labels: tuple[str, ...]
    sequence: int | None = None
    kind: str | None = None
    resolved: bool = False
    identity: str = "sha"
    # Repository to sha after digests have been resolved.
    revisions: dict[str, str] = field(default_factory=dict)
    # Links to other deployments stay out of the representation, which would otherwise walk the whole chain.
    previous: Deployment | None = field(default=None, repr=False)
    rollback_target: Deployment | None = field(default=None, repr=False)
    # (repository, commit number) of every new commit after the path filter, merges included.
    new_commits: list[tuple[str, int]] = field(default_factory=list)
    pull_requests: dict[tuple[str, int], PullRequestFacts] = field(default_factory=dict)
    rework: str | None = None
    rework_evidence: str | None = None
    blames: Deployment | None = field(default=None, repr=False)
    failed: bool = False
    failure_method: str | None = None
    failure_evidence: str | None = None
    counts_as_failed_attempt: bool = False
    recovered_at: datetime | None = None
    recovery_open: bool = False
    recovery_excluded: str | None = None
    warning: str | None = None

    @property
    def finish_unknown(self) -> bool:
        """A success whose time of success nobody recorded: counted, but in no duration."""
        return self.outcome == "success" and self.finished_at is None

    @property
    def at(self) -> datetime:
        """The time that orders and dates the deployment: its finish, else its creation."""
        return self.finished_at or self.created_at

    @property
    def rollout_start(self) -> datetime:
        """When production may first have changed."""
        return self.started_at or min(self.created_at, self.at)

    @property
    def order(self) -> tuple[datetime, datetime, str]:
        """The total order of a service's deployments (metrics.md section 1)."""
        return self.at, self.rollout_start, self.key


@dataclass(frozen=True, slots=True)
class OwnedCommit:
    """One row of `change_lead`: a commit and the deployment that first shipped it."""

    deployment: Deployment
    repository: str
    sha: str
    author: str | None
    is_bot: bool
    authored_at: datetime
    excluded: str | None
    pull_request: PullRequestFacts | None
    original_of: str | None
    path_unknown: bool
    first_authored_at: datetime | None


@dataclass(frozen=True, slots=True)
class FailureLink:
    """Evidence that a deployment failed."""

    deployment: Deployment
    method: str
    confidence: str
    evidence: str
    at: datetime
    incident_key: str | None = None
    by: Deployment | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident as one service sees it, with its link or why there is none."""

    service: str
    incident: Incident
    deployment_key: str | None
    unlinked_reason: str | None


@dataclass(frozen=True, slots=True)
class ReachRow:
    """A commit that a service has not reached (no sequence), or reached lately, and who recorded it, if anybody."""

    sha: str
    sequence: int | None
    owner_sequence: int | None
    counted: bool | None


@dataclass
class ServiceFacts:
    """Everything derived for one service."""

    service: Service
    deployments: list[Deployment] = field(default_factory=list)
    commits: list[OwnedCommit] = field(default_factory=list)
    links: list[FailureLink] = field(default_factory=list)
    incidents: list[IncidentRow] = field(default_factory=list)
    # What a later build asks of the chain (`service_facts.reach_rows`).
    reach: list[ReachRow] = field(default_factory=list)
