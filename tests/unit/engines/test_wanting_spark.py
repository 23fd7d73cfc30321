"""What wanting Spark says where something is missing or wrong, before any JVM is started."""

import sys
from pathlib import Path

import pytest

from analytics.engine import connect
from analytics.engines import open_engine
from analytics.errors import EngineError, SettingsError
from analytics.programs import missing_for_spark
from analytics.settings import Settings, load_settings


def write_settings(folder: Path, engine: str) -> Path:
    path = folder / "quarterdeck.yaml"
    path.write_text(f"organization: Acme\nengine: {engine}\n", encoding="utf-8")
    return path


def test_without_pyspark_the_engine_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(write_settings(tmp_path, "{type: spark}"))
    monkeypatch.delitem(sys.modules, "analytics.engines.spark", raising=False)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with (
        connect(settings) as con,
        pytest.raises(EngineError, match="engine spark needs") as caught,
        open_engine(settings, con),
    ):
        pass
    assert "pip install" in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("{remote: 'sc://spark.example:15002'}", "add `type: spark`"),
        ("{type: spark, remote: 'http://spark.example'}", "remote"),
        ("{type: spark, options: {driver.memory: 2g}}", "begin with `spark.`"),
        ("{type: spark, options: {spark.hadoop.fs.s3a.secret.key: abc}}", "may hold a secret"),
        ("{type: spark, remote: 'sc://spark.example:443/;use_ssl=true;token=abc'}", "SPARK_CONNECT_AUTHENTICATE_TOKEN"),
        ("{type: sparkle}", "type"),
    ],
)
def test_wrong_settings_of_the_engine_are_named(tmp_path: Path, engine: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write_settings(tmp_path, engine))
    assert words in str(caught.value)
    assert "abc" not in str(caught.value)


def installed(*names: str) -> object:
    return lambda name: name if name in names else None


def test_each_missing_part_of_spark_has_its_own_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    everything = installed("pyspark", "pyarrow", "grpc", "pandas", "java")
    assert missing_for_spark(None, everything, everything) is None  # type: ignore[arg-type]
    assert "PySpark" in missing_for_spark(None, installed("pyarrow"), everything)[0]  # type: ignore[arg-type, index]
    assert "Java" in missing_for_spark(None, everything, installed())[0]  # type: ignore[arg-type, index]
    connect_only = missing_for_spark("sc://host", everything, installed())  # type: ignore[arg-type]
    assert connect_only is None, "the Java is on the other side"
    without = missing_for_spark("sc://host", installed("pyspark", "pyarrow"), everything)  # type: ignore[arg-type]
    assert without is not None
    assert "spark-connect" in without[1]


def test_settings_know_a_cluster_and_its_options(tmp_path: Path) -> None:
    text = "{type: spark, remote: 'sc://spark.example:15002', options: {spark.executor.memory: 8g}}"
    settings: Settings = load_settings(write_settings(tmp_path, text))
    assert settings.engine.remote == "sc://spark.example:15002"
    assert settings.engine.options == {"spark.executor.memory": "8g"}
