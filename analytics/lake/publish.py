"""Publishing: the database people open, rebuilt from the lake into a fresh file and then renamed.

Nobody writes to a file that is read. Source: spec architecture.md section 2.
"""

from __future__ import annotations

import hashlib
import json

import duckdb

from analytics.engine import connect
from analytics.lake.schemas import TABLES
from analytics.lake.tables import lake_relation, scratch
from analytics.settings import Settings

# Readable by DuckDB 1.2 and newer, not only by the version that wrote it.
STORAGE_VERSION = "v1.2.0"


def publish(settings: Settings) -> None:
    """Write `analytics.duckdb`: every table of the lake that readers ask for."""
    with scratch(settings) as folder:
        target = folder / "analytics.duckdb"
        with connect(settings) as con:
            literal = str(target).replace("'", "''")
            con.execute(f"ATTACH '{literal}' AS published (STORAGE_VERSION '{STORAGE_VERSION}')")
            con.execute("BEGIN")
            for table in TABLES.values():
                if table.published:
                    con.execute(
                        f'CREATE TABLE published."{table.name}" AS SELECT * FROM {lake_relation(settings, table.name)}'
                    )
                    words = table.description.replace("'", "''")
                    con.execute(f"COMMENT ON TABLE published.\"{table.name}\" IS '{words}'")
            con.execute("INSERT INTO published.snapshot VALUES ('snapshot_id', ?)", [_snapshot_id(con)])
            con.execute("COMMIT")
            con.execute("CHECKPOINT published")
            con.execute("DETACH published")
        settings.published_path.parent.mkdir(parents=True, exist_ok=True)
        target.replace(settings.published_path)


def _snapshot_id(con: duckdb.DuckDBPyConnection) -> str:
    """A digest of every value and of what it was measured from, equal for equal content."""
    digest = hashlib.sha256()
    for query in (
        "SELECT * FROM published.metric_values ORDER BY ALL",
        "SELECT key, value FROM published.snapshot WHERE key NOT IN ('cut_off', 'snapshot_id') ORDER BY ALL",
        "SELECT source, entity, items, quarantined FROM published.collection ORDER BY ALL",
    ):
        rows = con.execute(query)
        while batch := rows.fetchmany(10_000):
            digest.update(json.dumps(batch, default=str).encode())
    return digest.hexdigest()
