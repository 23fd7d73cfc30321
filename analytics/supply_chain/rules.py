"""`policies.yaml`: what an attestation must say to be trusted, as data that can change without verifying again.

    version: 1
    defaults:                                   # for every repository; what is not said has the defaults of `Rules`
      refs: ["refs/heads/main", "refs/tags/v*"]
    policies:
      - repositories: ["acme/*"]                # and, or instead, services: [checkout]
        signers: ["https://github.com/acme/ci/.github/workflows/build.yml@refs/tags/*"]
        severities: {runner: high}

Every entry that matches a deployment applies, in the order of the file; a key that a later one states replaces an
earlier one's. An entry with `since: 2026-04-01` says nothing of what was deployed before that day. Source:
supply-chain.md section 1, metrics.md section 4 (indicator 12).
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from analytics.errors import SettingsError
from analytics.globs import name_matches
from analytics.models import StrictModel, parse_model
from analytics.yaml_lines import Location, read_yaml

Severity = Literal["critical", "high", "medium", "low", "info"]
# What a deployment may have to have: of its artifact, and of how people brought it to production.
Control = Literal["signature", "attestation", "sbom", "review", "separation_of_duties", "approval", "change_ticket"]
PROCESS_CONTROLS: tuple[Control, ...] = ("review", "separation_of_duties", "approval", "change_ticket")

# Every rule that a finding can name, with its severity unless a policy says otherwise.
RULE_SEVERITIES: Mapping[str, Severity] = {
    # What cryptography says.
    "readable": "medium",
    "signature": "critical",
    "log": "critical",
    "certificate": "critical",
    # What was signed.
    "subject": "critical",
    "statement_type": "high",
    "predicate_type": "low",
    "claims": "critical",
    # Who signed it, and how.
    "issuer": "high",
    "signer": "high",
    "source_repository": "critical",
    "source_commit": "high",
    "ref": "medium",
    "trigger": "high",
    "runner": "medium",
    "builder": "medium",
    "run": "high",
    "attested_before_deployed": "medium",
    # What has to be there.
    "attestation": "high",
    "sbom": "medium",
    "review": "high",
    "separation_of_duties": "high",
    "approval": "medium",
    "change_ticket": "low",
    # What SBOMs say.
    "sbom_schema": "low",
    "sbom_subject": "medium",
    "sbom_age": "low",
    "component_count": "low",
    "license_denied": "high",
    "license_review": "low",
    "vulnerability": "high",
}

OWN_REPOSITORY = "{repository}"
SLSA_PROVENANCE_TYPES = ("https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2")
SBOM_TYPES = ("https://cyclonedx.org/bom", "https://spdx.dev/Document")
# Reusable workflows that build where the calling workflow cannot reach: SLSA Build L3.
_SLSA_GENERATOR = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/*@refs/tags/v*"


def _is_uri(glob: str) -> str:
    if not glob.startswith(("https://", "*")):
        raise ValueError(f"'{glob}' is no URI; it starts with https://")
    return glob


def _is_workflow(glob: str) -> str:
    if "@" not in _is_uri(glob) and not glob.endswith("*"):
        raise ValueError(f"'{glob}' names no ref; end it with @refs/heads/main or the like, or with @**")
    return glob


def _is_ref(glob: str) -> str:
    if not glob.startswith(("refs/", "*")):
        raise ValueError(f"'{glob}' is no full ref; write refs/heads/{glob} or refs/tags/{glob}")
    return glob


def _known_rules(severities: object) -> object:
    for name in severities if isinstance(severities, Mapping) else ():
        if name not in RULE_SEVERITIES:
            near = get_close_matches(str(name), sorted(RULE_SEVERITIES), n=1, cutoff=0.5)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known rules: {', '.join(sorted(RULE_SEVERITIES))}."
            raise PydanticCustomError("unknown_key", "unknown rule '{key}'", {"key": str(name), "hint": hint})
    return severities


_Uri = Annotated[str, AfterValidator(_is_uri)]
_Workflow = Annotated[str, AfterValidator(_is_workflow)]
_Ref = Annotated[str, AfterValidator(_is_ref)]
_Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
_Severities = Annotated[dict[str, Severity], BeforeValidator(_known_rules)]


class Builder(StrictModel):
    """A build platform by the URI of the workflow that signs for it, and the SLSA Build level it reaches."""

    id: _Uri
    level: int = Field(ge=0, le=3)


class Triggers(StrictModel):
    """Events that start a build: refused, or let pass and mentioned."""

    # Runs with the repository's rights on what an outsider proposes.
    deny: list[_Text] = ["pull_request_target"]
    # By hand, from outside, or from the default branch on an outsider's account.
    report: list[_Text] = ["workflow_dispatch", "repository_dispatch", "workflow_run", "issue_comment"]
    # Where it is given, nothing else starts a build.
    allow: list[_Text] | None = None


class Licenses(StrictModel):
    """SPDX ids, globs allowed: refused, looked at by a person, or fine; what no list names is looked at."""

    allow: list[_Text] = []
    deny: list[_Text] = []
    review: list[_Text] = []


class Vulnerabilities(StrictModel):
    """From which severity on a vulnerability is a finding, and whether one known to be exploited always is."""

    threshold: Severity = "high"
    known_exploited: bool = True


class Rules(StrictModel):
    """What holds for a deployment. The values here hold where no file says otherwise.

    In globs `*` stays within one part of a path and `**` crosses parts; host, owner and repository ignore letter case.
    `{repository}` stands for the deployment's own repository, as `owner/name`.
    """

    # Who vouches for the workflow's identity.
    issuers: list[_Uri] = ["https://token.actions.githubusercontent.com"]
    # Workflows that may sign: the repository's own, and those of the SLSA generators.
    signers: list[_Workflow] = [f"https://github.com/{OWN_REPOSITORY}/.github/workflows/**", _SLSA_GENERATOR]
    # Where the source may come from. Ids, where given, decide alone: a name can be given to another repository.
    source_repositories: list[_Uri] = [f"https://github.com/{OWN_REPOSITORY}"]
    source_repository_ids: list[int] = []
    source_owner_ids: list[int] = []
    # Any branch or tag, and never the ref of a pull request.
    refs: list[_Ref] = ["refs/heads/**", "refs/tags/**"]
    runner_environments: list[_Text] = ["github-hosted", "gitlab-hosted"]
    triggers: Triggers = Triggers()
    # The first that matches counts.
    builders: list[Builder] = [
        Builder(id=_SLSA_GENERATOR, level=3),
        Builder(id="https://github.com/**", level=2),
        Builder(id="https://gitlab.com/**", level=2),
    ]
    minimum_slsa_level: int = Field(default=1, ge=0, le=3)
    statement_types: list[_Uri] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"]
    predicate_types: list[_Uri] = list(SLSA_PROVENANCE_TYPES)
    sbom_predicate_types: list[_Uri] = [*SBOM_TYPES, *(f"{kind}/v*" for kind in SBOM_TYPES)]
    # Without any nothing complies and nothing fails to.
    required: list[Control] = ["attestation"]
    # An SBOM that was made longer than this before what it describes was deployed tells little of it.
    sbom_max_age_days: int = Field(default=90, ge=1)
    # Between two deployments' SBOMs: a larger change of the number of components is worth a look.
    component_change_share: float = Field(default=0.5, gt=0)
    licenses: Licenses = Licenses()
    vulnerabilities: Vulnerabilities = Vulnerabilities()
    severities: _Severities = {}


class PolicyEntry(Rules):
    """Rules for the repositories and services named (globs, letter case ignored); for both at once, where both are."""

    repositories: list[_Text] = []
    services: list[_Text] = []
    # The first local day of deployments that this is about; without one it is about all of history.
    since: date | None = None

    @model_validator(mode="after")
    def _says_for_whom(self) -> PolicyEntry:
        if not self.repositories and not self.services:
            raise ValueError("give repositories, or services; what holds for all stands under defaults")
        return self

    def covers(self, repository: str, service: str | None, day: date | None = None) -> bool:
        """Whether this entry is about a deployment of a day; without a day whenever that is."""
        if self.since is not None and day is not None and day < self.since:
            return False
        return (not self.repositories or name_matches(repository, self.repositories)) and (
            not self.services or name_matches(service, self.services)
        )


class _PolicyFile(StrictModel):
    version: Literal[1] = 1
    defaults: Rules = Rules()
    policies: list[PolicyEntry] = []


@dataclass(frozen=True)
class Policy:
    """The rules of one deployment, and the line of the file that stated each."""

    rules: Rules
    sha256: str
    lines: Mapping[str, int] = field(default_factory=dict)
    path: Path | None = None

    def line(self, key: str, inner: str | None = None) -> int | None:
        """The line that stated a key (or a key inside it); None where it is the default."""
        return self.lines.get(f"{key}.{inner}") or self.lines.get(key)

    def severity(self, rule: str) -> Severity:
        """How grave a finding of a rule is."""
        return self.rules.severities.get(rule) or RULE_SEVERITIES[rule]


class Policies:
    """Everything in a policy file. `sha256` is its version: the evidence of which policy a verdict was made under."""

    def __init__(self, sections: Sequence[tuple[Rules, Mapping[str, int]]], sha256: str, path: Path | None) -> None:
        self._sections = sections
        self.sha256 = sha256
        self.path = path
        self._starts = sorted({rules.since for rules, _ in sections if isinstance(rules, PolicyEntry) and rules.since})

    def period(self, day: date | None) -> int:
        """Days of the same number have the same rules."""
        return len(self._starts) if day is None else bisect_right(self._starts, day)

    def require(self, *controls: Control) -> bool:
        """Whether any of these controls is required of anything."""
        return any(control in rules.required for rules, _ in self._sections for control in controls)

    def of(self, repository: str, service: str | None = None, day: date | None = None) -> Policy:
        """The rules that hold for a deployment of a repository (and service) on a day; without one, the latest."""
        stated: dict[str, object] = {}
        severities: dict[str, Severity] = {}
        lines: dict[str, int] = {}
        for rules, where in self._sections:
            if isinstance(rules, PolicyEntry) and not rules.covers(repository, service, day):
                continue
            stated |= {key: getattr(rules, key) for key in rules.model_fields_set & Rules.model_fields.keys()}
            severities |= rules.severities
            for key in rules.model_fields_set:
                lines = {known: line for known, line in lines.items() if key == "severities" or not _inside(known, key)}
            lines |= where
        return Policy(Rules().model_copy(update=stated | {"severities": severities}), self.sha256, lines, self.path)


def _inside(known: str, key: str) -> bool:
    return known == key or known.startswith(f"{key}.")


def load_policies(path: Path | None) -> Policies:
    """Read a policy file; without one, the defaults of `Rules` hold everywhere.

    Raises SettingsError naming file, line, key and the nearest known key.
    """
    if path is None:
        built_in = json.dumps(Rules().model_dump(mode="json"), sort_keys=True).encode()
        return Policies([], hashlib.sha256(built_in).hexdigest(), None)
    documents = read_yaml(path)
    if len(documents) > 1:
        raise SettingsError(f"holds {len(documents)} YAML documents where one is expected", where=str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if not documents:
        return Policies([], sha256, path)
    (document,) = documents
    file = parse_model(_PolicyFile, document, document.value)

    def lines_of(at: Location) -> dict[str, int]:
        return {
            ".".join(map(str, location[len(at) :])): line
            for location, line in document.lines.items()
            if location[: len(at)] == at and len(at) < len(location) <= len(at) + 2
        }

    sections: list[tuple[Rules, Mapping[str, int]]] = [(file.defaults, lines_of(("defaults",)))]
    sections += [(entry, lines_of(("policies", index))) for index, entry in enumerate(file.policies)]
    return Policies(sections, sha256, path)
