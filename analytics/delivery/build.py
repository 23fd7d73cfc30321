"""The build stage: landed items become typed tables, and typed tables become delivery facts.

Everything is made from what is landed, so a late record, a corrected one or a changed rule needs no download
(metrics.md E39), and the order of arrival cannot matter. What new items do not touch is kept from the last build
(`analytics.delivery.since`), if nothing else has changed. A killed build leaves whole files of the old or the new build
and is simply run again: the next one makes everything anew, and until then no stage derives from what it left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, timedelta
from importlib import metadata
from typing import Any

import duckdb

from analytics import progress
from analytics.catalog import Catalog, load_catalog
from analytics.delivery.aside import aside
from analytics.delivery.attempts import BuiltOf, match_attempts, match_places
from analytics.delivery.facts import delivery_facts
from analytics.delivery.inputs import input_rows
from analytics.delivery.overrides import load_overrides
from analytics.delivery.pipelines import pipeline_facts
from analytics.delivery.practices import practice_facts, quarter_rows, runbook_rows
from analytics.delivery.records import Rules
from analytics.delivery.run_update import update_pipeline_facts
from analytics.delivery.since import Since, begin
from analytics.delivery.summary import STAGE, BuildSummary
from analytics.delivery.told import read_incidents
from analytics.delivery.update import update_facts
from analytics.engines import open_engine
from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.engines.prelude import CALENDAR_START, create_prelude
from analytics.lake.parts import TableParts
from analytics.lake.tables import clear_table, create_views, lake_relation, scratch, write_table
from analytics.lake.turns import taking_turns
from analytics.lake.typed import typed_query
from analytics.lake.updating import count_rows, count_tables, replace_rows
from analytics.lake.version import note_lake_version
from analytics.landing.coverage import collection, completeness, quarantined
from analytics.landing.names import present_names
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES
from analytics.uncollected import uncollected

_DESCRIBED = (
    "services",
    "scope_members",
    "collection",
    "completeness",
    "quarantine",
    "repository_ids",
    "service_runbooks",
    "quarters",
    "build_inputs",
    "snapshot",
)


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
        # In the database and not of one session, for the session aside.
        create_prelude(DuckEngine(con, settings, shared=True), settings)
        if engine.kind != "duckdb":
            create_prelude(engine, settings)
        parts = TableParts(folder)
        on_spark = engine.kind == "spark"
        note, since = begin(con, settings, catalog, now, full=full or on_spark)
        summary.whole = note.whole
        progress.report(STAGE, f"updating: {note.new_items:,} new items" if since else f"all anew: {note.whole}")
        _typed_tables(con, settings, since, summary)
        create_views(con, settings, *ENTITIES, shared=True)
        if engine.kind != "duckdb":
            engine.read_lake(*ENTITIES)
        built_of = _provenance(con, engine, settings, catalog, parts)
        # What verified provenance says of an artifact is no record whose change is known here.
        update = since if since and not since.proven and built_of is None else None
        note.proven = built_of is not None
        # An update's rows are few enough to live until it ends.
        with (
            uncollected() if update else nullcontext(),
            aside(engine, settings, threaded=update is not None) as beside,
        ):
            incidents = beside.give(lambda: read_incidents(_landed(beside.engine, con), catalog, rules))
            beside.give(
                lambda: _surroundings(
                    _landed(beside.engine, con), beside.engine, parts, settings, catalog, since, summary
                )
            )
            (match_places if update else match_attempts)(engine, catalog)
            if update:
                assert isinstance(engine, DuckEngine)
                update_facts(engine, beside, parts, settings, catalog, rules, incidents, update, summary)
            else:
                delivery_facts(con, engine, parts, settings, catalog, rules, incidents(), built_of, summary)
            beside.give(
                lambda: practice_facts(
                    beside.engine, settings, catalog, lambda name: canonical(catalog, name), summary.tables, update
                )
            )
            _unmapped(engine, parts, catalog)
            summary.tables["unmapped"] = write_table(con, settings, "unmapped", parts.relation("unmapped"))
        progress.report(STAGE, "drills, runbooks, checks, budgets, gates, surveys, templates")
        summary.unmapped = summary.tables["unmapped"]
        if not on_spark:
            note.write(con, settings, summary.tables)
    note_lake_version(settings, STAGE)
    progress.report(STAGE, f"{sum(summary.tables.values()):,} rows in {len(summary.tables)} tables")
    return summary


def _landed(engine: Engine, con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The connection of `open_landing` that an engine's session is, or the given one."""
    return engine.con if isinstance(engine, DuckEngine) else con


def _surroundings(
    con: duckdb.DuckDBPyConnection,
    engine: Engine,
    parts: TableParts,
    settings: Settings,
    catalog: Catalog,
    since: Since | None,
    summary: BuildSummary,
) -> None:
    """Write what no deployment is asked for: the catalog, what is landed, and facts of runs."""
    _describe(con, engine, parts, settings, catalog, since)
    for table in _DESCRIBED:
        summary.tables[table] = write_table(con, settings, table, parts.relation(table))
    summary.tables["calendar"] = write_table(con, settings, "calendar", "SELECT * FROM calendar")
    if since:
        assert isinstance(engine, DuckEngine)
        update_pipeline_facts(engine, settings, lambda name: canonical(catalog, name), since, summary.tables)
    else:
        pipeline_facts(engine, lambda name: canonical(catalog, name), summary.tables)
    progress.report(STAGE, f"{summary.tables['run_attempts']:,} run attempts, {summary.tables['job_times']:,} jobs")


def _typed_tables(
    con: duckdb.DuckDBPyConnection, settings: Settings, since: Since | None, summary: BuildSummary
) -> None:
    """Write the typed tables: every one, or of those with new items the quarters that these touch."""
    landed = {row[0] for row in con.execute("SELECT DISTINCT entity FROM landed_items").fetchall()}
    if since:
        untouched = [name for name in ENTITIES if name in landed and name not in since.entities]
        summary.tables |= count_tables(con, settings, untouched)
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
                before = f"{entity.name}_before"
                left = (
                    f"EXISTS (SELECT 1 FROM {before} AS b WHERE b.source = kept.source "
                    "AND b.origin = kept.origin AND b.line = kept.line)"
                )
                any_left = con.execute(f"SELECT 1 FROM {before} LIMIT 1").fetchall()
                coming = f"SELECT * FROM {entity.name}_now"
                replace_rows(con, settings, entity.name, leaving=left if any_left else None, coming=coming)
                summary.tables[entity.name] = count_rows(con, settings, entity.name)
        progress.report(STAGE, f"{entity.name}: {summary.tables[entity.name]:,} rows")


def _describe(
    con: duckdb.DuckDBPyConnection,
    engine: Engine,
    parts: TableParts,
    settings: Settings,
    catalog: Catalog,
    since: Since | None,
) -> None:
    now = settings.now().astimezone(UTC).replace(tzinfo=None)
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
    for row in collection(settings, con, lake_relation(settings, "collection") if since else None):
        parts.add("collection", {**_fields(row), **_naive(row, "first_at", "last_at")})
    for share in completeness(settings, con):
        parts.add("completeness", _fields(share))
    for refused in quarantined(settings, con, lake_relation(settings, "quarantine") if since else None):
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
