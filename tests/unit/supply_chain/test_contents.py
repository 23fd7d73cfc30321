"""What the SBOMs of deployed artifacts give to look at: licences, vulnerabilities, subjects, ages, jumps."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.settings import load_settings
from tests.unit.supply_chain.gathering_world import FIRST, World
from tests.unit.supply_chain.sboms.sbom_world import cyclonedx, library, package, spdx

ONE, TWO = "sha256:" + "11" * 32, "sha256:" + "22" * 32
PURL = "pkg:npm/left-pad@1.3.0"
BEFORE = "2024-05-09T12:00:00Z"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with a policy for licences and a record of a vulnerability."""
    made = World(tmp_path / "world")
    settings = made.folder / "quarterdeck.yaml"
    lines = "  policies: policies.yaml\n  osv: osv\n"
    settings.write_text(settings.read_text(encoding="utf-8") + lines, encoding="utf-8")
    (made.folder / "policies.yaml").write_text(
        "version: 1\ndefaults:\n  licenses: {allow: [MIT], deny: [AGPL-3.0-only]}\n", encoding="utf-8"
    )
    (made.folder / "osv").mkdir()
    record = {
        "id": "GHSA-1",
        "aliases": ["CVE-2024-1"],
        "affected": [
            {
                "package": {"ecosystem": "npm", "name": "left-pad"},
                "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.3.1"}]}],
            }
        ],
        "database_specific": {"severity": "HIGH"},
    }
    (made.folder / "osv" / "a.json").write_text(json.dumps(record), encoding="utf-8")
    (made.folder / "osv" / "broken.json").write_text("{", encoding="utf-8")
    made.settings = load_settings(settings)
    return made


def document(*components: dict[str, Any], **fields: Any) -> Any:
    """An SBOM from the day before the first deployment."""
    metadata = {"timestamp": BEFORE, **fields.pop("metadata", {})}
    return json.loads(cyclonedx(metadata=metadata, components=list(components), **fields))


def mit(**fields: Any) -> dict[str, Any]:
    """A component that is allowed."""
    return library(licenses=[{"expression": "MIT"}], **fields)


def test_a_vulnerable_component_is_one_finding_until_a_deployment_is_without_it(world: World) -> None:
    world.hand_in(document=document(mit(purl=PURL)), digest=ONE)
    (finding,) = world.findings(ONE, ONE)
    assert (finding.rule, finding.severity, finding.found, finding.component) == (
        "vulnerability",
        "high",
        "GHSA-1",
        "left-pad@1.3.0",
    )
    assert (finding.deployment_key, finding.state, finding.is_live) == ("d1", "open", True)
    assert "GHSA-1 (CVE-2024-1)" in finding.reason
    assert finding.reason.endswith("Not affected from 1.3.1.")
    world.hand_in(document=document(mit(purl="pkg:npm/left-pad@1.3.1")), digest=TWO)
    (fixed,) = world.findings(ONE, TWO)
    assert (fixed.id, fixed.state, fixed.is_live) == (finding.id, "fixed", False)


def test_a_fixed_component_was_seen_until_the_next_deployment_was_live(world: World) -> None:
    world.hand_in(document=document(mit(purl=PURL)), digest=ONE)
    world.hand_in(document=document(mit(purl="pkg:npm/left-pad@1.3.1")), digest=TWO)
    (fixed,) = world.findings(ONE, ONE, TWO, TWO)
    assert (fixed.first_seen, fixed.last_seen) == (FIRST, FIRST + timedelta(days=2))


@pytest.mark.parametrize(
    ("state", "name", "ref", "counts"),
    [
        ("not_affected", "CVE-2024-1", "a", False),
        ("false_positive", "GHSA-1", "a", False),
        ("resolved", "CVE-2024-1", "urn:cdx:3e671687-395b-41f5-a30f-a58921a69b79/1#a", False),
        ("exploitable", "CVE-2024-1", "a", True),
        ("in_triage", "CVE-2024-1", "a", True),
        ("not_affected", "CVE-2024-2", "a", True),
        ("not_affected", "CVE-2024-1", "b", True),
    ],
)
def test_what_the_author_says_of_a_vulnerability_counts_for_that_component(
    world: World, state: str, name: str, ref: str, counts: bool
) -> None:
    vex = {"id": name, "analysis": {"state": state}, "affects": [{"ref": ref}]}
    components = [mit(**{"bom-ref": "a", "purl": PURL}), mit(**{"bom-ref": "b", "name": "b"})]
    serial = "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79"
    world.hand_in(document=document(*components, vulnerabilities=[vex], serialNumber=serial), digest=ONE)
    assert [finding.rule for finding in world.findings(ONE)] == (["vulnerability"] if counts else [])


def test_a_denied_licence_and_one_to_be_looked_at_are_two_rules(world: World) -> None:
    world.hand_in(
        document=document(
            mit(name="good"),
            library(name="bad", licenses=[{"expression": "AGPL-3.0-only"}]),
            library(name="odd", licenses=[{"license": {"name": "Ask us"}}]),
        ),
        digest=ONE,
    )
    found = {finding.component: (finding.rule, finding.found) for finding in world.findings(ONE)}
    assert found == {
        "bad@1.3.0": ("license_denied", "AGPL-3.0-only"),
        "odd@1.3.0": ("license_review", "Ask us"),
    }


def test_the_licence_of_what_was_shipped_itself_is_not_judged_in_either_format(world: World) -> None:
    denied = {"licenseConcluded": "AGPL-3.0-only", "licenseDeclared": "AGPL-3.0-only", "copyrightText": "NONE"}
    shop = package(SPDXID="SPDXRef-shop", name="shop", **denied)
    described = {
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relatedSpdxElement": shop["SPDXID"],
        "relationshipType": "DESCRIBES",
    }
    created = {"created": BEFORE, "creators": ["Tool: syft-1.4.1"]}
    text = spdx(packages=[package(**denied), shop], relationships=[described], creationInfo=created)
    world.hand_in(document=json.loads(text), digest=ONE)
    subject = library(name="shop", licenses=[{"expression": "AGPL-3.0-only"}])
    bad = library(licenses=[{"expression": "AGPL-3.0-only"}])
    world.hand_in(document=document(bad, metadata={"component": subject}), digest=TWO)
    for digest in (ONE, TWO):
        found = [(one.rule, one.component) for one in world.findings(digest)]
        assert found == [("license_denied", "left-pad@1.3.0")]
    # It stays among the facts.
    assert ("shop",) in world.rows("sbom_components", "name")


def test_an_sbom_of_another_artifact_is_told(world: World) -> None:
    subject = library(hashes=[{"alg": "SHA-256", "content": "22" * 32}])
    world.hand_in(document=document(metadata={"component": subject}), digest=ONE)
    (finding,) = world.findings(ONE)
    assert (finding.rule, finding.expected, finding.found) == ("sbom_subject", ONE, TWO)


def test_an_sbom_that_breaks_its_schema_or_cannot_be_read_is_told(world: World) -> None:
    world.hand_in(document=document(library(type="thing")), digest=ONE)
    world.hand_in(path="files/none.json", digest=TWO)
    invalid, unreadable = world.findings(ONE, TWO)
    assert (invalid.rule, invalid.verdict) == ("sbom_schema", "SCHEMA_INVALID")
    assert "$.components[0].type" in invalid.reason
    assert (unreadable.rule, unreadable.verdict) == ("sbom_schema", "UNREADABLE")
    assert "No such file" in unreadable.reason


def test_a_very_old_sbom_is_told(world: World) -> None:
    world.hand_in(document=document(mit(), metadata={"timestamp": "2023-05-01T00:00:00Z"}), digest=ONE)
    (finding,) = world.findings(ONE)
    assert finding.rule == "sbom_age"
    assert "375 days old" in finding.reason


def test_components_that_came_or_went_by_the_dozen_are_told(world: World) -> None:
    world.hand_in(document=document(*(mit(name=f"part-{number}") for number in range(30))), digest=ONE)
    world.hand_in(document=document(mit(name="part-0")), digest=TWO)
    (finding,) = world.findings(ONE, TWO)
    assert finding.rule == "component_count"
    assert finding.reason == "The deployment before had 30 components, this one has 1."
