"""Real answers of GitHub's, old ones among them: each row is typed, or refused with its reason; none is lost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.landing.pages import judge_page
from analytics.sources.github.translate import translate
from analytics.sources.port import Page, RawRecord

DEVLAKE = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "github" / "devlake"


def rows(name: str) -> list[Any]:
    path = DEVLAKE / f"_raw_github_{name}.jsonl"
    if not path.exists():
        pytest.skip("the real GitHub bodies are not beside this repository")
    return [json.loads(line)["data"] for line in path.read_text("utf-8").splitlines()]


def judged(kind: str, body: Any) -> tuple[int, Counter[str]]:
    """How many rows are typed, and the reasons of the others."""
    typed, reasons = 0, Counter[str]()
    for entity, _, record, _ in translate(kind, json.dumps(body), "panjf2000/ants"):
        page = Page(entity, "1", 1, [RawRecord(1, msgspec.json.encode(record))], (), {})
        (part,) = judge_page(page).parts
        typed += len(part.payloads)
        reasons.update(refused.reason for refused in part.refused)
    return typed, reasons


def camel(value: Any) -> Any:
    """DevLake kept what its own structs were named; GitHub's names begin small."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: camel(inner) for name, inner in value.items()}
    return [camel(inner) for inner in value] if isinstance(value, list) else value


def test_runs() -> None:
    found = rows("api_runs")
    typed, reasons = judged("runs", {"workflow_runs": found})
    assert typed + sum(reasons.values()) == len(found) == 35
    assert reasons == {}


def test_jobs() -> None:
    found = rows("api_jobs")
    typed, reasons = judged("jobs", {"jobs": found})
    assert typed + sum(reasons.values()) == len(found) == 35
    assert reasons == {}


def test_issues_are_incidents_unless_they_are_pull_requests() -> None:
    found = rows("api_issues")
    pulls = [one for one in found if one.get("pull_request")]
    typed, reasons = judged("issues", found)
    assert typed + sum(reasons.values()) + len(pulls) == len(found) == 42
    assert reasons == {}


def test_deployments_with_their_history() -> None:
    found = [camel(row) for row in rows("graphql_deployment")]
    typed, reasons = judged("deployments", {"data": {"node": {"deployments": {"nodes": found}}}})
    assert (typed, reasons) == (7, {})


def test_pull_requests_of_rest_with_deleted_forks() -> None:
    found = rows("api_pull_requests")
    typed, reasons = judged("pull_requests_rest", found)
    assert (typed + sum(reasons.values()), len(found)) == (50, 50)
    assert reasons == {}
    assert sum(row["head"]["repo"] is None for row in found) == 15


def test_reviews_of_rest() -> None:
    found = rows("api_pull_request_reviews")
    typed, reasons = judged("reviews_rest", found)
    assert (typed + sum(reasons.values()), len(found)) == (31, 31)
    assert reasons == {}


def test_commits_of_rest() -> None:
    found = rows("api_pull_request_commits")
    typed, reasons = judged("commits", found)
    assert (typed + sum(reasons.values()), len(found)) == (91, 91)
    assert reasons == {}


@pytest.mark.parametrize(
    ("kind", "name", "broken", "reason"),
    [
        ("pull_requests_rest", "api_pull_requests", {"number": None}, "missing_id"),
        ("pull_requests_rest", "api_pull_requests", {"created_at": None}, "missing_time"),
        ("reviews_rest", "api_pull_request_reviews", {"pull_request_url": "elsewhere"}, "missing_id"),
        ("commits", "api_pull_request_commits", {"sha": None}, "missing_id"),
        ("commits", "api_pull_request_commits", {"commit": None}, "missing_time"),
        ("runs", "api_runs", {"created_at": "yesterday"}, "bad_time"),
    ],
)
def test_a_row_that_lacks_its_core_is_refused_with_its_reason(
    kind: str, name: str, broken: dict[str, Any], reason: str
) -> None:
    found: Any = [{**rows(name)[0], **broken}, *rows(name)[1:]]
    typed, reasons = judged(kind, {"workflow_runs": found} if kind == "runs" else found)
    assert (typed, reasons) == (len(found) - 1, {reason: 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["id", "run_attempt", "path", "status", "labels", "nodes", "reviews", "statuses", "assets", "name", "digest",
         "createdAt", "author", "login", "submittedAt", "updated_at", "state", "commits", "referenced_workflows"]
    ), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(items=st.lists(JSON, max_size=5), kind=st.sampled_from(["runs", "jobs", "deployments", "pull_requests"]))
def test_no_answer_makes_translating_fail_and_no_item_is_lost(items: list[Any], kind: str) -> None:
    fields = {"runs": "workflow_runs", "jobs": "jobs", "deployments": "deployments", "pull_requests": "pullRequests"}
    body: Any = {fields[kind]: items}
    if kind in ("deployments", "pull_requests"):
        body = {"data": {"node": {fields[kind]: {"nodes": items}}}}
    places = {place for _, place, _, _ in translate(kind, json.dumps(body), "acme/shop")}
    assert len(places) == sum(item is not None for item in items)
    judged(kind, body)
