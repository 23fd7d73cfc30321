"""A small stateful API on 127.0.0.1: what each fake has in common, with faults and a count of what was asked."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Query = dict[str, list[str]]


@dataclass
class Fault:
    """What comes instead of the next answer."""

    status: int
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)


class FakeApi(ABC):
    """A context manager; `url` is what `base_url` is set to. `answer` and `is_welcome` are the API."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.faults: deque[Fault] = deque()
        # So many more requests are answered, then every connection is dropped.
        self.answers_left: int | None = None

    @abstractmethod
    def answer(self, path: str, query: Query) -> tuple[int, Any]:
        """Status and JSON value of a GET (or of a POST's form)."""

    def is_welcome(self, authorization: str | None) -> bool:
        return True

    def date(self) -> str | None:
        """The server's clock as it stands in every answer."""
        return None

    def __enter__(self) -> Self:
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


class _Handler(BaseHTTPRequestHandler):
    owner: FakeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._respond(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def _respond(self, form: str) -> None:
        fake = self.owner
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
        elif not fake.is_welcome(self.headers.get("Authorization")):
            self._send(401, '{"error": {"message": "unauthorized"}}', {})
        else:
            try:
                status, found = fake.answer(urlsplit(self.path).path, parse_qs(form, keep_blank_values=True))
            except AssertionError as error:
                # What the real API would refuse is an error of ours.
                status, found = 400, {"error": {"message": f"the fake was asked what the API refuses: {error}"}}
            self._send(status, json.dumps(found), {})

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.owner.date() or super().date_time_string(timestamp)  # type: ignore[arg-type]

    def _send(self, status: int, body: str, headers: dict[str, str]) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def http_date(moment: Any) -> str:
    return format_datetime(moment, usegmt=True)
