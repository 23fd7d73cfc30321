"""GitLab behind the port: a group's projects, each entity by lists that are read on from the last time seen.

A request is one project, by its id, so that a rename changes nothing. Commits, tags and watched files come through git.
Source: ingestion.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from analytics import progress
from analytics.errors import SourceError
from analytics.secrets import scrub
from analytics.sources.answers import NotThereError
from analytics.sources.git import GitProvider
from analytics.sources.gitlab.client import GitLabClient
from analytics.sources.gitlab.translate import records_of
from analytics.sources.port import Answered, Capabilities, Collected, Cursor, Page

PAGE_ITEMS = 100
# Where each item costs further requests, a page is landed sooner.
DETAILED_ITEMS = 20
# What was changed just before the last look may show up only after it.
OVERLAP = timedelta(minutes=10)
# More of one item's commits, notes or jobs are not read.
DETAIL_PAGES = 50
BEGINNING = "2008-01-01T00:00:00Z"
_HISTORY = ("commits", "tags", "file_revisions")
_ACCOMPANYING = ("reviews", "pipeline_jobs")


@dataclass(frozen=True)
class _List:
    """How an entity is listed: the end of its path, its kind, the project's switch for it, what it is asked with."""

    path: str
    kind: str
    switch: str
    parameters: Mapping[str, str | int | bool]
    page_items: int = PAGE_ITEMS
    details: Mapping[str, str] | None = None


_LISTS: dict[str, _List] = {
    "pull_requests": _List(
        "merge_requests",
        "merge_requests",
        "merge_requests_access_level",
        {"state": "all", "scope": "all"},
        DETAILED_ITEMS,
        {"commits": "merge_requests/{iid}/commits", "notes": "merge_requests/{iid}/notes"},
    ),
    "pipeline_runs": _List(
        "pipelines",
        "pipelines",
        "builds_access_level",
        {},
        DETAILED_ITEMS,
        {"pipeline": "pipelines/{id}", "jobs": "pipelines/{id}/jobs"},
    ),
    "deployments": _List("deployments", "deployments", "environments_access_level", {}),
    "incidents": _List("issues", "issues", "issues_access_level", {"scope": "all", "state": "all"}),
}


@dataclass(frozen=True)
class _Project:
    id: str
    name: str
    clone_url: str
    off: frozenset[str]


class GitLabProvider:
    """One group with its subgroups, or listed projects, on gitlab.com or an instance of one's own."""

    def __init__(
        self,
        name: str,
        client: GitLabClient,
        *,
        group: str | None,
        projects: Sequence[str],
        history_of: Callable[[Mapping[str, str]], GitProvider],
        incident_labels: Sequence[str] = (),
        since: date | None = None,
        workers: int = 1,
    ) -> None:
        self._name = name
        self._client = client
        self._group = group
        self._listed = list(projects)
        self._history_of = history_of
        self._history: GitProvider | None = None
        self._incident_labels = list(incident_labels)
        self._since = f"{since.isoformat()}T00:00:00Z" if since else BEGINNING
        self._has_beginning = since is not None
        self._workers = workers
        self._projects: dict[str, _Project] = {}

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self._name

    def capabilities(self) -> Capabilities:
        """What GitLab gives; whatever changes moves up in its list, so that nothing is read again by id."""
        return Capabilities(frozenset((*_HISTORY, *_LISTS, *_ACCOMPANYING)), workers=self._workers)

    def discover(self) -> Collected:
        """Ask which projects there are; raises SourceError where the group or a listed project cannot be read."""
        progress.report("pull", f"{self._name}: looking at projects")
        found = [_project(raw) for raw in self._raw_projects()]
        self._projects = {project.id: project for project in found if project is not None}
        by_name = {project.name: key for key, project in self._projects.items()}
        requests: dict[str, Sequence[str]] = {
            entity: [key for key, project in self._projects.items() if listed.switch not in project.off]
            for entity, listed in _LISTS.items()
        }
        requests |= {"reviews": requests["pull_requests"], "pipeline_jobs": requests["pipeline_runs"]}
        history = self._history = self._history_of({one.name: one.clone_url for one in self._projects.values()})
        for entity, names in history.discover().requests.items():
            requests[entity] = [by_name[name] for name in names]
        return Collected(requests, {key: project.name for key, project in self._projects.items()})

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages of one project's records since the cursor.

        Raises RateLimitedError with the time at which to go on, and SourceError for this project alone.
        """
        project = self._projects.get(request_key)
        if project is None:
            raise SourceError(f"has no project with the id {request_key}", where=f"source {self._name}")
        if entity in _ACCOMPANYING:
            return
        if entity in _HISTORY:
            assert self._history is not None
            for page in self._history.changes(entity, project.name, cursor):
                yield replace(page, request_key=project.id)
            return
        yield from self._walk(entity, project, dict(cursor or {}))

    # --- projects ----------------------------------------------------------------------------------------------------

    def _raw_projects(self) -> Iterator[Any]:
        for name in self._listed:
            yield self._client.get(f"/projects/{quote(name, safe='')}").data
        if self._listed:
            return
        assert self._group is not None
        number = 1
        while True:
            found = self._items(
                f"/groups/{quote(self._group, safe='')}/projects",
                {"include_subgroups": True, "with_shared": False, "order_by": "id", "sort": "asc", "page": number},
            )
            yield from found
            if len(found) < PAGE_ITEMS:
                return
            number += 1

    # --- lists -------------------------------------------------------------------------------------------------------

    def _walk(self, entity: str, project: _Project, known: dict[str, Any]) -> Iterator[Page]:
        """Oldest change first: what changes while it is read moves behind, where it is read again.

        The list moves while it is read by page; reading on from the last time seen loses nothing.
        """
        listed = _LISTS[entity]
        place = f"/projects/{project.id}/{listed.path}"
        is_first = not known
        # What was seen at the end of a list, by id, so that its details are asked for once.
        highs, edges = dict(known.get("high", {})), dict(known.get("edge", {}))
        for asked in self._ways(entity):
            way = asked.get("labels", "") and f"label {asked['labels']}"
            high, edge = highs.get(way), dict(edges.get(way, {}))
            since, number = _earlier(high) if high else self._since, 1
            while True:
                parameters: dict[str, str | int | bool] = {
                    **listed.parameters, **asked, "order_by": "updated_at", "sort": "asc", "updated_after": since,
                    "per_page": listed.page_items, "page": number,
                }  # fmt: skip
                answer = self._client.get(place, parameters)
                items = self._list_of(answer.data, place)
                times = [str(item["updated_at"]) for item in items if item.get("updated_at")]
                fresh = [item for item in items if edge.get(str(item.get("id"))) != item.get("updated_at")]
                high = max([high, *times] if high else times, default=None, key=_instant)
                edge |= {str(item.get("id")): item["updated_at"] for item in fresh if item.get("updated_at")}
                edge = {key: at for key, at in edge.items() if high and _instant(at) >= _instant(_earlier(high))}
                if high is not None:
                    highs[way], edges[way] = high, edge
                # GitLab counts a list's items; the count speaks of all there are where nothing was left out.
                total = answer.total if is_first and number == 1 and not self._has_beginning and not asked else None
                if fresh or is_first:
                    yield self._page(
                        entity, project, listed, fresh, {"high": dict(highs), "edge": dict(edges)}, place, total
                    )
                is_first = False
                if len(items) < listed.page_items:
                    break
                if times and _instant(times[-1]) > _instant(since):
                    since, number = times[-1], 1
                else:
                    number += 1

    def _ways(self, entity: str) -> list[dict[str, str | int | bool]]:
        if entity != "incidents":
            return [{}]
        labelled: list[dict[str, str | int | bool]] = [{"labels": label} for label in self._incident_labels]
        return [{"issue_type": "incident"}, *labelled]

    def _page(
        self,
        entity: str,
        project: _Project,
        listed: _List,
        items: Sequence[dict[str, Any]],
        cursor: Cursor,
        place: str,
        total: int | None,
    ) -> Page:
        found: list[Any] = list(items)
        if listed.details is not None:
            found = []
            for number, item in enumerate(items):
                progress.report("pull", f"{self._name}: {project.name}: {listed.kind}", number, len(items))
                found.append(self._detailed(project, listed, item))
        body = scrub(msgspec.json.encode([item for item in found if item is not None]).decode())
        records = records_of(listed.kind, body, project.name)
        return Page(
            entity=entity,
            request_key=project.id,
            generation=1,
            records=records.pop(entity, []),
            refusals=(),
            cursor=cursor,
            status=200,
            total_count=total,
            others=records,
            answered=Answered(listed.kind, place, body),
            observed=True,
        )

    def _detailed(self, project: _Project, listed: _List, item: dict[str, Any]) -> dict[str, Any] | None:
        """An item with what its list lacks; None where it was deleted since it was listed."""
        assert listed.details is not None
        whole: dict[str, Any] = {"merge_request": item} if listed.kind == "merge_requests" else {}
        for name, path in listed.details.items():
            place = f"/projects/{project.id}/{path.format(id=item.get('id'), iid=item.get('iid'))}"
            try:
                whole[name] = self._client.get(place).data if name == "pipeline" else self._all(place, name)
            except NotThereError:
                if name == "pipeline":
                    return None
                whole[name] = []
        return whole

    def _all(self, place: str, name: str) -> list[Any]:
        more: dict[str, str | int | bool] = {"include_retried": True} if name == "jobs" else {}
        found: list[Any] = []
        for number in range(1, DETAIL_PAGES + 1):
            items = self._items(place, {**more, "page": number})
            found += items
            if len(items) < PAGE_ITEMS:
                break
        return found

    def _items(self, place: str, parameters: Mapping[str, str | int | bool]) -> list[Any]:
        return self._list_of(self._client.get(place, {"per_page": PAGE_ITEMS, **parameters}).data, place)

    def _list_of(self, data: Any, place: str) -> list[Any]:
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise SourceError("the answer is no list of records", where=place)
        return data


def _project(raw: Any) -> _Project | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), int) or not raw.get("path_with_namespace"):
        raise SourceError("GitLab showed a project without id or path", fix="Check `base_url`.")
    off = frozenset(listed.switch for listed in _LISTS.values() if raw.get(listed.switch) == "disabled")
    return _Project(str(raw["id"]), str(raw["path_with_namespace"]), str(raw.get("http_url_to_repo") or ""), off)


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SourceError(f"GitLab gave a time that is none: {text[:40]!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _earlier(moment: str) -> str:
    return (_instant(moment) - OVERLAP).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
