"""The facts of services on Spark: rows come together by batch, and the executors call what DuckDB's build calls.

The driver says which service belongs to which batch; Spark's shuffle brings each batch's commits, pull requests and
attempts to one task, which holds no more than one batch in memory and calls `derive_batch`. Executors need this package
and neither DuckDB nor a file of the driver's. Source: spec architecture.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T  # noqa: N812 (its own documentation's name)

from analytics import progress
from analytics.catalog import Service
from analytics.delivery.arrow_rows import (
    ROW_COLUMNS,
    IncidentMessage,
    Message,
    ProvenanceMessage,
    ServiceMessage,
    fact_record_batches,
    gathered,
    message_table,
)
from analytics.delivery.attempts import BuiltOf
from analytics.delivery.batch import FACT_TABLES, Terms, derive_batch
from analytics.delivery.records import Incident
from analytics.engines.port import Engine
from analytics.engines.spark import SparkEngine, table_schema

# A batch is a partition of the shuffle; more batches than this share one, and stand in it one after the other.
MAX_PARTITIONS = 10_000
# Rows by kind: their table, and what says to which batch one belongs.
_SOURCES = {
    "commit": ("commit_facts", "batch_repositories", "folded"),
    "pull_request": ("pull_request_facts", "batch_repositories", "folded"),
    "attempt": ("matched_attempts", "batch_services", "service"),
}
OnExecutor = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def derive_facts(
    engine: Engine,
    batches: Iterable[Sequence[Service]],
    repositories: Mapping[str, Iterable[str]],
    incidents: Mapping[str, Sequence[Incident]],
    terms: Terms,
    built_of: BuiltOf | None,
) -> dict[str, int]:
    """Derive the facts of every batch, write their tables into the lake and say how many rows each has.

    Needs the tables `commit_facts`, `pull_request_facts` and `matched_attempts`. Raises EngineError where a task fails.
    """
    assert isinstance(engine, SparkEngine)
    messages: list[tuple[int, Message]] = []
    batch_of: dict[str, int] = {}
    of_repositories: list[tuple[int, str]] = []
    count = 0
    for number, batch in enumerate(batches):
        count = number + 1
        batch_of |= {service.name: number for service in batch}
        of_repositories += [(number, name) for name in {name for s in batch for name in repositories[s.name]}]
        messages += [(number, ServiceMessage.of(service, repositories[service.name])) for service in batch]
        messages += [(number, message) for message in _incident_messages(batch, incidents)]
    if built_of is not None:
        pairs = engine.rows("SELECT DISTINCT service, digest FROM matched_attempts WHERE digest IS NOT NULL")
        for service, digest in pairs:
            if proven := built_of(service, digest):
                messages.append((batch_of[service], ProvenanceMessage(service, digest, proven)))
    engine.create_values("batch_repositories", {"batch": "BIGINT", "folded": "VARCHAR"}, of_repositories)
    engine.create_values(
        "batch_services", {"batch": "BIGINT", "service": "VARCHAR"}, [(n, name) for name, n in batch_of.items()]
    )
    frames = [_frame_of(engine, kind) for kind in _SOURCES] + [engine.session.createDataFrame(message_table(messages))]
    rows: DataFrame = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)
    rows = rows.repartitionById(max(1, min(count, MAX_PARTITIONS)), "batch").sortWithinPartitions("batch")
    schema = T.StructType(
        [T.StructField("fact", T.StringType()), *(T.StructField(table, table_schema(table)) for table in FACT_TABLES)]
    )
    rows.mapInArrow(deriving(terms), schema).createOrReplaceTempView("deriving")
    # Once: each of its tables is read from what is kept.
    engine.create_table("derived", "SELECT * FROM deriving")
    written = {
        table: engine.write_lake(table, f"SELECT {table}.* FROM derived WHERE fact = '{table}'")
        for table in FACT_TABLES
    }
    for name in ("deriving", "derived", "batch_repositories", "batch_services"):
        engine.drop(name)
    progress.report("build", "services", len(batch_of), len(batch_of))
    return written


def deriving(terms: Terms) -> OnExecutor:
    """The function that runs on executors, over rows that are sorted by batch; the terms are all it takes along."""

    def on_executor(record_batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for one in gathered(record_batches):
            batch, built_of = one.inputs()
            yield from fact_record_batches(derive_batch(batch, terms, built_of))

    return on_executor


def _frame_of(engine: SparkEngine, kind: str) -> DataFrame:
    """Rows of one kind with their batch; one of a repository that several batches need comes to each of them."""
    table, batches, key = _SOURCES[kind]
    fields = ", ".join(f"rows.`{column}`" for column in ROW_COLUMNS[kind])
    return engine.session.sql(
        f"SELECT CAST(batches.batch AS INT) AS batch, '{kind}' AS kind, struct({fields}) AS {kind} "
        f"FROM {table} AS rows JOIN {batches} AS batches ON batches.{key} = rows.{key}"
    )


def _incident_messages(
    batch: Sequence[Service], incidents: Mapping[str, Sequence[Incident]]
) -> Iterator[IncidentMessage]:
    """Every incident of a batch once, however many of its services may have caused it."""
    services: dict[tuple[str, str | None], tuple[Incident, list[str]]] = {}
    for service in batch:
        for incident in incidents.get(service.name, ()):
            key = (incident.key, incident.service)
            services.setdefault(key, (incident, []))[1].append(service.name)
    for incident, names in services.values():
        yield IncidentMessage(incident, tuple(names))
