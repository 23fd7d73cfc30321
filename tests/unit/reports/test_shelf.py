"""The index of all packs, and what differs between two of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.settings import Settings
from reports.pack import make_pack
from reports.shelf import compare, names_on_shelf
from tests.unit.reports.published_world import QUARTER, publish, settings_of, small_world
from tests.unit.reports.test_pack import Elements, plain


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two packs of one quarter: in the second, a figure was restated, a finding opened and a service came."""
    settings = settings_of(tmp_path_factory.mktemp("shelf"))
    publish(settings, small_world())
    make_pack(settings, QUARTER)
    world = small_world()
    for row in world.rows["metric_values"]:
        if (row["metric"], row["scope"], row["quarter"]) == ("change_lead_time", "organization", "2026-Q2"):
            row["value"] = 31.0
    world.finding("new-1", severity="critical", reason="<script>alert(1)</script>")
    world.share("change_fail_rate", 1, 9, scope="service", name="](javascript:alert(1))")
    publish(settings, world)
    make_pack(settings, QUARTER)
    return settings


def test_the_index_lists_every_pack_and_leads_to_it(settings: Settings) -> None:
    index = settings.packs_dir / "index.html"
    links = [e.get("href") or "" for e in Elements(index).all("a")]
    assert {"2026-Q3/index.html", "2026-Q3.r1/index.html", "compare/2026-Q3..2026-Q3.r1.html"} <= set(links)
    assert all((settings.packs_dir / link).exists() for link in links if not link.startswith("#"))
    assert "unsigned" in plain(index)


def test_a_pack_is_compared_with_the_one_before_it(settings: Settings) -> None:
    before, after = (settings.packs_dir / name for name in ("2026-Q3", "2026-Q3.r1"))
    found = compare(before, after)
    moved = [(one.title, one.before, one.after) for one in found.restated if "2026-Q2" in one.of]
    assert moved == [
        (
            "Change lead time",
            "30\u00a0h (29\u00a0h to 31\u00a0h\u00a015\u00a0min)",
            "31\u00a0h (29\u00a0h to 31\u00a0h\u00a015\u00a0min)",
        )
    ]
    assert [row["id"] for row in found.opened] == ["new-1"]
    assert (found.closed, found.came) == ([], ["](javascript:alert(1))"])
    assert dict(found.files)["changed"] > 0


def test_the_comparison_shows_hostile_texts_as_texts(settings: Settings) -> None:
    page = settings.packs_dir / "compare" / "2026-Q3..2026-Q3.r1.html"
    assert not Elements(page).all("script")
    assert "<script>alert(1)</script>" in plain(page)


def test_a_pack_that_cannot_be_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    publish(settings, small_world())
    (settings.packs_dir / "2026-Q1").mkdir(parents=True)
    make_pack(settings, QUARTER)
    assert "2026-Q1 there is no manifest.json" in plain(settings.packs_dir / "index.html")


def test_packs_stand_in_the_order_of_quarters_and_revisions(tmp_path: Path) -> None:
    for name in ("2026-Q3.r10", "2026-Q3", "2025-Q4", "2026-Q3.r2", "compare", "2026-Q3.r0"):
        (tmp_path / name).mkdir()
    assert [str(one) for one in names_on_shelf(tmp_path)] == ["2025-Q4", "2026-Q3", "2026-Q3.r2", "2026-Q3.r10"]


@pytest.mark.parametrize("content", ["[", '[{"metric": 3}]', '[{"metric": "change_fail_rate", "value": "x"}]', "9"])
def test_an_annex_that_was_changed_leaves_a_pack_uncompared_and_the_next_one_published(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path)
    publish(settings, small_world())
    first = make_pack(settings, QUARTER).path
    (first / "annex" / "metric_values.json").write_text(content)
    with caplog.at_level("WARNING"):
        assert make_pack(settings, QUARTER).path.name == "2026-Q3.r1"
    assert "2026-Q3.r1" in plain(settings.packs_dir / "index.html")
