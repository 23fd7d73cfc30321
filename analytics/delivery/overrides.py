"""The checked-in file of human decisions about failures, which win over every rule.

A YAML list under `overrides`; each entry names a `deployment_id` or an `incident_id` (or both), says `failed: true` or
`failed: false` and gives a `reason`. Source: metrics.md section 2 (a checked-in override file wins).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from analytics.delivery.records import Override
from analytics.models import StrictModel, parse_model
from analytics.yaml_lines import read_yaml


class _Entry(StrictModel):
    failed: bool
    reason: str
    deployment_id: str | None = None
    incident_id: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> _Entry:
        if self.deployment_id is None and self.incident_id is None:
            raise ValueError("name a deployment_id, an incident_id, or both")
        if self.failed and self.deployment_id is None:
            raise ValueError("failed: true needs the deployment_id that failed")
        return self


class _File(StrictModel):
    overrides: list[_Entry]


def load_overrides(path: Path | None) -> tuple[Override, ...]:
    """Read the override file; raises SettingsError with file and line."""
    if path is None:
        return ()
    entries: list[Override] = []
    for document in read_yaml(path):
        file = parse_model(_File, document, document.value)
        entries += [Override(**entry.model_dump()) for entry in file.overrides]
    return tuple(entries)
