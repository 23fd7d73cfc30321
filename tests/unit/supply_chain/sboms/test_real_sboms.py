"""Every real SBOM beside the repository: the verdict that is expected of it, and its facts."""

import dataclasses
import json
import re
from typing import Any

import pytest
from lxml import etree

from analytics.supply_chain.sboms.extraction import read_facts
from analytics.supply_chain.sboms.facts import Component
from analytics.supply_chain.sboms.quality import completeness
from analytics.supply_chain.sboms.reading import read_file
from analytics.supply_chain.sboms.validation import judge
from tests.unit.supply_chain.sboms.sbom_world import FOLDER, manifest, needs_real, paths, real

pytestmark = needs_real
JSON, XML, SPDX = "CycloneDX json", "CycloneDX xml", "SPDX json"
EXPECTED = {item["path"]: item["expected_verdict"] for item in manifest()}
# Documents of one content in both encodings.
TWINS = (
    "valid/sbom/bom-examples/SBOM_laravel-7.12.0_bom.1.2",
    "valid/sbom/bom-examples/SBOM_laravel-7.12.0_bom.1.3",
    "valid/sbom/bom-examples/SBOM_laravel-7.12.0_bom.1.4",
    "valid/sbom/bom-examples/SBOM_cern-lhc-vdm-editor-e564943_bom",
    *(
        f"valid/sbom/cyclonedx-spec/{version}/valid-{name}-{version}"
        for version in ("1.5", "1.6")
        for name in ("component-hashes", "component-swid", "component-types", "metadata-author", "metadata-tool")
    ),
)


@pytest.mark.parametrize("place", paths(JSON, XML))
def test_a_cyclonedx_document_gets_the_verdict_that_its_specification_gives(place: str) -> None:
    judgement = judge(real(place))
    assert judgement.verdict == EXPECTED[place], judgement.reason
    assert bool(judgement.problems) == (judgement.verdict == "SCHEMA_INVALID")


def test_every_component_of_a_cyclonedx_document_is_read_whatever_its_verdict() -> None:
    for place in paths(JSON):
        value = json.loads(read_file(FOLDER / place))
        found = read_facts(real(place))
        listed = [*nested(value), *nested(value.get("metadata", {}).get("component", {}))]
        assert [one.name for one in found.components] == [one.get("name") or None for one in listed], place
        assert [one.purl_text for one in found.components] == [one.get("purl") or None for one in listed], place
        hashes = [len(one.get("hashes", [])) for one in listed]
        assert [len(one.hashes) for one in found.components] == hashes or "hash" in place, place
        refs = [one["ref"] for one in value.get("dependencies", []) if one.get("ref")]
        assert [one.ref for one in found.dependencies] == refs, place
        assert [one.id for one in found.vex] == [one.get("id") for one in value.get("vulnerabilities", [])], place


def test_every_component_of_an_xml_document_is_read_whatever_its_verdict() -> None:
    for place in paths(XML):
        root = etree.fromstring((FOLDER / place).read_bytes())
        space = etree.QName(root).namespace
        listed = [
            component.findtext(f"{{{space}}}name")
            for holder in root.iter(f"{{{space}}}components")
            for component in holder.iterchildren(f"{{{space}}}component")
            if etree.QName(holder.getparent()).localname in ("bom", "component")
        ]
        found = read_facts(real(place)).components
        assert sorted(one.name or "" for one in found) == sorted(name or "" for name in listed), place


def test_every_package_of_an_spdx_document_is_read_whatever_its_verdict() -> None:
    for place in paths(SPDX):
        packages = json.loads(read_file(FOLDER / place)).get("packages", [])
        found = read_facts(real(place)).components
        assert [one.name for one in found] == [one.get("name") or None for one in packages], place
        assert [one.ref for one in found] == [one.get("SPDXID") for one in packages], place
        assert [len(one.hashes) for one in found] == [len(one.get("checksums", [])) for one in packages], place
        for component, each in zip(found, packages, strict=True):
            locators = [
                one["referenceLocator"] for one in each.get("externalRefs", []) if one["referenceType"] == "purl"
            ]
            assert (component.purl_text in locators) if locators else component.purl_text is None, place


@pytest.mark.parametrize("place", TWINS)
def test_json_and_xml_of_one_document_give_the_same_facts(place: str) -> None:
    one, other = read_facts(real(f"{place}.json")), read_facts(real(f"{place}.xml"))
    assert comparable(one) == comparable(other)


def test_completeness_is_told_of_every_readable_document() -> None:
    for item in manifest():
        for result in completeness(read_facts(real(item["path"]))):
            for element in result.elements:
                assert 0 <= element.present <= element.total
                assert len(element.missing) == min(element.total - element.present, 200)


def test_the_package_urls_of_the_real_documents_can_be_read_but_for_the_broken_one() -> None:
    problems = {
        (one.purl_text, one.purl_problem)
        for item in manifest()
        if item["expected_verdict"] == "SCHEMA_VALID" or item["format"] == SPDX
        for one in read_facts(real(item["path"])).components
        if one.purl_problem
    }
    assert {text for text, _ in problems} == {
        text for text, _ in problems if not re.match(r"pkg:[a-z]+/[^@?#]*[a-z0-9][^@?#]*@", text or "")
    }


def test_an_spdx_version_without_a_schema_is_said_to_be_one() -> None:
    judgement = judge(real("unsupported/sbom/sbomqs/testdata_fixtures_spdx-old-version.json"))
    assert judgement.verdict == "SCHEMA_INVALID"
    assert "there is no schema for SPDX-2.1" in judgement.reason


def nested(holder: dict[str, Any]) -> list[dict[str, Any]]:
    """The components in a holder and those in them, each followed by its own."""
    return [one for each in holder.get("components", []) if isinstance(each, dict) for one in (each, *nested(each))]


def comparable(found: Any) -> dict[str, Any]:
    """Facts without what the encoding itself decides: places, and the identity of each of two files."""
    kept = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    for name in ("encoding", "identity", "timestamp", "revision"):
        del kept[name]
    kept["components"] = [placeless(one) for one in found.components]
    kept["subject"] = placeless(found.subject) if found.subject else None
    return kept


def placeless(component: Component) -> Component:
    """A component without its place in the document."""
    return dataclasses.replace(component, path="", parent=None)
