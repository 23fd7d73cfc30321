"""What is read without the turn, while a stage writes: one state of all tables that are asked for."""

from __future__ import annotations

import uuid
from pathlib import Path

import duckdb
import pytest

from analytics.errors import LakeError
from analytics.lake import reading
from analytics.lake.reading import read_tables
from analytics.lake.tables import clear_table
from analytics.lake.turns import lake_turn
from analytics.lake.version import note_lake_version
from analytics.settings import Settings, load_settings
from tests.unit.lake.incident_table import TABLE, write

BOTH = ("2026-01-05", "2026-04-05")


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A lake in a folder, and one in a store."""
    storage = "" if request.param == "folder" else f"storage: memory://reading-{uuid.uuid4().hex}\n"
    path = tmp_path / "quarterdeck.yaml"
    path.write_text(f"organization: A\n{storage}", encoding="utf-8")
    settings = load_settings(path)
    write(settings, *BOTH, key="a")
    return settings


def read_keys(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [key for (key,) in con.execute(f"SELECT incident_key FROM {TABLE} ORDER BY 1").fetchall()]


def test_two_queries_of_one_reading_never_see_two_states(place: Settings) -> None:
    writes = iter(["b"])

    def read(con: duckdb.DuckDBPyConnection) -> list[list[str]]:
        first = read_keys(con)
        for key in writes:
            write(place, *BOTH, key=key)
        return [first, read_keys(con)]

    first, second = read_tables(place, [TABLE], read)
    # Of a folder what is there now; of a store what was there when it was asked for.
    assert first == second == (["b0", "b1"] if place.lake_url is None else ["a0", "a1"])


def test_a_table_that_lost_its_files_while_it_was_read_is_read_again(place: Settings) -> None:
    writes = iter([1])

    def read(con: duckdb.DuckDBPyConnection) -> list[str]:
        for _ in writes:
            clear_table(place, TABLE)
        return read_keys(con)

    assert read_tables(place, [TABLE], read) == ([] if place.lake_url is None else ["a0", "a1"])


def test_an_error_of_what_is_not_being_written_is_raised_at_once(place: Settings) -> None:
    asked = []

    def read(con: duckdb.DuckDBPyConnection) -> None:
        asked.append(con)
        con.execute(f"SELECT nothing_of_this_name FROM {TABLE}")

    with pytest.raises(duckdb.BinderException):
        read_tables(place, [TABLE], read)
    assert len(asked) == 1


def test_who_writes_all_the_while_is_named(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_WAIT_SECONDS", (0.0, 0.0))
    path = tmp_path / "folder.yaml"
    path.write_text("organization: A\n", encoding="utf-8")
    folder = load_settings(path)
    write(folder, *BOTH)
    note_lake_version(folder)
    with (
        lake_turn(folder, "verify"),
        pytest.raises(LakeError, match=r"is being written by verify in process .* while that it is read"),
    ):
        read_tables(folder, [TABLE], lambda _: write(folder, *BOTH))
