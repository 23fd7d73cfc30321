"""How long answers are kept as they came: `retention: {raw_pages_days: N}` drops bodies, never items.

A page without its body still says what was asked and what came of it, and its records stay landed; they are only not
translated anew by `reprocess`. The file keeps its size, and what was let go is used again by later pages.
"""

from __future__ import annotations

from datetime import UTC, timedelta

from analytics import progress
from analytics.landing.store import LandingStore
from analytics.settings import Settings

STAGE = "retention"


def drop_old_bodies(store: LandingStore, settings: Settings, source: str) -> int:
    """Drop the bodies of pages that were fetched longer ago than the settings keep them; how many there were."""
    days = settings.retention.raw_pages_days
    if days is None:
        return 0
    until = (settings.now() - timedelta(days=days)).astimezone(UTC).replace(tzinfo=None)
    with store.transaction():
        [(dropped,)] = store.con.execute(
            "UPDATE pages SET body = NULL WHERE body IS NOT NULL AND fetched_at < ?", [until]
        ).fetchall()
    if dropped:
        progress.report(STAGE, f"{source}: bodies of {dropped:,} pages dropped, older than {days} days")
    return int(dropped)
