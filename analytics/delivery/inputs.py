"""What a build was made from, in fingerprints: measuring says by them why a published value has changed.

Source: metrics.md section 5 (I3) and E39.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import duckdb

from analytics.catalog import Catalog
from analytics.settings import Settings

# Settings that mean something to a number; where things are stored and delivered does not.
_MEANINGFUL = (
    "organization",
    "time_zone",
    "fiscal_year_start_month",
    "incidents",
    "rework",
    "practices",
    "bots",
    "supply_chain",
)


def input_rows(con: duckdb.DuckDBPyConnection, settings: Settings, catalog: Catalog) -> Iterator[dict[str, Any]]:
    """Rows of `build_inputs`: entities collected, their landed versions by quarter, catalog, settings, code, cut-off.

    Items are only ever added, so that their number tells of a late record and of a corrected one. Needs `calendar`.
    """
    yield _row("cut_off", "", settings.now().isoformat())
    yield _row("code", "", metadata.version("quarterdeck"))
    for name in _MEANINGFUL:
        value = getattr(settings, name)
        text = value.model_dump_json() if hasattr(value, "model_dump_json") else json.dumps(value)
        yield _row("settings", name, _digest(text))
    yield _row("catalog", "", _digest("\n".join(service.model_dump_json() for service in catalog.services)))
    overrides = settings.incidents.overrides
    yield _row("overrides", "", _digest(overrides.read_text(encoding="utf-8")) if overrides else "none")
    for (entity,) in con.execute("SELECT DISTINCT entity FROM landed_collected ORDER BY entity").fetchall():
        yield _row("collected", entity, "yes")
    for entity, quarter, versions in con.execute(
        "SELECT entity, coalesce(quarter, ''), sum(versions)::BIGINT FROM "
        "(SELECT entity, CAST(occurred_at AS DATE) AS day, count(*) AS versions FROM landed_items GROUP BY ALL) "
        "LEFT JOIN calendar USING (day) GROUP BY ALL"
    ).fetchall():
        yield _row("entity", entity, str(versions), quarter)


def _row(kind: str, name: str, fingerprint: str, quarter: str = "") -> dict[str, Any]:
    return {"kind": kind, "name": name, "quarter": quarter, "fingerprint": fingerprint}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
