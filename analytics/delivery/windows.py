"""Reads the windows in which services can be continued, and keeps what the next update asks of these services.

The lake keeps two tables for it: `commit_reach`, the commits that a service has not shipped or shipped lately, and
`commit_references`, what messages and parents name. All services are read together, in a few passes over the tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import duckdb

from analytics.catalog import Service
from analytics.delivery.attempts import ATTEMPT_COLUMNS
from analytics.delivery.batch import COMMIT_COLUMNS, PULL_REQUEST_COLUMNS, Terms, reach_of
from analytics.delivery.continuing import BehindWindow, Window, derive_window
from analytics.delivery.known_attempts import create_whole_attempts
from analytics.delivery.loading import prepare_commits
from analytics.delivery.lookup import create_named_commits, create_spellings, spellings
from analytics.delivery.queries import create_tables
from analytics.delivery.records import Deployment, Incident
from analytics.delivery.rows import fact_rows
from analytics.delivery.service_facts import KEPT_DEPLOYMENTS
from analytics.delivery.since import Since
from analytics.delivery.touched import HISTORY, Touched, changed_rows
from analytics.engines.duck import DuckEngine
from analytics.lake.parts import TableParts
from analytics.lake.tables import lake_relation
from analytics.settings import Settings

# Successful deployments before the earliest change that are derived again with it, at least: rollbacks, reverts and
# incidents mostly speak of these. Where new ones speak of older deployments, the longer window is tried.
SLACKS = (6, 48)

Pairs = Iterable[tuple[str, str]]
_SERVICES = {"service": "VARCHAR", "folded": "VARCHAR"}


def create_changes(
    engine: DuckEngine,
    settings: Settings,
    since: Since,
    touched: Touched,
    services: Sequence[Service],
    repositories: Mapping[str, Collection[str]],
    incidents: Mapping[str, Sequence[Incident]],
) -> tuple[dict[str, str], set[str]]:
    """What windows of any length ask of the changes; needs `matched_attempts`, the typed tables and the prelude.

    Gives the services that may be continued, of one repository and without digests, with its name in small letters,
    and the repositories with a past that says something else now. Creates the tables `added_commits`,
    `changed_requests`, `request_shas_before` and those of the services' deployments and incidents.
    """
    con = engine.con
    create_spellings(DuckEngine(con, settings, shared=True))
    rewritten = rewritten_repositories(con, since)
    plain = {
        service.name: next(iter(repositories[service.name]))
        for service in services
        if len(repositories[service.name]) == 1
        and not service.failed_attempt_is_failure
        and rewritten.isdisjoint(repositories[service.name])
    }
    engine.create_values("plain_services", _SERVICES, list(plain.items()))
    _create_changes(engine, settings, touched, plain, incidents)
    _create_asked_before(con, settings)
    _create_added_commits(con, since)
    _create_changed_requests(engine, since)
    return plain, rewritten


def read_windows(
    engine: DuckEngine,
    settings: Settings,
    touched: Touched,
    services: Sequence[Service],
    folded: Mapping[str, str],
    incidents: Mapping[str, Sequence[Incident]],
    path_filtered: Collection[str],
    slack: int,
) -> list[Window]:
    """Windows of those services whose records allow it: `folded` names their repository, and their past is long enough.

    A window begins `slack` successful deployments before the earliest change, or a few more, so that what its
    deployments ship again or take back lies within it as far as is known. Needs the tables of `create_changes`.
    """
    con = engine.con
    plain = {service.name: folded[service.name] for service in services if service.name in folded}
    if not plain:
        return []
    engine.create_values("plain_services", _SERVICES, list(plain.items()))
    lives = _create_window_keys(engine, settings, slack)
    _create_candidates(engine, settings, path_filtered)
    pairs = {
        "attempts": _grouped(con, f"SELECT service, {', '.join(ATTEMPT_COLUMNS)} FROM window_attempts"),
        "commits": _grouped(
            con,
            f"SELECT c.service, {', '.join(f'f.{name}' for name in COMMIT_COLUMNS)} FROM candidates AS c "
            "JOIN commit_facts AS f ON f.folded = c.folded AND f.sha = c.sha",
        ),
        "recorded": _grouped(
            con,
            "SELECT c.service, c.sha, c.owner_sequence, c.counted FROM candidates AS c "
            "JOIN windows AS w ON w.service = c.service WHERE c.owner_sequence <= w.after",
        ),
    }
    _create_requests(engine, settings)
    pairs["requests"] = _grouped(con, f"SELECT service, {', '.join(PULL_REQUEST_COLUMNS)} FROM window_requests")
    changed_requests = _sets(
        con,
        "SELECT w.service, r.number FROM changed_requests AS r JOIN windows AS w ON w.folded = r.folded",
    )
    shas_before = _sets(
        con,
        "SELECT w.service, r.sha FROM request_shas_before AS r JOIN windows AS w ON w.folded = r.folded",
    )
    _create_asked(con, settings)
    asked = _sets(con, "SELECT service, sha FROM asked")
    before = _sets(con, "SELECT service, sha FROM asked_and_found")
    patches = _sets(
        con,
        "SELECT w.service, t.patch_id FROM twins AS t JOIN windows AS w ON w.folded = t.folded "
        "WHERE NOT EXISTS (SELECT 1 FROM candidates AS c WHERE c.service = w.service AND c.sha = t.sha)",
    )
    references: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for repository, *named in con.execute(
        f"SELECT repository, sha, kind, named FROM {lake_relation(settings, 'commit_references')} "
        "WHERE repository IN (SELECT folded FROM windows)"
    ).fetchall():
        references[repository].append((named[0], named[1], named[2]))
    added = _sets(con, "SELECT w.service, a.sha FROM added_commits AS a JOIN windows AS w ON w.folded = a.folded")
    told_names = {
        (name, value)
        for name in lives
        for incident in incidents.get(name, ())
        for value in (*(link.value for link in incident.links if link.kind == "deployment"), *incident.fixed_by)
    }
    names_before = _names_before(engine, told_names)
    unresolved = _sets(con, f"SELECT o.service, o.sha {_BEFORE} AND o.outcome = 'success' AND NOT o.resolved")
    fixes = _sets(con, f"SELECT o.service, o.rework_evidence {_BEFORE} AND o.rework = 'incident_fix'")
    linked = _sets(
        con,
        f"SELECT l.service, l.incident_key FROM {lake_relation(settings, 'failure_links')} AS l "
        "JOIN windows AS w ON w.service = l.service WHERE l.incident_key IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM window_keys AS k WHERE k.service = l.service AND k.deployment_key = l.deployment_key)",
    )
    keys = _sets(con, "SELECT service, deployment_key FROM window_keys")
    by_name = {service.name: service for service in services}
    return [
        Window(
            service=by_name[name],
            folded=plain[name],
            start=start,
            live=live,
            last=last,
            keys=frozenset(keys[name]),
            began_at=began_at,
            attempts=pairs["attempts"].get(name, []),
            commits=pairs["commits"].get(name, []),
            pull_requests=pairs["requests"].get(name, []),
            recorded={sha: (sequence, bool(counted)) for sha, sequence, counted in pairs["recorded"].get(name, [])},
            added=frozenset(added[name]),
            asked=frozenset(asked[name]),
            before=frozenset(before[name]),
            patches_before=frozenset(patches[name]),
            references=references[plain[name]],
            changed_requests=frozenset(changed_requests[name]),
            shas_before=frozenset(shas_before[name]),
            names_before=frozenset(names_before[name]),
            unresolved_before=frozenset(unresolved[name]),
            fixes_before=sorted(fixes[name]),
            changed_incidents=touched.incidents.get(name, frozenset()),
            linked_before=frozenset(linked[name]),
        )
        for name, (start, began_at, live, last) in lives.items()
    ]


# Deployments of a service that lie before its window.
_BEFORE = (
    "FROM old_deployments AS o JOIN windows AS w ON w.service = o.service WHERE NOT EXISTS "
    "(SELECT 1 FROM window_keys AS k WHERE k.service = o.service AND k.deployment_key = o.deployment_key)"
)


@dataclass
class Continued:
    """What was derived by windows: services, with the sequences of the last deployments before and within them."""

    services: dict[str, tuple[int, int]] = field(default_factory=dict)
    deployments: list[tuple[str, str]] = field(default_factory=list)
    incidents: list[tuple[str, str]] = field(default_factory=list)

    def create_tables(self, engine: DuckEngine) -> None:
        """The tables `continued_services` (service, after, last), `continued_deployment_keys` and `…_incident_keys`.

        Those of deployments have the `day` that the last build gave them, if it knew them; needs `old_deployments`.
        """
        engine.create_values(
            "continued_services",
            {"service": "VARCHAR", "after": "BIGINT", "last": "BIGINT"},
            [(name, after, last) for name, (after, last) in self.services.items()],
        )
        for name, keys in (("deployment_key", self.deployments), ("incident_key", self.incidents)):
            engine.create_values(f"continued_{name}s", {"service": "VARCHAR", name: "VARCHAR"}, keys)
        engine.create_table(
            "continued_deployment_keys",
            "SELECT c.service, c.deployment_key, o.day FROM continued_deployment_keys AS c LEFT JOIN old_deployments "
            "AS o ON o.service = c.service AND o.deployment_key = c.deployment_key",
        )


def continue_services(
    windows: Iterable[Window],
    incidents: Mapping[str, Sequence[Incident]],
    terms: Terms,
    parts: TableParts,
    continued: Continued,
) -> None:
    """Derive every window that allows it, add its rows, and note what was `continued`."""

    @lru_cache(maxsize=100_000)
    def local_day(moment: datetime) -> date:
        return terms.calendar.local_day(moment)

    for window in windows:
        name = window.service.name
        try:
            facts, told = derive_window(window, incidents.get(name, ()), terms)
        except BehindWindow:
            continue
        for table, row in (*fact_rows(facts, local_day), *reach_of(facts)):
            parts.add(table, row)
        assert window.live.sequence is not None
        after = window.live.sequence
        continued.services[name] = after, after + sum(one.outcome == "success" for one in facts.deployments)
        continued.deployments += [(name, key) for key in window.keys]
        continued.incidents += [(name, key) for key in told]


def _grouped(con: duckdb.DuckDBPyConnection, query: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by their first column, without it."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for first, *rest in con.execute(query).fetchall():
        found.setdefault(first, []).append(tuple(rest))
    return found


def _sets(con: duckdb.DuckDBPyConnection, query: str) -> defaultdict[str, set[Any]]:
    """Values of the second column by the first."""
    found: defaultdict[str, set[Any]] = defaultdict(set)
    for first, second in con.execute(query).fetchall():
        found[first].add(second)
    return found


def rewritten_repositories(con: duckdb.DuckDBPyConnection, since: Since) -> set[str]:
    """Repositories of which a known commit says something else now, or is told of under two spellings."""
    if "commits" not in since.entities:
        return set()
    columns = ", ".join(HISTORY["commits"])
    rows = con.execute(
        "SELECT lower(repository) FROM "
        f"((SELECT {columns} FROM commits_before) EXCEPT (SELECT {columns} FROM commits_now))"
    ).fetchall()
    if any(len(names) > 1 for names in spellings(con).values()):
        rows += con.execute(
            "SELECT lower(n.repository) FROM commits_now AS n JOIN commits AS c "
            "ON c.sha = n.sha AND lower(c.repository) = lower(n.repository) AND c.repository <> n.repository"
        ).fetchall()
    return {row[0] for row in rows}


def _create_changes(
    engine: DuckEngine,
    settings: Settings,
    touched: Touched,
    plain: Collection[str],
    incidents: Mapping[str, Sequence[Incident]],
) -> None:
    """The tables `changed_keys`, `old_deployments`, `first_changes` (service, at: nothing changed before), and more.

    `deployment_ends` has the number of each service's last deployment, `last_deployments` those that a window may hold.
    """
    keyed = {"service": "VARCHAR", "deployment_key": "VARCHAR"}
    changed = [(name, key) for name in plain for key in sorted(touched.deployments.get(name, ()))]
    engine.create_values("changed_keys", keyed, changed)
    told = [(name, key) for name in plain for key in sorted(touched.incidents.get(name, ()))]
    engine.create_values("changed_incidents", {"service": "VARCHAR", "incident_key": "VARCHAR"}, told)
    impacts = [
        (name, incident.impact_started_at)
        for name in plain
        for incident in incidents.get(name, ())
        if incident.key in touched.incidents.get(name, ())
    ]
    engine.create_values("changed_impacts", {"service": "VARCHAR", "happened_at": "TIMESTAMP"}, impacts)
    engine.create_table(
        "old_deployments",
        "SELECT d.service, deployment_key, repository, sha, created_at, started_at, finished_at, outcome, sequence, "
        "resolved, identity, revisions, environment, rework, rework_evidence, blamed_key, day, "
        "coalesce(finished_at, created_at) AS happened_at, "
        "coalesce(started_at, least(created_at, coalesce(finished_at, created_at))) AS began_at "
        f"FROM {lake_relation(settings, 'service_deployments')} AS d SEMI JOIN plain_services USING (service)",
    )
    engine.create_table(
        "deployment_ends",
        "SELECT service, max(sequence) AS last, min(happened_at) FILTER (resolved) AS first_resolved_at "
        "FROM old_deployments WHERE outcome = 'success' GROUP BY service",
    )
    engine.create_table(
        "last_deployments",
        "SELECT o.service, o.deployment_key, o.sequence, o.sha, o.happened_at, o.rework, o.blamed_key "
        "FROM old_deployments AS o JOIN deployment_ends AS e ON e.service = o.service "
        f"WHERE o.outcome = 'success' AND o.sequence > e.last - {KEPT_DEPLOYMENTS}",
    )
    engine.create_table(
        "first_changes",
        f"""
        SELECT service, min(happened_at) AS happened_at FROM (
            SELECT o.service, o.happened_at FROM old_deployments AS o
            JOIN changed_keys AS k ON k.service = o.service AND k.deployment_key = o.deployment_key
            UNION ALL
            SELECT m.service, least(m.created_at, coalesce(m.finished_at, m.created_at)) FROM matched_attempts AS m
            JOIN changed_keys AS k ON k.service = m.service AND k.deployment_key = coalesce(m.run_id, m.source_id)
            UNION ALL
            SELECT service, happened_at FROM changed_impacts
            UNION ALL
            SELECT o.service, o.happened_at FROM {lake_relation(settings, "failure_links")} AS l
            JOIN changed_incidents AS i ON i.service = l.service AND i.incident_key = l.incident_key
            JOIN old_deployments AS o ON o.service = l.service AND o.deployment_key = l.deployment_key
        ) GROUP BY service
        """,
    )


def _create_asked_before(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """The table `asked_before` (service, sequence, asked): the first deployment whose commits a later one speaks of.

    It shipped one of them again or blames it, or a commit of it takes one of them back or was picked from it.
    """
    reach = lake_relation(settings, "commit_reach")
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE asked_before AS
        WITH reached AS (
            SELECT r.service, p.folded, r.sha, r.sequence FROM {reach} AS r
            JOIN plain_services AS p ON p.service = r.service WHERE r.sequence IS NOT NULL
        ), named AS (
            SELECT o.service, o.sequence, r.sequence AS asked FROM last_deployments AS o
            JOIN reached AS r ON r.service = o.service AND r.sha = o.sha WHERE r.sequence < o.sequence
            UNION ALL
            SELECT o.service, o.sequence, b.sequence FROM last_deployments AS o
            JOIN last_deployments AS b ON b.service = o.service AND b.deployment_key = o.blamed_key
            WHERE o.rework IS NOT NULL AND b.sequence < o.sequence
            UNION ALL
            SELECT one.service, one.sequence, other.sequence
            FROM {lake_relation(settings, "commit_references")} AS names
            JOIN reached AS one ON one.folded = names.repository AND one.sha = names.sha
            JOIN reached AS other ON other.service = one.service AND other.sha = names.named
            WHERE names.kind IN ('revert', 'picked_from') AND other.sequence < one.sequence
        )
        SELECT service, sequence, min(asked) AS asked FROM named GROUP BY service, sequence
        """
    )


def _create_window_keys(
    engine: DuckEngine, settings: Settings, slack: int
) -> dict[str, tuple[datetime, datetime | None, Deployment, int]]:
    """The tables `windows` (service, folded, start, after), `window_keys` and `window_attempts`.

    Gives each window's start, when the earliest of its deployments began, what was live before it, and the number of
    the last deployment that was known.
    """
    con = engine.con
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE windows AS
        WITH placed AS (
            SELECT o.service, o.happened_at, o.sequence,
                   max(o.sequence) FILTER (f.happened_at IS NULL OR o.happened_at < f.happened_at)
                       OVER (PARTITION BY o.service) AS unchanged,
                   min(b.asked) OVER (PARTITION BY o.service ORDER BY o.sequence DESC) AS asked
            FROM last_deployments AS o LEFT JOIN first_changes AS f ON f.service = o.service
            LEFT JOIN asked_before AS b ON b.service = o.service AND b.sequence = o.sequence
        ), starts AS (
            SELECT service, coalesce(
                arg_max(happened_at, sequence) FILTER (asked IS NULL OR asked >= sequence),
                arg_max(happened_at, sequence)
            ) AS start
            FROM placed WHERE sequence <= unchanged - {slack - 1} GROUP BY service
        ), pasts AS (
            SELECT s.service, max(o.sequence) AS after, e.last, e.first_resolved_at < s.start AS is_started
            FROM starts AS s JOIN deployment_ends AS e ON e.service = s.service
            JOIN old_deployments AS o ON o.service = s.service AND o.outcome = 'success' AND o.happened_at < s.start
            GROUP BY s.service, e.last, e.first_resolved_at, s.start
        ), shapes AS (
            SELECT service FROM matched_attempts GROUP BY service
            HAVING min(repository) = max(repository)
               AND NOT bool_or(digest IS NOT NULL OR artifact_sha IS NOT NULL OR coalesce(len(revisions), 0) > 0)
        ), doubled AS (
            SELECT DISTINCT one.service FROM matched_attempts AS one
            JOIN matched_attempts AS other ON other.service = one.service AND other.run_id = one.source_id
            WHERE one.run_id IS NULL
            UNION SELECT service FROM old_deployments WHERE starts_with(deployment_key, 'deployment:')
        )
        SELECT p.service, p.folded, s.start, past.after, past.last
        FROM plain_services AS p
        JOIN starts AS s ON s.service = p.service
        JOIN pasts AS past ON past.service = p.service AND past.is_started
         AND past.after >= past.last - {KEPT_DEPLOYMENTS}
        JOIN shapes ON shapes.service = p.service
        SEMI JOIN {lake_relation(settings, "commit_reach")} AS kept ON kept.service = p.service
        ANTI JOIN doubled ON doubled.service = p.service
        """
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE window_keys AS SELECT o.service, o.deployment_key FROM old_deployments AS o "
        "JOIN windows AS w ON w.service = o.service AND o.happened_at >= w.start "
        "UNION SELECT k.service, k.deployment_key FROM changed_keys AS k SEMI JOIN windows USING (service)"
    )
    create_whole_attempts(engine, settings, "window_attempts", "window_keys")
    rows = con.execute(
        """
        SELECT w.service, w.start,
               (SELECT min(o.began_at) FROM old_deployments AS o
                JOIN window_keys AS k ON k.service = o.service AND k.deployment_key = o.deployment_key
                WHERE o.service = w.service AND o.outcome = 'success'),
               live.deployment_key, live.repository, live.sha, live.created_at, live.started_at, live.finished_at,
               live.sequence, live.environment, live.resolved, w.last
        FROM windows AS w
        JOIN old_deployments AS live ON live.service = w.service AND live.sequence = w.after
        WHERE live.identity = 'sha' AND live.revisions = 1
        """
    ).fetchall()
    return {
        service: (
            start,
            began_at,
            Deployment(
                service, key, [], "success", repository, environment, sha, None, None, created, started, finished, (),
                sequence, resolved=resolved, revisions={repository: sha},
            ),
            last,
        )
        for (
            service, start, began_at, key, repository, sha, created, started, finished, sequence, environment, resolved,
            last,
        ) in rows
    }  # fmt: skip


def _create_candidates(engine: DuckEngine, settings: Settings, path_filtered: Collection[str]) -> None:
    """The tables `candidates` (what nothing before a window reached) and `commit_facts` of these."""
    con = engine.con
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE candidates AS
        SELECT w.service, w.folded, r.sha, r.owner_sequence, r.counted
        FROM {lake_relation(settings, "commit_reach")} AS r
        JOIN windows AS w ON w.service = r.service AND (r.sequence IS NULL OR r.sequence > w.after)
        UNION ALL
        SELECT w.service, w.folded, a.sha, NULL, NULL
        FROM added_commits AS a JOIN windows AS w ON w.folded = a.folded
        """
    )
    create_named_commits(con, settings, "candidate_commits", "candidates")
    engine.create_view("commits", "SELECT * FROM candidate_commits")
    prepare_commits(engine, path_filtered)
    engine.read_lake("commits")


def _create_added_commits(con: duckdb.DuckDBPyConnection, since: Since) -> None:
    """The table `added_commits` (folded, sha): those that came, and those that the cut-off has passed."""
    queries = [f"SELECT lower(repository) AS folded, sha FROM commits WHERE {since.passed('committed_at')}"]
    if "commits" in since.entities:
        queries.append(
            "SELECT lower(n.repository), n.sha FROM commits_now AS n, params WHERE n.committed_at <= params.now "
            "AND NOT EXISTS (SELECT 1 FROM commits_before AS b WHERE b.sha = n.sha AND b.repository = n.repository)"
        )
    con.execute(f"CREATE OR REPLACE TABLE added_commits AS {' UNION '.join(queries)}")


def _create_changed_requests(engine: DuckEngine, since: Since) -> None:
    """The tables `changed_requests` (folded, number) and `request_shas_before` (folded, sha)."""
    times = since.passed("created_at", "first_review_at", "approved_at", "merged_at")
    changed = [f"SELECT lower(repository) AS folded, number FROM pull_requests WHERE {times}"]
    shas = "SELECT CAST(NULL AS VARCHAR) AS folded, CAST(NULL AS VARCHAR) AS sha WHERE false"
    if "pull_requests" in since.entities:
        changed.append(f"SELECT lower(repository), number FROM {changed_rows('pull_requests')}")
        named = "lower(repository) AS folded, unnest(list_append(coalesce(commits, []), merge_commit_sha)) AS sha"
        shas = f"SELECT folded, sha FROM (SELECT {named} FROM pull_requests_before) WHERE sha IS NOT NULL"
    engine.create_table("changed_requests", " UNION ".join(changed))
    engine.create_table("request_shas_before", shas)


def _create_requests(engine: DuckEngine, settings: Settings) -> None:
    """The table `window_requests`.

    A window needs the pull requests that name one of its commits, that one of them reverts, or that have changed.
    """
    requests = lake_relation(settings, "pull_requests")
    engine.create_table(
        "wanted_requests",
        f"""
        SELECT c.service, c.folded, r.number FROM candidates AS c
        JOIN (SELECT lower(repository) AS folded, number,
                     unnest(list_append(coalesce(commits, []), merge_commit_sha)) AS sha FROM {requests}) AS r
          ON r.folded = c.folded AND r.sha = c.sha
        UNION
        SELECT c.service, c.folded, CAST(unnest(f.reverts_pull_requests) AS BIGINT) FROM candidates AS c
        JOIN commit_facts AS f ON f.folded = c.folded AND f.sha = c.sha
        UNION
        SELECT w.service, w.folded, r.number FROM changed_requests AS r JOIN windows AS w ON w.folded = r.folded
        """,
    )
    engine.create_view(
        "pull_requests",
        f"SELECT entry.* FROM {requests} AS entry SEMI JOIN wanted_requests AS wanted "
        "ON wanted.folded = lower(entry.repository) AND wanted.number = entry.number",
    )
    create_tables(engine, "pull_request_facts")
    engine.read_lake("pull_requests")
    columns = ", ".join(f"r.{name}" for name in PULL_REQUEST_COLUMNS)
    engine.create_table(
        "window_requests",
        f"SELECT wanted.service, {columns} FROM wanted_requests AS wanted "
        "JOIN pull_request_facts AS r ON r.folded = wanted.folded AND r.number = wanted.number",
    )


def _create_asked(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """The tables `asked` (service, folded, sha), `asked_and_found` of those that are no candidates, and `twins`."""
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE asked AS
        SELECT a.service, w.folded, a.sha FROM window_attempts AS a JOIN windows AS w ON w.service = a.service
        UNION SELECT r.service, r.folded, unnest(r.commits) FROM window_requests AS r
        UNION SELECT r.service, r.folded, r.merge_commit_sha FROM window_requests AS r
              WHERE r.merge_commit_sha IS NOT NULL
        UNION SELECT w.service, b.folded, b.sha FROM request_shas_before AS b JOIN windows AS w ON w.folded = b.folded
        UNION SELECT c.service, c.folded, unnest(list_concat(f.reverts, f.picked_from))
              FROM candidates AS c JOIN commit_facts AS f ON f.folded = c.folded AND f.sha = c.sha
              WHERE len(f.reverts) > 0 OR len(f.picked_from) > 0
        """
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE asked_elsewhere AS SELECT a.*, r.sha IS NOT NULL AS is_reached FROM asked AS a "
        f"LEFT JOIN {lake_relation(settings, 'commit_reach')} AS r ON r.service = a.service AND r.sha = a.sha "
        "WHERE NOT EXISTS (SELECT 1 FROM candidates AS c WHERE c.service = a.service AND c.sha = a.sha)"
    )
    # The services' own repositories told of no other commit in the place of one: what was reached is still there.
    unknown = "(SELECT folded, sha FROM asked_elsewhere WHERE NOT is_reached)"
    create_named_commits(con, settings, "asked_commits", unknown, "repository, sha, committed_at")
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE asked_and_found AS
        SELECT a.service, a.sha FROM asked_elsewhere AS a WHERE a.is_reached OR EXISTS (
            SELECT 1 FROM asked_commits AS c, params
            WHERE lower(c.repository) = a.folded AND c.sha = a.sha AND c.committed_at <= params.now
        )
        """
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE twins AS SELECT lower(c.repository) AS folded, c.sha, c.patch_id "
        "FROM commits AS c, params WHERE c.committed_at <= params.now AND c.patch_id IN "
        "(SELECT patch_id FROM commit_facts WHERE patch_id IS NOT NULL AND patch_id <> '')"
    )


def _names_before(engine: DuckEngine, told: Pairs) -> defaultdict[str, set[str]]:
    """Which names of windows' deployments, and of those that incidents name, deployments before the windows have."""
    engine.create_values("told_names", {"service": "VARCHAR", "name": "VARCHAR"}, sorted(told))
    return _sets(
        engine.con,
        """
        WITH before AS (
            SELECT m.service, unnest([m.source_id, m.run_id]) AS name FROM matched_attempts AS m
            JOIN windows AS w ON w.service = m.service WHERE NOT EXISTS
            (SELECT 1 FROM window_keys AS k WHERE k.service = m.service
             AND k.deployment_key = coalesce(m.run_id, m.source_id))
        ), wanted AS (
            SELECT service, name FROM told_names
            UNION SELECT service, deployment_key FROM window_keys
            UNION SELECT service, unnest([source_id, run_id]) FROM window_attempts
        )
        SELECT DISTINCT before.service, before.name FROM before
        JOIN wanted ON wanted.service = before.service AND wanted.name = before.name
        """,
    )


def create_references(engine: DuckEngine, path_filtered: Collection[str], *, is_prepared: bool) -> str:
    """A query of the rows of `commit_references`, all anew.

    `is_prepared` says that `commit_facts` holds all commits.
    """
    if not is_prepared:
        prepare_commits(engine, path_filtered)
    orphans = _PARENTS.format(known="commit_facts")
    return f"{_NAMED} UNION SELECT * FROM ({orphans})"


def create_more_references(
    engine: DuckEngine, settings: Settings, since: Since, path_filtered: Collection[str]
) -> str | None:
    """As `create_references`, of the rows of the last build and what `added_commits` name; None for no other rows."""
    con = engine.con
    if not con.execute("SELECT 1 FROM added_commits LIMIT 1").fetchall():
        return None
    passed = f"SELECT * FROM {lake_relation(settings, 'commits')} WHERE {since.passed('committed_at')}"
    came = " UNION BY NAME SELECT * FROM commits_now" if "commits" in since.entities else ""
    engine.create_view(
        "commits",
        f"SELECT entry.* FROM ({passed}{came}) AS entry SEMI JOIN added_commits AS a "
        "ON a.sha = entry.sha AND a.folded = lower(entry.repository)",
    )
    prepare_commits(engine, path_filtered)
    engine.read_lake("commits")
    parents = "(SELECT folded, unnest(parents) AS sha FROM commit_facts)"
    create_named_commits(con, settings, "parent_commits", parents, "repository, sha, committed_at")
    engine.create_table(
        "known_parents",
        "SELECT DISTINCT lower(c.repository) AS folded, c.sha FROM parent_commits AS c, params "
        "WHERE c.committed_at <= params.now",
    )
    orphans = _PARENTS.format(known="known_parents")
    return f"""
        SELECT r.* FROM {lake_relation(settings, "commit_references")} AS r WHERE NOT (r.kind = 'parent' AND EXISTS
            (SELECT 1 FROM added_commits AS a WHERE a.folded = r.repository AND a.sha = r.named))
        UNION {_NAMED} UNION SELECT * FROM ({orphans})
    """


_NAMED = """
    SELECT folded AS repository, sha, 'revert' AS kind, unnest(reverts) AS named FROM commit_facts
    WHERE len(reverts) > 0
    UNION SELECT folded, sha, 'revert_pull_request', unnest(reverts_pull_requests) FROM commit_facts
    WHERE len(reverts_pull_requests) > 0
    UNION SELECT folded, sha, 'picked_from', unnest(picked_from) FROM commit_facts WHERE len(picked_from) > 0
"""
_PARENTS = """
    SELECT child.folded AS repository, child.sha, 'parent' AS kind, child.parent AS named
    FROM (SELECT folded, sha, unnest(parents) AS parent FROM commit_facts) AS child
    WHERE NOT EXISTS (SELECT 1 FROM {known} AS known WHERE known.folded = child.folded AND known.sha = child.parent)
"""
