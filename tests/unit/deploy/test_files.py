"""What is deployed and cannot be run where the tests run: held by its words. `test_processes` runs the rest."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterdeck.cli import main
from sensors.instance import INSTANCE_YAML

REPOSITORY = Path(__file__).resolve().parents[3]
DEPLOY = REPOSITORY / "deploy"
ROOMS = ("analytics", "assets", "quarterdeck", "reports", "sensors")
CONTAINERFILE = (DEPLOY / "containers" / "Containerfile").read_text(encoding="utf-8")


def loaded(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions with their words, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.M))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line.strip()]


# One machine


def test_the_instance_of_one_machine_is_the_one_that_is_written() -> None:
    assert (DEPLOY / "one-machine" / "dagster.yaml").read_text(encoding="utf-8") == INSTANCE_YAML


def test_the_unit_starts_a_command_that_exists_and_ends_it_in_good_order() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "one-machine" / "quarterdeck.service", encoding="utf-8")
    program, command, *options = unit["Service"]["ExecStart"].split()
    assert program.startswith("/")
    known = {option for parameter in main.commands[command].params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert unit["Service"]["KillSignal"] == "SIGTERM"
    assert unit["Service"]["User"] != "root"
    assert unit["Service"]["NoNewPrivileges"] == unit["Service"]["ProtectHome"] == "yes"


# Container


def test_the_image_has_two_stages_and_the_last_one_builds_nothing() -> None:
    starts = [index for index, (word, _) in enumerate(instructions()) if word == "FROM"]
    assert len(starts) == 2
    last = instructions()[starts[1] :]
    assert next(words for word, words in last if word == "COPY") == "--from=build /opt/quarterdeck /opt/quarterdeck"
    assert not any("pip" in words or "build-essential" in words for word, words in last if word == "RUN")


def test_the_image_installs_what_is_locked_with_hashes() -> None:
    [install] = [words for word, words in instructions() if word == "RUN" and "-r " in words]
    assert "--require-hashes" in install
    assert "--no-deps" in install
    locked = (REPOSITORY / "requirements" / "deploy.txt").read_text(encoding="utf-8")
    assert "dagster-postgres==" in locked
    assert "s3fs==" in locked
    for line in (REPOSITORY / "requirements" / "run.txt").read_text(encoding="utf-8").splitlines():
        assert line in locked.splitlines()


def test_the_image_runs_as_a_user_by_number_without_a_shell() -> None:
    users = [words for word, words in instructions() if word == "USER"]
    assert users == ["10001:10001"]
    assert instructions()[-1][0] == "CMD"
    assert "--shell /usr/sbin/nologin" in CONTAINERFILE


def test_the_image_cleans_up_after_apt_and_fetches_nothing_else() -> None:
    for word, words in instructions():
        assert word != "ADD"
        if word == "RUN" and "apt-get install" in words:
            assert "--no-install-recommends" in words
            assert "rm -rf /var/lib/apt/lists/*" in words
            assert {"chromium", "fonts-dejavu-core", "git"} <= set(words.split())
        assert not re.search(r"\b(curl|wget|sudo)\b", words)
        assert ":latest" not in words


def test_the_image_holds_every_room_and_no_secret() -> None:
    copied = {words.split()[0] for word, words in instructions() if word == "COPY"}
    assert set(ROOMS) <= copied
    for words in copied - {"--from=build"}:
        assert (REPOSITORY / words).exists(), words
    assert not re.search(r"(?i)(token|password|secret)\s*=", CONTAINERFILE)


@pytest.mark.slow
def test_what_is_installed_holds_every_file_that_the_program_reads(tmp_path: Path) -> None:
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    tracked = subprocess.run(
        ["git", "ls-files", *ROOMS], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    source = tmp_path / "source"
    for name in [*tracked, "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pip", *words, str(source)], check=True, capture_output=True, cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        missing = set(tracked) - set(archive.namelist())
    assert not missing


# Compose


@pytest.mark.parametrize("name", ["code", "webserver", "daemon"])
def test_a_container_may_write_nothing_but_its_volumes(name: str) -> None:
    service = loaded("containers/compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"]
    assert "privileged" not in service


def test_only_the_webserver_listens_outside_and_on_loopback() -> None:
    services = loaded("containers/compose.yaml")["services"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "webserver": ["127.0.0.1:3000:3000"]
    }
    assert loaded("containers/compose.yaml")["networks"]["inside"] == {"internal": True}


def test_only_the_code_server_has_the_sources_secrets() -> None:
    services = loaded("containers/compose.yaml")["services"]
    assert [name for name, service in services.items() if "GITHUB_TOKEN" in service["environment"]] == ["code"]


def test_every_variable_of_the_instance_is_given_by_compose_or_the_image() -> None:
    asked = set(re.findall(r"\{env: (\w+)\}", (DEPLOY / "containers" / "dagster.yaml").read_text(encoding="utf-8")))
    asked |= set(re.findall(r"\{env: (\w+)\}", (DEPLOY / "containers" / "workspace.yaml").read_text(encoding="utf-8")))
    given = set(re.findall(r"\b([A-Z][A-Z_]+)=", CONTAINERFILE))
    for name in ("code", "webserver", "daemon"):
        environment = set(loaded("containers/compose.yaml")["services"][name]["environment"])
        assert asked <= environment | given
    named = set(re.findall(r"\$\{(\w+)", (DEPLOY / "containers" / "compose.yaml").read_text(encoding="utf-8")))
    example = (DEPLOY / "containers" / "env.example").read_text(encoding="utf-8")
    assert named == set(re.findall(r"^(\w+)=", example, re.M))
    # No secret has a value there.
    assert not re.search(r"^\w*(TOKEN|PASSWORD|WEBHOOK)=.+", example, re.M)


# Helm


def test_helm_values_use_keys_of_dagsters_chart() -> None:
    """Against the keys of the chart's own schema (dagster-io/dagster, helm/dagster/schema)."""
    values = loaded("helm/values.yaml")
    top = (
        "global generatePostgresqlPasswordSecret telemetry rabbitmq redis flower ingress postgresql "
        "dagster-user-deployments runLauncher dagsterWebserver dagsterDaemon retention additionalInstanceConfig"
    )
    assert set(values) == set(top.split())
    pod = {"image", "volumes", "volumeMounts", "podSecurityContext", "securityContext"}
    assert set(values["dagsterWebserver"]) <= pod | {"service"}
    assert set(values["dagsterDaemon"]) <= pod | {"enabled", "runCoordinator", "runMonitoring"}
    [deployment] = values["dagster-user-deployments"]["deployments"]
    assert set(deployment) <= pod | {"name", "port", "codeServerArgs", "env", "envSecrets", "resources"}
    assert values["runLauncher"]["type"] == "CustomRunLauncher"
    postgres = {"enabled", "postgresqlHost", "postgresqlUsername", "postgresqlDatabase", "postgresqlScheme", "service"}
    assert set(values["postgresql"]) == postgres
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"


def test_no_pod_is_root_or_writes_its_file_system() -> None:
    values = loaded("helm/values.yaml")
    pods = [*values["dagster-user-deployments"]["deployments"], values["dagsterWebserver"], values["dagsterDaemon"]]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["podSecurityContext"]["runAsNonRoot"] is True
        assert {mount["name"] for mount in pod["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    # One writer: the storage is mounted once.
    claims = [volume for pod in pods for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert len(claims) == 1
    assert values["ingress"]["enabled"] is False


# Side by side


def merged(base: Any, over: Any) -> Any:
    """Values as Helm merges files: maps key by key, null removes, all else is replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    together = {key: merged(base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}}
    return {key: value for key, value in together.items() if value is not None}


@pytest.mark.parametrize("name", ["side-by-side", "celery"])
def test_pools_have_a_limit_and_runs_theirs_in_one_place(name: str) -> None:
    values = merged(loaded("helm/values.yaml"), loaded(f"helm/{name}.yaml"))
    assert values["concurrency"] == {
        "enabled": True,
        "pools": {"granularity": "op", "defaultLimit": 4},
        "runs": {"maxConcurrentRuns": 1},
    }
    # The chart refuses a number of runs in both places.
    assert "maxConcurrentRuns" not in values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert values["dagsterDaemon"]["runMonitoring"]["freeSlotsAfterRunEndSeconds"] == 300


@pytest.mark.parametrize(
    ("name", "launcher", "keys"),
    [
        (
            "side-by-side",
            "k8sRunLauncher",
            "imagePullPolicy loadInclusterConfig envSecrets envVars volumes volumeMounts resources securityContext "
            "runK8sConfig",
        ),
        (
            "celery",
            "celeryK8sRunLauncher",
            "image workerQueues livenessProbe envSecrets volumes volumeMounts podSecurityContext securityContext",
        ),
    ],
)
def test_a_step_of_its_own_is_as_locked_as_the_code_server_and_has_the_same_storage(
    name: str, launcher: str, keys: str
) -> None:
    """Against the keys of the chart's own schema (dagster-io/dagster, helm/dagster/schema, run_launcher)."""
    values = loaded(f"helm/{name}.yaml")
    assert not re.search(r"password:|redis://", json.dumps(values))
    assert values["runLauncher"]["type"].casefold() == launcher.casefold()
    config = values["runLauncher"]["config"][launcher]
    assert set(config) == set(keys.split())
    [server] = loaded("helm/values.yaml")["dagster-user-deployments"]["deployments"]
    assert config["securityContext"] == server["securityContext"]
    assert config["volumeMounts"] == server["volumeMounts"]
    assert config["envSecrets"] == server["envSecrets"]
    assert [one for one in config["volumes"] if one["name"] != "tmp"] == [
        one for one in server["volumes"] if one["name"] != "tmp"
    ]


def test_a_worker_is_the_code_server_with_another_command() -> None:
    services = loaded("containers/compose.celery.yaml")["services"]
    asked = set(re.findall(r"\{env: (\w+)\}", (DEPLOY / "containers" / "celery.yaml").read_text(encoding="utf-8")))
    for name in ("pulls", "steps"):
        assert services[name]["extends"] == {"file": "compose.yaml", "service": "code"}
        assert not {"ports", "privileged", "user", "networks", "volumes"} & set(services[name])
    for name in ("code", "pulls", "steps"):
        assert set(services[name]["environment"]) == asked
    assert services["redis"]["networks"] == ["inside"]
    assert "ports" not in services["redis"]
    assert "deploy/containers/celery.yaml" in CONTAINERFILE
