"""What is judged: the facts that an attestation gives, and those of the deployment that it is held against.

Source: supply-chain.md section 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """What the predicate says of its own making. Anyone who can sign can write anything here: claims, not facts."""

    source_repository_uri: str | None = None
    source_repository_id: str | None = None
    commit: str | None = None
    ref: str | None = None
    build_config_uri: str | None = None
    builder_id: str | None = None
    trigger: str | None = None
    runner_environment: str | None = None
    run_invocation_uri: str | None = None


@dataclass(frozen=True, slots=True)
class AttestedFacts:
    """What one attestation is known to say, all of it from the certificate but what is said otherwise.

    `verdict` is cryptography's; `issuer` is extension .8, `signer_uri` .9, `runner_environment` .11,
    `source_repository_uri` .12, `commit` .13, `ref` .14, `source_repository_id` .15, `source_owner_id` .17,
    `build_config_uri` .18, `trigger` .20, `run_invocation_uri` .21. `builder_id` is the builder as the certificate
    names it; where it is None, the workflow that signed. `verified_at` is the log's time or the timestamp's.
    `statement_type`, `predicate_type`, `subject_digests` (`sha256:<hex>`) and `claims` are the signed payload's.
    """

    verdict: str
    issuer: str | None = None
    signer_uri: str | None = None
    build_config_uri: str | None = None
    source_repository_uri: str | None = None
    source_repository_id: str | None = None
    source_owner_id: str | None = None
    commit: str | None = None
    ref: str | None = None
    trigger: str | None = None
    runner_environment: str | None = None
    run_invocation_uri: str | None = None
    builder_id: str | None = None
    statement_type: str | None = None
    predicate_type: str | None = None
    verified_at: datetime | None = None
    subject_digests: frozenset[str] = frozenset()
    claims: Claims = Claims()


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """What is known of a deployment; what is None is not known, and no check fails for it.

    `repository` is `owner/name`. `knows_run` says whether a run id is one that was collected for the repository, and
    `has_sbom` whether a valid SBOM of this digest was; `unfit_sbom` is the verdict on one that is there and not valid.
    """

    service: str | None
    repository: str
    repository_id: str | None = None
    sha: str | None = None
    digest: str | None = None
    finished_at: datetime | None = None
    run_id: str | None = None
    knows_run: Callable[[str], bool] | None = None
    has_sbom: bool | None = None
    unfit_sbom: str | None = None
