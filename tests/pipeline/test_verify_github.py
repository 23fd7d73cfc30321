"""From GitHub to the verdict: digest in the payload, attestation by digest, repository by its id, runs as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import duckdb
import pytest

from analytics.delivery.build import build
from analytics.sample.signing import TrustRoot, WorkflowIdentity, provenance
from analytics.settings import Settings, load_settings
from analytics.supply_chain.listing import findings_list
from analytics.supply_chain.verify import verify
from tests.fakes.github.pulling import pulled, workspace
from tests.fakes.github.server import TOKEN, FakeGitHub
from tests.fakes.github.world import Repository, World
from tests.pipeline.conftest import digest_of

DAY = 86_400
ROOT = TrustRoot.from_seed(5, "Acme")


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeGitHub]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QD_FAKE_TOKEN", TOKEN)
        with FakeGitHub(World()) as server:
            yield server


def ship(world: World, shop: Repository, name: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    """A commit, the run that built it, its attestation and its deployment; gives digest and bundle."""
    (commit,) = world.push(shop)
    run = world.start_run(shop, sha=commit.sha)
    world.proceed(run)
    world.advance(600)
    world.proceed(run)
    digest = digest_of(name)
    who = WorkflowIdentity(
        **(
            {
                "repository": shop.full_name,
                "repository_id": shop.id,
                "owner_id": 1,
                "sha": commit.sha,
                "run_id": run.id,
            }
            | changes
        )
    )
    bundle: dict[str, Any] = json.loads(ROOT.sign(provenance(who, {"shop": digest}), who, world.second))
    world.advance(60)
    made = world.deploy(shop, sha=commit.sha)
    made.payload = json.dumps({"name": name, "image": f"ghcr.io/acme/shop@{digest}"})
    world.set_status(shop, made, "SUCCESS", run)
    world.advance(DAY)
    return digest, bundle


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory, fake: FakeGitHub) -> Settings:
    world = fake.world
    shop = world.repository("store")
    world.attest(shop, *ship(world, shop, "under the old name"))
    world.rename(shop, "shop")
    world.attest(shop, *ship(world, shop, "inline"))
    for name, changes in (("stored", {}), ("of another id", {"repository_id": 666}), ("of no run", {"run_id": 666})):
        digest, bundle = ship(world, shop, name, **changes)
        world.attest_in_store(shop, digest, bytes(cramjam.snappy.compress_raw(json.dumps(bundle).encode())))
    digest, _ = ship(world, shop, "lost")
    world.attest_in_store(shop, digest, b"")
    ship(world, shop, "not attested")
    folder = tmp_path_factory.mktemp("github")
    workspace(folder, fake)
    path = folder / "quarterdeck.yaml"
    settings = json.loads(path.read_text())
    settings["supply_chain"] = {"trusted_roots": ["root.json"]}
    path.write_text(json.dumps(settings))
    Path(folder / "root.json").write_bytes(ROOT.trusted_root_json())
    loaded = load_settings(path)
    assert pulled(loaded).error is None
    build(loaded)
    verify(loaded)
    return loaded


VERDICTS = {
    "under the old name": "VERIFIED",
    "inline": "VERIFIED",
    "stored": "VERIFIED",
    "of another id": "UNTRUSTED_SOURCE",
    "of no run": "RUN_UNKNOWN",
    "lost": "ERROR_FETCH",
    "not attested": "NO_ATTESTATION",
}


def test_every_deployment_of_github_has_its_verdict(verified: Settings) -> None:
    table = f"'{verified.lake_dir}/deployment_provenance/*/*.parquet'"
    with duckdb.connect() as con:
        rows = con.execute(f"SELECT digest, verdict, join_kind FROM {table}").fetchall()
    found = {digest: (verdict, join) for digest, verdict, join in rows}
    assert found == {digest_of(name): (verdict, "payload") for name, verdict in VERDICTS.items()}


def test_only_what_is_wrong_is_a_finding(verified: Settings) -> None:
    found = {(row["digest"], row["rule"]) for row in findings_list(verified)}
    assert found == {
        (digest_of("of another id"), "source_repository"),
        (digest_of("of no run"), "run"),
        (digest_of("lost"), "readable"),
        (digest_of("not attested"), "attestation"),
    }
