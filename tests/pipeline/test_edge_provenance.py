"""E33: digest → provenance → commit. Verified provenance decides what was deployed; what does not verify never does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from analytics.sample.signing import TrustRoot, WorkflowIdentity, in_toto_statement, provenance
from analytics.settings import load_settings
from analytics.supply_chain.verify import verify
from tests.pipeline.conftest import BASE, SHOP, World

LEAD = "change_lead_time"
IMAGE = "ghcr.io/acme/checkout"
OTHER = TrustRoot.from_seed(99, "Somebody else")


class Attesting:
    """A world whose artifacts are attested, under a trust root made from a seed; the service is deployed by GitOps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = TrustRoot.from_seed(7, "Acme")
        world.path.joinpath("root.json").write_bytes(self.root.trusted_root_json())
        world.set(supply_chain={"trusted_roots": ["root.json"], "bundles": ["bundles/*.json"]})
        world.service(artifacts=[IMAGE])
        world.seed()
        world.commit("c1", 5, "c0")

    def identity(self, commit: str, **changes: Any) -> WorkflowIdentity:
        fields = {"repository": SHOP, "repository_id": 4711, "owner_id": 12, "sha": self.world.sha(commit), "run_id": 1}
        return WorkflowIdentity(**{**fields, **changes})

    def attest(
        self,
        image: str,
        commit: str,
        hours: float = 8,
        *,
        says: WorkflowIdentity | None = None,
        root: TrustRoot | None = None,
        predicate: tuple[str, dict[str, Any]] | None = None,
        **changes: Any,
    ) -> bytes:
        who = self.identity(commit, **changes)
        subjects = {IMAGE: self.world.digest(image)}
        statement = in_toto_statement(*predicate, subjects) if predicate else provenance(says or who, subjects)
        return (root or self.root).sign(statement, who, BASE + timedelta(hours=hours))

    def hand_in(self, image: str, bundle: bytes) -> None:
        self.world.add("attestations", digest=self.world.digest(image), bundle=json.loads(bundle))

    def deploy(self, name: str, image: str, hours: float, **fields: Any) -> None:
        """A deployment of the configuration repository, whose sha nobody builds."""
        fields = {"repository": "acme/gitops", "service": "checkout", **fields}
        self.world.deploy(name, f"manifests {name}", hours, digest=image, **fields)

    def record(self, image: str, commit: str) -> None:
        self.world.add(
            "artifacts", digest=self.world.digest(image), name=IMAGE, repository=SHOP, sha=self.world.sha(commit)
        )

    def fact(self, name: str) -> dict[str, Any]:
        [row] = self.world.facts("service_deployments", deployment_key=name)
        return row


@pytest.fixture
def attesting(world: World) -> Attesting:
    return Attesting(world)


def test_provenance_alone_leads_from_the_digest_to_the_commit(attesting: Attesting) -> None:
    attesting.deploy("d1", "image 1", 10)
    attesting.hand_in("image 1", attesting.attest("image 1", "c1"))
    attesting.world.measure().expect(LEAD, value=5, n=1)
    assert (attesting.fact("d1")["kind"], attesting.fact("d1")["identity"]) == ("change", "provenance")
    [row] = attesting.world.explain(LEAD)["rows"]
    assert row["sha"] == attesting.world.sha("c1")


def test_verified_provenance_wins_over_an_artifacts_record_and_what_does_not_verify_loses(attesting: Attesting) -> None:
    world = attesting.world
    world.history(("c2", 11), ("c3", 21), onto="c1")
    attesting.deploy("d1", "image 1", 10)
    attesting.record("image 1", "c3")
    attesting.hand_in("image 1", attesting.attest("image 1", "c1"))
    attesting.deploy("d2", "image 2", 20)
    attesting.record("image 2", "c2")
    attesting.hand_in("image 2", attesting.attest("image 2", "c3", 19, root=OTHER))
    measured = world.measure()
    measured.expect(LEAD, value=7, n=2)
    assert [attesting.fact(name)["identity"] for name in ("d1", "d2")] == ["provenance", "artifact_unverified"]
    assert {(row["deployment_key"], row["sha"]) for row in world.explain(LEAD)["rows"]} == {
        ("d1", world.sha("c1")),
        ("d2", world.sha("c2")),
    }


def test_nothing_that_does_not_verify_or_is_of_another_source_resolves_a_digest(attesting: Attesting) -> None:
    stranger = {"repository": "mallory/shop", "repository_id": 666, "owner_id": 66}
    attesting.world.at(500)
    wrong: dict[str, Callable[[str], bytes]] = {
        "of another root": lambda image: attesting.attest(image, "c1", root=OTHER),
        "forged": lambda image: attesting.attest(image, "c1", says=attesting.identity("c0")),
        "of another repository": lambda image: attesting.attest(image, "c1", **stranger),
        "of another host": lambda image: attesting.attest(image, "c1", server_url="https://github.example"),
        "of another issuer": lambda image: attesting.attest(image, "c1", issuer="https://issuer.example"),
        "no provenance": lambda image: attesting.attest(
            image, "c1", predicate=("https://cyclonedx.org/bom", {"bomFormat": "CycloneDX", "specVersion": "1.6"})
        ),
        "of a commit that nobody knows": lambda image: attesting.attest(image, "no such commit"),
        "made after the cut-off": lambda image: attesting.attest(image, "c1", hours=501),
        "altered": lambda image: (
            attesting.attest(image, "c1").replace(b'"sig":"MEU', b'"sig":"MEV').replace(b'"sig":"MEQ', b'"sig":"MER')
        ),
        "of another image": lambda image: attesting.attest("elsewhere", "c1"),
    }
    for number, (image, make) in enumerate(wrong.items()):
        attesting.deploy(image, image, 10 + number)
        attesting.hand_in(image, make(image))
    attesting.world.measure().undefined(LEAD, "no_history")
    identities = {name: attesting.fact(name)["identity"] for name in wrong}
    assert identities == dict.fromkeys(wrong, "sha")
    assert set(attesting.world.kinds().values()) == {"unresolved"}


def test_a_record_that_nobody_verified_does_not_outweigh_provenance_of_an_unknown_commit(attesting: Attesting) -> None:
    attesting.deploy("d1", "image 1", 10)
    attesting.record("image 1", "c1")
    attesting.hand_in("image 1", attesting.attest("image 1", "no such commit"))
    attesting.world.measure().undefined(LEAD, "no_history")


def test_a_deployment_that_names_no_service_is_found_by_the_repository_of_its_provenance(attesting: Attesting) -> None:
    world = attesting.world
    world.service("till", repository="acme/till", deploys={"environments": ["production"]})
    world.commit("t0", 1, repository="acme/till")
    attesting.deploy("d1", "image 1", 10, service=None)
    attesting.deploy("d2", "image 2", 12, service=None)
    attesting.hand_in("image 1", attesting.attest("image 1", "c1"))
    attesting.hand_in("image 2", attesting.attest("image 2", "t0", repository="acme/till", repository_id=4712))
    measured = world.measure()
    measured.deployments(1)
    measured.deployments(1, name="till")
    assert (world.kinds(), world.kinds("till")) == ({"d1": "change"}, {"d2": "seed"})


def test_provenance_decides_within_the_own_repository_too(attesting: Attesting) -> None:
    world = attesting.world
    world.commit("c2", 6, "c1")
    world.deploy("d1", "c2", 10, digest="image 1")
    attesting.hand_in("image 1", attesting.attest("image 1", "c1"))
    world.measure().expect(LEAD, value=5, n=1)
    assert attesting.fact("d1")["identity"] == "provenance"
    assert attesting.fact("d1")["sha"] == world.sha("c2"), "what the deployment said stays"
    world.command("verify")
    findings = json.loads(world.command("findings", "--format", "json"))
    assert "COMMIT_MISMATCH" in {finding["verdict"] for finding in findings}


def test_what_build_judged_is_not_judged_again_and_its_attested_sbom_is_still_read(attesting: Attesting) -> None:
    world = attesting.world
    attesting.deploy("d1", "image 1", 10)
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}
    bundles = world.path / "bundles"
    bundles.mkdir()
    (bundles / "provenance.json").write_bytes(attesting.attest("image 1", "c1"))
    (bundles / "sbom.json").write_bytes(
        attesting.attest("image 1", "c1", predicate=("https://cyclonedx.org/bom", sbom))
    )
    # Of an artifact that was never deployed: left to the stage that asks about everything.
    attesting.hand_in("image 9", attesting.attest("image 9", "c1"))
    world.measure().expect(LEAD, value=5, n=1)
    settings = load_settings(world.settings_path)
    first, second = verify(settings), verify(settings)
    assert (first.judged, first.known, first.sboms) == (1, 2, 1)
    assert (second.judged, second.known, second.sboms) == (0, 3, 1)
    assert first.verdicts == second.verdicts == {"VERIFIED": 1, "NO_ATTESTATION": 1}


def test_without_attestations_nothing_of_what_verifies_is_loaded(
    attesting: Attesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    attesting.world.set(supply_chain={})
    attesting.deploy("d1", "image 1", 10)
    # An import of this would fail now.
    monkeypatch.setitem(sys.modules, "analytics.supply_chain.source_commits", None)
    attesting.world.measure().undefined(LEAD, "no_history")
