"""What a lake is asked, wherever it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file of a table, as DuckDB names it, its quarter and its columns."""

    path: str
    quarter: str
    columns: frozenset[str]


class Lake(Protocol):
    """One place of tables. `name` is a table's name; a quarter is `2026-Q1`, or `undated`."""

    def place(self, name: str = "") -> str:
        """Where a table is, or the whole lake: a path or a URL."""

    def files(self, name: str) -> list[LakeFile]:
        """A table's files as they are now; raises LakeError for what is damaged."""

    def read_list(self, name: str, files: Sequence[LakeFile]) -> str:
        """SQL of what `read_parquet` is given to read them."""

    def state(self, name: str) -> object:
        """What is equal as long as whoever was given a `read_list` of a table reads the same by it."""

    def address(self, file: LakeFile) -> str:
        """A file's path or URL, for engines that have their own access to the place."""

    def quarters(self, name: str) -> list[str]:
        """Quarters that have a file."""

    def replace(self, name: str, built: Path, partitions: Collection[str] | None = None) -> None:
        """Make the files below a folder (`<word>=<quarter>/*.parquet`) the table, or the named quarters of it.

        They have the same columns. They are moved or copied, whole; what these quarters held before is no longer read.
        """

    def exchange(self, name: str, built: Path, gone: Collection[LakeFile]) -> None:
        """Put the files below a folder in the place of some of a table's files; all its other files stay.

        They have the columns that those which stay have in the same quarter.
        """

    def settle(self) -> list[str]:
        """Bring writes to their end that a killed stage has begun; the tables that were concerned.

        Only whoever has the turn may ask for it. Raises LakeError for what cannot be brought to an end.
        """

    def digests(self, name: str) -> dict[str, list[tuple[str, str]]]:
        """By quarter: the path of each file and a digest without blanks, another one where it holds other bytes."""

    def read_note(self) -> bytes | None:
        """What is noted of the whole lake; None where nothing is."""

    def write_note(self, text: bytes) -> None:
        """Note something of the whole lake, at once."""

    def note_place(self) -> str:
        """Where the note is."""

    def is_empty(self) -> bool:
        """Whether no table was ever written."""
