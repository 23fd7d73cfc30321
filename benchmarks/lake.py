"""An organisation's lake without a pull: typed tables straight from the generator, facts by the product's own code.

Landing fifty million records is not what engines are compared in; the steps here are those of `build` behind it.
"""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb

from analytics.catalog import Catalog, load_catalog
from analytics.delivery.attempts import match_attempts
from analytics.delivery.build import canonical
from analytics.delivery.facts import delivery_facts
from analytics.delivery.overrides import load_overrides
from analytics.delivery.pipelines import pipeline_facts
from analytics.delivery.records import Rules
from analytics.delivery.summary import BuildSummary
from analytics.delivery.told import read_incidents
from analytics.engine import connect
from analytics.engines import open_engine
from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.engines.prelude import create_prelude
from analytics.lake.parts import TableParts
from analytics.lake.publish import publish
from analytics.lake.tables import scratch, write_table
from analytics.lake.version import note_lake_version
from analytics.settings import Settings
from analytics.sources.entities import ENTITIES
from benchmarks.feeds import ENTITIES as GENERATED
from benchmarks.feeds import Size, create_world, query_of


def write_typed_tables(settings: Settings, size: Size, seed: int) -> dict[str, int]:
    """Write the generated entities as typed tables, and the catalog's services; returns the rows of each entity."""
    with connect(settings) as con:
        create_prelude(DuckEngine(con, settings), settings)
        create_world(con, size, seed)
        rows = {
            name: write_table(
                con,
                settings,
                name,
                f"SELECT *, 'drops' AS source, '{name}' AS origin FROM ({query_of(name)})",
            )
            for name in GENERATED
        }
        describe(con, settings)
    return rows


def describe(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Write what `build` notes of the catalog, the sources and itself; needs the prelude and the generator's tables."""
    entities = ", ".join(f"'{name}'" for name in GENERATED)
    noted = {
        "cut_off": settings.now().isoformat(),
        "time_zone": settings.time_zone,
        "fiscal_year_start_month": str(settings.fiscal_year_start_month),
        "organization": settings.organization,
        "rollback_is_evidence": str(settings.incidents.rollback_is_evidence).lower(),
        "has_policy": "false",
    }
    engine = DuckEngine(con, settings)
    engine.create_values("noted", {"key": "VARCHAR", "value": "VARCHAR"}, list(noted.items()))
    members = " UNION ALL ".join(
        f"SELECT '{scope}' AS scope, {name} AS name, '{kind}' AS subject_kind, {kind} AS subject FROM services"
        for scope, name in (("service", "service"), ("team", "team"), ("organization", f"'{settings.organization}'"))
        for kind in ("service", "repository")
    )
    for table, query in {
        "calendar": "SELECT * FROM calendar",
        "services": "SELECT *, 'deployments' AS entity, false AS failed_attempt_is_failure FROM services",
        "scope_members": members,
        "collection": f"SELECT 'drops' AS source, unnest([{entities}]) AS entity, true AS complete",
        "snapshot": "SELECT * FROM noted",
    }.items():
        write_table(con, settings, table, query)
    note_lake_version(settings)


def derive_runs(settings: Settings) -> int:
    """The flaky step: run attempts, jobs and runners, on the settings' engine; returns the rows of these facts."""
    written: dict[str, int] = {}
    with connect(settings) as con, open_engine(settings, con) as engine:
        catalog, _ = _prepared(con, engine, settings)
        pipeline_facts(engine, lambda name: canonical(catalog, name), written)
    return sum(written.values())


def derive_ownership(settings: Settings) -> int:
    """The ownership step: deployments, which commits each shipped first, failures; returns the rows of these facts."""
    summary = BuildSummary()
    with connect(settings) as con, scratch(settings) as folder, open_engine(settings, con) as engine:
        catalog, now = _prepared(con, engine, settings)
        rules = Rules(settings.incidents, settings.rework, now, load_overrides(settings.incidents.overrides))
        engine.create_values("proven_repositories", {"digest": "VARCHAR", "repository": "VARCHAR"}, [])
        match_attempts(engine, catalog)
        incidents = read_incidents(con, catalog, rules)
        delivery_facts(con, engine, TableParts(folder), settings, catalog, rules, incidents, None, summary)
    return sum(summary.tables.values())


def publish_lake(settings: Settings) -> int:
    """Publish the lake as it is; returns the rows of the facts in the published database."""
    publish(settings)
    with connect(settings, settings.published_path, read_only=True) as con:
        ((rows,),) = con.execute("SELECT sum(estimated_size)::BIGINT FROM duckdb_tables()").fetchall()
    return int(rows)


def lake_bytes(settings: Settings, *tables: str) -> int:
    """Bytes of the lake's files, of all tables or of those named."""
    folders = [settings.lake_dir / table for table in tables] or [settings.lake_dir]
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*.parquet"))


def _prepared(con: duckdb.DuckDBPyConnection, engine: Engine, settings: Settings) -> tuple[Catalog, datetime]:
    catalogs = settings.catalog if isinstance(settings.catalog, list) else [settings.catalog]
    for each in (DuckEngine(con, settings), engine):
        create_prelude(each, settings)
        each.read_lake(*ENTITIES)
    return load_catalog(list(catalogs)), settings.now().astimezone(UTC).replace(tzinfo=None)
