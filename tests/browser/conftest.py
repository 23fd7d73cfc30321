"""A browser that reads packs as people do: the system's Chromium, one for all pages.

Without one (see `quarterdeck doctor`) these tests skip; CI installs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, Route, sync_playwright

from analytics.programs import find_browser
from reports.pack import make_pack
from tests.unit.reports.published_world import QUARTER, large_world, publish, settings_of

SERVICES = 14
FINDINGS = 10_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser takes seconds."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@dataclass
class Seen:
    """What a page did beside showing itself."""

    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # No longer than its module: while it lives, its event loop runs in this thread, and no other test can run one.
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium on this machine; CI installs one")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
        )
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of fourteen services over eight quarters with ten thousand findings."""
    settings = settings_of(tmp_path_factory.mktemp("browsed"))
    world = large_world(SERVICES)
    severities = ("critical", "high", "medium", "low", "info")
    for number in range(FINDINGS):
        world.finding(
            f"finding-{number:05d}",
            severity=severities[number % 5],
            state=("open", "open", "waived", "fixed")[number % 4],
            service=f"service-{number % 40:03d}",
            reason=f"Attestation {number} was signed by another workflow.",
            rule=("signer", "runner", "sbom", "<script>alert(1)</script>")[number % 4],
        )
    publish(settings, world)
    return make_pack(settings, QUARTER).path


@pytest.fixture(scope="session")
def static_server(folder: Path) -> Iterator[str]:
    """The packs behind a plain file server, as a static site is."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{folder.name}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that refuses, and notes, every request that leaves for elsewhere."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = context.new_page()
    yield opened
    context.close()


@pytest.fixture
def seen(page: Page) -> Seen:
    noted = Seen()

    def route(route: Route, request: Request) -> None:
        noted.requests.append(request.url)
        if request.url.startswith(("file://", "http://127.0.0.1:")):
            route.continue_()
        else:
            route.abort()

    page.route("**/*", route)
    page.on("console", lambda message: noted.problems.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: noted.problems.append(str(error)))
    return noted
