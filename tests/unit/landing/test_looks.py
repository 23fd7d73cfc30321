"""What one shard was told of the repositories, the others take; nobody takes it twice, or late."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from analytics.errors import SourceError
from analytics.landing.looks import FRESH, shared_look
from analytics.landing.shards import Shard
from analytics.settings import Settings


class Host:
    """Gives another answer each time it is looked at."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.looks = 0

    def look(self) -> bytes:
        self.looks += 1
        return f"look {self.looks}".encode()

    def taken(self, number: int, count: int = 3, question: Sequence[object] = ("acme",)) -> str:
        return shared_look(self.settings, "hub", Shard(number, count), question, self.look).decode()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(Settings(organization="Acme", storage=tmp_path))


def test_shards_take_one_look_and_the_next_pull_looks_anew(host: Host) -> None:
    assert [host.taken(number) for number in (2, 1, 3)] == ["look 1"] * 3
    assert [host.taken(number) for number in (3, 1, 2)] == ["look 2"] * 3


def test_pulling_one_shard_again_and_again_always_looks(host: Host) -> None:
    assert [host.taken(1) for _ in range(3)] == ["look 1", "look 2", "look 3"]
    assert host.taken(2) == "look 3"


def test_another_question_and_another_number_of_shards_are_looked_for(host: Host) -> None:
    assert host.taken(1) == "look 1"
    assert host.taken(2, question=("acme", "acme/shop")) == "look 2"
    assert host.taken(2, count=4, question=("acme", "acme/shop")) == "look 3"


@pytest.mark.parametrize("hours", [FRESH / timedelta(hours=1) + 0.01, -0.01])
def test_a_look_that_is_old_or_of_the_future_is_not_taken(host: Host, hours: float) -> None:
    host.taken(1)
    path = host.settings.temp_dir / "hub.look.json"
    note = json.loads(path.read_text(encoding="utf-8"))
    note["begun_at"] = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    path.write_text(json.dumps(note), encoding="utf-8")
    assert host.taken(2) == "look 2"
    # Nothing else of the note stood in the way.
    assert host.taken(3) == "look 2"


def test_shards_that_begin_at_once_wait_for_the_one_that_looks(host: Host) -> None:
    look, began = host.look, threading.Event()

    def slowly() -> bytes:
        began.set()
        time.sleep(0.2)
        return look()

    host.look = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(host.taken, (1, 2, 3))) == {"look 1"}
    assert began.is_set()


def test_a_look_that_fails_is_that_of_nobody(host: Host) -> None:
    look = host.look

    def fail() -> bytes:
        raise SourceError("unreachable")

    host.look = fail  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="unreachable"):
        host.taken(1)
    host.look = look  # type: ignore[method-assign]
    assert host.taken(1) == host.taken(2) == "look 1"


@pytest.mark.parametrize("text", [b"", b"{}", b'{"file": "../../etc/passwd", "question": "", "taken_by": []}'])
def test_a_note_that_is_damaged_is_a_reason_to_look(host: Host, text: bytes) -> None:
    host.taken(1)
    (host.settings.temp_dir / "hub.look.json").write_bytes(text)
    assert host.taken(2) == "look 2"


def test_no_more_than_the_newest_look_is_kept(host: Host) -> None:
    for _ in range(3):
        host.taken(1)
    assert len(list(host.settings.temp_dir.glob("*.look.*.json"))) == 1
