"""The tables of a landing file, and the check that this version can read it.

Source: docs/architecture.md (Stores). Times are naive UTC.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from analytics.errors import LandingError

SCHEMA_VERSION = 2
_SINCE_2 = "window_start TIMESTAMP, window_end TIMESTAMP, kind VARCHAR, request VARCHAR, next_url VARCHAR, body VARCHAR"

TABLES: dict[str, str] = {
    "pages": (
        "page_id BIGINT, entity VARCHAR, request_key VARCHAR, generation INTEGER, fetched_at TIMESTAMP, "
        "status INTEGER, etag VARCHAR, sha256 VARCHAR, items BIGINT, quarantined BIGINT, total_count BIGINT, "
        + _SINCE_2
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
    # `unfinished`: those of them that were not read to their end;
    # `names`: the repository behind each request whose key is an id; `former_names`: [[request key, name it had], …].
    "meta": "key VARCHAR, value VARCHAR",
}


def landing_columns(table: str) -> dict[str, str]:
    """Names and DuckDB types of a landing table's columns."""
    return dict(column.split(" ", 1) for column in TABLES[table].split(", "))


def create_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Create the tables of a new landing file, all or none."""
    con.begin()
    for name, columns in TABLES.items():
        # Half the size of what DuckDB chooses by itself, and written faster.
        definition = re.sub(r"\b(payload|body) VARCHAR", r"\1 VARCHAR USING COMPRESSION zstd", columns)
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
    if found[0] == "1":
        migrate(con, path, catalog)
    elif found[0] != str(SCHEMA_VERSION):
        raise LandingError(
            f"was written by another version of Quarterdeck (schema {found[0]}; this version has {SCHEMA_VERSION})",
            where=str(path),
            fix="Use the newer version, or move the file away and pull again.",
        )
    return True


def migrate(con: duckdb.DuckDBPyConnection, path: Path, catalog: str | None) -> None:
    """Bring a file of schema 1 to schema 2, all or nothing: what an API answered is kept beside its page.

    A file that is attached for reading is let go, opened for writing and attached again.
    """
    if catalog is not None:
        con.execute(f"DETACH {catalog}")
        with duckdb.connect(str(path)) as writing:
            migrate(writing, path, None)
        literal = str(path).replace("'", "''")
        con.execute(f"ATTACH '{literal}' AS {catalog} (READ_ONLY)")
        return
    con.begin()
    for column in _SINCE_2.split(", "):
        con.execute(f"ALTER TABLE pages ADD COLUMN {column}")
    con.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(SCHEMA_VERSION)])
    con.commit()
