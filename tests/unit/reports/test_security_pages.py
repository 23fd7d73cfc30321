"""Findings, waivers, coverage and rules as the security edition and the findings pages show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analytics.settings import Settings
from analytics.supply_chain.policy import NOT_ASKED
from reports.contents import Contents, read_contents
from reports.findings_data import findings_script
from reports.pack import PackResult, make_pack
from reports.pages import FINDINGS_PER_PAGE
from tests.unit.reports.conftest import HOSTILE_NAMES
from tests.unit.reports.published_world import QUARTER, publish, settings_of, small_world
from tests.unit.reports.test_pack import Elements, plain


@pytest.fixture(scope="module")
def contents(settings: Settings) -> Contents:
    return read_contents(settings, QUARTER)


@pytest.fixture(scope="module")
def security(pack: PackResult) -> str:
    return plain(pack.path / "security.html")


def script_of(path: Path) -> dict[str, list[object]]:
    text = path.read_text()
    loaded: dict[str, list[object]] = json.loads(text.removeprefix("window.quarterdeckFindings = ").removesuffix(";\n"))
    return loaded


def test_findings_stand_by_severity_and_what_came_after_the_quarter_waits(contents: Contents) -> None:
    ids = [one.id for one in contents.provenance.findings]
    assert ids == ["signature-1", "signer-1", "ref-1", "runner-1", "sbom-1"]


def test_a_findings_age_is_counted_to_the_quarters_end_so_that_it_stays_the_same(contents: Contents) -> None:
    ages = {one.id: one.age_days for one in contents.provenance.findings}
    assert (ages["signature-1"], ages["ref-1"]) == (30, 152)


def test_opened_and_closed_are_those_of_the_quarter(contents: Contents) -> None:
    assert (contents.provenance.opened, contents.provenance.closed) == (4, 1)


def test_a_waived_finding_stays_listed_and_counted(pack: PackResult, security: str) -> None:
    assert "open 1 1 1 0 0 3 waived 0 0 1 0 0 1 fixed 0 0 0 1 0 1" in security
    assert "waived until 30 Nov 2026" in plain(pack.path / "findings.html")


def test_waivers_name_owner_reason_and_end_and_an_ended_one_is_called_out(contents: Contents, security: str) -> None:
    ended, holding = contents.provenance.waivers
    assert (ended.owner, ended.reason, ended.expired) == ("Bob", "only for the summer", True)
    assert (holding.owner, holding.reason) == ("Ada", "moves with the new runners, until: then")
    assert (holding.place, holding.expiring) == ("waivers.yaml:3", True)
    assert "31 Aug 2026 ended: waives nothing" in security
    assert "30 Nov 2026 in 60 days" in security


def test_coverage_is_k_of_n_of_distinct_digests_without_an_interval(security: str) -> None:
    assert "Verified signature 1 of 2 (50.0 %)" in security
    assert "SBOM 0 of 2" in security
    assert "1 of 3 deployments could be tied to no digest" in security


def test_rules_are_counted_by_deployment(security: str) -> None:
    assert "signer 1 2 0 0 1 of 3" in security


def test_a_finding_shows_reason_remedy_owner_and_evidence(security: str) -> None:
    assert "It was signed by another workflow." in security
    assert "Let a workflow sign that the policy names." in security
    assert f"bundle: sha256:{'b' * 64}" in security


def test_controls_are_shown_one_by_one_with_what_was_not_evaluated(security: str) -> None:
    assert "separation of duties 1 1 0 1 1 of 2" in security


def test_a_restated_figure_is_told_once_from_its_first_value_of_the_quarter_to_its_last(pack: PackResult) -> None:
    text = plain(pack.path / "changes.html")
    assert "Change lead time human Acme organization 2026-Q2 29 h 30 min (n = 410) 30 h (n = 412) late facts" in text
    assert text.count("late facts") == 1


def test_all_seventeen_indicators_are_in_the_scorecard_whether_measured_or_not(pack: PackResult) -> None:
    text = plain(pack.path / "index.html")
    for title in ("Rollback readiness", "Stakeholder satisfaction", "Enablement throughput", "Runbook freshness"):
        assert f"{title} not measured: no source of this indicator is set up" in text


def test_decisions_ask_about_grave_findings_and_ended_waivers(pack: PackResult) -> None:
    text = plain(pack.path / "index.html")
    assert "2 critical or high findings are open; 1 for more than 30 days" in text
    assert "1 waiver ends before the next issue, the first on 30 Nov 2026; 1 waiver already has ended" in text


def test_without_anything_judged_the_pages_say_that_nothing_is_known(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    world = small_world()
    for table in ("findings", "deployment_provenance", "provenance_checks"):
        world.rows.pop(table)
    publish(settings, world)
    made = make_pack(settings, QUARTER)
    assert "Nothing is known, which is not the same as nothing being wrong" in plain(made.path / "security.html")
    assert "No finding is known" in plain(made.path / "findings.html")


def test_where_nobody_asked_for_attestations_the_pages_say_so_and_accuse_nobody(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    world = small_world()
    for table in ("findings", "provenance_checks", "deployment_controls"):
        world.rows.pop(table)
    for row in world.rows["deployment_provenance"]:
        row |= {"verdict": "NO_ATTESTATION", "reason": NOT_ASKED, "signed": False, "provenance": False}
    publish(settings, world)
    made = make_pack(settings, QUARTER)
    text = plain(made.path / "security.html")
    assert "No source of attestations is configured" in text
    assert "No policy is configured" in text
    assert "nothing is known of who built what was deployed" in text
    assert "2 distinct digests were deployed to production" in text
    for accusation in ("Verified signature", "why a deployment is not verified", "no attestation", "0 of 2"):
        assert accusation not in text
    assert "critical or high finding" not in plain(made.path / "index.html")


def test_ten_thousand_findings_come_in_pages_that_lead_from_one_to_the_next(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    world = small_world()
    for number in range(3 * FINDINGS_PER_PAGE - 5):
        world.finding(f"many-{number:04d}", severity="low")
    publish(settings, world)
    made = make_pack(settings, QUARTER)
    pages = [made.path / "findings.html", *sorted((made.path / "findings").iterdir())]
    assert len(pages) == 3
    shown = [e.get("id") for page in pages for e in Elements(page).all("tr") if e.get("id")]
    assert len(shown) == len(set(shown)) == 3 * FINDINGS_PER_PAGE
    assert "findings/2.html" in [e.get("href") for e in Elements(pages[0]).all("a")]
    assert "../findings.html" in [e.get("href") for e in Elements(pages[1]).all("a")]
    assert len(script_of(made.path / "findings-data.js")["rows"]) == 3 * FINDINGS_PER_PAGE


def test_the_script_of_findings_cannot_end_itself_and_holds_every_name_as_text(hostile_pack: Path) -> None:
    text = (hostile_pack / "findings-data.js").read_text()
    assert "<" not in text
    assert text.isascii()
    loaded = script_of(hostile_pack / "findings-data.js")
    assert {name for name in HOSTILE_NAMES if name.isprintable()} <= set(map(str, loaded["texts"]))


def test_a_text_that_repeats_stands_once_in_the_script(contents: Contents) -> None:
    script = findings_script(contents.provenance.findings, {})
    assert script.count("Let a workflow sign that the policy names.") == 1
