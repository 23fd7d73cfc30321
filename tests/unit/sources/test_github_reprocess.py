"""Records of GitHub made anew from the answers that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics.landing.reprocess import reprocess
from analytics.settings import Settings
from analytics.sources.github import translate
from tests.fakes.github.pulling import landed, pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import World


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World()) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Several pulls of a repository that changes, and is renamed, between them; then GitHub is gone."""
    world = fake.world
    shop = world.repository("shop")
    made = workspace(tmp_path, fake)
    for title in ("first", "second", "third"):
        world.push(shop, 2)
        pull = world.open_pull(shop, 2)
        run = world.start_run(shop)
        world.advance(300)
        world.proceed(run)
        world.edit_pull(pull, title)
        assert pulled(made).error is None
        world.advance(300)
        world.proceed(run)
        world.set_status(shop, world.deploy(shop), "SUCCESS")
        assert pulled(made).error is None
        world.rename(shop, f"shop-{title}")
    assert pulled(made).error is None
    monkeypatch.delenv("QD_FAKE_TOKEN")
    fake.answers_left = 0
    return made


def test_the_same_translation_gives_the_same_records(settings: Settings) -> None:
    before = landed(settings)
    (result,) = reprocess(settings)
    assert (result.to_quarantine, result.to_items) == (0, 0)
    assert landed(settings) == before
    # The second time, under the present name.
    assert reprocess(settings)[0].translated == 0


def test_a_changed_translation_reaches_what_was_landed_before(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = translate.pipeline_run

    def shouting(raw: dict[str, Any], repository: str) -> dict[str, Any]:
        return {**usual(raw, repository), "workflow": str(raw["path"]).upper()}

    monkeypatch.setattr(translate, "pipeline_run", shouting)
    assert reprocess(settings)[0].translated > 0
    runs = landed(settings)["pipeline_runs"].values()
    assert {run["workflow"] for run in runs} == {".GITHUB/WORKFLOWS/CI.YML"}
    assert len(runs) == 3


def test_what_translates_badly_is_quarantined_and_comes_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = landed(settings)
    usual = translate.pipeline_run
    with monkeypatch.context() as patch:
        patch.setattr(translate, "pipeline_run", lambda raw, name: {**usual(raw, name), "created_at": "soon"})
        reprocess(settings)
        assert "pipeline_runs" not in landed(settings)
    reprocess(settings)
    assert landed(settings) == before
