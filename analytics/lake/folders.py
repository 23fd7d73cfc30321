"""A lake in a folder: `lake/<table>/quarter=<name>/*.parquet`; a file appears by rename and is then never changed.

A write that takes more than one step is noted first: `lake/<table>/_pending-<id>/` appears by one rename, with the
files that come and `change.json`, which says where they go and which files go away. Whoever reads the table while that
folder is there reads it as it will be; the next stage on this lake does what a killed one left to do (`settle`). Names
in the note are relative to the table, so that a lake can be copied elsewhere at any moment.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import uuid
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from analytics.errors import LakeError
from analytics.faults import DAMAGED_FIX
from analytics.lake.port import LakeFile
from analytics.settings import Settings

FORMAT = 1
# How often a table is listed again while others write it.
_LOOKS = 100
_PENDING = "_pending-"
_CHANGE = "change.json"
_MOST_BYTES = 64 * 1024 * 1024
# A name cannot lead elsewhere: of its two parts none is `..`.
_FILE = re.compile(r"quarter=[^/\\\0]+/[^/\\\0]+\.parquet")
_BUILT = re.compile(r"[^/\\\0=]+=[^/\\\0]+/[^/\\\0]+\.parquet")
_FIX = (
    "Remove its folder and run `quarterdeck build --full`, `verify` and `measure`, which write the table again; find "
    "out who wrote it."
)


class Change(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a write does to a table.

    `coming` has files by their names in the folder of the write and in the table, `going` those that it no longer has.
    """

    format: int
    coming: list[tuple[str, str]]
    going: list[str]


class FolderLake:
    """The lake below the settings' storage; see `analytics.lake.port.Lake`."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.lake_dir
        self._note = settings.storage / "lake.json"
        self._temp = settings.temp_dir

    def place(self, name: str = "") -> str:
        """The folder of a table, or of all."""
        return str(self._folder / name if name else self._folder)

    def files(self, name: str) -> list[LakeFile]:
        """A table's files; a damaged one raises LakeError, one that is replaced at this moment has no columns."""
        return [LakeFile(str(file), quarter, _columns_of(file)) for quarter, file in self._listed(name)]

    def read_list(self, name: str, files: Sequence[LakeFile]) -> str:
        """A pattern: a view of a table reads what it holds whenever it is asked; files while some are yet to come."""
        if any(self._pending(name)):
            return "[" + ", ".join(_literal(Path(file.path)) for file in files) + "]"
        return _literal(self._folder / name / "quarter=*" / "*.parquet")

    def state(self, name: str) -> object:
        """Which files there are, by what a rename changes, and which writes are under way."""
        pending = [folder.name for folder in self._pending(name)]
        return sorted(pending), [(str(file), _identity(file)) for _, file in self._listed(name)]

    def address(self, file: LakeFile) -> str:
        """Its path."""
        return file.path

    def quarters(self, name: str) -> list[str]:
        """The quarters that have a file."""
        return sorted({quarter for quarter, _ in self._listed(name)})

    def replace(self, name: str, built: Path, partitions: Collection[str] | None = None) -> None:
        """Move every built file into place by rename, then remove the ones that are no longer part of the table."""
        others = {folder.name.split("=", 1)[1] for folder in built.iterdir()} - set(partitions or ())
        if partitions is not None and others:
            raise ValueError(f"files of other quarters than {sorted(partitions)}: {sorted(others)}")
        target = self._folder / name
        coming = [
            (f"{folder.name}/{file.name}", f"{_quarter_folder(folder)}/{_part(number)}")
            for folder in sorted(built.iterdir())
            for number, file in enumerate(sorted(folder.glob("*.parquet")))
        ]
        kept = {place for _, place in coming}
        there = {
            f"{folder.name}/{file.name}"
            for folder in target.glob("quarter=*")
            if partitions is None or folder.name.removeprefix("quarter=") in partitions
            for file in folder.glob("*.parquet")
        }
        self._write(target, built, Change(FORMAT, coming, sorted(there - kept)), whole=partitions is None)

    def exchange(self, name: str, built: Path, gone: Collection[LakeFile]) -> None:
        """Move every built file into the place of one that goes, or under a name of its own, then remove the others."""
        target = self._folder / name
        left = {Path(file.path) for file in gone}
        coming: list[tuple[str, str]] = []
        for folder in sorted(built.iterdir()):
            destination = target / _quarter_folder(folder)
            numbers = itertools.count()
            for file in sorted(folder.glob("*.parquet")):
                final = next(path for n in numbers if (path := destination / _part(n)) in left or not path.exists())
                coming.append((f"{folder.name}/{file.name}", f"{destination.name}/{final.name}"))
                left.discard(final)
        going = sorted(f"{path.parent.name}/{path.name}" for path in left)
        self._write(target, built, Change(FORMAT, coming, going))

    def settle(self) -> list[str]:
        """Carry out what a killed stage had noted and not done to its end, however often that was begun."""
        tables = sorted({pending.parent.name for pending in self._folder.glob(f"*/{_PENDING}*")})
        for name in tables:
            for pending in self._pending(name):
                change = _read_change(pending)
                if change is not None:
                    _expect_within(self._folder / name, pending, change)
                    _carry_out(self._folder / name, pending, change)
                shutil.rmtree(pending)
        return tables

    def _write(self, target: Path, built: Path, change: Change, *, whole: bool = False) -> None:
        """Make a change of one step at once; a larger one is noted first, so that a kill between can be made good.

        The folder with the note and the files that come appears beside the quarters in a single step: before it nothing
        has changed, and from it on everything has, for readers too.
        """
        for earlier in self._pending(target.name):
            before = _read_change(earlier)
            if before and (whole or not _quarters(before).isdisjoint(_quarters(change))):
                raise LakeError(
                    "an earlier write of it has not come to its end",
                    where=str(target),
                    fix="Run the stage again: it begins with that.",
                )
        if len(change.coming) + len(change.going) <= 1:
            _carry_out(target, built, change)
            return
        target.mkdir(parents=True, exist_ok=True)
        (built / _CHANGE).write_bytes(msgspec.json.encode(change))
        pending = target / f"{_PENDING}{uuid.uuid4().hex}"
        built.rename(pending)
        _carry_out(target, pending, change)
        shutil.rmtree(pending)

    def _pending(self, name: str) -> list[Path]:
        """Folders of changes that were noted and not yet done to their end."""
        return [Path(entry.path) for entry in _entries(self._folder / name) if entry.name.startswith(_PENDING)]

    def _listed(self, name: str) -> list[tuple[str, Path]]:
        """Quarter and path of a table's files, as they are when every change that was noted is done."""
        target = self._folder / name
        noted = self._noted(name)
        for _ in range(_LOOKS):
            found = {
                f"{folder.name}/{file.name}": Path(file.path)
                for folder in _entries(target)
                if folder.name.startswith("quarter=")
                for file in _entries(folder.path)
                if file.name.endswith(".parquet")
            }
            before, noted = noted, self._noted(name)
            # A stage that does one to its end meanwhile has moved files from where they were looked for.
            if noted.keys() == before.keys():
                break
        for one, change in noted.items():
            for place in change.going:
                found.pop(place, None)
            for file, place in change.coming:
                found[place] = one / file if (one / file).exists() else target / place
        return [(_quarter_of(place), found[place]) for place in sorted(found)]

    def _noted(self, name: str) -> dict[Path, Change]:
        """Changes that are not yet done to their end, by their folder."""
        return {one: change for one in self._pending(name) if (change := _read_change(one)) is not None}

    def digests(self, name: str) -> dict[str, list[tuple[str, str]]]:
        """Of the bytes themselves: names and times say nothing once a table has been written again."""
        found: dict[str, list[tuple[str, str]]] = {}
        for quarter, file in self._listed(name):
            known = file.stat()
            digest = _read_digest(file, known.st_ino, known.st_mtime_ns, known.st_size)
            found.setdefault(quarter, []).append((str(file), digest))
        return found

    def read_note(self) -> bytes | None:
        """The text of `lake.json`."""
        try:
            return self._note.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_note(self, text: bytes) -> None:
        """Write `lake.json` by rename."""
        self._temp.mkdir(parents=True, exist_ok=True)
        written = self._temp / f"lake-{uuid.uuid4().hex}.json"
        written.write_bytes(text)
        written.replace(self._note)

    def note_place(self) -> str:
        """The path of `lake.json`, beside the lake."""
        return str(self._note)

    def is_empty(self) -> bool:
        """Whether no table has a folder of a quarter."""
        return not any(self._folder.glob("*/quarter=*"))


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where it is none, or is removed at this moment."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_change(pending: Path) -> Change | None:
    """What was noted; None where all of it is done. Raises LakeError for a note that is none of ours."""
    path = pending / _CHANGE
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        change = msgspec.json.decode(text[:_MOST_BYTES], type=Change)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise LakeError(f"is no note of a change of this lake: {error}", where=str(path), fix=_FIX) from error
    if change.format != FORMAT:
        raise LakeError(
            f"is a note of format {change.format}; this version knows {FORMAT}",
            where=str(path),
            fix="Use the newer version of Quarterdeck that wrote it.",
        )
    wrong = [file for file, _ in change.coming if not _BUILT.fullmatch(file)]
    wrong += [place for place in (*(place for _, place in change.coming), *change.going) if not _FILE.fullmatch(place)]
    if wrong:
        raise LakeError(f"names a file that is none of the table: {wrong[0][:100]!r}", where=str(path), fix=_FIX)
    return change


def _expect_within(target: Path, pending: Path, change: Change) -> None:
    """Raise LakeError where a link leads a change out of its table, or a file that is to come is not there."""
    within = target.resolve()
    for file, place in change.coming:
        if not (pending / file).exists() and not (target / place).exists():
            raise LakeError(f"names a file that is missing: {file!r}", where=str(pending / _CHANGE), fix=_FIX)
    named = [*(pending / file for file, _ in change.coming), *(target / place for _, place in change.coming)]
    for path in [*named, *(target / place for place in change.going)]:
        if not path.parent.resolve().is_relative_to(within):
            raise LakeError("leads out of the table", where=str(path), fix=_FIX)


def _carry_out(target: Path, built: Path, change: Change) -> None:
    """Do the steps of a change that are not yet done."""
    for file, place in change.coming:
        if (built / file).exists():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (built / file).replace(target / place)
    for place in change.going:
        old = target / place
        old.unlink(missing_ok=True)
        if old.parent.exists() and not any(old.parent.iterdir()):
            old.parent.rmdir()


def _quarter_of(place: str) -> str:
    return place.removeprefix("quarter=").partition("/")[0]


def _quarters(change: Change) -> set[str]:
    return {_quarter_of(place) for place in (*(place for _, place in change.coming), *change.going)}


def _quarter_folder(folder: Path) -> str:
    return f"quarter={folder.name.split('=', 1)[1]}"


def _part(number: int) -> str:
    return f"part-{number:04d}.parquet"


def _columns_of(file: Path) -> frozenset[str]:
    try:
        known = file.stat()
    except FileNotFoundError:  # replaced at this moment; whoever reads it next says what is wrong
        return frozenset()
    return _read_columns(file, known.st_ino, known.st_mtime_ns, known.st_size)


def _identity(file: Path) -> tuple[int, int, int] | None:
    try:
        known = file.stat()
    except FileNotFoundError:
        return None
    return known.st_ino, known.st_mtime_ns, known.st_size


@lru_cache(maxsize=4_096)
def _read_columns(file: Path, *_: int) -> frozenset[str]:
    """Columns of a file that is as it was when they were read: a stage asks for those of a table dozens of times."""
    import polars as pl  # only stages read the lake, and questions must start fast

    try:
        return frozenset(pl.read_parquet_schema(file))
    except pl.exceptions.PolarsError as error:
        raise LakeError(f"a file is damaged: {error}", where=str(file), fix=DAMAGED_FIX) from error
    except FileNotFoundError:  # as above
        return frozenset()


@lru_cache(maxsize=4_096)
def _read_digest(file: Path, *_: int) -> str:
    """Digest of a file that is as it was when it was read: a stage asks for those of a table several times."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
