"""What a broken or hostile feed does to a quarter: each bad record is refused by file and line, the rest counts.

Source: contract.md section 4 (a bad record is quarantined, the rest goes on) and ingestion.md section 5 (reasons).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

A_LINE_OF_50_MB = b'{"deployment_id": "' + b"x" * 50_000_000 + b'"}'
MOST_EXCERPT_BYTES = 2048


def two_deployments(world: Any) -> Any:
    """A seed and one change that takes five hours, written as feeds and not yet pulled."""
    world.history(("first", 0), ("second", 5))
    world.deploy("d1", "first", 1)
    world.deploy("d2", "second", 10)
    world.write()
    return world


@pytest.fixture
def sound(world: Any) -> Any:
    """A world without faults."""
    return two_deployments(world)


@pytest.fixture
def insert(sound: Any) -> Callable[[str, int, bytes], None]:
    """Puts a line of bytes into a feed file of the sound world, at a line number counted from 1."""

    def insert_line(name: str, number: int, line: bytes) -> None:
        path = sound.feeds / name
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[: number - 1], line + b"\n", *lines[number - 1 :]]))

    return insert_line


Insert = Callable[[str, int, bytes], None]


def coverage(world: Any) -> dict[str, list[dict[str, Any]]]:
    """What `coverage` prints for programs."""
    answer: dict[str, list[dict[str, Any]]] = json.loads(world.command("coverage", "--format", "json"))
    return answer


def expect_measured(world: Any) -> None:
    """Pull and measure: the two sound deployments count as if nothing else had come."""
    world.command("pull")
    metrics = world.measure_landed()
    metrics.deployments(2)
    metrics.expect("change_lead_time", value=5, n=1, reason=None)


def place(origin: str, line: int) -> str:
    """Where `coverage` says that a record is; a whole file has no line."""
    return f"drops/{origin}:{line}" if line else f"drops/{origin}"


def expect_refused(world: Any, reason: str, origin: str, line: int) -> dict[str, Any]:
    """Exactly this one is refused, `coverage` says so for programs and for people, and the rest is measured."""
    expect_measured(world)
    (row,) = coverage(world)["quarantine"]
    assert (row["reason"], row["origin"], row["line"]) == (reason, origin, line)
    shown = world.command("coverage").splitlines()
    assert [text for text in shown if f"{place(origin, line)} " in text and f" {reason} " in text]
    return row


def deployment(world: Any, **fields: Any) -> bytes:
    """One line: a sound deployment, save for what is given; a field given as None is left out."""
    record = {
        "deployment_id": "bad",
        "repository": "acme/shop",
        "environment": "production",
        "sha": world.sha("second"),
        "status": "success",
        "created_at": world.stamp(20),
        "finished_at": world.stamp(20),
        **fields,
    }
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


# One fault at a time


def test_a_feed_without_faults_refuses_nothing(sound: Any) -> None:
    expect_measured(sound)
    assert "No record was refused." in sound.command("coverage")


def test_the_record_that_faults_are_made_from_is_sound_itself(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 2, deployment(sound))
    sound.command("pull")
    sound.measure_landed().deployments(3)


def test_a_truncated_line_is_refused(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 2, deployment(sound)[:60])
    expect_refused(sound, "json_truncated", "deployments.jsonl", 2)


def test_a_naive_time_is_refused(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 1, deployment(sound, finished_at="2026-01-05T20:00:00"))
    row = expect_refused(sound, "naive_time", "deployments.jsonl", 1)
    assert row["json_path"] == "$.finished_at"


def test_a_record_without_its_key_is_refused(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 3, deployment(sound, deployment_id=None))
    row = expect_refused(sound, "missing_id", "deployments.jsonl", 3)
    assert row["json_path"] == "$.deployment_id"


def test_a_line_of_50_mb_is_refused_and_not_kept(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 2, A_LINE_OF_50_MB)
    row = expect_refused(sound, "line_too_long", "deployments.jsonl", 2)
    assert len(row["excerpt"].encode()) <= MOST_EXCERPT_BYTES
    assert sum(file.stat().st_size for file in (sound.path / "data" / "landing").iterdir()) < 5_000_000


def test_a_file_of_no_entity_is_refused_by_name(sound: Any) -> None:
    (sound.feeds / "deploymints.jsonl").write_bytes(deployment(sound) + b"\n")
    row = expect_refused(sound, "unknown_entity", "deploymints.jsonl", 0)
    assert "did you mean 'deployments'" in row["detail"]


def test_a_record_from_the_future_counts_only_when_its_time_has_come(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 2, deployment(sound, created_at="2031-01-01T00:00:00Z", finished_at=None))
    row = expect_refused(sound, "after_cut_off", "deployments.jsonl", 2)
    assert row["kept"]
    assert "No record was refused." in sound.command("coverage")
    sound.at("2031-02-01T00:00:00Z")
    sound.declare()
    assert coverage(sound)["quarantine"] == []


def test_a_formula_in_a_name_of_a_csv_is_refused(sound: Any) -> None:
    (sound.feeds / "incidents.jsonl").unlink()
    times = f"{sound.stamp(11)},{sound.stamp(12)}"
    (sound.feeds / "incidents.csv").write_text(
        "incident_id,service,opened_at,resolved_at\n"
        f'i1,"=HYPERLINK(""http://evil.example"",""checkout"")",{times}\n'
        f"i2,checkout,{times}\n"
    )
    expect_refused(sound, "formula_in_name", "incidents.csv", 2)
    sound.metrics().expect("incident_time_to_restore", value=1, n=1)


def test_of_a_key_that_stands_twice_one_record_is_made(sound: Any, insert: Insert) -> None:
    twice = deployment(sound, deployment_id="d3").replace(b'"d3"', b'"d3", "deployment_id": "d4"')
    insert("deployments.jsonl", 3, twice)
    sound.command("pull")
    sound.measure_landed().deployments(3)
    assert sound.kinds() in ({"d1": "seed", "d2": "change", name: "noop"} for name in ("d3", "d4"))


def test_a_second_pull_of_a_bad_feed_lists_each_fault_once(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 2, deployment(sound)[:60])
    sound.command("pull")
    sound.command("pull")
    assert len(coverage(sound)["quarantine"]) == 1


def test_a_corrected_file_leaves_nothing_refused(sound: Any, insert: Insert) -> None:
    insert("deployments.jsonl", 2, deployment(sound)[:60])
    sound.command("pull")
    sound.write()
    expect_measured(sound)
    assert coverage(sound)["quarantine"] == []


def test_control_characters_in_names_reach_no_terminal(sound: Any, insert: Insert) -> None:
    (sound.feeds / "drill\x1b[2Js\u202e.jsonl").write_bytes(b"{}\n")
    insert("deployments.jsonl", 3, deployment(sound, deployment_id="d3\x1b]0;owned\x07\u202e"))
    sound.command("pull")
    sound.measure_landed().deployments(3)
    shown = sound.command("coverage") + sound.command("explain", "deployment_frequency", "--quarter", "2026-Q1")
    assert "drill\\x1b[2Js\\u202e.jsonl " in shown
    assert "d3\\x1b]0;owned\\x07\\u202e" in shown
    assert not {character for character in shown if not character.isprintable()} - {"\n"}


# All faults at once, one file each


FAULTS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "cut off in the middle": ("json_truncated", lambda world: deployment(world)[:40]),
    "a web page": ("html_body", lambda world: b"<!doctype html><title>502 Bad Gateway</title>"),
    "a list": ("not_an_object", lambda world: b"[1, 2, 3]"),
    "NUL bytes": ("not_json", lambda world: b"\0" * 4096),
    "NaN": ("not_json", lambda world: deployment(world, run_id=7).replace(b"7", b"NaN")),
    "not UTF-8": ("not_utf8", lambda world: deployment(world).replace(b"production", b"produc\xfftion")),
    "half a surrogate pair": ("not_json", lambda world: deployment(world).replace(b"production", rb"\ud800")),
    "10,000 deep": (
        "too_deep",
        lambda world: deployment(world)[:-1] + b', "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ),
    "100,000 deep and not closed": ("too_deep", lambda world: b"[" * 100_000),
    "9 MB": ("line_too_long", lambda world: deployment(world, ref="x" * 9_000_000)),
    "an empty key": ("missing_id", lambda world: deployment(world, deployment_id="")),
    "no commit": ("missing_key", lambda world: deployment(world, sha=None)),
    "no time": ("missing_time", lambda world: deployment(world, created_at=None)),
    "a day that is none": ("bad_time", lambda world: deployment(world, finished_at="2026-02-30T00:00:00Z")),
    "250 million years": ("bad_time", lambda world: deployment(world, finished_at="250000000-01-01T00:00:00Z")),
    "a year that UTC lacks": ("out_of_range", lambda world: deployment(world, finished_at="9999-12-31T23:59:59-01:00")),
    "before computers": ("out_of_range", lambda world: deployment(world, finished_at="0001-01-01T00:00:00Z")),
    "a number of 400 digits": ("out_of_range", lambda world: deployment(world, run_id=7).replace(b"7", b"9" * 400)),
    "a number of 65 bits": ("out_of_range", lambda world: deployment(world, run_id=2**64)),
    "attempt zero": ("out_of_range", lambda world: deployment(world, attempt=0)),
    "a text for a list": ("wrong_type", lambda world: deployment(world, labels="hotfix")),
}
WHOLE_FILES = {
    "gzip.jsonl.gz": ("bad_gzip", lambda line: gzip.compress(line)[:-4]),
    "table.parquet": ("bad_parquet", lambda line: b"PAR1 this is no table PAR1"),
    "wide.jsonl": ("not_utf8", lambda line: line.decode().encode("utf-16")),
    "columns.csv": ("bad_header", lambda line: b"colour,shape\nred,round\n"),
    "notes.txt": ("unknown_format", lambda line: b"ship it\n"),
}


@pytest.fixture(scope="module")
def hostile(new_world: Callable[[], Any]) -> Any:
    """Every fault on line 2 of its own file, between two sound records, and files that are bad as a whole."""
    world = two_deployments(new_world())
    plain = world.feeds / "deployments.jsonl"
    first, last = plain.read_bytes().splitlines()
    plain.unlink()
    folder = world.feeds / "deployments"
    folder.mkdir()
    for name, (_, fault) in FAULTS.items():
        (folder / f"{name}.jsonl").write_bytes(b"\n".join([first, fault(world), last]) + b"\n")
    for name, (_, content) in WHOLE_FILES.items():
        (folder / name).write_bytes(content(last + b"\n"))
    packed = gzip.compress(b'{"ref": "' + b" " * 200_000_000 + b'"}\n' + first + b"\n")
    assert len(packed) < 300_000
    (folder / "bomb.jsonl.gz").write_bytes(packed)
    outside = world.path / "outside.jsonl"
    outside.write_bytes(deployment(world) + b"\n")
    (folder / "link.jsonl").symlink_to(outside)
    (world.feeds / "drills.jsonl").symlink_to("/etc/passwd")
    world.command("pull")
    return world


@pytest.fixture(scope="module")
def hostile_coverage(hostile: Any) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """`coverage` of the hostile feed by file: its refused records and its window."""
    answer = coverage(hostile)
    origins = {row["origin"] for row in answer["quarantine"]} | {row["request_key"] for row in answer["windows"]}
    return {
        origin: {
            "quarantine": [row for row in answer["quarantine"] if row["origin"] == origin],
            "windows": [row for row in answer["windows"] if row["request_key"] == origin],
        }
        for origin in origins
    }


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_by_line_and_its_neighbours_land(name: str, hostile_coverage: dict[str, Any]) -> None:
    found = hostile_coverage[f"deployments/{name}.jsonl"]
    assert [(row["reason"], row["line"]) for row in found["quarantine"]] == [(FAULTS[name][0], 2)]
    assert [(window["items"], window["quarantined"]) for window in found["windows"]] == [(2, 1)]
    assert len(found["quarantine"][0]["excerpt"].encode()) <= MOST_EXCERPT_BYTES


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_file_that_cannot_be_read_is_refused_as_a_whole(name: str, hostile_coverage: dict[str, Any]) -> None:
    found = hostile_coverage[f"deployments/{name}"]
    assert [(row["reason"], row["line"]) for row in found["quarantine"]] == [(WHOLE_FILES[name][0], 0)]


def test_a_small_gzip_that_unpacks_into_a_huge_line_is_refused_by_line(hostile_coverage: dict[str, Any]) -> None:
    found = hostile_coverage["deployments/bomb.jsonl.gz"]
    assert [(row["reason"], row["line"]) for row in found["quarantine"]] == [("line_too_long", 1)]
    assert [window["items"] for window in found["windows"]] == [1]


@pytest.mark.parametrize("origin", ["deployments/link.jsonl", "drills.jsonl"])
def test_a_link_out_of_the_feed_folder_is_not_followed(origin: str, hostile_coverage: dict[str, Any]) -> None:
    found = hostile_coverage[origin]
    assert [(row["reason"], row["line"]) for row in found["quarantine"]] == [("outside_folder", 0)]


def test_a_feed_of_all_faults_measures_what_is_sound(hostile: Any) -> None:
    expect_measured(hostile)


def test_people_are_told_of_every_fault(hostile: Any, hostile_coverage: dict[str, Any]) -> None:
    refused = [row for found in hostile_coverage.values() for row in found["quarantine"]]
    shown = hostile.command("coverage")
    assert f"Refused records: {len(refused)} " in shown
    assert not [row for row in refused if f"{place(row['origin'], row['line'])} " not in shown]
    assert not {character for character in shown if not character.isprintable()} - {"\n"}
