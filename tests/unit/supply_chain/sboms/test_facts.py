"""What is read out of a document, field by field, and that a bad field never costs the rest."""

from typing import Any

import pytest

from analytics.supply_chain.sboms.extraction import read_facts
from analytics.supply_chain.sboms.facts import (
    GITHUB_DEPENDENCY_GRAPH,
    Composition,
    Dependency,
    Hash,
    Licence,
    Tool,
    VexStatement,
)
from analytics.supply_chain.sboms.validation import judge
from tests.unit.supply_chain.sboms.sbom_world import (
    cyclonedx,
    facts,
    judged,
    library,
    needs_real,
    package,
    real,
    spdx,
)

SHA256 = "5a" * 32


def test_components_inside_components_are_read_with_their_place_and_parent() -> None:
    inner = library(name="inner")
    found = facts(
        cyclonedx(
            metadata={"component": library(name="shop", components=[library(name="assembled")])},
            components=[library(name="outer", components=[inner]), library(name="flat")],
        )
    )
    assert [(one.name, one.path, one.parent) for one in found.components] == [
        ("outer", "$.components[0]", None),
        ("inner", "$.components[0].components[0]", "$.components[0]"),
        ("flat", "$.components[1]", None),
        ("assembled", "$.metadata.component.components[0]", "$.metadata.component"),
    ]
    assert found.top_level_components == 2
    assert found.subject is not None
    assert found.subject.name == "shop"


def test_a_package_url_is_read_in_its_parts() -> None:
    purl = "pkg:npm/%40acme/Shop@1.0.0?repository_url=https://npm.acme.example#lib"
    (one,) = facts(cyclonedx(components=[library(purl=purl)])).components
    assert one.purl is not None
    assert (one.purl.type, one.purl.namespace, one.purl.name, one.purl.version) == ("npm", "@acme", "shop", "1.0.0")
    assert one.purl.qualifiers == (("repository_url", "https://npm.acme.example"),)
    assert one.purl.subpath == "lib"


def test_a_package_url_that_cannot_be_read_is_kept_as_text_and_noted() -> None:
    found = facts(cyclonedx(components=[library(purl="pkg:golang/@?type=module"), library(name="next")]))
    first, second = found.components
    assert first.purl is None
    assert first.purl_text == "pkg:golang/@?type=module"
    assert first.purl_problem is not None
    assert "name" in first.purl_problem
    assert second.name == "next"
    assert found.notes[0].startswith("$.components[0].purl: cannot be read")


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([{"license": {"id": "MIT"}}], [Licence("MIT", "MIT")]),
        (
            [{"expression": "MIT AND (Apache-2.0 OR GPL-2.0)", "acknowledgement": "concluded"}],
            [Licence("MIT AND (Apache-2.0 OR GPL-2.0)", "MIT AND (Apache-2.0 OR GPL-2.0-only)", role="concluded")],
        ),
        ([{"license": {"name": "mit", "acknowledgement": "declared"}}], [Licence("mit", "MIT", role="declared")]),
        ([{"license": {"name": "NOASSERTION"}}], []),
        (
            [{"expression": "MIT AND Acme-EULA-1.0"}],
            [Licence("MIT AND Acme-EULA-1.0", "MIT AND Acme-EULA-1.0", ("Acme-EULA-1.0",))],
        ),
    ],
)
def test_licences_are_read_as_expressions(choices: list[dict[str, Any]], expected: list[Licence]) -> None:
    (one,) = facts(cyclonedx(components=[library(licenses=choices)])).components
    assert list(one.licences) == expected


def test_a_licence_name_that_is_prose_is_no_expression_and_no_mistake() -> None:
    found = facts(cyclonedx(components=[library(licenses=[{"license": {"name": "The Acme Licence, version 2"}}])]))
    (licence,) = found.components[0].licences
    assert (licence.text, licence.expression) == ("The Acme Licence, version 2", None)
    assert found.notes == ()


@pytest.mark.parametrize("text", ["MIT AND", "((MIT", "MIT MIT", "MIT WITH MIT", "(" * 60 + "MIT" + ")" * 60])
def test_a_broken_licence_expression_is_reported_and_the_rest_is_read(text: str) -> None:
    found = facts(cyclonedx(components=[library(licenses=[{"expression": text}], purl="pkg:npm/left-pad@1.3.0")]))
    (one,) = found.components
    assert one.licences[0].expression is None
    assert one.licences[0].problem
    assert one.purl is not None
    assert "licence cannot be read" in found.notes[0]


def test_hashes_are_spelled_alike_in_every_format() -> None:
    digest = Hash("SHA-256", SHA256)
    (one,) = facts(cyclonedx(components=[library(hashes=[{"alg": "SHA-256", "content": SHA256.upper()}])])).components
    checksums = [{"algorithm": "SHA256", "checksumValue": SHA256}]
    (other,) = facts(spdx(packages=[package(checksums=checksums)])).components
    assert one.hashes == other.hashes == (digest,)


def test_dependencies_tools_people_and_times_are_read() -> None:
    found = facts(
        cyclonedx(
            serialNumber="urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
            metadata={
                "timestamp": "2024-05-01T12:00:00Z",
                "lifecycles": [{"phase": "build"}],
                "authors": [{"name": "Ada"}, {"email": "bob@acme.example"}],
                "supplier": {"name": "Acme"},
                "manufacturer": {"name": "Acme Works", "url": ["https://acme.example"]},
                "tools": {
                    "components": [{"type": "application", "name": "syft", "version": "1.4", "group": "anchore"}]
                },
            },
            dependencies=[{"ref": "a", "dependsOn": ["b", "c"]}, {"ref": "b"}],
            compositions=[{"aggregate": "incomplete", "assemblies": ["a"], "dependencies": ["b"]}],
        )
    )
    assert found.dependencies == (Dependency("a", ("b", "c")), Dependency("b", ()))
    assert found.compositions == (Composition("incomplete", ("a", "b")),)
    assert found.tools == (Tool("syft", "1.4", "anchore"),)
    assert found.authors == ("Ada", "bob@acme.example")
    assert (found.supplier, found.manufacturer, found.manufacturer_address) == (
        "Acme",
        "Acme Works",
        "https://acme.example",
    )
    assert (found.timestamp, found.lifecycles, found.revision) == ("2024-05-01T12:00:00Z", ("build",), 1)


def test_tools_of_the_older_form_are_read() -> None:
    tools = [{"vendor": "Acme", "name": "bom-maker", "version": "1"}]
    assert facts(cyclonedx("1.4", metadata={"tools": tools})).tools == (Tool("bom-maker", "1", "Acme"),)


def test_the_authors_analysis_of_a_vulnerability_is_read() -> None:
    vulnerability = {
        "id": "CVE-2024-1",
        "analysis": {"state": "not_affected", "justification": "code_not_reachable", "response": ["will_not_fix"]},
        "affects": [{"ref": "a"}],
    }
    assert facts(cyclonedx(vulnerabilities=[vulnerability])).vex == (
        VexStatement("CVE-2024-1", "not_affected", "code_not_reachable", ("will_not_fix",), ("a",)),
    )


def test_a_detailed_expression_of_xml_1_7_is_read() -> None:
    content = (
        b'<bom xmlns="http://cyclonedx.org/schema/bom/1.7" version="1"><components><component type="library">'
        b'<name>a</name><licenses><expression-detailed expression="MIT OR LicenseRef-acme" acknowledgement="declared">'
        b'<details license-identifier="LicenseRef-acme"><text>mine</text></details></expression-detailed></licenses>'
        b"</component></components></bom>"
    )
    assert judged(content).verdict == "SCHEMA_VALID"
    (licence,) = facts(content).components[0].licences
    assert (licence.expression, licence.role) == ("MIT OR LicenseRef-acme", "declared")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7"])
def test_xml_of_every_version_is_judged_and_read(version: str) -> None:
    modified = "<modified>false</modified>" if version == "1.0" else ""
    content = (
        f'<bom xmlns="http://cyclonedx.org/schema/bom/{version}" version="1"><components><component type="library">'
        f"<name>a</name><version>1</version>{modified}</component></components></bom>"
    ).encode()
    assert judged(content).verdict == "SCHEMA_VALID"
    assert [(one.name, one.version) for one in facts(content).components] == [("a", "1")]


# SPDX


def test_the_fields_of_an_spdx_package_are_read() -> None:
    found = facts(
        spdx(
            packages=[
                package(
                    supplier="Organization: Acme (security@acme.example)",
                    originator="Person: Ada Lovelace <ada@acme.example>",
                    licenseConcluded="MIT",
                    licenseDeclared="NOASSERTION",
                    primaryPackagePurpose="OPERATING_SYSTEM",
                    packageFileName="left-pad.tgz",
                    downloadLocation="https://acme.example/left-pad.tgz",
                    externalRefs=[
                        {
                            "referenceCategory": "PACKAGE-MANAGER",
                            "referenceType": "purl",
                            "referenceLocator": "pkg:npm/left-pad@1.3.0",
                        },
                        {
                            "referenceCategory": "SECURITY",
                            "referenceType": "http://spdx.org/rdf/references/cpe23Type",
                            "referenceLocator": "cpe:2.3:a:acme:left-pad:1.3.0:*:*:*:*:*:*:*",
                        },
                    ],
                )
            ]
        )
    )
    (one,) = found.components
    assert (one.supplier, one.manufacturer, one.manufacturer_address) == ("Acme", "Ada Lovelace", "ada@acme.example")
    assert one.licences == (Licence("MIT", "MIT", role="concluded"),)
    assert (one.kind, one.file_name) == ("operating-system", "left-pad.tgz")
    assert one.references[0].url == "https://acme.example/left-pad.tgz"
    assert one.purl is not None
    assert one.cpe == "cpe:2.3:a:acme:left-pad:1.3.0:*:*:*:*:*:*:*"
    assert found.tools == (Tool("syft", "1.4.1"),)
    assert found.authors == ("Acme",)


def test_relationships_read_in_both_directions_and_the_described_package_is_the_subject() -> None:
    found = facts(
        spdx(
            packages=[package(SPDXID=f"SPDXRef-{name}", name=name) for name in "abc"],
            relationships=[
                {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
                for one, kind, other in (
                    ("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-a"),
                    ("SPDXRef-a", "DEPENDS_ON", "SPDXRef-b"),
                    ("SPDXRef-c", "DEPENDENCY_OF", "SPDXRef-a"),
                    ("SPDXRef-b", "CONTAINS", "SPDXRef-c"),
                    ("SPDXRef-b", "DEPENDS_ON", "NONE"),
                )
            ],
        )
    )
    assert found.dependencies == (
        Dependency("SPDXRef-a", ("SPDXRef-b", "SPDXRef-c")),
        Dependency("SPDXRef-b", ("SPDXRef-c",), "contains"),
    )
    assert found.subject is not None
    assert found.subject.ref == "SPDXRef-a"


def test_syfts_fractional_seconds_are_a_time() -> None:
    creation = {"created": "2022-09-21T14:54:15.500229Z", "creators": ["Tool: syft-0.57.0"]}
    content = spdx(creationInfo=creation)
    assert judged(content).verdict == "SCHEMA_VALID"
    assert facts(content).timestamp == "2022-09-21T14:54:15.500229Z"


@needs_real
def test_a_real_document_of_syft_keeps_its_time_and_packages() -> None:
    document = real("valid/sbom/guac/internal_testing_testdata_exampledata_alpine-spdx.json")
    found = read_facts(document)
    assert found.timestamp == "2022-09-21T14:54:15.500229Z"
    assert len(found.components) == 14
    assert {one.purl.type for one in found.components if one.purl} == {"alpine"}
    # Version 2.2 wants fields that Syft leaves out; the facts are there all the same.
    assert judge(document).verdict == "SCHEMA_INVALID"


@pytest.mark.parametrize("wrap", [False, True])
def test_githubs_export_is_labelled_as_the_dependency_graph(wrap: bool) -> None:
    creators = ["Tool: GitHub.com-Dependency-Graph"]
    content = spdx(creationInfo={"created": "2024-05-01T12:00:00Z", "creators": creators})
    found = facts(b'{"sbom": ' + content + b"}" if wrap else content)
    assert found.origin == GITHUB_DEPENDENCY_GRAPH


def test_a_documents_wrong_types_are_noted_and_what_is_right_is_read() -> None:
    found = facts(
        cyclonedx(
            metadata={"timestamp": 5, "authors": {"name": "x"}, "tools": "syft", "component": []},
            components=[7, library(name=["x"], version="2", licenses="MIT", hashes=[{"alg": 1}], supplier=[])],
            dependencies={"ref": "a"},
        )
    )
    (one,) = found.components
    assert (one.name, one.version, one.licences, one.hashes) == (None, "2", (), ())
    noted = {note.split(":")[0] for note in found.notes}
    assert {"$.metadata.timestamp", "$.components[0]", "$.components[1].name", "$.dependencies"} <= noted


def test_only_a_hundred_notes_are_kept_and_the_rest_is_counted() -> None:
    found = facts(cyclonedx(components=[7] * 150))
    assert len(found.notes) == 101
    assert found.notes[-1] == "50 more notes are left out"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_is_read_in_every_unicode_encoding(encoding: str) -> None:
    content = cyclonedx(components=[library(name="Zürich 漢字")]).decode().encode(encoding)
    assert judged(content).verdict == "SCHEMA_VALID"
    assert facts(content).components[0].name == "Zürich 漢字"


def test_xml_is_read_in_the_encoding_that_it_declares() -> None:
    text = (
        '<?xml version="1.0" encoding="{0}"?>\n<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1">'
        '<components><component type="library"><name>Zürich</name></component></components></bom>'
    )
    for encoding in ("utf-8", "iso-8859-1", "windows-1252", "utf-16"):
        content = text.format(encoding).encode(encoding)
        assert judged(content).verdict == "SCHEMA_VALID"
        assert facts(content).components[0].name == "Zürich"


def test_an_sbom_inside_a_statement_is_read() -> None:
    content = b'{"_type": "x", "predicateType": "https://cyclonedx.org/bom", "predicate": ' + cyclonedx() + b"}"
    judgement = judged(content)
    assert judgement.verdict == "SCHEMA_VALID"
    assert "in-toto statement" in judgement.problems[0].message
