"""Which files a source lands in: one, or one for each shard of its repositories, so that pulls can run side by side.

A repository belongs to the shard that a hash of its id says (of its name where it has none), whoever asks.
`landing/NAME.duckdb` holds a source that is not cut; `landing/NAME.K-of-N.duckdb` hold one that is, and
`landing/NAME.shards.json` says into how many: it is replaced at one stroke, so that a source that is cut anew is the
old files or the new ones, never a mixture. Source: architecture.md section 2 (one file per scope shard).
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from analytics import progress
from analytics.errors import FileInUseError, LandingError
from analytics.file_lock import file_lock
from analytics.settings import GitSource, Settings, Source

DEADLINE_SECONDS = 30.0
# Cutting a large source anew takes minutes, and whoever pulls a shard of it waits for that.
CUT_DEADLINE_SECONDS = 3600.0
_SHARD_FILE = re.compile(r"\.(\d+)-of-(\d+)\.duckdb")


@dataclass(frozen=True)
class Shard:
    """One shard of a source's repositories: number `number` (from 1) of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"


def shards_of(source: Source) -> int:
    """Into how many shards the settings want a source to be cut."""
    return int(getattr(source, "shards", 1))


def shard_number(subject: str, count: int) -> int:
    """The shard (1 to `count`) of a repository, the same in every process and on every machine."""
    digest = hashlib.sha256(subject.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


def subject_of(source: Source, request_key: str) -> str:
    """What a request belongs to: git's requests are repositories by name, an API's begin with a repository's id."""
    return request_key if isinstance(source, GitSource) else request_key.split("/", 1)[0]


def landing_path(settings: Settings, name: str, shard: Shard | None = None) -> Path:
    """Where a shard of the source of this name lands; the whole source where it is not cut."""
    middle = f".{shard.number}-of-{shard.count}" if shard is not None and shard.count > 1 else ""
    return settings.landing_dir / f"{name}{middle}.duckdb"


def present_count(settings: Settings, name: str) -> int | None:
    """Into how many shards what is landed of a source is cut; None where nothing is landed.

    Raises LandingError where it cannot be told.
    """
    note = _note_path(settings, name)
    try:
        count = json.loads(note.read_text(encoding="utf-8"))["shards"]
        if type(count) is not int or count < 2:
            raise ValueError
    except FileNotFoundError:
        return _guessed_count(settings, name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LandingError(
            "does not say into how many shards the source is cut",
            where=str(note),
            fix=f'Write {{"shards": N}} into it, where the files are named {name}.K-of-N.duckdb.',
        ) from error
    return count


def present_paths(settings: Settings, name: str) -> list[tuple[Shard, Path]]:
    """The files that hold what is landed of a source, missing ones of its shards included; none where nothing is."""
    count = present_count(settings, name)
    shards = [Shard(number, count) for number in range(1, count + 1)] if count else []
    return [(shard, landing_path(settings, name, shard)) for shard in shards]


def note_count(settings: Settings, name: str, count: int) -> None:
    """Say into how many shards a source is cut from now on; this alone makes other files count."""
    note = _note_path(settings, name)
    if count == 1:
        note.unlink(missing_ok=True)
        return
    settings.landing_dir.mkdir(parents=True, exist_ok=True)
    settings.temp_dir.mkdir(parents=True, exist_ok=True)
    half = settings.temp_dir / f"{uuid.uuid4().hex}.shards.json"
    half.write_text(json.dumps({"shards": count}) + "\n", encoding="utf-8")
    half.replace(note)


def left_over(settings: Settings, name: str) -> list[Path]:
    """Files of a source that do not count any more: a cut that was killed has not removed them."""
    present = {path for _, path in present_paths(settings, name)}
    return [path for path in _files(settings, name) if path not in present] if present else []


@contextmanager
def held(settings: Settings, name: str, *, alone: bool, deadline_seconds: float) -> Iterator[None]:
    """Keep a source cut as it is while the block lasts, beside others who do so, or `alone` so that it may be cut.

    Raises FileInUseError when the deadline has passed.
    """
    doing = "pulled" if alone else "cut into other shards"
    with locked(
        settings, f"{name}.shards.turn", alone=alone, deadline_seconds=deadline_seconds, doing=doing,
        where=f"source {name}",
    ):  # fmt: skip
        yield


@contextmanager
def locked(
    settings: Settings, file_name: str, *, alone: bool, deadline_seconds: float, doing: str, where: str
) -> Iterator[None]:
    """Hold the operating system's lock on a file of the storage, which ends with its process.

    Raises FileInUseError when the deadline has passed: `where` is being `doing` by another process.
    """

    def too_late() -> FileInUseError:
        return FileInUseError(
            f"is being {doing} by another process; waited {deadline_seconds:g} s",
            where=where,
            fix="Let it finish, or end it, then try again.",
        )

    def waiting() -> None:
        progress.report("landing", f"waiting for {where}, which is being {doing} by another process")

    path = settings.temp_dir / file_name
    with file_lock(path, alone=alone, deadline_seconds=deadline_seconds, too_late=too_late, waiting=waiting):
        yield


def _note_path(settings: Settings, name: str) -> Path:
    # Names of sources have no dot (settings), so that no two sources share a file.
    return settings.landing_dir / f"{name}.shards.json"


def _files(settings: Settings, name: str) -> list[Path]:
    whole = settings.landing_dir / f"{name}.duckdb"
    shards = [
        path
        for path in sorted(settings.landing_dir.glob(f"{name}.*-of-*.duckdb"))
        if _SHARD_FILE.fullmatch(path.name.removeprefix(name))
    ]
    return [whole, *shards] if whole.exists() else shards


def _guessed_count(settings: Settings, name: str) -> int | None:
    """Without a note the whole file counts, or the shards of the only cut there is, as after a careless restore."""
    files = _files(settings, name)
    if not files:
        return None
    if files[0] == landing_path(settings, name):
        return 1
    found = {int(match[2]) for path in files if (match := _SHARD_FILE.fullmatch(path.name.removeprefix(name)))}
    if len(found) > 1:
        raise LandingError(
            f"files of {' and of '.join(map(str, sorted(found)))} shards are there, and nothing says which count",
            where=str(settings.landing_dir / f"{name}.*.duckdb"),
            fix=f'Write {{"shards": N}} into {_note_path(settings, name).name} there, or move the wrong ones away.',
        )
    return found.pop()
