"""Lake tables as Polars and other engines get them, from a folder and from an object store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from unittest.mock import MagicMock

import polars as pl
import pytest

from analytics.engine import connect
from analytics.errors import LakeError
from analytics.lake.frames import lake_files, polars_frame, polars_type, spark_address, spark_frame
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation, place_table, scratch
from analytics.settings import Settings, load_settings

TABLE = "service_incidents"


@pytest.fixture(params=["folder", "memory", "s3"])
def settings(tmp_path: Path, s3_settings: Callable[..., Settings], request: pytest.FixtureRequest) -> Settings:
    if request.param == "s3":
        return s3_settings()
    path = tmp_path / "quarterdeck.yaml"
    storage = "./data" if request.param == "folder" else f"memory://lake-{uuid.uuid4().hex}"
    path.write_text(f"organization: A\nstorage: {storage}\n", encoding="utf-8")
    return load_settings(path)


def place(settings: Settings, quarter: str, *frames: pl.DataFrame) -> None:
    with scratch(settings) as folder:
        (folder / f"quarter={quarter}").mkdir()
        for number, frame in enumerate(frames):
            frame.write_parquet(folder / f"quarter={quarter}" / f"{number}.parquet")
        place_table(settings, TABLE, folder, [quarter])


def test_polars_reads_what_duckdb_reads(settings: Settings) -> None:
    assert polars_frame(settings, TABLE).collect().shape == (0, len(TABLES[TABLE].columns))
    days, keys = [date(2026, 1, 5)] * 2, ["a", "b"]
    place(settings, "2026-Q1", pl.DataFrame({"incident_key": keys, "opened_day": days, "restore_us": [7, 8]}))
    # As an earlier version wrote it.
    place(settings, "undated", pl.DataFrame({"incident_key": ["c"], "service": ["s"]}))
    frame = polars_frame(settings, TABLE)
    assert list(frame.collect_schema()) == list(TABLES[TABLE].columns)
    with connect(settings) as con:
        rows = con.execute(f"SELECT * FROM {lake_relation(settings, TABLE)} ORDER BY incident_key").fetchall()
    assert frame.collect().sort("incident_key").rows() == rows
    late = frame.filter(pl.col("restore_us") > 7).select("incident_key")
    assert late.collect()["incident_key"].to_list() == ["b"]
    assert frame.filter(pl.col("restore_us").is_null()).head(1).collect()["service"].to_list() == ["s"]
    assert frame.head(2).collect().height == 2
    assert frame.select(pl.len()).collect().item() == 3
    files = lake_files(settings, TABLE)
    assert len(files) == 2
    assert all(file.startswith(settings.lake_url or str(settings.lake_dir)) for file in files)


def test_every_column_of_the_lake_has_a_type_in_polars() -> None:
    for table in TABLES.values():
        assert all(polars_type(kind) for kind in table.columns.values())
    assert polars_type('STRUCT("sha" VARCHAR, "at" TIMESTAMP)[]') == pl.List(
        pl.Struct({"sha": pl.String, "at": pl.Datetime("us")})
    )


def test_hadoop_has_a_scheme_of_its_own() -> None:
    assert spark_address("s3://bucket/a b.parquet") == "s3a://bucket/a b.parquet"
    assert spark_address("/data/lake/a.parquet") == "/data/lake/a.parquet"


def test_polars_says_in_words_that_a_store_is_not_there(s3_settings: Callable[..., Settings]) -> None:
    settings = s3_settings()
    stored = settings.stored.model_copy(update={"lake": "s3://no-such-bucket-here/lake"})
    with pytest.raises(LakeError, match="the bucket does not exist"):
        polars_frame(settings.model_copy(update={"stored": stored}), TABLE)


def test_a_spark_that_has_hadoops_connector_is_given_the_files(s3_settings: Callable[..., Settings]) -> None:
    settings = s3_settings("the lake")
    engine = settings.engine.model_copy(update={"options": {"spark.hadoop.fs.s3a.endpoint": "s3.example.com"}})
    settings = settings.model_copy(update={"engine": engine})
    place(settings, "undated", pl.DataFrame({"service": ["s"]}))
    session = MagicMock()
    spark_frame(session, settings, TABLE, MagicMock())
    [file] = lake_files(settings, TABLE)
    session.read.schema.return_value.parquet.assert_called_once_with(file.replace("s3://", "s3a://"))
    session.dataSource.register.assert_not_called()
