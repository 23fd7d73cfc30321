"""Repositories that were renamed: what was landed under a former name counts under the present one.

A source that knows repositories by their id (its request keys) tells the name of each; git's and the feeds' names, and
the catalog's, are taken as they stand. Source: ingestion.md section 3 (a renamed repository).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import duckdb


def create_former_names(con: duckdb.DuckDBPyConnection, attached: Sequence[tuple[str, str]]) -> set[str]:
    """Create the table `former_names` (source, request_key, former, present) and give the sources that are in it."""
    renamed: set[str] = set()
    con.execute(
        "CREATE OR REPLACE TABLE former_names (source VARCHAR, request_key VARCHAR, former VARCHAR, present VARCHAR)"
    )
    for source, catalog in attached:
        noted = dict(
            con.execute(f"SELECT key, value FROM {catalog}.meta WHERE key IN ('names', 'former_names')").fetchall()
        )
        names = json.loads(noted.get("names", "{}"))
        for key, former in json.loads(noted.get("former_names", "[]")):
            if names.get(key, former) != former:
                con.execute("INSERT INTO former_names VALUES (?, ?, ?, ?)", [source, key, former, names[key]])
                renamed.add(source)
    return renamed


def under_present_names(source: str, catalog: str) -> str:
    """A relation of a landing file's items, each under its repository's present name; `row` is its rowid.

    The request, an id, tells which repository is meant: a name may be given to another one later.
    """
    said = """'"repository":' || CAST(to_json({name}) AS VARCHAR)"""
    was, present = said.format(name="former"), said.format(name="present")
    return (
        "(SELECT item.* REPLACE (CASE WHEN former IS NULL THEN key ELSE "
        "replace(key, CAST(to_json(former) AS VARCHAR), CAST(to_json(present) AS VARCHAR)) END AS key, "
        f"CASE WHEN former IS NULL THEN payload ELSE replace(payload, {was}, {present}) END AS payload), "
        f"item.rowid AS row FROM {catalog}.items AS item LEFT JOIN former_names ON former_names.source = '{source}' "
        f"AND former_names.request_key = split_part(item.origin, '/', 1) AND contains(payload, {was}))"
    )


def present_names(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Former to present names, for what is known by name alone; a name in use again stays as it is."""
    rows = con.execute(
        "SELECT DISTINCT former, present FROM former_names WHERE former NOT IN (SELECT present FROM former_names)"
    ).fetchall()
    return {former.casefold(): present for former, present in rows}
