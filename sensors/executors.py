"""Dagster's executors: who runs the steps of a run, in one process, in several, or on other machines.

Belongs here: choosing the one that the settings name. Not here: what a step does.
"""

from __future__ import annotations

import re
from importlib import import_module
from textwrap import shorten
from typing import Any

import dagster as dg

from analytics.errors import SettingsError
from analytics.settings import EXECUTOR_MODULES, Settings
from analytics.yaml_lines import read_yaml

# By the name in the settings, in the module that has it.
_EXECUTORS = {
    "in_process": "in_process_executor",
    "multiprocess": "multiprocess_executor",
    "k8s_job": "k8s_job_executor",
    "celery": "celery_executor",
    "celery_k8s": "celery_k8s_job_executor",
}
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def executor_of(settings: Settings) -> dg.ExecutorDefinition:
    """The executor that the settings choose, told what they say.

    Raises SettingsError for one whose package is not installed, and for a `config` that Dagster's own schema refuses.
    """
    chosen = settings.executor
    module, name = EXECUTOR_MODULES[chosen.type], _EXECUTORS[chosen.type]
    package = module.replace("_", "-")
    try:
        executor: dg.ExecutorDefinition = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.partition(".")[0]):
            raise
        raise _wrong(
            settings, ("executor", "type"), f"{chosen.type} needs the package {package}, which is not installed",
            f"Install it beside Dagster, of the same release: pip install {package}",
        ) from None  # fmt: skip
    if not chosen.config:
        return executor
    # A variable is read where the executor runs; the code server may well not have it.
    references = {key: match[1] for key, value in chosen.config.items() if (match := _reference(value)) is not None}
    _check(settings, executor.configured({**chosen.config, **dict.fromkeys(references, "elsewhere")}))
    return executor.configured({**chosen.config, **{key: {"env": name} for key, name in references.items()}})


def _reference(value: Any) -> re.Match[str] | None:
    return _VARIABLE.fullmatch(value) if isinstance(value, str) else None


def _check(settings: Settings, executor: dg.ExecutorDefinition) -> None:
    @dg.job(executor_def=executor)
    def nothing() -> None:
        """A job without steps, whose executor Dagster checks as it does for every other."""

    try:
        dg.validate_run_config(nothing)
    except dg.DagsterInvalidConfigError as error:
        said = shorten(" ".join(one.message for one in error.errors), 400, placeholder=" …")
        raise _wrong(
            settings, ("executor", "config"), said, f"It is the config of Dagster's {executor.name} executor."
        ) from error


def _wrong(settings: Settings, at: tuple[str, ...], what: str, fix: str) -> SettingsError:
    words = f"{'.'.join(at)}: {what}"
    path = settings.settings_path
    if not path.exists():
        return SettingsError(words, where=str(path), fix=fix)
    return SettingsError.at(path, read_yaml(path)[0].line(at), words, fix)
