"""Apache Spark as an engine: on this machine, or on a cluster through Spark Connect.

Spark reads the lake's Parquet and writes Parquet that takes its place as any other (analytics/lake/tables.py). Times
are TIMESTAMP_NTZ, the naive UTC of the lake. Source: spec architecture.md section 4.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Literal

import numpy.typing as npt

from analytics.engines.prelude import create_functions
from analytics.errors import EngineError
from analytics.lake.frames import spark_frame
from analytics.lake.schemas import TABLES
from analytics.lake.tables import UNDATED, place_table, scratch
from analytics.programs import JAVA_FIX, SPARK_FIX
from analytics.settings import EngineSettings, Settings

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import types as T  # noqa: N812 (its own documentation's name)

    from analytics.engines.arrow import arrow_type
except ImportError as error:
    raise EngineError(
        f"engine: {error.name} is not installed, which the engine spark needs",
        fix=SPARK_FIX,
    ) from error

# What the portable subset takes for granted, in every session.
SESSION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    # A backslash in a text is a backslash, as in standard SQL.
    "spark.sql.parser.escapedStringLiterals": "true",
    # A division by zero or an overflow is an error, never a silent NULL.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
}
_SPARK: dict[str, T.DataType] = {
    "VARCHAR": T.StringType(),
    "BIGINT": T.LongType(),
    "DOUBLE": T.DoubleType(),
    "BOOLEAN": T.BooleanType(),
    "DATE": T.DateType(),
    "TIMESTAMP": T.TimestampNTZType(),
    # A document as it came.
    "JSON": T.StringType(),
}
_GIGABYTE = {"K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3}


@contextmanager
def spark_engine(settings: Settings) -> Iterator[SparkEngine]:
    """A session of Spark's for the length of a block, with the prelude's functions.

    Raises EngineError when Spark cannot be started or reached, and for a query that fails on it.
    """
    running = _active()
    with _errors(settings):
        session = running.newSession() if running is not None else start_session(settings)
        try:
            for name, value in SESSION.items():
                session.conf.set(name, value)
            engine = SparkEngine(session, settings)
            create_functions(engine, settings.time_zone)
            yield engine
        finally:
            if running is None:
                session.stop()


def spark_type(kind: str) -> T.DataType:
    """The type of a lake's column (its DuckDB name) in Spark."""
    if kind.endswith("[]"):
        return T.ArrayType(spark_type(kind[:-2]))
    if kind.startswith("STRUCT("):
        parts = (part.strip().rsplit(" ", 1) for part in kind.removeprefix("STRUCT(").removesuffix(")").split(","))
        return T.StructType([T.StructField(name.strip('"'), spark_type(inner)) for name, inner in parts])
    return _SPARK[kind]


def table_schema(name: str) -> T.StructType:
    """A lake table's columns in Spark."""
    return T.StructType([T.StructField(column, spark_type(kind)) for column, kind in TABLES[name].columns.items()])


class SparkEngine:
    """The port over a session of Spark's."""

    kind: Literal["spark"] = "spark"

    def __init__(self, session: SparkSession, settings: Settings) -> None:
        self.session = session
        self._settings = settings

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows."""
        self.session.sql(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Every row of a query, brought here as Arrow."""
        table = self.session.sql(query).toArrow()
        columns = [column.to_pylist() for column in table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def arrays(self, query: str) -> list[npt.NDArray[Any]]:
        """Every column of a query, brought here as Arrow."""
        return [column.to_numpy() for column in self.session.sql(query).toArrow().columns]

    def numbers(self, query: str) -> list[npt.NDArray[Any]]:
        """Every column of a query that gives numbers alone."""
        return self.arrays(query)

    def columns(self, query: str) -> list[str]:
        """The names of a query's columns."""
        return list(self.session.sql(query).columns)

    def sessions(self, most: int) -> AbstractContextManager[Sequence[SparkEngine]]:
        """This session alone: its executors work side by side."""
        return nullcontext([self])

    def create_view(self, name: str, query: str) -> None:
        """Name a query."""
        self.session.sql(f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {query}")

    def create_shared(self, name: str, query: str) -> None:
        """Keep a query's rows on the executors: planning and reading it again takes longer than most that follows."""
        self.create_table(name, query)

    def create_table(self, name: str, query: str) -> None:
        """Evaluate a query now; its rows stay on the executors."""
        self.session.sql(query).localCheckpoint(eager=True).createOrReplaceTempView(name)

    def create_values(self, name: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
        """A small table of Python's rows."""
        values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
        arrays = {
            column: pa.array(list(given), type=arrow_type(kind))
            for (column, kind), given in zip(columns.items(), values, strict=True)
        }
        schema = T.StructType([T.StructField(column, spark_type(kind)) for column, kind in columns.items()])
        frame = self.session.createDataFrame(pa.table(arrays), schema=schema)
        frame.createOrReplaceTempView(name)

    def create_unnested(self, name: str, table: str, keep: Sequence[str], column: str, as_name: str) -> None:
        """Name a view with one row per element of a list column."""
        self.create_view(name, f"SELECT {', '.join([*keep, f'explode({column}) AS {as_name}'])} FROM {table}")

    def drop(self, name: str) -> None:
        """Forget a view or table."""
        self.session.catalog.dropTempView(name)

    def read_lake(self, *names: str) -> None:
        """Make lake tables readable under their names."""
        for name in names:
            self.lake_frame(name).createOrReplaceTempView(name)

    def lake_frame(self, name: str) -> DataFrame:
        """A lake table; a column that an earlier version did not write is NULL."""
        return spark_frame(self.session, self._settings, name, table_schema(name))

    def write_lake(self, name: str, query: str) -> int:
        """Write a query's rows as a lake table: into a scratch folder of the storage, then into place by rename."""
        return self.write_frame(name, self.session.sql(query))

    def write_frame(self, name: str, frame: DataFrame) -> int:
        """Write a frame's rows as a lake table; missing columns become NULL."""
        table = TABLES[name]
        given = {column.casefold() for column in frame.columns}
        columns = [
            f"CAST({f'`{column}`' if column.casefold() in given else 'NULL'} AS {spark_type(kind).simpleString()}) "
            f"AS `{column}`"
            for column, kind in table.columns.items()
        ]
        frame = frame.selectExpr(*columns)
        frame.createOrReplaceTempView("lake_written")
        partition = f"'{UNDATED}'"
        if table.quarter_in:
            partition = f"coalesce(written.`{table.quarter_in}`, '{UNDATED}')"
        source = "lake_written AS written"
        if table.dated_by:
            partition = f"coalesce(calendar.quarter, '{UNDATED}')"
            source += f" LEFT JOIN calendar ON calendar.day = CAST(written.`{table.dated_by}` AS DATE)"
        frame = self.session.sql(f"SELECT written.*, {partition} AS quarter_partition FROM {source}")
        # As many files a quarter as its size asks for, each sorted: a reader of one service can skip the rest.
        frame = frame.hint("rebalance", "quarter_partition")
        frame = frame.sortWithinPartitions("quarter_partition", *table.sorted_by)
        with scratch(self._settings) as folder:
            out = folder / "out"
            frame.write.partitionBy("quarter_partition").parquet(out.as_uri())
            rows = 0
            for file in out.rglob("*"):
                if file.suffix == ".parquet":
                    rows += pq.read_metadata(file).num_rows
                elif file.is_file():
                    file.unlink()
            place_table(self._settings, name, out)
        self.drop("lake_written")
        return rows


def _active() -> SparkSession | None:
    try:
        return SparkSession.getActiveSession()
    except PySparkException:
        return None


def start_session(settings: Settings) -> SparkSession:
    """Start a session: a cluster's where one is named, else a JVM on this machine that listens on loopback alone."""
    engine = settings.engine
    # Python workers must be of the interpreter that the driver is.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("quarterdeck")
    if engine.remote is not None and engine.remote.startswith("sc://"):
        builder = builder.remote(engine.remote)
    else:
        threads = engine.threads or "*"
        builder = builder.master(engine.remote or f"local[{threads}]")
        for name, value in _local_options(settings).items():
            builder = builder.config(name, value)
    options: dict[str, str | int | bool] = {**SESSION, **engine.options}
    for name, chosen in options.items():
        builder = builder.config(name, str(chosen).lower() if isinstance(chosen, bool) else str(chosen))
    session = builder.getOrCreate()
    with suppress(PySparkException, AttributeError):
        # Spark Connect has no context here, and says what it has to say on the cluster.
        session.sparkContext.setLogLevel("ERROR")
    return session


def _local_options(settings: Settings) -> dict[str, str]:
    options = {
        "spark.ui.enabled": "false",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": str(settings.temp_dir / "spark-warehouse"),
        "spark.driver.maxResultSize": "0",
        "spark.ui.showConsoleProgress": "false",
    }
    if settings.engine.remote is None or settings.engine.remote.startswith("local"):
        options |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": f"{_megabytes(settings.engine)}m",
            "spark.local.dir": str(settings.temp_dir / "spark"),
            # A machine of few cores gains nothing by hundreds of tasks.
            "spark.sql.shuffle.partitions": str(2 * (settings.engine.threads or os.cpu_count() or 2)),
        }
    return options


def _megabytes(engine: EngineSettings) -> int:
    # The settings' own pattern has matched it.
    number, unit = re.fullmatch(r"([\d.]+)\s?([KMGT])i?B", engine.memory_limit).groups()  # type: ignore[union-attr]
    return max(1024, round(float(number) * _GIGABYTE[unit] * 1000))


@contextmanager
def _errors(settings: Settings) -> Iterator[None]:
    """Say in words for a person what Spark says in its own."""
    where = settings.engine.remote or "Spark on this machine"
    try:
        yield
    except PySparkException as error:
        words = _words(str(error)) or type(error).__name__
        fix = "See the log of Spark above; `--debug` shows the whole error."
        if "JAVA_GATEWAY_EXITED" in str(error):
            words = "Java cannot be started"
            fix = JAVA_FIX
        raise EngineError(words, where=where, fix=fix) from error


def _words(text: str) -> str | None:
    """The line of an error that says what is wrong; of Python's on an executor, what follows its traceback."""
    lines = text.splitlines()
    frames = [number for number, line in enumerate(lines) if re.match(r'\s+File ".*", line \d+', line)]
    if frames:
        rest = [line for line in lines[frames[-1] + 1 :] if not line.startswith("  ")]
        said = list(itertools.takewhile(lambda line: line.strip() and "SQLSTATE" not in line, rest))
        if said:
            return "; ".join(said)
    return next((line for line in lines if line.strip()), None)
