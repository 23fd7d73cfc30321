from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from analytics import doctor
from analytics.doctor import Finding, examine
from analytics.lake.version import note_begun
from analytics.settings import load_settings
from analytics.starter import write_starter


def found(settings: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(settings)}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    write_starter(tmp_path)
    (tmp_path / "feeds" / "deployments.jsonl").touch()
    return tmp_path / "quarterdeck.yaml"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_sound_workspace_has_no_failure(settings: Path) -> None:
    findings = found(settings)
    assert [f for f in findings.values() if f.state == "fail"] == []
    assert findings["source drops"] == Finding("source drops", "ok", "deployments")


def test_sarif_and_saved_deliveries_are_feeds(settings: Path) -> None:
    feeds = settings.parent / "feeds"
    (feeds / "deployments.jsonl").rename(feeds / "scan.sarif")
    (feeds / "webhooks").mkdir()
    assert found(settings)["source drops"] == Finding("source drops", "ok", "gate_results, webhooks")


def test_looking_makes_nothing(settings: Path) -> None:
    before = sorted(settings.parent.rglob("*"))
    found(settings)
    assert sorted(settings.parent.rglob("*")) == before


def test_every_finding_that_is_not_ok_has_a_fix(settings: Path) -> None:
    change(settings, "./feeds", "./nowhere")
    assert all(finding.fix for finding in examine(settings) if finding.state != "ok")


def test_the_supply_chain_says_what_verdicts_rest_on(settings: Path) -> None:
    finding = found(settings)["supply chain"]
    assert (finding.state, finding.detail) == ("ok", "trusted roots: sigstore production; policies: built in")


@pytest.mark.parametrize(
    ("chain", "state", "said"),
    [
        ("{policies: policies.yaml}", "fail", "policies.yaml: cannot be read"),
        ("{policies: wrong.yaml}", "fail", "wrong.yaml:1"),
        ("{trusted_roots: [absent.json]}", "fail", "absent.json: The trusted root cannot be read"),
        ("{bundles: [catalog.yaml, 'bundles/*']}", "warn", "no file matches bundles/*"),
        ("{waivers: waivers.yaml}", "ok", "waivers: 1, 1 of them ended"),
    ],
)
def test_what_the_supply_chain_lacks_is_named(settings: Path, chain: str, state: str, said: str) -> None:
    settings.parent.joinpath("wrong.yaml").write_text("polices: []\n", encoding="utf-8")
    settings.parent.joinpath("waivers.yaml").write_text(
        "waivers: [{rule: runner, owner: ann, reason: old, until: 2020-01-01}]\n", encoding="utf-8"
    )
    with settings.open("a", encoding="utf-8") as file:
        file.write(f"supply_chain: {chain}\n")
    finding = found(settings)["supply chain"]
    assert (finding.state, said in finding.detail) == (state, True), finding
    assert finding.fix or state == "ok"


def test_wrong_settings_are_named_with_their_line(settings: Path) -> None:
    change(settings, "time_zone: UTC", "time_zon: UTC")
    finding = found(settings)["settings"]
    assert finding.state == "fail"
    assert f"{settings}:7" in finding.detail
    assert finding.fix is not None
    assert "time_zone" in finding.fix


def test_a_catalog_error_is_named_with_its_line(settings: Path) -> None:
    change(settings.parent / "catalog.yaml", "    tier: 2", "    tir: 2")
    finding = found(settings)["catalog"]
    assert finding.state == "fail"
    assert "catalog.yaml:7" in finding.detail


def test_a_missing_feed_folder_fails(settings: Path) -> None:
    change(settings, "./feeds", "./nowhere")
    assert found(settings)["source drops"].state == "fail"


def test_an_empty_feed_folder_warns(settings: Path) -> None:
    (settings.parent / "feeds" / "deployments.jsonl").unlink()
    assert found(settings)["source drops"].state == "warn"


def test_a_clone_that_answers_is_told_from_one_that_does_not(settings: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", str(settings.parent / "there.git")], check=True)
    sources = "sources:\n  - {name: clones, type: git, repositories: {a/there: ./there.git, a/gone: ./gone.git}}"
    change(settings, "sources:", sources)
    finding = found(settings)["source clones"]
    assert finding.state == "fail"
    assert "a/gone" in finding.detail
    assert "a/there" not in finding.detail


def test_a_location_with_a_password_is_not_printed(settings: Path) -> None:
    sources = "sources:\n  - {name: clones, type: git, repositories: {a/b: 'ftp://user:secret@nowhere.invalid/x'}}"
    change(settings, "sources:", sources)
    assert "secret" not in repr(found(settings))


def test_a_storage_under_a_file_fails(settings: Path) -> None:
    change(settings, "./quarterdeck-data", "./catalog.yaml/inside")
    assert found(settings)["storage"].state == "fail"


def test_a_landing_file_in_use_warns_with_its_name(settings: Path) -> None:
    landing = settings.parent / "quarterdeck-data" / "landing"
    landing.mkdir(parents=True)
    path = landing / "drops.duckdb"
    duckdb.connect(str(path)).close()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        finding = found(settings)["landing"]
    finally:
        holder.communicate(b"")
    assert finding.state == "warn"
    assert "drops.duckdb" in finding.detail


def test_a_landing_file_that_is_none_fails(settings: Path) -> None:
    landing = settings.parent / "quarterdeck-data" / "landing"
    landing.mkdir(parents=True)
    (landing / "drops.duckdb").write_bytes(b"no database" * 1000)
    assert found(settings)["landing"].state == "fail"


def test_a_published_database_that_cannot_be_read_fails(settings: Path) -> None:
    storage = settings.parent / "quarterdeck-data"
    storage.mkdir()
    (storage / "analytics.duckdb").write_bytes(b"no database" * 1000)
    assert found(settings)["published"].state == "fail"


def test_a_stage_that_has_not_come_to_its_end_is_named(settings: Path) -> None:
    assert "tables" not in found(settings)
    note_begun(load_settings(settings), "build")
    finding = found(settings)["tables"]
    assert (finding.state, "the last build has not come to its end" in finding.detail) == ("warn", True)
    assert "`quarterdeck build`" in str(finding.fix)


def test_a_note_of_the_lake_that_cannot_be_read_fails(settings: Path) -> None:
    storage = settings.parent / "quarterdeck-data"
    storage.mkdir()
    (storage / "lake.json").write_text("[]")
    assert found(settings)["tables"].state == "fail"


def test_git_is_needed_only_where_a_source_is_git(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert found(settings)["git"].state == "warn"
    change(settings, "sources:", "sources:\n  - {name: clones, type: git, repositories: {a/b: ./b.git}}")
    assert found(settings)["git"].state == "fail"
    assert found(settings)["source clones"].fix == "Install git."


def test_an_executor_whose_package_is_not_there_fails(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "executor" not in found(settings)
    settings.write_text(settings.read_text() + "\nexecutor: {type: celery}\n", encoding="utf-8")
    assert found(settings)["executor"] == Finding("executor", "ok", "celery")
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    finding = found(settings)["executor"]
    assert (finding.state, finding.detail) == (
        "fail",
        "celery needs the package dagster-celery, which is not installed",
    )
