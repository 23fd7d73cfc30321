"""A published value of a closed quarter changes only through a restatement that says from what, to what and why.

One history, told once: each step corrects something and measures again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

QUARTER = "2026-Q1"
Story = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def story(new_world: Callable[[], World]) -> Story:
    """Restatements that each step added, by the name of the step."""
    world = new_world()
    world.seed()
    world.history(("c1", 1), ("c2", 50), onto="c0")
    world.deploy("d1", "c1", 10)
    world.deploy("d2", "c2", 100)
    world.incident("i0", 2000, deployment_id="d2")
    world.measure()
    steps: Story = {}

    def step(name: str, quarter: str = QUARTER) -> None:
        world.measure(quarter)
        rows = sorted(world.facts("restatements"), key=lambda row: row["recorded_at"])
        steps[name] = rows[sum(map(len, steps.values())) :]

    world.incident("i1", 101, mitigated=103)
    step("before any pack")
    # The pack stage would take seconds; what counts is that its finished folder is there.
    (world.path / "data" / "packs" / QUARTER).mkdir(parents=True)
    step("nothing changed")
    world.incident("i2", 11, mitigated=14)
    step("late incident")
    step("the same again")
    world.records["deployments"][-1].update(started_at=world.stamp(101), finished_at=world.stamp(102))
    step("corrected deployment")
    world.catalog[0]["since"] = "2026-01-09"
    step("changed catalog")
    world.set(rework={"labels": ["urgent"]})
    world.records["deployments"][-1]["labels"] = ["urgent"]
    step("changed rule")
    world.collected("gate_results")
    world.add("gate_results", repository="acme/shop", run_id="r1", gate="scan", outcome="blocked", at=world.stamp(30))
    step("new source")
    world.records["incidents"][0]["mitigated_at"] = "2026-04-20T00:00:00Z"
    world.at("2026-07-05T00:00:00Z")
    step("the next quarter", "2026-Q2")
    return steps


def change(rows: list[dict[str, Any]], metric: str, name: str = "checkout") -> tuple[Any, Any, str]:
    [row] = [
        row
        for row in rows
        if (row["metric"], row["name"], row["quarter"]) == (metric, name, QUARTER) and row["series"] != "all"
    ]
    return row["old_value"], row["new_value"], row["cause"]


def test_a_quarter_that_no_pack_has_told_is_simply_measured_again(story: Story) -> None:
    assert story["before any pack"] == []


def test_measuring_again_what_has_not_changed_restates_nothing(story: Story) -> None:
    assert story["nothing changed"] == []


def test_a_late_incident_restates_the_quarter_and_is_the_cause(story: Story) -> None:
    for name in ("checkout", "payments", "Acme"):
        assert change(story["late incident"], "change_fail_rate", name) == (0.5, 1.0, "later facts: incidents")
    assert {row["metric"] for row in story["late incident"]} == {
        "change_fail_rate",
        "change_fail_rate_changes_only",
        "failed_deployment_recovery_time",
        "incident_time_to_restore",
    }


def test_a_restatement_holds_what_a_reader_must_know(story: Story) -> None:
    [row] = [
        row
        for row in story["late incident"]
        if (row["metric"], row["scope"]) == ("failed_deployment_recovery_time", "service")
    ]
    # d2 is open until the end; d1 recovered within 4 h, and half of the two is the median.
    assert (row["old_n"], row["new_n"]) == (0, 1)
    assert (row["old_value"], row["new_value"]) == (None, 4.0)
    assert row["definition"] == "failed_deployment_recovery_time@1"
    assert str(row["recorded_at"]).startswith("2026-04-10 00:00:00")


def test_a_restatement_is_told_once(story: Story) -> None:
    assert story["the same again"] == []


def test_a_corrected_record_restates(story: Story) -> None:
    # 9 h, and 50 h that became 52 h.
    assert change(story["corrected deployment"], "change_lead_time") == (29.5, 30.5, "later facts: deployments")


def test_a_change_of_the_catalog_is_the_cause(story: Story) -> None:
    old, new, cause = change(story["changed catalog"], "deployment_frequency")
    assert (old, new, cause) == (pytest.approx(2 / 90), pytest.approx(1 / 82), "catalog changed")


def test_a_change_of_a_rule_is_named(story: Story) -> None:
    cause = "later facts: deployments; settings changed: rework"
    assert change(story["changed rule"], "deployment_rework_rate") == (0.0, 0.5, cause)


def test_a_source_that_joins_is_named_as_newly_collected(story: Story) -> None:
    cause = "newly collected: gate_results"
    assert change(story["new source"], "gate_false_positive_rate") == (None, 0.0, cause)


def test_a_failure_that_recovers_in_the_next_quarter_restates_its_own(story: Story) -> None:
    """metrics.md E21: the first quarter's pack says open = 1, the next one restates it."""
    old, new, cause = change(story["the next quarter"], "failed_deployment_recovery_time")
    assert (old, cause) == (4.0, "later facts: incidents")
    # Until 20 April, from 102 h after 5 January.
    assert new == pytest.approx((4 + 105 * 24 - 102) / 2)


def test_the_restoration_of_an_incident_belongs_to_the_quarter_in_which_it_was_restored(story: Story) -> None:
    assert not [row for row in story["the next quarter"] if row["metric"] == "incident_time_to_restore"]


def test_only_the_quarters_that_a_pack_told_are_restated(story: Story) -> None:
    assert {row["quarter"] for rows in story.values() for row in rows} <= {"2025-Q4", QUARTER}
