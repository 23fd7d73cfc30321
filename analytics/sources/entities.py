"""The entities every provider speaks: fields, keys and times of one raw record.

Each struct is the validated core of a record; unknown fields are kept in the landed payload. The same
declarations give the typed tables of the lake their columns. Source: contract.md section 4.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | int
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Sha = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Attempt = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What every record may carry beside its own fields."""

    updated_at: Moment | None = None


class Commit(Record, frozen=True, kw_only=True):
    repository: Text
    sha: Sha
    parents: list[Sha] = []
    author: str | None = None
    is_bot: bool | None = None
    authored_at: Moment
    committed_at: Moment
    message: str | None = None
    patch_id: str | None = None
    files: list[str] | None = None


class PullRequest(Record, frozen=True, kw_only=True):
    repository: Text
    number: int
    title: str | None = None
    author: str | None = None
    labels: list[str] | None = None
    created_at: Moment
    first_review_at: Moment | None = None
    approved_at: Moment | None = None
    merged_at: Moment | None = None
    closed_at: Moment | None = None
    merge_commit_sha: str | None = None
    commits: list[Sha] | None = None
    head_ref: str | None = None


class PipelineRun(Record, frozen=True, kw_only=True):
    repository: Text
    run_id: Id
    attempt: Attempt
    workflow: Text
    event: str | None = None
    head_sha: Sha
    head_branch: str | None = None
    status: Text
    conclusion: str | None = None
    created_at: Moment
    started_at: Moment | None = None
    completed_at: Moment | None = None
    actor: str | None = None
    referenced_workflows: list[str] | None = None


class PipelineJob(Record, frozen=True, kw_only=True):
    repository: Text
    run_id: Id
    attempt: Attempt
    job_id: Id
    name: Text
    status: Text
    conclusion: str | None = None
    created_at: Moment | None = None
    started_at: Moment | None = None
    completed_at: Moment | None = None
    runner: str | None = None
    runner_labels: list[str] | None = None


class DeploymentStatus(msgspec.Struct, frozen=True):
    state: Text
    at: Moment


class Revision(msgspec.Struct, frozen=True):
    repository: Text
    sha: Sha


# What a deployment's status, or a state of its history, may say: contract.md section 4 and what GitHub says.
DEPLOYMENT_STATES = frozenset(
    {
        *("success", "failure", "cancelled", "skipped", "in_progress", "inactive", "unknown"),
        *("failed", "error", "canceled", "queued", "pending", "waiting"),
    }
)


class Deployment(Record, frozen=True, kw_only=True):
    deployment_id: Id
    attempt: Attempt | None = None
    service: str | None = None
    repository: Text
    environment: Text
    sha: Sha
    ref: str | None = None
    digest: str | None = None
    run_id: Id | None = None
    region: str | None = None
    status: str | None = None
    statuses: list[DeploymentStatus] | None = None
    created_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    creator: str | None = None
    revisions: list[Revision] | None = None
    labels: list[str] | None = None


class Incident(Record, frozen=True, kw_only=True):
    incident_id: Id
    service: str | None = None
    # Where it was reported; a repository with one service tells whose incident it is.
    repository: str | None = None
    title: str | None = None
    severity: str | None = None
    labels: list[str] | None = None
    opened_at: Moment
    impact_started_at: Moment | None = None
    mitigated_at: Moment | None = None
    resolved_at: Moment | None = None
    deployment_id: Id | None = None
    sha: str | None = None
    pull_request: str | int | None = None
    fixed_by_deployment_id: Id | None = None
    dedupe_key: str | None = None
    url: str | None = None


class Artifact(Record, frozen=True, kw_only=True):
    digest: Text
    name: Text
    repository: str | None = None
    sha: str | None = None
    run_id: Id | None = None
    created_at: Moment | None = None
    release: str | None = None


class Attestation(Record, frozen=True, kw_only=True):
    digest: str | None = None
    bundle: msgspec.Raw


class DeploymentRecord(Record, frozen=True, kw_only=True):
    """Which artifact ran in a place (environment, region, cluster, name) when its host was told so."""

    digest: Text
    repository: Text
    environment: Text
    physical_environment: str | None = None
    cluster: str | None = None
    deployment_name: Text
    recorded_at: Moment
    status: str | None = None
    created_at: Moment | None = None


class Sbom(Record, frozen=True, kw_only=True):
    digest: Text
    # Not `Raw | None`: msgspec lets such a union hold nothing but null.
    document: msgspec.Raw = msgspec.Raw(b"null")
    path: str | None = None


class Check(Record, frozen=True, kw_only=True):
    deployment_id: Id
    name: Text
    kind: Text
    conclusion: Text
    completed_at: Moment


class Drill(Record, frozen=True, kw_only=True):
    service: Text
    performed_at: Moment
    kind: Text
    outcome: Text


class SloSample(Record, frozen=True, kw_only=True):
    service: Text
    slo: Text
    at: Moment
    error_budget_remaining: Share


class GateResult(Record, frozen=True, kw_only=True):
    repository: Text
    run_id: Id
    gate: Text
    outcome: Literal["passed", "blocked", "overridden"]
    resolution: str | None = None
    at: Moment


class Review(Record, frozen=True, kw_only=True):
    repository: Text
    number: int
    reviewer: Text
    state: Text
    submitted_at: Moment


class Approval(Record, frozen=True, kw_only=True):
    deployment_id: Id
    approver: Text
    approved_at: Moment
    ticket: str | None = None


class SurveyResponse(Record, frozen=True, kw_only=True):
    respondent: Text
    question: Text
    answered_at: Moment
    team: str | None = None
    score: float
    max_score: Annotated[float, msgspec.Meta(gt=0)]


class Tag(Record, frozen=True, kw_only=True):
    """A git tag; `tagged_at` is the tagger's time, else the commit's."""

    repository: Text
    name: Text
    sha: Sha
    tagged_at: Moment | None = None


class Release(Record, frozen=True, kw_only=True):
    repository: Text
    tag: Text
    # Where a source tells the tag alone, the tag's commit is meant.
    sha: Sha | None = None
    published_at: Moment
    name: str | None = None


class FileChange(msgspec.Struct, frozen=True):
    """A commit that changed a file."""

    sha: Sha
    committed_at: Moment


class FileRevision(Record, frozen=True, kw_only=True):
    """The newest commit that changed a watched path (runbooks), and those before it as far as the source tells."""

    repository: Text
    path: Text
    sha: Sha
    committed_at: Moment
    earlier: list[FileChange] | None = None


@dataclass(frozen=True)
class Entity:
    """One kind of record: its struct, the fields that identify it and the time at which it happened."""

    name: str
    struct: type[Record]
    key: tuple[str, ...]
    occurred_at: str | None
    # Names people type; a CSV cell that opens a formula there is refused (issue of spreadsheets, CWE-1236).
    names: tuple[str, ...] = ()

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Record]:
        """Decodes and validates one JSON record."""
        return msgspec.json.Decoder(self.struct)

    @cached_property
    def columns(self) -> dict[str, str]:
        """Column name to DuckDB type of the typed table, in declaration order; times are naive UTC."""
        hints = typing.get_type_hints(self.struct, include_extras=False)
        own = [field.name for field in msgspec.structs.fields(self.struct) if field.name != "updated_at"]
        return {name: duckdb_type(hints[name]) for name in [*own, "updated_at"]}


def duckdb_type(hint: Any) -> str:
    """The DuckDB type that stores a field's Python type."""
    if get_origin(hint) is Annotated:
        return duckdb_type(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        # An id may come as a number or as text; text holds both.
        return duckdb_type(options[0]) if len(options) == 1 else "VARCHAR"
    if get_origin(hint) is Literal:
        return "VARCHAR"
    if get_origin(hint) is list:
        return f"{duckdb_type(get_args(hint)[0])}[]"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        fields = typing.get_type_hints(hint)
        # Quoted: a field may be named like a keyword (`at`).
        inner = ", ".join(f'"{name}" {duckdb_type(kind)}' for name, kind in fields.items())
        return f"STRUCT({inner})"
    simple = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", datetime: "TIMESTAMP"}
    return "JSON" if hint is msgspec.Raw else simple[hint]


ENTITIES: dict[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity("commits", Commit, ("repository", "sha"), "committed_at", ("repository",)),
        Entity("pull_requests", PullRequest, ("repository", "number"), "created_at", ("repository", "head_ref")),
        Entity(
            "pipeline_runs", PipelineRun, ("repository", "run_id", "attempt"), "created_at", ("repository", "workflow")
        ),
        Entity(
            "pipeline_jobs",
            PipelineJob,
            ("repository", "run_id", "attempt", "job_id"),
            "created_at",
            ("repository", "name", "runner"),
        ),
        Entity(
            "deployments",
            Deployment,
            ("deployment_id", "attempt"),
            "created_at",
            ("deployment_id", "service", "repository", "environment", "region", "creator"),
        ),
        Entity("incidents", Incident, ("incident_id",), "opened_at", ("incident_id", "service")),
        Entity("artifacts", Artifact, ("digest", "name"), "created_at", ("name", "repository")),
        Entity("attestations", Attestation, ("digest",), None),
        Entity(
            "deployment_records",
            DeploymentRecord,
            ("digest", "environment", "physical_environment", "cluster", "deployment_name", "recorded_at"),
            "recorded_at",
            ("repository", "environment", "deployment_name"),
        ),
        Entity("sboms", Sbom, ("digest",), None),
        Entity("checks", Check, ("deployment_id", "name"), "completed_at", ("name",)),
        Entity("drills", Drill, ("service", "performed_at"), "performed_at", ("service",)),
        Entity("slo_samples", SloSample, ("service", "slo", "at"), "at", ("service", "slo")),
        Entity("gate_results", GateResult, ("repository", "run_id", "gate"), "at", ("repository", "gate")),
        Entity("reviews", Review, ("repository", "number", "reviewer"), "submitted_at", ("repository", "reviewer")),
        Entity("approvals", Approval, ("deployment_id", "approver"), "approved_at", ("approver",)),
        Entity(
            "survey_responses",
            SurveyResponse,
            ("respondent", "question", "answered_at"),
            "answered_at",
            ("team", "question"),
        ),
        Entity("tags", Tag, ("repository", "name"), "tagged_at", ("repository", "name")),
        Entity("releases", Release, ("repository", "tag"), "published_at", ("repository", "tag")),
        Entity("file_revisions", FileRevision, ("repository", "path"), "committed_at", ("repository", "path")),
    )
}
