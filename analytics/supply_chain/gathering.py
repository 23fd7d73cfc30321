"""What there is to judge: bundles and SBOMs that sources landed and that folders hold, each once by its content.

Source: supply-chain.md section 1 (GitHub's API, other sources of bundles) and section 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from analytics.errors import SettingsError
from analytics.settings import FilesSource, Settings
from analytics.supply_chain.file_bytes import read_regular_file

# Larger files are not read: nothing that is judged is that large.
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FILES = 200_000
_BUNDLES_AT_ONCE = 2_000
_HOLDS_DOCUMENT = "coalesce(document_sha256 <> sha256('null'), false)"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document was found; `digest` is the artifact for which it was handed in, if that was said."""

    sha256: str
    origin: str
    digest: str | None = None


def landed_bundles(con: duckdb.DuckDBPyConnection) -> list[Place]:
    """The bundles of the view `attestations`, by the hash that stands beside them: known ones are never fetched."""
    rows = con.execute(
        "SELECT bundle_sha256, source || ':' || origin || ':' || line, lower(digest) "
        "FROM attestations WHERE bundle_sha256 IS NOT NULL ORDER BY ALL"
    ).fetchall()
    return [Place(sha256, origin, digest) for sha256, origin, digest in rows]


def landed_bundle_bytes(con: duckdb.DuckDBPyConnection, wanted: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of landed bundles by their hash, some thousand in memory at a time."""
    for first in range(0, len(wanted), _BUNDLES_AT_ONCE):
        # Fetched whole: another query of this connection, between two rows, would end the reading.
        yield from (
            (sha256, text.encode())
            for sha256, text in con.execute(
                "SELECT bundle_sha256, any_value(CAST(bundle AS VARCHAR)) FROM attestations "
                "WHERE bundle_sha256 IN (SELECT unnest(?::VARCHAR[])) GROUP BY bundle_sha256 ORDER BY bundle_sha256",
                [list(wanted[first : first + _BUNDLES_AT_ONCE])],
            ).fetchall()
        )


def landed_sboms(con: duckdb.DuckDBPyConnection) -> list[Place]:
    """The documents of the view `sboms` by their hash; records that hold a path are not here."""
    rows = con.execute(
        "SELECT document_sha256, source || ':' || origin || ':' || line, lower(digest) FROM sboms "
        f"WHERE {_HOLDS_DOCUMENT} ORDER BY ALL"
    ).fetchall()
    return [Place(sha256, origin, digest) for sha256, origin, digest in rows]


def landed_sbom_bytes(con: duckdb.DuckDBPyConnection, wanted: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of landed SBOMs by their hash, a few in memory at a time.

    Nothing else may be asked of `con` before the last one was taken.
    """
    con.execute("CREATE OR REPLACE TEMP TABLE wanted_sboms AS SELECT unnest(?::VARCHAR[]) AS sha256", [list(wanted)])
    found = con.execute(
        "SELECT DISTINCT ON (wanted.sha256) wanted.sha256, CAST(document AS VARCHAR) FROM sboms "
        "JOIN wanted_sboms AS wanted ON wanted.sha256 = document_sha256"
    )
    while rows := found.fetchmany(50):
        for sha256, text in rows:
            yield sha256, text.encode()


def handed_in_files(con: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[tuple[Place, bytes | str]]:
    """The SBOMs that records of the view `sboms` name by a path, or words where one cannot be read.

    A path is the source's own words: it is followed within the source's folder and nowhere else.
    """
    folders = {source.name: source.path for source in settings.sources if isinstance(source, FilesSource)}
    rows = con.execute(
        f"SELECT lower(digest), path, source, origin, line FROM sboms WHERE NOT {_HOLDS_DOCUMENT} ORDER BY ALL"
    ).fetchall()
    for digest, path, source, origin, line in rows:
        where = f"{source}:{origin}:{line}"
        try:
            if path is None:
                raise ValueError("the record holds neither a document nor a path")
            raw = _inside(folders.get(source), path)
        except (OSError, RuntimeError, ValueError) as error:
            named = f"{path[:200]!r} cannot be read: " if path is not None else ""
            yield unread(where, f"{where}: {named}{_words(error)}.", digest)
            continue
        yield Place(hashlib.sha256(raw).hexdigest(), where, digest), raw


def folder_files(settings: Settings, patterns: Sequence[str], key: str) -> Iterator[tuple[Place, bytes | str]]:
    """The files that the settings' globs name, each with its bytes, or with words where it cannot be read."""
    for path in files_of(settings, patterns, key):
        try:
            raw = read_file(path)
        except (OSError, ValueError) as error:
            yield unread(str(path), f"{path} cannot be read: {_words(error)}.", None)
            continue
        yield Place(hashlib.sha256(raw).hexdigest(), str(path)), raw


def unread(origin: str, words: str, digest: str | None) -> tuple[Place, str]:
    """What cannot be read is known by the words that say so, so that it is a row like the rest."""
    return Place(hashlib.sha256(words.encode("utf-8", "backslashreplace")).hexdigest(), origin, digest), words


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
    """A file's bytes; raises ValueError for one that is too large or no file, OSError for one that cannot be read."""
    return read_regular_file(path, MAX_FILE_BYTES)


def _inside(folder: Path | None, path: str) -> bytes:
    if folder is None:
        raise ValueError("only a source of files has a folder to look in")
    if "\0" in path:
        raise ValueError("it is no path")
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError("it lies outside the source's folder")
    return read_file(target)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) or type(error).__name__
