"""GitHub's artifact deployment records: asked for by digest where that was asked for, and kept when overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics.landing.coverage import quarantined
from analytics.landing.reprocess import reprocess
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import Settings
from tests.fakes.github.pulling import pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import Repository, World

DAY = 86_400


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World()) as server:
        yield server


@pytest.fixture
def shop(fake: FakeGitHub) -> Repository:
    return fake.world.repository("shop")


def asking(tmp_path: Path, fake: FakeGitHub) -> Settings:
    return workspace(tmp_path, fake, deployment_records=True)


def released(fake: FakeGitHub, shop: Repository, count: int = 1) -> list[str]:
    release = fake.world.release(shop, f"v{fake.world.new_id()}")
    return [fake.world.upload(release, f"asset-{number}") for number in range(count)]


def deployed(fake: FakeGitHub, shop: Repository) -> None:
    fake.world.set_status(shop, fake.world.deploy(shop), "SUCCESS")


def found(settings: Settings) -> list[dict[str, Any]]:
    with open_landing(settings) as con:
        rows = con.execute(f"SELECT payload FROM {create_winners(con, 'deployment_records')}").fetchall()
    return sorted((json.loads(one) for (one,) in rows), key=lambda one: str(one["recorded_at"]))


def asked(fake: FakeGitHub) -> int:
    return fake.count("deployment-records")


def test_nobody_is_asked_who_did_not_ask_for_it(tmp_path: Path, fake: FakeGitHub, shop: Repository) -> None:
    (digest,) = released(fake, shop)
    fake.world.record_deployment(digest, "shop")
    assert pulled(workspace(tmp_path, fake)).error is None
    assert asked(fake) == 0


def test_a_record_tells_which_artifact_ran_where_and_when(tmp_path: Path, fake: FakeGitHub, shop: Repository) -> None:
    digest, _ = released(fake, shop, 2)
    told = fake.world.record_deployment(digest, "checkout", "prod", "eu-west")
    settings = asking(tmp_path, fake)
    assert pulled(settings).error is None
    (record,) = found(settings)
    assert record == {
        "digest": digest, "repository": "acme/shop", "environment": "prod", "physical_environment": "eu-west",
        "deployment_name": "checkout", "recorded_at": told["updated_at"], "created_at": told["created_at"],
        "updated_at": told["updated_at"],
    }  # fmt: skip
    assert asked(fake) == 2
    assert reprocess(settings)[0].translated == 0
    assert found(settings) == [record]


def test_what_is_overwritten_there_is_kept_here(tmp_path: Path, fake: FakeGitHub, shop: Repository) -> None:
    first, second = released(fake, shop, 2)
    history = []
    for digest in (first, second, first):
        fake.world.advance(3600)
        deployed(fake, shop)
        history.append((digest, fake.world.record_deployment(digest, "shop")["updated_at"]))
        assert pulled(asking(tmp_path, fake)).error is None
    assert [(one["digest"], one["recorded_at"]) for one in found(asking(tmp_path, fake))] == history


def test_a_digest_is_asked_for_again_when_a_deployment_moved_and_never_while_all_is_quiet(
    tmp_path: Path, fake: FakeGitHub, shop: Repository
) -> None:
    released(fake, shop, 2)
    for _ in range(3):
        assert pulled(asking(tmp_path, fake)).error is None
        fake.world.advance(DAY)
    assert asked(fake) == 2
    deployed(fake, fake.world.repository("till"))
    assert pulled(asking(tmp_path, fake)).error is None
    assert asked(fake) == 2
    deployed(fake, shop)
    assert pulled(asking(tmp_path, fake)).error is None
    assert asked(fake) == 4
    # A month after it was made, a deployment is one of something newer.
    fake.world.advance(31 * DAY)
    deployed(fake, shop)
    assert pulled(asking(tmp_path, fake)).error is None
    assert asked(fake) == 4


def test_artifacts_older_than_the_lookback_are_not_asked_for(
    tmp_path: Path, fake: FakeGitHub, shop: Repository
) -> None:
    released(fake, shop)
    fake.world.advance(91 * DAY)
    released(fake, shop)
    assert pulled(asking(tmp_path, fake)).error is None
    assert asked(fake) == 1


def test_an_owner_whose_records_must_not_be_read_is_noted_once_and_asked_no_more(
    tmp_path: Path, fake: FakeGitHub, shop: Repository
) -> None:
    digest, *_ = released(fake, shop, 5)
    fake.world.record_deployment(digest, "shop")
    fake.world.records_refused = True
    for pulls in (1, 2):
        assert pulled(asking(tmp_path, fake)).error is None
        assert asked(fake) == pulls
        (note,) = quarantined(asking(tmp_path, fake))
        assert (note.entity, note.reason) == ("deployment_records", "not_available")
        assert "deployment records of acme" in note.detail
        assert TOKEN not in note.detail
    # Once they may be read, they are; the note is gone.
    fake.world.records_refused = False
    settings = asking(tmp_path, fake)
    assert pulled(settings).error is None
    assert asked(fake) == 7
    assert [one["digest"] for one in found(settings)] == [digest]
    assert quarantined(settings) == []
