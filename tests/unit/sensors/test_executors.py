"""The executor that a deployment chooses: what each step is told, and words where it cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.execution.api import create_execution_plan
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_user_defined_k8s_config

from analytics.errors import SettingsError
from analytics.settings import Settings, load_settings
from quarterdeck.definitions import build_definitions
from sensors.executors import executor_of

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
SOURCES = [
    {"name": "hub", "type": "git", "repositories": {}, "shards": 3},
    {"name": "drops", "type": "files", "path": "./feeds"},
]


def workspace(folder: Path, executor: Mapping[str, Any] | None = None) -> Settings:
    path = folder / "quarterdeck.yaml"
    document = {"organization": "Acme", "sources": SOURCES, **({"executor": executor} if executor else {})}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return load_settings(path)


def told(name: str) -> dict[str, Any]:
    """The executor of a file in deploy/side-by-side."""
    document = yaml.safe_load((DEPLOY / "side-by-side" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert list(document) == ["executor"]
    assert document["executor"]["type"] == name
    return dict(document["executor"])


def test_steps_follow_each_other_in_one_process_unless_told_otherwise(tmp_path: Path) -> None:
    assert executor_of(workspace(tmp_path)) is dg.in_process_executor


# What deploy/ says


@pytest.fixture
def without_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The code server knows no broker; who runs the steps does."""
    for name in ("CELERY_BROKER", "CELERY_BACKEND", "DAGSTER_CELERY_BROKER_URL", "DAGSTER_CELERY_BACKEND_URL"):
        monkeypatch.setenv(name, "redis://:swordfish@redis/0")
    yield
    for name in ("CELERY_BROKER", "CELERY_BACKEND", "DAGSTER_CELERY_BROKER_URL", "DAGSTER_CELERY_BACKEND_URL"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "executor"),
    [("multiprocess", "multiprocess"), ("k8s_job", "k8s"), ("celery", "celery"), ("celery_k8s", "celery-k8s")],
)
@pytest.mark.usefixtures("without_broker")
def test_the_location_loads_with_it_and_its_jobs_are_configured(tmp_path: Path, name: str, executor: str) -> None:
    settings = workspace(tmp_path, told(name))
    definitions = build_definitions(settings)
    dg.Definitions.validate_loadable(definitions)
    job = definitions.resolve_job_def("refresh")
    assert job.executor_def.name == executor
    run = {"resources": {"workspace": {"config": {"settings_path": "x"}}}}
    config = dg.validate_run_config(job, run)["execution"][executor]
    given = told(name)["config"]
    for key, value in given.items():
        assert config[key] == ("redis://:swordfish@redis/0" if key in ("broker", "backend") else value)
    assert "swordfish" not in repr(settings)
    steps = told(name).get("steps", {})
    for step in create_execution_plan(job, run).steps:
        stage = "pull" if step.key.startswith("pull_") else step.key
        wanted = steps.get(stage, {})
        assert step.tags.get(DAGSTER_CELERY_QUEUE_TAG) == wanted.get("queue")
        assert step.pool == ("pull_hub" if step.key.startswith("pull_hub") else None)
        made = construct_dagster_k8s_job(
            DagsterK8sJobConfig(job_image="quarterdeck:1", dagster_home="/opt/dagster"),
            ["dagster"], "step", get_user_defined_k8s_config(step.tags),
        ).to_dict()  # fmt: skip
        (container,) = made["spec"]["template"]["spec"]["containers"]
        asked = container["resources"] or {"requests": None, "limits": None}
        assert (asked["requests"] or {}) == {key: wanted[key] for key in ("cpu", "memory") if key in wanted}
        assert (asked["limits"] or {}) == {key: wanted[key] for key in ("memory",) if key in wanted}


def test_every_queue_has_workers_in_deploy() -> None:
    compose = yaml.safe_load((DEPLOY / "containers" / "compose.celery.yaml").read_text(encoding="utf-8"))
    listens = {word for one in compose["services"].values() for word in one.get("command", ()) if "--queue=" in word}
    helm = yaml.safe_load((DEPLOY / "helm" / "celery.yaml").read_text(encoding="utf-8"))
    queues = {queue["name"] for queue in helm["runLauncher"]["config"]["celeryK8sRunLauncher"]["workerQueues"]}
    # `dagster` is where a step without a queue goes.
    assert queues == {word.removeprefix("--queue=") for word in listens} == {"dagster", "pulls"}
    for name in ("celery", "celery_k8s"):
        assert {step["queue"] for step in told(name)["steps"].values() if "queue" in step} <= queues


# Words


def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = workspace(tmp_path, {"type": "k8s_job"})
    monkeypatch.setitem(sys.modules, "dagster_k8s", None)
    with pytest.raises(SettingsError, match=r"yaml:\d+.*executor\.type: k8s_job needs the package dagster-k8s") as said:
        executor_of(settings)
    assert "pip install dagster-k8s" in str(said.value)


def test_a_fault_inside_a_package_is_not_taken_for_its_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'kombu'", name="kombu")

    monkeypatch.setattr("sensors.executors.import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="kombu"):
        executor_of(workspace(tmp_path, {"type": "celery"}))


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ({"type": "multiprocess", "config": {"max_concurent": 2}}, 'unexpected config entry "max_concurent"'),
        ({"type": "multiprocess", "config": {"max_concurrent": "two"}}, 'Value "two"'),
        ({"type": "in_process", "config": {"max_concurrent": 2}}, 'unexpected config entry "max_concurrent"'),
        ({"type": "k8s_job", "config": {"job_imag": "x"}}, 'unexpected config entry "job_imag"'),
        ({"type": "celery", "config": {"include": "one"}}, "include"),
    ],
)
def test_what_the_executor_does_not_know_is_said_with_its_line(
    tmp_path: Path, executor: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError) as error:
        executor_of(workspace(tmp_path, executor))
    assert said in str(error.value)
    assert "quarterdeck.yaml:12: executor.config: " in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ({"type": "dask"}, "executor.type"),
        (
            {"type": "celery", "config": {"broker": "redis://:swordfish@redis/0"}},
            "executor.config: broker is an address",
        ),
        ({"steps": {"pulling": {"cpu": "1"}}}, "executor.steps.pulling"),
        ({"steps": {"pull": {"memory": "lots"}}}, "executor.steps.pull.memory"),
        ({"steps": {"pull": {"queue": "a b"}}}, "executor.steps.pull.queue"),
        ({"steps": {"pull": {"gpu": "1"}}}, "executor.steps.pull.gpu"),
    ],
)
def test_words_that_mean_nothing_are_refused_when_the_settings_are_read(
    tmp_path: Path, executor: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError) as error:
        workspace(tmp_path, executor)
    assert said in str(error.value)
    assert "swordfish" not in str(error.value)
