"""Commits, tags and runbook changes from git repositories: clones of the user's, or URLs.

A request is one repository of one entity. Its records are those of the files feed (contract.md section 4), so the
same judge and the same tables serve. Source: ingestion.md sections 2 and 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from analytics import progress
from analytics.errors import SourceError
from analytics.sources.git_clones import Clone, Snapshot, clone_of
from analytics.sources.git_objects import (
    Reachable,
    UnreadableObjectError,
    changed_files,
    commit_fields,
    existing_objects,
    patch_ids,
    read_objects,
    tagged_at,
)
from analytics.sources.git_program import Git, require_git
from analytics.sources.port import Capabilities, Collected, Cursor, Page, RawRecord, Refusal

_ENTITIES = ("commits", "tags", "file_revisions")
PAGE_RECORDS = 1000
EXCERPT_BYTES = 2048
# Changes of a runbook that are told; as many as GitHub gives on one page.
FILE_CHANGES = 100
# Of the commits that one sync finds, the newest so many get a patch id: 0.15 to 1 ms each, so at most about a minute.
PATCH_ID_COMMITS = 50_000


@dataclass
class _Sight:
    """What one repository looked like when this sync first asked, so that each remote is asked once."""

    clone: Clone | None = None
    snapshot: Snapshot | None = None
    opened: tuple[Git, Snapshot] | None = None
    error: SourceError | None = None


@dataclass
class _Place:
    """Where the next record of a request stands, and what goes into the cursor behind it."""

    generation: int
    line: int
    records: list[RawRecord] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        self.line += 1
        self.records.append(RawRecord(self.line, msgspec.json.encode(record)))

    def refuse(self, reason: str, detail: str, excerpt: bytes = b"") -> None:
        self.line += 1
        digest = hashlib.sha256(excerpt).hexdigest() if excerpt else None
        self.refusals.append(Refusal(self.line, reason, detail, excerpt[:EXCERPT_BYTES], digest))

    def complain(self, reason: str, detail: str) -> None:
        """Refuse something about the request as a whole (line 0): it stands until a later page does not say it."""
        self.refusals.append(Refusal(0, reason, detail))

    def page(self, entity: str, repository: str, cursor: Mapping[str, Any]) -> Page:
        records, self.records = self.records, []
        refusals, self.refusals = self.refusals, []
        full = {**cursor, "generation": self.generation, "line": self.line}
        return Page(entity, repository, self.generation, records, refusals, full)


class GitProvider:
    """Commits (those of pull and merge request heads too), tags and the newest change of watched files.

    `repositories` maps a repository's name to a clone's path or a URL; `watched_paths` maps it to the paths whose
    newest change is wanted, `path_filtered` names those whose commits need their changed files. URLs are kept as
    partial clones in `clones_dir`. Each remote is asked once between two calls of `discover`.
    """

    def __init__(
        self,
        name: str,
        repositories: Mapping[str, str],
        clones_dir: Path,
        watched_paths: Mapping[str, Sequence[str]],
        path_filtered: Collection[str],
    ) -> None:
        self._name = name
        self._repositories = dict(repositories)
        self._clones_dir = clones_dir
        # A host's names ignore letter case, so the catalog may write them in another one than the settings.
        self._watched = {repository.casefold(): list(paths) for repository, paths in watched_paths.items()}
        self._path_filtered = {repository.casefold() for repository in path_filtered}
        self._sights: dict[str, _Sight] = {}

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Commits, tags and file revisions; nothing is read again by id."""
        return Capabilities(frozenset(_ENTITIES))

    def discover(self) -> Collected:
        """One request per repository and entity; asks no remote. Raises SourceError without a usable git."""
        require_git()
        self._sights.clear()
        repositories = list(self._repositories)
        watched = [repository for repository in repositories if self._watched.get(repository.casefold())]
        requests = {"commits": repositories, "tags": repositories}
        return Collected({**requests, "file_revisions": watched} if watched else requests)

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages of one repository's records that are new since the cursor; nothing when no ref has moved.

        Raises SourceError for this repository alone: missing, corrupted, refused, unreachable or too slow.
        """
        if request_key not in self._repositories or entity not in _ENTITIES:
            raise SourceError(f"has no {entity} of '{request_key}'", where=f"source {self._name}")
        read = {"commits": self._commits, "tags": self._tags, "file_revisions": self._file_revisions}[entity]
        yield from read(request_key, cursor or {})

    def _look(self, repository: str) -> Snapshot:
        """The repository's refs, asked once; a repository that could not be asked fails at once the next time."""
        sight = self._sights.setdefault(repository, _Sight())
        if sight.error is not None:
            raise sight.error
        try:
            if sight.clone is None:
                key = repository.casefold()
                needs_trees = key in self._path_filtered or bool(self._watched.get(key))
                location = self._repositories[repository]
                sight.clone = clone_of(repository, location, self._clones_dir, needs_trees=needs_trees)
            if sight.snapshot is None:
                progress.report("pull", f"{self._name}: looking at {repository}")
                sight.snapshot = sight.clone.look()
        except SourceError as error:
            sight.error = error
            raise
        return sight.snapshot

    def _open(self, repository: str) -> tuple[Git, Snapshot]:
        seen = self._look(repository)
        sight = self._sights[repository]
        assert sight.clone is not None
        if sight.opened is None:
            try:
                sight.opened = sight.clone.open(seen)
            except SourceError as error:
                sight.error = error
                raise
        return sight.opened

    def _commits(self, repository: str, cursor: Cursor) -> Iterator[Page]:
        wants_files = repository.casefold() in self._path_filtered
        complete = bool(cursor.get("files")) or not wants_files
        if cursor.get("refs") == self._look(repository).digest and complete:
            return
        git, snapshot = self._open(repository)
        generation, line = int(cursor.get("generation", 0)), int(cursor.get("line", 0))
        if cursor and (not complete or cursor.get("shallow") != snapshot.shallow):
            # What was read lacks files or history that is wanted now: it is read again, as the next generation.
            cursor, generation, line = {}, generation + 1, 0
        place = _Place(generation, line)
        read = list(cursor.get("heads", []))
        heads = existing_objects(git, read)
        tips = sorted(set(snapshot.refs.values()))
        listings: list[_Listing] = []
        reading = cursor.get("reading")
        if reading and heads == read and existing_objects(git, reading["tips"]) == reading["tips"]:
            # The same tips and heads give the same order: what was landed before the interruption is passed over.
            listings.append(_Listing(git, reading["tips"], heads, snapshot.cut_off, int(reading["landed"])))
            heads = reading["tips"]
        if not listings or listings[0].tips != tips:
            listings.append(_Listing(git, tips, heads, snapshot.cut_off))
        for listing in listings:
            done = snapshot.digest if listing is listings[-1] else None
            known = {"refs": done, "files": wants_files, "shallow": snapshot.shallow}
            yield from self._commit_pages(repository, listing, place, known)

    def _commit_pages(
        self, repository: str, listing: _Listing, place: _Place, known: Mapping[str, Any]
    ) -> Iterator[Page]:
        """Pages of one listing; a cursor inside it says how far it has been read, the last one that it is done."""
        reader = _CommitReader(repository, listing, wants_files=bool(known["files"]))
        total, landed = listing.count(), listing.skipped
        with listing.oids() as oids:
            while page := list(islice(oids, PAGE_RECORDS)):
                reader.add(page, page[max(0, total - PATCH_ID_COMMITS - landed) :], place)
                landed += len(page)
                progress.report("pull", f"{self._name}: commits of {repository}", landed, total)
                if landed < total:
                    reading = {"tips": listing.tips, "landed": landed}
                    heads = {"heads": listing.heads, "reading": reading}
                    yield _commit_page(repository, listing, place, {**known, "refs": None, **heads})
        yield _commit_page(repository, listing, place, {**known, "heads": listing.tips})

    def _tags(self, repository: str, cursor: Cursor) -> Iterator[Page]:
        if cursor.get("refs") == self._look(repository).digest:
            return
        git, snapshot = self._open(repository)
        place = _Place(int(cursor.get("generation", 0)), int(cursor.get("line", 0)))
        prefix = "refs/tags/"
        tags = {name[len(prefix) :]: oid for name, oid in snapshot.refs.items() if name.startswith(prefix)}
        # A short digest says that this tag pointing there has been read; names may be long, cursors should not be.
        marks = {name: _mark(name, oid) for name, oid in tags.items()}
        read = set(cursor.get("read", [])) & set(marks.values())
        new = sorted(name for name in tags if marks[name] not in read)
        for start in range(0, len(new), PAGE_RECORDS):
            part = new[start : start + PAGE_RECORDS]
            _add_tags(repository, git, {name: tags[name] for name in part}, place)
            read |= {marks[name] for name in part}
            if start + PAGE_RECORDS < len(new):
                yield place.page("tags", repository, {"refs": None, "read": sorted(read)})
        yield place.page("tags", repository, {"refs": snapshot.digest, "read": sorted(read)})

    def _file_revisions(self, repository: str, cursor: Cursor) -> Iterator[Page]:
        paths = list(dict.fromkeys(self._watched.get(repository.casefold(), [])))
        found: dict[str, str | None] = dict(cursor.get("found", {}))
        if cursor.get("refs") == self._look(repository).digest and set(paths) == set(found):
            return
        git, snapshot = self._open(repository)
        place = _Place(int(cursor.get("generation", 0)), int(cursor.get("line", 0)))
        tip, old_tip = snapshot.default_tip, cursor.get("tip")
        if tip and old_tip and not _is_ancestor(git, old_tip, tip):
            old_tip = None  # rewound or rewritten: a path's newest change may be an older one now
        for path in paths:
            inside = _inside(path)
            if inside is None:
                place.complain("path_outside_repository", f"The path {path!r} does not lie in the repository.")
            known = found.get(path)
            if known and inside and tip and old_tip and not _has_changed(git, inside, tip, old_tip):
                continue
            changes = _changes(git, inside, tip) if inside and tip else []
            sha = changes[0] if changes else None
            if sha in snapshot.cut_off:
                place.complain("shallow_clone", f"The clone is shallow: the last change of {path!r} is unknown.")
                sha = None
            if sha is not None and sha != known:
                earlier = [each for each in changes[1:] if each not in snapshot.cut_off]
                _add_revision(repository, git, path, [sha, *earlier], place)
            found[path] = sha
        kept = {path: found[path] for path in paths}
        yield place.page("file_revisions", repository, {"refs": snapshot.digest, "tip": tip, "found": kept})


@dataclass(frozen=True)
class _Listing:
    """Commits reachable from the tips and not from the heads already read, parents first, in a repeatable order."""

    git: Git
    tips: list[str]
    heads: list[str]
    cut_off: frozenset[str]
    skipped: int = 0

    def count(self) -> int:
        """How many there are, the skipped ones included."""
        return int(self.git.output("rev-list", "--count", "--stdin", lines=self._lines())) if self.tips else 0

    @contextmanager
    def oids(self) -> Iterator[Iterator[str]]:
        """Their ids after the skipped ones; the listing ends with the block."""
        if not self.tips:
            yield iter(())
            return
        with self.git.stream("rev-list", "--topo-order", "--reverse", "--stdin", lines=self._lines()) as out:
            yield (line.strip().decode("ascii") for line in islice(out, self.skipped, None))

    def _lines(self) -> list[str]:
        return [*self.tips, *(f"^{head}" for head in self.heads)]


def _commit_page(repository: str, listing: _Listing, place: _Place, cursor: Mapping[str, Any]) -> Page:
    if listing.cut_off:
        place.complain("shallow_clone", "The clone is shallow: older commits are missing. Run git fetch --unshallow.")
    return place.page("commits", repository, cursor)


class _CommitReader:
    """Reads the commits of one listing; what trees and blobs tell is left out where the clone lacks them."""

    def __init__(self, repository: str, listing: _Listing, *, wants_files: bool) -> None:
        self._repository = repository
        self._git = listing.git
        self._cut_off = listing.cut_off
        self._trees = Reachable(listing.git, "changed files", blobs=False) if wants_files else None
        self._blobs = Reachable(listing.git, "patch ids", blobs=True)

    def add(self, oids: Sequence[str], patched: Sequence[str], place: _Place) -> None:
        """Add the records of these commits, with the patch ids of those in `patched`."""
        git = self._git
        commits: dict[str, dict[str, Any]] = {}
        broken: dict[str, tuple[str, bytes]] = {}
        for oid, item in zip(oids, read_objects(git, oids), strict=True):
            if item is None:
                raise SourceError(f"the commit {oid} is missing from the clone", where=git.where, fix=git.fix)
            try:
                commits[oid] = commit_fields(item)
            except UnreadableObjectError as error:
                broken[oid] = (str(error), item.content[:EXCERPT_BYTES])
        # A merge changes nothing of its own; the last commit of a shallow clone seems to change every file.
        plain = [o for o in oids if o in commits and len(commits[o]["parents"]) < 2 and o not in self._cut_off]
        files = self._trees.read(plain, lambda part: changed_files(git, part)) if self._trees else {}
        wanted = set(patched)
        patches = self._blobs.read([o for o in plain if o in wanted], lambda part: patch_ids(git, part))
        for oid in oids:
            if oid in broken:
                place.refuse("commit_unreadable", *broken[oid])
                continue
            record = {"repository": self._repository, "sha": oid, **commits[oid]}
            if oid in patches:
                record["patch_id"] = patches[oid]
            if oid in files:
                record["files"] = files[oid]
            place.add(record)


def _add_tags(repository: str, git: Git, tags: Mapping[str, str], place: _Place) -> None:
    objects = list(read_objects(git, list(tags.values())))
    commits = list(read_objects(git, [f"{oid}^{{commit}}" for oid in tags.values()]))
    for name, item, commit in zip(tags, objects, commits, strict=True):
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if commit is None:
            place.refuse("tag_without_commit", f"The tag '{shown}' names no commit that the clone holds.")
            continue
        try:
            at = tagged_at(item) if item is not None and item.kind == "tag" else None
            at = at or commit_fields(commit)["committed_at"]
        except UnreadableObjectError as error:
            place.refuse("tag_unreadable", f"The tag '{shown}': {error}", commit.content)
            continue
        place.add({"repository": repository, "name": shown, "sha": commit.oid, "tagged_at": at})


def _add_revision(repository: str, git: Git, path: str, shas: Sequence[str], place: _Place) -> None:
    changes = []
    for sha, commit in zip(shas, read_objects(git, shas), strict=True):
        if commit is None:
            raise SourceError(f"the commit {sha} is missing from the clone", where=git.where, fix=git.fix)
        try:
            changes.append({"sha": sha, "committed_at": commit_fields(commit)["committed_at"]})
        except UnreadableObjectError as error:
            place.refuse("commit_unreadable", str(error), commit.content)
            if not changes:
                return
    earlier = {"earlier": changes[1:]} if changes[1:] else {}
    place.add({"repository": repository, "path": path, **changes[0], **earlier})


def _changes(git: Git, path: str, tip: str) -> list[str]:
    """The newest commits that changed a path which the tip still has; none for a path that is not there."""
    there = git.output("rev-parse", "--verify", "--quiet", f"{tip}:{path}", accepted=frozenset({0, 1}))
    if not there.strip():
        return []
    return git.output("rev-list", f"--max-count={FILE_CHANGES}", tip, "--", path).decode("ascii").split()


def _has_changed(git: Git, path: str, tip: str, since: str) -> bool:
    """Whether any commit behind `since` touched the path: a cheap question before the search through all history."""
    return bool(git.output("rev-list", "--max-count=1", tip, f"^{since}", "--", path).strip())


def _inside(path: str) -> str | None:
    parts = [part for part in PurePosixPath(path.lstrip("/")).parts if part != "."]
    return None if not parts or ".." in parts or "\0" in path else "/".join(parts)


def _is_ancestor(git: Git, old: str, new: str) -> bool:
    if not existing_objects(git, [old]):
        return False
    # The answer is the exit code; listing what the new tip lacks of the old one says the same in words.
    return not git.output("rev-list", "--max-count=1", old, f"^{new}").strip()


def _mark(name: str, oid: str) -> str:
    return hashlib.sha256(f"{name}\0{oid}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
