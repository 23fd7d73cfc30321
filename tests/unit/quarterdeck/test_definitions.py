from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from analytics.errors import SettingsError
from analytics.metrics.registry import METRICS
from analytics.settings import load_settings
from quarterdeck.definitions import build_definitions, environment_settings
from sensors.instance import SETTINGS_VARIABLE

REPOSITORY = Path(__file__).resolve().parents[3]
SETTINGS = "{organization: Acme, time_zone: Asia/Tokyo, sources: [{name: my-drops, type: files, path: ./feeds}]}"


@pytest.fixture
def settings_path(tmp_path: Path) -> Path:
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(SETTINGS, encoding="utf-8")
    return path


def test_the_location_loads_and_is_not_empty(settings_path: Path) -> None:
    definitions = build_definitions(load_settings(settings_path))
    dg.Definitions.validate_loadable(definitions)
    groups = {spec.group_name for spec in definitions.resolve_all_asset_specs()}
    assert groups == {"pull", "build", "verify", "measure", "pack"}
    assert len(definitions.resolve_all_asset_specs()) > len(METRICS)


def test_every_asset_has_a_group_kinds_owners_tags_columns_and_a_first_sentence(settings_path: Path) -> None:
    for spec in build_definitions(load_settings(settings_path)).resolve_all_asset_specs():
        assert spec.kinds, spec.key
        assert spec.owners, spec.key
        assert spec.tags["stage"] == spec.group_name, spec.key
        first = (spec.description or "").split("\n")[0]
        assert first.endswith("."), spec.key
        assert not first.startswith("#"), spec.key
        schema = spec.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema), spec.key
        assert schema.columns, spec.key
        assert all(column.type for column in schema.columns), spec.key


def test_the_quarter_job_runs_every_asset_and_every_check(settings_path: Path) -> None:
    definitions = build_definitions(load_settings(settings_path))
    job = definitions.resolve_job_def("quarter")
    assert job.asset_layer.executable_asset_keys == {s.key for s in definitions.resolve_all_asset_specs()}
    names = {key.name for key in job.asset_layer.asset_graph.asset_check_keys}
    assert names >= {"source_read", "quarantine_share", "resolved_share", "negative_lead_times", "values_sound"}
    assert names >= {"no_open_critical", "no_open_high", "covered"}


def test_quarters_are_cut_in_the_settings_zone(settings_path: Path) -> None:
    job = build_definitions(load_settings(settings_path)).resolve_job_def("quarter")
    assert isinstance(job.partitions_def, dg.TimeWindowPartitionsDefinition)
    assert job.partitions_def.timezone == "Asia/Tokyo"


def test_the_environment_names_the_settings(settings_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings_path))
    assert environment_settings().organization == "Acme"


def test_without_settings_the_location_still_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    definitions = build_definitions()
    dg.Definitions.validate_loadable(definitions)
    assert definitions.resolve_all_asset_specs()
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_an_error_and_no_empty_location(
    settings_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_path.write_text("{organisation: Acme}")
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings_path))
    with pytest.raises(SettingsError, match="organization"):
        build_definitions()


@pytest.mark.slow
def test_dagster_validates_the_workspace_of_a_fresh_clone() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in (SETTINGS_VARIABLE, "DAGSTER_HOME")}
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location quarterdeck" in done.stdout + done.stderr
