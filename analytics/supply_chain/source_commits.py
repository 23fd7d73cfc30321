"""What deployed artifacts were built of, as their verified provenance says: digest → provenance → commit.

A commit counts where the bundle verifies, its predicate is provenance that contradicts nothing, and the policy trusts
its issuer and its source repository for the service that deployed the artifact. Which workflow signed, and how it was
started and run, is a finding of the stage `verify` and changes nothing about what was built. Source: metrics.md
sections 1, 6 (E33) and 8 (identity).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import duckdb

from analytics.lake.parts import TableParts
from analytics.lake.tables import create_views
from analytics.settings import Settings
from analytics.supply_chain.facts import DeploymentFacts
from analytics.supply_chain.judging import kept_facts, roots_sha256, trusted_roots
from analytics.supply_chain.keeping import judge_bundles_of
from analytics.supply_chain.policy import VERIFIED, evaluate
from analytics.supply_chain.rules import Policies, Policy, load_policies

_ASKED = ("statement_type", "predicate_type", "issuer", "source_repository", "claims")


class SourceCommits:
    """Verified provenance by the artifact it is of; the earliest attestation of an artifact comes first."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], policies: Policies, today: date, repository_ids: Mapping[str, str]
    ) -> None:
        self._policies = policies
        self._today = today
        self._ids = repository_ids
        self._names = {repository_id: name for name, repository_id in repository_ids.items()}
        self._cached: dict[tuple[str, str | None], Policy] = {}
        self._of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            for digest in row["subject_digests"] or ():
                self._of[digest].append(row)

    def of(self, service: str, repository: str, digest: str) -> tuple[tuple[str, str], ...]:
        """The (repository, commit) pairs that an artifact of a service was built of; mostly one, often none."""
        found: dict[tuple[str, str], None] = {}
        for row in self._of.get(digest.casefold(), ()):
            if self._is_trusted(row, service, repository):
                built_in = self._repository(row)
                own = built_in.casefold() == repository.casefold()
                found[repository if own else built_in, row["source_commit"]] = None
        return tuple(found)

    def repositories(self) -> Iterator[tuple[str, str]]:
        """Artifacts with the repository that they were built of, where the policy trusts that repository's own."""
        for digest, rows in self._of.items():
            for row in rows:
                if self._is_trusted(row, None, self._repository(row)):
                    yield digest, self._repository(row)
                    break

    def _repository(self, row: Mapping[str, Any]) -> str:
        """The name by which the repository of the source is known now: it may have had another when it was built."""
        named = self._names.get(row["source_repository_id"] or "")
        return named or urlsplit(row["source_repository_uri"] or "").path.strip("/")

    def _is_trusted(self, row: Mapping[str, Any], service: str | None, repository: str) -> bool:
        key = repository, service
        if key not in self._cached:
            self._cached[key] = self._policies.of(*key, self._today)
        deployment = DeploymentFacts(service, repository, self._ids.get(repository.casefold()))
        checks = evaluate(kept_facts(row), deployment, self._cached[key])
        return all(not check.failed for check in checks if check.name in _ASKED)


def source_commits(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    parts: TableParts,
    digests: Collection[str],
    repository_ids: Mapping[str, str],
) -> SourceCommits:
    """What the provenance of some artifacts (`sha256:…`) says; bundles that are new are judged, and kept for `verify`.

    `repository_ids` gives the host's ids by folded name. What was attested after the cut-off has not happened. Needs
    the view attestations. Raises SettingsError for a policy file or trusted roots that cannot be read.
    """
    roots = trusted_roots(settings.supply_chain.trusted_roots)
    policies = load_policies(settings.supply_chain.policies)
    create_views(con, settings, "attestation_judgements")
    judge_bundles_of(con, settings, roots, parts, digests)
    now = settings.now().astimezone(UTC).replace(tzinfo=None)
    today = settings.calendar.local_day(settings.now())
    return SourceCommits(_verified(con, roots_sha256(roots), now), policies, today, repository_ids)


def _verified(con: duckdb.DuckDBPyConnection, roots_hash: str, now: datetime) -> list[dict[str, Any]]:
    found = con.execute(
        "SELECT * EXCLUDE (certificate, exception) FROM attestation_judgements "
        "WHERE roots_sha256 = ? AND proven AND list_contains(?, verdict) AND source_commit IS NOT NULL "
        "AND verified_at <= ? AND input_sha256 IN (SELECT input_sha256 FROM present_bundles) "
        "ORDER BY verified_at, input_sha256, place",
        [roots_hash, list(VERIFIED), now],
    )
    names = [column[0] for column in found.description]
    return [dict(zip(names, values, strict=True)) for values in found.fetchall()]
