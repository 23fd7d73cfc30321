"""When each source was last asked, and when it last gave something new; a file in use is not waited for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from analytics import engine
from analytics.errors import FileInUseError
from analytics.landing.shards import present_paths
from analytics.landing.waiting import wait_for_file
from analytics.settings import Settings


@dataclass(frozen=True)
class Freshness:
    """Times are UTC; None is never. `in_use` says that a pull holds the file now, so that nothing is known."""

    source: str
    asked_at: datetime | None = None
    new_at: datetime | None = None
    in_use: bool = False


def freshness(settings: Settings) -> list[Freshness]:
    """One row per configured source, in the order of the settings; raises LandingError for a file that is broken."""
    return [_of_source(settings, source.name) for source in settings.sources]


def _of_source(settings: Settings, source: str) -> Freshness:
    """Of several shards the one that was asked longest ago speaks for its source, and the newest of what they gave."""
    asked: list[datetime | None] = []
    new: list[datetime | None] = []
    for _, path in present_paths(settings, source):
        if not path.exists():
            asked.append(None)
            continue
        try:
            times = wait_for_file(path, partial(_times, settings, path), deadline_seconds=0)
        except FileInUseError:
            return Freshness(source, in_use=True)
        asked.append(times[0])
        new.append(times[1])
    known = [at for at in asked if at is not None]
    return Freshness(
        source,
        min(known) if known and len(known) == len(asked) else None,
        max((at for at in new if at is not None), default=None),
    )


def _times(settings: Settings, path: Path) -> tuple[datetime | None, datetime | None]:
    with engine.connect(settings, path, read_only=True) as con:
        if not con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'pages'").fetchall():
            return None, None  # made, but nothing landed yet
        [(asked, new)] = con.execute(
            "SELECT (SELECT max(last_seen_at) FROM collected), (SELECT max(fetched_at) FROM pages WHERE items > 0)"
        ).fetchall()
    return _aware(asked), _aware(new)


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None
