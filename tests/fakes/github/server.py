"""The fake GitHub on 127.0.0.1: who asked what is counted, and faults are played on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.fakes.github import graphql, rest
from tests.fakes.github.world import World

TOKEN = "ghp_canaryCanaryCanaryCanaryCanary0001"


@dataclass(frozen=True)
class Asked:
    """One request: GraphQL documents have their variables as the query."""

    method: str
    path: str
    query: dict[str, Any]
    status: int


@dataclass
class Fault:
    """An answer that comes instead of the true one; `status` None drops the connection."""

    status: int | None
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    times: int = 1
    match: Callable[[str], bool] = lambda path: True


@dataclass
class FakeGitHub:
    """A context manager; `url` is what `base_url` is set to."""

    world: World
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    # So many more requests are answered, then every connection is dropped.
    answers_left: int | None = None
    limit: int = 5000
    remaining: int = 5000
    resets_at: int = 2_000_000_000
    on_request: Callable[[str], None] | None = None

    def __enter__(self) -> FakeGitHub:
        fake = self

        class Handler(_Handler):
            owner = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self._lock = threading.Lock()
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

    def count(self, part: str = "", status: int | None = None) -> int:
        return sum(part in one.path and status in (None, one.status) for one in self.asked)


class _Handler(BaseHTTPRequestHandler):
    owner: FakeGitHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        split = urlsplit(self.path)
        path = split.path.removeprefix("/api/v3")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.owner._lock:
            self._answer(method, path, dict(parse_qsl(split.query)), body)

    def _answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> None:
        owner = self.owner
        if owner.answers_left is not None:
            if owner.answers_left <= 0:
                self._drop()
                return
            owner.answers_left -= 1
        if owner.on_request is not None:
            owner.on_request(path)
        fault = next((one for one in owner.faults if one.times > 0 and one.match(path)), None)
        if fault is not None:
            fault.times -= 1
            if fault.status is None:
                self._drop()
                return
            self._send(method, path, query, fault.status, fault.body, fault.headers, fault.content_type)
            return
        if self.headers.get("Authorization") != f"token {TOKEN}":
            self._send(method, path, query, 401, json.dumps({"message": "Bad credentials"}))
            return
        if method == "POST" and path.endswith("/graphql"):
            sent = json.loads(body)
            found = graphql.execute(owner.world, sent["query"], sent.get("variables") or {})
            self._send(method, "/graphql", sent.get("variables") or {}, 200, json.dumps(found))
            return
        try:
            data, numbers = rest.answer(owner.world, path, query)
        except rest.ProblemError as problem:
            headers = {"Location": f"{owner.url}{problem.location}"} if problem.location else {}
            self._send(method, path, query, problem.status, json.dumps({"message": problem.message}), headers)
            return
        text = json.dumps(data)
        headers = {"ETag": f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'}
        if numbers and numbers[0] < numbers[1]:
            following = urlencode({**query, "page": numbers[0] + 1})
            headers["Link"] = f'<{owner.url}{path}?{following}>; rel="next"'
        if self.headers.get("If-None-Match") == headers["ETag"]:
            self._send(method, path, query, 304, "", headers)
        else:
            self._send(method, path, query, 200, text, headers)

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        status: int,
        text: str,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        owner = self.owner
        owner.asked.append(Asked(method, path, query, status))
        if status != 304:
            owner.remaining -= 1
        data = text.encode()
        self.send_response_only(status)
        sent = {
            "Date": owner.world.now.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "X-RateLimit-Limit": str(owner.limit),
            "X-RateLimit-Remaining": str(max(0, owner.remaining)),
            "X-RateLimit-Reset": str(owner.resets_at),
            "Content-Type": f"{content_type}; charset=utf-8",
            **(headers or {}),
        }
        for name, value in sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()
