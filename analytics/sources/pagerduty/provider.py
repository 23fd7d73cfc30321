"""PagerDuty behind the port: what happened in a window of time is told by the account's log, oldest window first.

The log says which incidents were triggered, acknowledged, resolved or merged, so that a quiet account costs two
requests; a list of incidents tells only when they were made. Source: ingestion.md sections 2 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec

from analytics import progress
from analytics.errors import SourceError
from analytics.sources.answers import NotThereError
from analytics.sources.pagerduty.client import PagerDutyClient
from analytics.sources.pagerduty.translate import records_of
from analytics.sources.port import Answered, Capabilities, Collected, Cursor, Page, TimeWindow
from analytics.sources.service_names import ServiceNames

PAGE_ITEMS = 100
WINDOW = timedelta(days=30)
# PagerDuty lists no more than this of one question; a window that holds more is halved.
LISTED = 10_000
# What happened just before the last look may show up only after it.
OVERLAP = timedelta(minutes=10)
_KEY = "incidents"


@dataclass(frozen=True)
class _Happened:
    """What a window holds: incidents made in it, log entries by incident, and how many PagerDuty says were made."""

    made: Mapping[str, dict[str, Any]]
    entries: Mapping[str, list[dict[str, Any]]]
    total: int | None


class _TooManyError(Exception):
    """A window holds more than PagerDuty lists."""


class PagerDutyProvider:
    """One account's incidents."""

    def __init__(
        self, name: str, client: PagerDutyClient, services: ServiceNames | None = None, since: date | None = None
    ) -> None:
        self._name = name
        self._client = client
        self._services = services or ServiceNames()
        self._since = datetime.combine(since, time(), UTC) if since else None

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Incidents alone; what changes is in the log, so that nothing is read again by id."""
        return Capabilities(frozenset({"incidents"}))

    def discover(self) -> Collected:
        """One request for the account."""
        return Collected({"incidents": [_KEY]})

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages of incidents to which something happened since the cursor.

        Raises RateLimitedError with the time at which to go on, and SourceError.
        """
        if (entity, request_key) != ("incidents", _KEY):
            raise SourceError(f"has no {entity} of {request_key}", where=f"source {self._name}")
        known = dict(cursor or {})
        now, beginning = self._now_and_beginning(known)
        start = _instant(known["until"]) if "until" in known else beginning
        end = _instant(known["end"]) if "end" in known else min(start + WINDOW, now)
        is_quiet = bool(known)
        while start < end:
            progress.report("pull", f"{self._name}: incidents since {start:%Y-%m-%d}")
            try:
                happened = self._happened(start - OVERLAP, end)
            except _TooManyError:
                if end - start < timedelta(minutes=2):
                    raise SourceError(
                        f"more than {LISTED:,} things happened within a minute", where=f"{start:%Y-%m-%d %H:%M} UTC"
                    ) from None
                end, known = start + (end - start) / 2, {}
                continue
            # Nothing new: the next pull looks at the same window again, longer.
            is_quiet = is_quiet and end >= now and not happened.entries and not happened.made
            if not is_quiet:
                yield from self._pages(happened, start, end, known.get("after", ""))
            start, end, known = end, min(end + WINDOW, now), {}

    def _now_and_beginning(self, known: Mapping[str, Any]) -> tuple[datetime, datetime]:
        """PagerDuty's own time, and when its first incident was made unless that is not needed."""
        first = self._client.get(
            "/incidents", {"date_range": "all", "sort_by": "created_at:asc", "limit": 1, "total": "false"}
        )
        made = [
            str(item.get("created_at")) for item in self._client.host.list_of(first.data, "incidents", "/incidents")
        ]
        oldest = _instant(made[0]) if made else first.at
        return first.at, max(oldest, self._since) if self._since else oldest

    def _happened(self, start: datetime, end: datetime) -> _Happened:
        span: dict[str, str | int | list[str]] = {"since": _text(start), "until": _text(end), "time_zone": "UTC"}
        entries: dict[str, list[dict[str, Any]]] = {}
        for entry in self._all("/log_entries", "log_entries", {**span, "is_overview": "true"})[0]:
            native_id = entry.get("incident", {}).get("id") if isinstance(entry.get("incident"), dict) else None
            if isinstance(native_id, str):
                entries.setdefault(native_id, []).append(_shortened(entry))
        found, total = self._all("/incidents", "incidents", {**span, "sort_by": "created_at:asc", "total": "true"})
        return _Happened({str(item.get("id")): item for item in found}, entries, total)

    def _all(
        self, path: str, name: str, parameters: Mapping[str, str | int | list[str]]
    ) -> tuple[list[dict[str, Any]], int | None]:
        found: list[dict[str, Any]] = []
        while True:
            answer = self._client.get(path, {**parameters, "limit": PAGE_ITEMS, "offset": len(found)})
            found += self._client.host.list_of(answer.data, name, path)
            if not answer.data.get("more"):
                total = answer.data.get("total")
                return found, total if isinstance(total, int) else None
            if len(found) + PAGE_ITEMS > LISTED:
                raise _TooManyError

    def _pages(self, happened: _Happened, start: datetime, end: datetime, after: str) -> Iterator[Page]:
        """In the order of their ids, so that a pull that broke off in the window goes on behind the last of them."""
        ids = sorted(key for key in {*happened.made, *happened.entries} if key > after)
        for first in range(0, max(1, len(ids)), PAGE_ITEMS):
            some = ids[first : first + PAGE_ITEMS]
            is_last = first + PAGE_ITEMS >= len(ids)
            whole = [one for key in some if (one := self._whole(key, happened)) is not None]
            body = self._client.host.kept(msgspec.json.encode(whole).decode())
            yield Page(
                entity="incidents",
                request_key=_KEY,
                generation=1,
                records=records_of("incidents", body, "", self._services)["incidents"],
                refusals=(),
                cursor={"until": _text(end)}
                if is_last
                else {"until": _text(start), "end": _text(end), "after": some[-1]},
                status=200,
                total_count=happened.total if is_last else None,
                answered=Answered("incidents", f"/incidents since {_text(start)} until {_text(end)}", body),
                window=TimeWindow(start - OVERLAP, end) if is_last else None,
                observed=True,
            )

    def _whole(self, key: str, happened: _Happened) -> dict[str, Any] | None:
        """An incident with its log; one that was made before the window is asked for. None where it was deleted."""
        if key in happened.made:
            return {"incident": happened.made[key], "log_entries": happened.entries.get(key, [])}
        try:
            made = self._client.get(f"/incidents/{key}").data.get("incident")
            log, _ = self._all(f"/incidents/{key}/log_entries", "log_entries", {"is_overview": "true"})
        except NotThereError:
            return None
        except _TooManyError:
            raise SourceError(f"more than {LISTED:,} entries in one log", where=f"/incidents/{key}") from None
        return {"incident": made, "log_entries": [_shortened(entry) for entry in log]}


def _shortened(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Who was called and what the alert said is nobody's business here."""
    return {name: entry.get(name) for name in ("id", "type", "created_at")}


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SourceError(f"PagerDuty gave a time that is none: {text[:40]!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
