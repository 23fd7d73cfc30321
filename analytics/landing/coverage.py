"""What is landed and what was refused, for people and for the lake; read without Dagster and without a source.

Source: ingestion.md section 5 (completeness, bad payloads) and metrics.md section 8 (collected, cut-off).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from analytics.landing.winners import create_winners, open_landing
from analytics.periods import Quarter
from analytics.settings import Settings
from analytics.sources.entities import DEPLOYMENT_STATES, ENTITIES

# More rows of one reason tell nobody anything new, and a feed may be bad from its first line to its last.
LISTED = 10_000


@dataclass(frozen=True)
class Collected:
    """What one source offered of one entity: distinct records, their first and last time (UTC), refused ones."""

    source: str
    entity: str
    first_at: datetime | None
    last_at: datetime | None
    items: int
    quarantined: int
    complete: bool


@dataclass(frozen=True)
class Quarantined:
    """A record, or a whole file (line 0), that does not count as it is, and why.

    One that is `kept` has landed: it is after the cut-off, or says something unknown.
    """

    source: str
    entity: str
    origin: str
    line: int
    reason: str
    json_path: str | None
    detail: str | None
    sha256: str | None
    excerpt: str | None
    kept: bool = False


@dataclass(frozen=True)
class Completeness:
    """How many records of a quarter landed, and how many its source says it has."""

    source: str
    entity: str
    quarter: str
    landed: int
    expected: int


@dataclass(frozen=True)
class Window:
    """One offered request (a file, a repository): what its newest generation brought; times are UTC.

    A request that was never read has no generation. `total_count` is what the source said it had, if it said so.
    """

    source: str
    entity: str
    request_key: str
    generation: int | None
    pages: int
    items: int
    quarantined: int
    total_count: int | None
    first_fetched_at: datetime | None
    last_fetched_at: datetime | None
    complete: bool


def collection(
    settings: Settings, con: duckdb.DuckDBPyConnection | None = None, known: str | None = None
) -> list[Collected]:
    """One row per source and entity; an entity with a file, even an empty one, is collected.

    `complete` says that every request of every shard was read to its end, none was refused as a whole, and as many
    records came as the source said it had. A connection of `open_landing` may be given, and with it a relation `known`
    of what this said before the items of `fresh_items` (place) landed, which alone are looked at then.
    """
    with _opened(settings, con) as con:
        items = _ITEMS if known is None else _MORE_ITEMS.format(known=known)
        rows = con.execute(
            f"""
            SELECT source, entity, first_at, last_at, coalesce(items, 0) AS items,
                   coalesce(quarantined, 0) AS quarantined,
                   NOT (coalesce(is_short, false) OR source IN (SELECT source FROM absent_shards)) AS complete
            FROM (SELECT source, entity FROM landed_collected UNION SELECT source, entity FROM refused) AS known
            LEFT JOIN ({items}) USING (source, entity)
            LEFT JOIN (SELECT source, entity, count(*) AS quarantined FROM refused GROUP BY ALL) USING (source, entity)
            LEFT JOIN (SELECT source, entity, bool_or(NOT complete) AS is_short FROM windows GROUP BY ALL)
                USING (source, entity)
            ORDER BY source, entity
            """
        )
        return [Collected(**row) for row in _fetch(rows)]


def windows(settings: Settings) -> list[Window]:
    """One row per request that the sources offer, for its newest generation."""
    with _opened(settings, None) as con:
        found = con.execute("SELECT * FROM windows ORDER BY source, entity, request_key")
        return [Window(**row) for row in _fetch(found)]


def quarantined(
    settings: Settings, con: duckdb.DuckDBPyConnection | None = None, known: str | None = None
) -> list[Quarantined]:
    """What does not count: refused records of each file's newest generation, and landed ones that are `kept`.

    Records of reason `after_cut_off` count once `now` has passed them; deployments of reason `unknown_enum` have a
    status that nobody knows and count as unknown. At most 10,000 rows per source, entity and
    reason are listed, in the order of source, entity, file and line; `collection` counts all refused ones. A connection
    and a relation `known` may be given as for `collection`.
    """
    now = settings.now().astimezone(UTC)
    listed: list[Quarantined] = []
    with _opened(settings, con) as con:
        groups = con.execute("SELECT DISTINCT source, entity, reason FROM refused").fetchall()
        for group in groups:
            found = con.execute(
                "SELECT source, entity, origin, line, reason, json_path, detail, sha256, excerpt FROM refused "
                f"WHERE source = ? AND entity = ? AND reason = ? ORDER BY origin, line LIMIT {LISTED}",
                group,
            )
            listed += [Quarantined(**row) for row in _fetch(found)]
        for entity in ENTITIES:
            listed += _after_cut_off(con, entity, now)
        listed += _unknown_states(con, known)
    return sorted(listed, key=lambda row: (row.source, row.entity, row.origin, row.line, row.reason))


def completeness(settings: Settings, con: duckdb.DuckDBPyConnection | None = None) -> list[Completeness]:
    """How much of each quarter is landed, for the lists whose length their source tells.

    A record that is missing from a window is missing from every quarter which the window touches, since nobody knows
    its time. Source: ingestion.md section 5 (completeness).
    """
    calendar = settings.calendar
    now = settings.now()
    landed: Counter[tuple[str, str, Quarter]] = Counter()
    expected: Counter[tuple[str, str, Quarter]] = Counter()
    with _opened(settings, con) as con:
        lists = "(SELECT DISTINCT source, entity FROM landed_pages WHERE total_count IS NOT NULL)"
        days = con.execute(
            "SELECT source, entity, date_trunc('hour', occurred_at), count(DISTINCT CASE WHEN entity = 'pipeline_runs' "
            "THEN json_extract_string(key, '$[1]') ELSE key END) "
            f"FROM landed_items SEMI JOIN {lists} USING (source, entity) WHERE occurred_at IS NOT NULL GROUP BY ALL"
        ).fetchall()
        short = con.execute(
            "SELECT source, entity, window_start, window_end, total - landed FROM told WHERE landed < total"
        ).fetchall()
    for source, entity, hour, records in days:
        landed[source, entity, calendar.quarter_of(_aware(hour))] += records
    expected.update(landed)
    first = min((quarter for _, _, quarter in landed), default=calendar.quarter_of(now))
    for source, entity, start, end, missing in short:
        touched = calendar.quarters_between(
            max(first, calendar.quarter_of(_aware(start))) if start else first,
            calendar.quarter_of(min(now, _aware(end)) if end else now),
        )
        for quarter in touched:
            expected[source, entity, quarter] += missing
    return [
        Completeness(source, entity, str(quarter), landed[source, entity, quarter], records)
        for (source, entity, quarter), records in sorted(expected.items())
    ]


# Distinct records by source and entity, with their first and last time.
_ITEMS = """
    SELECT source, entity, min(occurred_at) AS first_at, max(occurred_at) AS last_at, count(DISTINCT hash(key)) AS items
    FROM landed_items GROUP BY ALL
"""
# The same, of what was known before and the records that are fresh; a version of a known one is no other record.
_MORE_ITEMS = """
    WITH fresh AS (
        SELECT source, entity, hash(key) AS key_hash, occurred_at FROM landed_items
        SEMI JOIN fresh_items USING (place)
    ), seen AS (
        SELECT DISTINCT item.source, item.entity, hash(item.key) AS key_hash
        FROM (SELECT source, entity, key FROM landed_items ANTI JOIN fresh_items USING (place)) AS item
        SEMI JOIN fresh ON fresh.key_hash = hash(item.key) AND fresh.source = item.source AND fresh.entity = item.entity
    )
    SELECT source, entity, min(first_at) AS first_at, max(last_at) AS last_at, sum(items)::BIGINT AS items
    FROM (
        SELECT source, entity, first_at, last_at, items FROM {known}
        UNION ALL
        SELECT source, entity, min(occurred_at), max(occurred_at), 0 FROM fresh GROUP BY ALL
        UNION ALL
        SELECT source, entity, NULL, NULL, count(DISTINCT key_hash)
        FROM fresh ANTI JOIN seen USING (source, entity, key_hash) GROUP BY ALL
    ) GROUP BY ALL
"""


@contextmanager
def _opened(settings: Settings, con: duckdb.DuckDBPyConnection | None) -> Iterator[duckdb.DuckDBPyConnection]:
    with nullcontext(con) if con is not None else open_landing(settings) as opened:
        _create_views(opened)
        yield opened


def _after_cut_off(con: duckdb.DuckDBPyConnection, entity: str, now: datetime) -> list[Quarantined]:
    cut_off = now.replace(tzinfo=None)
    late = con.execute(
        "SELECT DISTINCT source FROM landed_items WHERE entity = ? AND occurred_at > ?", [entity, cut_off]
    ).fetchall()
    if not late:
        return []
    winners = create_winners(con, entity)
    rows: list[Quarantined] = []
    for (source,) in late:
        found = con.execute(
            f"""
            SELECT source, $entity AS entity, origin, line, 'after_cut_off' AS reason, $path AS json_path,
                   'happened at ' || strftime(occurred_at, '%Y-%m-%dT%H:%M:%SZ') || ', after the cut-off' AS detail,
                   sha256(payload) AS sha256, left(payload, 512) AS excerpt, true AS kept
            FROM {winners} WHERE source = $source AND occurred_at > $cut_off ORDER BY origin, line LIMIT {LISTED}
            """,
            {"entity": entity, "path": f"$.{ENTITIES[entity].occurred_at}", "source": source, "cut_off": cut_off},
        )
        rows += [Quarantined(**row) for row in _fetch(found)]
    return rows


def _unknown_states(con: duckdb.DuckDBPyConnection, known: str | None) -> list[Quarantined]:
    """Deployments with a status, or a state in their history, that is none of the known ones."""
    states = {"states": sorted(DEPLOYMENT_STATES)}
    said = (
        "coalesce(list_filter([json_extract_string(payload, '$.status')] || "
        "coalesce(json_extract_string(payload, '$.statuses[*].state'), []), "
        "lambda state: state IS NOT NULL AND NOT list_contains($states, lower(state))), [])"
    )
    looked_at = "landed_items"
    if known and not con.execute(f"SELECT 1 FROM {known} WHERE reason = 'unknown_enum' LIMIT 1").fetchall():
        # Nothing but a fresh item can have become a record that says something else.
        looked_at = "(SELECT * FROM landed_items SEMI JOIN fresh_items USING (place))"
    any_said = con.execute(
        f"SELECT 1 FROM {looked_at} WHERE entity = 'deployments' AND len({said}) > 0 LIMIT 1", states
    )
    if not any_said.fetchall():
        return []
    winners = create_winners(con, "deployments")
    found = con.execute(
        f"""
        SELECT source, 'deployments' AS entity, origin, line, 'unknown_enum' AS reason,
               CASE WHEN json_extract_string(payload, '$.status') = said[1] THEN '$.status'
                    ELSE '$.statuses' END AS json_path,
               'kept, but ''' || left(said[1], 100) || ''' is no status that is known' AS detail,
               sha256(payload) AS sha256, left(payload, 512) AS excerpt, true AS kept
        FROM (SELECT *, {said} AS said FROM {winners}) WHERE len(said) > 0
        QUALIFY row_number() OVER (PARTITION BY source ORDER BY origin, line) <= {LISTED}
        """,
        states,
    )
    return [Quarantined(**row) for row in _fetch(found)]


def _create_views(con: duckdb.DuckDBPyConnection) -> None:
    """The views `refused` (quarantine that still stands) and `windows` (one row per offered request)."""
    for name in ("offered", "unfinished"):
        con.execute(
            f"CREATE OR REPLACE VIEW {name} AS "
            "SELECT DISTINCT source, request[1] AS entity, request[2] AS request_key FROM ("
            """SELECT source, unnest(from_json(value, '[["VARCHAR"]]')) AS request """
            f"FROM landed_meta WHERE key = '{name}')"
        )
    con.execute(
        "CREATE OR REPLACE VIEW newest AS SELECT source, entity, request_key, max(generation) AS generation "
        "FROM landed_pages GROUP BY ALL"
    )
    # A file that was rewritten answers for its newest generation only, a refused file for as long as it is there.
    con.execute(
        """
        CREATE OR REPLACE VIEW refused AS
        SELECT quarantine.* EXCLUDE (payload) FROM landed_quarantine AS quarantine
        JOIN newest ON newest.source = quarantine.source AND newest.entity = quarantine.entity
            AND newest.request_key = quarantine.origin AND newest.generation = quarantine.generation
        LEFT JOIN offered ON offered.source = quarantine.source AND offered.entity = quarantine.entity
            AND offered.request_key = quarantine.origin
        WHERE quarantine.line > 0 OR offered.source IS NOT NULL
        """
    )
    # What a source said that a span of time holds, against the distinct records landed of it; runs have attempts.
    con.execute(
        """
        CREATE OR REPLACE VIEW told AS
        SELECT page.source, page.entity, page.request_key, page.window_start, page.window_end,
               max(page.total) AS total,
               count(DISTINCT CASE WHEN page.entity = 'pipeline_runs' THEN json_extract_string(item.key, '$[1]')
                                   ELSE item.key END) AS landed
        FROM (
            SELECT source, entity, request_key, window_start, window_end, arg_max(total_count, page_id) AS total
            FROM landed_pages WHERE total_count IS NOT NULL
            GROUP BY ALL
        ) AS page
        LEFT JOIN landed_items AS item
            ON item.source = page.source AND item.entity = page.entity AND item.origin = page.request_key
            AND (page.window_start IS NULL OR item.occurred_at >= page.window_start)
            AND (page.window_end IS NULL OR item.occurred_at <= page.window_end)
        GROUP BY ALL
        """
    )
    con.execute(
        """
        CREATE OR REPLACE VIEW windows AS
        SELECT source, entity, request_key, newest.generation, coalesce(read.pages, 0) AS pages,
               coalesce(read.items, 0) AS items, coalesce(read.quarantined, 0) AS quarantined, read.total_count,
               read.first_fetched_at, read.last_fetched_at,
               unfinished.source IS NULL AND whole.source IS NULL
                   AND coalesce(json_extract_string(cursors.value, '$.complete'), 'true') = 'true'
                   AND short.source IS NULL AS complete
        FROM offered
        LEFT JOIN newest USING (source, entity, request_key)
        LEFT JOIN unfinished USING (source, entity, request_key)
        LEFT JOIN landed_cursors AS cursors USING (source, entity, request_key)
        LEFT JOIN (
            SELECT DISTINCT source, entity, origin AS request_key FROM refused WHERE line = 0
        ) AS whole USING (source, entity, request_key)
        LEFT JOIN (
            SELECT source, entity, request_key, generation, count(*) AS pages, sum(items) AS items,
                   sum(quarantined) AS quarantined, max(total_count) AS total_count,
                   min(fetched_at) AS first_fetched_at, max(fetched_at) AS last_fetched_at
            FROM landed_pages GROUP BY ALL
        ) AS read ON read.source = newest.source AND read.entity = newest.entity
            AND read.request_key = newest.request_key AND read.generation = newest.generation
        LEFT JOIN (SELECT DISTINCT source, entity, request_key FROM told WHERE landed < total) AS short
            USING (source, entity, request_key)
        """
    )


def _fetch(found: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Rows by column name; times leave as aware UTC times."""
    names = [str(column[0]) for column in found.description or ()]
    return [
        {name: _aware(value) if isinstance(value, datetime) else value for name, value in zip(names, row, strict=True)}
        for row in found.fetchall()
    ]


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
