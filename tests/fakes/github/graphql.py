"""The GraphQL half of the fake: GitHub's own schema, executed by graphql-core over the world.

A field that GitHub does not have is refused, and so is a fixture of the wrong type.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    IntValueNode,
    SelectionSetNode,
    VariableNode,
    build_ast_schema,
    execute_sync,
    parse,
    validate,
)
from graphql.language import FragmentDefinitionNode, OperationDefinitionNode

from tests.fakes.github.nodes import Budget, Root, field_of
from tests.fakes.github.world import World

SCHEMA = Path(__file__).parent.parent / "node_modules/@octokit/graphql-schema/schema.graphql"
MOST_NODES = 500_000


def schema_path() -> Path:
    """Where GitHub's schema is; raises FileNotFoundError that says how to get it."""
    if not SCHEMA.is_file():
        raise FileNotFoundError(f"{SCHEMA} is not there: run `make test`, which installs GitHub's schema")
    return SCHEMA


@cache
def schema() -> GraphQLSchema:
    """The whole schema; under two seconds, once in a process."""
    return build_ast_schema(parse(schema_path().read_text("utf-8"), no_location=True), assume_valid=True)


@lru_cache(maxsize=200)
def read(document: str) -> tuple[DocumentNode | None, tuple[GraphQLError, ...]]:
    """A document and what is wrong with it by GitHub's own schema."""
    try:
        parsed = parse(document)
    except GraphQLError as error:
        return None, (error,)
    return parsed, tuple(validate(schema(), parsed))


def price(document: str, variables: dict[str, Any]) -> tuple[int, int]:
    """Points of the hour's limit, and nodes at most, by GitHub's published way of counting."""
    parsed, wrong = read(document)
    if parsed is None or wrong:
        return 1, 0
    fragments = {one.name.value: one for one in parsed.definitions if isinstance(one, FragmentDefinitionNode)}
    requests = nodes = 0

    def walk(selections: SelectionSetNode | None, times: int) -> None:
        nonlocal requests, nodes
        for one in selections.selections if selections else ():
            if isinstance(one, FragmentSpreadNode):
                walk(fragments[one.name.value].selection_set, times)
                continue
            inside = times
            size = _size(one, variables) if isinstance(one, FieldNode) else None
            if size is not None:
                requests += times
                nodes += times * size
                inside = times * size
            walk(one.selection_set, inside)  # type: ignore[attr-defined]

    for definition in parsed.definitions:
        if isinstance(definition, OperationDefinitionNode):
            walk(definition.selection_set, 1)
    return max(1, round(requests / 100)), nodes


def _size(field: FieldNode, variables: dict[str, Any]) -> int | None:
    for argument in field.arguments:
        if argument.name.value in ("first", "last"):
            if isinstance(argument.value, IntValueNode):
                return int(argument.value.value)
            if isinstance(argument.value, VariableNode):
                value = variables.get(argument.value.name.value)
                return value if isinstance(value, int) else None
    return None


def execute(world: World, document: str, variables: dict[str, Any], budget: Budget = (5000, 5000, 0)) -> dict[str, Any]:
    """What GitHub would answer: `data`, and `errors` where there are some."""
    parsed, wrong = read(document)
    if parsed is None or wrong:
        return {"errors": [_error(error) for error in wrong]}
    points, nodes = price(document, variables)
    if nodes > MOST_NODES:
        said = f"This query requests up to {nodes:,} possible nodes which exceeds the maximum limit of {MOST_NODES:,}."
        return {"errors": [{"type": "MAX_NODE_LIMIT_EXCEEDED", "message": said}]}
    result = execute_sync(
        schema(), parsed, Root(world, (points, nodes), budget), variable_values=variables, field_resolver=field_of
    )
    assert isinstance(result, ExecutionResult)
    found: dict[str, Any] = {"data": result.data}
    if result.errors:
        found["errors"] = [_error(error) for error in result.errors]
    return found


def _error(error: GraphQLError) -> dict[str, Any]:
    told: dict[str, Any] = {"message": error.message}
    kind = (error.extensions or {}).get("type")
    if kind:
        told["type"] = kind
    if error.path is not None:
        told["path"] = error.path
    if error.locations:
        told["locations"] = [{"line": one.line, "column": one.column} for one in error.locations]
    return told
