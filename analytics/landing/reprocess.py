"""Judging everything that is landed once more, after a judge or a translation was changed; no source is read.

Items that are bad by today's judge go to quarantine, refused records that were kept whole and are good now become
items, and keys and times are read again. What came from an API is made anew from the kept answers. Source:
ingestion.md sections 1 and 5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from analytics import progress
from analytics.landing.judge import judge_for
from analytics.landing.payloads import reading_query
from analytics.landing.providers import translator_of
from analytics.landing.shards import CUT_DEADLINE_SECONDS, Shard, held, present_paths
from analytics.landing.store import LandingStore
from analytics.landing.translating import translate_anew
from analytics.settings import Settings, Source
from analytics.sources.entities import ENTITIES

STAGE = "reprocess"
_BATCH_ROWS = 50_000
# Beginnings of 2 KB at most, whatever the letters.
_EXCERPT = "CASE WHEN strlen(left(payload, 2048)) <= 2048 THEN left(payload, 2048) ELSE left(payload, 512) END"


@dataclass(frozen=True)
class ReprocessResult:
    """What judging one source again changed, in records."""

    source: str
    to_quarantine: int
    to_items: int
    read_anew: int
    # Records of an API that are others now.
    translated: int = 0


def reprocess(settings: Settings) -> list[ReprocessResult]:
    """Judge again what every configured source landed, each landing file all or nothing; raises LandingError."""
    results: list[ReprocessResult] = []
    for source in settings.sources:
        with held(settings, source.name, alone=False, deadline_seconds=CUT_DEADLINE_SECONDS):
            done = [
                _reprocess(settings, source, shard)
                for shard, path in present_paths(settings, source.name)
                if path.exists()
            ]
        if not done:
            continue
        result = ReprocessResult(
            source.name,
            sum(one.to_quarantine for one in done),
            sum(one.to_items for one in done),
            sum(one.read_anew for one in done),
            sum(one.translated for one in done),
        )
        progress.report(
            STAGE,
            f"{source.name}: {result.to_quarantine:,} refused, {result.to_items:,} released, "
            f"{result.read_anew:,} read anew",
        )
        results.append(result)
    return results


def _reprocess(settings: Settings, source: Source, shard: Shard) -> ReprocessResult:
    with LandingStore.open(settings, source.name, shard=shard) as store, store.transaction():
        # Counted before anything is written: rows of an open transaction have numbers of their own, and what was
        # just moved needs no second look.
        quarantined, landed = _rows(store, "quarantine"), _rows(store, "items")
        released = _release(store, quarantined)
        refused = _refuse(store, landed)
        anew = _read_anew(store)
        translator = translator_of(settings, source)
        translated = translate_anew(store, translator) if translator else 0
    return ReprocessResult(source.name, refused, released, anew, translated)


def _rows(store: LandingStore, table: str) -> int:
    """One more than the number of a table's last row."""
    (end,) = store.con.execute(f"SELECT coalesce(max(rowid) + 1, 0) FROM {table}").fetchall()[0]
    return int(end)


def _batches(store: LandingStore, table: str, end: int, where: str) -> Iterator[list[tuple[int, str, str]]]:
    """Rows (row, entity, payload) of a table up to `end` by ranges of its rows, so that memory stays small."""
    for first in range(0, end, _BATCH_ROWS):
        yield store.con.execute(
            f"SELECT rowid, entity, payload FROM {table} WHERE rowid >= ? AND rowid < ? AND {where}",
            [first, min(first + _BATCH_ROWS, end)],
        ).fetchall()


def _release(store: LandingStore, end: int) -> int:
    """Land what was refused and is good now."""
    store.con.execute("CREATE OR REPLACE TEMP TABLE released (place BIGINT)")
    for rows in _batches(store, "quarantine", end, "payload IS NOT NULL"):
        good: defaultdict[str, tuple[list[int], list[bytes]]] = defaultdict(lambda: ([], []))
        for place, entity, payload in rows:
            data = payload.encode()
            if entity in ENTITIES and judge_for(entity)(data) is None:
                good[entity][0].append(place)
                good[entity][1].append(data)
        for entity, (places, payloads) in good.items():
            store.arrive(entity, places, payloads)
            store.con.execute(
                "INSERT INTO items SELECT refused.entity, arriving.key, arriving.updated_at, arriving.occurred_at, "
                "refused.origin, refused.generation, refused.line, refused.page_id, hash(arriving.payload), "
                "arriving.payload FROM arriving JOIN quarantine AS refused ON refused.rowid = arriving.line"
            )
            store.con.execute("INSERT INTO released SELECT line FROM arriving")
    store.con.execute("DELETE FROM quarantine WHERE rowid IN (SELECT place FROM released)")
    return _count(store, "released")


def _refuse(store: LandingStore, end: int) -> int:
    """Move what is bad by today's judge to quarantine."""
    columns = {"place": pl.Int64, "reason": pl.String, "json_path": pl.String, "detail": pl.String}
    store.con.execute(
        "CREATE OR REPLACE TEMP TABLE bad (place BIGINT, reason VARCHAR, json_path VARCHAR, detail VARCHAR)"
    )
    for rows in _batches(store, "items", end, "true"):
        bad = [
            (place, fault.reason, fault.json_path, fault.detail)
            for place, entity, payload in rows
            if (fault := judge_for(entity)(payload.encode())) is not None
        ]
        if bad:
            with store.parquet(pl.DataFrame(bad, schema=columns, orient="row")) as frame:
                store.con.execute(f"INSERT INTO bad SELECT * FROM {frame}")
    store.con.execute(
        "INSERT INTO quarantine SELECT entity, origin, generation, line, reason, json_path, detail, sha256(payload), "
        f"{_EXCERPT}, page_id, payload FROM items JOIN bad ON bad.place = items.rowid"
    )
    store.con.execute("DELETE FROM items WHERE rowid IN (SELECT place FROM bad)")
    return _count(store, "bad")


def _read_anew(store: LandingStore) -> int:
    """Read keys and times of items as they are read today."""
    changed = 0
    for (entity,) in store.con.execute("SELECT DISTINCT entity FROM items").fetchall():
        read = reading_query(entity, f"(SELECT rowid AS line, payload FROM items WHERE entity = '{entity}')")
        store.con.execute(
            "CREATE OR REPLACE TEMP TABLE anew AS "
            "SELECT read.line AS place, read.key, read.updated_at, read.occurred_at "
            f"FROM ({read}) AS read JOIN items ON items.rowid = read.line WHERE read.is_read AND "
            "(items.key, items.updated_at, items.occurred_at) "
            "IS DISTINCT FROM (read.key, read.updated_at, read.occurred_at)"
        )
        store.con.execute(
            "UPDATE items SET key = anew.key, updated_at = anew.updated_at, occurred_at = anew.occurred_at "
            "FROM anew WHERE anew.place = items.rowid"
        )
        changed += _count(store, "anew")
    return changed


def _count(store: LandingStore, table: str) -> int:
    (rows,) = store.con.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
    return int(rows)
