"""The build stage: landed items become typed tables, and typed tables become delivery facts.

Everything is made from what is landed, so a late record, a corrected one or a changed rule needs no download
(metrics.md E39), and the order of arrival cannot matter. What new items do not touch is kept from the last build
(`analytics.delivery.since`), if nothing else has changed. A killed build leaves whole files of the old or the new build
and is simply run again: the next one makes everything anew.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any

import duckdb

from analytics import progress
from analytics.catalog import Catalog, Service, load_catalog
from analytics.delivery.attempts import BuiltOf, match_attempts
from analytics.delivery.batch import FACT_TABLES, Batch, Terms, derive_batch
from analytics.delivery.incidents import merge_incidents
from analytics.delivery.inputs import input_rows
from analytics.delivery.loading import (
    COMMITS_PER_TASK,
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
from analytics.delivery.service_facts import KEPT_DEPLOYMENTS
from analytics.delivery.since import Since, begin
from analytics.delivery.touched import create_attempt_inputs, incident_input_rows, read_touched
from analytics.delivery.windows import SLACKS, Continued, continue_services, create_references, read_windows
from analytics.engines import open_engine
from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.engines.prelude import CALENDAR_START, create_prelude
from analytics.lake.parts import TableParts
from analytics.lake.schemas import TABLES
from analytics.lake.tables import clear_table, create_views, lake_relation, scratch, write_table
from analytics.lake.turns import taking_turns
from analytics.lake.typed import typed_query
from analytics.lake.updating import count_rows, replace_rows
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
    # Why everything was made anew; None where the last build was updated.
    whole: str | None = None
    # Of the services of an update: those continued from where they were known, and those derived from their beginning.
    continued: int = 0
    derived: int = 0


@taking_turns(STAGE, derives=False)
def build(settings: Settings, *, full: bool = False) -> BuildSummary:
    """Build every typed table and every fact table from what is landed; `full` keeps nothing of the last build.

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
        on_spark = engine.kind == "spark"
        note, since = begin(con, settings, catalog, now, full=full or on_spark)
        summary.whole = note.whole
        progress.report(STAGE, f"updating: {note.new_items:,} new items" if since else f"all anew: {note.whole}")
        _typed_tables(con, settings, since, summary)
        create_views(con, settings, *ENTITIES)
        if engine.kind != "duckdb":
            engine.read_lake(*ENTITIES)
        _describe(con, engine, parts, settings, catalog, now)
        if since and not _runs_changed(con, since):
            for table in ("job_times", "run_attempts", "runner_windows"):
                summary.tables[table] = count_rows(con, settings, table)
            engine.read_lake("job_times")
        else:
            pipeline_facts(engine, lambda name: canonical(catalog, name), summary.tables)
        progress.report(STAGE, f"{summary.tables['run_attempts']:,} run attempts, {summary.tables['job_times']:,} jobs")
        built_of = _provenance(con, engine, settings, catalog, parts)
        match_attempts(engine, catalog)
        # What verified provenance says of an artifact is no record whose change is known here.
        update = since if since and not since.proven and built_of is None else None
        note.proven = built_of is not None
        delivery_facts(con, engine, parts, settings, catalog, rules, built_of, update, summary)
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
        practice_facts(engine, settings, catalog, lambda name: canonical(catalog, name), summary.tables)
        progress.report(STAGE, "drills, runbooks, checks, budgets, gates, surveys, templates")
        summary.unmapped = summary.tables["unmapped"]
        if not on_spark:
            note.write(con, settings, summary.tables)
    note_lake_version(settings)
    progress.report(STAGE, f"{sum(summary.tables.values()):,} rows in {len(summary.tables)} tables")
    return summary


def _typed_tables(
    con: duckdb.DuckDBPyConnection, settings: Settings, since: Since | None, summary: BuildSummary
) -> None:
    """Write the typed tables: every one, or of those with new items the quarters that these touch."""
    landed = {row[0] for row in con.execute("SELECT DISTINCT entity FROM landed_items").fetchall()}
    for entity in ENTITIES.values():
        if entity.name not in landed:
            clear_table(settings, entity.name)
            summary.tables[entity.name] = 0
            continue
        if since is None:
            relation = create_winners(con, entity.name)
            summary.tables[entity.name] = write_table(con, settings, entity.name, typed_query(entity, relation))
        else:
            if entity.name in since.entities:
                left = f"SELECT 1 FROM {entity.name}_before AS b WHERE b.source = kept.source "
                replace_rows(
                    con,
                    settings,
                    entity.name,
                    leaving=f"EXISTS ({left} AND b.origin = kept.origin AND b.line = kept.line)",
                    coming=f"SELECT * FROM {entity.name}_now",
                )
            summary.tables[entity.name] = count_rows(con, settings, entity.name)
        progress.report(STAGE, f"{entity.name}: {summary.tables[entity.name]:,} rows")


def _runs_changed(con: duckdb.DuckDBPyConnection, since: Since) -> bool:
    """Whether a run or a job is new, or has begun or ended by passing of the cut-off."""
    if not since.entities.isdisjoint(("pipeline_runs", "pipeline_jobs")):
        return True
    passed = since.passed("created_at", "started_at", "completed_at")
    return any(
        con.execute(f"SELECT 1 FROM {table} WHERE {passed} LIMIT 1").fetchall()
        for table in ("pipeline_runs", "pipeline_jobs")
    )


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
        repository = canonical(catalog, service.repository)
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
    rows = [(digest, canonical(catalog, repository)) for digest, repository in commits.repositories()]
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


def canonical(catalog: Catalog, repository: str) -> str:
    """The catalog's first spelling of a repository, whatever letter case a record has."""
    known = catalog.of_repository(repository)
    return known[0].repository if known else repository


def delivery_facts(
    con: duckdb.DuckDBPyConnection,
    engine: Engine,
    parts: TableParts,
    settings: Settings,
    catalog: Catalog,
    rules: Rules,
    built_of: BuiltOf | None,
    since: Since | None,
    summary: BuildSummary,
) -> None:
    """Deployments, ownership, failures and incidents, one service at a time: every one, or those that are touched."""
    repositories = service_repositories(engine, catalog.services)
    incidents = _incidents_by_service(con, engine, catalog, rules)
    terms = Terms(rules, tuple(settings.bots), settings.calendar)
    if engine.kind == "spark":
        # Whoever needs no Spark need not have it.
        from analytics.delivery.on_spark import derive_facts

        prepare_commits(engine, {s.repository.casefold() for s in catalog.services if s.paths})
        in_batches = batches(engine, catalog.services, repositories, COMMITS_PER_TASK)
        summary.tables |= derive_facts(engine, in_batches, repositories, incidents, terms, built_of)
        return
    create_attempt_inputs(con)
    incident_inputs = incident_input_rows(incidents)
    services = list(catalog.services)
    filtered = {service.repository.casefold() for service in catalog.services if service.paths}
    continued = Continued()
    if since is not None:
        assert isinstance(engine, DuckEngine)
        touched = read_touched(con, settings, since, incident_inputs)
        names = touched.services(repositories)
        services = [service for service in services if service.name in names]
        for slack in SLACKS:
            windows = read_windows(engine, settings, since, touched, services, repositories, incidents, filtered, slack)
            continue_services(windows, incidents, terms, parts, continued)
            services = [service for service in services if service.name not in continued.services]
        summary.continued, summary.derived = len(continued.services), len(services)
        progress.report(
            STAGE,
            f"of {len(catalog.services):,} services, {len(continued.services):,} continued, "
            f"{len(services):,} derived from their beginning",
        )
    assert isinstance(engine, DuckEngine)
    _derive(engine, parts, settings, services, repositories, incidents, catalog, terms, built_of)
    continued.create_tables(engine)
    engine.create_values("derived_services", {"service": "VARCHAR"}, [(service.name,) for service in services])
    for table in (*FACT_TABLES, "commit_reach"):
        rows = parts.relation(table)
        if since is None:
            summary.tables[table] = write_table(con, settings, table, rows)
        else:
            _update_facts(con, settings, table, rows)
            summary.tables[table] = count_rows(con, settings, table)
    summary.tables["attempt_inputs"] = write_table(con, settings, "attempt_inputs", "SELECT * FROM attempt_inputs_now")
    columns = TABLES["incident_inputs"].columns
    engine.create_values("incident_inputs_now", columns, incident_inputs)
    summary.tables["incident_inputs"] = write_table(
        con, settings, "incident_inputs", "SELECT * FROM incident_inputs_now"
    )
    named = create_references(engine, settings, since, filtered, is_prepared=since is None and bool(services))
    summary.tables["commit_references"] = write_table(con, settings, "commit_references", named)


def _update_facts(con: duckdb.DuckDBPyConnection, settings: Settings, table: str, rows: str) -> None:
    """Put the rows of what was derived again in the place of those that it had."""
    leaving = "kept.service IN (SELECT service FROM derived_services)"
    held = lake_relation(settings, table)
    if table == "commit_reach":
        leaving += " OR kept.service IN (SELECT service FROM continued_services)"
        # What was reached before the window stays known for as long as it counts as late.
        rows = (
            f"{rows} UNION ALL BY NAME SELECT kept.* FROM {held} AS kept "
            "JOIN continued_services AS c ON c.service = kept.service "
            f"WHERE kept.sequence <= c.after AND kept.sequence > c.last - {KEPT_DEPLOYMENTS}"
        )
    else:
        key = "incident_key" if table == "service_incidents" else "deployment_key"
        leaving += (
            f" OR EXISTS (SELECT 1 FROM continued_{key}s AS c WHERE c.service = kept.service AND c.{key} = kept.{key})"
        )
    if table == "service_deployments":
        # How long a failure has been open is told up to the cut-off, which has moved for every service.
        rows = (
            f"{rows} UNION ALL BY NAME SELECT kept.* REPLACE (epoch_us(params.now) - epoch_us(coalesce(finished_at, "
            f"created_at)) AS open_us) FROM (SELECT kept.* FROM {held} AS kept "
            f"WHERE recovery_open AND NOT ({leaving})) AS kept CROSS JOIN params"
        )
        leaving = f"kept.recovery_open OR {leaving}"
    replace_rows(con, settings, table, leaving=f"({leaving})", coming=rows)


def _derive(
    engine: DuckEngine,
    parts: TableParts,
    settings: Settings,
    services: Sequence[Service],
    repositories: dict[str, set[str]],
    incidents: Mapping[str, Sequence[Incident]],
    catalog: Catalog,
    terms: Terms,
    built_of: BuiltOf | None,
) -> None:
    """Every fact of some services, from all that is known of them."""
    if not services:
        return
    con = engine.con
    if len(services) < len(catalog.services):
        wanted = {name for service in services for name in repositories[service.name]}
        engine.create_values("wanted_repositories", {"folded": "VARCHAR"}, [(name,) for name in sorted(wanted)])
        for table in ("commits", "pull_requests"):
            engine.create_view(
                table,
                f"SELECT entry.* FROM {lake_relation(settings, table)} AS entry "
                "JOIN wanted_repositories AS wanted ON wanted.folded = lower(entry.repository)",
            )
    prepare_commits(engine, {s.repository.casefold() for s in catalog.services if s.paths})
    engine.read_lake("commits", "pull_requests")
    done = 0
    for batch in batches(engine, services, repositories):
        needed = {name for service in batch for name in repositories[service.name]}
        with _uncollected():
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
                with_reach=True,
            )
            for table, row in rows:
                parts.add(table, row)
        done += len(batch)
        progress.report(STAGE, "services", done, len(services))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Do without the collector of cycles while a batch lives.

    It would look through its millions of records again and again, for nearly half of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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
        ("service", "slo_samples", "service", "at"),
        ("repository", "gate_results", "repository", "at"),
    ):
        for name, rows, first_at, last_at in engine.rows(
            f"SELECT told.{column} AS name, count(*) AS found, min(told.{at}) AS first_at, max(told.{at}) AS last_at "
            f"FROM {table} AS told GROUP BY told.{column} ORDER BY name"
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
