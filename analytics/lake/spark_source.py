"""A lake in an object store as Spark reads it without a connector: its Python workers read Parquet through fsspec.

What travels to the workers names the files, and refers to secrets (`${NAME}`, `file:PATH`) without holding one: each
worker looks them up where it runs. Source: Spark's Python data source API.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from analytics.lake.port import LakeFile
from analytics.lake_files import LakeFiles, name_of
from analytics.object_store import open_store
from analytics.secrets import Secret

_BATCH_ROWS = 50_000


def options_of(url: str, options: Mapping[str, Any], files: Sequence[LakeFile]) -> dict[str, str]:
    """The reader's options: the store without its secrets, and the files to read."""
    return {
        "url": url,
        "store": json.dumps(_referring(options)),
        "files": json.dumps([name_of(file.path) for file in files]),
    }


_NAMES: WeakKeyDictionary[SparkSession, str] = WeakKeyDictionary()


def registered(session: SparkSession) -> str:
    """What a session calls the source, which is made known to it once.

    A name of its own: Spark refuses one that it knows from another session of the same JVM, and does not find it there.
    """
    if session not in _NAMES:
        named = f"quarterdeck_lake_{uuid.uuid4().hex}"
        session.dataSource.register(type("NamedLakeSource", (LakeSource,), {"name": classmethod(lambda cls: named)}))
        _NAMES[session] = named
    return _NAMES[session]


class LakeSource(DataSource):
    """Files of an object store's lake, a task each."""

    def reader(self, schema: StructType) -> LakeReader:
        """What the workers get."""
        return LakeReader(schema, dict(self.options))


class LakeReader(DataSourceReader):
    """Reads the columns of a schema from each file; one that a file does not have is NULL."""

    def __init__(self, schema: StructType, options: dict[str, str]) -> None:
        self._schema, self._options = schema, options

    def partitions(self) -> Sequence[InputPartition]:
        """One for each file."""
        return [InputPartition(name) for name in json.loads(self._options["files"])]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """A file's rows, some at a time."""
        store = open_store(self._options["url"], _with_secrets(json.loads(self._options["store"])))
        schema = to_arrow_schema(self._schema)
        with pq.ParquetFile(pa.PythonFile(LakeFiles(store).open(partition.value), mode="r")) as file:
            here = [column for column in schema.names if column in file.schema_arrow.names]
            for batch in file.iter_batches(_BATCH_ROWS, columns=here):
                yield pa.RecordBatch.from_arrays(
                    [
                        batch.column(column).cast(schema.field(column).type)
                        if column in here
                        else pa.nulls(batch.num_rows, schema.field(column).type)
                        for column in schema.names
                    ],
                    schema=schema,
                )


def _referring(value: Any) -> Any:
    if isinstance(value, Secret):
        return {"secret": value.reference}
    if isinstance(value, Mapping):
        return {"options": {name: _referring(item) for name, item in value.items()}}
    return {"list": [_referring(item) for item in value]} if isinstance(value, list) else {"value": value}


def _with_secrets(value: Mapping[str, Any]) -> Any:
    ((kind, inner),) = value.items()
    if kind == "options":
        return {name: _with_secrets(item) for name, item in inner.items()}
    if kind == "list":
        return [_with_secrets(item) for item in inner]
    return Secret(inner) if kind == "secret" else inner
