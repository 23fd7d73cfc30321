"""Printed editions and pictures: what a PDF holds, and what a pack says when it could not be printed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from analytics import doctor, programs
from analytics.settings import Settings
from reports import editions, printing
from reports.chart_parts import Chart, DataTable
from reports.drawing import Picture, draw, inline_svg
from reports.manifest import read_manifest, verify_pack
from reports.pack import make_pack
from tests.unit.reports.published_world import QUARTER, publish, settings_of, small_world
from tests.unit.reports.test_pack import contents_of, plain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs.find_browser() is None, reason="no Chromium on this machine; CI installs one"),
    pytest.mark.skipif(bool(programs.missing_print_libraries()), reason="no Pango on this machine; CI installs it"),
]

PRINTED = {"owner": "Delivery insights", "printed": ["leadership", "security", "team"]}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = settings_of(tmp_path_factory.mktemp("printed"), reports=PRINTED)
    publish(settings, small_world())
    return settings


@pytest.fixture(scope="module")
def folder(settings: Settings) -> Path:
    return make_pack(settings, QUARTER).path


@pytest.fixture(scope="module")
def leadership(folder: Path) -> PdfReader:
    return PdfReader(folder / "leadership.pdf")


def text_of(page: Any) -> str:
    return " ".join(str(page.extract_text()).split())


def elements(reader: PdfReader) -> list[Any]:
    """Every element of the structure tree."""
    found: list[Any] = []
    waiting = [reader.trailer["/Root"]["/StructTreeRoot"]]  # type: ignore[index]
    while waiting:
        element = waiting.pop()
        element = element.get_object() if hasattr(element, "get_object") else element
        if isinstance(element, list):
            waiting += element
        elif isinstance(element, dict):
            found.append(element)
            if "/K" in element:
                waiting.append(element["/K"])
    return found


def test_each_edition_is_printed(folder: Path) -> None:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pdf"))
    assert names == ["leadership.pdf", "security.pdf", "teams/payments.pdf"]
    assert verify_pack(folder).ok


def test_the_leadership_edition_has_two_pages_that_say_which_they_are(leadership: PdfReader) -> None:
    texts = [text_of(page) for page in leadership.pages]
    assert len(texts) == 2
    assert "Page 1 of 2" in texts[0]
    assert "Page 2 of 2" in texts[1]
    assert "What to decide" in texts[0]
    assert "Snapshot 5f3a9c1e7b20" in texts[1]


def _reach(page: Any) -> float:
    """How far to the right the page draws anything but letters: boxes, rules, charts; in points."""
    found: list[float] = []

    def see(operator: bytes, numbers: Any, matrix: Any, _text_matrix: Any) -> None:
        corners = {
            b"m": lambda: [numbers],
            b"l": lambda: [numbers],
            b"c": lambda: [numbers[:2], numbers[2:4], numbers[4:]],
            b"re": lambda: [numbers[:2], (numbers[0] + numbers[2], numbers[1] + numbers[3])],
        }.get(operator, list)()
        found.extend(float(matrix[0] * x + matrix[2] * y + matrix[4]) for x, y in corners)

    page.extract_text(visitor_operand_before=see)
    return max(found)


def test_no_printed_page_reaches_into_its_margin(folder: Path) -> None:
    margin = 14 * 72 / 25.4
    for path in sorted(folder.rglob("*.pdf")):
        for number, page in enumerate(PdfReader(path).pages, start=1):
            beyond = _reach(page) - (float(page.mediabox.width) - margin)
            assert beyond < 0.1, f"{path.name}, page {number}: {beyond:.1f} points beyond the margin"


def test_a_pdf_is_tagged_with_a_language_bookmarks_and_the_mark_of_pdf_ua(leadership: PdfReader) -> None:
    root: Any = leadership.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    assert b'pdfuaid:part="1"' in root["/Metadata"].get_data()
    titles = [str(entry.title) for entry in _flat(leadership.outline)]
    assert titles[1:3] == ["Main points", "What to decide"]
    assert "Scorecard" in titles
    kinds = {element.get("/S") for element in elements(leadership)}
    assert {"/H1", "/H2", "/Table", "/TH", "/TD", "/Figure"} <= kinds


def _flat(outline: Any) -> list[Any]:
    return [one for entry in outline for one in (_flat(entry) if isinstance(entry, list) else [entry])]


def test_charts_are_vectors_and_say_what_they_show(leadership: PdfReader) -> None:
    images = [
        name
        for page in leadership.pages
        for name, value in (page["/Resources"].get("/XObject") or {}).items()
        if value.get_object()["/Subtype"] == "/Image"
    ]
    assert images == []
    said = [str(element["/Alt"]) for element in elements(leadership) if element.get("/S") == "/Figure"]
    assert any("the median lead time was 30" in text for text in said)
    assert all(said)


def test_the_mails_charts_are_png_and_the_page_links_its_print(folder: Path) -> None:
    pictures = sorted(path.name for path in (folder / "email").glob("*.png"))
    assert pictures == ["fail-rate.png", "lead-time.png"]
    html = (folder / "email" / "message.html").read_text()
    assert all(f'src="{name}"' in html for name in pictures)
    assert "Printed: leadership.pdf" in plain(folder / "index.html")
    assert "Printed: payments.pdf" in plain(folder / "teams" / "payments.html")


def test_printed_twice_the_bytes_are_the_same(folder: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, reports=PRINTED)
    publish(settings, small_world())
    assert contents_of(make_pack(settings, QUARTER).path) == contents_of(folder)


def test_without_a_browser_tables_stand_for_charts_and_the_pack_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    for module in (editions, __import__("reports.drawing", fromlist=["drawing"])):
        monkeypatch.setattr(module, "find_browser", lambda: None)
    bare = settings_of(tmp_path, reports={**PRINTED, "printed": ["leadership"]})
    publish(bare, small_world())
    made = make_pack(bare, QUARTER).path
    assert "because no browser was found; their data tables stand instead" in plain(made / "index.html")
    assert read_manifest(made)[0]["missing"] == [editions.NO_CHARTS]
    text = "".join(text_of(page) for page in PdfReader(made / "leadership.pdf").pages)
    assert "in place of the chart" in text
    assert not list((made / "email").glob("*.png"))
    assert make_pack(bare, QUARTER).unchanged


def test_without_pango_there_is_no_pdf_and_installing_it_makes_the_next_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = settings_of(tmp_path, reports={**PRINTED, "printed": ["leadership"]})
    publish(bare, small_world())
    with monkeypatch.context() as patched:
        for module in (editions, printing):
            patched.setattr(module, "missing_print_libraries", lambda: ["pango-1.0"])
        made = make_pack(bare, QUARTER).path
    assert "No edition is printed as PDF, because Pango or HarfBuzz was not found" in plain(made / "index.html")
    assert not list(made.rglob("*.pdf"))
    again = make_pack(bare, QUARTER).path
    assert (again.name, (again / "leadership.pdf").is_file()) == ("2026-Q3.r1", True)


def test_doctor_says_how_to_get_what_is_missing() -> None:
    browser, printing_libraries = doctor.browser_finding(None), doctor.printing_finding(["pango-1.0"])
    assert (browser.state, printing_libraries.state) == ("warn", "warn")
    assert "apt-get install chromium" in (browser.fix or "")
    assert "apt-get install libpango-1.0-0" in (printing_libraries.fix or "")


def test_a_hostile_name_in_a_chart_is_text_in_its_picture() -> None:
    chart = Chart(
        "c",
        "<b>bold</b>",
        '"><script>alert(1)</script>',
        "",
        {"data": [{"type": "bar", "x": ["&lt;img src=x&gt;"], "y": [1]}], "layout": {}},
        DataTable(("a",), []),
    )
    (svg,) = draw([Picture(chart, 300, 200)])
    inline = inline_svg(svg, chart)
    assert "<script" not in inline
    assert "<img" not in inline
    assert "&lt;b&gt;bold&lt;/b&gt;" in inline
    assert draw([Picture(chart, 300, 200)]) == [svg]


def test_a_printed_page_fetches_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg"><title>SECRET</title><text y="9">SECRET</text></svg>')
    html = f'<html lang="en"><title>t</title><h1>x</h1><img src="{picture.as_uri()}" alt="x">'
    (page,) = PdfReader(io.BytesIO(printing.print_pdf(html))).pages
    assert "SECRET" not in page.extract_text()
