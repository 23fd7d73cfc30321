"""Attests what was shipped, with real signatures of the sample's own authorities, and plants what is wrong with some.

An organisation does not attest from one day to the next: the first twelve services begin in the last quarter but one,
those of further brands with the last quarter, each with its first new image. Source: supply-chain.md sections 1 and 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from analytics.sample.book import Book
from analytics.sample.ingredients import DENIED, VULNERABLE, cyclonedx, packages_of, spdx, vulnerability_files
from analytics.sample.ledger import image_name
from analytics.sample.organisation import ORGANIZATION, OWNER, TEMPLATES, Estate, Habit
from analytics.sample.policing import CONTROLLED, EXPIRED_SERVICE, OWNER_ID, WAIVED_SERVICE, required_since
from analytics.sample.repository import digest
from analytics.sample.runs import DEPLOY_WORKFLOW
from analytics.sample.shipments import Shipment
from analytics.sample.signing import TrustRoot, WorkflowIdentity, provenance
from analytics.sample.timeline import DAY, MINUTE, Timeline, stream, utc
from analytics.sources.entities import Approval, Artifact, Attestation, PipelineRun, Sbom

# What is wrong with an attestation, or with an SBOM.
Flaw = Literal[
    "forged_claims",
    "wrong_commit",
    "self_hosted_runner",
    "pull_request_target",
    "attested_after_deployed",
    "unknown_run",
    "unsupported_log_entry",
    "unattested",
    "sbom_missing",
    "sbom_invalid",
    "sbom_older",
]
# Which of a service's images since the policy began has which flaw, as a share of them.
_FLAWS: Mapping[str, Sequence[tuple[float, Flaw]]] = {
    "storefront": ((0.35, "forged_claims"), (0.7, "sbom_missing")),
    "cart": ((0.5, "wrong_commit"),),
    "checkout": ((0.4, "sbom_older"), (0.8, "unattested")),
    "payments-gateway": ((0.5, "attested_after_deployed"),),
    "search": ((0.45, "self_hosted_runner"), (0.9, "unattested")),
    "catalogue": ((0.5, "unknown_run"),),
    EXPIRED_SERVICE: ((0.6, "pull_request_target"),),
    "loyalty": ((0.9, "sbom_invalid"),),
    WAIVED_SERVICE: ((0.5, "self_hosted_runner"),),
    "returns-portal": ((0.5, "unsupported_log_entry"),),
}
# A repository that is not public is attested without a public log.
_PRIVATE = ("accounts",)
# Bundles and SBOMs that lie beside the feeds, as a release's files would.
_BUNDLES_AS_FILES = ("loyalty", WAIVED_SERVICE)
_SBOMS_AS_FILES = ("returns-portal",)
_SPDX = ("catalogue",)
_SBOM_DAYS = 90
_CI = "ci.yml"


@dataclass
class _Image:
    """An attested image with every deployment of it."""

    first: Shipment
    attested_at: int
    run: tuple[int, str, str] | None
    shipments: list[Shipment] = field(default_factory=list)
    flaw: Flaw | None = None


class Attestor:
    """Attests repository by repository; the log of signatures grows with each."""

    def __init__(self, seed: int, timeline: Timeline) -> None:
        self.seed = seed
        self.timeline = timeline
        self.since = required_since(timeline)
        self._root = TrustRoot.from_seed(seed, ORGANIZATION)

    def files(self) -> dict[str, bytes]:
        """The trusted roots, and the records of vulnerabilities."""
        return {
            "roots/harbour-pine.json": self._root.trusted_root_json() + b"\n",
            "roots/harbour-pine-private.json": self._root.private_trusted_root_json() + b"\n",
            **vulnerability_files(),
        }

    def attest(self, estate: Estate, book: Book) -> None:
        """Add attestations, SBOMs, artifacts and files for what a repository's services shipped."""
        habits = {habit.name: habit for habit in estate.habits}
        by_service: dict[str, list[Shipment]] = {}
        for shipment in sorted(book.shipments, key=lambda one: (one.created, one.service, one.key)):
            by_service.setdefault(shipment.service, []).append(shipment)
        builds = _builds(book) if any(one.run_id is None for one in book.shipments) else {}
        images: list[_Image] = []
        for service, shipments in by_service.items():
            own = self._images(habits[service], shipments, builds, book)
            self._spoil(service, own)
            images += own
            self._judge_process(service, shipments, book)
        for image in sorted(images, key=lambda one: (one.attested_at, one.first.image)):
            habit = habits[image.first.service]
            self._write_artifact(habit, image, book)
            self._write_attestation(estate, habit, image, book)
            self._write_sbom(habit, image, book)

    def _begins(self, habit: Habit) -> int:
        """When a service's images are attested at first."""
        if not habit.first_block or len(self.timeline.bounds) < 2:
            return self.since
        days = stream(self.seed, "attests", habit.name).uniform(3, 60)
        return self.timeline.bounds[-2] + round(days * DAY)

    def _images(
        self, habit: Habit, shipments: Sequence[Shipment], builds: Mapping[str, tuple[int, int]], book: Book
    ) -> list[_Image]:
        """The images that are attested; what was built before the beginning never is."""
        begins = self._begins(habit)
        images: dict[str, _Image | None] = {}
        for shipment in shipments:
            if shipment.image not in images:
                run = self._run(shipment, builds)
                attested = shipment.created >= begins and shipment.image_is_known and run is not None
                images[shipment.image] = _Image(shipment, shipment.created - 4, run) if attested else None
            image = images[shipment.image]
            if image is not None:
                image.shipments.append(shipment)
                if shipment.finished - image.first.created > _SBOM_DAYS * DAY:
                    book.plant("sbom_older", shipment.key)
            elif shipment.finished >= self.since:
                book.plant("unattested", shipment.key)
                book.plant("sbom_missing", shipment.key)
        return [image for image in images.values() if image is not None]

    def _run(self, shipment: Shipment, builds: Mapping[str, tuple[int, int]]) -> tuple[int, str, str] | None:
        """The run that built an image, its workflow and what started it."""
        if shipment.run_id is not None:
            return shipment.run_id, DEPLOY_WORKFLOW, "workflow_dispatch"
        run_id, created = builds.get(shipment.sha, (0, 0))
        return (run_id, _CI, "push") if run_id and created < shipment.created else None

    def _spoil(self, service: str, images: Sequence[_Image]) -> None:
        fresh = [image for image in images if image.first.created >= self.since]
        for share, flaw in _FLAWS.get(service, ()):
            if fresh:
                fresh[min(round(share * len(fresh)), len(fresh) - 1)].flaw = flaw

    def _judge_process(self, service: str, shipments: Sequence[Shipment], book: Book) -> None:
        """Say which deployments were not approved, had no ticket, or were brought to production by their author."""
        if service not in CONTROLLED:
            return
        given = {one.deployment_id: one for one in book.records["approvals"] if isinstance(one, Approval)}
        for shipment in shipments:
            if shipment.finished < self.since:
                continue
            approval = given.get(shipment.deployment_id or "")
            if approval is None:
                book.plant("not_approved", shipment.key)
            if approval is None or approval.ticket is None:
                book.plant("without_ticket", shipment.key)
            if (approval.approver if approval else shipment.creator) in shipment.authors:
                book.plant("author_alone", shipment.key)

    def _write_artifact(self, habit: Habit, image: _Image, book: Book) -> None:
        """Where no deployment's record names the image, the registry says which commit and run it came of."""
        first = image.first
        if habit.selector in ("environment", "gitops"):
            return
        book.add(
            "artifacts",
            Artifact(
                digest=first.image,
                name=image_name(habit),
                repository=habit.repository,
                sha=first.sha,
                run_id=image.run[0] if image.run else None,
                created_at=utc(image.attested_at),
                release=first.release,
            ),
        )

    def _write_attestation(self, estate: Estate, habit: Habit, image: _Image, book: Book) -> None:
        flaw, first, at = image.flaw, image.first, image.attested_at
        if flaw == "attested_after_deployed":
            at = first.finished + 40 * MINUTE
            book.plant(flaw, *(one.key for one in image.shipments if one.finished < at))
        elif flaw is not None and not flaw.startswith("sbom"):
            book.plant(flaw, *(one.key for one in image.shipments))
        if habit.name == WAIVED_SERVICE and flaw == "self_hosted_runner":
            book.plant("waived_findings", *(one.key for one in image.shipments))
        if habit.name == EXPIRED_SERVICE and flaw == "pull_request_target":
            book.plant("expired_waivers", *(one.key for one in image.shipments))
        if flaw == "unattested":
            return
        private = habit.name in _PRIVATE
        if private:
            book.plant("private_attestations", *(one.key for one in image.shipments))
        identity = self._identity(estate, habit, image, visibility="private" if private else "public")
        signer = _flawed(self.seed, identity, flaw)
        # Only what is forged says another thing than its certificate.
        claimed = identity if flaw == "forged_claims" else signer
        bundle = self._root.sign(
            provenance(claimed, {image_name(habit): first.image}),
            signer,
            utc(at),
            witnessed=not private,
            entry="intoto" if flaw == "unsupported_log_entry" else "dsse",
        )
        if habit.name in _BUNDLES_AS_FILES:
            book.files[f"bundles/{habit.name}/{first.release}.sigstore.json"] = bundle + b"\n"
        else:
            book.add("attestations", Attestation(digest=first.image, bundle=msgspec.Raw(bundle)))

    def _identity(self, estate: Estate, habit: Habit, image: _Image, *, visibility: str) -> WorkflowIdentity:
        assert image.run is not None
        first, (run_id, workflow, trigger) = image.first, image.run
        template = f"{TEMPLATES}/{'deploy.yml' if workflow == DEPLOY_WORKFLOW else 'build.yml'}@refs/tags/v3"
        return WorkflowIdentity(
            repository=habit.repository,
            repository_id=500_000_000 + estate.number,
            owner_id=OWNER_ID,
            sha=first.sha,
            run_id=run_id,
            ref=first.ref,
            workflow_path=f".github/workflows/{workflow}",
            workflow_name="Deploy" if workflow == DEPLOY_WORKFLOW else "Build",
            signer_workflow=template if first.templated else None,
            signer_sha=digest(self.seed, "templates", "v3") if first.templated else None,
            trigger=trigger,
            visibility=visibility,
        )

    def _write_sbom(self, habit: Habit, image: _Image, book: Book) -> None:
        first, flaw, at = image.first, image.flaw, image.attested_at
        keys = [one.key for one in image.shipments]
        if flaw in ("sbom_missing", "sbom_invalid", "sbom_older"):
            book.plant(flaw, *keys)
        if flaw == "sbom_missing":
            return
        packages = packages_of(self.seed, habit.name, at, (self.since, self.timeline.now))
        for name, ingredients in (("denied_licences", DENIED), ("vulnerable_components", VULNERABLE)):
            for one in ingredients:
                thing = f"{habit.name} {one.package.name}"
                if one.service == habit.name and one.package in packages and thing not in book.planted[name]:
                    book.plant(name, thing)
        if flaw == "sbom_older":
            # Made before there was anything of the commit that it is said to describe.
            at -= 60 * DAY
        write = spdx if habit.name in _SPDX else cyclonedx
        document = write(first.image, image_name(habit), first.release or first.sha[:12], packages, at)
        if flaw == "sbom_invalid":
            document["components"][0]["type"] = "thing"
        raw = json.dumps(document, separators=(",", ":")).encode()
        if habit.name in _SBOMS_AS_FILES:
            book.files[f"sboms/{habit.name}/{first.image.removeprefix('sha256:')[:16]}.cdx.json"] = raw + b"\n"
        else:
            book.add("sboms", Sbom(digest=first.image, document=msgspec.Raw(raw)))


def _flawed(seed: int, identity: WorkflowIdentity, flaw: Flaw | None) -> WorkflowIdentity:
    """Who signed, where something is wrong with it."""
    if flaw == "forged_claims":
        return replace(
            identity,
            repository=f"{OWNER}-mirror/{identity.repository.split('/')[1]}",
            repository_id=identity.repository_id + 99_000_000,
            owner_id=identity.owner_id + 99_000,
            run_id=identity.run_id - 6_000_000_000,
            signer_workflow=None,
            signer_sha=None,
        )
    if flaw == "wrong_commit":
        return replace(identity, sha=digest(seed, identity.repository, "off the trunk", identity.sha))
    if flaw == "self_hosted_runner":
        return replace(identity, runner_environment="self-hosted")
    if flaw == "pull_request_target":
        return replace(identity, trigger="pull_request_target")
    if flaw == "unknown_run":
        return replace(identity, run_id=identity.run_id - 6_000_000_000)
    return identity


def _builds(book: Book) -> dict[str, tuple[int, int]]:
    """The run of continuous integration that built each pushed commit, and when it began."""
    found: dict[str, tuple[int, int]] = {}
    for run in book.records["pipeline_runs"]:
        if isinstance(run, PipelineRun) and run.workflow == _CI and run.event == "push" and run.attempt == 1:
            assert isinstance(run.run_id, int)
            found.setdefault(run.head_sha, (run.run_id, int(run.created_at.timestamp())))
    return found
