"""The build stage: landed items become typed tables, and typed tables become delivery facts.

Everything is made anew from what is landed, so a late record, a corrected one or a changed rule needs no download
(metrics.md E39), and the order of arrival cannot matter. A killed build leaves whole files of the old or the new build
and is simply run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any

import duckdb

from analytics import progress
from analytics.catalog import Catalog, load_catalog
from analytics.delivery.attempts import BuiltOf, match_attempts
from analytics.delivery.batch import FACT_TABLES, Batch, Terms, derive_batch
from analytics.delivery.incidents import merge_incidents
from analytics.delivery.inputs import input_rows
from analytics.delivery.loading import (
    batches,
    prepare_commits,
    read_attempts,
    read_commits,
    read_pull_requests,
    service_repositories,
)
from analytics.delivery.overrides import load_overrides
from analytics.delivery.pipelines import pipeline_facts
from analytics.delivery.practices import practice_facts, quarter_rows, runbook_rows
from analytics.delivery.queries import sql
from analytics.delivery.records import Incident, Rules
from analytics.engines import open_engine
from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.engines.prelude import CALENDAR_START, create_prelude
from analytics.lake.parts import TableParts
from analytics.lake.tables import clear_table, create_views, scratch, write_table
from analytics.lake.turns import taking_turns
from analytics.lake.typed import typed_query
from analytics.lake.version import note_lake_version
from analytics.landing.coverage import collection, completeness, quarantined
from analytics.landing.names import present_names
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES

STAGE = "build"


@dataclass
class BuildSummary:
    """Rows written per table, and what arrived that nobody declared."""

    tables: dict[str, int] = field(default_factory=dict)
    unmapped: int = 0


@taking_turns(STAGE, derives=False)
def build(settings: Settings) -> BuildSummary:
    """Build every typed table and every fact table from what is landed.

    Raises SettingsError for a bad catalog or override file, and where artifacts were attested for policies or trusted
    roots that cannot be read; LandingError when nothing can be read.
    """
    catalog = load_catalog(list(settings.catalog) if isinstance(settings.catalog, list) else [settings.catalog])
    now = settings.now().astimezone(UTC).replace(tzinfo=None)
    rules = Rules(settings.incidents, settings.rework, now, load_overrides(settings.incidents.overrides))
    summary = BuildSummary()
    with open_landing(settings) as con, scratch(settings) as folder, open_engine(settings, con) as engine:
        catalog = catalog.under(present_names(con))
        create_prelude(DuckEngine(con, settings), settings)
        if engine.kind != "duckdb":
            create_prelude(engine, settings)
        parts = TableParts(folder)
        landed = {row[0] for row in con.execute("SELECT DISTINCT entity FROM landed_items").fetchall()}
        for entity in ENTITIES.values():
            if entity.name not in landed:
                clear_table(settings, entity.name)
                summary.tables[entity.name] = 0
                continue
            relation = create_winners(con, entity.name)
            summary.tables[entity.name] = write_table(con, settings, entity.name, typed_query(entity, relation))
            progress.report(STAGE, f"{entity.name}: {summary.tables[entity.name]:,} rows")
        create_views(con, settings, *ENTITIES)
        if engine.kind != "duckdb":
            engine.read_lake(*ENTITIES)
        _describe(con, engine, parts, settings, catalog, now)
        pipeline_facts(engine, lambda name: _canonical(catalog, name), summary.tables)
        progress.report(STAGE, f"{summary.tables['run_attempts']:,} run attempts, {summary.tables['job_times']:,} jobs")
        built_of = _provenance(con, engine, settings, catalog, parts)
        match_attempts(engine, catalog)
        _delivery_facts(con, engine, parts, settings, catalog, rules, built_of, summary)
        _unmapped(engine, parts, catalog)
        for table in (
            "services",
            "scope_members",
            "unmapped",
            "collection",
            "completeness",
            "quarantine",
            "repository_ids",
            "service_runbooks",
            "quarters",
            "build_inputs",
            "snapshot",
        ):
            summary.tables[table] = write_table(con, settings, table, parts.relation(table))
        summary.tables["calendar"] = write_table(con, settings, "calendar", "SELECT * FROM calendar")
        practice_facts(engine, settings, catalog, lambda name: _canonical(catalog, name), summary.tables)
        progress.report(STAGE, "drills, runbooks, checks, budgets, gates, surveys, templates")
        summary.unmapped = summary.tables["unmapped"]
    note_lake_version(settings)
    progress.report(STAGE, f"{sum(summary.tables.values()):,} rows in {len(summary.tables)} tables")
    return summary


def _describe(
    con: duckdb.DuckDBPyConnection,
    engine: Engine,
    parts: TableParts,
    settings: Settings,
    catalog: Catalog,
    now: datetime,
) -> None:
    for service in catalog.services:
        parts.add(
            "services",
            {
                "service": service.name,
                "team": service.team,
                "tier": service.tier,
                "repository": service.repository,
                "since": service.since,
                "entity": service.deploys.entity,
                "link_window_hours": service.link_window_hours
                if service.link_window_hours is not None
                else settings.incidents.link_window_hours,
                "failed_attempt_is_failure": service.failed_attempt_is_failure,
                "lifecycle": service.lifecycle,
                "critical": None if service.tier is None else service.tier in settings.practices.critical_tiers,
                "rollback_automation": service.rollback.automation,
            },
        )
    members: dict[tuple[str, str, str, str], None] = {}
    for service in catalog.services:
        repository = _canonical(catalog, service.repository)
        for scope, name in (
            ("service", service.name),
            ("team", service.team),
            ("organization", settings.organization),
        ):
            if name is not None:
                members[scope, name, "service", service.name] = None
                members[scope, name, "repository", repository] = None
                if service.team is not None:
                    members[scope, name, "team", service.team] = None
    for scope, name, kind, subject in members:
        parts.add("scope_members", {"scope": scope, "name": name, "subject_kind": kind, "subject": subject})
    for row in collection(settings, con):
        parts.add("collection", {**_fields(row), **_naive(row, "first_at", "last_at")})
    for share in completeness(settings, con):
        parts.add("completeness", _fields(share))
    for refused in quarantined(settings, con):
        parts.add("quarantine", {name: value for name, value in _fields(refused).items() if name != "kept"})
    for source, repository_id, repository in _repository_ids(con):
        parts.add("repository_ids", {"source": source, "repository_id": repository_id, "repository": repository})
    for one in input_rows(con, settings, catalog):
        parts.add("build_inputs", one)
    for runbook in runbook_rows(con, engine, catalog):
        parts.add("service_runbooks", runbook)
    today = settings.calendar.covered_days(settings.calendar.quarter_of(now), settings.now())[1] - timedelta(days=1)
    for quarter in quarter_rows(settings.calendar, settings.practices, CALENDAR_START, today):
        parts.add("quarters", quarter)
    templates = con.execute("SELECT 1 FROM pipeline_runs WHERE referenced_workflows IS NOT NULL LIMIT 1").fetchone()
    for key, value in {
        "cut_off": now.replace(tzinfo=UTC).isoformat(),
        "time_zone": settings.time_zone,
        "fiscal_year_start_month": str(settings.fiscal_year_start_month),
        "organization": settings.organization,
        "code_version": metadata.version("quarterdeck"),
        "rollback_is_evidence": str(settings.incidents.rollback_is_evidence).lower(),
        "runs_name_templates": str(templates is not None).lower(),
        "has_policy": str(settings.supply_chain.policies is not None).lower(),
    }.items():
        parts.add("snapshot", {"key": key, "value": value})


def _repository_ids(con: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    """Source, id and name of every repository whose id is known."""
    for source, text in con.execute("SELECT source, value FROM landed_meta WHERE key = 'names'").fetchall():
        for repository_id, repository in json.loads(text).items():
            yield source, repository_id, repository


def _provenance(
    con: duckdb.DuckDBPyConnection, engine: Engine, settings: Settings, catalog: Catalog, parts: TableParts
) -> BuiltOf | None:
    """What verified provenance says that deployed artifacts were built of; None where nothing is attested or named.

    Creates the table `proven_repositories`.
    """
    columns = {"digest": "VARCHAR", "repository": "VARCHAR"}
    engine.create_values("proven_repositories", columns, [])
    found = con.execute("SELECT DISTINCT lower(digest) FROM deployments WHERE digest IS NOT NULL").fetchall()
    ((attestations,),) = con.execute("SELECT count(*) FROM attestations").fetchall()
    if not found or not (attestations or settings.supply_chain.bundles):
        return None
    # Whoever has nothing to verify does not wait for the libraries that do.
    from analytics.supply_chain.source_commits import source_commits

    ids = {repository.casefold(): repository_id for _, repository_id, repository in _repository_ids(con)}
    commits = source_commits(con, settings, parts, {digest for (digest,) in found}, ids)
    rows = [(digest, _canonical(catalog, repository)) for digest, repository in commits.repositories()]
    engine.create_values("proven_repositories", columns, rows)
    progress.report(STAGE, f"{len(rows):,} artifacts with verified provenance")

    def built_of(service: str, digest: str) -> tuple[tuple[str, str], ...]:
        return commits.of(service, catalog.by_name[service].repository, digest)

    return built_of


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def _naive(row: Any, *names: str) -> dict[str, Any]:
    return {
        name: at.astimezone(UTC).replace(tzinfo=None) if (at := getattr(row, name)) is not None and at.tzinfo else at
        for name in names
    }


def _canonical(catalog: Catalog, repository: str) -> str:
    """The catalog's first spelling of a repository, whatever letter case a record has."""
    known = catalog.of_repository(repository)
    return known[0].repository if known else repository


def _delivery_facts(
    con: duckdb.DuckDBPyConnection,
    engine: Engine,
    parts: TableParts,
    settings: Settings,
    catalog: Catalog,
    rules: Rules,
    built_of: BuiltOf | None,
    summary: BuildSummary,
) -> None:
    """Deployments, ownership, failures and incidents, one service at a time."""
    terms = Terms(rules, tuple(settings.bots), settings.calendar)
    prepare_commits(engine, {s.repository.casefold() for s in catalog.services if s.paths})
    repositories = service_repositories(engine, catalog.services)
    incidents = _incidents_by_service(con, engine, catalog, rules)
    in_batches = batches(engine, catalog.services, repositories)
    if engine.kind == "spark":
        # Whoever needs no Spark need not have it.
        from analytics.delivery.on_spark import derive_facts

        summary.tables |= derive_facts(engine, in_batches, repositories, incidents, terms, built_of)
        return
    done = 0
    for batch in in_batches:
        needed = {name for service in batch for name in repositories[service.name]}
        rows = derive_batch(
            Batch(
                batch,
                repositories,
                read_commits(con, needed),
                read_pull_requests(con, needed),
                read_attempts(con, [service.name for service in batch]),
                incidents,
            ),
            terms,
            built_of,
        )
        for table, row in rows:
            parts.add(table, row)
        done += len(batch)
        progress.report(STAGE, "services", done, len(catalog.services))
    for table in FACT_TABLES:
        summary.tables[table] = write_table(con, settings, table, parts.relation(table))


def _reported_service(incident: Mapping[str, Any], catalog: Catalog) -> str | None:
    """The service that a label names (`service:checkout`), else the only one of the repository it was reported in."""
    for label in incident["labels"] or ():
        kind, _, name = label.replace("/", ":", 1).partition(":")
        if kind.strip().casefold() == "service" and name.strip() in catalog.by_name:
            return str(name.strip())
    living = catalog.of_repository(incident["repository"]) if incident["repository"] else []
    return living[0].name if len(living) == 1 else None


def _incidents_by_service(
    con: duckdb.DuckDBPyConnection, engine: Engine, catalog: Catalog, rules: Rules
) -> dict[str, list[Incident]]:
    """Merged incidents by the services that may have caused them: the named one, and those an explicit link names."""
    cursor = con.execute("SELECT * FROM incidents")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    for row in rows:
        row["service"] = row["service"] or _reported_service(row, catalog)
    merged = merge_incidents(rows, rules.now)
    wanted = sorted({link.value for i in merged for link in i.links if link.kind == "deployment"})
    engine.create_values("blamed_names", {"name": "VARCHAR"}, [(name,) for name in wanted])
    found = engine.rows(sql("blamed_services.sql"))
    by_deployment: dict[str, list[str]] = {}
    for name, service in found:
        by_deployment.setdefault(name, []).append(service)
    result: dict[str, list[Incident]] = {}
    for incident in merged:
        services = _candidates(incident, catalog, by_deployment)
        for service in services:
            result.setdefault(service, []).append(incident)
    return result


def _candidates(incident: Incident, catalog: Catalog, by_deployment: dict[str, list[str]]) -> Sequence[str]:
    own = [incident.service] if incident.service in catalog.by_name and incident.service else []
    named = sorted(
        {s for link in incident.links if link.kind == "deployment" for s in by_deployment.get(link.value, ())}
    )
    if named:
        # An id that the incident's own service knows is meant there; elsewhere the named service is to blame.
        return own if set(own) & set(named) else [*own, *named]
    if own:
        return own
    others = any(link.kind in ("sha", "pull_request", "version") for link in incident.links)
    return sorted(catalog.by_name) if others and incident.service is None else []


def _unmapped(engine: Engine, parts: TableParts, catalog: Catalog) -> None:
    """Say what arrived that no catalog entry speaks of; nothing is guessed from its name."""
    for repository, environment, service, rows, first_at, last_at in engine.rows(
        "SELECT repository, environment, service, rows, first_at, last_at FROM unmatched_environments "
        "ORDER BY repository, environment, service"
    ):
        detail = f"deployments of {repository}" + (f", service {service}" if service else "")
        parts.add(
            "unmapped",
            {
                "kind": "service" if service and service not in catalog.by_name else "environment",
                "name": service if service and service not in catalog.by_name else environment,
                "detail": detail if not service or service in catalog.by_name else f"{detail}, {environment}",
                "rows": rows,
                "first_at": first_at,
                "last_at": last_at,
            },
        )
    for kind, table, column, at in (
        ("repository", "pipeline_runs", "repository", "created_at"),
        ("repository", "commits", "repository", "committed_at"),
        ("service", "incidents", "service", "opened_at"),
        ("service", "drills", "service", "performed_at"),
        ("service", "slo_samples", "service", '"at"'),
        ("repository", "gate_results", "repository", '"at"'),
    ):
        for name, rows, first_at, last_at in engine.rows(
            f"SELECT {column} AS name, count(*) AS found, min({at}) AS first_at, max({at}) AS last_at FROM {table} "
            f"GROUP BY {column} ORDER BY name"
        ):
            known = catalog.of_repository(name) if kind == "repository" and name else catalog.by_name.get(name or "")
            if not known:
                parts.add(
                    "unmapped",
                    {
                        "kind": kind,
                        "name": name or "(none)",
                        "detail": table,
                        "rows": rows,
                        "first_at": first_at,
                        "last_at": last_at,
                    },
                )
