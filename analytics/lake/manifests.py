"""A lake in an object store, where nothing can be renamed: a file counts once a manifest names it.

    <table>/quarter=<name>/<write>-<number>.parquet     files, under names that are never used again
    <table>/_table.json                                 the last write of the whole table: its id and its files
    <table>/_<id>/<write>.json                          quarters that were written alone since that write
    lake.json                                           the version, and stages that have not ended

A write puts its files first and then one manifest, in a single request: before it the old files are read, after it the
new ones, and a writer that was killed between leaves files that nobody names. Each writer of some quarters puts a
manifest of its own, which counts for a quarter where its version is the highest: writers of different quarters undo
nothing of each other, and of two that meet on one quarter one has written it. A whole table written anew has a new id,
under which no quarter was written yet. What no longer counts can still be read by whoever asked just before, and is
removed a day later.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from analytics import progress
from analytics.errors import LakeError
from analytics.lake.port import LakeFile
from analytics.lake_files import PREFIX, name_of
from analytics.object_store import ObjectStore, Stored

FORMAT = 1
KEPT_FOR = timedelta(days=1)
MOST_BYTES = 64 * 1024 * 1024
# Of a table that was never written whole.
FIRST_ID = "0" * 32
_NOTE = "lake.json"
_MOST_NOTE_BYTES = 10_000
_QUARTER = r"[A-Za-z0-9][A-Za-z0-9-]{0,31}"
_FILE = re.compile(rf"quarter=({_QUARTER})/[0-9a-f]{{32}}-\d{{4,9}}\.parquet")
_MANIFEST = re.compile(r"_([0-9a-f]{32})/[0-9a-f]{32}\.json")
_ID = re.compile(r"[0-9a-f]{32}")
_FIX = (
    "Remove it and run `quarterdeck build`, `verify` and `measure`, which write the table again; find out who wrote it."
)


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Version = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
_Quarter = Annotated[str, msgspec.Meta(pattern=rf"\A{_QUARTER}\Z")]


class Manifest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which files a write made a table, or some quarters of it, and which it replaced when.

    `files` are names below the table with their sizes in bytes; `columns` are those that each of the files has;
    `versions` are the quarters that were written alone, each with the number of such writes; `earlier` are the ids of
    former writes of the table.
    """

    format: int
    id: str
    columns: list[str]
    files: list[tuple[str, _Size]]
    retired: dict[str, _Moment] = {}
    earlier: dict[str, _Moment] = {}
    versions: dict[_Quarter, _Version] = {}


class _Table(msgspec.Struct, frozen=True):
    """All manifests of a table that count."""

    whole: Manifest
    # Of quarters that were written alone since, by their names.
    parts: dict[str, Manifest]

    def newest(self) -> dict[str, tuple[int, str]]:
        """The version that counts of each quarter that was written alone, and the manifest that has it."""
        found: dict[str, tuple[int, str]] = {}
        for path, manifest in self.parts.items():
            for quarter, version in manifest.versions.items():
                found[quarter] = max(found.get(quarter, (0, "")), (version, path))
        return found

    def files(self) -> list[tuple[str, int, Manifest]]:
        """Every file that is read, with its size and the manifest that names it."""
        newest = self.newest()
        found = [(name, size, self.whole) for name, size in self.whole.files if _quarter_of(name) not in newest]
        for path, manifest in self.parts.items():
            found += [(name, size, manifest) for name, size in manifest.files if newest[_quarter_of(name)][1] == path]
        return sorted(found, key=lambda entry: entry[0])


class ObjectLake:
    """The lake below an object store's URL; see `analytics.lake.port.Lake`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def place(self, name: str = "") -> str:
        """The URL of a table, or of all."""
        return self._store.url_of(name) if name else self._store.url

    def files(self, name: str) -> list[LakeFile]:
        """The files that the table's manifests name; raises LakeError for a manifest that is none."""
        found = []
        for file, size, manifest in self._table(name).files():
            # Known to whoever reads it: no request for its size.
            self._store.sizes[f"{name}/{file}"] = size
            found.append(LakeFile(f"{PREFIX}{name}/{file}", _quarter_of(file), frozenset(manifest.columns)))
        return found

    def read_list(self, name: str, files: Sequence[LakeFile]) -> str:
        """The files: a view of a table goes on reading what there was when it was made."""
        return "[" + ", ".join("'" + file.path.replace("'", "''") + "'" for file in files) + "]"

    def state(self, name: str) -> object:
        """Nothing: files under names that are never used again go on being what they were."""
        return None

    def address(self, file: LakeFile) -> str:
        """Its URL."""
        return self._store.url_of(name_of(file.path))

    def quarters(self, name: str) -> list[str]:
        """Quarters of the files that are named."""
        return sorted({_quarter_of(file) for file, _, _ in self._table(name).files()})

    def replace(self, name: str, built: Path, partitions: Collection[str] | None = None) -> None:
        """Put the files under fresh names, then the one manifest that names them."""
        before = self._table(name)
        write = uuid.uuid4().hex
        local = _named(built, write)
        if partitions is not None and not {_quarter_of(file) for file in local} <= set(partitions):
            raise ValueError(f"files of other quarters than {sorted(partitions)}")
        if not local and not (before.files() if partitions is None else partitions):
            return
        columns = _common_columns(local.values())
        self._store.upload({f"{name}/{file}": path for file, path in local.items()})
        sizes = {file: path.stat().st_size for file, path in local.items()}
        now = datetime.now(UTC)
        if partitions is None:
            gone = {file: now for file, _, _ in before.files()}
            manifest = Manifest(
                FORMAT,
                write,
                columns,
                sorted(sizes.items()),
                {**_fresh(now, before.whole.retired, *(one.retired for one in before.parts.values())), **gone},
                {**_fresh(now, before.whole.earlier), before.whole.id: now},
            )
            self._store.write(f"{name}/_table.json", msgspec.json.encode(manifest))
        else:
            gone = {file: now for file, _, _ in before.files() if _quarter_of(file) in partitions}
            self._write_part(name, before, write, columns, sizes, gone, partitions)
        self._check_and_collect(name, before, now, whole=partitions is None)

    def exchange(self, name: str, built: Path, gone: Collection[LakeFile]) -> None:
        """Put the files under fresh names, then a manifest that names them and those of their quarters that stay."""
        before = self._table(name)
        write = uuid.uuid4().hex
        local = _named(built, write)
        left = {name_of(file.path).removeprefix(f"{name}/") for file in gone}
        partitions = {_quarter_of(file) for file in (*local, *left)}
        if not partitions:
            return
        staying = [one for one in before.files() if _quarter_of(one[0]) in partitions and one[0] not in left]
        found = {tuple(sorted(manifest.columns)) for _, _, manifest in staying}
        if local:
            found.add(tuple(_common_columns(local.values())))
        if len(found) > 1:
            raise ValueError(f"{name}: files of one quarter would have different columns")
        self._store.upload({f"{name}/{file}": path for file, path in local.items()})
        sizes = {file: size for file, size, _ in staying}
        sizes.update((file, path.stat().st_size) for file, path in local.items())
        now = datetime.now(UTC)
        retired = dict.fromkeys(sorted(left), now)
        self._write_part(name, before, write, list(next(iter(found), ())), sizes, retired, partitions)
        self._check_and_collect(name, before, now, whole=False)

    def _write_part(
        self,
        name: str,
        before: _Table,
        write: str,
        columns: list[str],
        sizes: Mapping[str, int],
        retired: dict[str, datetime],
        partitions: Collection[str],
    ) -> None:
        newest = before.newest()
        manifest = Manifest(
            FORMAT,
            before.whole.id,
            columns,
            sorted(sizes.items()),
            retired,
            versions={quarter: newest.get(quarter, (0, ""))[0] + 1 for quarter in sorted(partitions)},
        )
        self._store.write(f"{name}/_{before.whole.id}/{write}.json", msgspec.json.encode(manifest))

    def _check_and_collect(self, name: str, before: _Table, now: datetime, *, whole: bool) -> None:
        there = self._store.list(name)
        after = self._table(name, there)
        if not whole and after.whole.id != before.whole.id:
            raise LakeError(
                "was written anew by somebody else at this moment, without what was just written of it",
                where=self.place(name),
                fix="Run the stage again; see to it that one machine at a time builds into a lake.",
            )
        self._collect(name, after, there, now)

    def settle(self) -> list[str]:
        """Nothing is ever half done: one request makes a write count."""
        return []

    def digests(self, name: str) -> dict[str, list[tuple[str, str]]]:
        """The names: every write makes new ones, and what a name stands for is never changed."""
        found: dict[str, list[tuple[str, str]]] = {}
        for file, _, _ in self._table(name).files():
            found.setdefault(_quarter_of(file), []).append((f"{PREFIX}{name}/{file}", file))
        return found

    def read_note(self) -> bytes | None:
        """What `lake.json` says."""
        return self._store.read(_NOTE, _MOST_NOTE_BYTES)

    def write_note(self, text: bytes) -> None:
        """Put `lake.json`."""
        self._store.write(_NOTE, text)

    def note_place(self) -> str:
        """Its URL."""
        return self._store.url_of(_NOTE)

    def is_empty(self) -> bool:
        """Whether no object lies below the URL."""
        return not self._store.list("")

    def _table(self, name: str, there: Collection[str] | None = None) -> _Table:
        """The manifests of a table; `there` are its objects, if they were listed already."""
        place = f"{name}/_table.json"
        found = self._store.read(place, MOST_BYTES)
        whole = Manifest(FORMAT, FIRST_ID, [], []) if found is None else self._decoded(place, found)
        named = [
            path
            for path in (self._store.list(f"{name}/_{whole.id}") if there is None else there)
            if (match := _MANIFEST.fullmatch(path.removeprefix(f"{name}/"))) and match[1] == whole.id
        ]
        parts: dict[str, Manifest] = {}
        for path, content in self._store.read_all(named, MOST_BYTES).items():
            manifest = self._decoded(path, content)
            if manifest.id != whole.id or any(_quarter_of(file) not in manifest.versions for file, _ in manifest.files):
                raise LakeError("is the manifest of something else", where=self._store.url_of(path), fix=_FIX)
            parts[path] = manifest
        return _Table(whole, parts)

    def _decoded(self, place: str, content: bytes) -> Manifest:
        where = self._store.url_of(place)
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            raise LakeError(f"is no manifest of this lake: {error}", where=where, fix=_FIX) from error
        if manifest.format != FORMAT:
            raise LakeError(
                f"is a manifest of format {manifest.format}; this version knows {FORMAT}",
                where=where,
                fix="Use the newer version of Quarterdeck that wrote it.",
            )
        names = [*(name for name, _ in manifest.files), *manifest.retired]
        wrong = next((name for name in names if not _FILE.fullmatch(name)), None)
        if wrong is not None:
            raise LakeError(f"names a file that is none of the lake: {wrong[:100]!r}", where=where, fix=_FIX)
        if not all(_ID.fullmatch(one) for one in (manifest.id, *manifest.earlier)):
            raise LakeError("has an id that is none", where=where, fix=_FIX)
        return manifest

    def _collect(self, name: str, table: _Table, there: Mapping[str, Stored], now: datetime) -> None:
        """Remove what no manifest has named for a day; a failure harms no reader, and the next write tries again."""
        try:
            kept = {file for file, _, _ in table.files()}
            kept.update(_fresh(now, table.whole.retired, *(one.retired for one in table.parts.values())))
            ids = {table.whole.id, *_fresh(now, table.whole.earlier)}
            aged = {path for path, one in there.items() if one.changed_at and now - one.changed_at > KEPT_FOR}
            newest = table.newest()
            old = [path for path in aged if _is_ours(path.removeprefix(f"{name}/"), kept, ids)]
            # All of whose quarters were written again, a day ago: none of what it replaced is read any more.
            for path, manifest in table.parts.items():
                counting = {newest[quarter][1] for quarter in manifest.versions}
                if path not in counting and counting <= aged:
                    old.append(path)
            self._store.remove(old)
        except LakeError as error:
            progress.report("lake", f"what {name} no longer needs was not removed: {error.where}: {error.what}")


def _is_ours(path: str, kept: Collection[str], ids: Collection[str]) -> bool:
    """Whether an object was put by a write and is needed no longer; whatever else lies there is left alone."""
    manifest = _MANIFEST.fullmatch(path)
    return manifest[1] not in ids if manifest else bool(_FILE.fullmatch(path)) and path not in kept


def _fresh(now: datetime, *retired: dict[str, datetime]) -> dict[str, datetime]:
    return {name: at for some in retired for name, at in some.items() if now - at <= KEPT_FOR}


def _quarter_of(file: str) -> str:
    return file.removeprefix("quarter=").partition("/")[0]


def _named(built: Path, write: str) -> dict[str, Path]:
    """Files below a folder by the names that they get in the table."""
    return {
        f"quarter={folder.name.split('=', 1)[1]}/{write}-{number:04d}.parquet": file
        for folder in sorted(built.iterdir())
        for number, file in enumerate(sorted(folder.glob("*.parquet")))
    }


def _common_columns(files: Collection[Path]) -> list[str]:
    """The columns of some files; raises ValueError where they differ."""
    import polars as pl  # only stages write the lake, and questions must start fast

    found = {frozenset(pl.read_parquet_schema(file)) for file in files}
    if len(found) > 1:
        raise ValueError("the files of one write have different columns")
    return sorted(found.pop()) if found else []
