"""The catalog: which services exist, who owns them and how their production deployments are recognised.

Source: contract.md section 3. Backstage `catalog-info.yaml` descriptors are read too, in the same files setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from analytics.errors import SettingsError
from analytics.models import StrictModel, parse_model
from analytics.yaml_lines import YamlDocument, read_yaml

ANNOTATION_PREFIX = "quarterdeck/"
# Backstage's well-known names for the same service elsewhere.
_ALIASES = ("pagerduty.com/service-id", "jira/component")


class DeploymentSelector(StrictModel):
    """How a production deployment of a service is recognised; exactly one way per service."""

    environments: list[str] | None = None
    workflow: str | None = None
    job: str | None = None
    releases: bool = False
    tags: str | None = None
    # Lead time runs to the first region that is live, or to the last (metrics.md E11).
    lead_to: str = Field(default="first_region", pattern=r"^(first|last)_region$")

    @model_validator(mode="after")
    def _one_way(self) -> DeploymentSelector:
        ways = [bool(self.environments), bool(self.workflow), self.releases, bool(self.tags)]
        if sum(ways) != 1:
            raise ValueError("give exactly one of environments, workflow (with job), releases, tags")
        if self.job and not self.workflow:
            raise ValueError("job needs workflow beside it")
        return self

    @property
    def entity(self) -> str:
        """The feed entity that deployments come from."""
        if self.workflow:
            return "pipeline_runs"
        if self.releases:
            return "releases"
        return "tags" if self.tags else "deployments"


class RollbackReadiness(StrictModel):
    """What a service has ready for going back."""

    runbook: str | None = None
    automation: str | None = None


class Service(StrictModel):
    """One service: DORA's unit of measurement (metrics.md section 1)."""

    name: str = Field(min_length=1, max_length=200)
    team: str | None = None
    tier: int | None = Field(default=None, ge=0)
    repository: str
    paths: list[str] = []
    deploys: DeploymentSelector = DeploymentSelector(environments=["production"])
    artifacts: list[str] = []
    link_window_hours: float | None = Field(default=None, ge=0)
    failed_attempt_is_failure: bool = False
    runbooks: list[str] = []
    rollback: RollbackReadiness = RollbackReadiness()
    since: date | None = None
    lifecycle: str | None = None
    # What other tools call it: a PagerDuty service's id, a Jira component.
    aliases: list[str] = []

    @field_validator("team")
    @classmethod
    def _plain_team(cls, value: str | None) -> str | None:
        return value or None


class _CatalogFile(StrictModel):
    services: list[Service]


class Catalog:
    """All services by name, in the order of their names."""

    def __init__(self, services: list[Service]) -> None:
        self.services = sorted(services, key=lambda service: service.name)
        self.by_name = {service.name: service for service in self.services}
        self.by_repository: dict[str, list[Service]] = {}
        for service in self.services:
            self.by_repository.setdefault(service.repository.casefold(), []).append(service)

    def of_repository(self, repository: str) -> list[Service]:
        """Services that live in a repository; GitHub's names ignore letter case."""
        return self.by_repository.get(repository.casefold(), [])

    def names(self) -> dict[str, str]:
        """Services by their own names and by what other tools call them; an own name wins."""
        aliases = {alias: service.name for service in self.services for alias in service.aliases}
        return {**aliases, **{name: name for name in self.by_name}}

    def under(self, present_names: Mapping[str, str]) -> Catalog:
        """The same services, those in a repository that was renamed under its present name (by folded former name)."""
        return Catalog(
            [
                service.model_copy(update={"repository": present_names[service.repository.casefold()]})
                if service.repository.casefold() in present_names
                else service
                for service in self.services
            ]
        )


def load_catalog(paths: list[Path]) -> Catalog:
    """Read catalog files (ours or Backstage's, a folder is searched for `catalog-info.yaml`).

    Raises SettingsError with file, line and key; also when two entries share a name.
    """
    services: list[Service] = []
    seen: dict[str, str] = {}
    for path in _files(paths):
        for document in read_yaml(path):
            for service, location in _services(document):
                where = f"{path}:{document.line(location)}"
                if service.name in seen:
                    raise SettingsError(
                        f"service '{service.name}' is declared twice; first at {seen[service.name]}",
                        where=where,
                        fix="Keep one of them, or rename one.",
                    )
                seen[service.name] = where
                services.append(service)
    return Catalog(services)


def _files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        files += sorted(path.rglob("catalog-info.y*ml")) if path.is_dir() else [path]
    return files


def _services(document: YamlDocument) -> list[tuple[Service, tuple[str | int, ...]]]:
    value = document.value
    if isinstance(value, Mapping) and str(value.get("apiVersion", "")).startswith("backstage.io/"):
        if value.get("kind") != "Component":
            return []
        return [(_from_backstage(document, value), ())]
    file = parse_model(_CatalogFile, document, value)
    return [(service, ("services", index)) for index, service in enumerate(file.services)]


def _from_backstage(document: YamlDocument, value: Mapping[str, Any]) -> Service:
    """A Backstage component as a service: owner becomes the team, annotations give the rest.

    `github.com/project-slug` names the repository, `pagerduty.com/service-id` and `jira/component` what other tools
    call it; `quarterdeck/aliases`, `/tier`, `/paths`, `/environments`, `/workflow`,
    `/job`, `/tags`, `/artifacts`, `/runbooks`, `/since` (lists comma separated) say what Backstage has no field for.
    """
    metadata = value.get("metadata")
    spec = value.get("spec") or {}
    if not isinstance(metadata, Mapping) or not isinstance(spec, Mapping):
        raise SettingsError.at(document.path, document.line(()), "a Backstage component needs metadata and spec")
    annotations = metadata.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise SettingsError.at(
            document.path, document.line(("metadata", "annotations")), "annotations must be a mapping"
        )
    ours = {
        str(key).removeprefix(ANNOTATION_PREFIX): str(item)
        for key, item in annotations.items()
        if str(key).startswith(ANNOTATION_PREFIX)
    }
    repository = annotations.get("github.com/project-slug") or annotations.get("gitlab.com/project-slug")
    if not repository:
        raise SettingsError.at(
            document.path,
            document.line(("metadata",)),
            f"component '{metadata.get('name')}' names no repository",
            "Add the annotation github.com/project-slug: owner/name.",
        )

    def listed(key: str) -> list[str]:
        return [part.strip() for part in ours.get(key, "").split(",") if part.strip()]

    deploys: dict[str, Any] = {}
    if listed("environments"):
        deploys["environments"] = listed("environments")
    for key in ("workflow", "job", "tags"):
        if key in ours:
            deploys[key] = ours[key]
    if ours.get("releases", "").lower() == "true":
        deploys["releases"] = True
    owner = str(spec.get("owner") or "")
    service: dict[str, Any] = {
        "name": metadata.get("name"),
        "team": owner.split(":", 1)[-1].rsplit("/", 1)[-1] or None,
        "repository": str(repository),
        "lifecycle": spec.get("lifecycle"),
        "paths": listed("paths"),
        "artifacts": listed("artifacts"),
        "runbooks": listed("runbooks"),
        "aliases": listed("aliases") + [str(annotations[key]) for key in _ALIASES if annotations.get(key)],
        "since": ours.get("since"),
    }
    if "tier" in ours:
        service["tier"] = ours["tier"]
    if deploys:
        service["deploys"] = deploys
    return parse_model(Service, document, service, ("metadata",))
