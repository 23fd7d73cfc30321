"""Commits, tags and file revisions through the API: the second way to the tables that git fills.

It is for hosts that git cannot reach. Patch ids are git's alone, and a commit's changed files cost a request each, so
only repositories of which services own paths get them. Ancestry comes from the landed parents: what a list does not
show is asked for by its id (`refresh`). Source: ingestion.md section 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from analytics import progress
from analytics.errors import SourceError
from analytics.sources.github import queries
from analytics.sources.github.client import Answer, BadBodyError, GitHubClient, NotFoundError
from analytics.sources.github.pages import page_of
from analytics.sources.github.sweep import Sight
from analytics.sources.port import Page, Wanted

PAGE_ITEMS = 100
# GitHub shows no more files of a commit; where there may be more, none is known.
MOST_FILES = 3000


class ApiHistory:
    """What git would tell of an organisation's repositories, asked for through the API.

    `watched_paths` maps a repository's name to the paths whose newest change is wanted, `path_filtered` names those
    whose commits need their changed files.
    """

    def __init__(
        self, client: GitHubClient, watched_paths: Mapping[str, Sequence[str]], path_filtered: Collection[str]
    ) -> None:
        self._client = client
        self._watched = {name.casefold(): list(paths) for name, paths in watched_paths.items()}
        self._path_filtered = {name.casefold() for name in path_filtered}
        self._refs: dict[str, dict[str, list[dict[str, Any]]]] = {}
        # By repository, the commits that this pull has read.
        self._seen: dict[str, set[str]] = {}

    def watches(self, sight: Sight) -> bool:
        """Whether any path's newest change is wanted of a repository."""
        return bool(self._watched.get(sight.name.casefold()))

    def changes(self, entity: str, sight: Sight, known: Mapping[str, Any], mark: str | None) -> Iterator[Page]:
        """Pages of what is new since the cursor; raises what the client raises."""
        read = {"commits": self._commits, "tags": self._tags, "file_revisions": self._file_revisions}[entity]
        yield from read(sight, dict(known), mark)

    def refresh(self, wanted: Sequence[Wanted], sights: Mapping[str, Sight]) -> Iterator[Page]:
        """Pages of commits that others name (as parents, or of pull requests) and no list showed, with ancestors."""
        for number, want in enumerate(wanted):
            sight = sights[want.request_key]
            if want.native_id in self._seen.get(sight.database_id, ()):
                continue
            progress.report("pull", f"{sight.name}: further commits", number, len(wanted))
            try:
                page, _ = self._listed(sight, want.native_id, 1, set())
            except (NotFoundError, SourceError) as error:
                if not isinstance(error, NotFoundError) and "status 422" not in error.what:
                    raise
                # Thrown away by GitHub's clean-up: it is not asked for again.
                page = page_of("commits", sight, "commits", None, None)
            yield _as(page, f"{sight.database_id}/commits/{want.native_id}")

    # --- commits -----------------------------------------------------------------------------------------------------

    def _commits(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        refs = self._refs_of(sight)
        tips = {_commit_of(ref["target"]) for refs_of in refs.values() for ref in refs_of} - {None}
        read = set(known.get("tips", ()))
        # Lists by id never move: reading goes on behind the page that was landed last.
        reading = known.get("reading") or {"todo": [], "page": 1, "whole": None if read else sight.head}
        todo, number, whole = list(reading["todo"]), int(reading["page"]), reading["whole"]
        todo += _first(sight.head, tips - read - set(todo))
        while todo:
            page, more = self._listed(sight, todo[0], number, read)
            if more and todo[0] == whole:
                number += 1
            else:
                # Whatever else this tip stands on is known, or found missing by its children.
                read.add(todo.pop(0))
                number = 1
                todo = [tip for tip in todo if tip not in self._seen[sight.database_id]]
            if todo:
                following = {"todo": todo, "page": number, "whole": whole}
                yield _as(page, sight.database_id, {"tips": sorted(read), "reading": following})
            else:
                yield _as(page, sight.database_id, {"tips": sorted(tips), "mark": mark})
                return
        yield Page("commits", sight.database_id, 1, (), (), {"tips": sorted(tips), "mark": mark})

    def _listed(self, sight: Sight, sha: str, number: int, read: Collection[str]) -> tuple[Page, bool]:
        parameters: dict[str, str | int] = {"sha": sha, "per_page": PAGE_ITEMS, "page": number}
        answer = self._client.get(f"/repositories/{sight.database_id}/commits", parameters)
        items = _decoded(answer)
        if not isinstance(items, list):
            raise BadBodyError("not_json", answer.body[:2048])
        seen = self._seen.setdefault(sight.database_id, set())
        body = None
        if sight.name.casefold() in self._path_filtered:
            # What was read before has its files already.
            known = seen | _ancestors(items, read)
            items = [self._with_files(sight, item) for item in items if _sha(item) not in known]
            body = msgspec.json.encode(items).decode()
        seen.update(str(_sha(item)) for item in items)
        return page_of("commits", sight, "commits", answer, None, body=body), answer.next_url is not None

    def _with_files(self, sight: Sight, item: Any) -> Any:
        """A listed commit with its changed files; a merge changes nothing of its own."""
        sha = _sha(item)
        if sha is None or len(item.get("parents") or ()) > 1:
            return item
        files: list[Any] = []
        following: str | None = f"/repositories/{sight.database_id}/commits/{sha}"
        parameters: dict[str, str | int] | None = {"per_page": PAGE_ITEMS}
        while following:
            answer = self._client.get(following, parameters)
            found = _decoded(answer)
            part = found.get("files") if isinstance(found, dict) else None
            files += [
                {name: file.get(name) for name in ("filename", "previous_filename", "status")}
                for file in part or ()
                if isinstance(file, dict)
            ]
            following, parameters = answer.next_url, None
        return {**item, "files": files} if len(files) < MOST_FILES else item

    # --- tags and watched files --------------------------------------------------------------------------------------

    def _refs_of(self, sight: Sight) -> dict[str, list[dict[str, Any]]]:
        """Branches and tags with what they point to, asked for once a pull."""
        if sight.database_id in self._refs:
            return self._refs[sight.database_id]
        found: dict[str, list[dict[str, Any]]] = {}
        for prefix in ("refs/heads/", "refs/tags/"):
            nodes: list[dict[str, Any]] = []
            after = None
            while True:
                answer = self._client.query(queries.REFS, {"id": sight.node_id, "prefix": prefix, "after": after})
                connection = (answer.data.get("node") or {}).get("refs") or {"nodes": [], "pageInfo": {}}
                nodes += [node for node in connection["nodes"] if node and node.get("target")]
                after = connection["pageInfo"].get("endCursor")
                if not connection["pageInfo"].get("hasNextPage"):
                    break
            found[prefix] = nodes
        self._refs[sight.database_id] = found
        return found

    def _tags(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        body = msgspec.json.encode(self._refs_of(sight)["refs/tags/"]).decode()
        yield page_of("tags", sight, "tags", Answer(200, body, "/graphql"), {"mark": mark})

    def _file_revisions(self, sight: Sight, known: dict[str, Any], mark: str | None) -> Iterator[Page]:
        found = []
        home = f"/repositories/{sight.database_id}"
        for watched in dict.fromkeys(self._watched.get(sight.name.casefold(), ())):
            if sight.head is None or {"", ".", ".."} & set(watched.split("/")):
                continue
            try:
                # A file that was deleted has a last change too, but is no runbook any more.
                self._client.get(f"{home}/contents/{quote(watched)}", {"ref": sight.head})
            except NotFoundError:
                continue
            answer = self._client.get(f"{home}/commits", {"sha": sight.head, "path": watched, "per_page": 100})
            commits = _decoded(answer)
            if isinstance(commits, list) and commits:
                # Of the earlier ones their times are enough; a page of whole commits would be half a megabyte.
                earlier = [{"sha": one["sha"], "committed_at": _committed_at(one)} for one in commits[1:]]
                found.append({"path": watched, "commit": commits[0], "earlier": earlier})
        body = msgspec.json.encode(found).decode()
        yield page_of("file_revisions", sight, "file_revisions", Answer(200, body, f"{home}/commits"), {"mark": mark})


def _committed_at(commit: Any) -> str | None:
    at = commit.get("commit", {}).get("committer", {}).get("date")
    return str(at) if at else None


def _as(page: Page, request_key: str, cursor: dict[str, Any] | None = None) -> Page:
    """The same page of another request, with another cursor."""
    return replace(page, request_key=request_key, cursor=cursor)


def _first(head: str | None, tips: set[Any]) -> list[str]:
    return ([head] if head in tips and head is not None else []) + sorted(tips - {head})


def _commit_of(target: Any) -> str | None:
    """The commit that a ref points to, through tags of tags."""
    while isinstance(target, dict) and target.get("__typename") == "Tag":
        target = target.get("target")
    return target.get("oid") if isinstance(target, dict) and target.get("__typename") == "Commit" else None


def _sha(item: Any) -> str | None:
    sha = item.get("sha") if isinstance(item, dict) else None
    return sha if isinstance(sha, str) else None


def _ancestors(items: list[Any], tips: Collection[str]) -> set[str]:
    """Those of the listed commits to which these tips lead, themselves included."""
    parents = {str(_sha(item)): [_sha(parent) for parent in item.get("parents") or ()] for item in items if _sha(item)}
    waiting = [tip for tip in tips if tip in parents]
    found: set[str] = set()
    while waiting:
        sha = waiting.pop()
        if sha not in found:
            found.add(sha)
            waiting += [parent for parent in parents[sha] if parent in parents]
    return found


def _decoded(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)
