"""The tables of a landing file, and the check that this version can read it.

Source: docs/architecture.md (Stores). Times are naive UTC.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from analytics.errors import LandingError
from analytics.settings import Settings

SCHEMA_VERSION = 1

TABLES: dict[str, str] = {
    "pages": (
        "page_id BIGINT, entity VARCHAR, request_key VARCHAR, generation INTEGER, fetched_at TIMESTAMP, "
        "status INTEGER, etag VARCHAR, sha256 VARCHAR, items BIGINT, quarantined BIGINT, total_count BIGINT"
    ),
    "items": (
        "entity VARCHAR, key VARCHAR, updated_at TIMESTAMP, occurred_at TIMESTAMP, origin VARCHAR, "
        "generation INTEGER, line BIGINT, page_id BIGINT, version UBIGINT, payload VARCHAR"
    ),
    # `payload` keeps what was refused whole, so that a later version may judge it again.
    "quarantine": (
        "entity VARCHAR, origin VARCHAR, generation INTEGER, line BIGINT, reason VARCHAR, json_path VARCHAR, "
        "detail VARCHAR, sha256 VARCHAR, excerpt VARCHAR, page_id BIGINT, payload VARCHAR"
    ),
    "cursors": "entity VARCHAR, request_key VARCHAR, value VARCHAR, updated_at TIMESTAMP",
    "collected": "entity VARCHAR, first_seen_at TIMESTAMP, last_seen_at TIMESTAMP",
    # `schema_version`; `offered`: the requests ([entity, key]) that the source had when it was last asked;
    # `unfinished`: those of them that were not read to their end.
    "meta": "key VARCHAR, value VARCHAR",
}


def landing_path(settings: Settings, source: str) -> Path:
    """Where a source lands."""
    return settings.landing_dir / f"{source}.duckdb"


def create_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Create the tables of a new landing file, all or none."""
    con.begin()
    for name, columns in TABLES.items():
        # Half the size of what DuckDB chooses by itself, and written faster.
        definition = columns.replace("payload VARCHAR", "payload VARCHAR USING COMPRESSION zstd")
        con.execute(f"CREATE TABLE {name} ({definition})")
    con.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
    con.commit()


def check_version(con: duckdb.DuckDBPyConnection, path: Path, catalog: str | None = None) -> bool:
    """Whether the file holds landing tables (False: it is new); raises LandingError for a version that is not ours."""
    prefix = f"{catalog}." if catalog else ""
    here = catalog if catalog else con.execute("SELECT current_database()").fetchall()[0][0]
    tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [here]).fetchall()
    if not tables:
        return False
    found = None
    if ("meta",) in tables:
        found = con.execute(f"SELECT value FROM {prefix}meta WHERE key = 'schema_version'").fetchone()
    if found is None:
        raise LandingError("is a database, but no landing file", where=str(path), fix="Move it away and pull again.")
    if found[0] != str(SCHEMA_VERSION):
        raise LandingError(
            f"was written by another version of Quarterdeck (schema {found[0]}; this version has {SCHEMA_VERSION})",
            where=str(path),
            fix="Use the newer version, or move the file away and pull again.",
        )
    return True
