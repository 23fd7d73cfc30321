"""Deployments of attested artifacts in a small world, signed under a trust root made from a seed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from analytics.sample.signing import TrustRoot, WorkflowIdentity, provenance
from tests.pipeline.conftest import BASE, World, digest_of, sha_of

POLICIES = """\
version: 1
defaults:
  signers: ["https://github.com/{repository}/.github/workflows/release.yml@refs/**"]
  refs: ["refs/heads/main", "refs/tags/v*"]
  required: [attestation]
"""


class Shipping:
    """What was built, attested and deployed; every case is a service of its own with a repository of its name."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = TrustRoot.from_seed(11, "Acme")
        self.runs = 100
        world.set(
            supply_chain={
                "policies": "policies.yaml",
                "waivers": "waivers.yaml",
                "trusted_roots": ["root.json", "private.json"],
                "bundles": ["bundles/*"],
            }
        )
        self.write("policies.yaml", POLICIES)
        self.write("waivers.yaml", "waivers: []\n")
        self.write("root.json", self.root.trusted_root_json().decode())
        self.write("private.json", self.root.private_trusted_root_json().decode())

    def write(self, name: str, text: str) -> None:
        """A file beside the settings."""
        path = self.world.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def at(self, hours: float) -> datetime:
        """Hours after the base instant."""
        return BASE + timedelta(hours=hours)

    def deployed(self, case: str, hours: float = 10, *, name: str = "d1") -> str:
        """A deployment of a case's commit and artifact; its service and the run are made with it. Gives the digest."""
        repository = f"acme/{case}"
        if not any(entry["name"] == case for entry in self.world.catalog):
            self.world.service(case, repository=repository)
        self.runs += 1
        commit = f"{case}-{name}"
        self.world.commit(commit, hours - 3, repository=repository)
        self.world.pipeline_run(
            str(self.runs), "success", hours - 2, commit=commit, repository=repository, workflow="release.yml"
        )
        self.world.deploy(
            f"{case}-{name}", commit, hours, repository=repository, service=case, digest=commit, run_id=str(self.runs)
        )
        return digest_of(commit)

    def identity(self, case: str, *, name: str = "d1", **changes: Any) -> WorkflowIdentity:
        """Who builds a case's artifact, unless changed."""
        fields: dict[str, Any] = {
            "repository": f"acme/{case}",
            "repository_id": 4711,
            "owner_id": 12,
            "sha": sha_of(f"{case}-{name}"),
            "run_id": self.runs,
        }
        return WorkflowIdentity(**(fields | changes))

    def bundle(
        self,
        case: str,
        hours: float = 9,
        *,
        name: str = "d1",
        says: WorkflowIdentity | None = None,
        subject: str | None = None,
        witnessed: bool = True,
        **changes: Any,
    ) -> dict[str, Any]:
        """Provenance of a case's artifact; `says` is what the predicate claims, `changes` are of the certificate."""
        who = self.identity(case, name=name, **changes)
        statement = provenance(says or who, {f"{case}.tar": subject or digest_of(f"{case}-{name}")})
        signed: dict[str, Any] = json.loads(self.root.sign(statement, who, self.at(hours), witnessed=witnessed))
        return signed

    def hand_in(self, bundle: dict[str, Any], digest: str | None = None) -> None:
        """Put a bundle into the feed."""
        self.world.add("attestations", digest=digest, bundle=bundle)

    def build(self) -> None:
        """Write everything, pull and build."""
        self.world.collected("attestations", "pipeline_runs")
        self.world.write()
        self.world.command("pull")
        self.world.command("build")

    def verify(self) -> list[dict[str, Any]]:
        """Run the stage; the findings after it."""
        self.world.command("verify")
        return self.findings()

    def findings(self, *words: str) -> list[dict[str, Any]]:
        """What `findings` prints as JSON."""
        found: list[dict[str, Any]] = json.loads(self.world.command("findings", "--format", "json", *words))
        return found
