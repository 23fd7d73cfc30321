"""The world's items as GraphQL sees them: fields, and connections that are read by position."""

from __future__ import annotations

import base64
import bisect
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from graphql import GraphQLError, GraphQLResolveInfo

from tests.fakes.github.world import Commit, Deployment, Issue, Pull, Release, Repository, Tag, World, text

Node = dict[str, Any]
Key = tuple[Any, ...]
# Limit, points left, and the second at which the window ends.
Budget = tuple[int, int, int]
MOST = 100


def problem(kind: str, message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"type": kind})


def field_of(source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
    """A field of a node; one that GitHub has and the world has not is an error that says so."""
    name = info.field_name
    missing = object()
    value = source.get(name, missing) if isinstance(source, dict) else getattr(source, name, missing)
    if value is missing:
        raise GraphQLError(f"the world of this fake has no {info.parent_type.name}.{name}")
    if not callable(value):
        if arguments:
            raise GraphQLError(f"this fake plays no arguments of {info.parent_type.name}.{name}")
        return value
    return value(name, **_played(value, name, info.parent_type.name, arguments))


def _played(value: Callable[..., Any], name: str, parent: str, arguments: dict[str, Any]) -> dict[str, Any]:
    code = getattr(value, "__func__", value).__code__
    takes = frozenset(code.co_varnames[: code.co_argcount])
    if unknown := arguments.keys() - takes - IGNORED.get(name, frozenset()):
        raise GraphQLError(f"this fake does not play {', '.join(sorted(unknown))} of {parent}.{name}")
    return {name: given for name, given in arguments.items() if name in takes}


# Arguments whose defaults of the schema say nothing here.
IGNORED = {"repositories": frozenset({"ownerAffiliations"}), "repository": frozenset({"followRenames"})}


class Root:
    """The query's entry points."""

    def __init__(self, world: World, cost: tuple[int, int], budget: Budget) -> None:
        self._world = world
        self._cost = cost
        self._budget = budget

    def organization(self, field: str, login: str) -> Any:
        if login.lower() != self._world.organization.lower():
            raise problem("NOT_FOUND", f"Could not resolve to an Organization with the login of '{login}'.")
        orders = {
            "CREATED_AT": lambda one: (text(one.created_at), one.id),
            "PUSHED_AT": lambda one: (text(one.pushed_at), one.id),
            "NAME": lambda one: (one.name.lower(), one.id),
        }
        return {
            "__typename": "Organization",
            "id": f"O_{self._world.organization}",
            "login": self._world.organization,
            "repositories": connection(self._world.repositories.values(), repository_node, orders, "CREATED_AT"),
        }

    def repository(self, field: str, owner: str, name: str) -> Any:
        found, _ = self._world.named(name)
        if found is None or owner.lower() != self._world.organization.lower():
            raise problem("NOT_FOUND", f"Could not resolve to a Repository with the name '{owner}/{name}'.")
        return repository_node(found)

    def node(self, field: str, id: str) -> Any:
        if id not in self._world.nodes:
            raise problem("NOT_FOUND", f"Could not resolve to a node with the global id of '{id}'")
        return _node(*self._world.nodes[id])

    def nodes(self, field: str, ids: list[str]) -> list[Any]:
        if len(ids) > MOST:
            raise problem("ARGUMENT_LIMIT", f"You may not provide more than {MOST} node ids; you provided {len(ids)}.")
        return [_node(*self._world.nodes[one]) if one in self._world.nodes else _gone(one) for one in ids]

    def rateLimit(self, field: str, dryRun: bool = False) -> Any:  # noqa: N802, N803
        limit, left, resets_at = self._budget
        cost, nodes = self._cost
        return {
            "cost": cost,
            "limit": limit,
            "nodeCount": nodes,
            "remaining": left,
            "resetAt": text(datetime.fromtimestamp(resets_at, UTC)),
            "used": limit - left,
        }


def _gone(identity: str) -> GraphQLError:
    # An exception as a value: this element alone becomes null, with an error beside it.
    return problem("NOT_FOUND", f"Could not resolve to a node with the global id of '{identity}'")


def _node(repository: Repository, item: Any) -> Node:
    if isinstance(item, Repository):
        return repository_node(item)
    if isinstance(item, Pull):
        return pull_node(item)
    if isinstance(item, Deployment):
        return deployment_node(repository, item)
    if isinstance(item, Issue):
        return issue_node(item)
    return release_node(item) if isinstance(item, Release) else commit_node(item)


# --- connections -----------------------------------------------------------------------------------------------------


def connection(
    items: Iterable[Any],
    node_of: Callable[[Any], Node],
    orders: dict[str, Callable[[Any], Key]],
    default: str,
    falling: bool = False,
) -> Callable[..., Node]:
    """A list whose cursors hold the sorting key: what comes or goes in front of a cursor moves nothing behind it.

    Keys end with something unique. `default` and `falling` hold where no order is asked for.
    """

    def read(
        field: str,
        first: int | None = None,
        after: str | None = None,
        orderBy: dict[str, str] | None = None,  # noqa: N803
    ) -> Node:
        if first is None:
            said = f"You must provide a `first` or `last` value to properly paginate the `{field}` connection."
            raise problem("MISSING_PAGINATION_BOUNDARIES", said)
        if first > MOST:
            where = f"on the `{field}` connection exceeds the `first` limit of {MOST} records."
            said = f"Requesting {first} records {where}"
            raise problem("EXCESSIVE_PAGINATION", said)
        if first < 0:
            raise problem("INVALID_PAGINATION", f"`first` on the `{field}` connection cannot be less than zero.")
        by = orderBy["field"] if orderBy else default
        down = orderBy["direction"] == "DESC" if orderBy else falling
        if by not in orders:
            raise GraphQLError(f"this fake does not order {field} by {by}")
        rising = sorted(items, key=orders[by])
        low, high = 0, len(rising)
        if after is not None:
            place = _decoded(after, [by, down], field)
            if down:
                high = bisect.bisect_left(rising, place, key=orders[by])
            else:
                low = bisect.bisect_right(rising, place, key=orders[by])
        left = high - low
        shown = rising[max(low, high - first) : high][::-1] if down else rising[low : low + first]
        cursors = [_encoded([by, down], orders[by](one)) for one in shown]
        nodes = [node_of(one) for one in shown]
        return {
            "totalCount": len(rising),
            "nodes": nodes,
            "edges": [{"cursor": cursor, "node": node} for cursor, node in zip(cursors, nodes, strict=True)],
            "pageInfo": {
                "hasNextPage": left > len(shown),
                "hasPreviousPage": left < len(rising),
                "startCursor": cursors[0] if cursors else None,
                "endCursor": cursors[-1] if cursors else None,
            },
        }

    return read


def listed(items: Iterable[Any], node_of: Callable[[Any], Node]) -> Callable[..., Node]:
    """A list that has no order but its own."""
    place: Callable[[Any], Key] = lambda one: (one[0],)  # noqa: E731
    return connection(enumerate(items), lambda one: node_of(one[1]), {"": place, "CREATED_AT": place}, "")


def _encoded(order: list[Any], key: Key) -> str:
    return base64.b64encode(json.dumps(["v2", order, list(key)]).encode()).decode()


def _decoded(cursor: str, order: list[Any], field: str) -> Key:
    try:
        version, of, key = json.loads(base64.b64decode(cursor, validate=True))
    except ValueError:
        version, of, key = "", [], []
    if version != "v2" or of != order:
        said = f"`{cursor}` does not appear to be a valid cursor of the `{field}` connection."
        raise problem("INVALID_CURSOR_ARGUMENTS", said)
    return tuple(key)


# --- nodes -----------------------------------------------------------------------------------------------------------


def _created(one: Any) -> Key:
    return text(one.created_at), one.id


def _updated(one: Any) -> Key:
    return text(one.updated_at), one.id


def repository_node(one: Repository) -> Node:
    both = {"CREATED_AT": _created, "UPDATED_AT": _updated}
    releases = {"CREATED_AT": _created, "NAME": lambda made: (made.tag, made.id)}
    return {
        "__typename": "Repository",
        "id": one.node_id,
        "databaseId": one.id,
        "name": one.name,
        "nameWithOwner": one.full_name,
        "owner": {"__typename": "Organization", "login": one.owner},
        "url": one.clone_url,
        "isArchived": one.archived,
        "createdAt": text(one.created_at),
        "pushedAt": text(one.pushed_at),
        "defaultBranchRef": _head(one) if one.head else None,
        "pullRequests": connection(one.pulls, pull_node, both, "CREATED_AT"),
        "deployments": connection(
            one.deployments, lambda made: deployment_node(one, made), {"CREATED_AT": _created}, "CREATED_AT"
        ),
        "issues": connection(one.issues, issue_node, both, "CREATED_AT"),
        "releases": connection(one.releases, release_node, releases, "CREATED_AT", falling=True),
        "refs": _refs_of(one),
    }


def _refs_of(one: Repository) -> Callable[..., Node]:
    def read(
        field: str,
        refPrefix: str,  # noqa: N803
        first: int | None = None,
        after: str | None = None,
    ) -> Node:
        return _refs(one, refPrefix)(field, first, after)

    return read


def _refs(one: Repository, prefix: str) -> Callable[..., Node]:
    if prefix == "refs/heads/":
        named = [{"name": name, "target": commit_node(one.graph[sha])} for name, sha in one.branches.items()]
    elif prefix == "refs/tags/":
        named = [{"name": tag.name, "target": _tag_target(one, tag)} for tag in one.tags]
    else:
        raise GraphQLError(f"this fake has no refs {prefix}")
    by_name: dict[str, Callable[[Any], Key]] = {"": lambda ref: (ref["name"],)}
    return connection(named, lambda ref: ref, by_name, "")


def _tag_target(one: Repository, tag: Tag) -> Node:
    commit = commit_node(one.graph[tag.sha])
    if tag.tagged_at is None:
        return commit
    return {"__typename": "Tag", "oid": f"{tag.sha[::-1]}", "tagger": {"date": text(tag.tagged_at)}, "target": commit}


def _head(one: Repository) -> Node:
    newest = one.commits[0] if one.commits and one.commits[0].sha == one.head else None
    target = commit_node(newest) if newest else {"__typename": "Commit", "oid": one.head}
    return {"name": one.default_branch, "target": {**target, "history": listed(one.commits, commit_node)}}


def commit_node(one: Commit) -> Node:
    return {
        "__typename": "Commit",
        "id": f"C_{one.sha}",
        "oid": one.sha,
        "message": one.message,
        "authoredDate": text(one.authored_at),
        "committedDate": text(one.committed_at),
        "author": {"name": one.author, "user": _person(one.author)},
        "parents": listed(one.parents, lambda sha: {"__typename": "Commit", "oid": sha}),
    }


def release_node(one: Release) -> Node:
    return {
        "__typename": "Release",
        "id": f"RE_{one.id}",
        "databaseId": one.id,
        "tagName": one.tag,
        "name": one.tag,
        "isDraft": one.draft,
        "createdAt": text(one.created_at),
        "updatedAt": text(one.updated_at),
        "publishedAt": text(one.published_at),
    }


def issue_node(one: Issue) -> Node:
    return {
        "__typename": "Issue",
        "id": f"I_{one.id}",
        "databaseId": one.id,
        "fullDatabaseId": str(one.id),
        "number": one.number,
        "title": one.title,
        "state": "CLOSED" if one.closed_at else "OPEN",
        "createdAt": text(one.created_at),
        "updatedAt": text(one.updated_at),
        "closedAt": text(one.closed_at),
        "labels": listed(one.labels, lambda label: {"name": label}),
    }


def pull_node(one: Pull) -> Node:
    return {
        "__typename": "PullRequest",
        "id": f"PR_{one.id}",
        "databaseId": one.id,
        "fullDatabaseId": str(one.id),
        "number": one.number,
        "title": one.title,
        "state": "MERGED" if one.merged_at else "CLOSED" if one.closed_at else "OPEN",
        "createdAt": text(one.created_at),
        "updatedAt": text(one.updated_at),
        "mergedAt": text(one.merged_at),
        "closedAt": text(one.closed_at),
        "headRefName": one.head_ref,
        "headRepository": {"__typename": "Repository", "nameWithOwner": one.head_repository}
        if one.head_repository
        else None,
        "author": _person(one.author),
        "mergeCommit": {"__typename": "Commit", "oid": one.merge_sha} if one.merge_sha else None,
        "labels": listed(one.labels, lambda label: {"name": label}),
        "commits": listed(one.commits, lambda sha: {"commit": {"__typename": "Commit", "oid": sha}}),
        "reviews": listed(one.reviews, _review),
    }


def _review(one: Any) -> Node:
    return {
        "__typename": "PullRequestReview",
        "databaseId": one.id,
        "fullDatabaseId": str(one.id),
        "state": one.state,
        "submittedAt": text(one.submitted_at),
        "author": _person(one.author),
    }


def deployment_node(repository: Repository, one: Deployment) -> Node:
    # Newest first.
    statuses = [
        {"state": state, "createdAt": text(at), "updatedAt": text(at), "logUrl": log}
        for state, at, log in reversed(one.statuses)
    ]
    last = one.statuses[-1].state if one.statuses else "PENDING"
    return {
        "__typename": "Deployment",
        "id": f"DE_{one.id}",
        "databaseId": one.id,
        "environment": one.environment,
        "commitOid": one.sha,
        "createdAt": text(one.created_at),
        "updatedAt": text(one.updated_at),
        # What a status calls a success, a deployment calls active.
        "state": "ACTIVE" if last == "SUCCESS" else last,
        "task": "deploy",
        "payload": one.payload,
        "ref": {"name": one.ref} if one.ref else None,
        "creator": _person(one.creator),
        "statuses": listed(statuses, lambda status: status),
        "latestStatus": statuses[0] if statuses else None,
        "repository": lambda field: repository_node(repository),
    }


def _person(login: str | None) -> Node | None:
    return {"__typename": "User", "login": login} if login else None
