"""Workflows and our own SBOM: what a release carries, held without a forge."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from quarterdeck.cli import main

REPOSITORY = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def steps(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [step for job in document["jobs"].values() for step in job["steps"]]


def test_there_are_workflows_for_changes_audits_and_releases() -> None:
    assert [path.stem for path in WORKFLOWS] == ["audit", "ci", "release"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_a_whole_commit_with_their_version_beside(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_more_rights_than_it_needs(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["permissions"] in ({"contents": "read"}, {})
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert set(job.get("permissions", {})) <= {"contents", "id-token", "attestations"}
    for step in steps(path):
        # What somebody may name a branch is not run by a shell.
        assert not re.search(r"\$\{\{\s*github\.(head_ref|event)", step.get("run", ""))
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
    assert "pull_request_target" not in path.read_text(encoding="utf-8")


def test_a_release_has_provenance_and_an_sbom_of_what_it_carries() -> None:
    names = [step.get("uses", "").split("@")[0] for step in steps(REPOSITORY / ".github" / "workflows" / "release.yml")]
    built = names.index("actions/attest-build-provenance")
    assert names.index("actions/attest-sbom") > built
    assert names.index("actions/upload-artifact") > built


def own_sbom(lock: str) -> str:
    spec = importlib.util.spec_from_file_location("own_sbom", REPOSITORY / "deploy" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.own_sbom(lock, "0.2.0"))


def test_our_own_sbom_is_valid_complete_and_the_same_twice(tmp_path: Path) -> None:
    lock = (REPOSITORY / "requirements" / "run.txt").read_text(encoding="utf-8")
    text = own_sbom(lock)
    assert own_sbom(lock) == text
    document = json.loads(text)
    names = {component["name"] for component in document["components"]}
    declared = re.findall(r'^    "([A-Za-z0-9_.-]+)', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert {"dagster", "duckdb", "polars", "sigstore"} <= names & {name.lower() for name in declared}
    # All but what is for other systems and Pythons.
    assert len(names) > 0.8 * len(re.findall(r"^\S+==", lock, re.M))
    graph = {entry["ref"]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    dagster = next(ref for ref in graph if ref.startswith("pkg:pypi/dagster@"))
    assert any(ref.startswith("pkg:pypi/sqlalchemy@") for ref in graph[dagster])

    path = tmp_path / "quarterdeck.cdx.json"
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(main, ["inspect", str(path), "--require", "SCHEMA_VALID", "--format", "json"])
    assert done.exit_code == 0, done.output
    [judged] = json.loads(done.stdout)
    assert (judged["format"], judged["spec_version"]) == ("CycloneDX json", "1.6")
    assert judged["components"] == len(names)


def test_a_lock_of_which_nothing_is_installed_makes_no_sbom() -> None:
    with pytest.raises(ValueError, match="install it first"):
        own_sbom("no-such-package-at-all==1.0 \\\n")
