"""GitHub behind the port: an organisation's repositories, each entity by the cheapest way that loses nothing.

A request is one repository, by its database id, so that a rename changes nothing. Source: ingestion.md sections 2 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from analytics import progress
from analytics.errors import SourceError
from analytics.sources.git import GitProvider
from analytics.sources.github import queries
from analytics.sources.github.attestations import attestation_pages
from analytics.sources.github.client import Answer, BadBodyError, GitHubClient, GraphQLRefusedError, NotFoundError
from analytics.sources.github.deployment_records import deployment_record_pages
from analytics.sources.github.history import ApiHistory
from analytics.sources.github.pages import page_of
from analytics.sources.github.payload_paths import Path
from analytics.sources.github.sweep import Share, Sight, shared_sweep, sweep
from analytics.sources.port import Capabilities, Collected, Cursor, Page, Refusal, TimeWindow, Wanted

PAGE_ITEMS = 100
# A list that is filtered by time shows no more than this.
REACHABLE_PAGES = 10
# A run can be started again for thirty days after it was made.
RERUN_DAYS = 32
# A deployment gets its statuses within days; an older one is read again by id.
LOOKBACK_DAYS = 90
OVERLAP = timedelta(minutes=10)
BEGINNING = "2008-01-01"
_HISTORY = ("commits", "tags", "file_revisions")
_DIRECT = ("pull_requests", "pipeline_runs", "deployments", "incidents", "releases")
# These come with others: reviews with pull requests, jobs by the run, artifacts with releases, attestations and
# (where asked for) deployment records by digest.
_ACCOMPANYING = ("reviews", "pipeline_jobs", "artifacts", "attestations")


class GitHubProvider:
    """One organisation, or listed repositories, on github.com or a GitHub Enterprise Server.

    Commits, tags and file revisions come through git, or through the API: `history_of` makes that one once names and
    addresses are known. All else comes through the API.
    """

    def __init__(
        self,
        name: str,
        client: GitHubClient,
        *,
        organization: str | None,
        repositories: Sequence[str],
        history_of: Callable[[Mapping[str, str]], GitProvider | ApiHistory],
        incident_labels: Sequence[str] = ("incident",),
        since: date | None = None,
        jobs_per_pull: int = 2000,
        workers: int = 1,
        digest_path: Path | None = None,
        deployment_records: bool = False,
        share: Share | None = None,
    ) -> None:
        self._name = name
        self._client = client
        self._organization = organization
        self._repositories = list(repositories)
        self._history_of = history_of
        self._history: GitProvider | ApiHistory | None = None
        self._labels = list(incident_labels)
        self._since = since.isoformat() if since else BEGINNING
        self._jobs_left = jobs_per_pull
        self._workers = workers
        self._digest_path = digest_path
        self._accompanying = (*_ACCOMPANYING, "deployment_records") if deployment_records else _ACCOMPANYING
        self._share = share
        self._sights: dict[str, Sight] = {}

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self._name

    def capabilities(self) -> Capabilities:
        """What GitHub gives; commits (through the API), runs, deployments and jobs are read again by id."""
        return Capabilities(
            frozenset((*_HISTORY, *_DIRECT, *self._accompanying)),
            # What git does not show of commits, nobody has.
            refresh=frozenset({"pipeline_runs", "deployments", "pipeline_jobs", "attestations"})
            | ({"deployment_records"} & {*self._accompanying})
            | ({"commits"} if isinstance(self._history, ApiHistory) else set()),
            workers=self._workers,
        )

    def discover(self) -> Collected:
        """Ask which repositories there are and which of them changed; raises SourceError where that is refused."""
        progress.report("pull", f"{self._name}: looking at repositories")
        look = partial(sweep, self._client, self._organization, self._repositories)
        self._sights = look() if self._share is None else shared_sweep(self._share, look)
        keys = list(self._sights)
        names = {key: sight.name for key, sight in self._sights.items()}
        history = self._history = self._history_of({sight.name: sight.clone_url for sight in self._sights.values()})
        requests = dict.fromkeys((*_DIRECT, *self._accompanying), keys)
        if isinstance(history, ApiHistory):
            watched = [key for key, sight in self._sights.items() if history.watches(sight)]
            requests |= {"commits": keys, "tags": keys, **({"file_revisions": watched} if watched else {})}
        else:
            by_name = {name: key for key, name in names.items()}
            for entity, repositories in history.discover().requests.items():
                requests[entity] = [by_name[repository] for repository in repositories]
        return Collected(requests, names)

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages of one repository's records since the cursor; asks nothing where the sweep saw no change.

        Raises RateLimitedError with the time at which to go on, and SourceError for this repository alone.
        """
        sight = self._sights.get(request_key)
        if sight is None:
            raise SourceError(f"has no repository with the id {request_key}", where=f"source {self._name}")
        if entity in self._accompanying:
            return
        known = dict(cursor or {})
        mark = sight.marks.get(entity)
        if mark is not None and known.get("mark") == mark and "reading" not in known:
            return
        if entity in _HISTORY:
            yield from self._of_history(entity, sight, known)
            return
        walk = {
            "pull_requests": self._pull_requests,
            "pipeline_runs": self._runs,
            "deployments": self._deployments,
            "incidents": self._incidents,
            "releases": self._releases,
        }[entity]
        yield from walk(sight, known, mark)

    def refresh(self, entity: str, wanted: Sequence[Wanted]) -> Iterator[Page]:
        """Pages with single records as they are now; jobs beyond this pull's budget are left for the next."""
        here = [want for want in wanted if want.request_key in self._sights]
        if entity == "commits" and isinstance(self._history, ApiHistory):
            yield from self._history.refresh(here, self._sights)
        elif entity == "deployments":
            yield from self._deployments_by_id(here)
        elif entity == "pipeline_runs":
            for number, want in enumerate(here):
                progress.report("pull", f"{self._name}: attempts of runs", number, len(here))
                yield from self._run_by_id(want)
        elif entity == "attestations":
            yield from attestation_pages(self._client, here, self._sights)
        elif entity == "deployment_records":
            yield from deployment_record_pages(self._client, here, self._sights)
        elif entity == "pipeline_jobs":
            for number, want in enumerate(here):
                if self._jobs_left <= 0:
                    return
                progress.report("pull", f"{self._name}: jobs of runs", number, len(here))
                yield from self._jobs_of(want)

    # --- commits, tags, watched files --------------------------------------------------------------------------------

    def _of_history(self, entity: str, sight: Sight, known: dict[str, Any]) -> Iterator[Page]:
        assert self._history is not None
        mark = sight.marks.get("commits")
        if mark is not None and known.get("mark") == mark:
            return
        if isinstance(self._history, ApiHistory):
            yield from self._history.changes(entity, sight, known, mark)
            return
        inner = {key: value for key, value in known.items() if key != "mark"}
        held: Page | None = None
        for page in self._history.changes(entity, sight.name, inner or None):
            if held is not None:
                yield held
            held = replace(page, request_key=sight.database_id)
        if held is None:
            # Nothing new in git: the mark alone is moved on, so that the next sync need not look.
            generation = int(inner.get("generation", 0))
            held = Page(entity, sight.database_id, generation, (), (), inner)
        yield replace(held, cursor={**(held.cursor or {}), "mark": mark})

    # --- lists -------------------------------------------------------------------------------------------------------

    def _pull_requests(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        # Ordered by their last update: what is updated while the list is read moves to the front, behind the mark.
        stop = _earlier(known["high"], OVERLAP) if known.get("high") else None
        reading = known.get("reading") or {"after": None, "high": None}
        while True:
            answer, body = self._nodes(queries.PULL_REQUESTS, {"id": sight.node_id, "after": reading["after"]})
            connection = body["node"]["pullRequests"]
            nodes = [node for node in connection["nodes"] if node]
            for node in nodes:
                self._complete_pull_request(node)
            reading["high"] = reading["high"] or (nodes[0]["updatedAt"] if nodes else known.get("high"))
            more = connection["pageInfo"]["hasNextPage"] and not (stop and nodes and nodes[-1]["updatedAt"] < stop)
            reading["after"] = connection["pageInfo"]["endCursor"]
            cursor = {**known, "reading": dict(reading)} if more else {"high": reading["high"], "mark": mark}
            yield page_of(
                "pull_requests", sight, "pull_requests", answer, cursor,
                body=_encoded(body), total_count=connection["totalCount"],
            )  # fmt: skip
            if not more:
                return

    def _complete_pull_request(self, node: dict[str, Any]) -> None:
        """Read on where a pull request has more commits or reviews than one answer holds."""
        for field, document in (("commits", queries.PR_COMMITS), ("reviews", queries.PR_REVIEWS)):
            connection = node.get(field) or {}
            info = connection.get("pageInfo") or {}
            while info.get("hasNextPage"):
                _, body = self._nodes(document, {"id": node["id"], "after": info["endCursor"]})
                more = body["node"][field]
                connection["nodes"] += more["nodes"]
                info = more["pageInfo"]
            if connection:
                connection["pageInfo"] = {**info, "hasNextPage": False}

    def _deployments(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        stop = _earlier(known["high"], timedelta(days=LOOKBACK_DAYS)) if known.get("high") else None
        reading = known.get("reading") or {"after": None, "high": None}
        while True:
            answer, body = self._nodes(queries.DEPLOYMENTS, {"id": sight.node_id, "after": reading["after"]})
            connection = body["node"]["deployments"]
            nodes = [node for node in connection["nodes"] if node]
            reading["high"] = reading["high"] or (nodes[0]["createdAt"] if nodes else known.get("high"))
            more = connection["pageInfo"]["hasNextPage"] and not (stop and nodes and nodes[-1]["createdAt"] < stop)
            reading["after"] = connection["pageInfo"]["endCursor"]
            cursor = {**known, "reading": dict(reading)} if more else {"high": reading["high"], "mark": mark}
            yield page_of(
                "deployments", sight, "deployments", answer, cursor,
                body=_encoded(body), total_count=connection["totalCount"], digest_path=self._digest_path,
            )  # fmt: skip
            if not more:
                return

    def _deployments_by_id(self, wanted: Sequence[Wanted]) -> Iterator[Page]:
        for start in range(0, len(wanted), PAGE_ITEMS):
            part = wanted[start : start + PAGE_ITEMS]
            try:
                answer, body = self._nodes(queries.DEPLOYMENTS_BY_ID, {"ids": [want.native_id for want in part]})
            except GraphQLRefusedError as error:
                # A deployment that was deleted is an error beside those that are there.
                if not any(error.data.get("nodes") or ()):
                    continue
                answer, body = Answer(200, "", "/graphql"), error.data
            by_repository: dict[str, list[Any]] = {}
            for node in body["nodes"]:
                if node:
                    by_repository.setdefault(str(node["repository"]["databaseId"]), []).append(node)
            for key, nodes in by_repository.items():
                if key in self._sights:
                    yield page_of(
                        "deployments", self._sights[key], "deployments_by_id", answer, None,
                        body=_encoded({"nodes": nodes}), digest_path=self._digest_path,
                    )  # fmt: skip

    def _runs(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        """Newest first, each page asked whether it changed; at the end of what a list shows, below the oldest seen.

        The window that is looked at again and again starts before anything that can still change, and moves on once
        a month: a list that is asked for under another address cannot say that it is as it was. What lies before it
        is read once.
        """
        start = self._start_of_window(sight, known)
        has_older = "looked" not in known and self._since < start and sight.created_at.date().isoformat() < start
        reading = known.get("reading") or {
            "start": start, "until": None, "page": 1, "window": start, "looked": sight.seen_at.isoformat(),
            "older": self._since if has_older else None,
        }  # fmt: skip
        # Of each page of the window: its ETag, whether it was full and its oldest run.
        seen: dict[str, list[Any]] = dict(known.get("seen", {}))
        unsaved = "reading" in known
        while True:
            number, start, until = reading["page"], reading["start"], reading["until"]
            window = f"{start}..{until}" if until else f">={start}"
            place = f"{window} {number}"
            etag, full, oldest = seen.get(place, (None, False, None))
            answer = self._client.get(
                f"/repositories/{sight.database_id}/actions/runs",
                {"created": window, "per_page": PAGE_ITEMS, "page": number},
                etag,
            )
            total: int | None = None
            refusals: list[Refusal] = []
            if answer.status != 304:
                runs, total = _run_list(answer)
                times = sorted(str(run["created_at"]) for run in runs if isinstance(run, dict) and "created_at" in run)
                full, oldest = len(runs) == PAGE_ITEMS, times[0] if times else None
                seen[place] = [answer.etag, full, oldest]
            more = full
            if full and number < REACHABLE_PAGES:
                reading["page"] = number + 1
            elif full and oldest and oldest != until:
                reading.update(until=oldest, page=1)
            elif full:
                refusals.append(Refusal(0, "window_capped", f"more runs were made at {oldest} than a list shows"))
                more = False
            if not more and reading["older"] is not None:
                end = f"{reading['window']}T00:00:00Z"
                reading.update(start=reading["older"], until=end, page=1, older=None)
                more = True
            cursor: dict[str, Any] = (
                {**known, "seen": seen, "reading": dict(reading)}
                if more
                else {
                    "looked": reading["looked"],
                    "start": reading["window"],
                    "seen": _of_window(seen, reading["window"]),
                }
            )
            if answer.status != 304:
                bounds = TimeWindow(_moment(start), _moment(until))
                yield page_of(
                    "pipeline_runs", sight, "runs", answer, cursor, total_count=total, window=bounds, refusals=refusals
                )
                unsaved = more
            elif not more and unsaved:
                yield Page("pipeline_runs", sight.database_id, 1, (), (), cursor, 304)
            if not more:
                return

    def _start_of_window(self, sight: Sight, known: Mapping[str, Any]) -> str:
        # What could be started again when we looked last; or now, where we never did.
        looked = datetime.fromisoformat(known["looked"]) if "looked" in known else sight.seen_at
        span = timedelta(days=RERUN_DAYS)
        latest = looked - span
        day = known.get("start")
        if day is None or not (latest - span).date().isoformat() <= day <= latest.date().isoformat():
            day = latest.date().isoformat()
        return max(str(day), self._since)

    def _run_by_id(self, want: Wanted) -> Iterator[Page]:
        sight = self._sights[want.request_key]
        path = f"/repositories/{sight.database_id}/actions/runs/{want.native_id}"
        try:
            answer = self._client.get(f"{path}/attempts/{want.attempt}" if want.attempt else path)
        except NotFoundError:
            # Deleted, or past its retention: what was landed of it stays.
            return
        yield page_of("pipeline_runs", sight, "run", answer, None)

    def _jobs_of(self, want: Wanted) -> Iterator[Page]:
        sight = self._sights[want.request_key]
        path: str | None = f"/repositories/{sight.database_id}/actions/runs/{want.native_id}/jobs"
        parameters: dict[str, str | int] | None = {"filter": "all", "per_page": PAGE_ITEMS}
        while path:
            self._jobs_left -= 1
            try:
                answer = self._client.get(path, parameters)
            except NotFoundError:
                answer = None
            page = page_of("pipeline_jobs", sight, "jobs", answer, {} if not answer or not answer.next_url else None)
            yield replace(
                page,
                request_key=f"{want.request_key}/runs/{want.native_id}",
                generation=want.attempt or 1,
            )
            path, parameters = (answer.next_url if answer else None), None

    def _incidents(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        # The list moves while it is read by page; reading on from the last time seen loses nothing.
        sinces = dict(known.get("since", {}))
        for number, label in enumerate(self._labels):
            first = sinces.get(label)
            since = _earlier(first, OVERLAP) if first else f"{self._since}T00:00:00Z"
            page_number = 1
            while True:
                parameters: dict[str, str | int] = {
                    "labels": label, "state": "all", "sort": "updated", "direction": "asc", "since": since,
                    "per_page": PAGE_ITEMS, "page": page_number,
                }  # fmt: skip
                answer = self._client.get(f"/repositories/{sight.database_id}/issues", parameters)
                items = _decoded(answer)
                if not isinstance(items, list):
                    raise BadBodyError("not_json", answer.body[:2048])
                times = [str(item["updated_at"]) for item in items if isinstance(item, dict) and item.get("updated_at")]
                more = len(items) == PAGE_ITEMS
                if times:
                    sinces[label] = max(sinces.get(label) or times[-1], times[-1])
                done = not more and number == len(self._labels) - 1
                cursor = {"since": dict(sinces), "mark": mark if done else None}
                yield page_of("incidents", sight, "issues", answer, cursor)
                if not more:
                    break
                if times and times[-1] > since:
                    since, page_number = times[-1], 1
                else:
                    page_number += 1

    def _releases(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        etags = dict(known.get("etags", {}))
        number = 1
        while True:
            parameters: dict[str, str | int] = {"per_page": PAGE_ITEMS, "page": number}
            answer = self._client.get(f"/repositories/{sight.database_id}/releases", parameters, etags.get(str(number)))
            more = answer.next_url is not None if answer.status == 200 else str(number + 1) in etags
            if answer.status == 200:
                if answer.etag:
                    etags[str(number)] = answer.etag
                yield page_of(
                    "releases", sight, "releases", answer, {"etags": dict(etags), "mark": None if more else mark}
                )
            elif not more:
                generation = 1
                yield Page("releases", sight.database_id, generation, (), (), {"etags": etags, "mark": mark}, 304)
            if not more:
                return
            number += 1

    # --- answers -----------------------------------------------------------------------------------------------------

    def _nodes(self, document: str, variables: dict[str, Any]) -> tuple[Answer, dict[str, Any]]:
        """An answer and its data; a part beside errors is no answer, and is asked for again by the next sync."""
        answer = self._client.query(document, variables)
        if answer.data.get("node", True) is None:
            raise SourceError("the repository is gone, or must not be read any more", where=str(variables.get("id")))
        return answer, answer.data


def _decoded(answer: Answer) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except msgspec.DecodeError as error:
        raise BadBodyError("json_truncated", answer.body[:2048]) from error


def _run_list(answer: Answer) -> tuple[list[Any], int | None]:
    body = _decoded(answer)
    runs = body.get("workflow_runs") if isinstance(body, dict) else None
    if not isinstance(runs, list):
        raise BadBodyError("not_json", answer.body[:2048])
    total = body.get("total_count")
    return runs, total if isinstance(total, int) else None


def _encoded(data: Any) -> str:
    return msgspec.json.encode({"data": data}).decode()


def _moment(day_or_time: str | None) -> datetime | None:
    if day_or_time is None:
        return None
    moment = datetime.fromisoformat(day_or_time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _earlier(moment: str, by: timedelta) -> str:
    return (datetime.fromisoformat(moment) - by).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _of_window(seen: Mapping[str, list[Any]], start: str) -> dict[str, list[Any]]:
    """Pages of the window that the next sync asks for; the others are never asked again."""
    return {place: page for place, page in seen.items() if place.startswith((f">={start} ", f"{start}.."))}
