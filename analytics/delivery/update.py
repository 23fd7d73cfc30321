"""The facts of services that an update touches, put in the place of those that they had.

What it leaves is what `analytics.delivery.facts` makes of the same records: nobody can tell that a lake was updated.
Source: spec architecture.md section 4, metrics.md section 1 (a late or corrected event).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from analytics import progress
from analytics.catalog import Catalog
from analytics.delivery.aside import Aside
from analytics.delivery.batch import FACT_TABLES, Terms
from analytics.delivery.facts import derive_services
from analytics.delivery.known_attempts import RAW_KEY, create_attempt_names, create_whole_attempts
from analytics.delivery.loading import service_repositories
from analytics.delivery.records import Incident, Rules
from analytics.delivery.service_facts import KEPT_DEPLOYMENTS
from analytics.delivery.since import Since
from analytics.delivery.summary import STAGE, BuildSummary
from analytics.delivery.told import incidents_by_service
from analytics.delivery.touched import Touched, create_attempt_inputs, incident_input_rows, read_touched
from analytics.delivery.windows import (
    SLACKS,
    Continued,
    continue_services,
    create_changes,
    create_more_references,
    create_references,
    read_windows,
)
from analytics.engines.duck import DuckEngine
from analytics.lake.parts import TableParts
from analytics.lake.schemas import TABLES
from analytics.lake.tables import write_table
from analytics.lake.updating import count_rows, replace_rows
from analytics.settings import Settings

# About half of the rows that an update puts in their places.
_ASIDE = ("commit_reach", "change_lead")
# Their rows have the day of their deployment.
_BY_DAY_OF_DEPLOYMENT = ("service_deployments", "change_lead", "failure_links")


def update_facts(
    engine: DuckEngine,
    beside: Aside,
    parts: TableParts,
    settings: Settings,
    catalog: Catalog,
    rules: Rules,
    merged: Callable[[], Sequence[Incident]],
    since: Since,
    summary: BuildSummary,
) -> None:
    """Derive again what is touched since the last build; needs what `delivery_facts` needs, with nothing proven.

    In the place of `matched_attempts` it needs what `match_places` makes. Makes the tables `derived_services` (service)
    and `continued_services`, `continued_deployment_keys`, `continued_incident_keys` (service, key), which all sessions
    see.
    """
    con = engine.con
    create_attempt_names(engine)
    repositories = service_repositories(engine, catalog.services)
    terms = Terms(rules, tuple(settings.bots), settings.calendar)
    create_attempt_inputs(con)
    incidents = incidents_by_service(engine, catalog, merged())
    incident_inputs = incident_input_rows(incidents)
    filtered = {service.repository.casefold() for service in catalog.services if service.paths}
    continued = Continued()
    touched = read_touched(con, settings, since, incident_inputs)
    names = touched.services(repositories)
    services = [service for service in catalog.services if service.name in names]
    session = beside.engine
    assert isinstance(session, DuckEngine)
    beside.give(partial(_update_inputs, session, settings, touched, incident_inputs, summary))
    folded, rewritten = create_changes(engine, settings, since, touched, services, repositories, incidents)
    named = beside.give(
        partial(create_references, session, filtered, is_prepared=False)
        if rewritten
        else partial(create_more_references, session, settings, since, filtered)
    )
    for slack in SLACKS:
        windows = read_windows(engine, settings, touched, services, folded, incidents, filtered, slack)
        continue_services(windows, incidents, terms, parts, continued)
        services = [service for service in services if service.name not in continued.services]
    summary.continued, summary.derived = len(continued.services), len(services)
    progress.report(
        STAGE,
        f"of {len(catalog.services):,} services, {len(continued.services):,} continued, "
        f"{len(services):,} derived from their beginning",
    )
    both = DuckEngine(con, settings, shared=True)
    both.create_values("derived_services", {"service": "VARCHAR"}, [(service.name,) for service in services])
    if services:
        engine.create_table(
            "derived_keys",
            f"SELECT DISTINCT service, {RAW_KEY} AS deployment_key FROM matched_attempts "
            "SEMI JOIN derived_services USING (service)",
        )
        create_whole_attempts(engine, settings, "derived_attempts", "derived_keys")
        derive_services(
            engine, parts, settings, services, repositories, incidents, catalog, terms, None, "derived_attempts"
        )
    continued.create_tables(both)
    leaving = partial(_leaving, any_derived=bool(services))
    for table in _ASIDE:
        beside.give(partial(_update_table, session, settings, table, parts.relation(table), leaving(table), summary))
    for table in (*FACT_TABLES, "commit_reach"):
        if table not in _ASIDE:
            _update_table(engine, settings, table, parts.relation(table), leaving(table), summary)
    # Windows read what the last build knew of them.
    beside.give(partial(_write_references, session, settings, named(), summary))
    beside.wait()


def derived_again(key: str) -> str:
    """A condition on a row `kept` of a fact: it is of what an update derived again, by a deployment or an incident.

    `key` is its column `deployment_key` or `incident_key`. Needs the tables that `update_facts` makes.
    """
    return (
        "(kept.service IN (SELECT service FROM derived_services) OR "
        f"EXISTS (SELECT 1 FROM continued_{key}s AS c WHERE c.service = kept.service AND c.{key} = kept.{key}))"
    )


def _leaving(table: str, *, any_derived: bool) -> str:
    """A condition on a row `kept` of a table: it is of what was derived again.

    Where no service was derived from its beginning, it is a join by which a reader skips most quarters.
    """
    if table == "commit_reach":
        # What was reached before the window stays, and is not read, for as long as it counts as late.
        continued = (
            "EXISTS (SELECT 1 FROM continued_services AS c WHERE c.service = kept.service AND (kept.sequence IS NULL "
            f"OR kept.sequence > c.after OR kept.sequence <= c.last - {KEPT_DEPLOYMENTS}))"
        )
        return f"(kept.service IN (SELECT service FROM derived_services) OR {continued})" if any_derived else continued
    key = "incident_key" if table == "service_incidents" else "deployment_key"
    if any_derived:
        return derived_again(key)
    same_day = " AND c.day = kept.day" if table in _BY_DAY_OF_DEPLOYMENT else ""
    return (
        f"EXISTS (SELECT 1 FROM continued_{key}s AS c "
        f"WHERE c.service = kept.service AND c.{key} = kept.{key}{same_day})"
    )


def _update_table(
    engine: DuckEngine, settings: Settings, table: str, rows: str, leaving: str, summary: BuildSummary
) -> None:
    """Put the rows of what was derived again in the place of those that it had."""
    replace_rows(engine.con, settings, table, leaving=leaving, coming=rows)
    summary.tables[table] = count_rows(engine.con, settings, table)


def _update_inputs(
    engine: DuckEngine,
    settings: Settings,
    touched: Touched,
    incident_inputs: Sequence[tuple[str, str, str]],
    summary: BuildSummary,
) -> None:
    """Put the fingerprints of what is touched in the place of those that it had; needs `attempt_inputs_now`."""
    told = [row for row in incident_inputs if row[1] in touched.incidents.get(row[0], ())]
    engine.create_values("incident_inputs_now", TABLES["incident_inputs"].columns, told)
    for table, key, keys in (
        ("attempt_inputs", "deployment_key", touched.deployments),
        ("incident_inputs", "incident_key", touched.incidents),
    ):
        rows = [(service, one) for service, own in keys.items() for one in sorted(own)]
        engine.create_values("touched_keys", {"service": "VARCHAR", key: "VARCHAR"}, rows)
        is_touched = f"EXISTS (SELECT 1 FROM touched_keys AS t WHERE t.service = kept.service AND t.{key} = kept.{key})"
        coming = f"SELECT * FROM {table}_now AS kept WHERE {is_touched}"
        replace_rows(engine.con, settings, table, leaving=is_touched, coming=coming)
        summary.tables[table] = count_rows(engine.con, settings, table)


def _write_references(engine: DuckEngine, settings: Settings, named: str | None, summary: BuildSummary) -> None:
    """Write `commit_references` from a query of its rows; None where they are those of the last build."""
    if named is not None:
        write_table(engine.con, settings, "commit_references", named)
    summary.tables["commit_references"] = count_rows(engine.con, settings, "commit_references")
