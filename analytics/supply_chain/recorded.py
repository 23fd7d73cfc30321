"""Which artifacts deployment records say that a deployment shipped, where it names none itself.

Nothing in a record names a deployment: it tells that an artifact ran in a place at a time. Source: supply-chain.md
section 1 (The join); GitHub's artifact deployment records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from analytics.supply_chain.joining import Deployed

# What is recorded earlier or later than this belongs to no deployment that we know.
BEFORE = timedelta(minutes=10)
AFTER = timedelta(hours=1)
# Environments, cluster and name.
Place = tuple[str | None, ...]
_PRODUCTION = frozenset({"prod", "production"})


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """An artifact in a place; `recorded_at` is naive UTC, names are folded."""

    digest: str
    repository: str
    environment: str
    physical_environment: str | None
    cluster: str | None
    deployment_name: str
    recorded_at: datetime

    @property
    def place(self) -> Place:
        """What the next record of this place has in common with it."""
        return self.environment, self.physical_environment, self.cluster, self.deployment_name


def read_records(con: duckdb.DuckDBPyConnection) -> list[DeploymentRecord]:
    """All records of something that was put in place, by time; needs the view deployment_records."""
    rows = con.execute(
        """
        SELECT lower(digest), lower(repository), lower(environment), lower(physical_environment), lower(cluster),
               lower(deployment_name), recorded_at
        FROM deployment_records WHERE coalesce(lower(status), '') <> 'decommissioned'
        ORDER BY 7, 1, 2, 3, 4, 5, 6
        """
    ).fetchall()
    return [DeploymentRecord(*row) for row in rows]


def recorded_artifacts(
    records: Sequence[DeploymentRecord], deployments: Sequence[Deployed], services: Collection[str]
) -> dict[tuple[str, str], frozenset[str]]:
    """The digests recorded for each deployment (service, deployment key).

    A record belongs to the nearest deployment of its repository and environment: made while that ran, at most ten
    minutes before it began or an hour after it ended. One whose name is that of a service (`services`) is of that
    service alone, and then counts before those of other names. Of several records of one place the nearest counts, of
    equally near ones the last.
    """
    names = {name.casefold() for name in services}
    by_repository: dict[str, list[Deployed]] = defaultdict(list)
    for deployed in deployments:
        for repository in {deployed.repository.casefold(), deployed.source_repository.casefold()}:
            by_repository[repository].append(deployed)
    best: dict[tuple[str, str], dict[Place, tuple[timedelta, str]]] = defaultdict(dict)
    for record in records:
        for (service, key), gap in _nearest(record, by_repository.get(record.repository, ())):
            if record.deployment_name in names and record.deployment_name != service.casefold():
                continue
            places = best[service, key]
            known = places.get(record.place)
            if known is None or gap <= known[0]:
                places[record.place] = gap, record.digest
    return {key: _digests(key[0].casefold(), places) for key, places in best.items()}


def _digests(service: str, places: Mapping[Place, tuple[timedelta, str]]) -> frozenset[str]:
    own = {place: found for place, found in places.items() if place[-1] == service}
    return frozenset(digest for _, digest in (own or places).values())


def _nearest(record: DeploymentRecord, deployments: Iterable[Deployed]) -> Iterable[tuple[tuple[str, str], timedelta]]:
    """Of each service the deployment that a record belongs to, and how far it lies from it."""
    found: dict[str, tuple[timedelta, str]] = {}
    for deployed in deployments:
        gap = _gap(record.recorded_at, deployed)
        if gap is None or not _is_there(record, deployed.environment):
            continue
        # Of two that are equally near, the one that ended later took the place.
        if deployed.service not in found or gap <= found[deployed.service][0]:
            found[deployed.service] = gap, deployed.deployment_key
    return [((service, key), gap) for service, (gap, key) in found.items()]


def _gap(at: datetime, deployed: Deployed) -> timedelta | None:
    end = deployed.finished_at
    if end is None:
        return None
    start = min(deployed.created_at or end, end)
    if at < start:
        return start - at if start - at <= BEFORE else None
    return max(at - end, timedelta()) if at - end <= AFTER else None


def _is_there(record: DeploymentRecord, environment: str | None) -> bool:
    """Whether a record's place lies in a deployment's environment."""
    # Deployments made of tags and releases have none; they are of production.
    wanted = (environment or "production").casefold()
    region = record.physical_environment
    spelled = {record.environment}
    if region is not None:
        spelled = {record.environment, region, *(f"{record.environment}{dash}{region}" for dash in "-_/")}
    return wanted in spelled or (wanted in _PRODUCTION and record.environment in _PRODUCTION)
