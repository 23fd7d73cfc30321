"""Waivers: findings that somebody answers for until a day, in a checked-in file.

    waivers:
      - rule: runner                      # and, or instead: id, service, deployment, digest; all that are given match
        service: legacy-*
        owner: platform@acme.example
        reason: The build needs hardware that only we have; moves with the new runners.
        until: 2026-12-31                 # waived through this day

An expired waiver waives nothing, and a waived finding is still counted. Source: supply-chain.md section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import PrivateAttr, StringConstraints, model_validator

from analytics.errors import SettingsError
from analytics.globs import name_matches
from analytics.models import StrictModel, parse_model
from analytics.yaml_lines import read_yaml

_Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Waivable(Protocol):
    """What a waiver looks at in a finding."""

    @property
    def id(self) -> str:
        """The finding's own id."""
        ...

    @property
    def rule(self) -> str:
        """The rule it breaks."""
        ...

    @property
    def service(self) -> str | None:
        """The service deployed."""
        ...

    @property
    def deployment_id(self) -> str | None:
        """The deployment."""
        ...

    @property
    def digest(self) -> str | None:
        """The artifact."""
        ...


class Waiver(StrictModel):
    """One entry. `rule`, `service` and `deployment` are globs that ignore letter case; `id` and `digest` are exact."""

    id: _Text | None = None
    rule: _Text | None = None
    service: _Text | None = None
    deployment: _Text | None = None
    digest: _Text | None = None
    owner: _Text
    reason: _Text
    until: date
    _where: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _is_narrow(self) -> Waiver:
        if not any((self.id, self.rule, self.deployment, self.digest)):
            raise ValueError(
                "say what is waived: give id, rule, deployment or digest, and service beside it where that is meant"
            )
        return self

    @property
    def where(self) -> str:
        """The file and line that this waiver was read from."""
        return self._where

    def matches(self, finding: Waivable) -> bool:
        """Whether everything this waiver names is so in a finding."""
        globs = ((self.rule, finding.rule), (self.service, finding.service), (self.deployment, finding.deployment_id))
        exact = ((self.id, finding.id), (self.digest, finding.digest))
        return all(name_matches(value, [glob]) for glob, value in globs if glob is not None) and all(
            value is not None and value.casefold() == wanted.casefold() for wanted, value in exact if wanted is not None
        )


class _WaiverFile(StrictModel):
    version: Literal[1] = 1
    waivers: list[Waiver] = []


@dataclass(frozen=True, slots=True)
class State:
    """Where a finding stands: open, or waived until the end of a day by a waiver.

    `expired` is the waiver that used to cover an open finding, so that its owner can be asked.
    """

    state: Literal["open", "waived"]
    until: date | None = None
    waiver: Waiver | None = None
    expired: Waiver | None = None

    def __str__(self) -> str:
        return f"waived until {self.until}" if self.state == "waived" else "open"


def state_of(finding: Waivable, waivers: Sequence[Waiver], now: datetime) -> State:
    """Whether a finding is waived at a time; give `now` in the report's zone, in which days are cut.

    Of several waivers the one that lasts longest counts.
    """
    matching = sorted((waiver for waiver in waivers if waiver.matches(finding)), key=lambda waiver: waiver.until)
    if not matching:
        return State("open")
    last = matching[-1]
    if now.date() <= last.until:
        return State("waived", last.until, last)
    return State("open", expired=last)


def load_waivers(path: Path | None) -> tuple[Waiver, ...]:
    """Read a waiver file; without one, or with an empty one, nothing is waived.

    Raises SettingsError naming file, line and key: for an unknown key, and for a missing owner, reason or end.
    """
    if path is None:
        return ()
    documents = read_yaml(path)
    if len(documents) > 1:
        raise SettingsError(f"holds {len(documents)} YAML documents where one is expected", where=str(path))
    if not documents:
        return ()
    (document,) = documents
    file = parse_model(_WaiverFile, document, document.value)
    for index, waiver in enumerate(file.waivers):
        waiver._where = f"{path.name}:{document.line(('waivers', index))}"
    return tuple(file.waivers)
