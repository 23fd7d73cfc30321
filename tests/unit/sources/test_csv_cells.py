"""CSV feeds: cells by their fields' types, lists as JSON, line numbers, broken rows and formulas in names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analytics.sources import csv_cells
from analytics.sources.csv_cells import opens_formula
from tests.unit.sources.feed_world import Feeds, Reading


@pytest.fixture
def feeds(tmp_path: Path) -> Feeds:
    return Feeds(tmp_path / "feeds")


def read(feeds: Feeds, entity: str, text: str | bytes) -> Reading:
    feeds.write(f"{entity}.csv", text.encode() if isinstance(text, str) else text)
    return feeds.read(entity, f"{entity}.csv")


def cell(feeds: Feeds, entity: str, field: str, text: str) -> Any:
    quoted = text.replace('"', '""')
    (payload,) = read(feeds, entity, f'{field},extra\n"{quoted}",x\n').payloads
    assert payload.pop("extra") == "x"
    return payload.get(field)


@pytest.mark.parametrize(
    ("entity", "field", "text", "value"),
    [
        ("deployments", "sha", "0012", "0012"),
        ("deployments", "deployment_id", "42", "42"),
        ("deployments", "created_at", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("deployments", "attempt", "2", 2),
        ("deployments", "attempt", "2.0", 2),
        ("deployments", "attempt", "two", "two"),
        ("deployments", "attempt", "1_0", "1_0"),
        ("deployments", "attempt", "٣", "٣"),
        ("deployments", "labels", '["hotfix","a, b"]', ["hotfix", "a, b"]),
        ("deployments", "labels", "hotfix", "hotfix"),
        ("deployments", "statuses", '[{"state":"success"}]', [{"state": "success"}]),
        ("slo_samples", "error_budget_remaining", "0.25", 0.25),
        ("slo_samples", "error_budget_remaining", "1e-3", 0.001),
        ("slo_samples", "error_budget_remaining", "nan", "nan"),
        ("slo_samples", "error_budget_remaining", "1e999", "1e999"),
        ("commits", "is_bot", "True", True),
        ("commits", "is_bot", "false", False),
        ("commits", "is_bot", "no", "no"),
        ("attestations", "bundle", '{"a": 1}', {"a": 1}),
        ("gate_results", "outcome", "passed", "passed"),
        ("incidents", "pull_request", "12", "12"),
        ("deployments", "somebody_elses", "12", "12"),
    ],
)
def test_a_cell_takes_the_type_of_its_field(feeds: Feeds, entity: str, field: str, text: str, value: object) -> None:
    header_field = "digest" if entity == "attestations" else "repository"
    known = "service" if entity in ("slo_samples", "incidents") else header_field
    quoted = text.replace('"', '""')
    (payload,) = read(feeds, entity, f'{field},{known}\n"{quoted}",x\n').payloads
    assert payload[field] == value
    assert type(payload[field]) is type(value)


def test_json_nested_beyond_reason_stays_text(feeds: Feeds) -> None:
    deep = "[" * 100_000
    assert cell(feeds, "deployments", "labels", deep) == deep


def test_an_empty_cell_is_absent(feeds: Feeds) -> None:
    (payload,) = read(feeds, "deployments", 'deployment_id,ref,sha\n1,,""\n').payloads
    assert payload == {"deployment_id": "1"}


def test_columns_may_come_in_any_order_with_spaces_and_without_a_name(feeds: Feeds) -> None:
    (payload,) = read(feeds, "deployments", ", sha ,deployment_id\n0,abc,7\n").payloads
    assert payload == {"column_1": "0", "sha": "abc", "deployment_id": "7"}


def test_the_line_of_a_record_is_where_it_starts(feeds: Feeds) -> None:
    text = 'deployment_id,ref\r\n1,"a\r\nb\r\nc"\r\n\r\n2,x\r\n'
    reading = read(feeds, "deployments", text)
    assert reading.lines == [2, 6]
    assert reading.payloads[0]["ref"] == "a\r\nb\r\nc"


def test_rows_of_empty_cells_are_passed_over(feeds: Feeds) -> None:
    reading = read(feeds, "deployments", "deployment_id,ref\n,\n\n1,a\n")
    assert (reading.lines, reading.refusals) == ([4], [])


def test_a_byte_order_mark_is_no_part_of_a_name(feeds: Feeds) -> None:
    (payload,) = read(feeds, "deployments", b"\xef\xbb\xbfdeployment_id\n1\n").payloads
    assert payload == {"deployment_id": "1"}


def test_a_row_with_too_many_or_too_few_cells_is_refused(feeds: Feeds) -> None:
    reading = read(feeds, "deployments", "deployment_id,ref\n1\n2,a,b\n3,c\n")
    assert reading.refusals == [(2, "csv_columns"), (3, "csv_columns")]
    assert reading.lines == [4]


def test_a_broken_quote_is_refused_and_the_rest_goes_on(feeds: Feeds) -> None:
    reading = read(feeds, "deployments", 'deployment_id,ref\n1,"a"b\n2,c\n')
    assert (reading.refusals, reading.lines) == ([(2, "csv_malformed")], [3])


def test_a_quote_left_open_at_the_end_is_refused(feeds: Feeds) -> None:
    reading = read(feeds, "deployments", 'deployment_id,ref\n1,a\n2,"c\n')
    assert (reading.refusals, reading.lines) == ([(3, "csv_malformed")], [2])


def test_a_cell_that_is_too_large_is_refused(feeds: Feeds) -> None:
    large = "x" * (csv_cells.MAX_CELL_CHARACTERS + 1)
    reading = read(feeds, "deployments", f"deployment_id,ref\n1,{large}\n2,c\n")
    assert (reading.refusals, reading.lines) == ([(2, "csv_malformed")], [3])


def test_a_record_over_endless_lines_is_cut(feeds: Feeds) -> None:
    # Each line closes and opens a quote, so that one record would run on without any cell being large.
    endless = '1,"' + '\n","' * 2_200_000
    reading = read(feeds, "deployments", f"deployment_id,ref\n{endless}")
    assert reading.refusals[0] == (2, "line_too_long")


def test_a_physical_line_over_the_cap_is_refused(feeds: Feeds) -> None:
    long = "x" * (csv_cells.MAX_LINE_BYTES + 1)
    reading = read(feeds, "deployments", f"deployment_id,ref\n1,{long}\n2,c\n")
    assert (reading.refusals, reading.lines) == ([(2, "line_too_long")], [3])


def test_bytes_that_are_not_utf_8_are_refused(feeds: Feeds) -> None:
    reading = read(feeds, "deployments", b"deployment_id,ref\n1,M\xfcnchen\n2,c\n")
    assert (reading.refusals, reading.lines) == ([(2, "not_utf8")], [3])


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"sha,deployment_id,sha\n", "'sha' stands twice"),
        pytest.param(b"deployment_id" + b",c" * 10_000 + b"\n", "10,001 columns", id="endless"),
        (b"deployment_id;sha\n1;2\n", "comma separated"),
        (b"deploymentid\n1\n", "did you mean 'deployment_id'"),
        (b'"deployment_id\n1\n', "unexpected end"),
        (b"sha,\xff\n", "not UTF-8"),
    ],
)
def test_a_header_that_names_no_columns_refuses_the_file(feeds: Feeds, header: bytes, said: str) -> None:
    reading = read(feeds, "deployments", header)
    assert reading.refusals == [(0, "bad_header")]
    assert said in reading.pages[0].refusals[0].detail


def test_an_empty_file_is_no_error(feeds: Feeds) -> None:
    reading = read(feeds, "deployments", "")
    assert (reading.lines, reading.refusals) == ([], [])


@pytest.mark.parametrize(
    "name",
    ["=1+1", " =A1", "=", "+cmd|' /C calc'!A0", "-2+3+cmd|x", "@SUM(1)", "\t=1!", "\r@x(1)", "\uff1d1", "\uff0bSUM(1)"],
)
def test_a_formula_in_a_name_is_refused(feeds: Feeds, name: str) -> None:
    reading = read(feeds, "deployments", f'deployment_id,service,ref\n1,"{name}",a\n2,shop,"{name}"\n')
    assert reading.refusals == [(2, "formula_in_name")]
    # Only names are looked at: a text may begin as it likes.
    assert reading.payloads[0]["ref"] == name


@pytest.mark.parametrize("name", ["-5", "+1", "@team", "a=b", "checkout", "renovate[bot]", "-web", "a(b)"])
def test_an_ordinary_name_is_no_formula(name: str) -> None:
    assert not opens_formula(name)
