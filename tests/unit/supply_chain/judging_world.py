"""An attestation and a deployment that fit together, to be changed in one place at a time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analytics.supply_chain.policy import AttestedFacts, Check, Claims, DeploymentFacts, evaluate
from analytics.supply_chain.rules import Policies, Policy, load_policies

REPOSITORY_URI = "https://github.com/acme/shop"
WORKFLOW_URI = f"{REPOSITORY_URI}/.github/workflows/release.yml@refs/heads/main"
RUN_URI = f"{REPOSITORY_URI}/actions/runs/900/attempts/1"
COMMIT = "c0" * 20
DIGEST = "sha256:" + "5a" * 32

FACTS = AttestedFacts(
    verdict="VERIFIED",
    issuer="https://token.actions.githubusercontent.com",
    signer_uri=WORKFLOW_URI,
    build_config_uri=WORKFLOW_URI,
    source_repository_uri=REPOSITORY_URI,
    source_repository_id="4711",
    source_owner_id="12",
    commit=COMMIT,
    ref="refs/heads/main",
    trigger="push",
    runner_environment="github-hosted",
    run_invocation_uri=RUN_URI,
    builder_id=WORKFLOW_URI,
    statement_type="https://in-toto.io/Statement/v1",
    predicate_type="https://slsa.dev/provenance/v1",
    verified_at=datetime(2024, 5, 1, 12, 0, tzinfo=UTC),
    subject_digests=frozenset({DIGEST}),
    claims=Claims(
        source_repository_uri=REPOSITORY_URI,
        source_repository_id="4711",
        commit=COMMIT,
        ref="refs/heads/main",
        build_config_uri=WORKFLOW_URI,
        builder_id=WORKFLOW_URI,
        trigger="push",
        runner_environment="github-hosted",
        run_invocation_uri=RUN_URI,
    ),
)

DEPLOYMENT = DeploymentFacts(
    service="shop",
    repository="acme/shop",
    repository_id="4711",
    sha=COMMIT,
    digest=DIGEST,
    finished_at=datetime(2024, 5, 1, 13, 0),
    knows_run=lambda run_id: run_id == "900",
    has_sbom=True,
)


def policies(tmp_path: Path, text: str) -> Policies:
    path = tmp_path / "policies.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policies(path)


def default_policy() -> Policy:
    return load_policies(None).of("acme/shop", "shop")


def judged(
    *, policy: Policy | None = None, deployment: DeploymentFacts = DEPLOYMENT, kind: Any = "provenance", **facts: Any
) -> tuple[Check, ...]:
    """The checks over the attestation above with some of its facts changed."""
    return evaluate(replace(FACTS, **facts), deployment, policy or default_policy(), kind=kind)


def named(checks: Sequence[Check], name: str) -> Check:
    (check,) = [check for check in checks if check.name == name]
    return check


def failures(checks: Sequence[Check]) -> list[tuple[str, str | None]]:
    return [(check.name, check.verdict) for check in checks if check.failed]
