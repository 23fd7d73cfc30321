"""The sample organisation with its lake in an object store: every stage, the same answers, and read by Spark."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

from analytics.engine import connect
from analytics.engines.spark import spark_engine
from analytics.lake.frames import spark_frame
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation, place_table, scratch
from analytics.settings import Settings, load_settings
from tests.fakes import s3 as fake_s3
from tests.spark.conftest import differences, on_spark

if TYPE_CHECKING:
    import s3fs

s3, s3_endpoint = fake_s3.s3, fake_s3.s3_endpoint
QUESTIONS = (["metrics"], ["findings"], ["coverage"], ["explain", "change_fail_rate"])
# Nested columns, JSON, and many quarters.
READ_BY_SPARK = ("deployments", "sboms", "change_lead")


@dataclass
class Far:
    """The sample whose lake is in an object store, after every stage."""

    settings: Settings
    bucket: str
    near: Settings

    def ask(self, settings: Settings, *words: str) -> str:
        from quarterdeck.cli import main

        done = CliRunner().invoke(main, [*words, "--settings", str(settings.settings_path)])
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture(scope="module")
def far(
    sample: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    s3: s3fs.S3FileSystem,
    s3_endpoint: str,
) -> Far:
    storage = tmp_path_factory.mktemp("far")
    # In files, as Spark's workers have the environment of a JVM that may have been started before.
    for name, text in (("key", fake_s3.KEY), ("secret", fake_s3.SECRET)):
        sample.settings_path.with_name(name).write_text(text, "utf-8")
    text = sample.settings_path.read_text("utf-8")
    assert "storage: ./quarterdeck-data\n" in text
    text = text.replace(
        "storage: ./quarterdeck-data\n",
        f'storage: {{path: "{storage}", lake: "s3://far/the lake", options: {{endpoint_url: "{s3_endpoint}", '
        'key: "file:key", secret: "file:secret"}}\n',
    )
    # A browser for each pack would take a minute.
    text = text.replace("reports: {", "reports: {printed: [], ")
    path = sample.settings_path.with_name("far.yaml")
    path.write_text(text, "utf-8")
    s3.mkdir("far")
    far = Far(load_settings(path), "far", sample)
    for stage in ("pull", "build", "verify", "measure"):
        far.ask(far.settings, stage)
    return far


def values(settings: Settings) -> dict[tuple[Any, ...], dict[str, Any]]:
    with duckdb.connect(settings.published_path, read_only=True) as con:
        found = con.execute("SELECT * FROM metric_values")
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return {tuple(row[name] for name in ("metric", "scope", "name", "quarter", "series")): row for row in rows}


def test_every_metric_is_the_same_as_with_a_lake_in_a_folder(far: Far) -> None:
    expected, found = values(far.near), values(far.settings)
    assert found.keys() == expected.keys()
    assert {key: told for key, row in expected.items() if (told := differences(row, found[key]))} == {}
    assert len(expected) > 1000


@pytest.mark.parametrize("words", QUESTIONS, ids=lambda words: words[0])
def test_every_question_has_the_same_answer(far: Far, words: list[str]) -> None:
    assert far.ask(far.settings, *words) == far.ask(far.near, *words)


def test_a_pack_is_made_and_nothing_of_the_lake_or_its_secrets_is_here(far: Far) -> None:
    pack = Path(far.ask(far.settings, "pack").splitlines()[-1])
    assert (pack / "index.html").is_file()
    assert not (far.settings.storage / "lake").exists()
    assert not (far.settings.storage / "lake.json").exists()
    held = b"\0".join(file.read_bytes() for file in far.settings.storage.rglob("*") if file.is_file())
    assert fake_s3.SECRET.encode() not in held
    assert fake_s3.KEY.encode() not in held


def test_the_sensors_look_into_it(far: Far) -> None:
    from assets.partitions import quarters_in_lake
    from sensors.watching import critical_findings

    assert set(quarters_in_lake(far.settings)) == set(quarters_in_lake(far.near))
    assert critical_findings(far.settings, None) == critical_findings(far.near, None)


@pytest.mark.parametrize("table", READ_BY_SPARK)
def test_spark_reads_what_duckdb_reads(spark_session: Any, far: Far, table: str) -> None:
    from analytics.engines.spark import table_schema

    with connect(far.settings) as con:
        expected = con.execute(f"SELECT * FROM {lake_relation(far.settings, table)}").fetchall()
    found = spark_frame(spark_session, far.settings, table, table_schema(table)).toArrow()
    assert found.column_names == list(TABLES[table].columns)
    rows = [tuple(row.values()) for row in found.to_pylist()]
    assert expected
    assert sorted(rows, key=repr) == sorted(expected, key=repr)


def test_the_engine_reads_an_object_store_and_a_folder_alike(far: Far, spark_session: Any) -> None:
    question = "SELECT quarter, count(*), sum(numerator) FROM metric_values GROUP BY quarter ORDER BY quarter"
    answers = []
    for settings in (far.settings, far.near):
        with spark_engine(on_spark(settings)) as engine:
            engine.read_lake("metric_values")
            answers.append(engine.rows(question))
    assert answers[0] == answers[1] != []


def test_spark_fills_what_an_earlier_version_did_not_write(far: Far, spark_session: Any) -> None:
    from analytics.engines.spark import table_schema

    stored = far.settings.stored.model_copy(update={"lake": "s3://far/an earlier one"})
    settings = far.settings.model_copy(update={"stored": stored})
    schema = table_schema("service_incidents")
    empty = spark_frame(spark_session, settings, "service_incidents", schema)
    assert (empty.columns, empty.count()) == (list(TABLES["service_incidents"].columns), 0)
    with scratch(settings) as folder:
        (folder / "quarter=undated").mkdir()
        frame = pl.DataFrame({"url": ["u"], "service": ["s"], "unknown": [1]})
        frame.write_parquet(folder / "quarter=undated" / "old.parquet")
        place_table(settings, "service_incidents", folder)
    [row] = spark_frame(spark_session, settings, "service_incidents", schema).collect()
    assert {name: value for name, value in row.asDict().items() if value is not None} == {"url": "u", "service": "s"}


def test_what_the_engine_writes_is_read_by_duckdb(far: Far, spark_session: Any) -> None:
    stored = far.settings.stored.model_copy(update={"lake": "s3://far/of spark's"})
    settings = far.settings.model_copy(update={"stored": stored})
    with spark_engine(on_spark(settings)) as engine:
        for names in (["a"], ["b", "c"]):
            query = " UNION ALL ".join(f"SELECT '{name}' AS service" for name in names)
            assert engine.write_lake("services", query) == len(names)
    with connect(settings) as con:
        rows = con.execute(f"SELECT service FROM {lake_relation(settings, 'services')} ORDER BY 1").fetchall()
    assert rows == [("b",), ("c",)]


def test_what_travels_to_sparks_workers_holds_no_secret(far: Far) -> None:
    from analytics.lake.places import lake_of
    from analytics.lake.spark_source import LakeSource, options_of

    files = lake_of(far.settings).files("service_deployments")
    options = options_of(str(far.settings.lake_url), far.settings.stored.options, files)
    reader = LakeSource(options).reader(None)
    assert len(reader.partitions()) == len(files) > 1
    for travels in (pickle.dumps(reader), repr(options).encode()):
        assert fake_s3.SECRET.encode() not in travels
        assert fake_s3.KEY.encode() not in travels
