"""A workspace whose sensors can be asked, and a webhook on this machine that remembers what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import duckdb
import yaml

from analytics.lake.schemas import FACT_TABLES
from analytics.lake.tables import write_table
from analytics.settings import Settings, load_settings


def workspace(folder: Path, **more: Any) -> Settings:
    """Settings with one feed folder, in Berlin, on the wall clock unless `now` is given."""
    document = {
        "organization": "Acme",
        "time_zone": "Europe/Berlin",
        "sources": [{"name": "drops", "type": "files", "path": "./feeds"}],
        **more,
    }
    path = folder / "quarterdeck.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return load_settings(path)


def write_findings(settings: Settings, *rows: dict[str, Any]) -> None:
    """Replace the lake's findings."""
    columns = FACT_TABLES["findings"].columns
    selects = [
        "SELECT "
        + ", ".join(
            f"CAST({chr(39) + str(row[name]) + chr(39) if name in row else 'NULL'} AS {kind}) AS {name}"
            for name, kind in columns.items()
        )
        for row in rows
    ]
    nothing = "SELECT " + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
    with duckdb.connect() as con:
        write_table(con, settings, "findings", " UNION ALL ".join(selects) or f"{nothing} WHERE false")


def finding(key: str, **fields: Any) -> dict[str, Any]:
    """A critical finding that is open."""
    return {
        "id": key,
        "rule": "signature",
        "severity": "critical",
        "state": "open",
        "service": "checkout",
        "deployment_id": "4711",
        "reason": "no signature",
        "remediation": "Sign it",
        "owner": "payments",
        "first_seen": "2026-01-01 00:00:00",
        **fields,
    }


class Webhook:
    """What was posted, and with which status each post is answered."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/hook/s3cr3t-part"
        self.posts: list[dict[str, Any]] = []
        self.answers: list[int] = []


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook on loopback for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(hook.answers.pop(0) if hook.answers else 200)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    hook = Webhook(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
