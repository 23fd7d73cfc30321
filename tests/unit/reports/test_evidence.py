"""The rows behind charts and lists: what counts, what is left out, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pytest

from reports.coverage import LINKED, RESOLVED, read_data_quality
from reports.evidence import (
    read_deployments_by_day,
    read_failed_deployments,
    read_lead_lower_quartiles,
    read_open_incidents,
    read_pipelines,
    read_slowest_changes,
    read_stages,
)
from reports.published import open_published
from tests.unit.reports.published_world import HOUR_US, World, publish, settings_of, utc

FIRST, END = date(2026, 7, 1), date(2026, 10, 1)
DAY = date(2026, 8, 3)
Result = TypeVar("Result")


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[World, Callable[[duckdb.DuckDBPyConnection], Any]], Any]:
    """Publishes a world and puts a question to it."""

    def ask(world: World, question: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
        settings = settings_of(tmp_path)
        publish(settings, world)
        with open_published(settings) as con:
            return question(con)

    return ask


Ask = Callable[[World, Callable[[duckdb.DuckDBPyConnection], Any]], Any]


def change(world: World, hours: float, **more: Any) -> None:
    row = {
        "service": "checkout",
        "deployment_key": "run:1",
        "repository": "acme/checkout",
        "sha": f"{len(world.rows.get('change_lead', [])):040x}",
        "is_bot": False,
        "finished_at": utc(2026, 8, 3),
        "day": DAY,
        "lead_us": int(hours * HOUR_US),
    }
    world.add("change_lead", **{**row, **more})


def changes() -> World:
    """Leads of 1 to 5 hours, and four that the metric leaves out."""
    world = World()
    for hours in (1, 2, 3, 4, 5):
        change(world, hours, review_us=hours * HOUR_US)
    change(world, 100, is_bot=True, review_us=100 * HOUR_US)
    change(world, 200, excluded="merge_commit", review_us=200 * HOUR_US)
    change(world, 300, day=date(2026, 10, 1), review_us=300 * HOUR_US)
    world.add("change_lead", service="checkout", day=DAY, lead_us=None, is_bot=False, sha="none")
    return world


def test_lower_quartiles_leave_out_bots_and_excluded_changes(asked: Ask) -> None:
    world = changes()
    change(world, 9, service="ledger")
    found = asked(world, lambda con: read_lead_lower_quartiles(con, ["2026-Q3"]))
    assert (found["checkout", "2026-Q3"].hours, found["checkout", "2026-Q3"].n) == (2.0, 5)
    assert (found[None, "2026-Q3"].hours, found[None, "2026-Q3"].n) == (2.25, 6)


def test_stage_medians_count_the_changes_that_have_the_stage(asked: Ask) -> None:
    world = changes()
    change(world, 8)
    found = asked(world, lambda con: read_stages(con, ["2026-Q3"]))
    assert {stage: (one.hours, one.n) for (_, stage), one in found.items()} == {"review": (3.0, 5)}


def test_the_slowest_changes_are_the_ones_that_count(asked: Ask) -> None:
    found = asked(changes(), lambda con: read_slowest_changes(con, FIRST, END, 2))
    assert [one.hours for one in found["checkout"]] == [5.0, 4.0]


def test_deployments_by_day_are_the_successful_ones(asked: Ask) -> None:
    world = World()
    for outcome in ("success", "success", "failure", "cancelled"):
        world.add("service_deployments", service="checkout", outcome=outcome, day=DAY)
    world.add("service_deployments", service="checkout", outcome="success", day=END)
    assert asked(world, lambda con: read_deployments_by_day(con, FIRST, END)) == {DAY: 2}


def test_a_failed_deployment_carries_its_counted_links_only(asked: Ask) -> None:
    world = World()
    shared = {"service": "checkout", "deployment_key": "run:1", "day": DAY}
    world.add("service_deployments", **shared, outcome="success", failed=True, created_at=utc(2026, 8, 3))
    world.add("service_deployments", service="ledger", deployment_key="run:1", outcome="success", failed=False, day=DAY)
    world.add("failure_links", **shared, method="time", evidence="near in time", counted=False)
    world.add("failure_links", **shared, method="explicit", evidence="named", counted=True)
    world.add("failure_links", service="ledger", deployment_key="run:1", method="time", day=DAY, counted=True)
    (failed,) = asked(world, lambda con: read_failed_deployments(con, FIRST, END))
    assert [link.evidence for link in failed.links] == ["named"]
    assert failed.finished_at == utc(2026, 8, 3)


def test_open_incidents_began_before_the_quarters_end_and_have_none(asked: Ask) -> None:
    world = World()
    for key, opened, ended in (
        ("newer", utc(2026, 9, 1), None),
        ("older", utc(2026, 3, 1), None),
        ("ended", utc(2026, 8, 1), utc(2026, 8, 2)),
        ("later", utc(2026, 10, 2), None),
    ):
        world.add(
            "service_incidents",
            service="checkout",
            incident_key=key,
            opened_at=opened,
            opened_day=opened.date(),
            ended_at=ended,
        )
    found = asked(world, lambda con: read_open_incidents(con, END))
    assert [one.incident_key for one in found] == ["older", "newer"]


def test_hours_of_a_run_that_passed_later_are_lost_to_retries(asked: Ask) -> None:
    world = World()
    shared: dict[str, Any] = {"repository": "acme/shop", "workflow": "build", "day": DAY, "counted": True}
    world.add("run_attempts", **shared, run_id="1", attempt=1, is_first=True, succeeded=False, lost_us=2 * HOUR_US)
    world.add(
        "run_attempts", **shared, run_id="1", attempt=2, is_first=False, succeeded=True, run_succeeded=True, flaky=True
    )
    world.add("run_attempts", **shared, run_id="2", attempt=1, is_first=True, succeeded=False, lost_us=3 * HOUR_US)
    job: dict[str, Any] = {"repository": "acme/shop", "run_id": "2", "attempt": 1, "day": DAY, "queue_us": HOUR_US}
    world.add("job_times", **job, job_id="a", carried_over=False)
    world.add("job_times", **job, job_id="b", carried_over=False)
    world.add("job_times", **job, job_id="c", carried_over=True)
    (pipeline,) = asked(world, lambda con: read_pipelines(con, FIRST, END))
    assert (pipeline.failed_hours, pipeline.retried_hours, pipeline.queue_hours) == (3.0, 2.0, 2.0)
    assert (pipeline.runs, pipeline.attempts, pipeline.failed, pipeline.flaky_runs) == (2, 3, 2, 1)
    assert pipeline.lost_hours == 7.0


def test_pipelines_are_ranked_by_hours_lost(asked: Ask) -> None:
    world = World()
    for workflow, hours in (("a", 1), ("b", 3), ("c", 1)):
        world.add(
            "run_attempts",
            repository="acme/shop",
            workflow=workflow,
            run_id=workflow,
            attempt=1,
            day=DAY,
            counted=True,
            succeeded=False,
            lost_us=hours * HOUR_US,
        )
    assert [one.workflow for one in asked(world, lambda con: read_pipelines(con, FIRST, END))] == ["b", "a", "c"]


def test_coverage_counts_successful_deployments_and_incidents_of_the_quarter(asked: Ask) -> None:
    world = World()
    for resolved, outcome, day in ((True, "success", DAY), (False, "success", DAY), (True, "failure", DAY)):
        world.add("service_deployments", service="checkout", resolved=resolved, outcome=outcome, day=day)
    for linked, reason in ((True, None), (False, "outside_window"), (False, None)):
        world.add("service_incidents", service="checkout", linked=linked, unlinked_reason=reason, opened_day=DAY)
    quality = asked(world, lambda con: read_data_quality(con, FIRST, END, []))
    resolved_share, linked_share = quality.share(RESOLVED), quality.share(LINKED)
    assert (resolved_share.covered, resolved_share.of) == (1, 2)
    assert (linked_share.covered, linked_share.of) == (1, 3)
    assert quality.unlinked == [("no reason recorded", 1), ("outside_window", 1)]
