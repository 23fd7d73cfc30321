"""The GraphQL half of the fake: GitHub's own schema, executed by graphql-core over the world.

A field that GitHub does not have is refused, and so is a fixture of the wrong type.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from graphql import GraphQLError, GraphQLSchema, build_ast_schema, graphql_sync, parse

from tests.fakes.github.world import Deployment, Pull, Release, Repository, World, text

SCHEMA = Path(__file__).parent.parent / "node_modules/@octokit/graphql-schema/schema.graphql"


@cache
def schema() -> GraphQLSchema:
    if not SCHEMA.exists():
        raise RuntimeError(f"{SCHEMA} is not there: run `make test`, which installs it")
    return build_ast_schema(parse(SCHEMA.read_text("utf-8"), no_location=True), assume_valid=True)


def execute(world: World, document: str, variables: dict[str, Any]) -> dict[str, Any]:
    """What GitHub would answer: `data`, and `errors` where there are some."""
    result = graphql_sync(schema(), document, _Root(world), variable_values=variables, field_resolver=_field)
    found: dict[str, Any] = {"data": result.data}
    if result.errors:
        found["errors"] = [{"message": error.message, "path": error.path} for error in result.errors]
    return found


def _field(source: Any, info: Any, **arguments: Any) -> Any:
    value = source[info.field_name] if isinstance(source, dict) else getattr(source, info.field_name)
    return value(**arguments) if callable(value) else value


class _Root:
    def __init__(self, world: World) -> None:
        self._world = world

    def organization(self, login: str) -> Any:
        if login != self._world.organization:
            raise GraphQLError(f"Could not resolve to an Organization with the login of '{login}'.")
        repositories = sorted(self._world.repositories.values(), key=lambda one: (one.created_at, one.id))
        return {"repositories": _connection([_repository(one) for one in repositories], lambda one: one["databaseId"])}

    def repository(self, owner: str, name: str, **_: Any) -> Any:
        for one in self._world.repositories.values():
            if name == one.name or name in one.former_names:
                return _repository(one)
        raise GraphQLError(f"Could not resolve to a Repository with the name '{owner}/{name}'.")

    def node(self, id: str) -> Any:
        return _node(self._world, id)

    def nodes(self, ids: list[str]) -> list[Any]:
        if len(ids) > 100:
            raise GraphQLError("You may not provide more than 100 node ids")
        return [_node(self._world, one) or GraphQLError(f"Could not resolve to a node with '{one}'") for one in ids]


def _node(world: World, identity: str) -> Any:
    for repository in world.repositories.values():
        if repository.node_id == identity:
            return _repository(repository)
        for deployment in repository.deployments:
            if f"DE_{deployment.id}" == identity:
                return _deployment(repository, deployment)
        for pull in repository.pulls:
            if f"PR_{pull.id}" == identity:
                return _pull(pull)
    return None


def _connection(nodes: list[Any], position: Callable[[Any], Any]) -> Callable[..., Any]:
    """A list read by position: what is added in front of a cursor moves nothing behind it."""

    def read(first: int, after: str | None = None, **_: Any) -> Any:
        if not 1 <= first <= 100:
            raise GraphQLError(f"Requesting {first} records exceeds the `first` limit of 100 records.")
        start = 0
        if after is not None:
            places = [str(position(node)) for node in nodes]
            start = places.index(after) + 1 if after in places else _behind(nodes, position, after)
        shown = nodes[start : start + first]
        return {
            "totalCount": len(nodes),
            "nodes": shown,
            "pageInfo": {
                "hasNextPage": start + first < len(nodes),
                "endCursor": str(position(shown[-1])) if shown else after,
            },
        }

    return read


def _behind(nodes: list[Any], position: Callable[[Any], Any], after: str) -> int:
    """Where a cursor stands whose item has moved: all lists here are newest first, and cursors begin with the time."""
    return sum(str(position(node)) > after for node in nodes)


def _repository(one: Repository) -> dict[str, Any]:
    pulls = sorted(one.pulls, key=lambda pull: (pull.updated_at, pull.id), reverse=True)
    deployments = sorted(one.deployments, key=lambda made: (made.created_at, made.id), reverse=True)
    issues = sorted(one.issues, key=lambda issue: (issue.updated_at, issue.id), reverse=True)
    releases = sorted(one.releases, key=lambda made: (made.created_at, made.id), reverse=True)
    head = {"name": "main", "target": {"__typename": "Commit", "oid": one.head}} if one.head else None
    return {
        "__typename": "Repository",
        "id": one.node_id,
        "databaseId": one.id,
        "nameWithOwner": one.full_name,
        "url": one.clone_url,
        "pushedAt": text(one.pushed_at),
        "defaultBranchRef": head,
        "pullRequests": _connection([_pull(pull) for pull in pulls], lambda node: (node["updatedAt"], node["id"])),
        "deployments": _connection(
            [_deployment(one, made) for made in deployments], lambda node: (node["createdAt"], node["id"])
        ),
        "issues": _connection(
            [{"updatedAt": text(issue.updated_at), "id": issue.id} for issue in issues],
            lambda node: (node["updatedAt"], node["id"]),
        ),
        "releases": _connection(
            [_release(made) for made in releases], lambda node: (node["createdAt"], node["databaseId"])
        ),
    }


def _release(made: Release) -> dict[str, Any]:
    return {"databaseId": made.id, "createdAt": text(made.created_at), "updatedAt": text(made.updated_at)}


def _pull(pull: Pull) -> dict[str, Any]:
    reviews = [
        {
            "databaseId": review.id,
            "state": review.state,
            "submittedAt": text(review.submitted_at),
            "author": _person(review.author),
        }
        for review in pull.reviews
    ]
    state = "MERGED" if pull.merged_at else "CLOSED" if pull.closed_at else "OPEN"
    return {
        "__typename": "PullRequest",
        "id": f"PR_{pull.id}",
        "databaseId": pull.id,
        "number": pull.number,
        "title": pull.title,
        "state": state,
        "createdAt": text(pull.created_at),
        "updatedAt": text(pull.updated_at),
        "mergedAt": text(pull.merged_at),
        "closedAt": text(pull.closed_at),
        "headRefName": pull.head_ref,
        "author": _person(pull.author),
        "mergeCommit": {"oid": pull.merge_sha} if pull.merge_sha else None,
        "labels": _connection([{"name": label} for label in pull.labels], lambda node: node["name"]),
        "commits": _connection([{"commit": {"oid": sha}} for sha in pull.commits], lambda node: node["commit"]["oid"]),
        "reviews": _connection(reviews, lambda node: node["databaseId"]),
    }


def _deployment(repository: Repository, made: Deployment) -> dict[str, Any]:
    statuses = [
        {"state": state, "createdAt": text(at), "logUrl": log, "updatedAt": text(at)}
        for state, at, log in reversed(made.statuses)
    ]
    return {
        "__typename": "Deployment",
        "id": f"DE_{made.id}",
        "databaseId": made.id,
        "environment": made.environment,
        "commitOid": made.sha,
        "createdAt": text(made.created_at),
        "updatedAt": text(made.updated_at),
        "state": "ACTIVE",
        "task": "deploy",
        "ref": {"name": "main"},
        "creator": _person(made.creator),
        "statuses": _connection(statuses, lambda node: node["createdAt"]),
        "repository": {"databaseId": repository.id},
    }


def _person(login: str | None) -> dict[str, Any] | None:
    return {"__typename": "User", "login": login} if login else None
