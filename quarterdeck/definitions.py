"""The Dagster code location: every asset, check, job, schedule, sensor and resource, put together explicitly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from analytics.periods import Quarter
from analytics.settings import Settings, StorageSettings, load_settings
from assets.build import build_assets
from assets.checks import quality_checks
from assets.measure import measure_assets
from assets.pack import pack_assets
from assets.partitions import quarter_partitions
from assets.pull import pull_assets
from assets.resources import Workspace
from assets.verify import verify_assets, verify_checks
from sensors.executors import executor_of
from sensors.instance import SETTINGS_VARIABLE
from sensors.jobs import jobs
from sensors.schedules import schedules
from sensors.sensors import sensors


def build_definitions(
    settings: Settings | None = None,
    resources: Mapping[str, Any] | None = None,
    including: Iterable[Quarter] = (),
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Everything for one workspace; `including` names quarters that must be partitions whatever the lake holds.

    Without settings, those of the environment are used; `resources` and `executor` replace the workspace's own.
    """
    settings = settings or environment_settings()
    partitions = quarter_partitions(settings, including)
    return dg.Definitions(
        assets=[
            *pull_assets(settings),
            *build_assets(settings),
            *verify_assets(settings),
            *measure_assets(settings, partitions),
            *pack_assets(settings, partitions),
        ],
        asset_checks=[*quality_checks(), *verify_checks()],
        jobs=jobs(has_sources=bool(settings.sources)),
        schedules=schedules(settings),
        sensors=sensors(settings),
        resources=resources or {"workspace": Workspace(settings_path=str(settings.settings_path))},
        # Most steps depend on each other; a process for each would only add its start, unless the settings want it.
        executor=executor or executor_of(settings),
    )


def environment_settings() -> Settings:
    """The settings that QUARTERDECK_SETTINGS names, else ./quarterdeck.yaml.

    Where there is no such file, as in a fresh clone, defaults in UTC without a source: the location loads, and a run
    says which file is missing.
    """
    path = Path(os.environ.get(SETTINGS_VARIABLE) or "quarterdeck.yaml").resolve()
    if path.exists():
        return load_settings(path)
    return Settings(
        organization="No settings file",
        stored=StorageSettings(path=path.parent / "quarterdeck-data"),
        catalog=path.parent / "catalog.yaml",
        settings_path=path,
    )


@dg.definitions
def definitions() -> dg.Definitions:
    """What Dagster loads."""
    return build_definitions()
