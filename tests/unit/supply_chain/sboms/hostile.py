"""Documents that somebody made to cost much or to read what they should not; each as a recipe, for some are large.

`python -m tests.unit.supply_chain.sboms.hostile MEGABYTES` judges all of them in a process that may use no more memory
than that, and prints name and verdict of each.
"""

import json
import resource
import sys
from collections.abc import Callable, Mapping

HEAD = b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, '
BOM = b'<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1"'
SPDX = b'{"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", '


def _deep_components(depth: int, inner: bytes) -> bytes:
    opening = b'{"name": "x", "components": ['
    return HEAD + b'"components": [' + opening * depth + inner + b"]}" * depth + b"]}"


def _many(component: bytes, count: int) -> bytes:
    return HEAD + b'"components": [' + b",".join([component] * count) + b"]}"


def _xml(inner: bytes) -> bytes:
    return BOM + b">" + inner + b"</bom>"


DOCUMENTS: Mapping[str, Callable[[], bytes]] = {
    # size
    "a long text": lambda: HEAD + b'"components": [{"type": "library", "name": "' + b"a" * 60_000_000 + b'"}]}',
    "too long": lambda: b" " * (64 * 1024 * 1024 + 1),
    "a million components": lambda: _many(b'{"type": "library", "name": "a"}', 1_000_000),
    "almost too many components": lambda: _many(b"{}", 190_000),
    "almost too many, as deep as may be": lambda: _deep_components(90, b",".join([b"{}"] * 190_000)),
    "300,000 components": lambda: _many(b'{"type": "library", "name": "a"}', 300_000),
    "300,000 packages": lambda: SPDX + b'"packages": [' + b"{}," * 299_999 + b"{}]}",
    "300,000 components as XML": lambda: _xml(b"<components>" + b"<component/>" * 300_000 + b"</components>"),
    "a million packages": lambda: SPDX + b'"packages": [' + b"{}," * 999_999 + b"{}]}",
    "a million components as XML": lambda: _xml(
        b"<components>" + b'<component type="library"><name>a</name></component>' * 900_000 + b"</components>"
    ),
    "a million needed": lambda: HEAD + b'"dependencies": [{"ref": "a", "dependsOn": [' + b'"b",' * 900_000 + b'"c"]}]}',
    "two million values": lambda: HEAD + b'"x": [' + b"1," * 2_000_000 + b"1]}",
    "a million attributes": lambda: BOM + b" " + b" ".join(b'a%d="1"' % n for n in range(1_000_000)) + b"/>",
    "wrong elements": lambda: _xml(b"<components>" + b"<wrong/>" * 400_000 + b"</components>"),
    "a million instructions": lambda: b"<?a?>" * 1_000_000 + _xml(b""),
    # depth
    "deep lists": lambda: b"[" * 10_000 + b"]" * 10_000,
    "deep components": lambda: _deep_components(10_000, b""),
    "deep without end": lambda: b'{"a":' * 5_000_000,
    "deep XML": lambda: _xml(b"<components><component>" * 10_000 + b"</component></components>" * 10_000),
    # XML that reads or grows
    "an entity bomb": lambda: (
        b'<?xml version="1.0"?><!DOCTYPE bom [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        + _xml(b"&b;")
    ),
    "an external entity": lambda: (
        b'<!DOCTYPE bom [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + _xml(b"<components>&x;</components>")
    ),
    "a DTD behind a comment": lambda: b"<!-- a --><?b?> <!doctype bom SYSTEM 'x.dtd'>" + _xml(b""),
    "an undeclared entity": lambda: _xml(b"&x;"),
    "a schema's address": lambda: (
        BOM
        + b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a http://127.0.0.1:1/a.xsd"/>'
    ),
    "an inclusion": lambda: _xml(
        b'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="/etc/passwd" parse="text"/>'
    ),
    # odd JSON
    "repeated keys": lambda: HEAD + b",".join([b'"a": 1'] * 1_000_000) + b"}",
    "repeated keys in each": lambda: _many(b'{"a": 1, "a": 2}', 190_000),
    "NaN": lambda: HEAD + b'"x": NaN}',
    "a huge number": lambda: HEAD + b'"x": 1e400}',
    "a number of five million digits": lambda: HEAD + b'"x": ' + b"1" * 5_000_000 + b"}",
    "half a surrogate pair": lambda: HEAD + b'"components": [{"type": "library", "name": "\\ud800", "\\udc00": 1}]}',
    "a NUL": lambda: (
        HEAD + b'"components": [{"type": "library", "name": "a\\u0000b", "purl": "pkg:npm/\\u0000@\\u0000"}]}'
    ),
    "quotes": lambda: b'{"bomFormat":"' + b'\\"' * 20_000_000,
    "bytes": lambda: bytes(range(256)) * 100_000,
    # texts for expressions to choke on
    "long fields": lambda: (
        HEAD
        + json.dumps(
            {
                "serialNumber": "urn:uuid:" + "0" * 100_000,
                "metadata": {"timestamp": "2020-01-01T00:00:00" + "0" * 100_000},
                "components": [
                    {
                        "type": "library",
                        "name": "a",
                        "mime-type": "a/" * 100_000,
                        "hashes": [{"alg": "SHA-256", "content": "a" * 1_000_000}],
                        "authors": [{"email": "a" * 200_000 + "@" * 200_000}],
                        "externalReferences": [{"type": "vcs", "url": "http://" + "a" * 1_000_000}],
                    }
                ],
            }
        )[1:].encode()
    ),
    "package URLs": lambda: (
        HEAD
        + json.dumps(
            {
                "components": [
                    {"type": "library", "name": str(number), "purl": purl}
                    for number, purl in enumerate(
                        [
                            "pkg:" + "%2" * 900,
                            "pkg:npm/" + "/" * 1_900,
                            "pkg:a/" + "a@" * 900,
                            "pkg:npm/a?" + "a=b&" * 400,
                        ]
                    )
                ]
            }
        )[1:].encode()
    ),
    "licences": lambda: (
        HEAD
        + json.dumps(
            {
                "components": [
                    {"type": "library", "name": str(number), "licenses": [{"expression": text}]}
                    for number, text in enumerate(
                        [
                            "(" * 50 + "MIT" + ")" * 50,
                            "MIT OR " * 580 + "MIT",
                            "MIT AND " * 400,
                            "WITH " * 800,
                            "(" * 4_000,
                        ]
                    )
                ]
            }
        )[1:].encode()
    ),
    "people of SPDX": lambda: (
        SPDX
        + json.dumps(
            {
                "creationInfo": {"created": "x", "creators": ["Person: " + " (" * 500_000, "Tool:" + "-1" * 100_000]},
                "packages": [{"supplier": "Organization: " + "( " * 500_000, "originator": "Person: " + "<" * 500_000}],
            }
        )[1:].encode()
    ),
}


def main(megabytes: int) -> None:
    """Judge every document within a limit of memory."""
    from analytics.supply_chain.sbom_reading import sbom_rows

    limit = megabytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for name, made in DOCUMENTS.items():
        row, components = sbom_rows("0", made(), "file")
        sys.stdout.write(json.dumps([name, row["verdict"], row["reason"], sum(1 for _ in components)]) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
