"""Which services an update has to derive again: those behind whose facts a record has changed.

A service's records are its attempts, the incidents that it is told of, and the commits and pull requests of its
repositories. The first two are compared by fingerprints that every build keeps (`attempt_inputs`, `incident_inputs`),
whatever led to a change: a record, an artifact's name, a time that the cut-off has passed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from analytics.delivery.attempts import ATTEMPT_COLUMNS
from analytics.delivery.batch import COMMIT_COLUMNS, PULL_REQUEST_COLUMNS
from analytics.delivery.records import Incident
from analytics.delivery.since import Since
from analytics.lake.tables import lake_relation
from analytics.settings import Settings

# A deployment's key before it is told apart from a run of the same id.
RAW_KEY = "coalesce(run_id, source_id)"
_SERVICE_KEY = {"service": "VARCHAR", "deployment_key": "VARCHAR"}


@dataclass(frozen=True)
class Touched:
    """What has changed of each service: keys of deployments and of incidents; and the repositories with new history."""

    deployments: Mapping[str, frozenset[str]]
    incidents: Mapping[str, frozenset[str]]
    repositories: frozenset[str]

    def services(self, repositories: Mapping[str, Collection[str]]) -> set[str]:
        """Services of which anything has changed."""
        by_history = {service for service, own in repositories.items() if not self.repositories.isdisjoint(own)}
        return {*self.deployments, *self.incidents, *by_history}


def create_attempt_inputs(con: duckdb.DuckDBPyConnection) -> None:
    """Create the table `attempt_inputs_now` (service, deployment_key, fingerprint) from `matched_attempts`."""
    row = f"hash({', '.join(ATTEMPT_COLUMNS)})"
    con.execute(
        f"""
        CREATE OR REPLACE TABLE attempt_inputs_now AS
        SELECT service, {RAW_KEY} AS deployment_key,
               concat_ws('-', count(*), bit_xor({row}), sum({row} % {2**32})) AS fingerprint
        FROM matched_attempts GROUP BY service, {RAW_KEY}
        """
    )


def incident_input_rows(incidents: Mapping[str, Sequence[Incident]]) -> list[tuple[str, str, str]]:
    """Rows of `incident_inputs`: (service, incident_key, fingerprint)."""
    rows: dict[tuple[str, str], str] = {}
    for service, told in incidents.items():
        for incident in told:
            known = rows.get((service, incident.key))
            rows[service, incident.key] = incident.fingerprint if known is None else f"{known} {incident.fingerprint}"
    return [(service, key, fingerprint) for (service, key), fingerprint in rows.items()]


def read_touched(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    since: Since,
    incident_inputs: Collection[tuple[str, str, str]],
) -> Touched:
    """What has changed since the last build; needs `matched_attempts`, `attempt_inputs_now` and the typed tables."""
    inputs_before = lake_relation(settings, "attempt_inputs")
    deployments = con.execute(
        f"""
        SELECT coalesce(n.service, b.service), coalesce(n.deployment_key, b.deployment_key)
        FROM attempt_inputs_now AS n
        FULL JOIN {inputs_before} AS b ON b.service = n.service AND b.deployment_key = n.deployment_key
        WHERE n.fingerprint IS DISTINCT FROM b.fingerprint
        UNION
        SELECT service, {RAW_KEY} FROM matched_attempts
        WHERE {since.passed("created_at", "started_at", "finished_at")}
        UNION
        SELECT service, deployment_key
        FROM (SELECT service, {RAW_KEY} AS deployment_key, unnest(statuses)."at" AS told_at FROM matched_attempts
              WHERE len(statuses) > 0)
        WHERE {since.passed("told_at")}
        """
    ).fetchall()
    before = {
        (service, key): fingerprint
        for service, key, fingerprint in con.execute(
            f"SELECT service, incident_key, fingerprint FROM {lake_relation(settings, 'incident_inputs')}"
        ).fetchall()
    }
    now = {(service, key): fingerprint for service, key, fingerprint in incident_inputs}
    changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    return Touched(_by_service(deployments), _by_service(changed), frozenset(_changed_repositories(con, since)))


def _changed_repositories(con: duckdb.DuckDBPyConnection, since: Since) -> set[str]:
    """Folded names of repositories of which a commit or a pull request came, left or came to pass."""
    queries = [
        f"SELECT lower(repository) FROM commits WHERE {since.passed('committed_at')}",
        "SELECT lower(repository) FROM pull_requests "
        f"WHERE {since.passed('created_at', 'first_review_at', 'approved_at', 'merged_at')}",
    ]
    queries += [f"SELECT lower(repository) FROM {changed_rows(name)}" for name in HISTORY if name in since.entities]
    return {row[0] for row in con.execute(" UNION ".join(queries)).fetchall()}


# What facts are made of, by entity; what else a record says may change as it likes.
HISTORY = {
    "commits": tuple(
        dict.fromkeys((*COMMIT_COLUMNS[1:8], "repository", "committed_at", "message")),
    ),
    "pull_requests": ("repository", *PULL_REQUEST_COLUMNS[1:]),
}


def changed_rows(entity: str) -> str:
    """A relation of the rows, as far as facts are made of them, that came or left."""
    columns = ", ".join(HISTORY[entity])
    return (
        f"(((SELECT {columns} FROM {entity}_now) EXCEPT (SELECT {columns} FROM {entity}_before)) UNION "
        f"((SELECT {columns} FROM {entity}_before) EXCEPT (SELECT {columns} FROM {entity}_now)))"
    )


def _by_service(pairs: Collection[tuple[str, str]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for service, key in pairs:
        found.setdefault(service, set()).add(key)
    return {service: frozenset(keys) for service, keys in found.items()}
