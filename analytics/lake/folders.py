"""A lake in a folder: `lake/<table>/quarter=<name>/*.parquet`; a file appears by rename and is then never changed."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

from analytics.errors import LakeError
from analytics.faults import DAMAGED_FIX
from analytics.lake.port import LakeFile
from analytics.settings import Settings


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
        return [
            LakeFile(str(file), file.parent.name.removeprefix("quarter="), _columns_of(file))
            for file in sorted((self._folder / name).glob("quarter=*/*.parquet"))
        ]

    def read_list(self, name: str, files: Sequence[LakeFile]) -> str:
        """A pattern: a view of a table reads what it holds whenever it is asked."""
        return _literal(self._folder / name / "quarter=*" / "*.parquet")

    def address(self, file: LakeFile) -> str:
        """Its path."""
        return file.path

    def quarters(self, name: str) -> list[str]:
        """The folders that hold a file."""
        found = (self._folder / name).glob("quarter=*/*.parquet")
        return sorted({file.parent.name.removeprefix("quarter=") for file in found})

    def replace(self, name: str, built: Path, partitions: Collection[str] | None = None) -> None:
        """Move every built file into place by rename, then remove the ones that are no longer part of the table."""
        target = self._folder / name
        others = {folder.name.split("=", 1)[1] for folder in built.iterdir()} - set(partitions or ())
        if partitions is not None and others:
            raise ValueError(f"files of other quarters than {sorted(partitions)}: {sorted(others)}")
        kept: set[Path] = set()
        for folder in sorted(built.iterdir()):
            destination = target / f"quarter={folder.name.split('=', 1)[1]}"
            destination.mkdir(parents=True, exist_ok=True)
            for number, file in enumerate(sorted(folder.glob("*.parquet"))):
                final = destination / _part(number)
                file.replace(final)
                kept.add(final)
        for folder in target.glob("quarter=*"):
            if partitions is not None and folder.name.removeprefix("quarter=") not in partitions:
                continue
            for old in folder.glob("*.parquet"):
                if old not in kept:
                    old.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()

    def exchange(self, name: str, built: Path, gone: Collection[LakeFile]) -> None:
        """Move every built file into the place of one that goes, or under a name of its own, then remove the others."""
        target = self._folder / name
        left = {Path(file.path) for file in gone}
        for folder in sorted(built.iterdir()):
            destination = target / f"quarter={folder.name.split('=', 1)[1]}"
            destination.mkdir(parents=True, exist_ok=True)
            numbers = itertools.count()
            for file in sorted(folder.glob("*.parquet")):
                final = next(path for n in numbers if (path := destination / _part(n)) in left or not path.exists())
                file.replace(final)
                left.discard(final)
        for old in left:
            old.unlink(missing_ok=True)
            if not any(old.parent.iterdir()):
                old.parent.rmdir()

    def digests(self, name: str) -> dict[str, str]:
        """Of the bytes themselves: names and times say nothing once a table has been written again."""
        found: dict[str, list[str]] = {}
        for file in sorted((self._folder / name).glob("quarter=*/*.parquet")):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            found.setdefault(file.parent.name.removeprefix("quarter="), []).append(digest)
        return {quarter: " ".join(digests) for quarter, digests in found.items()}

    def read_note(self) -> bytes | None:
        """The text of `lake.json`."""
        try:
            return self._note.read_bytes()
        except FileNotFoundError:
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


def _part(number: int) -> str:
    return f"part-{number:04d}.parquet"


def _columns_of(file: Path) -> frozenset[str]:
    try:
        known = file.stat()
    except FileNotFoundError:  # replaced at this moment; whoever reads it next says what is wrong
        return frozenset()
    return _read_columns(file, known.st_ino, known.st_mtime_ns, known.st_size)


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


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
