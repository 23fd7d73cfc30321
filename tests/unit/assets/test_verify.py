from __future__ import annotations

from collections import Counter
from typing import Any

import dagster as dg
import pytest

from analytics.lake.schemas import VERIFIED_TABLES
from analytics.settings import Settings
from analytics.supply_chain.quality import Covered, SeverityCount
from analytics.supply_chain.verify import VerifySummary
from assets.build import build_assets, lake_key
from assets.measure import PUBLISHED, measure_assets
from assets.partitions import quarter_partitions
from assets.resources import Workspace
from assets.verify import FINDINGS, PROVENANCE, verify_assets, verify_checks
from quarterdeck.definitions import build_definitions

SUMMARY = VerifySummary(
    judged=3,
    known=7,
    verdicts=Counter({"VERIFIED": 5, "NO_ATTESTATION": 2}),
    findings=Counter({("open", "critical"): 1, ("waived", "high"): 2}),
    tables={"findings": 3},
)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the lake is said to hold; a test changes it."""
    held: dict[str, Any] = {
        "findings": [
            SeverityCount("critical", 2, 0, 0, (("claims", 1),)),
            SeverityCount("high", 3, 1, 4),
            *(SeverityCount(severity) for severity in ("medium", "low", "info")),
        ],
        "covered": Covered(4, 1.0, 0.75, 0.5, 0.5),
    }
    monkeypatch.setattr("analytics.supply_chain.verify.verify", lambda settings: SUMMARY)
    monkeypatch.setattr("analytics.supply_chain.quality.findings_by_severity", lambda settings: held["findings"])
    monkeypatch.setattr("analytics.supply_chain.quality.covered", lambda settings: held["covered"])
    return held


def run(settings: Settings, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions(
        assets=verify_assets(settings),
        asset_checks=verify_checks(),
        jobs=[dg.define_asset_job("verify_now", selection=dg.AssetSelection.groups("verify"))],
        resources={"workspace": Workspace(settings_path=str(settings.settings_path))},
    )
    return definitions.resolve_job_def("verify_now").execute_in_process(instance=instance)


def test_there_is_one_asset_per_table_and_build_claims_none_of_them(settings: Settings) -> None:
    [verify] = verify_assets(settings)
    [build] = build_assets(settings)
    assert set(verify.keys) == {lake_key(name) for name in VERIFIED_TABLES}
    assert not set(verify.keys) & set(build.keys)


def test_verify_comes_after_build_and_before_what_is_published(settings: Settings) -> None:
    [verify] = verify_assets(settings)
    [build] = build_assets(settings)
    [measure] = measure_assets(settings, quarter_partitions(settings))
    read = {key for keys in verify.asset_deps.values() for key in keys} - set(verify.keys)
    assert read
    assert read <= set(build.keys)
    assert set(verify.keys) <= set(measure.asset_deps[PUBLISHED])
    steps = build_definitions(settings).resolve_job_def("quarter").graph.nodes_in_topological_order
    order = [node.name for node in steps if node.name in ("build", "verify", "measure")]
    assert order == ["build", "verify", "measure"]


def test_the_numbers_of_a_run_stand_beside_its_tables(
    settings: Settings, instance: dg.DagsterInstance, counts: dict[str, Any]
) -> None:
    result = run(settings, instance)
    shown = {
        event.asset_key: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }
    assert shown[lake_key("attestation_judgements")]["known"] == 7
    assert shown[FINDINGS]["open, critical"] == 1.0
    assert shown[FINDINGS]["open, high"] == 0.0
    assert shown[FINDINGS]["dagster/row_count"] == 3
    assert "NO\\_ATTESTATION" in shown[PROVENANCE]["verdicts"]


def test_checks_count_findings_by_severity_and_stop_nothing(
    settings: Settings, instance: dg.DagsterInstance, counts: dict[str, Any]
) -> None:
    result = run(settings, instance)
    assert result.success
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert {name for name, check in checks.items() if not check.passed} == {"no_open_critical", "covered"}
    assert checks["no_open_critical"].severity is dg.AssetCheckSeverity.ERROR
    assert {check.severity for name, check in checks.items() if name != "no_open_critical"} == {
        dg.AssetCheckSeverity.WARN
    }
    high = {name: value.value for name, value in checks["no_open_high"].metadata.items()}
    assert [high[name] for name in ("open and live", "open", "waived", "fixed")] == [0.0, 3.0, 1.0, 4.0]
    assert checks["covered"].metadata["provenance share"].value == 0.75


def test_without_a_policy_nothing_is_missing(
    settings: Settings, instance: dg.DagsterInstance, counts: dict[str, Any]
) -> None:
    counts["covered"] = Covered(0, None, None, None, None)
    checks = {check.check_name: check for check in run(settings, instance).get_asset_check_evaluations()}
    assert checks["covered"].passed
    assert checks["covered"].description == "0 artifacts; no policy says what they need."
