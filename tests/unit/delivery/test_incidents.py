"""Merging incidents and reading what they name."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from analytics.delivery.incidents import merge_incidents, pull_request_number
from analytics.delivery.records import ExplicitLink

BASE = datetime(2026, 1, 10)
NOW = BASE + timedelta(days=30)


def at(hours: float) -> datetime:
    return BASE + timedelta(hours=hours)


def row(incident_id: str, **fields: Any) -> dict[str, Any]:
    names = (
        "service title severity labels impact_started_at mitigated_at resolved_at deployment_id sha pull_request "
        "fixed_by_deployment_id dedupe_key url"
    )
    return {**dict.fromkeys(names.split()), "incident_id": incident_id, "opened_at": at(0), **fields}


def test_the_pagers_incident_and_the_ticket_are_one_with_the_earliest_impact_and_the_latest_end() -> None:
    pager = row("P1", service="checkout", dedupe_key="k", opened_at=at(1), mitigated_at=at(3))
    ticket = row("T9", dedupe_key="k", opened_at=at(2), impact_started_at=at(0.5), resolved_at=at(5))
    (merged,) = merge_incidents([ticket, pager], NOW)
    assert merged.service == "checkout"
    assert merged.ids == ("P1", "T9")
    assert merged.impact_started_at == at(0.5)
    assert merged.ended_at == at(5)
    assert merged.restored_at == at(5)


def test_a_merged_incident_is_open_only_when_none_of_its_rows_has_ended() -> None:
    ended = row("A", service="s", dedupe_key="k", resolved_at=at(2))
    running = row("B", service="s", dedupe_key="k")
    assert merge_incidents([ended, running], NOW)[0].ended_at == at(2)
    assert merge_incidents([running], NOW)[0].ended_at is None


def test_recovery_ends_at_mitigation_and_restoration_at_resolution() -> None:
    (merged,) = merge_incidents([row("A", service="s", mitigated_at=at(1), resolved_at=at(9))], NOW)
    assert (merged.ended_at, merged.restored_at) == (at(1), at(9))


def test_what_ends_after_the_cut_off_has_not_ended() -> None:
    (merged,) = merge_incidents([row("A", service="s", resolved_at=at(9))], at(5))
    assert merged.ended_at is None
    assert merge_incidents([row("B", service="s", opened_at=at(6))], at(5)) == []


def test_the_same_dedupe_key_at_two_services_stays_two_incidents() -> None:
    merged = merge_incidents([row("A", service="x", dedupe_key="k"), row("B", service="y", dedupe_key="k")], NOW)
    assert [incident.service for incident in merged] == ["x", "y"]


def test_links_come_from_fields_and_labels() -> None:
    (merged,) = merge_incidents(
        [row("A", service="s", deployment_id="d1", labels=["sev1", "caused-by", "PR: 12", "version:v1.2"])], NOW
    )
    assert merged.links == (
        ExplicitLink("deployment", "d1"),
        ExplicitLink("pull_request", "12"),
        ExplicitLink("version", "v1.2"),
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("#12", 12), ("acme/shop#12", 12), ("https://example.com/acme/shop/pull/12/", 12), ("none", None)],
)
def test_a_pull_request_is_named_in_the_ways_people_write_it(text: str, number: int | None) -> None:
    assert pull_request_number(text) == number
