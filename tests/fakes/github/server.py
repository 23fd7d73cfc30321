"""The fake GitHub on 127.0.0.1: who asked what is counted, and faults are played on demand."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt

from tests.fakes.github import graphql, rest
from tests.fakes.github.faults import Asked, Fault, Faults
from tests.fakes.github.world import SIGNED, STORE, World, text

__all__ = ["TOKEN", "Asked", "FakeGitHub", "Fault", "Faults"]

TOKEN = "ghp_canaryCanaryCanaryCanaryCanary0001"


@dataclass
class FakeGitHub:
    """A context manager; `url` is what `base_url` is set to (`enterprise_url` for the paths of a GHES)."""

    world: World
    asked: list[Asked] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    # So many more requests are answered, then every connection is dropped.
    answers_left: int | None = None
    # What the headers say while the world has no rate limit of its own.
    limit: int = 5000
    remaining: int = 5000
    resets_at: int = 2_000_000_000
    on_request: Callable[[str], None] | None = None
    # Before requests take turns, so that some may wait for others.
    on_arrival: Callable[[str], None] | None = None
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    # Installation id to app id and public key; see install_app.
    apps: dict[int, tuple[int, str]] = field(default_factory=dict)

    def __enter__(self) -> FakeGitHub:
        fake = self

        class Handler(_Handler):
            owner = fake

        self.lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def enterprise_url(self) -> str:
        return f"{self.url}/api/v3"

    @property
    def requests(self) -> list[tuple[str, str, dict[str, Any], int, bool]]:
        """Method, path, query, status and whether the authorization was good; a dropped one has the status 0."""
        return [(one.method, one.path, one.query, one.status, one.authorized) for one in self.asked]

    @property
    def rest(self) -> int:
        return sum(one.path != "/graphql" for one in self.asked)

    @property
    def graphql(self) -> int:
        return sum(one.path == "/graphql" for one in self.asked)

    @property
    def conditional(self) -> int:
        """Requests that were answered with 304."""
        return sum(one.status == 304 for one in self.asked)

    def count(self, part: str = "", status: int | None = None) -> int:
        return sum(part in one.path and status in (None, one.status) for one in self.asked)

    def crash_after(self, requests: int) -> None:
        """The request of this number from now (the first is 1), and all after it, lose their connection."""
        self.answers_left = requests - 1

    def recover(self) -> None:
        self.answers_left = None

    def install_app(self, app_id: int, installation_id: int, public_key: str) -> None:
        """Let an app that signs with the key of `public_key` (PEM) ask for tokens of the installation."""
        self.apps[installation_id] = (app_id, public_key)

    def budget(self, resource: str) -> tuple[int, int, int]:
        """Limit, points left and the second at which the window ends."""
        if self.world.rate_limit is None:
            return self.limit, max(0, self.remaining), self.resets_at
        return self.world.rate_limit.limit, *self.world.rate_limit.look(resource, self.world.now)

    def spend(self, resource: str, points: int) -> None:
        self.remaining -= points
        if self.world.rate_limit is not None:
            self.world.rate_limit.spend(resource, points, self.world.now)

    def new_token(self, installation_id: int, signed: str) -> dict[str, Any]:
        """An installation's token for an hour of the real clock, by which PyGithub renews it."""
        app_id, key = self.apps.get(installation_id, (None, ""))
        try:
            claims = jwt.decode(signed, key, algorithms=["RS256"], options={"verify_iat": False})
        except (jwt.PyJWTError, ValueError):
            raise rest.ProblemError(401, "A JSON web token could not be decoded") from None
        if str(claims.get("iss")) != str(app_id):
            raise rest.ProblemError(401, "'Issuer' claim ('iss') must be the app's")
        token = f"ghs_canaryInstallation{len(self.tokens):016d}"
        self.tokens.add(token)
        until = datetime.now(UTC) + timedelta(hours=1)
        return {"token": token, "expires_at": text(until), "permissions": {"metadata": "read"}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no trouble of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: FakeGitHub
    protocol_version = "HTTP/1.1"
    # Small answers would wait for 40 ms otherwise.
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        split = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, self._prefix = split.path, ""
        if path == "/api/graphql":
            path = "/graphql"
        elif path.startswith("/api/v3/"):
            path, self._prefix = path.removeprefix("/api/v3"), "/api/v3"
        if path.startswith("/blobs/"):
            self._store(path.removeprefix("/blobs"), split.query)
            return
        if self.owner.on_arrival is not None:
            self.owner.on_arrival(path)
        with self.owner.lock:
            self._answer(method, path, parse_qsl(split.query, keep_blank_values=True), body)

    def _store(self, address: str, query: str) -> None:
        """The store is another host: whoever brings a credential has told it to strangers."""
        data = self.owner.world.blobs.get(address, b"")
        status = 200 if data and query == f"sig={SIGNED}" and not self.headers.get("Authorization") else 403
        self.owner.asked.append(Asked("GET", "/blobs", {}, status, False, ""))
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(data) if status == 200 else 0))
        self.end_headers()
        if status == 200:
            self.wfile.write(data)

    def _answer(self, method: str, path: str, pairs: list[tuple[str, str]], body: bytes) -> None:
        owner = self.owner
        query: dict[str, Any] = dict(pairs)
        document = ""
        sent: Any = None
        if method == "POST":
            try:
                sent = json.loads(body)
            except ValueError:
                sent = None
            if path == "/graphql" and isinstance(sent, dict):
                query, document = sent.get("variables") or {}, str(sent.get("query", ""))
        scheme, _, secret = (self.headers.get("Authorization") or "").partition(" ")
        authorized = scheme.lower() in ("token", "bearer") and secret in owner.tokens
        asked = Asked(method, path, query, 0, authorized, document)
        if owner.answers_left is not None:
            if owner.answers_left <= 0:
                self._drop(asked)
                return
            owner.answers_left -= 1
        if owner.on_request is not None:
            owner.on_request(path)
        fault = owner.faults.take(asked)
        if fault is not None and fault.status is None:
            self._drop(asked)
            return
        if fault is not None and fault.spoil is None:
            self._send(asked, fault.status or 0, fault.body, fault.headers, fault.content_type)
            return
        try:
            if len({name for name, _ in pairs}) != len(pairs):
                raise rest.ProblemError(422, "a parameter is given twice")
            status, said, headers = self._true_answer(asked, sent, secret)
        except rest.ProblemError as problem:
            to = {"Location": f"{owner.url}{self._prefix}{problem.location}"} if problem.location else {}
            more = {"url": to["Location"]} if to else {}
            status, said, headers = problem.status, json.dumps({"message": problem.message, **more}), to
        if fault is not None and fault.spoil is not None:
            status, said, headers = fault.status or 0, fault.spoil(said), fault.headers
        self._send(asked, status, said, headers)

    def _true_answer(self, asked: Asked, sent: Any, secret: str) -> tuple[int, str, dict[str, str]]:
        owner, path = self.owner, asked.path
        if match := rest.ACCESS_TOKENS.fullmatch(path):
            if asked.method != "POST":
                raise rest.ProblemError(404, "Not Found")
            return 201, json.dumps(owner.new_token(int(match[1]), secret)), {}
        if not asked.authorized:
            raise rest.ProblemError(401, "Bad credentials")
        resource = "graphql" if path == "/graphql" else "core"
        _, left, _ = owner.budget(resource)
        if path == "/rate_limit" and asked.method == "GET":
            rest.known(asked.query)
            return 200, json.dumps(rest.rate_limits(owner.budget)), {}
        if left <= 0 and owner.world.rate_limit is not None:
            if resource == "graphql":
                error = {"type": "RATE_LIMITED", "message": "API rate limit exceeded for installation."}
                return 200, json.dumps({"errors": [error]}), {}
            raise rest.ProblemError(403, "API rate limit exceeded for installation.")
        if resource == "graphql":
            return self._graphql(asked, sent)
        try:
            data, numbers = rest.answer(owner.world, asked.method, path, asked.query, sent)
        except rest.ProblemError:
            owner.spend("core", 1)
            raise
        said = json.dumps(data).replace(STORE, f"{owner.url}/blobs")
        if asked.method != "GET":
            owner.spend("core", 1)
            return 200, said, {}
        headers = {"ETag": f'W/"{hashlib.sha256(said.encode()).hexdigest()}"'}
        if link := self._link(path, asked.query, numbers):
            headers["Link"] = link
        if self.headers.get("If-None-Match") == headers["ETag"]:
            return 304, "", headers
        owner.spend("core", 1)
        return 200, said, headers

    def _graphql(self, asked: Asked, sent: Any) -> tuple[int, str, dict[str, str]]:
        if asked.method != "POST" or not isinstance(sent, dict) or not isinstance(sent.get("query"), str):
            raise rest.ProblemError(400, "A query attribute must be specified and must be a string.")
        owner = self.owner
        points, _ = graphql.price(sent["query"], asked.query)
        owner.spend("graphql", points)
        found = graphql.execute(owner.world, sent["query"], asked.query, owner.budget("graphql"))
        return 200, json.dumps(found), {}

    def _link(self, path: str, query: dict[str, str], numbers: list[int]) -> str:
        if not numbers:
            return ""
        page, last = numbers
        places = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        wanted = (["prev"] if page > 1 else []) + (["next", "last"] if page < last else [])
        wanted += ["first"] if page > 1 else []
        # By id, also where the list was asked for by name.
        if path.startswith("/repos/"):
            _, _, _, name, *rest_of = path.split("/")
            named, _ = self.owner.world.named(name)
            assert named is not None
            path = "/".join(["/repositories", str(named.id), *rest_of])
        start = f"{self.owner.url}{self._prefix}{path}"
        return ", ".join(f'<{start}?{urlencode({**query, "page": places[rel]})}>; rel="{rel}"' for rel in wanted)

    def _send(
        self,
        asked: Asked,
        status: int,
        said: str,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        owner = self.owner
        owner.asked.append(replace(asked, status=status))
        resource = "graphql" if asked.path == "/graphql" else "core"
        limit, left, resets_at = owner.budget(resource)
        data = said.encode()
        sent = {
            "Date": format_datetime(owner.world.now.astimezone(UTC), usegmt=True),
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Used": str(limit - left),
            "X-RateLimit-Reset": str(resets_at),
            "X-RateLimit-Resource": resource,
            "Content-Type": f"{content_type}; charset=utf-8",
            **(headers or {}),
            "Content-Length": str(len(data)),
        }
        self.send_response_only(status)
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if status != 304:
            self.wfile.write(data)

    def _drop(self, asked: Asked) -> None:
        self.owner.asked.append(asked)
        self.close_connection = True
        self.connection.close()
