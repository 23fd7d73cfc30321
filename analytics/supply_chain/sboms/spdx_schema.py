"""SPDX 2.2 and 2.3 as JSON: which fields an object may and must have, written down as a JSON Schema of our own.

Source: the SPDX specification 2.2.2 and 2.3.1. Its schema files are licensed CC-BY-3.0 and no package that we could
depend on ships both, so the names, types and enumerations stand here as a table; the tests hold its verdicts against
the official files.
"""

from __future__ import annotations

from typing import Any, Literal

Schema = dict[str, Any]
SpdxVersion = Literal["2.2", "2.3"]

TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
TEXTS: Schema = {"type": "array", "items": TEXT}

_CHECKSUMS_22 = "SHA1 SHA224 SHA256 SHA384 SHA512 MD2 MD4 MD5 MD6"
_CHECKSUMS_23 = "SHA3-256 SHA3-384 SHA3-512 BLAKE2b-256 BLAKE2b-384 BLAKE2b-512 BLAKE3 ADLER32"
_PURPOSES = "APPLICATION ARCHIVE CONTAINER DEVICE FILE FIRMWARE FRAMEWORK INSTALL LIBRARY OPERATING_SYSTEM OTHER SOURCE"
_FILE_TYPES = "APPLICATION ARCHIVE AUDIO BINARY DOCUMENTATION IMAGE OTHER SOURCE SPDX TEXT VIDEO"
_CATEGORIES = "OTHER SECURITY PACKAGE-MANAGER PACKAGE_MANAGER PERSISTENT-ID PERSISTENT_ID"
_RELATIONSHIPS_22 = """
AMENDS ANCESTOR_OF BUILD_DEPENDENCY_OF BUILD_TOOL_OF CONTAINED_BY CONTAINS COPY_OF DATA_FILE_OF
DEPENDENCY_MANIFEST_OF DEPENDENCY_OF DEPENDS_ON DESCENDANT_OF DESCRIBED_BY DESCRIBES DEV_DEPENDENCY_OF DEV_TOOL_OF
DISTRIBUTION_ARTIFACT DOCUMENTATION_OF DYNAMIC_LINK EXAMPLE_OF EXPANDED_FROM_ARCHIVE FILE_ADDED FILE_DELETED
FILE_MODIFIED GENERATED_FROM GENERATES HAS_PREREQUISITE METAFILE_OF OPTIONAL_COMPONENT_OF OPTIONAL_DEPENDENCY_OF OTHER
PACKAGE_OF PATCH_APPLIED PATCH_FOR PREREQUISITE_FOR PROVIDED_DEPENDENCY_OF RUNTIME_DEPENDENCY_OF STATIC_LINK
TEST_CASE_OF TEST_DEPENDENCY_OF TEST_OF TEST_TOOL_OF VARIANT_OF
"""
_RELATIONSHIPS_23 = "REQUIREMENT_DESCRIPTION_FOR SPECIFICATION_FOR"


def spdx_schema(version: SpdxVersion) -> Schema:
    """The JSON Schema of an SPDX document; the two versions differ in a few required fields and enumerations."""
    newer = version == "2.3"
    checksum = _object(
        "algorithm checksumValue",
        algorithm=_one_of(_CHECKSUMS_22, _CHECKSUMS_23 if newer else ""),
        checksumValue=TEXT,
    )
    annotations = _list(
        _object(
            "annotationDate annotationType annotator comment",
            annotationDate=TEXT,
            annotationType=_one_of("OTHER REVIEW"),
            annotator=TEXT,
            comment=TEXT,
        )
    )
    # Every element that a licence can be concluded for.
    element: dict[str, Schema] = {
        "SPDXID": TEXT,
        "annotations": annotations,
        "attributionTexts": TEXTS,
        "comment": TEXT,
        "copyrightText": TEXT,
        "licenseComments": TEXT,
        "licenseConcluded": TEXT,
        "name": TEXT,
    }
    document: dict[str, Schema] = {
        "SPDXID": TEXT,
        "annotations": annotations,
        "comment": TEXT,
        "creationInfo": _object(
            "created creators",
            comment=TEXT,
            created=TEXT,
            creators={**TEXTS, "minItems": 1},
            licenseListVersion=TEXT,
        ),
        "dataLicense": TEXT,
        "documentDescribes": TEXTS,
        "documentNamespace": TEXT,
        "externalDocumentRefs": _list(
            _object(
                "checksum externalDocumentId spdxDocument",
                checksum=checksum,
                externalDocumentId=TEXT,
                spdxDocument=TEXT,
            )
        ),
        "files": _list(_file(element, checksum, newer)),
        "hasExtractedLicensingInfos": _list(_extracted_licence()),
        "name": TEXT,
        "packages": _list(_package(element, checksum, newer)),
        "relationships": _list(
            _object(
                "relatedSpdxElement relationshipType spdxElementId",
                comment=TEXT,
                relatedSpdxElement=TEXT,
                relationshipType=_one_of(_RELATIONSHIPS_22, _RELATIONSHIPS_23 if newer else ""),
                spdxElementId=TEXT,
            )
        ),
        "revieweds": _list(_object("reviewDate", comment=TEXT, reviewDate=TEXT, reviewer=TEXT)),
        "snippets": _list(_snippet(element, newer)),
        "spdxVersion": TEXT,
    }
    required = "SPDXID creationInfo dataLicense name spdxVersion"
    if newer:
        document["$schema"] = TEXT
        required += " documentNamespace"
    return {"$schema": "http://json-schema.org/draft-07/schema#", **_object(required, **document)}


def _package(element: dict[str, Schema], checksum: Schema, newer: bool) -> Schema:
    fields: dict[str, Schema] = {
        **element,
        "checksums": _list(checksum),
        "downloadLocation": TEXT,
        "externalRefs": _list(
            _object(
                "referenceCategory referenceLocator referenceType",
                comment=TEXT,
                referenceCategory=_one_of(_CATEGORIES),
                referenceLocator=TEXT,
                referenceType=TEXT,
            )
        ),
        "filesAnalyzed": TRUTH,
        "hasFiles": TEXTS,
        "licenseInfoFromFiles": TEXTS,
        "packageVerificationCode": _object(
            "packageVerificationCodeValue",
            packageVerificationCodeExcludedFiles=TEXTS,
            packageVerificationCodeValue=TEXT,
        ),
    }
    names = "description homepage licenseDeclared originator packageFileName sourceInfo summary supplier versionInfo"
    if newer:
        fields["primaryPackagePurpose"] = _one_of(_PURPOSES)
        names += " builtDate releaseDate validUntilDate"
    fields.update(dict.fromkeys(names.split(), TEXT))
    required = "SPDXID downloadLocation name"
    return _object(required if newer else f"{required} copyrightText licenseConcluded licenseDeclared", **fields)


def _file(element: dict[str, Schema], checksum: Schema, newer: bool) -> Schema:
    fields = {
        **element,
        "artifactOfs": _list({"type": "object"}),
        "checksums": {**_list(checksum), "minItems": 1},
        "fileContributors": TEXTS,
        "fileDependencies": TEXTS,
        "fileName": TEXT,
        "fileTypes": _list(_one_of(_FILE_TYPES)),
        "licenseInfoInFiles": TEXTS if newer else {**TEXTS, "minItems": 1},
        "noticeText": TEXT,
    }
    del fields["name"]
    required = "SPDXID checksums fileName"
    return _object(required if newer else f"{required} copyrightText licenseConcluded licenseInfoInFiles", **fields)


def _snippet(element: dict[str, Schema], newer: bool) -> Schema:
    pointer = _object("reference", lineNumber=WHOLE, offset=WHOLE, reference=TEXT)
    spans = _list(_object("endPointer startPointer", endPointer=pointer, startPointer=pointer))
    required = "SPDXID name ranges snippetFromFile"
    return _object(
        required if newer else f"{required} copyrightText licenseConcluded",
        **element,
        licenseInfoInSnippets=TEXTS,
        ranges={**spans, "minItems": 1},
        snippetFromFile=TEXT,
    )


def _extracted_licence() -> Schema:
    reference = _object(
        "url",
        isLive=TRUTH,
        isValid=TRUTH,
        isWayBackLink=TRUTH,
        match=TEXT,
        order=WHOLE,
        timestamp=TEXT,
        url=TEXT,
    )
    return _object(
        "extractedText licenseId",
        comment=TEXT,
        crossRefs=_list(reference),
        extractedText=TEXT,
        licenseId=TEXT,
        name=TEXT,
        seeAlsos=TEXTS,
    )


def _object(required: str, /, **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_of(*words: str) -> Schema:
    return {"type": "string", "enum": " ".join(words).split()}
