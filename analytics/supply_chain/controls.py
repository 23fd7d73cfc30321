"""How people brought a deployment to production: reviewed, by more than one person, approved, with a ticket.

Source: metrics.md section 4 (indicator 12). What the controls ask is defined here:

- `review`: every commit that the deployment shipped first, bots' apart, came with a pull request that somebody approved
  before the deployment, who is neither the pull request's author nor the commit's.
- `separation_of_duties`: somebody who wrote none of these commits let it into production. With approvals that is one of
  the approvers; without any it is enough that no author deployed it.
- `approval`: somebody approved the deployment before it was finished.
- `change_ticket`: such an approval names a ticket.

A deployment that shipped no new commit has nothing to be reviewed. People are told apart by their logins, letter case
ignored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import duckdb

from analytics.globs import name_matches
from analytics.supply_chain.rules import Control

Key = tuple[str, str]
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a control, and why in a few words; not evaluated where its source is not collected."""

    outcome: Literal["passed", "failed", "not_evaluated"]
    note: str


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit of a person: its pull request with its author, and who approved that and when."""

    sha: str
    author: str | None
    pull_request: int | None
    request_author: str | None
    approvals: Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class _Approval:
    approver: str
    at: datetime
    ticket: str | None


def process_outcomes(con: duckdb.DuckDBPyConnection, bots: Collection[str]) -> dict[Key, dict[Control, Outcome]]:
    """The four controls of every successful deployment, by service and deployment key.

    Needs the views service_deployments, deployment_attempts, change_lead, pull_requests, reviews, approvals and
    collection.
    """
    collected = {entity for (entity,) in con.execute("SELECT DISTINCT entity FROM collection").fetchall()}
    commits = _commits(con)
    approvals = _approvals(con)
    creators: dict[Key, list[str]] = defaultdict(list)
    for service, key, creator in con.execute(
        "SELECT DISTINCT service, deployment_key, lower(creator) FROM deployment_attempts "
        "WHERE outcome = 'success' AND creator IS NOT NULL ORDER BY ALL"
    ).fetchall():
        creators[service, key].append(creator)
    found: dict[Key, dict[Control, Outcome]] = {}
    for service, key, kind, finished_at in con.execute(
        "SELECT service, deployment_key, kind, finished_at FROM service_deployments WHERE outcome = 'success'"
    ).fetchall():
        one = service, key
        known = commits.get(one, [])
        approved = [a for a in approvals.get(one, []) if finished_at is None or a.at <= finished_at]
        late = [a for a in approvals.get(one, []) if a not in approved]
        human = [name for name in creators.get(one, []) if not name_matches(name, bots)]
        found[one] = {
            "review": _review(known, kind, finished_at, collected),
            "separation_of_duties": _duties(known, kind, approved, creators.get(one, []), human, collected),
            "approval": _approval(approved, late, collected),
            "change_ticket": _ticket(approved, late, collected),
        }
    return found


def _commits(con: duckdb.DuckDBPyConnection) -> dict[Key, list[_Commit]]:
    rows = con.execute(
        """
        WITH approving AS (
            SELECT lower(repository) AS repository, number, list({'by': lower(reviewer), 'at': submitted_at}) AS given
            FROM reviews WHERE lower(state) = 'approved' GROUP BY ALL
        ), requests AS (
            SELECT lower(repository) AS repository, number, lower(min(author)) AS author
            FROM pull_requests GROUP BY ALL
        )
        SELECT c.service, c.deployment_key, c.sha, lower(c.author), c.pull_request, r.author, coalesce(a.given, [])
        FROM change_lead AS c
        LEFT JOIN requests AS r ON r.repository = lower(c.repository) AND r.number = c.pull_request
        LEFT JOIN approving AS a ON a.repository = lower(c.repository) AND a.number = c.pull_request
        WHERE NOT coalesce(c.is_bot, false) AND c.excluded IS DISTINCT FROM 'merge_commit'
        ORDER BY c.service, c.deployment_key, c.sha
        """
    )
    found: dict[Key, list[_Commit]] = defaultdict(list)
    while batch := rows.fetchmany(10_000):
        for service, key, *values in batch:
            found[service, key].append(_Commit(*values))
    return found


def _approvals(con: duckdb.DuckDBPyConnection) -> dict[Key, list[_Approval]]:
    """Approvals by the deployment that they name: by the id of one of its attempts, or by its key."""
    rows = con.execute(
        """
        WITH named AS (
            SELECT service, deployment_key, source_deployment_id AS id FROM deployment_attempts
            UNION SELECT service, deployment_key, deployment_key FROM deployment_attempts
        )
        SELECT DISTINCT named.service, named.deployment_key, lower(a.approver), a.approved_at,
               nullif(trim(a.ticket), '')
        FROM approvals AS a JOIN named ON named.id = a.deployment_id ORDER BY ALL
        """
    ).fetchall()
    found: dict[Key, list[_Approval]] = defaultdict(list)
    for service, key, approver, at, ticket in rows:
        found[service, key].append(_Approval(approver, at, ticket))
    return found


def _review(commits: Sequence[_Commit], kind: str, finished_at: datetime | None, collected: set[str]) -> Outcome:
    if not {"reviews", "pull_requests"} <= collected:
        missing = "reviews" if "reviews" not in collected else "pull requests"
        return Outcome("not_evaluated", f"no {missing} were collected")
    if kind == "unresolved":
        return Outcome("not_evaluated", "what it shipped is not in the known history")
    if not commits:
        return Outcome("passed", "it shipped no new commit of a person")
    wrong: dict[str, None] = {}
    for commit in commits:
        if commit.pull_request is None:
            wrong[f"commit {commit.sha[:7]} came without a pull request"] = None
        elif not any(
            one["by"] not in (commit.author, commit.request_author) and _before(one["at"], finished_at)
            for one in commit.approvals
        ):
            wrong[f"nobody else approved pull request #{commit.pull_request} before the deployment"] = None
    if not wrong:
        return Outcome("passed", f"{len(commits):,} commits, each in an approved pull request")
    return Outcome("failed", _listed(list(wrong)))


def _duties(
    commits: Sequence[_Commit],
    kind: str,
    approved: Sequence[_Approval],
    creators: Sequence[str],
    human: Sequence[str],
    collected: set[str],
) -> Outcome:
    if "approvals" not in collected and not creators:
        return Outcome("not_evaluated", "no approvals were collected, and nobody is named who deployed it")
    if kind == "unresolved":
        return Outcome("not_evaluated", "what it shipped is not in the known history")
    authors = {commit.author for commit in commits if commit.author}
    if not authors:
        return Outcome("passed", "it shipped no new commit of a person")
    approvers = [one.approver for one in approved]
    if approvers:
        others = [name for name in approvers if name not in authors]
        if others:
            return Outcome("passed", f"approved by {others[0]}, who wrote none of it")
        return Outcome("failed", f"approved by {_listed(approvers)} alone, who wrote some of it")
    own = [name for name in human if name in authors]
    if own:
        return Outcome("failed", f"deployed by {_listed(own)}, who wrote some of it, without anybody's approval")
    return Outcome("passed", f"deployed by {_listed(human) if human else 'a machine'}, without an approval")


def _approval(approved: Sequence[_Approval], late: Sequence[_Approval], collected: set[str]) -> Outcome:
    if "approvals" not in collected:
        return Outcome("not_evaluated", "no approvals were collected")
    if approved:
        return Outcome("passed", f"approved by {_listed([one.approver for one in approved])}")
    return Outcome("failed", "nobody approved it before it was finished" if late else "nobody approved it")


def _ticket(approved: Sequence[_Approval], late: Sequence[_Approval], collected: set[str]) -> Outcome:
    if "approvals" not in collected:
        return Outcome("not_evaluated", "no approvals were collected")
    tickets = [one.ticket for one in approved if one.ticket]
    if tickets:
        return Outcome("passed", _listed(tickets))
    if approved:
        return Outcome("failed", "its approval names no ticket")
    return Outcome(
        "failed", "nobody approved it before it was finished" if late else "it has no approval with a ticket"
    )


def _before(at: object, finished_at: datetime | None) -> bool:
    return finished_at is None or not isinstance(at, datetime) or at <= finished_at


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:_MOST_NAMED])
    return f"{shown} and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else shown
