"""Every table of the lake: its columns, their DuckDB types and the column that dates a row.

Times are naive UTC, `day` columns are local dates in the settings' zone, `_us` columns are BIGINT microseconds
(sums of doubles differ between plans). Meaning of each column: docs/architecture.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from analytics.sources.entities import ENTITIES


@dataclass(frozen=True)
class Table:
    """A lake table: `dated_by` names the DATE or TIMESTAMP column whose quarter is the partition.

    `quarter_in` is the column that names it, where rows tell of a quarter rather than of a day.
    """

    name: str
    columns: dict[str, str]
    dated_by: str | None
    description: str
    published: bool = True
    sorted_by: tuple[str, ...] = ()
    quarter_in: str | None = None


def _columns(text: str) -> dict[str, str]:
    """Read ``name TYPE, name TYPE`` where a bare name is text."""
    columns = {}
    for part in text.replace("\n", " ").split(","):
        name, _, kind = part.strip().partition(" ")
        columns[name] = kind.strip() or "VARCHAR"
    return columns


_ORIGIN = {"source": "VARCHAR", "origin": "VARCHAR", "line": "BIGINT"}

# Documents are known by their hash; it is made once, when they are read anyway: (document, its hash's column).
HASHED_DOCUMENTS = {"attestations": ("bundle", "bundle_sha256"), "sboms": ("document", "document_sha256")}


def _hash_column(entity: str) -> dict[str, str]:
    return {HASHED_DOCUMENTS[entity][1]: "VARCHAR"} if entity in HASHED_DOCUMENTS else {}


TYPED_TABLES = {
    entity.name: Table(
        entity.name,
        {**entity.columns, **_hash_column(entity.name), **_ORIGIN},
        entity.occurred_at,
        f"Landed {entity.name.replace('_', ' ')}, typed; one row per key, the newest record wins.",
        # The facts hold what readers ask of these; the rest stays in the lake.
        published=entity.name
        not in ("pipeline_runs", "pipeline_jobs", "commits", "attestations", "sboms", "file_revisions"),
        # Not sorted: they are read whole, and sorting ten million runs took a quarter of the time of writing them.
    )
    for entity in ENTITIES.values()
}

FACT_TABLES = {
    table.name: table
    for table in (
        Table(
            "services",
            _columns(
                "service, team, tier BIGINT, repository, since DATE, entity, link_window_hours DOUBLE, "
                "failed_attempt_is_failure BOOLEAN, lifecycle, critical BOOLEAN, rollback_automation"
            ),
            None,
            "The catalog's services.",
        ),
        Table(
            "scope_members",
            _columns("scope, name, subject_kind, subject"),
            None,
            "Which services and repositories belong to which service, team and organisation.",
        ),
        Table(
            "deployment_attempts",
            _columns(
                "service, deployment_key, source_deployment_id, run_id, attempt BIGINT, region, repository, "
                "environment, sha, digest, ref, outcome, created_at TIMESTAMP, started_at TIMESTAMP, "
                "finished_at TIMESTAMP, carried_over BOOLEAN, creator, day DATE, origin, line BIGINT"
            ),
            "day",
            "Attempts to deploy a service to production, one row each.",
            sorted_by=("service",),
        ),
        Table(
            "service_deployments",
            _columns(
                "service, deployment_key, repository, environment, sha, digest, ref, outcome, created_at TIMESTAMP, "
                "started_at TIMESTAMP, finished_at TIMESTAMP, finish_unknown BOOLEAN, attempts BIGINT, "
                "failed_attempts BIGINT, day DATE, sequence BIGINT, kind, resolved BOOLEAN, identity, "
                "previous_deployment_key, rollback_target_key, new_commits BIGINT, rework, rework_evidence, "
                "counts_as_failed_attempt BOOLEAN, failed BOOLEAN, failure_method, failure_evidence, blamed_key, "
                "recovery_us BIGINT, recovery_open BOOLEAN, recovered_at TIMESTAMP, recovery_excluded, "
                "revisions BIGINT, warning"
            ),
            "day",
            "Production deployments with their kind, failure, recovery and rework.",
            sorted_by=("service",),
        ),
        Table(
            "change_lead",
            _columns(
                "service, deployment_key, repository, sha, author, is_bot BOOLEAN, authored_at TIMESTAMP, "
                "finished_at TIMESTAMP, day DATE, lead_us BIGINT, excluded, pull_request BIGINT, original_of, "
                "coding_us BIGINT, pickup_us BIGINT, review_us BIGINT, merge_us BIGINT, deploy_us BIGINT, "
                "first_commit_us BIGINT, path_unknown BOOLEAN"
            ),
            "day",
            "Commits owned by a production deployment, with their lead time and its stages.",
            sorted_by=("service",),
        ),
        Table(
            "failure_links",
            _columns(
                "service, deployment_key, method, confidence, evidence, incident_key, by_deployment_key, "
                "evidence_at TIMESTAMP, day DATE, counted BOOLEAN"
            ),
            "day",
            "Evidence that a deployment failed: which rule, which incident or remediation.",
        ),
        Table(
            "service_incidents",
            _columns(
                "service, incident_key, incident_ids VARCHAR[], title, severity, labels VARCHAR[], "
                "opened_at TIMESTAMP, impact_started_at TIMESTAMP, ended_at TIMESTAMP, restored_at TIMESTAMP, "
                "restore_us BIGINT, day DATE, "
                "opened_day DATE, linked BOOLEAN, unlinked_reason, deployment_key, url"
            ),
            "opened_day",
            "Incidents of a service after merging duplicates, with their end and link.",
        ),
        Table(
            "run_attempts",
            _columns(
                "repository, run_id, attempt BIGINT, workflow, event, head_sha, head_branch, outcome, counted BOOLEAN, "
                "succeeded BOOLEAN, is_first BOOLEAN, is_final BOOLEAN, run_succeeded BOOLEAN, flaky BOOLEAN, "
                "created_at TIMESTAMP, day DATE, duration_us BIGINT, lost_us BIGINT"
            ),
            "day",
            "Pipeline run attempts with outcome, duration and flakiness.",
            sorted_by=("repository",),
        ),
        Table(
            "job_times",
            _columns(
                "repository, run_id, attempt BIGINT, job_id, name, runner, runner_label, outcome, "
                "created_at TIMESTAMP, started_at TIMESTAMP, completed_at TIMESTAMP, "
                "day DATE, queue_us BIGINT, busy_us BIGINT, "
                "carried_over BOOLEAN"
            ),
            "day",
            "Jobs of run attempts with queue and busy time.",
            sorted_by=("repository",),
        ),
        Table(
            "runner_windows",
            _columns("runner, quarter, repository, day DATE, jobs BIGINT, busy_us BIGINT, window_us BIGINT"),
            "day",
            "Busy time of a runner per repository and quarter beside the window in which the runner was seen.",
        ),
        Table(
            "quarters",
            _columns("quarter, first_day DATE, last_day DATE, drills_from DATE, runbooks_from DATE"),
            None,
            "Quarters up to the cut-off, and since when a drill or a change of a runbook counts at the end of each.",
        ),
        Table(
            "rollback_drills",
            _columns("service, performed_at TIMESTAMP, day DATE, kind, outcome, set_aside"),
            "day",
            "Rollback drills of a service; `set_aside` says why one does not count.",
        ),
        Table(
            "service_runbooks",
            _columns("service, purpose, repository, path, state, watched BOOLEAN"),
            None,
            "Runbooks that the catalog names, whether the file was found, and whether its changes are known at all.",
        ),
        Table(
            "runbook_changes",
            _columns("service, purpose, path, sha, changed_at TIMESTAMP, day DATE"),
            "day",
            "Commits that changed a runbook.",
        ),
        Table(
            "deployment_checks",
            _columns(
                "service, deployment_key, deployment_id, origin_kind, name, kind, conclusion, completed_at TIMESTAMP, "
                "day DATE, set_aside"
            ),
            "day",
            "Checks and jobs that looked at a production deployment; `set_aside` says why one does not verify it.",
            sorted_by=("service",),
        ),
        Table(
            "budget_impacts",
            _columns(
                "service, deployment_key, slo, day DATE, began_at TIMESTAMP, ended_at TIMESTAMP, base_at TIMESTAMP, "
                "before_at TIMESTAMP, after_at TIMESTAMP, remaining_base DOUBLE, remaining_before DOUBLE, "
                "remaining_after DOUBLE, impact_trillionths BIGINT, excluded"
            ),
            "day",
            "Error budget burnt in the window after a deployment less the one before, by objective.",
            sorted_by=("service",),
        ),
        Table(
            "gate_outcomes",
            _columns("repository, run_id, gate, outcome, resolution, judged_at TIMESTAMP, day DATE, known BOOLEAN"),
            "day",
            "What security gates said of runs, and what came of it.",
        ),
        Table(
            "manual_interventions",
            _columns(
                "service, deployment_key, kind, repository, run_id, attempt BIGINT, detail, happened_at TIMESTAMP, "
                "day DATE, excluded"
            ),
            "day",
            "Re-runs of deployments, overridden gates and hotfixes.",
        ),
        Table(
            "drift_incidents",
            _columns("service, incident_key, title, severity, label, opened_at TIMESTAMP, day DATE, url"),
            "day",
            "Incidents that a label calls configuration drift; `service` is empty where nobody knows whose it is.",
        ),
        Table(
            "survey_answers",
            _columns(
                "team, stated_team, question, respondent, score DOUBLE, max_score DOUBLE, share_trillionths BIGINT, "
                "answered_at TIMESTAMP, day DATE, excluded, origin, line BIGINT"
            ),
            "day",
            "Answers of surveys by team; `team` is empty where the catalog knows none of that name.",
        ),
        Table(
            "template_adoption",
            _columns("service, repository, run_id, workflow, template, first_at TIMESTAMP, day DATE"),
            None,
            "The first run of each service that called a standard pipeline template.",
        ),
        Table(
            "unmapped",
            _columns("kind, name, detail, rows BIGINT, first_at TIMESTAMP, last_at TIMESTAMP"),
            None,
            "What arrived but nobody declared: environments, repositories, services.",
        ),
        Table(
            "collection",
            _columns(
                "source, entity, first_at TIMESTAMP, last_at TIMESTAMP, items BIGINT, "
                "quarantined BIGINT, complete BOOLEAN"
            ),
            None,
            "What each source offered, how much was landed and how much was refused.",
        ),
        Table(
            "completeness",
            _columns("source, entity, quarter, landed BIGINT, expected BIGINT"),
            None,
            "How many records of each quarter landed, of those that the source says it has.",
        ),
        Table(
            "quarantine",
            _columns("source, entity, origin, line BIGINT, reason, json_path, detail, sha256, excerpt"),
            None,
            "Records that were refused, with file, line and reason.",
        ),
        Table(
            "calendar",
            _columns("day DATE, quarter, month, iso_week"),
            None,
            "Local days of the settings' zone and the periods that hold them.",
        ),
        Table(
            "snapshot",
            _columns("key, value"),
            None,
            "What the facts were built from: cut-off, zone, organisation, versions.",
        ),
        Table(
            "repository_ids",
            _columns("source, repository_id, repository"),
            None,
            "The ids by which hosts know repositories, whatever their names were.",
        ),
        Table(
            "attestation_judgements",
            _columns(
                "input_sha256, roots_sha256, bundle_sha256, place, kind, verdict, reason, proven BOOLEAN, "
                "trusted_root, trusted_root_sha256, verifier, verified_at TIMESTAMP, verified_at_source, "
                "log_index BIGINT, issuer, "
                "signer_uri, build_config_uri, source_repository_uri, source_repository_id, source_owner_id, "
                "source_commit, source_ref, build_trigger, runner_environment, run_invocation_uri, certificate, "
                "statement_type, predicate_type, subject_digests VARCHAR[], claims, exception, sbom_sha256"
            ),
            None,
            "What cryptography says of each bundle under the trusted roots: judged once, whatever the policy.",
        ),
        Table(
            "attestation_places",
            _columns("input_sha256, stated_digest, origin"),
            None,
            "Where each bundle was found: a feed's line, a source's answer, a file.",
        ),
        Table(
            "sbom_documents",
            _columns(
                "sbom_sha256, verdict, reason, format, spec_version, made_at TIMESTAMP, component_count BIGINT, "
                "subject_path, subject_digests VARCHAR[], tools VARCHAR[], origin_kind, elements, errors, reader"
            ),
            None,
            "What each SBOM is by its schema, and how complete by the lists of NTIA, CISA and BSI.",
        ),
        Table(
            "sbom_places",
            _columns("sbom_sha256, digest, origin"),
            None,
            "Where each SBOM was found, and for which artifact it was handed in.",
        ),
        Table(
            "sbom_components",
            _columns("sbom_sha256, path, name, version, purl, supplier, licences, hashes, vex"),
            None,
            "Components of each SBOM with their licences, and what its author says of their vulnerabilities.",
            sorted_by=("sbom_sha256",),
        ),
        Table(
            "deployment_provenance",
            _columns(
                "service, deployment_key, deployment_id, repository, sha, digest, join_kind, artifact, verdict, "
                "reason, bundle_sha256, verified_at TIMESTAMP, slsa_level BIGINT, signed BOOLEAN, provenance BOOLEAN, "
                "sbom BOOLEAN, sbom_sha256, complies BOOLEAN, missing_controls VARCHAR[], policy_sha256, "
                "finished_at TIMESTAMP, day DATE"
            ),
            "day",
            "Successful production deployments by artifact: how it was found, its verdict and what covers it.",
            sorted_by=("service",),
        ),
        Table(
            "provenance_checks",
            _columns(
                "service, deployment_key, digest, bundle_sha256, name, outcome, severity, verdict, expected, found, "
                "policy_line BIGINT, note, day DATE"
            ),
            "day",
            "Every check that was asked of an attestation of a deployment, with its evidence.",
            sorted_by=("service",),
        ),
        Table(
            "deployment_controls",
            _columns("service, deployment_key, control, outcome, note, finished_at TIMESTAMP, day DATE"),
            "day",
            "Required controls of successful production deployments: passed, failed, waived or not evaluated.",
            sorted_by=("service",),
        ),
        Table(
            "findings",
            _columns(
                "id, rule, verdict, severity, state, service, deployment_id, deployment_key, repository, digest, "
                "join_kind, bundle_sha256, sbom_sha256, component, reason, expected, found, remediation, owner, "
                "first_seen TIMESTAMP, last_seen TIMESTAMP, waiver, waived_until DATE, policy, policy_line BIGINT, "
                "policy_sha256, trusted_root, trusted_root_sha256, verifier, verified_at TIMESTAMP, "
                "verified_at_source, is_live BOOLEAN"
            ),
            None,
            "Supply-chain findings with their state and evidence.",
        ),
        Table(
            "verification",
            _columns("key, value"),
            None,
            "What the verdicts were made under: cut-off, trusted roots, policy, waivers, verifier.",
        ),
        Table(
            "build_inputs",
            _columns("kind, name, quarter, fingerprint"),
            None,
            "What the facts were built from, in fingerprints.",
            published=False,
        ),
        Table(
            "build_note",
            _columns("kind, name, value"),
            None,
            "How far the last completed build read, and under what: the next one reads on from there.",
            published=False,
        ),
        Table(
            "attempt_inputs",
            _columns("service, deployment_key, fingerprint"),
            None,
            "Runs, tags and releases behind deployments of a service, in fingerprints.",
            published=False,
        ),
        Table(
            "commit_reach",
            _columns("service, sha, sequence BIGINT, owner_sequence BIGINT, counted BOOLEAN"),
            None,
            "Commits that a service has not shipped, or shipped by one of its last deployments.",
            published=False,
            sorted_by=("service",),
        ),
        Table(
            "commit_references",
            _columns("repository, sha, kind, named"),
            None,
            "What commits name: reverts, picks, parents that are not known.",
            published=False,
            sorted_by=("repository",),
        ),
        Table(
            "incident_inputs",
            _columns("service, incident_key, fingerprint"),
            None,
            "Incidents as each service was told of them, in fingerprints.",
            published=False,
        ),
        Table(
            "measure_inputs",
            _columns("kind, name, quarter, fingerprint"),
            None,
            "What the values of the lake were measured from, in fingerprints.",
            published=False,
        ),
        Table(
            "measured_from",
            _columns("kind, name, quarter, fingerprint"),
            None,
            "What each value of the lake was made from, so that the next measuring makes only what may differ.",
            published=False,
        ),
        Table(
            "restatements",
            _columns(
                "metric, scope, name, quarter, series, definition, old_value DOUBLE, new_value DOUBLE, old_n BIGINT, "
                "new_n BIGINT, cause, recorded_at TIMESTAMP"
            ),
            None,
            "Published values of closed quarters that have changed, each change once, with its cause.",
        ),
        Table(
            "metric_definitions",
            _columns(
                "metric, title, unit, direction, statistic, minimum_n BIGINT, definition, version BIGINT, sources, "
                "series, indicator BIGINT"
            ),
            None,
            "What every metric means, with the version of its definition.",
        ),
        Table(
            "metric_values",
            _columns(
                "metric, scope, name, quarter, series, value DOUBLE, unit, n BIGINT, numerator DOUBLE, "
                "denominator DOUBLE, low DOUBLE, high DOUBLE, open BIGINT, reason, reading, p_value DOUBLE, "
                "direction BIGINT, definition, covered_from DATE, covered_to DATE, excluded, missing, blended BOOLEAN"
            ),
            None,
            "Every metric by scope, name, quarter and series; a NULL value has its reason, a missing source its name.",
            quarter_in="quarter",
        ),
    )
}

TABLES = {**TYPED_TABLES, **FACT_TABLES}

# What each column of metric_values holds, for those who read it in a pack's annex or in Dagster.
VALUE_MEANINGS = {
    "metric": "Name of the metric; its definition stands in definitions.csv.",
    "scope": "service, team or organization.",
    "name": "Name of the service, the team or the organisation.",
    "quarter": "The quarter that the value describes.",
    "series": "human (without bots) or all, for lead times; empty elsewhere.",
    "value": "The value, unrounded; empty when undefined, and then reason says why.",
    "unit": "hours, minutes, ratio (0 to 1), per_day, count.",
    "n": "Observations behind the value; a ratio's denominator, a frequency's deployments.",
    "numerator": "What is counted on top, for ratios and frequencies.",
    "denominator": "What it is divided by: the whole of a ratio, the days of a frequency.",
    "low": "Lower end of the two-sided 95 % interval; empty when there is none.",
    "high": "Upper end of the two-sided 95 % interval.",
    "open": "Observations not finished at the cut-off (censored).",
    "reason": "Why there is no value, as a code.",
    "reading": "better, worse, no clear change or too few data, against the quarter before, by a test.",
    "p_value": "Of the test behind the reading; empty where nothing was tested.",
    "direction": "1 where the test found more than in the quarter before, -1 less, 0 neither.",
    "definition": "Metric and version of the definition that was applied.",
    "covered_from": "First local day that was covered.",
    "covered_to": "The day after the last covered one.",
    "excluded": "Rows left out, by reason; JSON text in the CSV.",
    "missing": "Sources that the metric needs, or that would add to it, and that nobody offers.",
    "blended": "yes where rows of several services were pooled.",
}

# Written by the stage `verify`, in the order in which one follows from another; `build` writes the rest.
VERIFIED_TABLES = (
    "attestation_judgements",
    "attestation_places",
    "sbom_documents",
    "sbom_places",
    "sbom_components",
    "deployment_provenance",
    "provenance_checks",
    "deployment_controls",
    "findings",
    "verification",
)
