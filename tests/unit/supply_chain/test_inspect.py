"""`quarterdeck inspect` judges each real file as it should be judged, and anything else without a crash."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quarterdeck.cli import main
from tests.unit.supply_chain.manifest_world import accepted, items, needs_manifest, real

BUNDLES = items("sigstore-bundle", "pep740", "bare-dsse")
SBOMS = items("sbom")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, words)])


def inspected(*words: object) -> list[dict[str, Any]]:
    result = invoke(*words, "--format", "json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home, an empty folder, and no way to the network."""
    monkeypatch.chdir(tmp_path)
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))

    def no_network(*_: Any) -> None:
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)


@needs_manifest
@pytest.mark.parametrize("root", sorted({str(item.get("trusted_root")) for item in BUNDLES}))
def test_every_real_bundle_gets_the_verdict_that_is_expected_of_it(root: str, alone: None) -> None:
    group = [item for item in BUNDLES if str(item.get("trusted_root")) == root]
    options = [] if root == "None" else ["--trusted-root", real(root)]
    found = inspected(*options, *(real(item["path"]) for item in group))
    wrong = [
        (item["path"], item["expected_verdict"], one["verdict"], one["reason"])
        for item, one in zip(group, found, strict=True)
        if one["verdict"] not in accepted(item)
    ]
    assert not wrong
    assert all(one["reason"] for one in found)
    assert {one["kind"] for item, one in zip(group, found, strict=True) if item["kind"] == "pep740"} <= {"provenance"}
    assert {one["kind"] for item, one in zip(group, found, strict=True) if item["kind"] != "pep740"} == {"bundle"}


@needs_manifest
def test_the_public_instance_needs_no_root_no_home_and_no_network(alone: None) -> None:
    public = [item for item in BUNDLES if item.get("trusted_root") == "trusted_roots/public_good.json"]
    found = inspected(*(real(item["path"]) for item in public))
    assert [item["path"] for item, one in zip(public, found, strict=True) if one["verdict"] not in accepted(item)] == []
    assert {one["trusted_root"] for one in found if one["verdict"] == "VERIFIED"} == {"sigstore production"}


@needs_manifest
def test_certificate_fields_and_subjects_are_those_of_the_file(alone: None) -> None:
    verified = [
        item
        for item in items("sigstore-bundle")
        if item["expected_verdict"] == "VERIFIED" and item.get("trusted_root") == "trusted_roots/public_good.json"
    ]
    for item, one in zip(verified, inspected(*(real(item["path"]) for item in verified)), strict=True):
        certificate = one["certificate"]
        for key in (
            "issuer",
            "source_repository",
            "source_commit",
            "source_ref",
            "runner_environment",
            "build_trigger",
            "visibility",
        ):
            if item.get(key):
                assert certificate[key] == item[key], (item["path"], key)
        assert set(item["identity"]) <= set(certificate["identities"])
        if item.get("subjects"):
            digests = [subject["digest"] for subject in item["subjects"]]
            assert [subject["digest"] for subject in one["subjects"]] == digests
            assert one["predicate_type"] == item.get("predicate_type", one["predicate_type"])


@needs_manifest
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_digest_must_be_among_the_subjects(algorithm: str, alone: None) -> None:
    path = real("valid/provenance/slsa-verifier/bcr_MODULE.bazel.intoto.jsonl")
    (item,) = [item for item in BUNDLES if real(item["path"]) == path]
    if algorithm == "sha256":
        assert inspected(path, "--digest", f"sha256:{item['artifact_sha256'].upper()}")[0]["verdict"] == "VERIFIED"
    length = {"sha256": 64, "sha512": 128}[algorithm]
    (other,) = inspected(path, "--digest", f"{algorithm}:{'0' * length}")
    assert other["verdict"] == "INVALID_SUBJECT"
    assert "0" * length in other["reason"]


@needs_manifest
def test_a_private_bundle_passes_under_its_root_alone_and_says_that_no_log_witnessed_it(alone: None) -> None:
    path = real("valid/provenance/cli/github_provenance_demo-0.0.12-py3-none-any-bundle.jsonl")
    (under,) = inspected(path, "--trusted-root", real("trusted_roots/github_private.json"))
    assert under["verdict"] == "VERIFIED_PRIVATE"
    assert "no public log witnessed it" in under["reason"]
    assert "“github_private.json”" in under["reason"]
    (without,) = inspected(path)
    assert without["verdict"] == "INVALID_CERT"
    assert "gh attestation trusted-root" in without["reason"]


@needs_manifest
def test_roots_may_be_several_and_the_public_one_does_not_count_beside_them(alone: None) -> None:
    private = real("valid/provenance/cli/github_provenance_demo-0.0.12-py3-none-any-bundle.jsonl")
    public = real("valid/provenance/cli/custom-issuer.sigstore.json")
    roots = [real("trusted_roots/github_private.json"), real("trusted_roots/public_good.json")]
    both = inspected(private, public, *(word for root in roots for word in ("--trusted-root", root)))
    assert [one["verdict"] for one in both] == ["VERIFIED_PRIVATE", "VERIFIED"]
    assert [one["trusted_root"] for one in both] == ["github_private.json", "public_good.json"]
    alone_under = inspected(private, public, "--trusted-root", roots[0])
    assert [one["verdict"] for one in alone_under] == ["VERIFIED_PRIVATE", "INVALID_CERT"]


@needs_manifest
def test_no_verdict_names_a_folder_of_this_machine(alone: None) -> None:
    found = inspected(
        real("valid/provenance/cli/custom-issuer.sigstore.json"),
        "--trusted-root",
        real("trusted_roots/public_good.json"),
    )
    assert str(real("trusted_roots")) not in json.dumps(found)


@needs_manifest
def test_several_bundles_in_a_file_are_judged_each_and_the_gravest_counts(tmp_path: Path, alone: None) -> None:
    good = real("valid/provenance/slsa-verifier/bcr_MODULE.bazel.intoto.jsonl").read_bytes().strip()
    forged = real("invalid/provenance/slsa-verifier/bcr_MODULE-wrong-signer.bazel.intoto.jsonl").read_bytes().strip()
    path = tmp_path / "both.jsonl"
    path.write_bytes(good + b"\n" + forged + b"\n{}\n")
    (one,) = inspected(path)
    assert one["verdict"] == "FORGED_CLAIMS"
    assert one["reason"].startswith("1 of 3 pass; line 2: ")
    assert [(each["place"], each["verdict"]) for each in one["documents"]] == [
        ("line 1", "VERIFIED"),
        ("line 2", "FORGED_CLAIMS"),
        ("line 3", "UNSUPPORTED_NOT_A_BUNDLE"),
    ]


@needs_manifest
@pytest.mark.parametrize("expected", sorted({item["expected_verdict"] for item in SBOMS}))
def test_every_real_sbom_gets_the_verdict_that_is_expected_of_it(expected: str) -> None:
    group = [item for item in SBOMS if item["expected_verdict"] == expected]
    found = inspected(*(real(item["path"]) for item in group))
    wrong = [
        (item["path"], expected, one["verdict"], one["reason"])
        for item, one in zip(group, found, strict=True)
        if one["verdict"] not in accepted(item) or one["kind"] != "sbom"
    ]
    assert not wrong
    assert [one["format"] for one in found] == [item["format"] for item in group]
    if expected != "SCHEMA_INVALID":  # where the version itself may be what is wrong
        assert [one["spec_version"] for one in found] == [item["spec_version"] for item in group]
    assert all(one["components"] == len(one["component_list"]) for one in found)


@pytest.mark.parametrize(
    ("content", "verdict", "kind"),
    [
        (b"", "UNSUPPORTED_NOT_A_BUNDLE", "bundle"),
        (b"\x00\xff\xfe\x89PNG", "UNSUPPORTED_NOT_A_BUNDLE", "bundle"),
        (b"hello", "UNSUPPORTED_NOT_A_BUNDLE", "bundle"),
        (b"[1, 2]", "UNSUPPORTED_NOT_A_BUNDLE", "bundle"),
        (b'{"name": "left-pad"}', "UNSUPPORTED_NOT_A_BUNDLE", "bundle"),
        (b'{"_type": "x", "predicate": {"bomFormat": "CycloneDX"}}', "UNSUPPORTED_NOT_A_BUNDLE", "bundle"),
        (b"<html></html>", "UNREADABLE", "sbom"),
        (b'{"bomFormat": "CycloneDX", ', "UNREADABLE", "sbom"),
        (b"SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\n", "UNREADABLE", "sbom"),
        (b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}', "SCHEMA_VALID", "sbom"),
        (
            b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "declarations": {"attestations": [{"summary": "x"}]}}',
            "SCHEMA_VALID",
            "sbom",
        ),
        ('{"bomFormat": "CycloneDX", "specVersion": "1.6"}'.encode("utf-16"), "SCHEMA_VALID", "sbom"),
    ],
)
def test_whatever_a_file_is_it_gets_a_verdict_and_a_reason(
    content: bytes, verdict: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    (one,) = inspected(path)
    assert (one["path"], one["verdict"], one["kind"]) == (str(path), verdict, kind)
    assert one["reason"].strip().endswith(".")
    assert invoke(path).stdout.startswith(verdict)


def test_a_file_may_come_from_stdin() -> None:
    result = CliRunner().invoke(main, ["inspect", "-", "--format", "json"], input=b'{"bomFormat": 1}')
    assert json.loads(result.stdout)[0] | {"path": "-", "kind": "sbom"} == json.loads(result.stdout)[0]


def test_another_verdict_than_the_required_one_exits_1_and_is_printed_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    assert invoke(path, "--require", "SCHEMA_VALID").exit_code == 0
    assert invoke(path, "--require", "VERIFIED", "--require", "schema_valid").exit_code == 0
    result = invoke(path, "--require", "VERIFIED")
    assert result.exit_code == 1
    assert result.stdout.startswith("SCHEMA_VALID")
    assert result.stderr == f"error: {path}: the verdict is SCHEMA_VALID, not VERIFIED\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--require", "VERIFID"], "Did you mean VERIFIED?"),
        (["--digest", "sha256:12"], "64 hex digits"),
        (["--trusted-root", "absent.json"], "absent.json"),
        (["--format", "sarif"], "'table', 'json'"),
        (["absent.json"], "absent.json"),
        (["."], "is a directory"),
    ],
)
def test_wrong_words_exit_2_before_anything_is_judged(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bom.json").write_bytes(b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    result = invoke("bom.json", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_root_that_is_none_exits_2_and_names_the_whole_path(tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_text("{}")
    result = invoke(root, "--trusted-root", root)
    assert result.exit_code == 2
    assert str(root) in result.stderr
    assert "gh attestation trusted-root" in result.stderr


def test_a_file_that_cannot_be_read_is_an_error_and_the_others_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "bom.json", tmp_path / "broken.json"
    good.write_bytes(b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    bad.touch()
    unpatched: Callable[..., Any] = Path.open

    def opened(path: Path, *words: Any, **options: Any) -> Any:
        if path == bad:
            raise OSError(5, "Input/output error")
        return unpatched(path, *words, **options)

    monkeypatch.setattr(Path, "open", opened)
    result = invoke(bad, good, "--format", "json")
    assert result.exit_code == 1
    assert [one["path"] for one in json.loads(result.stdout)] == [str(good)]
    assert result.stderr.startswith(f"error: {bad}: The file cannot be read: Input/output error.")


@pytest.mark.parametrize("text", ["a: 1\nb: [2]\n", "# Title\n\nWords.\n", '{"cut": '], ids=["yaml", "markdown", "cut"])
def test_a_file_that_is_neither_is_told_what_was_expected(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text(text, encoding="utf-8")
    (one,) = inspected(path)
    assert (one["kind"], one["verdict"]) == ("bundle", "UNSUPPORTED_NOT_A_BUNDLE")
    assert one["reason"].startswith("It is neither a Sigstore bundle nor an SBOM: not JSON (")
    assert one["reason"].endswith(").")


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    result = invoke(tmp_path / "pipe.json")
    assert result.exit_code == 1
    assert "named pipe" in result.stderr


@pytest.mark.parametrize("root", ["pipe.json", "/dev/zero"])
def test_a_root_without_end_is_not_read_to_its_end(root: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "bundle.json").write_text("{}")
    result = invoke(tmp_path / "bundle.json", "--trusted-root", tmp_path / root)
    assert result.exit_code == 2
    assert root in result.stderr
    assert "unexpected" not in result.stderr
