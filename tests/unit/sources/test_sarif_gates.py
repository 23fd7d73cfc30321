"""SARIF files as gate results: blocked, overridden or passed, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analytics.landing.coverage import quarantined
from analytics.landing.pull import pull
from analytics.settings import FilesSource, Settings
from analytics.sources import feed_pages
from analytics.sources.sarif_gates import BadSarifError, Level, gate_results
from tests.unit.landing.landing_world import Workspace

KEY = "gate_results/acme/shop/4711/scan.sarif"
FALSE_POSITIVE = {"kind": "external", "justification": "False positive: test data"}
ACCEPTED = {"kind": "inSource", "status": "accepted", "justification": "won't fix"}


def result(level: str | None = "error", *suppressions: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"ruleId": "R1", "message": {"text": "found"}, **more}
    return found | ({"level": level} if level else {}) | ({"suppressions": list(suppressions)} if suppressions else {})


def run(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "tool": {"driver": {"name": "Scanner", "rules": [{"id": "R1"}]}},
        "invocations": [{"executionSuccessful": True, "endTimeUtc": "2026-08-03T09:30:00Z"}],
        "results": list(results),
        **more,
    }


def sarif(*runs: dict[str, Any], version: str = "2.1.0") -> bytes:
    return json.dumps(
        {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": version, "runs": runs}
    ).encode()


def read(data: bytes, key: str = KEY, blocks_at: Level = "error") -> list[dict[str, Any]]:
    return [json.loads(record.payload) for record in gate_results(data, key, blocks_at)]


@pytest.mark.parametrize(
    ("results", "outcome", "resolution"),
    [
        ([], "passed", None),
        ([result("warning"), result("note")], "passed", None),
        ([result("error")], "blocked", None),
        ([result("error"), result("error", FALSE_POSITIVE)], "blocked", None),
        ([result("error", FALSE_POSITIVE)], "overridden", "false_positive"),
        ([result("error", ACCEPTED)], "overridden", "true_positive"),
        ([result("error", FALSE_POSITIVE), result("error", ACCEPTED)], "overridden", "true_positive"),
        ([result("error", {"kind": "external"})], "overridden", None),
        # A suppression that somebody still looks at, or that was refused, is none.
        ([result("error", {"kind": "external", "status": "underReview"})], "blocked", None),
        ([result("error", FALSE_POSITIVE, {"kind": "external", "status": "rejected"})], "blocked", None),
        ([result("error", kind="pass")], "passed", None),
        ([result("error", baselineState="absent")], "passed", None),
        ([result("error", baselineState="unchanged")], "blocked", None),
    ],
)
def test_the_outcome_is_that_of_the_results_that_block(
    results: list[dict[str, Any]], outcome: str, resolution: str | None
) -> None:
    (record,) = read(sarif(run(*results)))
    assert (record["outcome"], record.get("resolution")) == (outcome, resolution)


@pytest.mark.parametrize(("blocks_at", "outcome"), [("error", "passed"), ("warning", "blocked"), ("note", "blocked")])
def test_the_settings_say_from_which_level_on_a_result_blocks(blocks_at: Level, outcome: str) -> None:
    # A result without a level is a warning.
    (record,) = read(sarif(run(result(None))), blocks_at=blocks_at)
    assert record["outcome"] == outcome


def test_a_level_that_is_not_said_is_the_rules() -> None:
    rules = [{"id": "R0"}, {"id": "R1", "defaultConfiguration": {"level": "error"}}]
    tool = {"driver": {"name": "Scanner", "rules": rules}}
    assert read(sarif(run(result(None), tool=tool)))[0]["outcome"] == "blocked"
    assert read(sarif(run(result(None, ruleIndex=0), tool=tool)))[0]["outcome"] == "passed"
    # CodeQL's rules stand in an extension.
    packed = {"driver": {"name": "CodeQL"}, "extensions": [{"name": "queries", "rules": rules}]}
    named = {"id": "R1", "index": 1, "toolComponent": {"index": 0}}
    assert read(sarif(run(result(None, rule=named), tool=packed)))[0]["outcome"] == "blocked"


def test_folders_say_whose_run_it_is_before_the_file_does() -> None:
    provenance = [{"repositoryUri": "https://github.com/acme/till.git", "revisionId": "abc"}]
    details = {"id": "codeql/language:python/9001"}
    data = sarif(run(versionControlProvenance=provenance, automationDetails=details))
    (by_folders,) = read(data)
    assert (by_folders["repository"], by_folders["run_id"]) == ("acme/shop", "4711")
    (by_file,) = read(data, key="scan.sarif")
    assert (by_file["repository"], by_file["run_id"]) == ("acme/till", "9001")
    assert by_file["gate"] == "Scanner codeql/language:python"
    assert by_file["at"] == "2026-08-03T09:30:00Z"


@pytest.mark.parametrize(
    "address", ["git@github.com:acme/till.git", "ssh://git@github.com/acme/till", "https://github.com/acme/till/"]
)
def test_a_repositorys_address_is_its_name(address: str) -> None:
    (record,) = read(sarif(run(versionControlProvenance=[{"repositoryUri": address}])), key="scan.sarif")
    assert record["repository"] == "acme/till"


def test_each_run_is_a_gate_and_one_without_results_is_none() -> None:
    first, second, third = (run(automationDetails={"id": f"{name}/1"}) for name in ("go", "java", "ruby"))
    del second["results"]
    records = read(sarif(first, second, third), key="scan.sarif")
    assert [record["gate"] for record in records] == ["Scanner go", "Scanner ruby"]


@pytest.mark.parametrize(
    "data",
    [b"", b"<sarif/>", b"{}", sarif(run(), version="2.0.0"), b'{"version": "2.1.0", "runs": [{}]}', b"[" * 100_000,
     b'{"version": "2.1.0", "runs": ' + b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_sarif_is_refused(data: bytes) -> None:
    with pytest.raises(BadSarifError):
        read(data)


def test_a_feed_folder_takes_them_at_its_top_and_below_gate_results(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    details = {"id": "9001"}
    provenance = [{"repositoryUri": "https://github.com/acme/till"}]
    workspace.drops.write("scan.sarif", sarif(run(versionControlProvenance=provenance, automationDetails=details)))
    workspace.drops.write(KEY, sarif(run(result())))
    workspace.drops.write("gate_results/acme/shop/4712/scan.sarif.json", sarif(run()))
    # Neither the run nor its time is told.
    workspace.drops.write("gate_results/other.sarif", sarif(run(invocations=[])))
    workspace.drops.write("gate_results/broken.sarif", b"{")
    workspace.drops.write("incidents/scan.sarif", sarif(run()))
    workspace.pull()
    found = {(one["repository"], one["run_id"]): one["outcome"] for one in workspace.winners("gate_results")}
    assert found == {
        ("acme/shop", "4711"): "blocked",
        ("acme/shop", "4712"): "passed",
        ("acme/till", "9001"): "passed",
    }
    refused = {row.origin: (row.line, row.reason) for row in quarantined(workspace.settings)}
    assert refused == {
        "gate_results/broken.sarif": (0, "bad_sarif"),
        "gate_results/other.sarif": (1, "missing_id"),
        "incidents/scan.sarif": (0, "unknown_format"),
    }


def test_another_threshold_reads_the_file_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.drops.write(KEY, sarif(run(result("warning"))))
    workspace.pull()
    assert workspace.winners("gate_results")[0]["outcome"] == "passed"
    source = FilesSource(type="files", name="drops", path=tmp_path / "drops", sarif_blocks_at="warning")
    strict = Settings.model_validate(workspace.settings.model_dump() | {"sources": [source]})
    pull(strict)
    assert workspace.winners("gate_results")[0]["outcome"] == "blocked"
    assert pull(strict)[0].items == 0


def test_a_file_over_the_cap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_pages, "MAX_FILE_BYTES", 100)
    workspace = Workspace(tmp_path)
    workspace.drops.write(KEY, sarif(run()))
    workspace.pull()
    (row,) = quarantined(workspace.settings)
    assert (row.reason, "longer than 100 bytes" in str(row.detail)) == ("bad_sarif", True)
