"""Rows of batches on their way to Spark's executors and back, as Arrow.

To an executor a row carries its batch's number, its kind and one struct: a commit, a pull request or an attempt as it
stands in its table, or a message, which is what the driver alone knows (a service, an incident, verified provenance).
Back comes a table's name with the one struct that holds its row. Nothing of the settings is in either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from analytics.catalog import Service
from analytics.delivery.attempts import ATTEMPT_COLUMNS, BuiltOf
from analytics.delivery.batch import COMMIT_COLUMNS, FACT_TABLES, PULL_REQUEST_COLUMNS, Batch
from analytics.delivery.records import Incident
from analytics.delivery.rows import Row
from analytics.engines.arrow import arrow_type
from analytics.lake.schemas import TABLES

# Structs of rows by kind, in the order of their columns.
ROW_COLUMNS = {"commit": COMMIT_COLUMNS, "pull_request": PULL_REQUEST_COLUMNS, "attempt": ATTEMPT_COLUMNS}
MESSAGE = "message"
MESSAGE_SCHEMA = pa.schema([("batch", pa.int32()), ("kind", pa.string()), (MESSAGE, pa.binary())])
# Bounds what stands in memory twice, as Python's rows and as Arrow.
ROWS_PER_RECORD_BATCH = 10_000
FACT_STRUCTS = {
    table: pa.struct([(column, arrow_type(kind)) for column, kind in TABLES[table].columns.items()])
    for table in FACT_TABLES
}
FACT_SCHEMA = pa.schema([("fact", pa.string()), *FACT_STRUCTS.items()])


class ServiceMessage(msgspec.Struct, frozen=True, tag="service"):
    """A service of a batch as the catalog declares it, and the folded names of its repositories."""

    declared: str
    repositories: tuple[str, ...]

    @classmethod
    def of(cls, service: Service, repositories: Iterable[str]) -> ServiceMessage:
        """The message of a service."""
        return cls(service.model_dump_json(), tuple(sorted(repositories)))


class IncidentMessage(msgspec.Struct, frozen=True, tag="incident"):
    """An incident with the services of a batch that may have caused it."""

    incident: Incident
    services: tuple[str, ...]


class ProvenanceMessage(msgspec.Struct, frozen=True, tag="provenance"):
    """The (repository, sha) pairs that verified provenance says an artifact of a service was built of."""

    service: str
    digest: str
    built_of: tuple[tuple[str, str], ...]


Message = ServiceMessage | IncidentMessage | ProvenanceMessage
_decoder = msgspec.msgpack.Decoder(Message)


def message_table(messages: Iterable[tuple[int, Message]]) -> pa.Table:
    """Messages with the numbers of their batches as a table that Spark can take."""
    numbers: list[int] = []
    texts: list[bytes] = []
    for number, message in messages:
        numbers.append(number)
        texts.append(msgspec.msgpack.encode(message))
    columns = [
        pa.array(numbers, pa.int32()),
        pa.array([MESSAGE] * len(numbers), pa.string()),
        pa.array(texts, pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=MESSAGE_SCHEMA)


@dataclass
class GatheredBatch:
    """What has come of one batch."""

    number: int
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: {kind: [] for kind in ROW_COLUMNS})
    messages: list[Message] = field(default_factory=list)

    def add(self, kind: str, rows: pl.DataFrame) -> None:
        """Add rows of one kind."""
        if kind == MESSAGE:
            self.messages += [_decoder.decode(text) for text in rows.get_column(MESSAGE)]
        else:
            self.rows[kind] += rows.get_column(kind).struct.unnest().select(ROW_COLUMNS[kind]).rows()

    def inputs(self) -> tuple[Batch, BuiltOf]:
        """What `derive_batch` takes; services in the order of their repositories and names."""
        services: list[Service] = []
        repositories: dict[str, tuple[str, ...]] = {}
        incidents: dict[str, list[Incident]] = {}
        proven: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        for message in self.messages:
            if isinstance(message, ServiceMessage):
                service = Service.model_validate_json(message.declared)
                services.append(service)
                repositories[service.name] = message.repositories
            elif isinstance(message, IncidentMessage):
                for name in message.services:
                    incidents.setdefault(name, []).append(message.incident)
            else:
                proven[message.service, message.digest] = message.built_of
        services.sort(key=lambda service: (service.repository.casefold(), service.name))
        rows = self.rows
        batch = Batch(services, repositories, rows["commit"], rows["pull_request"], rows["attempt"], incidents)
        return batch, lambda service, digest: proven.get((service, digest), ())


def gathered(record_batches: Iterable[pa.RecordBatch]) -> Iterator[GatheredBatch]:
    """Batches from rows that are sorted by `batch`; no more than one stands in memory."""
    current: GatheredBatch | None = None
    for record_batch in record_batches:
        frame = pl.DataFrame(pl.from_arrow(record_batch))
        for (number, kind), rows in frame.group_by("batch", "kind", maintain_order=True):
            if current is None or current.number != number:
                if current is not None:
                    yield current
                current = GatheredBatch(int(str(number)))
            current.add(str(kind), rows)
    if current is not None:
        yield current


def fact_record_batches(facts: Iterable[tuple[str, Row]]) -> Iterator[pa.RecordBatch]:
    """Rows of facts as record batches of FACT_SCHEMA, each of one table."""
    waiting: dict[str, list[Row]] = {}
    for table, row in facts:
        rows = waiting.setdefault(table, [])
        rows.append(row)
        if len(rows) >= ROWS_PER_RECORD_BATCH:
            yield _record_batch(table, waiting.pop(table))
    for table, rows in waiting.items():
        yield _record_batch(table, rows)


def _record_batch(table: str, rows: Sequence[Row]) -> pa.RecordBatch:
    columns = [
        pa.array(rows, kind) if name == table else pa.nulls(len(rows), kind) for name, kind in FACT_STRUCTS.items()
    ]
    return pa.RecordBatch.from_arrays([pa.array([table] * len(rows), pa.string()), *columns], schema=FACT_SCHEMA)
