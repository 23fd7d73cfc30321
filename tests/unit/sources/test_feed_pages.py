"""Pages of one feed file: growth, rewriting, resuming, provisional endings and lines without end."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from analytics.sources import feed_pages
from analytics.sources.feed_lines import MAX_LINE_BYTES
from analytics.sources.port import Cursor
from tests.unit.sources.feed_world import LONG_AGO_NS, Feeds, deployment, jsonl

NAME = "deployments.jsonl"


@pytest.fixture
def feeds(tmp_path: Path) -> Feeds:
    return Feeds(tmp_path / "feeds")


def ids(payloads: list[dict[str, object]]) -> list[object]:
    return [payload["deployment_id"] for payload in payloads]


def test_lines_are_numbered_as_they_stand(feeds: Feeds) -> None:
    feeds.write(NAME, b"\xef\xbb\xbf" + jsonl(deployment(1)) + b"\n  \r\n" + jsonl(deployment(2)))
    reading = feeds.read("deployments", NAME)
    assert reading.lines == [1, 4]
    assert reading.refusals == []


def test_an_unchanged_file_gives_nothing(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1)))
    first = feeds.read("deployments", NAME)
    assert feeds.read("deployments", NAME, first.cursor).pages == []


def test_a_file_whose_times_alone_changed_gives_nothing(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1)))
    first = feeds.read("deployments", NAME)
    feeds.age(NAME)
    assert feeds.read("deployments", NAME, first.cursor).pages == []


def test_an_empty_file_gives_one_empty_page(feeds: Feeds) -> None:
    feeds.write(NAME, b"")
    first = feeds.read("deployments", NAME)
    assert [(page.records, page.refusals) for page in first.pages] == [([], [])]
    assert feeds.read("deployments", NAME, first.cursor).pages == []


def test_of_a_file_that_grew_only_the_tail_is_read(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1), deployment(2)))
    first = feeds.read("deployments", NAME)
    feeds.append(NAME, jsonl(deployment(3)))
    grown = feeds.read("deployments", NAME, first.cursor)
    assert (grown.generation, grown.lines, ids(grown.payloads)) == (1, [3], [3])


def test_a_rewritten_file_is_read_again_as_the_next_generation(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1), deployment(2)))
    first = feeds.read("deployments", NAME)
    feeds.write(NAME, jsonl(deployment(9), deployment(2), deployment(3)))
    again = feeds.read("deployments", NAME, first.cursor)
    assert (again.generation, again.lines, ids(again.payloads)) == (2, [1, 2, 3], [9, 2, 3])


def test_a_file_rewritten_within_its_size_is_noticed(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1, status="success")))
    first = feeds.read("deployments", NAME)
    before = (feeds.folder / NAME).stat()
    feeds.write(NAME, jsonl(deployment(1, status="failure")))
    # Even with its old times put back.
    os.utime(feeds.folder / NAME, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert feeds.read("deployments", NAME, first.cursor).generation == 2


@pytest.mark.parametrize(("seconds_before_reading", "is_noticed"), [(1, True), (3600, False)])
def test_times_and_size_are_trusted_once_the_clock_has_ticked(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch, seconds_before_reading: int, is_noticed: bool
) -> None:
    at = LONG_AGO_NS
    same = {"size": 100, "mtime_ns": at, "ctime_ns": at, "inode": 1}
    read_ns = at + seconds_before_reading * 1_000_000_000
    monkeypatch.setattr(feed_pages, "_fingerprint", lambda file: same | {"read_ns": read_ns})
    feeds.write(NAME, b'{"a": 1}\n')
    first = feeds.read("deployments", NAME)
    feeds.write(NAME, b'{"a": 2}\n')
    assert bool(feeds.read("deployments", NAME, first.cursor).pages) is is_noticed


def test_a_file_that_shrank_is_read_again(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1), deployment(2)))
    first = feeds.read("deployments", NAME)
    feeds.write(NAME, jsonl(deployment(1)))
    again = feeds.read("deployments", NAME, first.cursor)
    assert (again.generation, again.lines) == (2, [1])


def test_a_last_line_without_newline_is_taken_when_it_is_whole(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1)) + jsonl(deployment(2)).rstrip())
    first = feeds.read("deployments", NAME)
    assert first.lines == [1, 2]
    feeds.append(NAME, b"\n" + jsonl(deployment(3)))
    grown = feeds.read("deployments", NAME, first.cursor)
    assert (grown.generation, grown.lines) == (1, [3])


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_the_late_newline_of_a_taken_line_is_no_line(feeds: Feeds, ending: bytes) -> None:
    feeds.write(NAME, jsonl(deployment(1)).rstrip())
    first = feeds.read("deployments", NAME)
    feeds.append(NAME, ending[:1])
    second = feeds.read("deployments", NAME, first.cursor)
    feeds.append(NAME, ending[1:] + jsonl(deployment(2)))
    third = feeds.read("deployments", NAME, second.cursor)
    assert (second.lines, third.lines, third.generation) == ([], [2], 1)


def test_a_taken_line_that_goes_on_is_read_again(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1)).rstrip())
    first = feeds.read("deployments", NAME)
    feeds.append(NAME, b" trailing\n")
    again = feeds.read("deployments", NAME, first.cursor)
    assert again.generation == 2
    assert again.pages[0].records[0].payload.endswith(b"trailing")


def test_a_half_written_last_line_is_refused_for_now(feeds: Feeds) -> None:
    whole = jsonl(deployment(2))
    feeds.write(NAME, jsonl(deployment(1)) + whole[:20])
    first = feeds.read("deployments", NAME)
    assert (first.lines, first.refusals) == ([1], [(2, "json_truncated")])
    assert feeds.read("deployments", NAME, first.cursor).pages == []

    feeds.append(NAME, whole[20:])
    second = feeds.read("deployments", NAME, first.cursor)
    assert (second.generation, second.lines, second.refusals) == (1, [2], [])
    assert second.pages[0].forget_refusals_after_line == 1


def test_a_half_written_last_line_that_grows_a_little_stays_refused_once(feeds: Feeds) -> None:
    whole = jsonl(deployment(2))
    feeds.write(NAME, jsonl(deployment(1)) + whole[:20])
    first = feeds.read("deployments", NAME)
    feeds.append(NAME, whole[20:30])
    second = feeds.read("deployments", NAME, first.cursor)
    assert second.refusals == [(2, "json_truncated")]
    assert second.pages[0].forget_refusals_after_line == 1


def test_a_long_line_is_refused_and_the_rest_goes_on(feeds: Feeds) -> None:
    long = b'{"title": "' + b"x" * MAX_LINE_BYTES + b'"}\n'
    feeds.write(NAME, jsonl(deployment(1)) + long + jsonl(deployment(2)))
    reading = feeds.read("deployments", NAME)
    assert (reading.lines, reading.refusals) == ([1, 3], [(2, "line_too_long")])
    (found,) = reading.pages[0].refusals
    assert found.sha256 == hashlib.sha256(long).hexdigest()
    assert found.excerpt == long[:2048]


def test_a_line_of_just_the_cap_is_read(feeds: Feeds) -> None:
    line = b'{"a":"' + b"x" * (MAX_LINE_BYTES - 9) + b'"}\n'
    assert len(line) == MAX_LINE_BYTES
    feeds.write(NAME, line + jsonl(deployment(2)))
    assert feeds.read("deployments", NAME).lines == [1, 2]


def test_a_file_with_a_long_line_is_resumed_behind_it(feeds: Feeds) -> None:
    feeds.write(NAME, b"x" * (MAX_LINE_BYTES + 5) + b"\n" + jsonl(deployment(1)))
    first = feeds.read("deployments", NAME)
    assert feeds.read("deployments", NAME, first.cursor).pages == []
    feeds.append(NAME, jsonl(deployment(2)))
    assert feeds.read("deployments", NAME, first.cursor).lines == [3]


def test_a_line_of_fifty_megabytes_is_never_held(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    class Watched:
        def __init__(self, stream: object) -> None:
            self.readline_of = stream.readline  # type: ignore[attr-defined]

        def readline(self, size: int) -> bytes:
            nonlocal largest
            data: bytes = self.readline_of(size)
            largest = max(largest, len(data))
            return data

    lines = feed_pages.bounded_lines
    monkeypatch.setattr(feed_pages, "bounded_lines", lambda stream, *rest: lines(Watched(stream), *rest))
    with (feeds.folder / NAME).open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 1024 * 1024)
        file.write(b"\n" + jsonl(deployment(1)))
    reading = feeds.read("deployments", NAME)
    assert (reading.lines, reading.refusals) == ([2], [(1, "line_too_long")])
    assert largest <= MAX_LINE_BYTES + 1
    assert "52,428,801 bytes" in reading.pages[0].refusals[0].detail


def test_a_utf_16_file_is_refused_as_a_whole(feeds: Feeds) -> None:
    feeds.write(NAME, jsonl(deployment(1)).decode().encode("utf-16"))
    first = feeds.read("deployments", NAME)
    assert (first.lines, first.refusals) == ([], [(0, "not_utf8")])
    assert feeds.read("deployments", NAME, first.cursor).pages == []
    feeds.write(NAME, jsonl(deployment(1)))
    assert feeds.read("deployments", NAME, first.cursor).lines == [1]


def test_pages_end_at_so_many_records(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_pages, "PAGE_RECORDS", 3)
    feeds.write(NAME, jsonl(*(deployment(n) for n in range(8))))
    reading = feeds.read("deployments", NAME)
    assert [len(page.records) for page in reading.pages] == [3, 3, 2]


def test_pages_end_at_so_many_bytes(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_pages, "PAGE_BYTES", 250)
    feeds.write(NAME, jsonl(*(deployment(n) for n in range(4))))
    assert [len(page.records) for page in feeds.read("deployments", NAME).pages] == [2, 2, 0]


def test_a_file_of_blank_lines_is_read_in_pages_too(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_pages, "PAGE_BYTES", 1000)
    monkeypatch.setattr(feed_pages, "PAGE_RECORDS", 100)
    feeds.write(NAME, b" \n" * 2000 + jsonl(deployment(1)))
    reading = feeds.read("deployments", NAME)
    assert len(reading.pages) == 5
    assert reading.lines == [2001]
    assert feeds.read("deployments", NAME, reading.cursor).pages == []


@pytest.mark.parametrize(
    "name", ["deployments.jsonl", "deployments.jsonl.gz", "deployments.csv", "deployments.parquet"]
)
def test_a_reading_that_was_ended_goes_on_behind_any_page(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(feed_pages, "PAGE_RECORDS", 3)
    write_deployments(feeds, name, 8)
    whole = feeds.read("deployments", name)
    assert len(whole.pages) == 3
    for count, page in enumerate(whole.pages[:-1], start=1):
        rest = feeds.read("deployments", name, page.cursor)
        assert rest.generation == 1
        assert ids(rest.payloads) == ids(whole.payloads)[count * 3 :]
        assert rest.lines == whole.lines[count * 3 :]
        assert feeds.read("deployments", name, rest.cursor).pages == []


def write_deployments(feeds: Feeds, name: str, count: int) -> None:
    lines = jsonl(*(deployment(str(n)) for n in range(count)))
    if name.endswith(".jsonl"):
        feeds.write(name, lines)
    elif name.endswith(".gz"):
        feeds.write(name, gzip.compress(lines))
    elif name.endswith(".csv"):
        rows = "".join(f'{n},"two\nlines"\n' for n in range(count))
        feeds.write(name, f"deployment_id,ref\n{rows}".encode())
    else:
        import polars as pl

        pl.DataFrame({"deployment_id": [str(n) for n in range(count)]}).write_parquet(feeds.folder / name)


@pytest.mark.parametrize("name", ["deployments.jsonl.gz", "deployments.csv", "deployments.parquet"])
def test_a_changed_file_without_lines_to_resume_is_read_again(feeds: Feeds, name: str) -> None:
    write_deployments(feeds, name, 2)
    first = feeds.read("deployments", name)
    assert feeds.read("deployments", name, first.cursor).pages == []
    feeds.age(name)
    assert feeds.read("deployments", name, first.cursor).pages == []
    write_deployments(feeds, name, 3)
    again = feeds.read("deployments", name, first.cursor)
    assert (again.generation, len(again.lines)) == (2, 3)


def test_a_gzip_file_that_is_cut_off_gives_what_stands_before(feeds: Feeds) -> None:
    packed = gzip.compress(b"".join(jsonl(deployment(f"{n:08x}" * 40)) for n in range(5000)))
    feeds.write("deployments.jsonl.gz", packed[: len(packed) // 2])
    reading = feeds.read("deployments", "deployments.jsonl.gz")
    assert reading.refusals == [(0, "bad_gzip")]
    assert 0 < len(reading.lines) < 5000
    assert feeds.read("deployments", "deployments.jsonl.gz", reading.cursor).pages == []


def test_what_is_no_gzip_is_refused(feeds: Feeds) -> None:
    feeds.write("deployments.jsonl.gz", jsonl(deployment(1)))
    reading = feeds.read("deployments", "deployments.jsonl.gz")
    assert (reading.lines, reading.refusals) == ([], [(0, "bad_gzip")])


def test_a_gzip_file_with_a_broken_stream_is_refused(feeds: Feeds) -> None:
    packed = bytearray(gzip.compress(jsonl(deployment(1)) * 100))
    packed[30] ^= 0xFF
    feeds.write("deployments.jsonl.gz", bytes(packed))
    assert feeds.read("deployments", "deployments.jsonl.gz").refusals == [(0, "bad_gzip")]


def test_a_long_line_inside_gzip_is_refused(feeds: Feeds) -> None:
    feeds.write("deployments.jsonl.gz", gzip.compress(b"x" * (MAX_LINE_BYTES + 1) + b"\n" + jsonl(deployment(1))))
    reading = feeds.read("deployments", "deployments.jsonl.gz")
    assert (reading.lines, reading.refusals) == ([2], [(1, "line_too_long")])


def test_the_cursor_can_be_kept_as_json(feeds: Feeds) -> None:
    import json

    feeds.write(NAME, jsonl(deployment(1)))
    cursor: Cursor | None = feeds.read("deployments", NAME).cursor
    assert json.loads(json.dumps(cursor)) == cursor


@pytest.mark.parametrize("suffix", ["jsonl.gz", "csv.gz"])
@pytest.mark.parametrize(("filling", "words"), [(b" " * (1024 * 1024), "200 times"), (b"", "more lines")])
def test_a_small_file_that_unpacks_without_end_is_read_up_to_a_bound(
    feeds: Feeds, suffix: str, filling: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_pages, "_GZIP_BYTES_AT_LEAST", 1024 * 1024)
    monkeypatch.setattr(feed_pages, "_GZIP_LINES_AT_LEAST", 1_000)
    first = b"deployment_id,environment\n" if suffix == "csv.gz" else jsonl(deployment("d1"))
    bomb = gzip.compress(first + (filling + b"\n") * (32 if filling else 100_000))
    feeds.write(f"deployments.{suffix}", bomb)
    reading = feeds.read("deployments", f"deployments.{suffix}")
    assert (0, "bad_gzip") in reading.refusals
    assert words in reading.pages[-1].refusals[-1].detail
    assert reading.lines == ([1] if suffix == "jsonl.gz" else [])
