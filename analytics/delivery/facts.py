"""Deployments, ownership, failures and incidents of every service, from the typed tables to the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from analytics import progress
from analytics.catalog import Catalog, Service
from analytics.delivery.attempts import BuiltOf
from analytics.delivery.batch import FACT_TABLES, Batch, Terms, derive_batch
from analytics.delivery.loading import (
    COMMITS_PER_TASK,
    batches,
    prepare_history,
    read_attempts,
    read_commits,
    read_pull_requests,
    service_repositories,
)
from analytics.delivery.lookup import spellings
from analytics.delivery.records import Incident, Rules
from analytics.delivery.summary import STAGE, BuildSummary
from analytics.delivery.told import incidents_by_service
from analytics.delivery.touched import create_attempt_inputs, incident_input_rows
from analytics.delivery.windows import create_references
from analytics.engines.duck import DuckEngine
from analytics.engines.port import Engine
from analytics.lake.parts import TableParts
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation, write_table
from analytics.settings import Settings
from analytics.uncollected import uncollected


def delivery_facts(
    con: duckdb.DuckDBPyConnection,
    engine: Engine,
    parts: TableParts,
    settings: Settings,
    catalog: Catalog,
    rules: Rules,
    merged: Sequence[Incident],
    built_of: BuiltOf | None,
    summary: BuildSummary,
) -> None:
    """Write the facts of every service, one service at a time, and what a later update asks of them.

    Needs the typed tables, the prelude, `matched_attempts` and `proven_repositories`; `summary` gets their rows.
    """
    repositories = service_repositories(engine, catalog.services)
    incidents = incidents_by_service(engine, catalog, merged)
    terms = Terms(rules, tuple(settings.bots), settings.calendar)
    filtered = {service.repository.casefold() for service in catalog.services if service.paths}
    if engine.kind == "spark":
        # Whoever needs no Spark need not have it.
        from analytics.delivery.on_spark import derive_facts

        prepare_history(engine, filtered)
        in_batches = batches(engine, catalog.services, repositories, COMMITS_PER_TASK)
        summary.tables |= derive_facts(engine, in_batches, repositories, incidents, terms, built_of)
        return
    assert isinstance(engine, DuckEngine)
    create_attempt_inputs(con)
    derive_services(engine, parts, settings, catalog.services, repositories, incidents, catalog, terms, built_of)
    for table in (*FACT_TABLES, "commit_reach"):
        summary.tables[table] = write_table(con, settings, table, parts.relation(table))
    summary.tables["attempt_inputs"] = write_table(con, settings, "attempt_inputs", "SELECT * FROM attempt_inputs_now")
    columns = TABLES["incident_inputs"].columns
    engine.create_values("incident_inputs_now", columns, incident_input_rows(incidents))
    summary.tables["incident_inputs"] = write_table(
        con, settings, "incident_inputs", "SELECT * FROM incident_inputs_now"
    )
    named = create_references(engine, filtered, is_prepared=bool(catalog.services))
    summary.tables["commit_references"] = write_table(con, settings, "commit_references", named)


def derive_services(
    engine: DuckEngine,
    parts: TableParts,
    settings: Settings,
    services: Sequence[Service],
    repositories: dict[str, set[str]],
    incidents: Mapping[str, Sequence[Incident]],
    catalog: Catalog,
    terms: Terms,
    built_of: BuiltOf | None,
    attempts: str = "matched_attempts",
) -> None:
    """Every fact of some services, from all that is known of them; `attempts` is a table of all their attempts."""
    if not services:
        return
    con = engine.con
    if len(services) < len(catalog.services):
        wanted = {name for service in services for name in repositories[service.name]}
        spelled = sorted(name for folded in wanted for name in spellings(con).get(folded, ()))
        # Names as constants let a reader skip what lies between them.
        listed = ", ".join("'" + name.replace("'", "''") + "'" for name in spelled) or "NULL"
        engine.create_view(
            "commits", f"SELECT * FROM {lake_relation(settings, 'commits')} WHERE repository IN ({listed})"
        )
        engine.create_values("wanted_repositories", {"folded": "VARCHAR"}, [(name,) for name in sorted(wanted)])
        engine.create_view(
            "pull_requests",
            f"SELECT entry.* FROM {lake_relation(settings, 'pull_requests')} AS entry "
            "JOIN wanted_repositories AS wanted ON wanted.folded = lower(entry.repository)",
        )
    prepare_history(engine, {s.repository.casefold() for s in catalog.services if s.paths})
    engine.read_lake("commits", "pull_requests")
    done = 0
    for batch in batches(engine, services, repositories):
        needed = {name for service in batch for name in repositories[service.name]}
        # It would look through a batch's millions of records again and again, for nearly half of the time.
        with uncollected():
            rows = derive_batch(
                Batch(
                    batch,
                    repositories,
                    read_commits(con, needed),
                    read_pull_requests(con, needed),
                    read_attempts(con, [service.name for service in batch], attempts),
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
