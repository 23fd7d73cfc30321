"""What the sensors look at: plain functions that say what is new since they last looked, and what to remember.

Belongs here: deciding whether there is news. Not here: Dagster, and sending anything. Each function takes what was
remembered (JSON text, None the first time) and gives back its news with what to remember from now on.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from analytics.errors import LakeError
from analytics.faults import in_words
from analytics.lake.reading import read_tables
from analytics.lake.tables import lake_place
from analytics.landing.freshness import freshness
from analytics.settings import FilesSource, Settings
from analytics.supply_chain.waivers import Waiver, load_waivers
from sensors.alerts import Alert

# A file that changed so shortly ago may still be being written.
QUIET_SECONDS = 5
_MOST_FILES = 200_000


@dataclass(frozen=True)
class Feeds:
    """The state of all feed folders: a digest of names, sizes and times, and when the newest file changed."""

    digest: str
    files: int
    newest_at: datetime | None

    def is_quiet(self, now: datetime) -> bool:
        """Whether nothing changed just now; a time in the future (a wrong clock) counts as quiet."""
        return self.newest_at is None or not timedelta(0) <= now - self.newest_at < timedelta(seconds=QUIET_SECONDS)


def feeds_state(settings: Settings) -> Feeds:
    """Look at every feed folder without opening a file; a folder that is missing has no files."""
    digest = hashlib.sha256()
    count, newest = 0, 0.0
    for source in settings.sources:
        if isinstance(source, FilesSource):
            for path, status in _files(source.path):
                digest.update(
                    f"{source.name}\0{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="replace")
                )
                count, newest = count + 1, max(newest, status.st_mtime)
                if count >= _MOST_FILES:
                    break
    return Feeds(digest.hexdigest(), count, datetime.fromtimestamp(newest, UTC) if count else None)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            try:
                status = path.stat()
            except OSError:  # gone again, or a link to nowhere
                continue
            if stat.S_ISREG(status.st_mode):
                yield str(path.relative_to(folder)), status


def critical_findings(settings: Settings, remembered: str | None) -> tuple[Alert | None, str]:
    """Critical findings that are open now and were not when we last looked; one that was fixed and came back is new.

    Raises LakeError when the lake cannot be read now.
    """
    known = set(json.loads(remembered or "[]"))
    try:
        rows = read_tables(
            settings,
            ["findings"],
            lambda con: con.execute(
                "SELECT id, rule, service, deployment_id, reason, remediation, owner "
                "FROM findings WHERE state = 'open' AND severity = 'critical' ORDER BY first_seen, id"
            ).fetchall(),
        )
    except duckdb.Error as error:
        fault = in_words(error)
        raise LakeError(
            fault.what if fault else f"cannot be read: {str(error).splitlines()[0]}",
            where=lake_place(settings, "findings"),
            fix="Run `quarterdeck verify` if no stage is running.",
        ) from error
    new = [row for row in rows if row[0] not in known]
    memory = json.dumps(sorted(row[0] for row in rows))
    if not new:
        return None, memory
    lines = [
        f"{rule}: {service or 'no service'}, deployment {deployment or '-'}: {reason}. {remediation or ''} "
        f"(owner: {owner or 'none'}, finding {key})"
        for key, rule, service, deployment, reason, remediation, owner in new
    ]
    return Alert("critical_findings", f"{_count(len(new), 'new critical finding')}", lines), memory


def ending_waivers(settings: Settings, remembered: str | None) -> tuple[Alert | None, str]:
    """Waivers that end within `alerts.waiver_days`, and those that have ended; each is told once of each."""
    known = set(json.loads(remembered or "[]"))
    today = settings.calendar.local_day(settings.now())
    due: dict[str, str] = {}
    for waiver in load_waivers(settings.supply_chain.waivers):
        days = (waiver.until - today).days
        if days > settings.alerts.waiver_days:
            continue
        state = "ended" if days < 0 else "ends"
        due[_waiver_key(waiver, state)] = (
            f"{state} on {waiver.until}: {waiver.rule or waiver.id or waiver.digest or waiver.deployment}"
            f"{f' of {waiver.service}' if waiver.service else ''} (owner: {waiver.owner}, {waiver.where})"
        )
    new = [line for key, line in due.items() if key not in known]
    memory = json.dumps(sorted(due))
    return (
        Alert("ending_waivers", f"{_count(len(new), 'waiver')} to renew or to remove", new) if new else None
    ), memory


def _waiver_key(waiver: Waiver, state: str) -> str:
    # Not its line: a waiver that moves in its file is the same one.
    text = json.dumps([state, waiver.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stale_sources(settings: Settings, remembered: str | None) -> tuple[Alert | None, str]:
    """Sources that were not asked for `alerts.stale_after_hours`, or gave nothing new for `alerts.silent_after_days`.

    Each is told once, and again when it has recovered in between. Raises LandingError for a file that is broken.
    """
    known = set(json.loads(remembered or "[]"))
    now, alerts = settings.now(), settings.alerts
    stale: dict[str, str] = {}
    for row in freshness(settings):
        if row.in_use:
            # Being pulled: what was said of it stands until it can be looked at.
            stale |= {key: "" for key in known if key in (f"asked {row.source}", f"silent {row.source}")}
        elif row.asked_at is None:
            stale[f"asked {row.source}"] = f"{row.source}: was never read, or offers nothing"
        elif now - row.asked_at > timedelta(hours=alerts.stale_after_hours):
            stale[f"asked {row.source}"] = (
                f"{row.source}: last read {_ago(now - row.asked_at)} ago, {row.asked_at:%F %R} UTC"
            )
        elif row.new_at is None or now - row.new_at > timedelta(days=alerts.silent_after_days):
            last = f"since {row.new_at:%F %R} UTC" if row.new_at else "ever"
            stale[f"silent {row.source}"] = f"{row.source}: is read, but gave nothing new {last}"
    new = [line for key, line in stale.items() if key not in known]
    memory = json.dumps(sorted(stale))
    return (Alert("stale_sources", f"{_count(len(new), 'stale source')}", new) if new else None), memory


def _ago(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
