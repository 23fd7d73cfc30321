"""Three lists of minimum elements: who has what, as counts and names."""

from typing import Any

from analytics.supply_chain.sboms.quality import Element, completeness
from tests.unit.supply_chain.sboms.sbom_world import cyclonedx, facts, library, package, spdx

FULL = library(
    **{
        "bom-ref": "a",
        "purl": "pkg:npm/left-pad@1.3.0",
        "manufacturer": {"name": "Acme", "url": ["https://acme.example"]},
        "hashes": [{"alg": "SHA-256", "content": "5a" * 32}],
        "licenses": [
            {"license": {"id": "MIT", "acknowledgement": "concluded"}},
            {"license": {"id": "MIT", "acknowledgement": "declared"}},
        ],
        "externalReferences": [
            {
                "type": "distribution",
                "url": "https://acme.example/left-pad.tgz",
                "hashes": [{"alg": "SHA-512", "content": "5a" * 64}],
            },
            {"type": "source-distribution", "url": "https://acme.example/left-pad-src.tgz"},
        ],
        "properties": [
            {"name": f"bsi:component:{name}", "value": name}
            for name in ("filename", "executable", "archive", "structured")
        ],
    }
)
METADATA = {
    "timestamp": "2024-05-01T12:00:00Z",
    "manufacturer": {"name": "Acme", "url": ["https://acme.example"]},
    "tools": {"components": [{"type": "application", "name": "syft"}]},
    "lifecycles": [{"phase": "build"}],
}
COMPLETE: dict[str, Any] = {
    "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
    "metadata": METADATA,
    "components": [FULL],
    "dependencies": [{"ref": "a"}],
}


def elements(standard: str, content: bytes) -> dict[str, Element]:
    """The elements of one list, by name."""
    (found,) = [one for one in completeness(facts(content)) if one.standard == standard]
    return {element.name: element for element in found.elements}


def test_a_document_with_everything_lacks_nothing_by_any_list() -> None:
    for result in completeness(facts(cyclonedx(**COMPLETE))):
        assert result.incomplete == (), result.standard


def test_an_empty_document_lacks_what_is_asked_of_the_document() -> None:
    lacking = {one.standard: {element.name for element in one.incomplete} for one in completeness(facts(cyclonedx()))}
    assert lacking == {
        "NTIA-2021": {"author_of_sbom_data", "timestamp"},
        "CISA-2025-draft": {"sbom_author", "tool_name", "timestamp", "generation_context"},
        "BSI-TR-03183-2-2.1.0": {"sbom_creator_address", "timestamp", "sbom_uri"},
    }


def test_who_lacks_an_element_is_named() -> None:
    content = cyclonedx(components=[FULL, library(name="bare"), library(group="acme", name="part", version="2")])
    assert elements("NTIA-2021", content)["supplier_name"] == Element(
        "supplier_name", 1, 3, ("bare@1.3.0", "acme/part@2")
    )


def test_the_subject_counts_as_a_component_once() -> None:
    assert elements("NTIA-2021", cyclonedx(metadata={"component": library()}))["component_name"].total == 1
    described = [
        {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-a"}
    ]
    content = spdx(packages=[package()], relationships=described)
    assert elements("NTIA-2021", content)["component_name"].total == 1


def test_a_tool_is_no_author() -> None:
    creation = {"created": "2024-05-01T12:00:00Z", "creators": ["Tool: syft-1.4.1"]}
    found = elements("CISA-2025-draft", spdx(creationInfo=creation))
    assert (found["sbom_author"].present, found["tool_name"].present) == (0, 1)


def test_a_time_without_a_zone_is_no_timestamp() -> None:
    for text, present in (("2024-05-01T12:00:00", 0), ("yesterday", 0), ("2024-05-01T12:00:00.5+02:00", 1)):
        assert elements("NTIA-2021", cyclonedx(metadata={"timestamp": text}))["timestamp"].present == present


def test_bsi_wants_vulnerabilities_outside() -> None:
    vulnerabilities = [{"id": "CVE-2024-1"}]
    content = cyclonedx(**COMPLETE, vulnerabilities=vulnerabilities)
    assert elements("BSI-TR-03183-2-2.1.0", content)["no_vulnerability_information"].present == 0
    advisory = {"referenceCategory": "SECURITY", "referenceType": "advisory", "referenceLocator": "https://a.example"}
    content = spdx(packages=[package(externalRefs=[advisory])])
    assert elements("BSI-TR-03183-2-2.1.0", content)["no_vulnerability_information"].present == 0


def test_bsi_wants_the_sha512_of_the_deployable_itself() -> None:
    own_hash = library(hashes=[{"alg": "SHA-512", "content": "5a" * 64}])
    assert elements("BSI-TR-03183-2-2.1.0", cyclonedx(components=[own_hash]))["deployable_sha512"].present == 0
    checksums = [{"algorithm": "SHA512", "checksumValue": "5a" * 64}]
    content = spdx(packages=[package(checksums=checksums), package(checksums=checksums[:0])])
    assert elements("BSI-TR-03183-2-2.1.0", content)["deployable_sha512"].present == 1


def test_bsi_admits_cyclonedx_from_1_6() -> None:
    for version, present in (("1.5", 0), ("1.6", 1), ("1.7", 1)):
        assert elements("BSI-TR-03183-2-2.1.0", cyclonedx(version))["format_and_version"].present == present
    assert elements("BSI-TR-03183-2-2.1.0", spdx())["format_and_version"].present == 0


def test_a_component_is_related_by_dependency_or_by_standing_in_another() -> None:
    content = cyclonedx(
        components=[
            library(**{"bom-ref": "a"}),
            library(**{"bom-ref": "b", "name": "holder", "components": [library(name="held")]}),
            library(name="alone"),
        ],
        dependencies=[{"ref": "x", "dependsOn": ["a"]}],
    )
    found = elements("NTIA-2021", content)["dependency_relationship"]
    assert (found.present, found.total, found.missing) == (3, 4, ("alone@1.3.0",))
