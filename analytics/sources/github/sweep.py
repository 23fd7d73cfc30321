"""What an organisation's repositories look like from afar: one query per hundred tells which of them changed.

Source: ingestion.md section 5 (organisation sweep).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from analytics.errors import SourceError
from analytics.sources.github import queries
from analytics.sources.github.client import GitHubClient

# GitHub's times have whole seconds, and an answer may be a little old: what changed this lately may change unseen.
SETTLED = timedelta(minutes=1)


@dataclass(frozen=True)
class Sight:
    """One repository: its database id, node id, present name, where git reaches it, and when each list last moved.

    `seen_at` is GitHub's time of the look, which our clock need not agree with.

    `marks` gives, by entity, a text that differs when the list may have changed; an entity whose newest change is so
    recent that a second one could hide behind it has no mark.
    """

    database_id: str
    node_id: str
    name: str
    clone_url: str
    head: str | None
    created_at: datetime
    seen_at: datetime
    marks: Mapping[str, str]


# Gives what a look gave another shard of the source, or looks.
Share = Callable[[Callable[[], bytes]], bytes]


def shared_sweep(share: Share, look: Callable[[], dict[str, Sight]]) -> dict[str, Sight]:
    """The look of this shard or of another one; raises what `look` raises."""
    return msgspec.json.decode(share(lambda: msgspec.json.encode(look())), type=dict[str, Sight])


def sweep(client: GitHubClient, organization: str | None, repositories: Sequence[str]) -> dict[str, Sight]:
    """Every repository of an organisation, or those listed (`owner/name`), by database id.

    Raises SourceError when the organisation or a listed repository is not there or must not be read.
    """
    found: dict[str, Sight] = {}
    nodes = _of_organization(client, organization) if not repositories else _listed(client, repositories)
    for node, seen_at in nodes:
        sight = _sight(node, seen_at)
        found[sight.database_id] = sight
    return found


def _of_organization(client: GitHubClient, organization: str | None) -> Iterator[tuple[dict[str, Any], datetime]]:
    after = None
    while True:
        answer = client.query(queries.SWEEP, {"login": organization, "after": after})
        owner = answer.data.get("organization")
        if owner is None:
            raise SourceError(
                f"there is no organisation '{organization}', or the token must not see it",
                fix="Check `organization` and that the token or app may read it.",
            )
        connection = owner["repositories"]
        for node in connection["nodes"]:
            if node is not None:
                yield node, answer.server_time or datetime.now(UTC)
        if not connection["pageInfo"]["hasNextPage"]:
            return
        after = connection["pageInfo"]["endCursor"]


def _listed(client: GitHubClient, repositories: Sequence[str]) -> Iterator[tuple[dict[str, Any], datetime]]:
    for name in repositories:
        owner, _, repository = name.partition("/")
        answer = client.query(queries.SWEEP_REPOSITORY, {"owner": owner, "name": repository})
        node = answer.data.get("repository")
        if node is None:
            raise SourceError(
                f"there is no repository '{name}', or the token must not see it",
                fix="Check `repositories` and that the token or app may read it.",
            )
        yield node, answer.server_time or datetime.now(UTC)


def _sight(node: Mapping[str, Any], seen_at: datetime) -> Sight:
    branch = node.get("defaultBranchRef") or {}
    head = (branch.get("target") or {}).get("oid")
    pulls, deployments = node["pullRequests"], node["deployments"]
    issues, releases = node["issues"], node["releases"]
    marks = {
        "commits": _mark(seen_at, [node.get("pushedAt"), _newest(pulls, "updatedAt")], head),
        "pull_requests": _mark(seen_at, [_newest(pulls, "updatedAt")], pulls["totalCount"]),
        "deployments": _mark(
            seen_at,
            [_newest(deployments, "createdAt"), _newest(deployments, "updatedAt")],
            deployments["totalCount"],
        ),
        "incidents": _mark(seen_at, [_newest(issues, "updatedAt")], None),
        "releases": _mark(
            seen_at, [_newest(releases, "createdAt"), _newest(releases, "updatedAt")], releases["totalCount"]
        ),
    }
    return Sight(
        database_id=str(node["databaseId"]),
        node_id=str(node["id"]),
        name=str(node["nameWithOwner"]),
        clone_url=str(node["url"]),
        head=head,
        created_at=datetime.fromisoformat(node["createdAt"]),
        seen_at=seen_at,
        marks={entity: mark for entity, mark in marks.items() if mark is not None},
    )


def _newest(connection: Mapping[str, Any], field: str) -> str | None:
    nodes = [node for node in connection["nodes"] if node]
    return str(nodes[0][field]) if nodes and nodes[0].get(field) else None


def _mark(seen_at: datetime, times: Sequence[str | None], extra: object) -> str | None:
    for time in times:
        if time is not None and datetime.fromisoformat(time) > seen_at - SETTLED:
            return None
    return " ".join(str(part) for part in (*times, extra))
