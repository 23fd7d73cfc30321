"""Components against a folder of OSV records: ranges, ecosystems, aliases, severities, lists beside."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from analytics.errors import SettingsError
from analytics.supply_chain.sboms.identifiers import parsed_purl
from analytics.supply_chain.sboms.vulnerabilities import Vulnerability, load_vulnerabilities, package_keys

Events = list[dict[str, str]]


def record(
    ecosystem: str = "npm",
    name: str = "left-pad",
    events: Events | None = None,
    versions: list[str] | None = None,
    kind: str = "ECOSYSTEM",
    **fields: Any,
) -> dict[str, Any]:
    """An OSV record about one package."""
    affected: dict[str, Any] = {"package": {"ecosystem": ecosystem, "name": name}}
    if events is not None:
        affected["ranges"] = [{"type": kind, "events": events}]
    if versions is not None:
        affected["versions"] = versions
    return {"id": "GHSA-1", "modified": "2024-05-01T00:00:00Z", "affected": [affected], **fields}


def found(tmp_path: Path, purl: str, *records: dict[str, Any], **lists: Path) -> list[Vulnerability]:
    """What a folder of these records says of a component."""
    folder = tmp_path / "osv"
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(one), encoding="utf-8")
    index = load_vulnerabilities(folder, lists.get("kev"), lists.get("epss"))
    assert index.unread == []
    return index.of(parsed_purl(purl)[0])


@pytest.mark.parametrize(
    ("events", "affected", "free"),
    [
        ([{"introduced": "0"}], ["0.0.1", "99.0.0"], []),
        ([{"introduced": "0"}, {"fixed": "1.3.0"}], ["1.2.9", "1.3.0-rc.1"], ["1.3.0", "2.0.0"]),
        ([{"introduced": "1.0.0"}, {"last_affected": "1.3.0"}], ["1.0.0", "1.3.0"], ["0.9.0", "1.3.1"]),
        (
            [{"introduced": "1.0.0"}, {"fixed": "1.3.0"}, {"introduced": "2.0.0"}, {"fixed": "2.1.0"}],
            ["1.1.0", "2.0.0"],
            ["1.3.0", "1.9.9", "2.1.0"],
        ),
        # Events stand in any order.
        (
            [{"fixed": "2.1.0"}, {"introduced": "2.0.0"}, {"fixed": "1.3.0"}, {"introduced": "0"}],
            ["1.1.0", "2.0.0"],
            ["1.3.0", "1.9.9", "2.1.0"],
        ),
        ([{"introduced": "0"}, {"limit": "2.0.0"}], ["1.9.0"], ["2.0.0", "3.0.0"]),
        ([{"introduced": "0"}, {"limit": "*"}], ["3.0.0"], []),
        ([{"introduced": "0"}, {"fixed": "10.0.0"}], ["9.0.0"], ["10.0.0"]),
        ([], [], ["1.0.0"]),
    ],
)
def test_a_version_is_affected_inside_a_range(
    tmp_path: Path, events: Events, affected: list[str], free: list[str]
) -> None:
    for version in affected:
        assert found(tmp_path, f"pkg:npm/left-pad@{version}", record(events=events)), version
    for version in free:
        assert not found(tmp_path, f"pkg:npm/left-pad@{version}", record(events=events)), version


def test_a_version_is_affected_where_it_is_listed_whatever_its_order(tmp_path: Path) -> None:
    assert found(tmp_path, "pkg:pypi/shop@not.a.version", record("PyPI", "shop", versions=["not.a.version"]))
    assert not found(tmp_path, "pkg:pypi/shop@other", record("PyPI", "shop", versions=["1"], events=[]))
    assert not found(tmp_path, "pkg:pypi/shop@what", record("PyPI", "shop", events=[{"introduced": "0"}]))


def test_a_range_of_commits_says_nothing_of_versions(tmp_path: Path) -> None:
    assert not found(tmp_path, "pkg:npm/left-pad@1.0.0", record(events=[{"introduced": "0"}], kind="GIT"))


@pytest.mark.parametrize(
    ("ecosystem", "name", "purl"),
    [
        ("npm", "@acme/shop", "pkg:npm/%40acme/shop@1.0.0"),
        ("PyPI", "Acme.Shop_api", "pkg:pypi/acme-shop-api@1.0.0"),
        ("Maven", "com.acme:shop", "pkg:maven/com.acme/shop@1.0.0"),
        ("Go", "github.com/acme/shop", "pkg:golang/github.com/acme/shop@v1.0.0"),
        ("crates.io", "shop", "pkg:cargo/shop@1.0.0"),
        ("RubyGems", "shop", "pkg:gem/shop@1.0.0"),
        ("NuGet", "Acme.Shop", "pkg:nuget/acme.shop@1.0.0"),
        ("Packagist", "acme/shop", "pkg:composer/acme/shop@v1.0.0"),
        ("Hex", "shop", "pkg:hex/shop@1.0.0"),
        ("GitHub Actions", "acme/setup", "pkg:githubactions/acme/setup@v1.0.0"),
        ("GitHub Actions", "acme/setup", "pkg:github/acme/setup@v1.0.0"),
        ("Debian:12", "curl", "pkg:deb/debian/curl@1.0.0-1?arch=amd64&distro=debian-12"),
        ("Debian:12", "curl", "pkg:deb/debian/libcurl4@1.0.0-1?upstream=curl&distro=debian-12.5"),
        ("Debian", "curl", "pkg:deb/debian/curl@1.0.0-1"),
        ("Ubuntu:22.04:LTS", "curl", "pkg:deb/ubuntu/curl@1.0.0-1?distro=ubuntu-22.04"),
        ("Alpine:v3.18", "curl", "pkg:apk/alpine/curl@1.0.0-r0?distro=alpine-3.18.4"),
        ("Alpine:v3.16", "curl", "pkg:alpine/curl@1.0.0-r0?distro=alpine-3.16.2"),
        ("Red Hat:enterprise_linux:9::appstream", "curl", "pkg:rpm/redhat/curl@1.0.0-1.el9?distro=rhel-9.2"),
    ],
)
def test_an_ecosystem_is_known_by_the_type_of_a_package_url(
    tmp_path: Path, ecosystem: str, name: str, purl: str
) -> None:
    events = [{"introduced": "0"}, {"fixed": "1.0.1"}]
    assert [one.id for one in found(tmp_path, purl, record(ecosystem, name, events))] == ["GHSA-1"]


@pytest.mark.parametrize(
    ("ecosystem", "purl"),
    [
        ("PyPI", "pkg:npm/curl@1.0.0"),
        ("Debian:12", "pkg:deb/ubuntu/curl@1.0.0-1"),
        ("Debian:12", "pkg:deb/debian/curl@1.0.0-1?distro=debian-11"),
        ("Alpine:v3.1", "pkg:apk/alpine/curl@1.0.0-r0?distro=alpine-3.18.4"),
        ("Rocky Linux:9", "pkg:rpm/redhat/curl@1.0.0-1.el9"),
        ("Unheard of", "pkg:generic/curl@1.0.0"),
    ],
)
def test_another_ecosystem_distribution_or_release_is_another_package(
    tmp_path: Path, ecosystem: str, purl: str
) -> None:
    assert not found(tmp_path, purl, record(ecosystem, "curl", [{"introduced": "0"}]))


def test_distributions_order_versions_their_own_way(tmp_path: Path) -> None:
    fixed = record("Debian:12", "curl", [{"introduced": "0"}, {"fixed": "7.88.1-10+deb12u5"}])
    assert found(tmp_path, "pkg:deb/debian/curl@7.88.1-10%2Bdeb12u4", fixed)
    assert not found(tmp_path, "pkg:deb/debian/curl@7.88.1-10%2Bdeb12u5", fixed)
    epochs = record("Red Hat:9", "bind", [{"introduced": "0"}, {"fixed": "32:9.16.23-5.el9"}])
    assert found(tmp_path, "pkg:rpm/redhat/bind@9.16.23-1.el9?epoch=32", epochs)
    assert not found(tmp_path, "pkg:rpm/redhat/bind@9.16.23-5.el9?epoch=32", epochs)


def test_a_component_without_version_or_package_url_is_not_judged(tmp_path: Path) -> None:
    assert not found(tmp_path, "pkg:npm/left-pad", record(events=[{"introduced": "0"}]))
    assert load_vulnerabilities(tmp_path / "osv").of(None) == []


def test_a_withdrawn_record_counts_no_more(tmp_path: Path) -> None:
    withdrawn = record(events=[{"introduced": "0"}], withdrawn="2024-06-01T00:00:00Z")
    assert not found(tmp_path, "pkg:npm/left-pad@1.0.0", withdrawn)


def test_two_records_of_one_vulnerability_are_one_and_the_graver_is_told(tmp_path: Path) -> None:
    events = [{"introduced": "0"}]
    pysec = record("PyPI", "shop", events, id="PYSEC-1", aliases=["CVE-2024-1", "GHSA-1"])
    ghsa = record("PyPI", "shop", events, aliases=["CVE-2024-1"], database_specific={"severity": "HIGH"})
    other = record("PyPI", "shop", events, id="GHSA-2", database_specific={"severity": "LOW"})
    vulnerabilities = found(tmp_path, "pkg:pypi/shop@1.0.0", pysec, ghsa, other)
    assert [(one.id, one.cve, one.severity) for one in vulnerabilities] == [
        ("GHSA-1", "CVE-2024-1", "high"),
        ("GHSA-2", None, "low"),
    ]


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:P/I:P/A:P"}]}, "high"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}, "critical"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]}, "low"),
        (
            {
                "severity": [
                    {"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}
                ]
            },
            "critical",
        ),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}, {"type": "x", "score": "5.0"}]}, "medium"),
        ({"severity": [{"type": "CVSS_V3", "score": "nan"}]}, None),
        ({"severity": [{"type": "CVSS_V3", "score": ["9.8"]}]}, None),
        ({"database_specific": {"severity": "MODERATE"}}, "medium"),
        # The word of the database counts before a vector.
        ({"database_specific": {"severity": "LOW"}, "severity": [{"type": "CVSS_V3", "score": "9.8"}]}, "low"),
        ({}, None),
    ],
)
def test_a_severity_comes_from_the_databases_word_or_from_a_vector(
    tmp_path: Path, fields: dict[str, Any], severity: str | None
) -> None:
    (one,) = found(tmp_path, "pkg:npm/left-pad@1.0.0", record(events=[{"introduced": "0"}], **fields))
    assert one.severity == severity


def test_what_is_exploited_and_how_likely_stand_beside(tmp_path: Path) -> None:
    kev = tmp_path / "kev.json"
    kev.write_text('{"vulnerabilities": [{"cveID": "CVE-2024-1"}]}', encoding="utf-8")
    table = "#model_version:v2023,score_date:2024-05-01\ncve,epss,percentile\nCVE-2024-1,0.42,0.9\n"
    plain, packed = tmp_path / "epss.csv", tmp_path / "epss.csv.gz"
    plain.write_text(table, encoding="utf-8")
    packed.write_bytes(gzip.compress(table.encode()))
    for epss in (plain, packed):
        one, other = found(
            tmp_path,
            "pkg:npm/left-pad@1.0.0",
            record(events=[{"introduced": "0"}], aliases=["CVE-2024-1"]),
            record(events=[{"introduced": "0"}], id="GHSA-2", upstream=["CVE-2024-2"]),
            kev=kev,
            epss=epss,
        )
        assert (one.is_exploited, one.exploit_probability) == (True, 0.42)
        assert (other.is_exploited, other.exploit_probability, other.cve) == (False, None, "CVE-2024-2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "Input data was truncated"),
        (b"[]", "it is no object"),
        (b"{}", "it has no id"),
        (b'{"id": 7}', "it has no id"),
        (b"[" * 100_000, "nesting"),
        (b" " * (4 * 1024 * 1024 + 1), "at most 4,194,304 are read"),
    ],
)
def test_a_broken_record_is_named_and_the_rest_counts(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a-broken.json").write_bytes(content)
    (tmp_path / "good.json").write_text(json.dumps(record(events=[{"introduced": "0"}])), encoding="utf-8")
    index = load_vulnerabilities(tmp_path)
    assert len(index.unread) == 1
    assert "a-broken.json" in index.unread[0]
    assert words in index.unread[0] or words == "nesting"
    assert [one.id for one in index.of(parsed_purl("pkg:npm/left-pad@1.0.0")[0])] == ["GHSA-1"]


def test_a_named_pipe_among_the_records_does_not_hold_the_stage(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "waits.json")
    assert "no regular file" in load_vulnerabilities(tmp_path).unread[0]


@pytest.mark.parametrize(
    "affected",
    [7, [7], [{}], [{"package": 7}], [{"package": {"ecosystem": 7, "name": "x"}}], [{"package": {"ecosystem": "npm"}}]],
)
def test_a_record_of_odd_shape_affects_nothing(tmp_path: Path, affected: Any) -> None:
    assert found(tmp_path, "pkg:npm/x@1.0.0", {"id": "GHSA-1", "affected": affected, "aliases": 7}) == []


@pytest.mark.parametrize("events", [7, [7], [{"introduced": 7}], [{"fixed": "1"}], [{"introduced": "x"}]])
def test_events_of_odd_shape_affect_nothing(tmp_path: Path, events: Any) -> None:
    assert found(tmp_path, "pkg:npm/left-pad@1.0.0", record(events=events)) == []


@pytest.mark.parametrize(
    ("kev", "epss"),
    [(b"{}", None), (b"[", None), (None, b"a,b\n1,2\n"), (None, b"cve,epss\nCVE-1,high\n"), (None, b"\xff\xfe")],
)
def test_a_list_that_is_none_is_an_error_of_the_settings(tmp_path: Path, kev: bytes | None, epss: bytes | None) -> None:
    for name, content in (("kev", kev), ("epss", epss)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError):
        load_vulnerabilities(tmp_path, tmp_path / "kev" if kev else None, tmp_path / "epss" if epss else None)


def test_a_folder_that_is_not_there_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such folder"):
        load_vulnerabilities(tmp_path / "none")


def test_only_records_of_wanted_packages_are_kept(tmp_path: Path) -> None:
    for number, name in enumerate(("left-pad", "right-pad")):
        text = json.dumps(record(name=name, events=[{"introduced": "0"}], id=f"GHSA-{number}"))
        (tmp_path / f"{number}.json").write_text(text, encoding="utf-8")
    purl = parsed_purl("pkg:npm/left-pad@1.0.0")[0]
    assert purl is not None
    index = load_vulnerabilities(tmp_path, wanted=package_keys(purl))
    assert list(index.records) == ["GHSA-0"]
    assert [one.id for one in index.of(purl)] == ["GHSA-0"]
