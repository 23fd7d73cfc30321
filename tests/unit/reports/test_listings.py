from __future__ import annotations

import csv
import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from analytics.landing.coverage import Window
from analytics.metrics.explaining import Explanation
from reports.listings import (
    coverage_json,
    coverage_text,
    explanation_json,
    explanation_text,
    metrics_csv,
    metrics_table,
    readable,
)

VALUE: dict[str, Any] = {
    "metric": "change_lead_time",
    "scope": "service",
    "name": "checkout",
    "quarter": "2026-Q1",
    "series": "human",
    "value": 8.5,
    "unit": "hours",
    "n": 2,
    "numerator": None,
    "denominator": None,
    "low": None,
    "high": None,
    "open": 0,
    "reason": None,
    "reading": "too few data",
    "definition": "change_lead_time@1",
    "missing": None,
    "blended": False,
}
RATE = {
    **VALUE,
    "metric": "change_fail_rate",
    "series": None,
    "value": 0.1,
    "unit": "ratio",
    "n": 20,
    "numerator": 2,
    "denominator": 20,
    "low": 0.03,
    "high": 0.3,
    "reading": "no clear change",
}
UNDEFINED = {**VALUE, "value": None, "n": 0, "reason": "no_deployments", "reading": None}


def explanation(rows: list[dict[str, Any]], **fields: Any) -> Explanation:
    known: dict[str, Any] = {
        "metric": "change_lead_time",
        "title": "Change lead time",
        "quarter": "2026-Q1",
        "scope": "service",
        "name": "checkout",
        "series": "human",
        "value": 8.5,
        "unit": "hours",
        "n": 2,
        "numerator": None,
        "denominator": None,
        "open": 0,
        "reason": None,
        "definition": "change_lead_time@1",
        "meaning": "From commit to production.",
        "columns": ["service", "excluded", "sha", "hours"],
        "rows": rows,
    }
    return Explanation(**{**known, **fields})


ROWS = [
    {"service": "checkout", "excluded": None, "sha": "a" * 40, "hours": 9.0},
    {"service": "checkout", "excluded": None, "sha": "b" * 40, "hours": 8.0},
    {"service": "checkout", "excluded": "merge_commit", "sha": "c" * 40, "hours": None},
]


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (8.5, "hours", "8 h 30 min"),
        (0.5, "minutes", "30 s"),
        (13.58, "minutes", "13.6 min"),
        (0.125, "ratio", "12.5 %"),
        (0.5, "per_day", "3.5 a week"),
        (3.0, "count", "3"),
        (None, "hours", "-"),
    ],
)
def test_values_are_said_in_their_natural_unit(value: float | None, unit: str, words: str) -> None:
    assert readable(value, unit).replace("\u00a0", " ") == words


def test_a_ratio_that_is_no_share_is_a_plain_number_and_a_share_of_time_says_its_hours() -> None:
    interventions = {**RATE, "metric": "manual_interventions_per_deployment", "value": 0.1}
    busy = {**RATE, "metric": "runner_utilization", "numerator": 1214.6, "denominator": 57733.8, "n": 7}
    text = metrics_table([interventions, busy]).replace("\u00a0", " ")
    assert "0.10  2 of 20" in text
    assert "0.03 to 0.30" in text
    assert "1,214.6 h of 57,733.8 h" in text


def test_the_table_shows_value_parts_interval_and_reading() -> None:
    text = metrics_table([VALUE, RATE]).replace("\u00a0", " ")
    assert "change_lead_time (human)  8 h 30 min  n = 2" in text
    assert "10.0 %  2 of 20" in text
    assert "3.0 % to 30.0 %; no clear change" in text


def test_a_frequency_and_its_interval_have_one_pace() -> None:
    row = {**VALUE, "metric": "deployment_frequency", "unit": "per_day", "value": 0.9, "low": 0.7, "high": 1.3}
    text = metrics_table([row])
    assert "6.3 a week" in text
    assert "4.9 a week to 9.1 a week" in text


def test_the_table_gives_the_reason_of_an_undefined_value() -> None:
    assert "no deployments" in metrics_table([UNDEFINED])


def test_the_table_counts_what_is_still_open() -> None:
    assert "3 open" in metrics_table([{**VALUE, "open": 3}])


def test_each_scope_and_name_has_its_block() -> None:
    text = metrics_table([VALUE, {**VALUE, "scope": "team", "name": "payments"}, RATE])
    assert text.count("service checkout, 2026-Q1") == 1
    assert text.count("team payments, 2026-Q1") == 1


def test_a_hostile_name_cannot_drive_the_terminal() -> None:
    hostile = {**VALUE, "name": "\x1b]0;owned\x07"}
    assert "\x1b" not in metrics_table([hostile])
    assert "\x1b" not in explanation_text(explanation([{**ROWS[0], "sha": "\x1b[2J"}], name="\x1b[2J"))


def test_csv_has_the_public_keys_in_their_order() -> None:
    [header, row] = csv.reader(io.StringIO(metrics_csv([VALUE])))
    assert header == list(VALUE)
    assert row[:6] == ["change_lead_time", "service", "checkout", "2026-Q1", "human", "8.5"]


def test_an_explanation_lists_what_counts_and_then_what_was_left_out_with_its_reason() -> None:
    text = explanation_text(explanation(ROWS)).replace("\u00a0", " ")
    assert "8 h 30 min (n = 2)" in text
    assert "rows that count: 2; left out: 1; times are UTC" in text
    counted, left_out = text.split("left out, merge_commit: 1")
    assert "aaaaaaaaaaaa" in counted
    assert "cccccccccccc" not in counted
    assert "cccccccccccc" in left_out


def test_a_reason_in_other_words_is_shown_with_its_code() -> None:
    assert "left out, not verified yet (not_verified): 1" in explanation_text(
        explanation([{**ROWS[0], "excluded": "not_verified"}])
    )


def test_an_undefined_explanation_says_why() -> None:
    text = explanation_text(explanation([], value=None, n=0, reason="no_deployments"))
    assert "undefined: no deployments" in text


def test_an_explanation_says_how_many_rows_it_does_not_show() -> None:
    text = explanation_text(explanation(ROWS), limit=1)
    assert "aaaaaaaaaaaa" in text
    assert "bbbbbbbbbbbb" not in text
    assert "and 1 more" in text
    assert "bbbbbbbbbbbb" in explanation_text(explanation(ROWS), limit=0)


def test_an_explanation_for_programs_has_every_row_as_it_is() -> None:
    document = explanation_json(explanation(ROWS))
    assert document["rows"] == ROWS
    wanted = ["metric", "quarter", "scope", "name", "series", "value", "unit", "n", "reason", "definition", "rows"]
    assert [key for key in document if key in wanted] == wanted


def collected(**fields: Any) -> Any:
    known = {"source": "drops", "entity": "incidents", "items": 0, "quarantined": 0, "complete": True}
    return SimpleNamespace(**{**known, "first_at": None, "last_at": None, **fields})


def refused(**fields: Any) -> Any:
    known = {"source": "drops", "entity": "incidents", "origin": "incidents.jsonl", "line": 3, "reason": "missing_time"}
    return SimpleNamespace(**{**known, "json_path": "$.opened_at", "detail": "it is missing", "kept": False, **fields})


def test_coverage_lists_an_entity_that_was_collected_and_is_empty() -> None:
    assert "drops   incidents      0            0" in coverage_text([collected()], [], [])
    assert "No record was refused." in coverage_text([collected()], [], [])


def test_coverage_names_file_line_and_reason_of_a_refused_record() -> None:
    text = coverage_text([collected()], [], [refused(), refused(line=9, reason="html_body")])
    assert "Refused records: 2 (html_body 1, missing_time 1)" in text
    assert "drops/incidents.jsonl:3" in text
    assert "drops/incidents.jsonl:9" in text


def test_coverage_says_how_many_refused_records_it_does_not_list() -> None:
    assert "and 2 more" in coverage_text([collected()], [], [refused() for _ in range(5)], limit=3)


def test_coverage_shows_what_is_kept_apart_from_what_was_refused() -> None:
    kept = [refused(line=line, reason="after_cut_off", kept=True) for line in (7, 8)]
    apart, bad = coverage_text([collected(quarantined=1)], [], [refused(), *kept]).split("Refused records: 1 ")
    assert "Kept, but not counted as they are: 2 (after_cut_off 2)" in apart
    assert "drops/incidents.jsonl:7" in apart
    assert "drops/incidents.jsonl:3" in bad
    assert "after_cut_off" not in bad


def test_coverage_names_a_refused_file_without_a_line() -> None:
    text = coverage_text([collected()], [], [refused(line=0, reason="unknown_entity")])
    assert "drops/incidents.jsonl  unknown_entity" in text


def unmapped(name: str, rows: int) -> dict[str, Any]:
    return {"kind": "environment", "name": name, "detail": "deployments of acme/shop", "rows": rows}


def test_coverage_lists_what_no_catalog_entry_claims_and_says_how_much_more_there_is() -> None:
    text = coverage_text([collected()], [], [], unmapped=[unmapped(f"stage-{n}", 99 - n) for n in range(25)])
    assert "Not in the catalog: 25" in text
    assert "environment  stage-0     99  deployments of acme/shop" in text
    assert "stage-19 " in text
    assert "stage-20 " not in text
    assert "and 5 more" in text
    assert "Not in the catalog" not in coverage_text([collected()], [], [])


def test_coverage_for_programs_names_what_is_incomplete_and_what_nobody_declared() -> None:
    window = Window("drops", "incidents", "b.jsonl", 1, 1, 0, 0, None, None, None, complete=False)
    document = coverage_json(
        [], [window, replace(window, request_key="a.jsonl", complete=True)], [], [], [unmapped("x", 1)]
    )
    assert document["incomplete"] == [{"source": "drops", "entity": "incidents", "request_key": "b.jsonl"}]
    assert document["unmapped"] == [unmapped("x", 1)]


def test_coverage_of_nothing_says_what_to_do() -> None:
    assert "quarterdeck pull" in coverage_text([], [], [])


def test_coverage_names_requests_that_are_incomplete() -> None:
    whole = SimpleNamespace(source="drops", request_key="a.jsonl", entity="incidents", complete=True)
    short = SimpleNamespace(source="drops", request_key="b.jsonl", entity="incidents", complete=False)
    text = coverage_text([collected()], [whole, short], [])
    assert "drops/b.jsonl (incidents)" in text
    assert "a.jsonl" not in text
