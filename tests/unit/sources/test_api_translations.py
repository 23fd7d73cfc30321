"""Whatever an API answers, its translation makes records or leaves out, and never falls over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.sources.jira.translate import Rules, shortened
from analytics.sources.jira.translate import records_of as of_jira
from analytics.sources.pagerduty.translate import records_of as of_pagerduty
from analytics.sources.port import RawRecord
from analytics.sources.service_names import ServiceNames
from analytics.sources.webhooks import EVENTS
from analytics.sources.webhooks import records_of as of_webhooks

NAMES = ServiceNames({"Checkout": "till"}, {"shop": "shop"})
RULES = Rules(service_field="Service", dedupe_field="Pager", change_deployment_field="Deployment")
IDS = {"Service": "customfield_1", "Pager": "customfield_2", "Deployment": "customfield_3"}
WORDS = st.sampled_from(["Approved", "Done", "Mitigated", "shop", "2026-01-05T09:00:00Z", "2026-01-05", "status", ""])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text()
)


def odd(*fields: str) -> st.SearchStrategy[Any]:
    """Any JSON, in which the fields that a translation reads come often."""
    keys = st.sampled_from(fields) | st.text(max_size=3)
    return st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
    )


def holds(make: Callable[[], Any]) -> None:
    for records in make().values():
        assert all(isinstance(json.loads(record.payload), dict) for record in records)
        assert [record.line for record in records] == list(range(1, len(records) + 1))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        odd("incident", "log_entries", "service", "id", "summary", "status", "priority", "created_at", "type")
        | st.fixed_dictionaries(
            {"incident": st.fixed_dictionaries({"id": LEAVES, "status": WORDS, "service": odd("id", "summary")}),
             "log_entries": odd("type", "created_at")}
        ),
        max_size=4,
    )
)  # fmt: skip
def test_pagerduty(items: list[Any]) -> None:
    holds(lambda: of_pagerduty("incidents", json.dumps(items), "", NAMES))


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["summary", "status", "created", "components", "labels", "customfield_1", "customfield_3"]),
        odd("name", "value", "key", "statusCategory"),
    ),
    st.lists(odd("items", "author", "created", "field", "toString", "displayName"), max_size=4),
    LEAVES,
)
def test_jira(fields: dict[str, Any], changes: list[Any], native_id: Any) -> None:
    fields["status"] = {"name": "Done", "statusCategory": {"key": "done"}}
    issue = shortened({"id": native_id, "key": native_id, "fields": fields}, changes)
    body = msgspec.json.encode({"site": "https://jira.test", "fields": IDS, "issues": [issue]}).decode()
    holds(lambda: of_jira("incidents", body, "", RULES, NAMES))
    holds(lambda: of_jira("changes", body, "", RULES, NAMES))


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(sorted(EVENTS)),
    odd("deployment", "deployment_status", "state", "issue", "labels", "name", "review", "release", "workflow_run",
        "workflow_job", "request", "payload", "repository", "created_at"),
)  # fmt: skip
def test_webhooks(event: str, delivery: Any) -> None:
    line = RawRecord(3, json.dumps(delivery).encode())
    assert all(record.line == 3 for record in of_webhooks(event, [line], ["incident"]))
