"""Which deployment a record is of: that of its repository and environment that was nearest in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from analytics.supply_chain.joining import Artifacts, Deployed
from analytics.supply_chain.recorded import DeploymentRecord, read_records, recorded_artifacts

NOON = datetime(2026, 3, 1, 12)
OLD, NEW = "sha256:" + "01" * 32, "sha256:" + "02" * 32
RECORD = DeploymentRecord(OLD, "acme/shop", "production", None, None, "web", NOON)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def deployed(key: str = "d1", *, begun: float = 0, ended: float = 5, service: str = "shop", **more: Any) -> Deployed:
    """A deployment of acme/shop that began and ended so many minutes after noon."""
    end = NOON + minutes(ended)
    made = Deployed(
        service, key, key, "acme/shop", "acme/shop", "c0" * 20, None, None, None, end, end.date(), 1, "c0" * 20,
        "production", NOON + minutes(begun),
    )  # fmt: skip
    return replace(made, **more)


def at(count: float, digest: str = OLD, **more: Any) -> DeploymentRecord:
    return replace(RECORD, digest=digest, recorded_at=NOON + minutes(count), **more)


def joined(records: list[DeploymentRecord], *deployments: Deployed) -> dict[str, set[str]]:
    services = {one.service for one in deployments}
    found = recorded_artifacts(records, deployments, services)
    return {key if len(services) == 1 else f"{service} {key}": set(told) for (service, key), told in found.items()}


@pytest.mark.parametrize(("count", "found"), [(-11, False), (-10, True), (3, True), (65, True), (66, False)])
def test_a_record_is_made_around_its_deployment(count: float, *, found: bool) -> None:
    assert joined([at(count)], deployed()) == ({"d1": {OLD}} if found else {})


def test_each_of_two_deployments_in_a_row_has_the_record_nearest_to_it() -> None:
    first, second = deployed("d1"), deployed("d2", begun=20, ended=25)
    assert joined([at(6), at(26, NEW)], first, second) == {"d1": {OLD}, "d2": {NEW}}
    # That of the first was overwritten before anybody asked; the second's is not the first's.
    assert joined([at(26, NEW)], first, second) == {"d2": {NEW}}
    # A record between them is of the one that it is nearer to.
    assert joined([at(8)], first, deployed("d2", begun=12, ended=14)) == {"d1": {OLD}}


def test_of_the_records_of_one_place_the_nearest_counts_and_then_the_last() -> None:
    assert joined([at(-5), at(1, NEW)], deployed()) == {"d1": {NEW}}
    assert joined([at(1), at(2, NEW)], deployed()) == {"d1": {NEW}}
    assert joined([at(1, NEW), at(20)], deployed()) == {"d1": {NEW}}
    # Another place runs another artifact of the same deployment.
    assert joined([at(1), at(2, NEW, deployment_name="worker")], deployed()) == {"d1": {OLD, NEW}}


@pytest.mark.parametrize(
    ("told", "environment", "found"),
    [
        ({}, "production", True),
        ({}, "Production", True),
        ({"environment": "prod"}, "production", True),
        ({}, None, True),
        ({"environment": "staging"}, "production", False),
        ({"environment": "staging"}, None, False),
        ({"physical_environment": "eu"}, "production-eu", True),
        ({"physical_environment": "eu"}, "eu", True),
        ({"physical_environment": "eu"}, "production-us", False),
        ({}, "production-eu", False),
        ({"repository": "acme/till"}, "production", False),
    ],
)
def test_a_record_is_of_its_repository_and_environment(
    told: dict[str, Any], environment: str | None, *, found: bool
) -> None:
    deployment = deployed(environment=environment)
    assert joined([at(1, **told)], deployment) == ({"d1": {OLD}} if found else {})


def test_the_records_of_a_gitops_deployment_are_of_the_repository_that_was_built() -> None:
    assert joined([at(1)], deployed(repository="acme/config")) == {"d1": {OLD}}


def test_a_record_that_is_named_like_a_service_is_of_that_service_before_all_others() -> None:
    shop, till = deployed(), deployed("t1", service="till")
    named = at(1, NEW, deployment_name="till")
    assert joined([at(1), named], shop, till) == {"shop d1": {OLD}, "till t1": {NEW}}


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute(
        "CREATE TABLE artifacts (digest VARCHAR, name VARCHAR, repository VARCHAR, sha VARCHAR, run_id VARCHAR, "
        "release VARCHAR)"
    )
    made.execute(
        "CREATE TABLE deployment_records (digest VARCHAR, repository VARCHAR, environment VARCHAR, "
        "physical_environment VARCHAR, cluster VARCHAR, deployment_name VARCHAR, recorded_at TIMESTAMP, status VARCHAR)"
    )
    return made


def test_names_are_folded_and_what_was_taken_down_is_no_deployment(con: duckdb.DuckDBPyConnection) -> None:
    con.executemany(
        "INSERT INTO deployment_records VALUES (?, 'Acme/Shop', 'Production', NULL, NULL, 'Web', ?, ?)",
        [(OLD.upper().replace("SHA", "sha"), NOON, "deployed"), (NEW, NOON, "decommissioned")],
    )
    assert read_records(con) == [RECORD]


def test_a_record_is_weaker_than_the_payload_and_stronger_than_a_release(con: duckdb.DuckDBPyConnection) -> None:
    con.executemany(
        "INSERT INTO artifacts VALUES (?, ?, 'acme/shop', ?, NULL, NULL)", [(NEW, "app", "c0" * 20), (OLD, "app", None)]
    )
    told = {("shop", "d1"): {OLD}}
    (by_record,) = Artifacts(con, {}, told).of(deployed())
    assert (by_record.digest, by_record.join_kind, by_record.artifact) == (OLD, "record", "app")
    (by_payload,) = Artifacts(con, {}, told).of(deployed(digest=NEW))
    assert (by_payload.digest, by_payload.join_kind) == (NEW, "payload")
    (by_commit,) = Artifacts(con, {}, told).of(deployed("d2"))
    assert (by_commit.digest, by_commit.join_kind) == (NEW, "release")
    # An artifact that the catalog does not mean is not what was shipped.
    con.execute("UPDATE artifacts SET name = 'tests' WHERE digest = ?", [OLD])
    (other,) = Artifacts(con, {"shop": ["app"]}, told).of(deployed())
    assert (other.digest, other.join_kind) == (NEW, "release")
