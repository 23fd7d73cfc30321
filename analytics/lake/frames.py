"""Lake tables for other engines than DuckDB: a Polars LazyFrame, a Spark DataFrame, or the files for any other.

Each has the table's columns and no rows where nothing was written; a column that an earlier version did not write is
NULL. All raise LakeError as `analytics.lake.tables.lake_relation` does.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from analytics.lake.places import lake_of
from analytics.lake.port import LakeFile
from analytics.lake.schemas import TABLES
from analytics.lake_files import name_of
from analytics.object_store import ObjectStore, open_store
from analytics.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

# With these among `engine.options`, Spark has its own access to the store: the connector of Hadoop, and its keys.
S3A_OPTIONS = "spark.hadoop.fs.s3a."
_POLARS: dict[str, pl.DataType] = {
    "VARCHAR": pl.String(),
    "BIGINT": pl.Int64(),
    "DOUBLE": pl.Float64(),
    "BOOLEAN": pl.Boolean(),
    "DATE": pl.Date(),
    "TIMESTAMP": pl.Datetime("us"),
    # Its text.
    "JSON": pl.String(),
}


def lake_files(settings: Settings, name: str) -> list[str]:
    """The paths or URLs of a table's files as they are now, for engines that have their own access to the place."""
    lake = lake_of(settings)
    return [lake.address(file) for file in lake.files(name)]


def polars_frame(settings: Settings, name: str) -> pl.LazyFrame:
    """A table as Polars reads it, file by file; a question reads the columns that it needs."""
    schema = {column: polars_type(kind) for column, kind in TABLES[name].columns.items()}
    files = lake_of(settings).files(name)
    if settings.lake_url is None:
        frames = [_complete(pl.scan_parquet(file.path, glob=False), file, schema) for file in files]
        return pl.concat(frames) if frames else pl.LazyFrame(schema=schema)
    store = open_store(settings.lake_url, settings.stored.options)

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, most_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = most_rows
        for file in files:
            if left == 0:
                return
            frame = _complete(pl.scan_parquet(_content(store, file)), file, schema)
            frame = frame if columns is None else frame.select(columns)
            frame = frame if left is None else frame.head(left)
            found = (frame if predicate is None else frame.filter(predicate)).collect()
            left = None if left is None else left - found.height
            yield found

    return pl.io.plugins.register_io_source(read, schema=schema)


def spark_frame(session: SparkSession, settings: Settings, name: str, schema: StructType) -> DataFrame:
    """A table as Spark reads it, with the table's schema in Spark's types.

    From an object store Spark's workers read through fsspec, as they need no connector of Hadoop's for that: they need
    this package with its extra `s3`, and the same environment for credentials. Where `engine.options` set up Hadoop's
    own (`spark.hadoop.fs.s3a.…`), Spark reads the files itself.
    """
    lake = lake_of(settings)
    files = lake.files(name)
    if not files:
        return session.createDataFrame([], schema)
    if settings.lake_url is None or any(option.startswith(S3A_OPTIONS) for option in settings.engine.options):
        return session.read.schema(schema).parquet(*(spark_address(lake.address(file)) for file in files))
    from analytics.lake.spark_source import options_of, registered

    options = options_of(settings.lake_url, settings.stored.options, files)
    return session.read.format(registered(session)).schema(schema).options(**options).load()


def spark_address(address: str) -> str:
    """What Hadoop calls a file: its S3 connector has a scheme of its own."""
    return f"s3a://{address.removeprefix('s3://')}" if address.startswith("s3://") else address


def polars_type(kind: str) -> pl.DataType:
    """The type of a lake's column (its DuckDB name) in Polars."""
    if kind.endswith("[]"):
        return pl.List(polars_type(kind[:-2]))
    if kind.startswith("STRUCT("):
        parts = (part.strip().rsplit(" ", 1) for part in kind.removeprefix("STRUCT(").removesuffix(")").split(","))
        return pl.Struct({name.strip('"'): polars_type(inner) for name, inner in parts})
    return _POLARS[kind]


def _complete(frame: pl.LazyFrame, file: LakeFile, schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    return frame.select(
        pl.col(column) if column in file.columns else pl.lit(None, dtype=kind).alias(column)
        for column, kind in schema.items()
    )


def _content(store: ObjectStore, file: LakeFile) -> io.BytesIO:
    name = name_of(file.path)
    return io.BytesIO(store.read_range(name, 0, store.size(name)))
