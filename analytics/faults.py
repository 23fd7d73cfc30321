"""Faults of the machine, in words: a full disk, a read-only folder, too little memory, a damaged file.

They can come up in any stage and from any library, so that they are translated where an error leaves a stage: at the
command line and in the Dagster assets.
"""

from __future__ import annotations

import errno
import re

from analytics.errors import QuarterdeckError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|failed to offload data block|max_temp_directory_size"
    # What Polars says of a Parquet file whose end could not be written.
    r"|Invalid thrift: transport error"
)
# Of DuckDB, also where Polars was reading its rows.
_MEMORY_WORDS = re.compile(r"(?:^|external error: )Out of Memory Error: ")
_FORBIDDEN_WORDS = re.compile(r"Read-only file system|Permission denied|Operation not permitted")
_DAMAGED_WORDS = re.compile(
    r"No magic bytes|Corrupt database file|checksum|TProtocolException"
    r"|Invalid.*parquet|parquet.*(?:invalid|corrupt|specification)"
    r"|not a valid DuckDB database|too small to be a Parquet|Failed to read Parquet|ZSTD Decompression failure"
    r"|don't know what type|Snappy decompression"
    # What DuckDB says of a file's pages and notes without naming it.
    r"|Out of buffer|Payload value bigger than allowed|Varint-decoding found|Variable-length int over"
    r"|Could not read enough bytes from file",
    re.I,
)
# What an object store refused while DuckDB read it (`analytics.lake_files`), and how such a file is named.
_REFUSED = re.compile(r"^LakeError: (?P<what>.*)\n  (?P<fix>.*)$", re.M)
_STORED = re.compile(r"s3://lake/")
_PATH = re.compile(r"""["'](/[^"'\n]+)["']""")
# Errors of DuckDB and Polars are known by name, so that a quick command need not load either.
_ENGINES = ("duckdb", "_duckdb", "polars")

FULL_FIX = "Make room, or set `engine.max_temp_directory_size` if only the spill was too large; then run it again."
FORBIDDEN_FIX = "Make it writable for this user, or correct `storage`; then run it again."
MEMORY_FIX = "Raise `engine.memory_limit`, or lower `engine.threads`; then run it again."
ZONE_FIX = "Write another name of the same zone in the settings, such as the largest city in it."
DAMAGED_FIX = (
    "Remove it where it lies below `lake`: `quarterdeck build`, `verify` and `measure` make it again. "
    "Move a damaged landing file away and run `quarterdeck pull`."
)
DAMAGED_STORED_FIX = (
    "Remove the table's `_table.json` and its folders `_…` from the object store: `quarterdeck build`, `verify` and "
    "`measure` write it again."
)


def in_words(error: BaseException) -> QuarterdeckError | None:
    """What a fault of the machine means for a person; None for any other error, and for one that says so already."""
    if isinstance(error, QuarterdeckError):
        return None
    if isinstance(error, MemoryError):
        return QuarterdeckError("there is not enough memory", fix=MEMORY_FIX)
    text = str(error)
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else _path(text)
        if error.errno in _FULL:
            return QuarterdeckError(f"no room left ({error.strerror})", where=where, fix=FULL_FIX)
        if error.errno in _FORBIDDEN:
            return QuarterdeckError(f"cannot be written ({error.strerror})", where=where, fix=FORBIDDEN_FIX)
    if not any(kind.__module__.partition(".")[0] in _ENGINES for kind in type(error).__mro__):
        return None
    first = text.partition("\n")[0][:500]
    refused = _REFUSED.search(text)
    if refused:
        return QuarterdeckError(refused["what"], fix=refused["fix"])
    if "Unknown TimeZone" in text:
        return QuarterdeckError(f"DuckDB does not know the time zone: {first}", where="time_zone", fix=ZONE_FIX)
    # The spill that may grow no more is reported as memory that cannot be had.
    if _FULL_WORDS.search(text):
        return QuarterdeckError(f"no room left: {first}", where=_path(text), fix=FULL_FIX)
    if type(error).__name__ == "OutOfMemoryException" or _MEMORY_WORDS.search(text):
        return QuarterdeckError(f"there is not enough memory: {first}", fix=MEMORY_FIX)
    if _FORBIDDEN_WORDS.search(text):
        return QuarterdeckError(f"cannot be written: {first}", where=_path(text), fix=FORBIDDEN_FIX)
    if _DAMAGED_WORDS.search(text):
        fix = DAMAGED_STORED_FIX if _STORED.search(text) else DAMAGED_FIX
        return QuarterdeckError(f"a file is damaged: {first}", where=_path(text), fix=fix)
    return None


def is_interruption(error: BaseException) -> bool:
    """Whether a signal such as Ctrl-C ended a query: DuckDB raises this in the place of what its handler raised."""
    return type(error) is RuntimeError and str(error) == "Query interrupted"


def _path(text: str) -> str | None:
    match = _PATH.search(text)
    return match[1] if match else None
