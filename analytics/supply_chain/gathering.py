"""What there is to judge: bundles and SBOMs that sources landed and that folders hold, each once by its content.

Source: supply-chain.md section 1 (GitHub's API, other sources of bundles) and section 2.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from analytics.errors import SettingsError
from analytics.settings import FilesSource, Settings

# Larger files are not read: nothing that is judged is that large.
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FILES = 200_000
_BUNDLES_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document was found; `digest` is the artifact for which it was handed in, if that was said."""

    sha256: str
    origin: str
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """A document that could not be read at all: where, for which artifact, and why."""

    origin: str
    digest: str | None
    reason: str


def landed_bundles(con: duckdb.DuckDBPyConnection) -> list[Place]:
    """The bundles of the view `attestations`; they are hashed where they lie, so that known ones are never fetched."""
    rows = con.execute(
        "SELECT sha256(CAST(bundle AS VARCHAR)), source || ':' || origin || ':' || line, lower(digest) "
        "FROM attestations ORDER BY ALL"
    ).fetchall()
    return [Place(sha256, origin, digest) for sha256, origin, digest in rows]


def landed_bundle_bytes(con: duckdb.DuckDBPyConnection, wanted: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of landed bundles by their hash, some thousand in memory at a time."""
    for first in range(0, len(wanted), _BUNDLES_AT_ONCE):
        # Fetched whole: another query of this connection, between two rows, would end the reading.
        yield from (
            (sha256, text.encode())
            for sha256, text in con.execute(
                "SELECT sha256, any_value(text) FROM (SELECT CAST(bundle AS VARCHAR) AS text, sha256(text) AS sha256 "
                "FROM attestations) WHERE sha256 IN (SELECT unnest(?::VARCHAR[])) GROUP BY sha256 ORDER BY sha256",
                [list(wanted[first : first + _BUNDLES_AT_ONCE])],
            ).fetchall()
        )


def landed_sboms(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> tuple[dict[str, bytes], list[Place], list[Unread]]:
    """The SBOMs of the view `sboms`: documents by hash, their places, and those whose path cannot be read.

    A path is the source's own words: it is followed within the source's folder and nowhere else.
    """
    folders = {source.name: source.path for source in settings.sources if isinstance(source, FilesSource)}
    documents: dict[str, bytes] = {}
    places: list[Place] = []
    unread: list[Unread] = []
    rows = con.execute(
        "SELECT lower(digest), CAST(document AS VARCHAR), path, source, origin, line FROM sboms ORDER BY ALL"
    )
    while batch := rows.fetchmany(200):
        for digest, document, path, source, origin, line in batch:
            where = f"{source}:{origin}:{line}"
            if document is not None and document != "null":
                raw = document.encode()
            elif path is None:
                unread.append(Unread(where, digest, "the record holds neither a document nor a path"))
                continue
            else:
                try:
                    raw = _inside(folders.get(source), path)
                except (OSError, ValueError) as error:
                    unread.append(Unread(where, digest, f"{path[:200]!r} cannot be read: {_words(error)}"))
                    continue
            sha256 = hashlib.sha256(raw).hexdigest()
            documents[sha256] = raw
            places.append(Place(sha256, where, digest))
    return documents, places, unread


def files_of(settings: Settings, patterns: Sequence[str], key: str) -> list[Path]:
    """The files that the settings' globs name, relative to the settings file; raises SettingsError for too many."""
    base = settings.settings_path.parent
    found: dict[Path, None] = {}
    for pattern in patterns:
        root, rest = base, pattern
        if (absolute := Path(pattern).expanduser()).is_absolute():
            root, rest = Path(absolute.anchor), str(absolute.relative_to(absolute.anchor))
        for path in sorted(root.glob(rest)):
            if path.is_file():
                found[path] = None
            if len(found) > MAX_FILES:
                raise SettingsError(
                    f"supply_chain.{key} names more than {MAX_FILES:,} files",
                    where=str(settings.settings_path),
                    fix="Name a smaller folder.",
                )
    return list(found)


def read_file(path: Path) -> bytes:
    """A file's bytes; raises ValueError for one that is too large, and OSError for one that cannot be read."""
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"it is longer than {MAX_FILE_BYTES:,} bytes")
    return raw


def _inside(folder: Path | None, path: str) -> bytes:
    if folder is None:
        raise ValueError("only a source of files has a folder to look in")
    if "\0" in path:
        raise ValueError("it is no path")
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError("it lies outside the source's folder")
    if not stat.S_ISREG(target.stat().st_mode):
        raise ValueError("it is no file")
    return read_file(target)


def _words(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
