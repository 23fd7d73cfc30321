"""Which services an update has to derive again: those behind whose facts a record has changed.

A service's records are its attempts, the incidents that it is told of, and the commits and pull requests of its
repositories. A deployment's attempts change with its own record, with the artifact that it names, and when the cut-off
passes one of its times. Attempts that are made of several records (runs, tags, releases) and incidents are compared by
fingerprints that every build keeps (`attempt_inputs`, `incident_inputs`), whatever led to a change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from analytics.delivery.attempts import ATTEMPT_COLUMNS
from analytics.delivery.batch import COMMIT_COLUMNS, PULL_REQUEST_COLUMNS
from analytics.delivery.known_attempts import RAW_KEY
from analytics.delivery.records import Incident
from analytics.delivery.since import Since
from analytics.lake.tables import lake_relation
from analytics.settings import Settings

# What an attempt that is made of a run, a tag or a release has of ATTEMPT_COLUMNS; its lists are empty.
_OF_SEVERAL = tuple(name for name in ATTEMPT_COLUMNS if name not in ("statuses", "labels", "revisions"))


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
    """Create the table `attempt_inputs_now` (service, deployment_key, fingerprint).

    It has the attempts that are made of several records; needs `matched_runs` and `matched_tags`.
    """
    columns = ", ".join(_OF_SEVERAL)
    row = f"hash({columns})"
    con.execute(
        f"""
        CREATE OR REPLACE TABLE attempt_inputs_now AS
        SELECT service, {RAW_KEY} AS deployment_key,
               concat_ws('-', count(*), bit_xor({row}), sum({row} % {2**32})) AS fingerprint
        FROM (SELECT {columns} FROM matched_runs UNION ALL SELECT {columns} FROM matched_tags)
        GROUP BY service, {RAW_KEY}
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
    deployments = con.execute(" UNION ".join(_changed_deployments(settings, since))).fetchall()
    before = {
        (service, key): fingerprint
        for service, key, fingerprint in con.execute(
            f"SELECT service, incident_key, fingerprint FROM {lake_relation(settings, 'incident_inputs')}"
        ).fetchall()
    }
    now = {(service, key): fingerprint for service, key, fingerprint in incident_inputs}
    changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    return Touched(_by_service(deployments), _by_service(changed), frozenset(_changed_repositories(con, since)))


def _changed_deployments(settings: Settings, since: Since) -> Iterator[str]:
    """Queries of the (service, RAW_KEY) whose attempts came, left, say something else or came to pass."""
    of_several = lake_relation(settings, "attempt_inputs")
    yield f"""
        SELECT coalesce(n.service, b.service), coalesce(n.deployment_key, b.deployment_key)
        FROM attempt_inputs_now AS n
        FULL JOIN {of_several} AS b ON b.service = n.service AND b.deployment_key = n.deployment_key
        WHERE n.fingerprint IS DISTINCT FROM b.fingerprint
    """
    # As they were: nobody was told of those that had not begun by the cut-off.
    known = (
        f"SELECT service, coalesce(run_id, source_deployment_id) FROM {lake_relation(settings, 'deployment_attempts')}"
    )
    matched = f"SELECT service, {RAW_KEY} FROM matched_attempts"
    if "deployments" in since.entities:
        yield f"{matched} WHERE kind = 'deployment' AND source_id IN (SELECT deployment_id FROM deployments_now)"
        yield f"{known} WHERE source_deployment_id IN (SELECT deployment_id FROM deployments_before)"
    if "artifacts" in since.entities:
        changed = "(SELECT digest FROM artifacts_now UNION SELECT digest FROM artifacts_before)"
        yield f"{matched} WHERE digest IN {changed}"
        yield f"{known} WHERE digest IN {changed}"
    yield f"{matched} WHERE {since.passed('created_at', 'started_at', 'finished_at')}"
    yield f"""
        SELECT m.service, coalesce(m.run_id, m.source_id) FROM matched_attempts AS m
        SEMI JOIN (
            SELECT source, origin, line FROM (
                SELECT source, origin, line, unnest(statuses)."at" AS told_at FROM deployments WHERE len(statuses) > 0
            ) WHERE {since.passed("told_at")}
        ) AS told ON told.source = m.source AND told.origin = m.origin AND told.line = m.line
    """


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
