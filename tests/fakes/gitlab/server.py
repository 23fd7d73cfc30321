"""The fake GitLab on 127.0.0.1: strict about what it is asked, with a token, pages and faults."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.gitlab.world import Project, World

TOKEN = "glpat-canaryCanaryCanary0001"
_COMMON = {"page", "per_page"}
_UPDATED = {"order_by", "sort", "updated_after"}
# What each list may be asked with, as GitLab documents it; another parameter is an error of ours.
_LISTS = {
    "merge_requests": _COMMON | _UPDATED | {"state", "scope"},
    "pipelines": _COMMON | _UPDATED,
    "deployments": _COMMON | _UPDATED,
    "issues": _COMMON | _UPDATED | {"state", "scope", "issue_type", "labels"},
}


@dataclass
class Fault:
    """What comes instead of the next answer."""

    status: int
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeGitLab:
    """A context manager; `url` is what `base_url` is set to."""

    world: World
    asked: list[str] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    # So many more requests are answered, then every connection is dropped.
    answers_left: int | None = None

    def __enter__(self) -> FakeGitLab:
        fake = self

        class Handler(_Handler):
            owner = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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

    def count(self, part: str) -> int:
        return sum(part in path for path in self.asked)

    def answer(self, path: str, query: dict[str, str]) -> list[Any] | dict[str, Any] | None:
        """What there is at a path below /api/v4; None where there is nothing."""
        if path == f"/groups/{self.world.group}/projects":
            return [_project(project) for project in self.world.projects]
        match = re.fullmatch(r"/projects/([^/]+)(?:/(.+))?", path)
        if match is None:
            return None
        named = unquote(match[1])
        project = next((one for one in self.world.projects if named in (str(one.id), one.path)), None)
        if project is None:
            return None
        return _project(project) if match[2] is None else _inside(project, match[2], query)


class _Handler(BaseHTTPRequestHandler):
    owner: FakeGitLab
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        fake, parts = self.owner, urlsplit(self.path)
        fake.asked.append(self.path)
        if fake.answers_left is not None:
            if fake.answers_left <= 0:
                self.close_connection = True
                self.connection.close()
                return
            fake.answers_left -= 1
        if fake.faults:
            fault = fake.faults.popleft()
            self._send(fault.status, fault.body, fault.headers)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, '{"message": "401 Unauthorized"}', {})
            return
        query = dict(parse_qsl(parts.query))
        found = fake.answer(parts.path.removeprefix("/api/v4"), query)
        if found is None:
            self._send(404, '{"message": "404 Not found"}', {})
        elif isinstance(found, dict):
            self._send(200, json.dumps(found), {})
        else:
            size, number = int(query.get("per_page", 20)), int(query.get("page", 1))
            assert size <= 100
            page = found[(number - 1) * size : number * size]
            self._send(200, json.dumps(page), {"X-Total": str(len(found)), "X-Page": str(number)})

    def _send(self, status: int, body: str, headers: dict[str, str]) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _project(project: Project) -> dict[str, Any]:
    levels = {f"{name}_access_level": "disabled" for name in project.off}
    return {"id": project.id, "path_with_namespace": project.path, "http_url_to_repo": project.clone_url, **levels}


def _inside(project: Project, path: str, query: dict[str, str]) -> list[Any] | dict[str, Any] | None:
    if path in _LISTS:
        assert query.keys() <= _LISTS[path], query
        return _list(project, path, query)
    match = re.fullmatch(r"(merge_requests|pipelines)/(\d+)(?:/(commits|notes|jobs))?", path)
    if match is None:
        return None
    number = int(match[2])
    if match[1] == "pipelines":
        pipeline = next((one for one in project.pipelines if one["id"] == number), None)
        return pipeline if match[3] is None or pipeline is None else _jobs(project, number, query)
    found = project.commits if match[3] == "commits" else project.notes
    return found.get(number)


def _list(project: Project, path: str, query: dict[str, str]) -> list[Any]:
    found: list[Any] = list(getattr(project, path))
    if path == "pipelines":
        # A list of pipelines does not tell when they started and ended, nor who started them.
        hidden = ("started_at", "finished_at", "user")
        found = [{name: value for name, value in one.items() if name not in hidden} for one in found]
    if path == "issues":
        found = [one for one in found if query.get("issue_type") in (None, one["issue_type"])]
        found = [one for one in found if query.get("labels") is None or query["labels"] in one["labels"]]
    assert query["order_by"] == "updated_at"
    found = [one for one in found if _ms(one["updated_at"]) >= _ms(query["updated_after"])]
    return sorted(found, key=lambda one: (_ms(one["updated_at"]), one["id"]), reverse=query["sort"] == "desc")


def _jobs(project: Project, pipeline: int, query: dict[str, str]) -> list[Any]:
    newest = {job["name"]: job["id"] for job in project.jobs[pipeline]}
    jobs = project.jobs[pipeline]
    if query.get("include_retried") not in ("True", "true"):
        jobs = [job for job in jobs if newest[job["name"]] == job["id"]]
    return list(reversed(jobs))


def _ms(text: str) -> str:
    """GitLab writes milliseconds, and takes times without them."""
    return text if "." in text else text.replace("Z", ".000Z")
