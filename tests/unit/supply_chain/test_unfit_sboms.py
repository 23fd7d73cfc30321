"""An SBOM that is there and not valid fails the control, and nobody is told that there is none."""

from collections.abc import Mapping
from datetime import datetime

import duckdb
import pytest

from analytics.supply_chain.deployments import Judged, Known, judge_deployments
from analytics.supply_chain.joining import Artifacts, Attestations, Deployed
from analytics.supply_chain.rules import Policies, load_policies
from analytics.supply_chain.sbom_reading import SbomRead
from tests.unit.supply_chain.judging_world import COMMIT, DIGEST, policies

AT = datetime(2024, 5, 1, 13)


def read(verdict: str, reason: str) -> SbomRead:
    return SbomRead("5b" * 32, verdict, reason, None, 0, frozenset(), "file", ())


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory) -> Policies:
    return policies(tmp_path_factory.mktemp("policy"), "version: 1\ndefaults: {required: [sbom]}\n")


def judged(rules: Policies, unfit: Mapping[str, SbomRead]) -> Judged:
    deployed = Deployed(
        "shop", "d1", "d1", "acme/shop", "acme/shop", COMMIT, None, DIGEST, None, AT, AT.date(), 1, COMMIT
    )
    with duckdb.connect() as con:
        columns = ("digest", "name", "repository", "sha", "run_id", "release")
        con.execute(f"CREATE TABLE artifacts ({', '.join(f'{column} VARCHAR' for column in columns)})")
        artifacts = Artifacts(con, {})
    known = Known({}, frozenset(), frozenset(), {}, AT, has_policy=True, process={}, unfit_sboms=unfit)
    [one] = judge_deployments([deployed], artifacts, Attestations([], {}), rules, known, {})
    return one


@pytest.mark.parametrize(
    ("verdict", "why"), [("SCHEMA_INVALID", "$.components[0].type is no type."), ("UNREADABLE", "It is not JSON.")]
)
def test_one_that_is_not_valid_is_said_to_be_there(strict: Policies, verdict: str, why: str) -> None:
    one = judged(strict, {DIGEST: read(verdict, why)})
    [found] = one.findings
    assert found.reason == f"The SBOM that was found is not valid, see the finding of rule sbom_schema: {why}"
    assert (found.rule, found.found, found.sbom_sha256) == ("sbom", verdict, "5b" * 32)
    outcome = one.controls["sbom"]
    assert (outcome.outcome, outcome.note) == ("failed", f"the SBOM that was found is not valid ({verdict})")
    assert not one.provenance["sbom"]


def test_one_that_is_nowhere_was_not_found(strict: Policies) -> None:
    one = judged(strict, {})
    [found] = one.findings
    assert found.reason.startswith("No SBOM was found: expected an SBOM of sha256:")
    assert found.sbom_sha256 is None
    assert one.controls["sbom"].note == "no SBOM was found"


def test_its_finding_is_the_same_one_before_and_after_somebody_tried(strict: Policies) -> None:
    [before], [after] = judged(strict, {}).findings, judged(strict, {DIGEST: read("UNREADABLE", "x")}).findings
    assert before.id == after.id


def test_nobody_who_did_not_ask_for_one_is_told() -> None:
    assert "sbom" not in {one.rule for one in judged(load_policies(None), {DIGEST: read("UNREADABLE", "x")}).findings}
