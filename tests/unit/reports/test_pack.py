"""The pack: what its pages promise, when it is made again, and what it does with hostile names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analytics.errors import PackError
from analytics.periods import Quarter
from analytics.settings import Settings
from reports.annex import DICTIONARY
from reports.manifest import read_manifest, verify_pack
from reports.pack import PackResult, make_pack
from reports.shelf import names_on_shelf, newest_revision
from tests.unit.reports.conftest import HOSTILE_NAMES
from tests.unit.reports.published_world import QUARTER, large_world, publish, settings_of, small_world


class Elements(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th", "li", "small"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pages(folder: Path) -> Iterator[Path]:
    """The pages of a pack; the mail's are for mail programs."""
    return iter(sorted(page for page in folder.rglob("*.html") if page.parent.name != "email"))


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def plain(path: Path) -> str:
    return " ".join(Elements(path).text.replace("\u00a0", " ").split())


# --- the pages -----------------------------------------------------------------------------------------------------


def test_a_pack_verifies_and_its_id_is_the_manifests_hash(pack: PackResult) -> None:
    result = verify_pack(pack.path)
    assert (result.ok, result.problems, result.pack_id) == (True, (), pack.pack_id)


def test_a_pack_holds_its_pages_assets_and_annex(pack: PackResult) -> None:
    assert set(contents_of(pack.path)) == {
        "index.html",
        "security.html",
        "findings.html",
        "findings-data.js",
        "measures.html",
        "teams.html",
        "teams/payments.html",
        "services.html",
        "services/checkout.html",
        "services/ledger.html",
        "services/search.html",
        "pipelines.html",
        "outliers.html",
        "changes.html",
        "quality.html",
        "definitions.html",
        "benchmarks.html",
        "email/message.html",
        "email/message.txt",
        "assets/plotly.min.js",
        "assets/charts.js",
        "assets/findings.js",
        "assets/pack.css",
        *(f"annex/{table}.{ending}" for table in DICTIONARY for ending in ("csv", "parquet", "json")),
        "manifest.json",
    }


def test_no_page_runs_an_inline_script(hostile_pack: Path) -> None:
    for page in pages(hostile_pack):
        elements = Elements(page)
        for script in elements.all("script"):
            assert script.get("src") or script.get("type") == "application/json", page
        for tag, attributes in elements.tags:
            assert not any(name.startswith("on") for name in attributes), (page, tag)


def test_every_page_allows_scripts_of_the_pack_only(pack: PackResult) -> None:
    for page in pages(pack.path):
        policies = [m.get("content") or "" for m in Elements(page).all("meta") if m.get("http-equiv")]
        assert len(policies) == 1
        assert "default-src 'none'" in policies[0]
        assert "script-src 'self';" in policies[0]


def test_nothing_is_loaded_from_elsewhere_and_every_link_leads_somewhere(pack: PackResult) -> None:
    for page in pages(pack.path):
        elements = Elements(page)
        ids = {attributes.get("id") for _, attributes in elements.tags}
        loaded = [e.get("src") for e in elements.all("script") if e.get("src")]
        loaded += [e.get("href") for e in elements.all("link")]
        links = [e.get("href") or "" for e in elements.all("a")]
        for target in [*filter(None, loaded), *(link for link in links if not link.startswith("https://"))]:
            file, _, anchor = target.partition("#")
            where = (page.parent / file).resolve() if file else page
            assert where.is_file(), (page, target)
            if anchor and file:
                assert anchor in {a.get("id") for _, a in Elements(where).tags}, (page, target)
            elif anchor:
                assert anchor in ids, (page, target)


def test_every_page_has_a_language_a_title_a_skip_link_and_one_heading(pack: PackResult) -> None:
    for page in pages(pack.path):
        elements = Elements(page)
        assert elements.all("html")[0].get("lang") == "en"
        assert len(elements.all("h1")) == 1
        assert elements.all("a")[0] == {"class": "skip", "href": "#main"}
        assert len(elements.all("title")) >= 1


def test_every_table_has_a_caption_and_scoped_headers(pack: PackResult) -> None:
    for page in pages(pack.path):
        elements = Elements(page)
        assert len(elements.all("table")) == len(elements.all("caption"))
        assert all(header.get("scope") in ("col", "row", "rowgroup") for header in elements.all("th")), page


def test_every_chart_has_a_text_alternative_and_its_figure(pack: PackResult) -> None:
    elements = Elements(pack.path / "index.html")
    plots = [e for e in elements.all("div") if e.get("class") == "plot"]
    figures = {e.get("id") for e in elements.all("script") if e.get("type") == "application/json"}
    assert [e.get("id") for e in plots] == [
        "lead-time",
        "fail-rate",
        "stages",
        "weeks",
        "lead-weeks",
        "incident-weeks",
    ]
    for plot in plots:
        assert plot.get("role") == "img"
        assert plot.get("aria-label")
        assert plot.get("data-figure") in figures


def test_the_scorecard_prints_what_was_measured(pack: PackResult) -> None:
    text = plain(pack.path / "index.html")
    assert "23 h 30 min (22 h 30 min to 24 h 45 min) n = 412" in text
    assert "8 of 94, 8.5 % (4.4 to 15.9 %)" in text
    assert "24 h: within the interval" in text
    assert "no policy configured" in text


def test_no_page_prints_a_bare_zero_percent(pack: PackResult) -> None:
    for page in pages(pack.path):
        if page.name != "benchmarks.html":
            assert not re.search(r"(?<![\d.])0(\.0)? %(?! to)", plain(page).replace("under 0.1 %", "")), page


def test_the_footer_says_how_to_reproduce_and_verify(pack: PackResult) -> None:
    for page in pages(pack.path):
        text = plain(page)
        assert "Snapshot 5f3a9c1e7b20 · code 0.1.0 · definitions 2026-07 · cut-off 5 Oct 2026, 08:00" in text
        assert "quarterdeck verify-pack 2026-Q3" in text


def test_quality_names_file_line_and_reason(pack: PackResult) -> None:
    text = plain(pack.path / "quality.html")
    assert "deployments.jsonl:17 deployments missing time created_at is missing" in text
    assert "prod-eu environment" in text
    assert "89 94 94.7 %" in text


def test_failed_deployments_come_with_their_evidence(pack: PackResult) -> None:
    text = plain(pack.path / "outliers.html")
    assert "explicit incident INC-7 names the deployment high confidence not recovered at the cut-off" in text


def test_an_incidents_link_leads_to_its_page(pack: PackResult) -> None:
    links = [e.get("href") for e in Elements(pack.path / "outliers.html").all("a")]
    assert "https://incidents.example/INC-7" in links


def test_no_marker_is_left_in_a_page(pack: PackResult) -> None:
    assert not any("\ue0f0" in page.read_text() for page in pages(pack.path))


# --- hostile names -------------------------------------------------------------------------------------------------


def test_hostile_names_are_shown_as_text(hostile_pack: Path) -> None:
    for page in pages(hostile_pack):
        elements = Elements(page)
        assert not elements.all("img"), page
        assert not any((a.get("href") or "").lower().startswith("javascript:") for a in elements.all("a")), page
        assert "\u202e" not in page.read_text(), page
    text = (hostile_pack / "services.html").read_text()
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_a_closing_tag_in_a_name_cannot_end_a_figures_block(hostile_pack: Path) -> None:
    for page in pages(hostile_pack):
        for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL):
            assert json.loads(block)["data"]


def test_hostile_names_are_text_in_the_mail_and_on_the_shelf_too(hostile_pack: Path) -> None:
    for page in (hostile_pack / "email" / "message.html", hostile_pack.parent / "index.html"):
        elements = Elements(page)
        assert not elements.all("script")
        assert not elements.all("img")
        assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
        assert not any((a.get("href") or "").lower().startswith("javascript:") for a in elements.all("a"))
    assert "\u202e" not in (hostile_pack / "email" / "message.txt").read_text()


def test_hostile_names_do_not_leave_the_pack(hostile_pack: Path) -> None:
    services = {path.name for path in (hostile_pack / "services").iterdir()}
    assert len(services) == 3 + len(HOSTILE_NAMES)
    assert all(re.fullmatch(r"[a-z0-9-]+\.html", name) for name in services)
    assert verify_pack(hostile_pack).ok


# --- made again ----------------------------------------------------------------------------------------------------


def test_the_same_snapshot_gives_the_same_bytes(tmp_path: Path) -> None:
    packs = []
    for name in ("one", "two"):
        settings = settings_of(tmp_path / name)
        publish(settings, small_world())
        packs.append(make_pack(settings, QUARTER))
    assert contents_of(packs[0].path) == contents_of(packs[1].path)
    assert packs[0].pack_id == packs[1].pack_id


@pytest.fixture
def storage(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path)
    publish(settings, small_world())
    return settings


def test_unchanged_contents_keep_the_pack(storage: Settings) -> None:
    first = make_pack(storage, QUARTER)
    again = make_pack(storage, QUARTER)
    assert (again.path, again.pack_id, again.unchanged, again.revision) == (first.path, first.pack_id, True, 0)
    assert [str(name) for name in names_on_shelf(storage.packs_dir)] == ["2026-Q3"]


def test_a_later_cut_off_over_the_same_data_keeps_the_pack(storage: Settings) -> None:
    make_pack(storage, QUARTER)
    world = small_world()
    world.snapshot |= {"cut_off": "2026-10-06T06:00:00Z", "snapshot_id": "other", "code_version": "0.2.0"}
    publish(storage, world)
    assert make_pack(storage, QUARTER).unchanged


def test_changed_contents_become_a_revision_and_leave_the_first_alone(storage: Settings) -> None:
    first = make_pack(storage, QUARTER)
    before = contents_of(first.path)
    world = small_world()
    world.add("unmapped", kind="repository", name="acme/new", rows=1)
    publish(storage, world)
    corrected = make_pack(storage, QUARTER)
    assert (corrected.path.name, corrected.revision, corrected.unchanged) == ("2026-Q3.r1", 1, False)
    assert contents_of(first.path) == before
    assert "revision 1, replaces 2026-Q3" in plain(corrected.path / "index.html")
    assert "quarterdeck verify-pack 2026-Q3.r1" in plain(corrected.path / "index.html")
    assert make_pack(storage, QUARTER).path == corrected.path


def test_a_return_to_earlier_contents_is_a_new_revision(storage: Settings) -> None:
    make_pack(storage, QUARTER)
    world = small_world()
    world.add("unmapped", kind="repository", name="acme/new", rows=1)
    publish(storage, world)
    make_pack(storage, QUARTER)
    publish(storage, small_world())
    assert make_pack(storage, QUARTER).path.name == "2026-Q3.r2"


def test_a_damaged_pack_is_succeeded_and_not_mended(storage: Settings) -> None:
    first = make_pack(storage, QUARTER)
    (first.path / "index.html").write_text("tampered")
    second = make_pack(storage, QUARTER)
    assert second.path.name == "2026-Q3.r1"
    assert (first.path / "index.html").read_text() == "tampered"


def test_a_folder_in_the_way_is_not_written_into(storage: Settings) -> None:
    (storage.packs_dir / "2026-Q3").mkdir(parents=True)
    assert make_pack(storage, QUARTER).path.name == "2026-Q3.r1"
    assert not any((storage.packs_dir / "2026-Q3").iterdir())


def test_a_name_taken_while_the_pack_is_made_moves_it_to_the_next(
    storage: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if target.name == "2026-Q3":
            target.mkdir()
            (target / "theirs").write_text("x")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert make_pack(storage, QUARTER).path.name == "2026-Q3.r1"


def test_nothing_half_made_is_left_behind(storage: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        make_pack(storage, QUARTER)
    assert not list(storage.temp_dir.glob("pack-*"))
    assert not list(storage.packs_dir.iterdir())


def test_revisions_are_counted_and_other_folders_ignored(tmp_path: Path) -> None:
    for name in ("2026-Q3", "2026-Q3.r2", "2026-Q3.r10", "2026-Q3.rx", "2026-Q2.r99", "notes"):
        (tmp_path / name).mkdir()
    assert newest_revision(tmp_path, QUARTER) == 10
    assert newest_revision(tmp_path, Quarter(2026, 1)) == -1


def test_the_manifest_says_what_the_pack_is(pack: PackResult) -> None:
    document, _ = read_manifest(pack.path)
    assert document["organization"] == "Acme"
    assert (document["quarter"], document["revision"]) == ("2026-Q3", 0)
    assert (document["snapshot_id"], document["cut_off"]) == ("5f3a9c1e7b20", "2026-10-05T06:00:00Z")


# --- what cannot be packed -----------------------------------------------------------------------------------------


def test_without_a_published_database_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no published database") as error:
        make_pack(settings_of(tmp_path), QUARTER)
    assert "quarterdeck run" in str(error.value)


def test_a_quarter_that_was_not_measured_names_those_that_were(storage: Settings) -> None:
    with pytest.raises(PackError, match="no metric values for 2024-Q1; measured: 2026-Q2, 2026-Q3"):
        make_pack(storage, Quarter(2024, 1))


def test_an_organisation_without_services_still_gets_a_pack(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    world = small_world()
    world.rows = {"metric_values": world.rows["metric_values"]}
    publish(settings, world)
    made = make_pack(settings, QUARTER)
    assert "The catalog names no service" in plain(made.path / "services.html")
    assert "No pipeline run was recorded" in plain(made.path / "pipelines.html")


@pytest.mark.slow
def test_with_200_services_every_page_stays_below_100_kilobytes(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    publish(settings, large_world(200))
    made = make_pack(settings, QUARTER)
    sizes = {page.name: page.stat().st_size for page in pages(made.path)}
    assert len(sizes) > 200
    assert {name: size for name, size in sizes.items() if size >= 100_000} == {}
