"""What reviews, approvals and tickets say of a deployment, and what a policy makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from analytics.lake.schemas import TABLES
from analytics.supply_chain.controls import Outcome, process_outcomes
from analytics.supply_chain.rules import PROCESS_CONTROLS, Control

FINISHED = datetime(2026, 3, 2, 12)
BEFORE = FINISHED - timedelta(hours=1)
AFTER = FINISHED + timedelta(hours=1)
KEY = ("shop", "500")

Add = Callable[..., None]


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for table in (
            "service_deployments", "deployment_attempts", "change_lead", "pull_requests", "reviews", "approvals",
            "collection",
        ):  # fmt: skip
            columns = ", ".join(f'"{name}" {kind}' for name, kind in TABLES[table].columns.items())
            connection.execute(f"CREATE TABLE {table} ({columns})")
        yield connection


@pytest.fixture
def add(con: duckdb.DuckDBPyConnection) -> Add:
    def insert(table: str, **values: Any) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        con.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", [*values.values()])

    return insert


@pytest.fixture
def deployed(add: Add) -> Add:
    """A deployment by a machine of two commits by ada in one pull request; everything is collected."""
    for entity in ("reviews", "pull_requests", "approvals"):
        add("collection", source="drops", entity=entity, items=0, complete=True)
    add("service_deployments", service="shop", deployment_key="500", kind="change", outcome="success",
        finished_at=FINISHED)  # fmt: skip
    add("deployment_attempts", service="shop", deployment_key="500", source_deployment_id="d1", outcome="success",
        creator="ship-it[bot]")  # fmt: skip
    add("pull_requests", repository="acme/shop", number=7, author="Ada", created_at=BEFORE)
    for sha in ("aa11bb22", "cc33dd44"):
        commit(add, sha)
    return add


def commit(add: Add, sha: str, **values: Any) -> None:
    row = {"author": "ada", "pull_request": 7, "is_bot": False, "repository": "Acme/Shop", **values}
    add("change_lead", service="shop", deployment_key="500", sha=sha, **row)


def review(add: Add, reviewer: str, state: str = "APPROVED", at: datetime = BEFORE, number: int = 7) -> None:
    add("reviews", repository="acme/shop", number=number, reviewer=reviewer, state=state, submitted_at=at)


def approve(add: Add, approver: str, at: datetime = BEFORE, ticket: str | None = None, name: str = "d1") -> None:
    add("approvals", deployment_id=name, approver=approver, approved_at=at, ticket=ticket)


def outcome(con: duckdb.DuckDBPyConnection, control: Control) -> Outcome:
    return process_outcomes(con, ["*[bot]"])[KEY][control]


def test_a_change_that_somebody_else_approved_was_reviewed(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    review(deployed, "grace")
    assert outcome(con, "review") == Outcome("passed", "2 commits, each in an approved pull request")


@pytest.mark.parametrize(
    ("reviewer", "state", "at"),
    [
        ("ADA", "APPROVED", BEFORE),
        ("grace", "COMMENTED", BEFORE),
        ("grace", "CHANGES_REQUESTED", BEFORE),
        ("grace", "APPROVED", AFTER),
    ],
)
def test_ones_own_approval_a_comment_and_a_late_approval_are_no_review(
    con: duckdb.DuckDBPyConnection, deployed: Add, reviewer: str, state: str, at: datetime
) -> None:
    review(deployed, reviewer, state, at)
    assert outcome(con, "review") == Outcome("failed", "nobody else approved pull request #7 before the deployment")


def test_whoever_added_a_commit_to_it_cannot_approve_the_pull_request(
    con: duckdb.DuckDBPyConnection, deployed: Add
) -> None:
    review(deployed, "grace")
    commit(deployed, "ee55ff66", author="Grace")
    assert outcome(con, "review").outcome == "failed"
    review(deployed, "edsger")
    assert outcome(con, "review").outcome == "passed"


def test_a_direct_push_was_not_reviewed(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    review(deployed, "grace")
    commit(deployed, "0123456789", pull_request=None)
    assert outcome(con, "review") == Outcome("failed", "commit 0123456 came without a pull request")


def test_bots_and_merge_commits_need_no_review(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    review(deployed, "grace")
    commit(deployed, "0123456789", pull_request=None, is_bot=True)
    commit(deployed, "9876543210", pull_request=None, excluded="merge_commit")
    assert outcome(con, "review").outcome == "passed"


def test_an_approval_of_another_repositorys_pull_request_does_not_count(
    con: duckdb.DuckDBPyConnection, deployed: Add
) -> None:
    deployed("reviews", repository="acme/till", number=7, reviewer="grace", state="APPROVED", submitted_at=BEFORE)
    assert outcome(con, "review").outcome == "failed"


def test_a_deployment_without_new_commits_has_nothing_to_be_reviewed(
    con: duckdb.DuckDBPyConnection, deployed: Add
) -> None:
    con.execute("DELETE FROM change_lead")
    assert outcome(con, "review") == Outcome("passed", "it shipped no new commit of a person")
    assert outcome(con, "separation_of_duties").outcome == "passed"


def test_what_is_not_in_the_known_history_is_not_evaluated(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    con.execute("DELETE FROM change_lead")
    con.execute("UPDATE service_deployments SET kind = 'unresolved'")
    assert outcome(con, "review").outcome == "not_evaluated"
    assert outcome(con, "separation_of_duties").outcome == "not_evaluated"


@pytest.mark.parametrize(
    ("missing", "controls"),
    [("reviews", {"review"}), ("pull_requests", {"review"}), ("approvals", {"approval", "change_ticket"})],
)
def test_a_control_whose_source_is_not_collected_is_not_evaluated(
    con: duckdb.DuckDBPyConnection, deployed: Add, missing: str, controls: set[str]
) -> None:
    con.execute("DELETE FROM collection WHERE entity = ?", [missing])
    found = process_outcomes(con, [])[KEY]
    assert {name for name, one in found.items() if one.outcome == "not_evaluated"} == controls


def test_duties_are_separate_where_one_approver_wrote_none_of_it(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    approve(deployed, "Ada")
    assert outcome(con, "separation_of_duties") == Outcome("failed", "approved by ada alone, who wrote some of it")
    approve(deployed, "desk")
    assert outcome(con, "separation_of_duties") == Outcome("passed", "approved by desk, who wrote none of it")


@pytest.mark.parametrize(
    ("creator", "expected"), [("ADA", "failed"), ("grace", "passed"), ("ship-it[bot]", "passed"), (None, "passed")]
)
def test_without_an_approval_the_author_may_not_deploy(
    con: duckdb.DuckDBPyConnection, deployed: Add, creator: str | None, expected: str
) -> None:
    con.execute("UPDATE deployment_attempts SET creator = ?", [creator])
    assert outcome(con, "separation_of_duties").outcome == expected


def test_nobody_can_tell_duties_apart_without_names(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    con.execute("UPDATE deployment_attempts SET creator = NULL")
    con.execute("DELETE FROM collection WHERE entity = 'approvals'")
    assert outcome(con, "separation_of_duties").outcome == "not_evaluated"


def test_an_approval_names_an_attempt_or_the_run(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    assert outcome(con, "approval") == Outcome("failed", "nobody approved it")
    approve(deployed, "desk", name="500")
    assert outcome(con, "approval") == Outcome("passed", "approved by desk")
    con.execute("UPDATE approvals SET deployment_id = 'd1'")
    assert outcome(con, "approval") == Outcome("passed", "approved by desk")
    con.execute("UPDATE approvals SET deployment_id = 'd2'")
    assert outcome(con, "approval").outcome == "failed"


def test_an_approval_after_the_fact_is_none(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    approve(deployed, "desk", at=AFTER, ticket="CHG-1")
    assert outcome(con, "approval") == Outcome("failed", "nobody approved it before it was finished")
    assert outcome(con, "change_ticket").outcome == "failed"


def test_a_ticket_stands_in_an_approval(con: duckdb.DuckDBPyConnection, deployed: Add) -> None:
    assert outcome(con, "change_ticket").note == "it has no approval with a ticket"
    approve(deployed, "desk", ticket=" ")
    assert outcome(con, "change_ticket") == Outcome("failed", "its approval names no ticket")
    approve(deployed, "desk-2", ticket="CHG-1")
    assert outcome(con, "change_ticket") == Outcome("passed", "CHG-1")


def test_every_control_is_asked_of_every_success_and_of_nothing_else(
    con: duckdb.DuckDBPyConnection, deployed: Add
) -> None:
    deployed("service_deployments", service="shop", deployment_key="501", outcome="failure", finished_at=FINISHED)
    found = process_outcomes(con, [])
    assert list(found) == [KEY]
    assert tuple(found[KEY]) == PROCESS_CONTROLS
