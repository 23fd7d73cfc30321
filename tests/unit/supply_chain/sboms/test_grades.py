"""How grave a problem is: where facts are read, elsewhere, a warning, or nothing could be read at all."""

import pytest

from analytics.supply_chain.sboms.reading import UnreadableSbomError, read_document
from analytics.supply_chain.sboms.validation import MOST_PROBLEMS, unreadable
from tests.unit.supply_chain.sboms.sbom_world import cyclonedx, facts, judged, library, package, spdx

XML = '<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1">{}</bom>'


def test_a_valid_document_has_no_problem() -> None:
    judgement = judged(cyclonedx(components=[library()]))
    assert (judgement.verdict, judgement.problems) == ("SCHEMA_VALID", ())
    assert judgement.reason == "It is valid CycloneDX 1.6 JSON."


def test_a_problem_in_a_field_that_is_read_counts_more_than_one_elsewhere() -> None:
    judgement = judged(
        cyclonedx(services=[{"name": 7}], components=[library(), library(type="thing"), library(description=7)])
    )
    assert judgement.verdict == "SCHEMA_INVALID"
    assert [(one.severity, one.path) for one in judgement.problems] == [
        ("used_field", "$.components[1].type"),
        ("elsewhere", "$.services[0].name"),
        ("elsewhere", "$.components[2].description"),
    ]
    assert judgement.reason.startswith("It is not valid CycloneDX 1.6 JSON: $.components[1].type:")
    assert judgement.reason.endswith("(3 problems).")


def test_a_missing_field_is_graded_by_its_own_name() -> None:
    (problem,) = judged(cyclonedx(components=[{"type": "library"}])).problems
    assert (problem.severity, problem.path) == ("used_field", "$.components[0]")
    assert '"name"' in problem.message


def test_a_placeholder_in_a_maven_address_is_told_and_loses_nothing() -> None:
    address = {"type": "website", "url": "${project.url}"}
    content = cyclonedx("1.4", components=[library(purl="pkg:npm/left-pad@1.3.0", externalReferences=[address])])
    judgement = judged(content)
    assert judgement.verdict == "SCHEMA_INVALID"
    assert [one.severity for one in judgement.problems] == ["elsewhere"]
    assert "${project.url}" in judgement.reason
    (one,) = facts(content).components
    assert one.purl is not None


@pytest.mark.parametrize(
    ("inner", "severity", "path"),
    [
        ('<components><component type="thing"><name>a</name></component></components>', "used_field", "component"),
        ("<services><service><wrong/></service></services>", "elsewhere", "/bom/services/service/wrong (line 1)"),
    ],
)
def test_a_problem_of_xml_is_graded_with_element_and_line(inner: str, severity: str, path: str) -> None:
    judgement = judged(XML.format(inner).encode())
    assert judgement.verdict == "SCHEMA_INVALID"
    assert judgement.problems[0].severity == severity
    assert path in judgement.problems[0].path


def test_what_is_odd_about_the_encoding_is_a_warning_and_no_mistake() -> None:
    judgement = judged(b"\xef\xbb\xbf" + cyclonedx())
    assert judgement.verdict == "SCHEMA_VALID"
    assert [(one.severity, one.message) for one in judgement.problems] == [
        ("warning", "The file begins with a byte order mark (UTF-8).")
    ]


def test_a_repeated_key_is_a_warning_that_names_it() -> None:
    (problem,) = judged(b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "version": 2}').problems
    assert problem.severity == "warning"
    assert "`version`" in problem.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (cyclonedx("1.1"), "there is no schema for 1.1"),
        (cyclonedx("9.9"), "there is no schema for 9.9"),
        (b'{"bomFormat": "CycloneDX"}', "the version is missing"),
        (spdx("2.1"), "there is no schema for SPDX-2.1"),
        (b'<bom xmlns="http://cyclonedx.org/schema/bom/9.9"/>', "no schema for the namespace"),
    ],
)
def test_a_version_without_a_schema_is_invalid_and_says_which_there_are(content: bytes, words: str) -> None:
    judgement = judged(content)
    assert judgement.verdict == "SCHEMA_INVALID"
    assert words in judgement.reason
    assert judgement.problems[0].severity == "used_field"


@pytest.mark.parametrize(
    ("content", "words", "sbom_format"),
    [
        (b"", "The file is empty.", None),
        (b" \n\t", "The file is empty.", None),
        (b"\xff\xfe\x00\xd8{", "The file is not UTF-16-LE", None),
        (b"hello", "neither JSON nor XML: it begins with `hello`", None),
        (b"[]", "An SBOM is a JSON object; this is a list.", None),
        (b"{", "The JSON is broken at line 1, column 2", None),
        (b'{"a": 1}', "The JSON is neither CycloneDX nor SPDX (keys: `a`).", None),
        (b'{"bomFormat": NaN}', "NaN is no JSON number", None),
        (b"<html/>", "The XML is no CycloneDX document: its root is `html`", None),
        (b"<bom", "The XML is broken", None),
        (b'<?xml version="1.0" encoding="utf-7"?><bom/>', "declares the encoding `utf-7`, which is not read", None),
        (b"SPDXVersion: SPDX-2.3\nSPDXID: x", "SPDX in tag-value form is not read; export it as JSON.", "SPDX"),
        (b"# by hand\n\nSPDXVersion: SPDX-2.2\n", "SPDX in tag-value form is not read", "SPDX"),
        (b'SPDXID: "x"\nspdxVersion: "SPDX-2.3"\n', "SPDX as YAML is not read; export it as JSON.", "SPDX"),
        (b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>', "SPDX as XML is not read", "SPDX"),
        (
            b'{"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []}',
            "SPDX 3 is not read yet; export it as SPDX 2.3 JSON or as CycloneDX.",
            "SPDX",
        ),
    ],
)
def test_what_cannot_be_read_says_why_and_what_it_seems_to_be(
    content: bytes, words: str, sbom_format: str | None
) -> None:
    with pytest.raises(UnreadableSbomError) as raised:
        read_document(content)
    assert words in raised.value.what
    assert raised.value.format == sbom_format
    assert unreadable(raised.value.what).problems[0].severity == "fatal"


def test_the_version_is_told_of_spdx_that_cannot_be_read() -> None:
    for content, version in (
        (b"SPDXVersion: SPDX-2.3\n", "SPDX-2.3"),
        (b'{"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}', "SPDX-3.0.1"),
    ):
        with pytest.raises(UnreadableSbomError) as raised:
            read_document(content)
        assert raised.value.spec_version == version


def test_at_most_a_hundred_problems_are_listed_and_the_gravest_first() -> None:
    components = [library(name=f"part-{number}", description=7) for number in range(300)]
    judgement = judged(cyclonedx(components=[*components, library(type="thing")]))
    assert len(judgement.problems) == MOST_PROBLEMS
    assert judgement.truncated
    assert "100+ problems" in judgement.reason
    assert judgement.problems[0].path == "$.components[300].type"


def test_a_problem_in_a_large_document_is_told_with_its_true_place() -> None:
    components = [library(name=f"part-{number}") for number in range(6_000)]
    components[5_432]["type"] = "thing"
    judgement = judged(cyclonedx(components=components))
    assert [(one.severity, one.path) for one in judgement.problems] == [("used_field", "$.components[5432].type")]


def test_two_equal_items_far_from_each_other_are_told() -> None:
    components = [library(name=f"part-{number % 5_999}") for number in range(6_000)]
    judgement = judged(cyclonedx(components=components))
    assert judgement.verdict == "SCHEMA_INVALID"
    assert judgement.problems[0].path == "$.components"


def test_an_spdx_problem_is_graded_by_the_same_rule() -> None:
    packages = [package(versionInfo=7), package(filesAnalyzed="yes")]
    judgement = judged(spdx(packages=packages))
    assert [(one.severity, one.path) for one in judgement.problems] == [
        ("used_field", "$.packages[0].versionInfo"),
        ("elsewhere", "$.packages[1].filesAnalyzed"),
    ]
