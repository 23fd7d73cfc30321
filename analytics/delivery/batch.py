"""A batch of services, from the rows of its typed tables to rows of facts: pure, so that any engine can call it.

DuckDB's build calls it in a loop, Spark's on its executors (analytics/delivery/on_spark.py): what is derived from rows
is written down here alone, and only how rows come together is an engine's own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from analytics.catalog import Service
from analytics.delivery.attempts import BuiltOf, attempts_of
from analytics.delivery.history import CommitFacts, History
from analytics.delivery.records import Incident, PullRequestFacts, Rules, ServiceFacts
from analytics.delivery.rows import Row, fact_rows
from analytics.delivery.service_facts import derive_service
from analytics.globs import name_matches
from analytics.periods import Calendar

# What a commit is made of, of a row of `commit_facts`; `folded` is its repository's name in small letters.
COMMIT_COLUMNS = (
    "folded",
    "sha",
    "parents",
    "author",
    "is_bot",
    "authored_at",
    "patch_id",
    "files",
    "reverts",
    "reverts_pull_requests",
    "picked_from",
)
# The same of a pull request, of a row of `pull_request_facts`.
PULL_REQUEST_COLUMNS = (
    "folded",
    "number",
    "title",
    "labels",
    "head_ref",
    "created_at",
    "first_review_at",
    "approved_at",
    "merged_at",
    "merge_commit_sha",
    "commits",
)
# The tables that a batch gives rows of.
FACT_TABLES = ("deployment_attempts", "service_deployments", "change_lead", "failure_links", "service_incidents")


@dataclass(frozen=True)
class Terms:
    """What the settings say about every service alike; nothing here is secret, for it travels to executors."""

    rules: Rules
    bots: tuple[str, ...]
    calendar: Calendar


@dataclass(frozen=True)
class Batch:
    """Services whose histories fit in memory together, with the rows that they need, in any order.

    `repositories` gives the folded names of each service's repositories; rows are of COMMIT_COLUMNS,
    PULL_REQUEST_COLUMNS and ATTEMPT_COLUMNS.
    """

    services: Sequence[Service]
    repositories: Mapping[str, Collection[str]]
    commits: Iterable[Sequence[Any]]
    pull_requests: Iterable[Sequence[Any]]
    attempts: Iterable[Sequence[Any]]
    incidents: Mapping[str, Sequence[Incident]]


def derive_batch(
    batch: Batch, terms: Terms, built_of: BuiltOf | None = None, *, with_reach: bool = False
) -> Iterator[tuple[str, Row]]:
    """Every fact of a batch's services as (table, row), service by service; `with_reach` adds `commit_reach`."""
    rules = terms.rules

    @lru_cache(maxsize=100_000)
    def local_day(moment: datetime) -> date:
        return terms.calendar.local_day(moment)

    histories = histories_of(batch.commits, terms.bots)
    requests = pull_requests_of(batch.pull_requests, rules.now)
    attempts = attempts_of(batch.attempts, rules.now, built_of)
    nothing = History(())
    for service in batch.services:
        own = batch.repositories[service.name]
        try:
            facts = derive_service(
                service,
                attempts.get(service.name, []),
                {name: histories.get(name, nothing) for name in own},
                {name: requests[name] for name in own if name in requests},
                batch.incidents.get(service.name, []),
                rules,
            )
            yield from fact_rows(facts, local_day)
        except Exception as error:
            error.add_note(f"while the facts of service '{service.name}' were derived")
            raise
        if with_reach:
            yield from reach_of(facts)


def reach_of(facts: ServiceFacts) -> Iterator[tuple[str, Row]]:
    """Rows of `commit_reach`, from which a later build continues a service."""
    name = facts.service.name
    for row in facts.reach:
        yield (
            "commit_reach",
            {
                "service": name,
                "sha": row.sha,
                "sequence": row.sequence,
                "owner_sequence": row.owner_sequence,
                "counted": row.counted,
            },
        )


def histories_of(rows: Iterable[Sequence[Any]], bots: Collection[str]) -> dict[str, History]:
    """Commit graphs by folded repository name; who is a bot is asked of an author's name where the record is silent."""
    commits: dict[str, list[CommitFacts]] = {}
    bot_names: dict[str | None, bool] = {}
    for folded, sha, parents, author, is_bot, authored_at, patch, files, reverts, pulls, picked in rows:
        if is_bot is None:
            if author not in bot_names:
                bot_names[author] = name_matches(author, bots)
            is_bot = bot_names[author]
        commits.setdefault(folded, []).append(
            CommitFacts(
                sha=sha,
                parents=tuple(parents or ()),
                author=author,
                is_bot=is_bot,
                authored_at=authored_at,
                patch_id=patch,
                files=None if files is None else tuple(files),
                reverts=tuple(reverts or ()),
                reverts_pull_requests=tuple(int(number) for number in pulls or ()),
                picked_from=tuple(picked or ()),
            )
        )
    return {name: History(found) for name, found in commits.items()}


def pull_requests_of(rows: Iterable[Sequence[Any]], now: datetime) -> dict[str, list[PullRequestFacts]]:
    """Pull requests by folded repository name, by number; what happened after the cut-off has not happened."""

    def known(at: datetime | None) -> datetime | None:
        return at if at is not None and at <= now else None

    requests: dict[str, list[PullRequestFacts]] = {}
    for folded, number, title, labels, head_ref, created, reviewed, approved, merged, merge_sha, shas in rows:
        requests.setdefault(folded, []).append(
            PullRequestFacts(
                repository=folded,
                number=number,
                title=title,
                labels=tuple(labels or ()),
                head_ref=head_ref,
                created_at=created,
                first_review_at=known(reviewed),
                approved_at=known(approved),
                merged_at=known(merged),
                merge_commit_sha=merge_sha,
                commits=tuple(shas or ()),
            )
        )
    for found in requests.values():
        found.sort(key=lambda request: request.number)
    return requests
