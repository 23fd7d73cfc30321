"""The judge: every reason a record is refused for, and what it lets pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.landing.judge import MAX_DEPTH, Fault, judge_for
from analytics.sources.entities import ENTITIES
from tests.unit.sources.feed_world import deployment

RUN = {
    "repository": "acme/shop",
    "run_id": 1,
    "attempt": 1,
    "workflow": "deploy.yml",
    "head_sha": "abc",
    "status": "completed",
    "created_at": "2026-01-01T00:00:00Z",
}
COMMIT = {"repository": "acme/shop", "sha": "a", "authored_at": "2026-01-01T00:00:00Z"} | {
    "committed_at": "2026-01-01T00:00:00Z"
}
GATE = {"repository": "r", "run_id": 1, "gate": "sast", "outcome": "passed", "at": "2026-01-01T00:00:00Z"}
SAMPLE = {"service": "s", "slo": "x", "at": "2026-01-01T00:00:00Z", "error_budget_remaining": 0.5}
DRILL = {"service": "s", "performed_at": "2026-01-01T00:00:00Z", "kind": "rollback", "outcome": "ok"}


def judged(entity: str, record: dict[str, Any] | bytes) -> Fault | None:
    return judge_for(entity)(record if isinstance(record, bytes) else json.dumps(record).encode())


def fault(entity: str, record: dict[str, Any] | bytes) -> tuple[str, str | None]:
    found = judged(entity, record)
    assert found is not None
    assert found.detail
    return found.reason, found.json_path


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    ("entity", "record"),
    [
        ("pipeline_runs", RUN),
        ("commits", COMMIT),
        ("gate_results", GATE),
        ("slo_samples", SAMPLE),
        ("drills", DRILL),
        ("deployments", deployment("d-1")),
        ("attestations", {"bundle": {"mediaType": "x"}}),
        ("sboms", {"digest": "sha256:a", "document": {"bomFormat": "CycloneDX"}}),
        ("sboms", {"digest": "sha256:a", "path": "sboms/a.json"}),
        ("pipeline_runs", RUN | {"unknown": [{"deep": [1]}], "run_id": "text"}),
        ("deployments", deployment(1, status="something_new", run_id=2**63 - 1)),
        ("pipeline_runs", RUN | {"conclusion": "something_new", "event": None}),
        ("pipeline_runs", RUN | {"started_at": "2025-01-01T00:00:00Z"}),
        ("pipeline_runs", RUN | {"created_at": "2026-01-01 00:00:00.123456789+0530"}),
        ("pipeline_runs", RUN | {"created_at": "9999-12-31T23:59:59Z"}),
        ("pipeline_runs", RUN | {"created_at": "1970-01-01T00:00:00Z"}),
        ("incidents", {"incident_id": 1, "opened_at": "2026-01-01T00:00:00Z", "pull_request": 5}),
    ],
)
def test_a_good_record_passes(entity: str, record: dict[str, Any]) -> None:
    assert judged(entity, record) is None


@pytest.mark.parametrize("name", ["repository", "run_id", "attempt"])
@pytest.mark.parametrize("how", ["missing", "null"])
def test_a_record_without_a_key_field_has_no_id(name: str, how: str) -> None:
    record = without(RUN, name) if how == "missing" else RUN | {name: None}
    assert fault("pipeline_runs", record) == ("missing_id", f"$.{name}")


@pytest.mark.parametrize("name", ["repository", "run_id"])
def test_an_empty_key_field_is_no_id(name: str) -> None:
    assert fault("pipeline_runs", RUN | {name: ""}) == ("missing_id", f"$.{name}")


@pytest.mark.parametrize("how", ["missing", "null"])
def test_a_record_without_a_required_time(how: str) -> None:
    record = without(RUN, "created_at") if how == "missing" else RUN | {"created_at": None}
    assert fault("pipeline_runs", record) == ("missing_time", "$.created_at")


def test_a_time_that_is_part_of_the_key_is_a_missing_time() -> None:
    assert fault("drills", without(DRILL, "performed_at")) == ("missing_time", "$.performed_at")


@pytest.mark.parametrize("record", [without(RUN, "workflow"), RUN | {"workflow": None}, RUN | {"workflow": ""}])
def test_a_record_without_another_required_field(record: dict[str, Any]) -> None:
    assert fault("pipeline_runs", record) == ("missing_key", "$.workflow")


def test_a_list_entry_without_a_required_field() -> None:
    record = deployment(1, revisions=[{"repository": "r"}])
    assert fault("deployments", record) == ("missing_key", "$.revisions[0].sha")


def test_a_list_entry_without_its_time() -> None:
    assert fault("deployments", deployment(1, statuses=[{"state": "success"}]))[0] == "missing_time"


def test_an_sbom_needs_a_document_or_a_path() -> None:
    assert fault("sboms", {"digest": "sha256:a"}) == ("missing_key", "$.document")


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00", "2026-01-01 00:00:00.5"])
def test_a_time_without_an_offset_is_naive(time: str) -> None:
    assert fault("pipeline_runs", RUN | {"created_at": time}) == ("naive_time", "$.created_at")


def test_an_optional_time_without_an_offset_is_naive_too() -> None:
    assert fault("pipeline_runs", RUN | {"started_at": "2026-01-01T00:00:00"}) == ("naive_time", "$.started_at")


def test_a_time_in_a_list_without_an_offset_is_naive() -> None:
    record = deployment(1, statuses=[{"state": "success", "at": "2026-01-01T00:00:00"}])
    assert fault("deployments", record) == ("naive_time", "$.statuses[0].at")


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "",
        "2026-02-30T00:00:00Z",
        "2026-01-01",
        "2026-01-01T24:00:00Z",
        "10000-01-01T00:00:00Z",
        1767225600,
        [1],
    ],
)
def test_what_is_no_time(time: object) -> None:
    assert fault("pipeline_runs", RUN | {"created_at": time}) == ("bad_time", "$.created_at")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-05:00"])
@pytest.mark.parametrize("name", ["created_at", "updated_at"])
def test_a_time_outside_of_all_sense_is_out_of_range(name: str, time: str) -> None:
    assert fault("pipeline_runs", RUN | {name: time}) == ("out_of_range", f"$.{name}")


def test_a_time_in_a_list_is_held_to_the_same_range() -> None:
    record = deployment(1, statuses=[{"state": "success", "at": "0001-01-01T00:00:00Z"}])
    assert fault("deployments", record) == ("out_of_range", "$.statuses[0].at")


@pytest.mark.parametrize("parents", [None, [None], "abc", [""], [1]])
def test_a_parent_that_is_none(parents: object) -> None:
    assert fault("commits", COMMIT | {"parents": parents})[0] == "null_parent"


@pytest.mark.parametrize(
    ("entity", "record", "path"),
    [
        ("pipeline_runs", RUN | {"run_id": 1.5}, "$.run_id"),
        ("pipeline_runs", RUN | {"attempt": "1"}, "$.attempt"),
        ("pipeline_runs", RUN | {"attempt": True}, "$.attempt"),
        ("pipeline_runs", RUN | {"repository": ["r"]}, "$.repository"),
        ("pipeline_runs", RUN | {"referenced_workflows": ["a", 1]}, "$.referenced_workflows[1]"),
        ("gate_results", GATE | {"outcome": 1}, "$.outcome"),
        ("slo_samples", SAMPLE | {"error_budget_remaining": "0.5"}, "$.error_budget_remaining"),
        ("attestations", {"bundle": "text"}, "$.bundle"),
        ("attestations", {"bundle": None}, "$.bundle"),
        ("sboms", {"digest": "d", "document": [1]}, "$.document"),
    ],
)
def test_a_wrong_type(entity: str, record: dict[str, Any], path: str) -> None:
    assert fault(entity, record) == ("wrong_type", path)


@pytest.mark.parametrize(
    ("entity", "record"),
    [
        ("pipeline_runs", RUN | {"attempt": 0}),
        ("pipeline_runs", RUN | {"attempt": 10**6}),
        ("pipeline_runs", RUN | {"run_id": 2**63}),
        ("pipeline_runs", RUN | {"repository": "x" * 501}),
        ("slo_samples", SAMPLE | {"error_budget_remaining": 1.5}),
        ("slo_samples", SAMPLE | {"error_budget_remaining": -0.1}),
        ("pull_requests", {"repository": "r", "number": 10**30, "created_at": "2026-01-01T00:00:00Z"}),
        ("slo_samples", json.dumps(SAMPLE).replace("0.5", "1e999").encode()),
    ],
)
def test_a_value_out_of_range(entity: str, record: dict[str, Any] | bytes) -> None:
    assert fault(entity, record)[0] == "out_of_range"


def test_a_closed_list_of_values_is_closed() -> None:
    assert fault("gate_results", GATE | {"outcome": "maybe"}) == ("unknown_enum", "$.outcome")


@pytest.mark.parametrize("text", [b"[1]", b"1", b'"text"', b"null", b"true"])
def test_what_is_no_object(text: bytes) -> None:
    assert fault("pipeline_runs", text) == ("not_an_object", "$")


@pytest.mark.parametrize("end", range(1, len(json.dumps(RUN)) - 1, 7))
def test_a_record_cut_off_anywhere_is_truncated(end: int) -> None:
    assert fault("pipeline_runs", json.dumps(RUN).encode()[:end])[0] == "json_truncated"


def test_a_record_that_is_wrong_and_cut_off_is_truncated() -> None:
    assert fault("pipeline_runs", b'{"run_id":null,"attempt":')[0] == "json_truncated"


@pytest.mark.parametrize(
    "text",
    [
        b"{'run_id': 1}",
        b'{"a": 1,}',
        b'{"a": 1} {"b": 2}',
        b"hello",
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        json.dumps(RUN).encode()[:-1] + b', "extra": "\\ud800"}',
        json.dumps(RUN).encode()[:-1] + b', "extra": 01}',
    ],
)
def test_what_is_no_json(text: bytes) -> None:
    assert fault("pipeline_runs", text)[0] == "not_json"


@pytest.mark.parametrize("text", [b"<!DOCTYPE html><html>", b"  <html>502</html>"])
def test_a_web_page_is_said_to_be_one(text: bytes) -> None:
    assert fault("pipeline_runs", text)[0] == "html_body"


@pytest.mark.parametrize("where", ["repository", "unknown"])
def test_bytes_that_are_not_utf_8(where: str) -> None:
    text = json.dumps({where: "?"} | without(RUN, where)).encode().replace(b"?", b"M\xfcnchen")
    assert fault("pipeline_runs", text)[0] == "not_utf8"


def test_nesting_up_to_the_cap_passes_and_beyond_is_too_deep() -> None:
    def nested(depth: int) -> bytes:
        inner = "[" * (depth - 1) + "]" * (depth - 1)
        return json.dumps(RUN)[:-1].encode() + f', "extra": {inner}}}'.encode()

    assert judged("pipeline_runs", nested(MAX_DEPTH)) is None
    assert fault("pipeline_runs", nested(MAX_DEPTH + 1))[0] == "too_deep"
    assert fault("pipeline_runs", nested(100_000))[0] == "too_deep"


def test_brackets_in_texts_and_side_by_side_are_no_depth() -> None:
    record = RUN | {"actor": '"[{' * 200, "extra": [[] for _ in range(200)]}
    assert judged("pipeline_runs", record) is None


def test_a_long_text_with_escapes_is_judged_in_one_go() -> None:
    record = RUN | {"extra": ['\\"' * 500_000, *[[]] * 100]}
    assert judged("pipeline_runs", record) is None


@given(st.sampled_from(sorted(ENTITIES)), st.binary(max_size=200))
def test_no_bytes_break_the_judge(entity: str, data: bytes) -> None:
    judged(entity, data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_no_values_break_the_judge(data: st.DataObject) -> None:
    entity = ENTITIES[data.draw(st.sampled_from(sorted(ENTITIES)))]
    record = data.draw(st.dictionaries(st.sampled_from(list(entity.columns)), json_values, max_size=6))
    found = judged(entity.name, json.dumps(record, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "replace"))
    assert found is None or found.reason in {
        "missing_id", "missing_time", "missing_key", "naive_time", "bad_time", "null_parent", "wrong_type",
        "out_of_range", "unknown_enum", "not_json",
    }  # fmt: skip
