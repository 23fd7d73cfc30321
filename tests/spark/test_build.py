"""The build on executors: what is said when one fails, and a cluster that only Spark Connect leads to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from analytics.catalog import Service
from analytics.delivery import build as building
from analytics.delivery.attempts import ATTEMPT_COLUMNS
from analytics.delivery.batch import COMMIT_COLUMNS, PULL_REQUEST_COLUMNS, Terms
from analytics.delivery.build import build
from analytics.delivery.records import Incident, Rules
from analytics.engines import open_engine
from analytics.errors import EngineError, LakeError
from analytics.landing.pull import pull
from analytics.metrics.measure import measure
from analytics.sample.writing import write_sample
from analytics.settings import IncidentRules, ReworkRules, Settings, load_settings
from analytics.supply_chain.verify import verify
from tests.spark.conftest import all_differences, on_spark


def test_a_failure_on_an_executor_says_what_failed_and_for_which_service(spark_session: object, tmp_path: Path) -> None:
    from analytics.delivery.on_spark import derive_facts

    settings = on_spark(Settings(organization="Acme"), tmp_path)
    moment = datetime(2026, 1, 1)
    incident = Incident("incident:1", ("1",), "shop", None, None, (), moment, moment, None, None, (), (), None)
    # No settings are without a calendar.
    terms = Terms(Rules(IncidentRules(), ReworkRules(), moment), (), None)  # type: ignore[arg-type]

    def derive() -> None:
        with duckdb.connect() as con, open_engine(settings, con) as engine:
            for name, columns in (
                ("commit_facts", COMMIT_COLUMNS),
                ("pull_request_facts", PULL_REQUEST_COLUMNS),
                ("matched_attempts", ATTEMPT_COLUMNS),
            ):
                engine.create_values(name, dict.fromkeys(columns, "VARCHAR"), [])
            service = Service(name="shop", repository="acme/shop")
            derive_facts(engine, [[service]], {"shop": {"acme/shop"}}, {"shop": [incident]}, terms, None)

    with pytest.raises(EngineError) as raised:
        derive()
    assert raised.value.what.startswith("AttributeError: 'NoneType'")
    assert raised.value.what.endswith("while the facts of service 'shop' were derived")


def test_a_cluster_behind_spark_connect_builds_the_same(connect_address: str, tmp_path: Path) -> None:
    """The server is the JVM of these tests; the client is a process of its own, which needs no Java."""
    here = tmp_path / "quarterdeck.yaml"
    write_sample(tmp_path, services=2, quarters=2)
    pull(load_settings(here))
    there = tmp_path / "cluster.yaml"
    engine = f"engine: {{type: spark, remote: '{connect_address}'}}\n"
    there.write_text(here.read_text().replace("./quarterdeck-data", "./cluster") + engine)
    shutil.copytree(load_settings(here).landing_dir, load_settings(there).landing_dir)
    build(load_settings(here))
    code = "import sys; from quarterdeck.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "build", "--settings", str(there)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "JAVA_HOME": "/nowhere"},
    )
    assert done.returncode == 0, done.stderr
    one, other = load_settings(here), load_settings(there)
    assert one.storage != other.storage
    assert all_differences(one, other) == {}


def test_a_build_on_spark_that_failed_is_neither_measured_nor_continued(
    spark_session: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "quarterdeck.yaml"
    write_sample(tmp_path, services=1, quarters=1)
    settings = load_settings(here)
    pull(settings)
    build(settings)
    with monkeypatch.context() as failing:
        failing.setattr(building, "_typed_tables", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            build(on_spark(settings))
    for stage in (verify, measure):
        for engine in (settings, on_spark(settings)):
            with pytest.raises(LakeError, match="the last build has not come to its end"):
                stage(engine)
    assert build(settings).whole == "no build has been completed before"
    verify(settings)
