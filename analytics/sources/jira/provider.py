"""Jira behind the port: what a JQL finds, read on from the last change that was seen.

A JQL knows minutes only, in the time zone of whoever asks. Source: ingestion.md sections 2, 3 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from analytics import progress
from analytics.errors import SourceError
from analytics.sources.jira.client import JiraClient
from analytics.sources.jira.translate import Rules, records_of, shortened
from analytics.sources.port import Answered, Capabilities, Collected, Cursor, Page
from analytics.sources.service_names import ServiceNames

PAGE_ITEMS = 100
# What was changed just before the last look may be found only after it.
OVERLAP = timedelta(minutes=10)
_STANDARD_FIELDS = (
    "summary", "status", "created", "updated", "resolutiondate", "priority", "labels", "components", "issuetype",
)  # fmt: skip
_KINDS = {"incidents": "incidents", "approvals": "changes"}


class JiraProvider:
    """The issues of one site that count as incidents, and its change tickets."""

    def __init__(
        self,
        name: str,
        client: JiraClient,
        jql: Mapping[str, str],
        rules: Rules,
        services: ServiceNames | None = None,
        since: date | None = None,
    ) -> None:
        self._name = name
        self._client = client
        # By kind: incidents, changes.
        self._jql = dict(jql)
        self._rules = rules
        self._services = services or ServiceNames()
        self._since = datetime(since.year, since.month, since.day, tzinfo=UTC) if since else None
        self._ids: dict[str, str] = {}
        self._zone: ZoneInfo | None = None

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Incidents, and approvals where a JQL for change tickets is given."""
        return Capabilities(frozenset(entity for entity, kind in _KINDS.items() if kind in self._jql))

    def discover(self) -> Collected:
        """One request for each JQL; raises SourceError for a field that Jira does not have."""
        self._zone = self._client.time_zone()
        named = self._rules.named_fields()
        if named:
            known = self._client.fields()
            missing = [name for name in named if name.casefold() not in known]
            if missing:
                raise SourceError(
                    f"has no field named {', '.join(map(repr, missing))}",
                    where=f"source {self._name}",
                    fix="Write it as Jira shows it, or by its id (customfield_10050).",
                )
            self._ids = {name: known[name.casefold()] for name in named}
        return Collected({entity: [kind] for entity, kind in _KINDS.items() if kind in self._jql})

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages of the issues that changed since the cursor; from the beginning where JQL or fields are others.

        Raises RateLimitedError with the time at which to go on, and SourceError.
        """
        kind = _KINDS.get(entity)
        if kind is None or kind != request_key or kind not in self._jql:
            raise SourceError(f"has no {entity} of {request_key}", where=f"source {self._name}")
        if self._zone is None:
            self.discover()
        known = dict(cursor or {})
        asked = [self._jql[kind], *self._ids.values()]
        if known.get("asked") != asked:
            known = {}
        high = _instant(known["high"]) if known else None
        edge: dict[str, str] = dict(known.get("edge", {}))
        since = self._asked_since(high - OVERLAP if high else self._since)
        following: str | None = None
        is_first = not known
        while True:
            progress.report("pull", f"{self._name}: {kind}" + (f" since {since:%Y-%m-%d %H:%M}" if since else ""))
            found = self._client.search(
                self._question(kind, since), [*_STANDARD_FIELDS, *self._ids.values()], PAGE_ITEMS, following
            )
            times = {str(issue.get("id")): str(_fields(issue).get("updated")) for issue in found.issues}
            fresh = [issue for issue in found.issues if edge.get(str(issue.get("id"))) != times[str(issue.get("id"))]]
            moments = [_instant(text) for text in times.values()]
            high = max([*moments, *([high] if high else [])], default=None)
            again = self._asked_since(high - OVERLAP) if high else None
            edge |= times
            edge = {key: text for key, text in edge.items() if again and _instant(text) >= again}
            if fresh or is_first:
                after = {"asked": asked, "high": high.isoformat(), "edge": edge} if high else None
                yield self._page(entity, kind, fresh, after)
            is_first = False
            if found.following is None:
                return
            # Whatever changes while it is read moves behind, and what stood behind it one place forward: reading on
            # from the last time seen loses nothing.
            reached = self._asked_since(moments[-1]) if moments else None
            if reached is not None and (since is None or reached > since):
                since, following = reached, None
            else:
                following = found.following

    def _question(self, kind: str, since: datetime | None) -> str:
        changed = ""
        if since is not None:
            assert self._zone is not None
            changed = f' AND updated >= "{since.astimezone(self._zone):%Y-%m-%d %H:%M}"'
        return f"({self._jql[kind]}){changed} ORDER BY updated ASC, key ASC"

    def _asked_since(self, moment: datetime | None) -> datetime | None:
        """A whole minute at or before a time; an hour earlier where clocks were put back and tell that hour twice."""
        if moment is None:
            return None
        assert self._zone is not None
        minute = moment.astimezone(UTC).replace(second=0, microsecond=0)
        local = minute.astimezone(self._zone)
        is_told_twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        return minute - timedelta(hours=1) if is_told_twice else minute

    def _page(self, entity: str, kind: str, issues: list[dict[str, Any]], cursor: Cursor | None) -> Page:
        whole = [shortened(issue, self._all_changes(issue)) for issue in issues]
        answer = {"site": self._client.base_url, "fields": self._ids, "issues": whole}
        body = self._client.host.kept(msgspec.json.encode(answer).decode())
        return Page(
            entity=entity,
            request_key=kind,
            generation=1,
            records=records_of(kind, body, "", self._rules, self._services)[entity],
            refusals=(),
            cursor=cursor,
            status=200,
            answered=Answered(kind, f"search for {kind}", body),
            observed=True,
        )

    def _all_changes(self, issue: dict[str, Any]) -> list[Any]:
        """The changes that came with an issue, and those that were left out."""
        log = issue.get("changelog")
        histories = log.get("histories") if isinstance(log, dict) else None
        found = list(histories) if isinstance(histories, list) else []
        total = log.get("total") if isinstance(log, dict) else None
        if not isinstance(total, int) or total <= len(found):
            return found
        found, behind = [], 0
        while True:
            page = self._client.changes(str(issue.get("id")), behind)
            found += page.issues
            if page.following is None:
                return found
            behind = int(page.following)


def _fields(issue: dict[str, Any]) -> dict[str, Any]:
    fields = issue.get("fields")
    return fields if isinstance(fields, dict) else {}


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SourceError(f"Jira gave a time that is none: {text[:40]!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
