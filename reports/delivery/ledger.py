"""What was delivered of which pack: one file for each pack and destination, so that nothing is sent twice.

An attempt is noted before it begins. One that neither succeeded nor failed, because the process was killed, stays
`sending`: whoever comes next knows that it may have arrived.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from analytics.errors import PackError
from analytics.file_lock import file_lock
from analytics.settings import Settings

State = Literal["new", "sending", "sent", "failed"]


@dataclass
class Entry:
    """A pack's delivery to one destination: its state and every attempt, with its time (UTC) and what came of it."""

    pack: str
    pack_id: str
    delivery: str
    state: State = "new"
    attempts: list[dict[str, str]] = field(default_factory=list)


class Ledger:
    """The entries of a workspace, below its storage."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.storage / "deliveries"

    @contextmanager
    def entry(self, pack: str, pack_id: str, delivery: str) -> Iterator[Entry]:
        """The entry of a pack and destination, for one process at a time; raises PackError when another holds it."""
        path = self._path(pack_id, delivery)

        def too_late() -> PackError:
            return PackError(
                f"{pack} is being delivered to {delivery} by another process",
                where=str(path),
                fix="Let it finish, then run `quarterdeck deliver`.",
            )

        with file_lock(path.with_suffix(".lock"), too_late=too_late):
            yield self._read(path) or Entry(pack, pack_id, delivery)

    def note(self, entry: Entry, state: State, words: str) -> None:
        """Write a new state with the words for it; the file is replaced whole."""
        entry.state = state
        entry.attempts.append({"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "state": state, "words": words})
        path = self._path(entry.pack_id, entry.delivery)
        work = path.with_name(f".{uuid.uuid4().hex}")
        with work.open("w", encoding="utf-8") as file:
            json.dump(asdict(entry), file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)

    def entries(self) -> list[Entry]:
        """Every entry, by pack and destination."""
        found = [self._read(path) for path in sorted(self._folder.glob("*.json"))] if self._folder.is_dir() else []
        return sorted((one for one in found if one is not None), key=lambda one: (one.pack, one.delivery))

    def _path(self, pack_id: str, delivery: str) -> Path:
        return self._folder / f"{pack_id[:32]}-{delivery}.json"

    @staticmethod
    def _read(path: Path) -> Entry | None:
        try:
            value: Any = json.loads(path.read_text(encoding="utf-8"))
            return Entry(**value)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise PackError(
                "the record of a delivery cannot be read", where=str(path), fix="Remove it to deliver the pack again."
            ) from error
