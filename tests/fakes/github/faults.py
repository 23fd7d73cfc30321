"""Answers that a fake gives instead of the true one, ready made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request: GraphQL documents have their variables as the query. No header is kept."""

    method: str
    path: str
    query: dict[str, Any]
    status: int
    authorized: bool = True
    document: str = ""


@dataclass
class Fault:
    """An answer that comes instead of the true one; `status` None drops the connection.

    `spoil` makes the body from the true one, which then is worked out first.
    """

    status: int | None
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    times: float = 1
    match: Callable[[str], bool] = lambda path: True
    when: Callable[[Asked], bool] = lambda request: True
    spoil: Callable[[str], str] | None = None


class Faults(list[Fault]):
    """Those that are still to come; the first that matches is played."""

    def add(self, answer: Fault, match: Callable[[Asked], bool] = lambda request: True, times: float = 1) -> Fault:
        """Play an answer so many times (`float("inf")` for ever) on requests that match."""
        fault = replace(answer, times=times, when=match)
        self.append(fault)
        return fault

    def take(self, request: Asked) -> Fault | None:
        for fault in self:
            if fault.times > 0 and fault.match(request.path) and fault.when(request):
                fault.times -= 1
                return fault
        return None


def _message(said: str) -> str:
    return json.dumps({"message": said, "documentation_url": "https://docs.github.test/rest"})


def secondary_limit(retry_after: int = 60) -> Fault:
    said = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    return Fault(403, _message(said), {"Retry-After": str(retry_after)})


def primary_limit(resets_at: int) -> Fault:
    """`resets_at` is a second of the Unix epoch."""
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(resets_at)}
    return Fault(403, _message("API rate limit exceeded for installation."), headers)


def too_many_requests() -> Fault:
    """A 429 that does not say how long."""
    return Fault(429, _message("Too many requests"))


def bad_gateway() -> Fault:
    return Fault(502, "<html><title>502 Bad Gateway</title></html>", content_type="text/html")


def graphql_rate_limited() -> Fault:
    error = {"type": "RATE_LIMITED", "message": "API rate limit exceeded for installation."}
    return Fault(200, json.dumps({"data": None, "errors": [error]}))


def graphql_partial(*path: str | int, said: str = "Something went wrong while executing your query.") -> Fault:
    """The true answer with nothing at `path`, and an error that says so."""

    def spoil(body: str) -> str:
        found = json.loads(body)
        place = found["data"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = None
        found["errors"] = [*found.get("errors", []), {"message": said, "path": list(path)}]
        return json.dumps(found)

    return Fault(200, spoil=spoil)


def truncated() -> Fault:
    """The first half of the true answer, called complete."""
    return Fault(200, spoil=lambda body: body[: len(body) // 2])


def web_page() -> Fault:
    return Fault(200, "<!DOCTYPE html><html><body>Unicorn!</body></html>", content_type="text/html")


def dropped() -> Fault:
    return Fault(None)
