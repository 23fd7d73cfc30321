"""The pack in a browser: accessible, quiet, whole in itself, and readable on a phone, a screen and with a keyboard."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import FINDINGS, Seen

# It would fetch style sheets again, which the policy of the pages refuses.
AXE = {"resultTypes": ["violations"], "preload": False}
# Three of each kind where there are three: editions and lists, services, teams, findings.
KINDS = {
    "editions": ("index.html", "security.html", "teams.html"),
    "findings": ("findings.html", "findings/2.html", "findings/200.html"),
    "services": ("services/*.html",),
    "teams": ("teams/*.html",),
    "lists": ("services.html", "pipelines.html", "outliers.html"),
    "method": ("quality.html", "definitions.html", "changes.html", "benchmarks.html", "measures.html"),
    "shelf": ("../index.html",),
    "mail": ("email/message.html",),
}
EVERY_KIND = ("index.html", "security.html", "findings.html", "services/*.html", "teams/*.html", "pipelines.html")


def chosen(folder: Path, patterns: tuple[str, ...], most: int = 3) -> list[Path]:
    """Up to three pages by each pattern."""
    found: list[Path] = []
    for pattern in patterns:
        base, rest = (folder.parent, pattern[3:]) if pattern.startswith("../") else (folder, pattern)
        found += sorted(base.glob(rest))[:most]
    assert found
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_no_violation(folder: Path, page: Page, seen: Seen, kind: str) -> None:
    for path in chosen(folder, KINDS[kind]):
        page.goto(path.as_uri())
        page.wait_for_load_state("load")
        found = Axe().run(page, options=AXE)
        violations = [(one["id"], one["nodes"][0]["target"], one["help"]) for one in found.response["violations"]]
        assert violations == [], path.name
    assert seen.problems == []


def test_from_a_folder_every_chart_is_drawn_and_nothing_is_asked_of_anybody(
    folder: Path, page: Page, seen: Seen
) -> None:
    for path in chosen(folder, EVERY_KIND, 1):
        page.goto(path.as_uri())
        plots = page.locator(".plot[data-figure]")
        expect(page.locator(".plot .main-svg").first if plots.count() else page.locator("main")).to_be_visible()
        assert page.locator(".plot.js-plotly-plot").count() == plots.count(), path.name
    assert seen.problems == []
    assert {urlsplit(url).scheme for url in seen.requests} == {"file"}
    assert all(str(folder) in url for url in seen.requests)


def test_from_a_static_server_too_and_no_script_of_elsewhere_runs(
    folder: Path, static_server: str, page: Page, seen: Seen
) -> None:
    page.goto(f"{static_server}/index.html")
    expect(page.locator(".plot .main-svg").first).to_be_visible()
    assert {urlsplit(url).netloc for url in seen.requests} == {urlsplit(static_server).netloc}
    assert seen.problems == []
    blocked = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener('securitypolicyviolation', event => resolve(event.effectiveDirective));
            const script = document.createElement('script');
            script.textContent = 'window.inline = true';
            document.body.append(script);
            setTimeout(() => resolve('ran'), 2000);
        })"""
    )
    assert str(blocked).startswith("script-src")
    assert page.evaluate("() => window.inline") is None


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_window(folder: Path, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for path in (*chosen(folder, EVERY_KIND, 1), *chosen(folder, KINDS["method"], 1), folder.parent / "index.html"):
        page.goto(path.as_uri())
        page.wait_for_load_state("load")
        wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (path.name, width, wide)


def test_the_keyboard_goes_through_a_page_in_the_order_of_reading(folder: Path, page: Page) -> None:
    page.goto((folder / "index.html").as_uri())
    expect(page.locator(".plot .main-svg").first).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    tops: list[float] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate(
            """() => { const e = document.activeElement, box = e.getBoundingClientRect();
                return {top: box.top + window.scrollY, outline: getComputedStyle(e).outlineStyle, tag: e.tagName}; }"""
        )
        if at["tag"] == "BODY":
            break
        assert at["outline"] != "none", at
        tops.append(at["top"])
    assert len(tops) > 20
    # A line of a table may be a little higher than the cell before it.
    assert all(later >= earlier - 40 for earlier, later in pairwise(tops))


def test_ten_thousand_findings_are_filtered_without_freezing(folder: Path, page: Page, seen: Seen) -> None:
    page.goto((folder / "findings.html").as_uri())
    expect(page.locator("#found")).to_have_text(f"{FINDINGS} findings")
    page.select_option("select[name=severity]", "critical")
    page.select_option("select[name=state]", "open")
    expect(page.locator("#found")).to_have_text("1000 of 10000 findings")
    page.fill("input[name=text]", "attestation 4321 service-001")
    longest = page.evaluate(
        """() => { const input = document.querySelector('input[name=text]'), start = performance.now();
            input.value = ''; input.dispatchEvent(new Event('input', {bubbles: true}));
            return performance.now() - start; }"""
    )
    # Generous: a machine may be slow, and a frozen page takes many seconds.
    assert longest < 2000
    page.get_by_role("button", name="last").click()
    expect(page.locator("table.findings tbody tr")).to_have_count(50)
    assert page.locator("table.findings tbody script").count() == 0
    assert seen.problems == []


def test_without_scripts_the_pages_of_findings_lead_on_and_charts_give_their_values(
    folder: Path, browser: object, page: Page
) -> None:
    context = page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]
    plain = context.new_page()
    plain.goto((folder / "findings.html").as_uri())
    assert plain.locator("#filter").is_hidden()
    plain.get_by_role("link", name="next").click()
    assert plain.locator("h1").inner_text() == "Findings, 2026-Q3"
    assert plain.url.endswith("/findings/2.html")
    plain.goto((folder / "index.html").as_uri())
    assert plain.locator("figure details table").count() == plain.locator(".plot").count()
    context.close()


def test_a_printed_page_shows_its_charts_within_the_paper(folder: Path, page: Page, tmp_path: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    expect(page.locator(".plot .main-svg").first).to_be_visible()
    page.emulate_media(media="print")
    page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_timeout(300)
    widths = page.locator(".plot .main-svg").evaluate_all(
        "found => found.map(one => one.getBoundingClientRect().width)"
    )
    assert widths
    # A4 less its margins, at 96 pixels an inch.
    assert max(widths) <= 688
    assert not page.locator("header nav").is_visible()
