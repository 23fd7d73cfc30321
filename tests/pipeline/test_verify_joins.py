"""Which artifact a deployment shipped, by the strongest join there is, and what strangers may hand in beside it."""

from __future__ import annotations

import base64
import json
from typing import Any

import duckdb
import pytest

from tests.pipeline.conftest import World, digest_of, sha_of
from tests.pipeline.shipping import Shipping


class Joined:
    """The rows of a world that was verified, by service."""

    def __init__(self, shipping: Shipping) -> None:
        self.shipping = shipping
        folder = shipping.world.path / "data/lake/deployment_provenance/*/*.parquet"
        with duckdb.connect() as con:
            found = con.execute(
                f"SELECT service, join_kind, digest, verdict, artifact FROM '{folder}' ORDER BY service, digest"
            ).fetchall()
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        for service, *row in found:
            self.rows.setdefault(service, []).append(tuple(row))

    def one(self, service: str) -> tuple[Any, ...]:
        (row,) = self.rows[service]
        return row


def ship(shipping: Shipping, case: str, *, ref: str | None = None, digest: str | None = None, **entry: Any) -> None:
    """A deployment that names no digest unless told, and the provenance of the case's artifact."""
    world = shipping.world
    repository = f"acme/{case}"
    world.service(case, repository=repository, **entry)
    shipping.runs += 1
    commit = f"{case}-d1"
    world.commit(commit, 7, repository=repository)
    world.pipeline_run(str(shipping.runs), "success", 8, commit=commit, repository=repository)
    record = {"repository": repository, "service": case, "run_id": str(shipping.runs), "ref": ref}
    world.deploy(f"{case}-d1", commit, 10, **record)
    world.records["deployments"][-1] |= {"digest": digest} if digest else {}
    shipping.hand_in(shipping.bundle(case))


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    world = World(tmp_path_factory.mktemp("joins") / "world")
    shipping = Shipping(world)

    def artifact(case: str, name: str | None = None, digest: str | None = None, **fields: Any) -> None:
        world.add(
            "artifacts",
            digest=digest or digest_of(f"{case}-d1"),
            name=name or f"ghcr.io/acme/{case}",
            repository=f"acme/{case}",
            **fields,
        )

    ship(shipping, "payload", digest=digest_of("payload-d1").upper().replace("SHA256", "sha256"))
    artifact("payload", digest=digest_of("another"), sha=sha_of("payload-d1"))
    ship(shipping, "by-sha")
    artifact("by-sha", sha=sha_of("by-sha-d1"))
    ship(shipping, "by-run")
    artifact("by-run", run_id=str(shipping.runs))
    artifact("by-run", digest=digest_of("of the commit"), sha=sha_of("by-run-d1"))
    ship(shipping, "by-tag", ref="v1.2")
    artifact("by-tag", release="v1.2")
    ship(shipping, "commit-only")
    ship(shipping, "two-artifacts")
    artifact("two-artifacts", sha=sha_of("two-artifacts-d1"))
    artifact("two-artifacts", "ghcr.io/acme/worker", digest_of("worker"), sha=sha_of("two-artifacts-d1"))
    ship(shipping, "named", artifacts=["ghcr.io/acme/named"])
    artifact("named", sha=sha_of("named-d1"))
    artifact("named", "ghcr.io/acme/tests", digest_of("tests"), sha=sha_of("named-d1"))
    ship(shipping, "recorded")
    artifact("recorded", digest=digest_of("of the commit too"), sha=sha_of("recorded-d1"))
    ship(shipping, "said-itself", digest=digest_of("said-itself-d1"))
    for case, digest in (("recorded", "recorded-d1"), ("said-itself", "of another")):
        world.add(
            "deployment_records",
            digest=digest_of(digest),
            repository=f"acme/{case}",
            environment="production",
            deployment_name=case,
            recorded_at=world.records["deployments"][-1]["created_at"],
        )
    # What strangers may hand in beside all this, each for an artifact that was deployed.
    whole = shipping.bundle("by-sha")
    payload = json.loads(base64.b64decode(whole["dsseEnvelope"]["payload"]))
    payload["subject"] = payload["subject"] * 10_001
    many = whole | {
        "dsseEnvelope": whole["dsseEnvelope"] | {"payload": base64.b64encode(json.dumps(payload).encode()).decode()}
    }
    deep: Any = {}
    for _ in range(150):
        deep = {"verificationMaterial": deep}
    for bundle in (
        {},
        {"mediaType": 7},
        {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": None},
        whole | {"verificationMaterial": [[]]},
        whole | {"dsseEnvelope": "x" * 1_000_000},
        many,
        deep,
        {"attestations": [{}] * 2_000},
    ):
        shipping.hand_in(bundle, digest_of("by-sha-d1"))
    shipping.build()
    shipping.verify()
    return Joined(shipping)


@pytest.mark.parametrize(
    ("service", "join"),
    [
        ("payload", "payload"),
        ("said-itself", "payload"),
        ("recorded", "record"),
        ("by-sha", "release"),
        ("by-run", "release"),
        ("by-tag", "release"),
        ("named", "release"),
    ],
)
def test_an_artifact_is_found_by_the_strongest_join(service: str, join: str, joined: Joined) -> None:
    assert joined.one(service)[:3] == (join, digest_of(f"{service}-d1"), "VERIFIED")


def test_a_commit_alone_is_the_weakest_join_and_says_so(joined: Joined) -> None:
    assert joined.one("commit-only") == ("commit", None, "VERIFIED", None)


def test_every_artifact_of_a_commit_is_judged(joined: Joined) -> None:
    verdicts = {artifact: verdict for _, _, verdict, artifact in joined.rows["two-artifacts"]}
    assert verdicts == {"ghcr.io/acme/two-artifacts": "VERIFIED", "ghcr.io/acme/worker": "NO_ATTESTATION"}
    (finding,) = [one for one in joined.shipping.findings() if one["service"] == "two-artifacts"]
    assert (finding["verdict"], finding["join"], finding["digest"]) == (
        "NO_ATTESTATION",
        "release",
        digest_of("worker"),
    )


def test_hostile_attestations_are_findings_with_a_reason_and_hide_nothing(joined: Joined) -> None:
    found = [one for one in joined.shipping.findings() if one["service"] == "by-sha"]
    assert {one["rule"] for one in found} == {"readable", "certificate", "signature"}
    assert all(one["reason"] and len(one["reason"]) < 1_000 for one in found)
    assert len({one["bundle_sha256"] for one in found}) >= 7
    assert joined.one("by-sha")[2] == "VERIFIED"
