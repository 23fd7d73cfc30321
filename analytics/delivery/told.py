"""Which services are told of which incidents: those that may have caused one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from analytics.catalog import Catalog
from analytics.delivery.incidents import merge_incidents
from analytics.delivery.queries import sql
from analytics.delivery.records import Incident, Rules
from analytics.engines.port import Engine

_COLUMNS = (
    *("incident_id", "service", "repository", "title", "severity", "labels", "opened_at", "impact_started_at"),
    *("mitigated_at", "resolved_at", "deployment_id", "sha", "pull_request", "fixed_by_deployment_id", "dedupe_key"),
    "url",
)


def _reported_service(incident: Mapping[str, Any], catalog: Catalog) -> str | None:
    """The service that a label names (`service:checkout`), else the only one of the repository it was reported in."""
    for label in incident["labels"] or ():
        kind, _, name = label.replace("/", ":", 1).partition(":")
        if kind.strip().casefold() == "service" and name.strip() in catalog.by_name:
            return str(name.strip())
    living = catalog.of_repository(incident["repository"]) if incident["repository"] else []
    return living[0].name if len(living) == 1 else None


def read_incidents(con: duckdb.DuckDBPyConnection, catalog: Catalog, rules: Rules) -> list[Incident]:
    """Merged incidents, each with the service that it names or that it was reported in, if it has one."""
    columns = ", ".join(_COLUMNS)
    cursor = con.execute(f"SELECT {columns}, hash({columns}) AS row_hash FROM incidents")
    names = (*_COLUMNS, "row_hash")
    rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    for row in rows:
        row["service"] = row["service"] or _reported_service(row, catalog)
    return merge_incidents(rows, rules.now)


def incidents_by_service(engine: Engine, catalog: Catalog, merged: Sequence[Incident]) -> dict[str, list[Incident]]:
    """Merged incidents by the services that may have caused them: the named one, and those an explicit link names.

    Needs `matched_attempts`.
    """
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
    if own and not incident.links:
        return own
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
