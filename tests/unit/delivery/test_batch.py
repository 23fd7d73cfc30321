"""A batch of services derives the same facts from the same rows, whoever brings them together and in whatever order."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.catalog import Service
from analytics.delivery import batch as batch_module
from analytics.delivery.attempts import ATTEMPT_COLUMNS
from analytics.delivery.batch import (
    COMMIT_COLUMNS,
    FACT_TABLES,
    PULL_REQUEST_COLUMNS,
    Batch,
    Terms,
    derive_batch,
    histories_of,
    pull_requests_of,
)
from analytics.delivery.records import ExplicitLink, Incident, Rules
from analytics.periods import Calendar
from analytics.settings import IncidentRules, ReworkRules

START = datetime(2026, 1, 5)
NOW = START + timedelta(days=30)
TERMS = Terms(Rules(IncidentRules(), ReworkRules(), NOW), ("*[bot]",), Calendar(ZoneInfo("Europe/Berlin")))
SERVICES = [Service(name=name, repository=f"acme/{name}") for name in ("shop", "till")]


TRIES = [
    ("a", 1, "success", 1, None),
    ("b", 3, "failure", 1, "eu"),
    ("b", 3, "success", 2, "eu"),
    ("b", 3, "success", 2, None),
    ("c", 5, "success", 1, "us"),
]


def row(columns: tuple[str, ...], **values: Any) -> tuple[Any, ...]:
    """One row, NULL in what is not given."""
    assert set(values) <= set(columns)
    return tuple(values.get(column) for column in columns)


def commit_rows() -> list[tuple[Any, ...]]:
    """A straight line of six commits in each repository."""
    return [
        row(
            COMMIT_COLUMNS,
            folded=service.repository,
            sha=f"{number:040d}",
            parents=[f"{number - 1:040d}"] if number else [],
            author="ann" if number % 2 else "renovate[bot]",
            authored_at=START + timedelta(hours=number),
        )
        for service in SERVICES
        for number in range(6)
    ]


def attempt_rows() -> list[tuple[Any, ...]]:
    """Three deployments of each service, the second in two regions and only the second time round."""
    rows = []
    for service in SERVICES:
        for number, (key, commit, status, attempt, region) in enumerate(TRIES):
            rows.append(
                row(
                    ATTEMPT_COLUMNS,
                    service=service.name,
                    kind="deployment",
                    source_id=key,
                    attempt=attempt,
                    region=region,
                    repository=service.repository,
                    environment="production",
                    sha=f"{commit:040d}",
                    status=status,
                    created_at=START + timedelta(days=number),
                    finished_at=START + timedelta(days=number, hours=1),
                    origin="deployments.jsonl",
                    line=number,
                )
            )
    return rows


def request_rows() -> list[tuple[Any, ...]]:
    """A pull request that merged in time, and one that merged after the cut-off."""
    return [
        row(
            PULL_REQUEST_COLUMNS,
            folded="acme/shop",
            number=number,
            created_at=START + timedelta(hours=1),
            merged_at=merged,
            merge_commit_sha=f"{number:040d}",
        )
        for number, merged in ((3, START + timedelta(hours=2)), (2, NOW + timedelta(days=1)))
    ]


INCIDENTS = {
    "shop": [
        Incident(
            key="incident:1",
            ids=("1",),
            service="shop",
            title="Down",
            severity=None,
            labels=(),
            opened_at=START + timedelta(days=3, hours=2),
            impact_started_at=START + timedelta(days=3, hours=2),
            ended_at=None,
            restored_at=None,
            links=(ExplicitLink("deployment", "b"),),
            fixed_by=(),
            url=None,
        )
    ]
}


def derived(
    commits: list[tuple[Any, ...]], requests: list[tuple[Any, ...]], attempts: list[tuple[Any, ...]]
) -> list[Any]:
    """Every fact of both services."""
    repositories = {service.name: {service.repository, "acme/elsewhere"} for service in SERVICES}
    return list(derive_batch(Batch(SERVICES, repositories, commits, requests, attempts, INCIDENTS), TERMS))


IN_ORDER = derived(commit_rows(), request_rows(), attempt_rows())


def test_a_batch_gives_rows_of_all_its_tables_for_all_its_services() -> None:
    assert {table for table, _ in IN_ORDER} == set(FACT_TABLES)
    assert [fact["deployment_key"] for table, fact in IN_ORDER if table == "service_deployments"] == ["a", "b", "c"] * 2
    lead = [(fact["service"], fact["pull_request"]) for table, fact in IN_ORDER if table == "change_lead"]
    assert lead.count(("shop", 3)) == 1
    assert len(lead) == 8


@given(st.permutations(commit_rows()), st.permutations(request_rows()), st.permutations(attempt_rows()))
def test_the_order_of_rows_changes_nothing(
    commits: list[tuple[Any, ...]], requests: list[tuple[Any, ...]], attempts: list[tuple[Any, ...]]
) -> None:
    assert derived(commits, requests, attempts) == IN_ORDER


def test_a_name_tells_a_bot_where_the_record_does_not() -> None:
    commits = histories_of(commit_rows(), ["*[bot]"])["acme/shop"].commits
    assert [commit.is_bot for commit in commits] == [True, False] * 3


def test_what_a_pull_request_did_after_the_cut_off_has_not_happened() -> None:
    later, earlier = pull_requests_of(request_rows(), NOW)["acme/shop"]
    assert (later.number, later.merged_at) == (2, None)
    assert (earlier.number, earlier.merged_at) == (3, START + timedelta(hours=2))


def test_an_error_says_of_which_service_the_facts_were_derived(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(service: Service, *_: object) -> None:
        if service.name == "till":
            raise ZeroDivisionError

    monkeypatch.setattr(batch_module, "derive_service", broken)
    monkeypatch.setattr(batch_module, "fact_rows", lambda *_: [])
    with pytest.raises(ZeroDivisionError) as raised:
        derived([], [], [])
    assert raised.value.__notes__ == ["while the facts of service 'till' were derived"]
