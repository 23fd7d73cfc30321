"""Which days of a quarter a service was live and collected, and which sources are missing.

Source: metrics.md section 2 (deployment frequency) and section 8 (collected, cut-off, reasons).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import duckdb
import numpy as np
import numpy.typing as npt

from analytics.periods import Calendar, Quarter

# What tells of an entity that no source offers as such; rows of these relations are enough.
_TOLD_BY = {
    "checks": "(SELECT * FROM deployment_checks WHERE origin_kind = 'job')",
    "file_revisions": "(SELECT * FROM service_runbooks WHERE watched)",
    "referenced_workflows": "(SELECT * FROM snapshot WHERE key = 'runs_name_templates' AND value = 'true')",
    "attestations": "attestation_places",
    "sboms": "sbom_documents",
}
# The columns of the table `members`.
MEMBERS = {
    "scope": "VARCHAR",
    "name": "VARCHAR",
    "subject_kind": "VARCHAR",
    "subject": "VARCHAR",
    "scope_number": "BIGINT",
    "subject_number": "BIGINT",
}
SCOPES = ("service", "team", "organization")
# Nothing counts where nothing was collected or live, whatever rows are there: n and its parts are those of nothing.
OF_NOTHING = frozenset({"not_collected", "not_yet_live"})


@dataclass(frozen=True)
class ServiceEntry:
    """What measuring needs of a catalog entry."""

    service: str
    since: date | None
    entity: str


@dataclass(frozen=True)
class Coverage:
    """By scope and quarter: how many services were live, and the covered days from `first` to before `after`.

    Days are ordinals (`date.toordinal`), and of nothing where nothing was live. Calendar days, never hours: a quarter
    with a clock change is divided by its days.
    """

    live: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]

    @property
    def days(self) -> npt.NDArray[np.int64]:
        """How many days are covered; 0 where nothing was live."""
        return np.where(self.live > 0, self.after - self.first, 0)


@dataclass(frozen=True)
class Snapshot:
    """What the facts were built from."""

    now: datetime
    organization: str
    rollback_is_evidence: bool
    has_policy: bool
    collected: frozenset[str]
    services: dict[str, ServiceEntry]
    scopes: dict[tuple[str, str], frozenset[str]]


def read_snapshot(con: duckdb.DuckDBPyConnection) -> Snapshot:
    """Read the build's own record; needs the views snapshot, collection, services, scope_members."""
    facts = _noted(con)
    services = {
        name: ServiceEntry(name, since, entity)
        for name, since, entity in con.execute("SELECT service, since, entity FROM services").fetchall()
    }
    scopes: dict[tuple[str, str], set[str]] = {}
    for scope, name, subject in con.execute(
        "SELECT scope, name, subject FROM scope_members WHERE subject_kind = 'service'"
    ).fetchall():
        scopes.setdefault((scope, name), set()).add(subject)
    scopes.setdefault(("organization", facts["organization"]), set())
    return Snapshot(
        now=_cut_off(facts),
        organization=facts["organization"],
        rollback_is_evidence=facts["rollback_is_evidence"] == "true",
        has_policy=facts.get("has_policy") == "true",
        collected=frozenset(row[0] for row in con.execute("SELECT DISTINCT entity FROM collection").fetchall())
        | _otherwise_known(con),
        services=services,
        scopes={key: frozenset(members) for key, members in sorted(scopes.items())},
    )


def read_cut_off(con: duckdb.DuckDBPyConnection) -> datetime:
    """When the facts were cut off, in UTC; needs the table or view snapshot."""
    return _cut_off(_noted(con))


def _noted(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return dict(con.execute("SELECT key, value FROM snapshot").fetchall())


def _cut_off(noted: Mapping[str, str]) -> datetime:
    return datetime.fromisoformat(noted["cut_off"]).astimezone(UTC)


def _otherwise_known(con: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Entities without a feed of their own of which something else tells, such as jobs that check deployments."""
    return frozenset(
        entity for entity, table in _TOLD_BY.items() if con.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
    )


def create_members(con: duckdb.DuckDBPyConnection, scopes: Iterable[tuple[str, str]], *, shared: bool = False) -> None:
    """Create the table `members`: scope_members, and the organisation's share in what belongs to nobody.

    It is temporary, or `shared` with the other connections to the database.

    Rows of no known service, repository or team have the empty subject; the organisation shows them, most as left out.
    `scope_number` is the place of a scope among the given ones; the members of any other are left out.
    `subject_number` is one for each kind and name of a subject.
    """
    names = list(scopes)
    con.execute(
        f"CREATE OR REPLACE {'' if shared else 'TEMP '}TABLE members AS SELECT given.*, scope_number, "
        "dense_rank() OVER (ORDER BY subject_kind, subject) - 1 AS subject_number FROM ("
        "SELECT scope, name, subject_kind, subject FROM scope_members UNION ALL "
        "SELECT 'organization', value, kind, '' FROM snapshot "
        "CROSS JOIN (SELECT unnest(['service', 'repository', 'team']) AS kind) WHERE key = 'organization') AS given "
        "JOIN (SELECT unnest(?) AS scope, unnest(?) AS name, unnest(range(?)) AS scope_number) AS known "
        "ON known.scope = given.scope AND known.name = given.name",
        [[scope for scope, _ in names], [name for _, name in names], len(names)],
    )


def coverage(snapshot: Snapshot, calendar: Calendar, quarters: Sequence[Quarter]) -> Coverage:
    """Days from the first live member's start to the quarter's end or the cut-off, by the snapshot's scopes."""
    names = {name: number for number, name in enumerate(snapshot.services)}
    spans = np.zeros((len(names), len(quarters), 2), dtype=np.int64)
    # Most services are live since the same day, or always.
    known: dict[date | None, list[tuple[int, int]]] = {}
    for service in snapshot.services.values():
        if service.since not in known:
            found = [calendar.covered_days(quarter, snapshot.now, service.since) for quarter in quarters]
            known[service.since] = [(first.toordinal(), after.toordinal()) for first, after in found]
        spans[names[service.service]] = known[service.since]
    first, after = spans[:, :, 0], spans[:, :, 1]
    is_live = first < after
    shape = (len(snapshot.scopes), len(quarters))
    made = Coverage(*(np.full(shape, least, dtype=np.int64) for least in (0, date.max.toordinal(), 0)))
    belonging = [(scope, names[name]) for scope, members in enumerate(snapshot.scopes.values()) for name in members]
    scope, chosen = np.array(belonging, dtype=np.int64).reshape(-1, 2).T
    live = is_live[chosen]
    np.add.at(made.live, scope, live)
    np.minimum.at(made.first, scope, np.where(live, first[chosen], date.max.toordinal()))
    np.maximum.at(made.after, scope, np.where(live, after[chosen], 0))
    return made


def has_begun(snapshot: Snapshot, calendar: Calendar, quarter: Quarter) -> bool:
    """Whether a quarter started before the cut-off."""
    return calendar.bounds_utc(quarter)[0] < snapshot.now


def missing_entities(snapshot: Snapshot, members: Iterable[str], entities: Iterable[str]) -> list[str]:
    """Entities that no source offers; `deployments` stands for whatever each service's catalog entry names.

    A deployment source counts as missing only when it is missing for every member.
    """
    missing = []
    for entity in entities:
        if entity == "deployments":
            sources = {snapshot.services[name].entity for name in members}
            if sources and not sources & snapshot.collected:
                missing.append(min(sources))
        elif entity not in snapshot.collected:
            missing.append(entity)
    return missing
