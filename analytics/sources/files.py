"""The files source: a feed folder with one JSONL, CSV or Parquet file, or a folder of them, per entity.

SARIF files are gate results, at the top or below `gate_results/`; saved webhook deliveries lie in `webhooks/`.

Source: contract.md section 4. A file that grew is read from where it ended, one that was rewritten again as its next
generation; what cannot be read is refused by name and the rest goes on. Links that leave the folder are not followed.
"""

from __future__ import annotations

import difflib
import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analytics.errors import SourceError
from analytics.sources.entities import ENTITIES
from analytics.sources.feed_pages import Feed, FeedKind, jsonl_pages, whole_file_pages
from analytics.sources.port import Capabilities, Collected, Cursor, Page, Refusal
from analytics.sources.sarif_gates import Level
from analytics.sources.webhooks import EVENTS, records_of

# Longer suffixes first.
_SUFFIXES: Mapping[str, FeedKind] = {
    ".jsonl.gz": FeedKind.JSONL_GZ,
    ".csv.gz": FeedKind.CSV_GZ,
    ".jsonl": FeedKind.JSONL,
    ".csv": FeedKind.CSV,
    ".parquet": FeedKind.PARQUET,
    ".sarif.json": FeedKind.SARIF,
    ".sarif": FeedKind.SARIF,
}
# What SARIF files hold, wherever they lie.
_GATES = "gate_results"
# Saved deliveries lie below it, by their event.
_WEBHOOKS = "webhooks"
_ABOUT_THE_FOLDER = ("readme", "license")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """One file or folder of the feed: what it holds, or why it is refused."""

    entity: str
    path: Path
    kind: FeedKind | None = None
    problem: tuple[str, str] | None = None
    # Of saved webhook deliveries.
    event: str | None = None


class FilesProvider:
    """The feed folder of one source; its requests are file paths relative to the folder."""

    def __init__(
        self, name: str, path: Path, blocks_at: Level = "error", incident_labels: Sequence[str] = ("incident",)
    ) -> None:
        self._name = name
        self._path = path
        self._blocks_at = blocks_at
        self._incident_labels = list(incident_labels)
        self._found: dict[str, _Found] = {}

    @property
    def name(self) -> str:
        """The source's name in the settings."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Every entity can come in a file."""
        return Capabilities(frozenset(ENTITIES))

    def discover(self) -> Collected:
        """List the files; raises SourceError when the folder is missing or cannot be listed.

        A file or folder that is no entity is listed too, under its own name, so that reading it says so.
        """
        try:
            entries = sorted(os.scandir(self._path), key=lambda entry: entry.name)
            root = self._path.resolve(strict=True)
        except OSError as error:
            raise SourceError(
                f"the feed folder cannot be read ({error.strerror})",
                where=str(self._path),
                fix=f"Create it, or correct `path` of the source '{self._name}' in the settings.",
            ) from error
        self._found = {}
        requests: dict[str, list[str]] = {}
        for entry in entries:
            if _is_ignored(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False) and entry.name in ENTITIES:
                requests.setdefault(entry.name, [])
                for path in self._files_below(Path(entry.path)):
                    self._add(_look_at(path, entry.name, root), requests)
            elif entry.is_dir(follow_symlinks=False) and entry.name == _WEBHOOKS:
                for path in self._files_below(Path(entry.path)):
                    self._add(_look_at_deliveries(path, Path(entry.path), root), requests)
            else:
                self._add(_look_at(Path(entry.path), None, root), requests)
        return Collected(requests)

    def changes(self, entity: str, request_key: str, cursor: Cursor | None) -> Iterator[Page]:
        """Pages behind the cursor of one file; nothing when it has not changed."""
        if request_key not in self._found:
            self.discover()
        found = self._found.get(request_key)
        if found is None or found.entity != entity:
            raise SourceError("there is no such file any more", where=f"{self._path}/{request_key}", fix="Pull again.")
        if found.problem is not None or found.kind is None:
            yield from _refused(entity, request_key, cursor, found.problem or ("unknown_format", "no feed format"))
            return
        last = cursor
        feed = Feed(entity, request_key, found.path, found.kind, self._blocks_at)
        try:
            read = jsonl_pages if found.kind is FeedKind.JSONL else whole_file_pages
            for page in read(feed, cursor):
                last = page.cursor
                if found.event is not None:
                    records = list(records_of(found.event, page.records, self._incident_labels))
                    page = replace(page, records=records)
                yield page
        except OSError as error:
            _logger.warning("%s cannot be read: %s", found.path, error)
            yield from _refused(
                entity, request_key, last, ("unreadable", f"cannot be read ({error.strerror or error})")
            )

    def _add(self, found: _Found, requests: dict[str, list[str]]) -> None:
        key = found.path.relative_to(self._path).as_posix()
        # A name that is not UTF-8 can still be shown, never read.
        shown = key.encode("utf-8", "backslashreplace").decode()
        if shown != key:
            found = _Found(found.entity, found.path, problem=("bad_name", "the file's name is not UTF-8; rename it"))
        self._found[shown] = found
        requests.setdefault(found.entity, []).append(shown)

    def _files_below(self, folder: Path) -> list[Path]:
        paths: list[Path] = []

        def unreadable(error: OSError) -> None:
            paths.append(Path(os.fsdecode(error.filename)))

        for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=False):
            linked = [name for name in folders if Path(parent, name).is_symlink()]
            folders[:] = [name for name in folders if name not in linked and not _is_ignored(name)]
            paths += [Path(parent, name) for name in [*names, *linked] if not _is_ignored(name)]
        return sorted(paths)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.endswith(".tmp") or name.casefold().startswith(_ABOUT_THE_FOLDER)


def _look_at(path: Path, entity: str | None, root: Path) -> _Found:
    """What a path of the folder is; `entity` is known inside an entity's own folder."""
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")
    stem = path.name[: -len(suffix)] if suffix else path.name.partition(".")[0]
    is_sarif = _SUFFIXES.get(suffix) is FeedKind.SARIF
    owner = entity or (_GATES if is_sarif else stem)
    shown = owner.encode("utf-8", "backslashreplace").decode()[:200] or path.name[:200]
    if owner not in ENTITIES:
        return _Found(shown, path, problem=("unknown_entity", _unknown(shown)))
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        return _Found(owner, path, problem=("unreadable", f"cannot be read ({getattr(error, 'strerror', error)})"))
    if not real.is_relative_to(root):
        return _Found(owner, path, problem=("outside_folder", "a link that leaves the feed folder is not followed"))
    if stat.S_ISDIR(mode):
        what = "a linked folder is not followed" if path.is_symlink() else "the folder cannot be listed"
        return _Found(owner, path, problem=("unreadable", what))
    if not stat.S_ISREG(mode):
        return _Found(owner, path, problem=("unreadable", "is no regular file"))
    if is_sarif and owner != _GATES:
        return _Found(owner, path, problem=("unknown_format", f"a SARIF file holds {_GATES}; put it there"))
    if not suffix:
        return _Found(owner, path, problem=("unknown_format", f"expected one of {', '.join(_SUFFIXES)}"))
    return _Found(owner, path, _SUFFIXES[suffix])


def _look_at_deliveries(path: Path, folder: Path, root: Path) -> _Found:
    """What a file below the folder of webhooks is: `EVENT.jsonl`, or any name in a folder EVENT."""
    event = path.relative_to(folder).parts[0].partition(".")[0]
    if event not in EVENTS:
        shown = event.encode("utf-8", "backslashreplace").decode()[:200]
        return _Found(
            _WEBHOOKS,
            path,
            problem=("unknown_event", f"'{shown}' is no event that is read; they are {', '.join(EVENTS)}"),
        )
    found = _look_at(path, EVENTS[event], root)
    if found.problem is None and found.kind not in (FeedKind.JSONL, FeedKind.JSONL_GZ):
        return _Found(found.entity, path, problem=("unknown_format", "deliveries are lines of JSON: .jsonl, .jsonl.gz"))
    return replace(found, event=event)


def _unknown(stem: str) -> str:
    begun = [name for name in ENTITIES if stem.casefold().startswith(name)]
    if begun:
        return f"'{stem}' is no entity; several files of {begun[0]} go into a folder {begun[0]}/"
    near = difflib.get_close_matches(stem.casefold(), list(ENTITIES), n=1, cutoff=0.5)
    if near:
        return f"'{stem}' is no entity; did you mean '{near[0]}'?"
    return f"'{stem}' is no entity; known are {', '.join(ENTITIES)}"


def _refused(entity: str, key: str, cursor: Cursor | None, problem: tuple[str, str]) -> Iterator[Page]:
    """Refuse a file as a whole, once; what was read of it before stays where it was."""
    before = dict(cursor or {"generation": 1})
    if before.get("refused") == list(problem):
        return
    yield Page(
        entity=entity,
        request_key=key,
        generation=int(before["generation"]),
        records=[],
        refusals=[Refusal(0, *problem)],
        cursor={**before, "refused": list(problem)},
    )
