"""An object store's lake as DuckDB reads it: files below `s3://lake/`, in ranges of bytes, by any number of threads.

DuckDB reads Parquet through an fsspec filesystem, but moves to a place and reads there in two steps that its threads
may interleave on one file; here each thread has a place of its own. No request is made but for bytes: which files
there are is known from the lake's manifests, and a file never changes.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from fsspec import AbstractFileSystem

from analytics.object_store import ObjectStore

# Whatever the store is: DuckDB keeps in memory what it read, from addresses that it knows to be far away.
SCHEME = "s3"
PREFIX = f"{SCHEME}://lake/"
# The same for ever, so that what it keeps stays valid.
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)


class LakeFiles(AbstractFileSystem):  # type: ignore[misc]
    """The filesystem to register with a DuckDB connection."""

    protocol = SCHEME
    cachable = False

    def __init__(self, store: ObjectStore) -> None:
        super().__init__()
        self._store = store

    def open(self, path: str, mode: str = "rb", **_: Any) -> _LakeFile:
        """A file to read; writing goes another way."""
        if mode not in ("rb", "r"):
            raise OSError(f"{path}: files of an object store are put whole")
        name = name_of(path)
        return _LakeFile(self._store, name, self._store.size(name))

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file of this name: a list of files is given, never a pattern."""
        return [path]

    def exists(self, path: str, **_: Any) -> bool:
        """Whether it is there: it is named by a manifest."""
        return True

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size and kind of a file."""
        return {"name": path, "size": self._store.size(name_of(path)), "type": "file"}

    def size(self, path: str) -> int:
        """Its bytes."""
        return self._store.size(name_of(path))

    def modified(self, path: str) -> datetime:
        """Long ago: a file never changes."""
        return _NEVER


class _LakeFile:
    """One open file; each thread has its own place in it."""

    def __init__(self, store: ObjectStore, name: str, size: int) -> None:
        self._store, self._file, self.size = store, name, size
        self._place = threading.local()
        self.closed = False

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move this thread's place."""
        start = {0: 0, 1: self.tell(), 2: self.size}[whence]
        self._place.at = start + offset
        return start + offset

    def tell(self) -> int:
        """This thread's place."""
        at: int = getattr(self._place, "at", 0)
        return at

    def read(self, length: int = -1) -> bytes:
        """The bytes from this thread's place on."""
        start = self.tell()
        end = self.size if length < 0 else min(start + length, self.size)
        if end <= start:
            return b""
        found = self._store.read_range(self._file, start, end)
        self._place.at = start + len(found)
        return found

    def close(self) -> None:
        """Nothing is held open."""
        self.closed = True


def name_of(path: str) -> str:
    """What the store calls a file that DuckDB reads."""
    return path.removeprefix(PREFIX)
