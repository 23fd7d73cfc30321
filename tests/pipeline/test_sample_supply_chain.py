"""All that the sample plants in what it shipped is found, with its verdict, on its deployment; and nothing else."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics.delivery.build import build
from analytics.errors import SettingsError
from analytics.lake.tables import create_views
from analytics.landing.pull import pull
from analytics.sample.policing import CONTROLLED
from analytics.sample.writing import SampleSummary, write_sample
from analytics.settings import Settings, load_settings
from analytics.supply_chain.verify import VerifySummary, verify

SINCE = date(2026, 7, 1)
# What each planted flaw makes of its deployment: its verdict (None: as without it), and the rules that it breaks.
FLAWS: Mapping[str, tuple[str | None, set[str]]] = {
    "forged_claims": ("FORGED_CLAIMS", {"claims", "source_repository", "signer", "run"}),
    "wrong_commit": ("COMMIT_MISMATCH", {"source_commit"}),
    "self_hosted_runner": ("UNTRUSTED_RUNNER", {"runner"}),
    "pull_request_target": ("UNTRUSTED_TRIGGER", {"trigger"}),
    "attested_after_deployed": ("ATTESTED_AFTER_DEPLOY", {"attested_before_deployed"}),
    "unknown_run": ("RUN_UNKNOWN", {"run"}),
    "unsupported_log_entry": ("UNSUPPORTED_LOG_ENTRY", {"readable"}),
    "unattested": ("NO_ATTESTATION", {"attestation"}),
    "private_attestations": ("VERIFIED_PRIVATE", set()),
    "sbom_missing": (None, {"sbom"}),
    "sbom_invalid": (None, {"sbom", "sbom_schema"}),
    "sbom_older": (None, {"sbom_age"}),
    "not_approved": (None, {"approval"}),
    "without_ticket": (None, {"change_ticket"}),
    "author_alone": (None, {"separation_of_duties"}),
}
OF_ARTIFACTS = {"self_hosted_runner", "pull_request_target", *FLAWS} - {
    "not_approved",
    "without_ticket",
    "author_alone",
}
ATTESTED = ("VERIFIED", "VERIFIED_PRIVATE")


@dataclass
class Verified:
    """A sample organisation of three quarters after its stage verify."""

    sample: SampleSummary
    settings: Settings
    summary: VerifySummary
    con: duckdb.DuckDBPyConnection

    def rows(self, table: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        return self.con.execute(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY ALL").fetchall()

    def flaws(self) -> dict[str, set[str]]:
        """Planted flaws by the deployment that has them."""
        found: dict[str, set[str]] = defaultdict(set)
        for flaw in FLAWS:
            for key in self.sample.planted[flaw]:
                found[key].add(flaw)
        return found


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verified]:
    folder = tmp_path_factory.mktemp("verified") / "sample"
    sample = write_sample(folder, quarters=3)
    settings = load_settings(folder / "quarterdeck.yaml")
    for outcome in pull(settings):
        assert outcome is not None
    build(settings)
    summary = verify(settings)
    with duckdb.connect() as con:
        create_views(con, settings, "findings", "deployment_provenance", "deployment_controls", "service_deployments")
        yield Verified(sample, settings, summary, con)


def attested_digests(folder: Path) -> set[str]:
    """The artifacts that the sample's bundles speak of, read without any of our readers."""
    bundles = [json.loads(line)["bundle"] for line in (folder / "feeds/attestations.jsonl").read_bytes().splitlines()]
    bundles += [json.loads(path.read_bytes()) for path in folder.glob("bundles/*/*.json")]
    return {
        f"sha256:{subject['digest']['sha256']}"
        for bundle in bundles
        for subject in json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))["subject"]
    }


@pytest.mark.parametrize("flaw", [*FLAWS, "waived_findings", "expired_waivers", "denied_licences"])
def test_something_of_each_kind_is_planted(verified: Verified, flaw: str) -> None:
    assert verified.sample.planted[flaw]


def test_every_deployment_has_the_verdict_of_its_flaw(verified: Verified) -> None:
    flaws, attested = verified.flaws(), attested_digests(verified.settings.settings_path.parent)
    wrong = []
    for key, digest, verdict in verified.rows("deployment_provenance", "deployment_key, digest, verdict"):
        planted = {FLAWS[flaw][0] for flaw in flaws[key]} - {None}
        expected = planted or {"VERIFIED" if digest in attested else "NO_ATTESTATION"}
        if {verdict} != expected:
            wrong.append((key, verdict, expected))
    assert wrong == []


def test_every_planted_flaw_is_a_finding_on_its_deployment_and_nothing_else_is_one(verified: Verified) -> None:
    expected = Counter(
        (key, rule) for key, flaws in verified.flaws().items() for flaw in flaws for rule in FLAWS[flaw][1]
    )
    # A deployment has a rule's finding once, whatever it was planted for.
    expected = Counter(set(expected))
    found = Counter(verified.rows("findings", "deployment_key, rule", "component IS NULL"))
    assert found == expected


def test_denied_licences_and_vulnerable_components_are_found_and_those_gone_are_fixed(verified: Verified) -> None:
    found = {
        (rule, service, component.split("@")[0].split("/")[-1], state)
        for rule, service, component, state in verified.rows(
            "findings", "rule, service, component, state", "component IS NOT NULL"
        )
    }
    assert found == {
        ("license_denied", "loyalty", "kraken-crawler", "open"),
        ("license_denied", "search", "bilge-charts", "fixed"),
        ("vulnerability", "pricing", "capstan-template", "open"),
        ("vulnerability", "cart", "tideline-parser", "fixed"),
    }
    planted = {*verified.sample.planted["denied_licences"], *verified.sample.planted["vulnerable_components"]}
    assert planted == {f"{service} {package}" for _, service, package, _ in found}


def test_a_waiver_holds_for_its_finding_and_one_that_ended_reopens_it(verified: Verified) -> None:
    waived = verified.rows("findings", "deployment_key, rule, owner, waived_until", "state = 'waived'")
    assert waived == [
        (key, "runner", "logistics", date(2026, 12, 31)) for key in verified.sample.planted["waived_findings"]
    ]
    reopened = verified.rows("findings", "deployment_key, rule, state", "waiver LIKE '%expired on 2026-08-31%'")
    assert reopened == [(key, "trigger", "open") for key in sorted(verified.sample.planted["expired_waivers"])]


def test_a_finding_traces_to_its_bundle_its_root_and_the_line_of_the_policy(verified: Verified) -> None:
    folder = verified.settings.settings_path.parent
    (key,) = set(verified.sample.planted["waived_findings"])
    ((bundle, root, verifier),) = verified.rows(
        "findings", "bundle_sha256, trusted_root_sha256, verifier", f"deployment_key = '{key}'"
    )
    # The digest of the file's JSON in its canonical form is the bundle's.
    names = {path.name for path in folder.glob("bundles/warehouse-sync/*.json")}
    assert f"{key}.sigstore.json" in names
    assert (len(bundle), len(root)) == (64, 64)
    assert "sigstore" in verifier
    lines = (folder / "policies.yaml").read_text().splitlines()
    policy_lines = {line for (line,) in verified.rows("findings", "policy_line", "rule = 'sbom'")}
    assert policy_lines
    assert all(lines[line - 1].strip().startswith("required: [signature") for line in policy_lines)


def test_each_required_control_of_each_deployment_has_its_outcome(verified: Verified) -> None:
    flaws = verified.flaws()
    waived = set(verified.sample.planted["waived_findings"])
    broken = {
        "attestation": {flaw for flaw, (verdict, _) in FLAWS.items() if verdict and verdict not in ATTESTED},
        "sbom": {"sbom_missing", "sbom_invalid"},
        "review": set(),
        "separation_of_duties": {"author_alone"},
        "approval": {"not_approved"},
        "change_ticket": {"without_ticket"},
        # What is authentic is signed, whatever else is wrong with it.
        "signature": {"unattested", "unsupported_log_entry", "forged_claims"},
    }
    expected = set()
    for service, key in verified.rows(
        "service_deployments", "service, deployment_key", f"outcome = 'success' AND day >= '{SINCE}'"
    ):
        controls = ["signature", "attestation", "sbom"]
        if service in CONTROLLED:
            controls += ["review", "separation_of_duties", "approval", "change_ticket"]
        for control in controls:
            outcome = "failed" if flaws[key] & broken[control] else "passed"
            outcome = "waived" if outcome == "failed" and key in waived else outcome
            expected.add((service, key, control, outcome))
    assert set(verified.rows("deployment_controls", "service, deployment_key, control, outcome")) == expected


def test_a_waived_control_is_not_met(verified: Verified) -> None:
    keys = ", ".join(f"'{key}'" for key in verified.sample.planted["waived_findings"])
    assert set(verified.rows("deployment_provenance", "complies", f"deployment_key IN ({keys})")) == {(False,)}


def test_nothing_was_asked_of_what_was_deployed_before_the_policy(verified: Verified) -> None:
    before = f"day < '{SINCE}'"
    assert verified.rows("deployment_controls", "*", before) == []
    assert set(verified.rows("deployment_provenance", "complies", before)) == {(None,)}
    assert verified.rows("findings", "*", f"first_seen < '{SINCE}' AND component IS NULL") == []


def test_most_deployments_of_the_last_quarter_are_verified(verified: Verified) -> None:
    ((share,),) = verified.rows(
        "deployment_provenance", "avg(CAST(verdict LIKE 'VERIFIED%' AS INT))", f"day >= '{SINCE}'"
    )
    assert share > 0.9
    kinds = {kind for (kind,) in verified.rows("deployment_provenance", "DISTINCT join_kind", f"day >= '{SINCE}'")}
    assert kinds == {"payload", "release"}


def test_a_second_run_verifies_nothing_again_and_finds_the_same(verified: Verified) -> None:
    before = verified.rows("findings", "* EXCLUDE (last_seen)")
    again = verify(verified.settings)
    assert (again.judged, again.known) == (0, verified.summary.judged + verified.summary.known)
    assert verified.rows("findings", "* EXCLUDE (last_seen)") == before


# A changed policy, a changed waiver


@dataclass
class Rejudged:
    """The lake of the verified sample under other policies and waivers."""

    folder: Path
    flaws: Mapping[str, set[str]]

    def write(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def verify(self) -> VerifySummary:
        return verify(load_settings(self.folder / "quarterdeck.yaml"))

    def rows(self, table: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        with duckdb.connect() as con:
            create_views(con, load_settings(self.folder / "quarterdeck.yaml"), table)
            return con.execute(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY ALL").fetchall()


@pytest.fixture
def rejudged(verified: Verified, tmp_path: Path) -> Rejudged:
    """A copy without the feeds: what was judged before is all that there is."""
    folder = verified.settings.settings_path.parent
    for name in ("bundles", "sboms", "roots", "osv", "quarterdeck-data"):
        shutil.copytree(folder / name, tmp_path / name, ignore=shutil.ignore_patterns("landing"))
    for name in ("quarterdeck.yaml", "catalog.yaml", "policies.yaml", "waivers.yaml"):
        shutil.copy(folder / name, tmp_path / name)
    return Rejudged(tmp_path, verified.flaws())


def test_a_changed_policy_judges_past_quarters_again_and_no_bundle(rejudged: Rejudged) -> None:
    before = dict(rejudged.rows("deployment_provenance", "deployment_key, policy_sha256", f"day < '{SINCE}'"))
    rejudged.write("policies.yaml", f"since: {SINCE}", "since: 2026-04-01")
    rejudged.write("policies.yaml", "required: []", "runner_environments: [github-hosted, self-hosted]\n  required: []")
    path = rejudged.folder / "policies.yaml"
    path.write_text(path.read_text() + "  - {services: ['*'], since: 2027-01-01, licenses: {deny: [MIT]}}\n")
    summary = rejudged.verify()
    assert (summary.judged, summary.known) == (0, len(rejudged.rows("attestation_judgements", "input_sha256")))
    past = rejudged.rows(
        "deployment_provenance",
        "deployment_key, policy_sha256, complies, verdict",
        f"day < '{SINCE}' AND day >= '2026-04-01'",
    )
    assert past
    assert all(sha256 != before[key] for key, sha256, _, _ in past)
    # An SBOM came with every attestation in that quarter, and only some services attested from its first day on.
    assert {(complies, verdict.startswith("VERIFIED")) for _, _, complies, verdict in past} >= {
        (True, True),
        (False, False),
    }
    assert ("runner", "fixed") in rejudged.rows("findings", "rule, state")
    assert not rejudged.rows("findings", "*", "rule = 'runner' AND state <> 'fixed'")
    assert ("MIT",) not in rejudged.rows("findings", "found", "rule = 'license_denied'"), "that begins next year"
    earlier = rejudged.rows("deployment_provenance", "DISTINCT complies", "day < '2026-04-01'")
    assert earlier == [(None,)]


def test_a_waiver_that_ended_reopens_and_what_a_new_one_waives_stays_counted(rejudged: Rejudged) -> None:
    (key,) = {key for key, flaws in rejudged.flaws.items() if "self_hosted_runner" in flaws and key.startswith("v")}
    control = f"deployment_key = '{key}' AND control = 'attestation'"
    assert rejudged.rows("deployment_controls", "outcome", control) == [("waived",)]
    unapproved = [key for key, flaws in rejudged.flaws.items() if "not_approved" in flaws]
    total = len(rejudged.rows("findings", "id"))
    rejudged.write("waivers.yaml", "until: 2026-12-31", "until: 2026-10-04")
    path = rejudged.folder / "waivers.yaml"
    waiver = "  - {rule: approval, service: '*', owner: desk, reason: The tool was down., until: 2026-12-31}\n"
    path.write_text(path.read_text() + waiver)
    summary = rejudged.verify()
    # What ended is open again, and its control is failed again.
    ((state, words, until),) = rejudged.rows(
        "findings", "state, waiver, waived_until", f"deployment_key = '{key}' AND rule = 'runner'"
    )
    assert (summary.judged, state, until) == (0, "open", None)
    assert "expired on 2026-10-04" in words
    assert rejudged.rows("deployment_controls", "outcome", control) == [("failed",)]
    # What is waived is still a finding, and a control that is not met.
    assert sum(summary.findings.values()) == total
    assert summary.findings["waived", "medium"] == len(unapproved)
    outcomes = Counter(row[0] for row in rejudged.rows("deployment_controls", "outcome", "control = 'approval'"))
    assert (outcomes["waived"], outcomes["failed"]) == (len(unapproved), 0)
    keys = ", ".join(f"'{key}'" for key in unapproved)
    assert rejudged.rows("deployment_provenance", "DISTINCT complies", f"deployment_key IN ({keys})") == [(False,)]


@pytest.mark.parametrize(
    ("file", "old", "new", "where", "hint"),
    [
        ("policies.yaml", "required: []", "requierd: []", "policies.yaml:", "Did you mean 'required'?"),
        ("policies.yaml", "    since:", "    sinse:", "policies.yaml:", "Did you mean 'since'?"),
        ("waivers.yaml", "    reason: The build", "    reeson: The build", "waivers.yaml:", "Did you mean 'reason'?"),
        ("waivers.yaml", "    until: 2026-12-31", "    untill: 2026-12-31", "waivers.yaml:", "Did you mean 'until'?"),
    ],
)
def test_a_key_that_nobody_knows_is_an_error_with_file_line_and_the_nearest(
    rejudged: Rejudged, file: str, old: str, new: str, where: str, hint: str
) -> None:
    line = next(n for n, text in enumerate((rejudged.folder / file).read_text().splitlines(), 1) if old in text)
    path = rejudged.folder / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SettingsError) as caught:
        rejudged.verify()
    assert f"{where}{line}: " in str(caught.value)
    assert f"'{new.strip().split(':')[0]}'" in str(caught.value)
    assert hint in str(caught.value)
