"""Attestations by digest: asked for in bulk, fetched without a credential, never larger than they may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import pytest

from analytics.errors import SourceError
from analytics.landing.coverage import quarantined
from analytics.landing.winners import create_winners, open_landing
from analytics.settings import Settings
from analytics.sources.github import attestations
from tests.fakes.github.pulling import pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import SIGNED, Repository, World

DAY = 86_400


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    with FakeGitHub(World()) as server:
        yield server


@pytest.fixture
def shop(fake: FakeGitHub) -> Repository:
    return fake.world.repository("shop")


def settings_now(tmp_path: Path, fake: FakeGitHub) -> Settings:
    return workspace(tmp_path, fake)


def bundle(number: int) -> dict[str, Any]:
    return {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "number": number}


def stored(content: Any) -> bytes:
    return bytes(cramjam.snappy.compress_raw(json.dumps(content).encode()))


def released(fake: FakeGitHub, shop: Repository, count: int = 1) -> list[str]:
    release = fake.world.release(shop, f"v{fake.world.new_id()}")
    return [fake.world.upload(release, f"asset-{number}") for number in range(count)]


def found(settings: Settings) -> list[tuple[str, int]]:
    with open_landing(settings) as con:
        rows = con.execute(f"SELECT payload FROM {create_winners(con, 'attestations')}").fetchall()
    return sorted((json.loads(one)["digest"], json.loads(one)["bundle"]["number"]) for (one,) in rows)


def bulk(fake: FakeGitHub) -> int:
    return fake.count("bulk-list")


def test_bundles_come_with_the_list_or_from_the_store(tmp_path: Path, fake: FakeGitHub, shop: Repository) -> None:
    first, second, _ = released(fake, shop, 3)
    fake.world.attest(shop, first, bundle(1))
    fake.world.attest_in_store(shop, second, stored(bundle(2)))
    fake.world.attest_in_store(shop, second, stored(bundle(3)))
    settings = settings_now(tmp_path, fake)
    assert pulled(settings).error is None
    assert found(settings) == [(first, 1), (second, 2), (second, 3)]
    assert bulk(fake) == 1


def test_a_digest_is_asked_for_again_when_a_run_moved_and_never_while_all_is_quiet(
    tmp_path: Path, fake: FakeGitHub, shop: Repository
) -> None:
    (digest,) = released(fake, shop)
    for _ in range(3):
        assert pulled(settings_now(tmp_path, fake)).error is None
        fake.world.advance(DAY)
    assert bulk(fake) == 1
    fake.world.start_run(shop)
    fake.world.attest(shop, digest, bundle(1))
    settings = settings_now(tmp_path, fake)
    assert pulled(settings).error is None
    assert found(settings) == [(digest, 1)]
    assert bulk(fake) == 2


def test_a_digest_is_asked_for_a_last_time_a_week_after_it_was_made(
    tmp_path: Path, fake: FakeGitHub, shop: Repository
) -> None:
    (digest,) = released(fake, shop)
    assert pulled(settings_now(tmp_path, fake)).error is None
    fake.world.attest(shop, digest, bundle(1))
    fake.world.advance(8 * DAY)
    settings = settings_now(tmp_path, fake)
    assert pulled(settings).error is None
    assert found(settings) == [(digest, 1)]
    fake.world.start_run(shop)
    fake.world.advance(DAY)
    assert pulled(settings_now(tmp_path, fake)).error is None
    assert bulk(fake) == 2


def test_1500_digests_are_two_questions_and_their_pages(tmp_path: Path, fake: FakeGitHub, shop: Repository) -> None:
    digests = released(fake, shop, 1500)
    for number, digest in enumerate(digests[:250]):
        fake.world.attest(shop, digest, bundle(number))
    settings = settings_now(tmp_path, fake)
    assert pulled(settings).error is None
    assert len(found(settings)) == 250
    assert bulk(fake) == 3 + 1


def test_a_bundle_that_cannot_be_fetched_is_told_and_fetched_later(
    tmp_path: Path, fake: FakeGitHub, shop: Repository
) -> None:
    good, bad = released(fake, shop, 2)
    fake.world.attest_in_store(shop, good, stored(bundle(1)))
    fake.world.attest_in_store(shop, bad, b"")
    settings = settings_now(tmp_path, fake)
    assert pulled(settings).error is None
    assert found(settings) == [(good, 1)]
    (refused,) = quarantined(settings)
    assert (refused.entity, refused.reason) == ("attestations", "fetch_failed")
    assert bad in refused.detail
    assert SIGNED not in refused.detail
    fake.world.blobs.update(dict.fromkeys(fake.world.blobs, stored(bundle(2))))
    assert pulled(settings).error is None
    assert (bad, 2) in found(settings)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(cramjam.snappy.compress_raw(b"0" * (attestations.MAX_BUNDLE_BYTES + 1))), "unpacks to more than"),
        (b"\xff\xff\xff\xff\x0f" + b"\x00" * 10, "unpacks to more than"),
        (b"\xff" * 20, "not compressed"),
        (b"\x05ab", "not compressed"),
        (b"", "not compressed"),
    ],
)
def test_a_bomb_or_garbage_is_refused_with_words(content: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        attestations.decompressed(content)


@pytest.mark.parametrize("address", ["http://store.example/x", "file:///etc/passwd", "", "ftp://127.0.0.1/x"])
def test_an_address_that_is_none_of_a_store_is_not_asked(address: str) -> None:
    with pytest.raises(SourceError):
        attestations.stored_bundle(address)
