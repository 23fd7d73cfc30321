"""Whose provenance decides what an artifact was built of."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from analytics.supply_chain.rules import load_policies
from analytics.supply_chain.source_commits import SourceCommits
from tests.unit.supply_chain.judging_world import COMMIT, DIGEST, REPOSITORY_URI, WORKFLOW_URI, policies

TODAY = date(2026, 4, 10)
ROW: dict[str, Any] = {
    "proven": True,
    "verdict": "VERIFIED",
    "issuer": "https://token.actions.githubusercontent.com",
    "signer_uri": WORKFLOW_URI,
    "build_config_uri": WORKFLOW_URI,
    "source_repository_uri": REPOSITORY_URI,
    "source_repository_id": "4711",
    "source_owner_id": "12",
    "source_commit": COMMIT,
    "source_ref": "refs/heads/main",
    "build_trigger": "push",
    "runner_environment": "github-hosted",
    "run_invocation_uri": f"{REPOSITORY_URI}/actions/runs/900/attempts/1",
    "statement_type": "https://in-toto.io/Statement/v1",
    "predicate_type": "https://slsa.dev/provenance/v1",
    "verified_at": datetime(2026, 3, 1),
    "subject_digests": [DIGEST],
    "claims": None,
}


def built(
    *rows: dict[str, Any], repository: str = "acme/shop", ids: dict[str, str] | None = None
) -> tuple[tuple[str, str], ...]:
    """What a service of a repository is said to be built of, after changes to the row above."""
    commits = SourceCommits([ROW | row for row in rows], load_policies(None), TODAY, ids or {})
    return commits.of("shop", repository, DIGEST)


def test_the_repositorys_own_provenance_counts_in_any_letter_case() -> None:
    assert built({}) == (("acme/shop", COMMIT),)
    assert built({}, repository="Acme/Shop") == (("Acme/Shop", COMMIT),)


@pytest.mark.parametrize(
    "changed",
    [
        {"source_repository_uri": "https://github.com/mallory/shop"},
        {"source_repository_uri": "https://gitlab.com/acme/shop"},
        {"issuer": "https://issuer.example"},
        {"predicate_type": "https://cyclonedx.org/bom"},
        {"statement_type": "https://example.org/Statement"},
        {"source_repository_uri": None},
        {"subject_digests": ["sha256:" + "00" * 32]},
        {"verdict": "FORGED_CLAIMS"},
    ],
)
def test_provenance_of_somebody_else_or_of_another_kind_does_not(changed: dict[str, Any]) -> None:
    assert built(changed) == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"runner_environment": "self-hosted"},
        {"build_trigger": "pull_request_target"},
        {"signer_uri": "https://github.com/acme/ci/.github/workflows/build.yml@refs/heads/main"},
        {"source_ref": "refs/pull/7/merge"},
    ],
)
def test_how_it_was_built_changes_nothing_about_what_was(changed: dict[str, Any]) -> None:
    assert built(changed) == (("acme/shop", COMMIT),)


def test_a_renamed_repository_is_known_by_its_id_and_by_its_present_name() -> None:
    assert built({}, repository="acme/store", ids={"acme/store": "4711"}) == (("acme/store", COMMIT),)
    taken_over = {"acme/shop": "9999", "acme/store": "4711"}
    assert built({}, repository="acme/shop", ids=taken_over) == ()
    commits = SourceCommits([ROW], load_policies(None), TODAY, {"acme/store": "4711"})
    assert list(commits.repositories()) == [(DIGEST, "acme/store")]


def test_the_same_id_on_another_host_names_nothing() -> None:
    elsewhere = ROW | {"source_repository_uri": "https://git.example/other/thing"}
    commits = SourceCommits([elsewhere], load_policies(None), TODAY, {"acme/shop": "4711"})
    assert list(commits.repositories()) == []
    assert commits.of("shop", "acme/shop", DIGEST) == ()


def test_several_builds_of_an_artifact_are_all_said_in_the_order_given_and_each_once() -> None:
    other = "d1" * 20
    assert built({}, {"source_commit": other}, {}) == (("acme/shop", COMMIT), ("acme/shop", other))


def test_a_policy_may_trust_another_repository_for_a_service(tmp_path: Path) -> None:
    text = "policies:\n  - {services: [shop], source_repositories: ['https://github.com/acme/builds']}\n"
    row = ROW | {"source_repository_uri": "https://github.com/acme/builds"}
    commits = SourceCommits([row], policies(tmp_path, text), TODAY, {})
    assert commits.of("shop", "acme/shop", DIGEST) == (("acme/builds", COMMIT),)
    assert commits.of("till", "acme/till", DIGEST) == ()
