"""Stage verify: what is new is judged, every deployment is held against its policy, findings are kept with their state.

Works without any network. Source: supply-chain.md sections 1 to 3.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, time

import duckdb

from analytics import progress
from analytics.catalog import load_catalog
from analytics.engine import connect
from analytics.errors import LakeError
from analytics.lake.parts import TableParts
from analytics.lake.schemas import VERIFIED_TABLES
from analytics.lake.tables import create_views, lake_place, lake_relation, quarters_of, scratch, write_table
from analytics.lake.turns import taking_turns
from analytics.lake.version import note_begun, note_lake_version
from analytics.settings import FilesSource, GitHubSource, GitLabSource, Settings
from analytics.supply_chain.contents import judge_contents
from analytics.supply_chain.control_rows import control_findings, control_rows
from analytics.supply_chain.controls import process_outcomes
from analytics.supply_chain.deployments import Judged, Known, judge_deployments
from analytics.supply_chain.findings import Finding, with_states
from analytics.supply_chain.gathering import Place
from analytics.supply_chain.joining import Artifacts, Attestations, Deployed, read_deployments
from analytics.supply_chain.judging import Row, trusted_roots, unfetched_rows
from analytics.supply_chain.keeping import judge_new_bundles
from analytics.supply_chain.recorded import read_records, recorded_artifacts
from analytics.supply_chain.rules import PROCESS_CONTROLS, Policies, load_policies
from analytics.supply_chain.sbom_reading import SbomReader, Sboms, gather_sboms
from analytics.supply_chain.trusted_roots import TrustedRoot
from analytics.supply_chain.verification import VERIFIER
from analytics.supply_chain.waivers import load_waivers

STAGE = "verify"
_READ = (
    "attestations",
    "sboms",
    "artifacts",
    "deployment_records",
    "services",
    "repository_ids",
    "run_attempts",
    "commits",
    "deployment_attempts",
    "service_deployments",
    "change_lead",
    "pull_requests",
    "reviews",
    "approvals",
    "collection",
    "quarantine",
    "attestation_judgements",
    "sbom_documents",
    "sbom_components",
    "findings",
)
# The verification last: its rows say that the others are whole.
_WRITTEN_LAST = ("deployment_provenance", "provenance_checks", "deployment_controls", "findings", "verification")
_RUN_IN_URI = r"/actions/runs/(\d+)|/-/(?:jobs|pipelines)/(\d+)$"
_EVERY = 500


@dataclass
class VerifySummary:
    """What was judged now and what was known, verdicts of deployments, and findings by state and severity."""

    judged: int = 0
    known: int = 0
    sboms: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    tables: dict[str, int] = field(default_factory=dict)


@taking_turns(STAGE)
def verify(settings: Settings) -> VerifySummary:
    """Judge what is new, and every deployment anew; needs what `build` wrote.

    Raises LakeError where nothing was built, and SettingsError for policies, waivers, roots or folders that cannot be
    read. A document that cannot be read is a finding.
    """
    roots = trusted_roots(settings.supply_chain.trusted_roots)
    policies = load_policies(settings.supply_chain.policies)
    waivers = load_waivers(settings.supply_chain.waivers)
    catalog = load_catalog(list(settings.catalog) if isinstance(settings.catalog, list) else [settings.catalog])
    now = settings.now().astimezone(UTC).replace(tzinfo=None)
    summary = VerifySummary()
    if not quarters_of(settings, "snapshot"):
        raise LakeError("nothing has been built yet", where=lake_place(settings), fix="Run `quarterdeck build` first.")
    with connect(settings) as con, scratch(settings) as folder:
        create_views(con, settings, *_READ)
        con.execute(f"CREATE OR REPLACE TEMP TABLE calendar AS SELECT * FROM {lake_relation(settings, 'calendar')}")
        parts = TableParts(folder)
        reader = SbomReader(con, parts)
        kept = judge_new_bundles(con, settings, roots, parts, reader)
        summary.judged, summary.known = kept.judged, kept.known
        sboms, read_now = gather_sboms(con, settings, reader, parts)
        summary.sboms = len(sboms.documents)
        progress.report(STAGE, f"{read_now:,} SBOMs read, {summary.sboms - read_now:,} known")
        deployments = read_deployments(con)
        named = {service.name: service.artifacts for service in catalog.services}
        artifacts = Artifacts(con, named, recorded_artifacts(read_records(con), deployments, named))
        attestations = Attestations(
            [*_judgements(con, deployments, artifacts), *unfetched_rows(con)], _stated(kept.places)
        )
        known = _known(con, settings, sboms, policies, now)
        owners = {service.name: service.team for service in catalog.services}
        found: list[Finding] = []
        judged_all: list[Judged] = []
        for number, judged in enumerate(
            judge_deployments(deployments, artifacts, attestations, policies, known, owners)
        ):
            if number % _EVERY == 0:
                progress.report(STAGE, "deployments", number, len(deployments))
            judged_all.append(judged)
            parts.add("deployment_provenance", judged.provenance)
            for row in judged.checks:
                parts.add("provenance_checks", row)
            found += judged.findings
            summary.verdicts[judged.provenance["verdict"]] += 1
        found += judge_contents(settings, con, judged_all, sboms, owners, now)
        found += control_findings(judged_all, owners, now)
        local_now = settings.now().astimezone(settings.calendar.zone)
        placed = with_states(found, _earlier(con), waivers, local_now)
        for finding in placed:
            parts.add("findings", asdict(finding))
            summary.findings[finding.state, finding.severity] += 1
        for row in control_rows(judged_all, placed):
            parts.add("deployment_controls", row)
        for key, value in _made_under(settings, roots, policies.sha256, len(waivers)).items():
            parts.add("verification", {"key": key, "value": value})
        # What is known of documents is only added to; verdicts and findings of two runs would contradict each other.
        note_begun(settings, STAGE)
        for table in _WRITTEN_LAST:
            write_table(con, settings, table, parts.relation(table))
        note_lake_version(settings, STAGE)
        for table in VERIFIED_TABLES:
            ((summary.tables[table],),) = con.execute(
                f"SELECT count(*) FROM {lake_relation(settings, table)}"
            ).fetchall()
    progress.report(STAGE, f"{sum(summary.verdicts.values()):,} artifacts of deployments judged")
    return summary


def _made_under(
    settings: Settings, roots: Sequence[TrustedRoot], policy_sha256: str, waivers: int
) -> dict[str, str | None]:
    """What the verdicts of this run rest on; its rows also tell that the stage ran."""
    policies = settings.supply_chain.policies
    return {
        "cut_off": settings.now().isoformat().replace("+00:00", "Z"),
        "policy": policies.name if policies else None,
        "policy_sha256": policy_sha256,
        "waivers": str(waivers),
        "verifier": VERIFIER,
        **{f"trusted_root {number}": f"{root.name} sha256:{root.sha256}" for number, root in enumerate(roots, start=1)},
    }


def _stated(places: Sequence[Place]) -> dict[str, set[str]]:
    stated: dict[str, set[str]] = defaultdict(set)
    for place in places:
        if place.digest:
            stated[place.sha256].add(place.digest)
    return stated


def _judgements(con: duckdb.DuckDBPyConnection, deployments: Sequence[Deployed], artifacts: Artifacts) -> list[Row]:
    """The kept judgements that may speak of a deployment: most of what is attested was never deployed."""
    shipped = [one for deployed in deployments for one in artifacts.of(deployed)]
    digests = sorted({one.digest for one in shipped if one.digest is not None})
    commits = sorted({sha.casefold() for one in shipped if one.digest is None and (sha := one.deployed.source_sha)})
    found = con.execute(
        """
        WITH wanted AS (SELECT unnest($1::VARCHAR[]) AS digest), speaking AS (
            SELECT input_sha256 FROM (
                SELECT input_sha256, unnest(subject_digests) AS digest FROM attestation_judgements
            ) SEMI JOIN wanted USING (digest)
            UNION SELECT input_sha256 FROM present_bundles SEMI JOIN wanted ON wanted.digest = stated_digest
        )
        SELECT * EXCLUDE (certificate, exception) FROM attestation_judgements
        WHERE input_sha256 IN (SELECT input_sha256 FROM speaking)
           OR (proven AND lower(source_commit) IN (SELECT unnest($2::VARCHAR[])))
        ORDER BY input_sha256, place
        """,
        [digests, commits],
    )
    names = [column[0] for column in found.description]
    return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


# --- what is known beside ---------------------------------------------------------------------------------------------


def _known(
    con: duckdb.DuckDBPyConnection, settings: Settings, sboms: Sboms, policies: Policies, now: datetime
) -> Known:
    ids = con.execute("SELECT lower(repository), min(repository_id) FROM repository_ids GROUP BY 1").fetchall()
    with_runs = con.execute("SELECT DISTINCT lower(repository) FROM run_attempts").fetchall()
    runs = con.execute(
        "WITH named AS (SELECT DISTINCT coalesce(nullif(regexp_extract(run_invocation_uri, ?, 1), ''), "
        "regexp_extract(run_invocation_uri, ?, 2)) AS run_id FROM attestation_judgements) "
        "SELECT DISTINCT lower(repository), run_id FROM run_attempts JOIN named USING (run_id)",
        [_RUN_IN_URI, _RUN_IN_URI],
    ).fetchall()
    return Known(
        repository_ids=dict(ids),
        repositories_with_runs=frozenset(name for (name,) in with_runs),
        runs=frozenset((repository, run_id) for repository, run_id in runs),
        runs_since=_runs_since(settings),
        sboms=sboms.of_digest,
        unfit_sboms={
            digest: sboms.documents[sha256]
            for digest, sha256 in sboms.any_of_digest.items()
            if digest not in sboms.of_digest
        },
        now=now,
        has_policy=policies.path is not None,
        has_source=bool(
            settings.supply_chain.bundles
            or con.execute("SELECT 1 FROM collection WHERE entity = 'attestations' LIMIT 1").fetchall()
        ),
        process=process_outcomes(con, settings.bots) if policies.require(*PROCESS_CONTROLS) else {},
    )


def _runs_since(settings: Settings) -> datetime | None:
    """The day from which hosts are asked for runs; None where one is asked for all, or runs come in feeds."""
    hosts = [source for source in settings.sources if isinstance(source, GitHubSource | GitLabSource)]
    days = [host.since for host in hosts if host.since is not None]
    if not hosts or len(days) < len(hosts) or any(isinstance(source, FilesSource) for source in settings.sources):
        return None
    # They are asked in UTC.
    return datetime.combine(min(days), time.min)


def _earlier(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    found = con.execute("SELECT * FROM findings")
    names = [column[0] for column in found.description]
    return [Finding(**dict(zip(names, values, strict=True))) for values in found.fetchall()]
