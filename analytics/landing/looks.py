"""One look at a source's repositories for all its shards: whoever comes first asks, the others take what was told.

A large organisation is thousands of questions before the first repository is read; eight shards need not ask them eight
times. A shard takes no look twice, so that pulling again always sees what is new; one that is taken a little late tells
less, never anything wrong. Source: ingestion.md section 5 (budget, organisation sweep).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from analytics.landing.shards import CUT_DEADLINE_SECONDS, Shard, locked
from analytics.settings import Settings

# A nightly run begins its shards within minutes, and reads for longer than a look is old.
FRESH = timedelta(minutes=15)


class _Note(msgspec.Struct):
    """Which look is kept: the file that holds it, what it answers, when it was begun, which shards have taken it."""

    file: str
    question: str
    begun_at: datetime
    taken_by: list[int]


def shared_look(
    settings: Settings, name: str, shard: Shard, question: Sequence[object], look: Callable[[], bytes]
) -> bytes:
    """What `look` gives, or gave another shard within a quarter of an hour, which this shard has not taken yet.

    `question` is what the answer depends on. Raises FileInUseError when another process has looked for an hour, and
    what `look` raises.
    """
    asked = hashlib.sha256(msgspec.json.encode([*map(str, question), shard.count])).hexdigest()
    note_path, turn = settings.temp_dir / f"{name}.look.json", f"{name}.look.turn"
    with locked(
        settings, turn, alone=True, deadline_seconds=CUT_DEADLINE_SECONDS,
        doing="asked for its repositories", where=f"source {name}",
    ):  # fmt: skip
        note = _noted(note_path)
        kept = _kept(settings, note, asked, shard) if note is not None else None
        if note is None or kept is None:
            note = _Note(f"{name}.look.{uuid.uuid4().hex}.json", asked, datetime.now(UTC), [])
            kept = look()
            _write(settings.temp_dir / note.file, kept)
        note.taken_by.append(shard.number)
        _write(note_path, msgspec.json.encode(note))
        for old in settings.temp_dir.glob(f"{name}.look.*"):
            if old.name not in (note.file, note_path.name, turn):
                old.unlink(missing_ok=True)
        return kept


def _noted(path: Path) -> _Note | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Note)
    except (OSError, ValueError):  # none yet, or not readable: it is asked again
        return None


def _kept(settings: Settings, note: _Note, asked: str, shard: Shard) -> bytes | None:
    age = datetime.now(UTC) - note.begun_at
    if note.question != asked or shard.number in note.taken_by or not timedelta(0) <= age <= FRESH:
        return None
    try:
        # The name alone: nothing outside the folder is read.
        return (settings.temp_dir / Path(note.file).name).read_bytes()
    except OSError:
        return None


def _write(path: Path, content: bytes) -> None:
    half = path.with_name(f"{path.name}.half")
    half.write_bytes(content)
    half.replace(path)
