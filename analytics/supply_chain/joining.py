"""Which artifacts a deployment shipped, and how we know: the join that stands on every row.

Source: supply-chain.md section 1 (The join).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import duckdb

from analytics.globs import name_matches

# Strongest first: the deployment's own words, what its host was told of it, what was released or built of its commit,
# the commit alone.
JoinKind = Literal["payload", "record", "release", "commit"]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A successful production deployment; `digest` is what it names itself, `source_sha` the commit that it claims.

    The repository of a GitOps deployment is that of the configuration, whose commits nobody builds: it claims the
    commit that an unverified record of its artifact names, and else none.
    """

    service: str
    deployment_key: str
    deployment_id: str
    repository: str
    source_repository: str
    sha: str | None
    ref: str | None
    digest: str | None
    run_id: str | None
    finished_at: datetime | None
    day: date
    sequence: int | None
    source_sha: str | None
    environment: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shipped:
    """One artifact of a deployment; without a digest only its commit is known."""

    deployed: Deployed
    digest: str | None
    join_kind: JoinKind
    artifact: str | None = None


def read_deployments(con: duckdb.DuckDBPyConnection) -> list[Deployed]:
    """Successful deployments by service and time.

    Needs the views service_deployments, deployment_attempts, services and artifacts.
    """
    rows = con.execute(
        """
        WITH shipped AS (
            SELECT service, deployment_key, arg_min(source_deployment_id, finished_at) AS deployment_id,
                   arg_min(run_id, finished_at) AS run_id
            FROM deployment_attempts WHERE outcome = 'success' GROUP BY ALL
        ), built AS (
            SELECT lower(digest) AS digest, arg_min(sha, name) FILTER (sha IS NOT NULL) AS sha
            FROM artifacts GROUP BY 1
        )
        SELECT d.service, d.deployment_key, coalesce(s.deployment_id, d.deployment_key), d.repository,
               services.repository, d.sha, d.ref, lower(d.digest), s.run_id, d.finished_at, d.day, d.sequence,
               CASE WHEN lower(d.repository) = lower(services.repository) THEN d.sha
                    WHEN d.identity = 'artifact_unverified' THEN built.sha END,
               d.environment, coalesce(d.created_at, d.started_at)
        FROM service_deployments AS d JOIN services USING (service)
        LEFT JOIN shipped AS s USING (service, deployment_key)
        LEFT JOIN built ON built.digest = lower(d.digest)
        WHERE d.outcome = 'success' ORDER BY d.service, d.sequence, d.finished_at, d.deployment_key
        """
    ).fetchall()
    return [Deployed(*row) for row in rows]


class Artifacts:
    """What was released or built, by commit, release tag and run; needs the view artifacts.

    `recorded` holds the digests that deployment records tell of a deployment (service, deployment key).
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        named: Mapping[str, Sequence[str]],
        recorded: Mapping[tuple[str, str], Collection[str]] | None = None,
    ) -> None:
        self._recorded = recorded or {}
        # Globs of artifact names by service: where a catalog entry has some, no other artifact is meant.
        self._named = named
        self._names: dict[str, str] = {}
        self._by: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for digest, name, repository, sha, run_id, release in con.execute(
            "SELECT lower(digest), name, lower(repository), sha, run_id, release FROM artifacts ORDER BY ALL"
        ).fetchall():
            self._names.setdefault(digest, name)
            for kind, value in (("sha", sha), ("run", run_id), ("release", release)):
                if value is not None and repository is not None:
                    self._by[kind, repository, value].add(digest)

    def of(self, deployed: Deployed) -> list[Shipped]:
        """The artifacts of a deployment, by the strongest join there is."""
        if deployed.digest is not None:
            return [Shipped(deployed, deployed.digest, "payload", self._names.get(deployed.digest))]
        globs = self._named.get(deployed.service)
        # A record tells no name: what no artifact is known of may be the one that is meant.
        told = {
            digest
            for digest in self._recorded.get((deployed.service, deployed.deployment_key), ())
            if not globs or digest not in self._names or name_matches(self._names[digest], globs)
        }
        if told:
            return [Shipped(deployed, digest, "record", self._names.get(digest)) for digest in sorted(told)]
        repository = deployed.repository.casefold()
        found: set[str] = set()
        for kind, value in (("run", deployed.run_id), ("sha", deployed.sha), ("release", deployed.ref)):
            found = found or set(self._by.get((kind, repository, value or ""), ()))
        if globs:
            found = {digest for digest in found if name_matches(self._names.get(digest), globs)}
        if found:
            return [Shipped(deployed, digest, "release", self._names.get(digest)) for digest in sorted(found)]
        return [Shipped(deployed, None, "commit")]


class Attestations:
    """Kept judgements by the digests they speak of, those they were handed in for, and by source and commit."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], stated: Mapping[str, set[str]]) -> None:
        self._by_digest: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._by_commit: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            digests = {*(row["subject_digests"] or ()), *stated.get(row["input_sha256"], ())}
            for digest in digests:
                self._by_digest[digest].append(row)
            if row["proven"] and row["source_commit"]:
                self._by_commit[_repository_name(row["source_repository_uri"]), row["source_commit"].casefold()].append(
                    row
                )

    def of(self, shipped: Shipped) -> list[Mapping[str, Any]]:
        """The judgements of everything that speaks of an artifact; of a commit where no artifact is known."""
        if shipped.digest is not None:
            return self._by_digest.get(shipped.digest, [])
        deployed = shipped.deployed
        return self._by_commit.get((deployed.source_repository.casefold(), (deployed.source_sha or "").casefold()), [])


def _repository_name(uri: str | None) -> str:
    return "/".join((uri or "").casefold().rstrip("/").split("/")[-2:])
