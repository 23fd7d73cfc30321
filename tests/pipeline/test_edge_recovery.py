"""How long failed deployments and incidents took to end: metrics.md sections 2, 6 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.pipeline.conftest import World

RECOVERY = "failed_deployment_recovery_time"
RESTORE = "incident_time_to_restore"


def failures(world: World, *recovered_after: float | None) -> None:
    """One failed change per value, 100 h apart from t = 100 on, recovered after so many hours, or not yet."""
    world.seed()
    world.history(*((f"c{i}", 100 * i - 1) for i in range(1, len(recovered_after) + 1)), onto="c0")
    for i, hours in enumerate(recovered_after, start=1):
        world.deploy(f"d{i}", f"c{i}", 100 * i)
        end = {} if hours is None else {"mitigated": 100 * i + hours}
        world.incident(f"i{i}", 100 * i, **end)


def test_e15_two_overlapping_incidents_are_one_failure_to_the_last_end(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10)
    world.incident("i1", 11, resolved=13)
    world.incident("i2", 12, resolved=16)
    measured = world.measure()
    measured.ratio("change_fail_rate", 1, 1)
    measured.expect(RECOVERY, value=6, n=1, open=0)
    measured.expect(RESTORE, value=3, n=2)


def test_one_open_incident_of_two_keeps_the_recovery_open(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10)
    world.incident("i1", 11, resolved=13)
    world.incident("i2", 12)
    measured = world.measure()
    measured.ratio("change_fail_rate", 1, 1)
    measured.undefined(RECOVERY, "all_open", n=0, open=1)


def test_e16_an_incident_open_at_quarter_end_is_censored_and_restated_later(world: World) -> None:
    failures(world, None)
    world.set(now="2026-04-01T00:00:00Z")
    early = world.measure()
    early.ratio("change_fail_rate", 1, 1)
    early.undefined(RECOVERY, "all_open", n=0, open=1)
    world.records["incidents"][0]["mitigated_at"] = "2026-04-02T00:00:00Z"
    world.set(now="2026-04-05T00:00:00Z")
    later = world.measure()
    later.ratio("change_fail_rate", 1, 1)
    later.expect(RECOVERY, value=87 * 24 - 100, n=1, open=0)


def test_e21_failed_in_one_quarter_and_recovered_in_the_next(world: World) -> None:
    world.seed()
    world.history(("c1", 5), ("c2", 2400), onto="c0")
    world.deploy("d1", "c1", "2026-03-31T12:00:00Z")
    world.incident("i1", "2026-03-31T13:00:00Z", mitigated="2026-04-10T12:00:00Z")
    world.deploy("d2", "c2", "2026-05-20T12:00:00Z")
    world.set(now="2026-04-03T00:00:00Z")
    world.measure("2026-Q1").undefined(RECOVERY, "all_open", n=0, open=1)
    world.set(now="2026-07-05T00:00:00Z")
    second = world.measure("2026-Q2")
    second.undefined(RECOVERY, "no_failed_deployments", open=0)
    second.ratio("change_fail_rate", 0, 1)
    second.expect(RESTORE, value=10 * 24 - 1, n=1)
    first = world.measure("2026-Q1")
    first.expect(RECOVERY, value=240, n=1, open=0)
    first.ratio("change_fail_rate", 1, 1)
    first.undefined(RESTORE, "no_incidents")


def test_with_nothing_open_the_recovery_median_is_interpolated(world: World) -> None:
    failures(world, 1, 2, 3, 4)
    world.measure().expect(RECOVERY, value=2.5, n=4, open=0)


def test_with_some_open_the_recovery_median_is_kaplan_meiers(world: World) -> None:
    # Survival 2/3 after 2 h and 1/3 after 4 h; the open one is 10 h old.
    failures(world, 2, 4, None)
    world.at(310)
    world.measure().expect(RECOVERY, value=4, n=2, open=1, reason=None)


def test_a_young_open_failure_leaves_the_set_at_risk(world: World) -> None:
    # The open one is 1 h old: of the two still at risk after 2 h one has recovered.
    failures(world, 2, 4, None)
    world.at(301)
    world.measure().expect(RECOVERY, value=2, n=2, open=1, reason=None)


def test_a_median_that_survival_never_reaches_is_undefined(world: World) -> None:
    failures(world, 2, None, None)
    world.at(1000)
    world.measure().undefined(RECOVERY, "median_not_reached", n=1, open=2)


def test_recovery_ends_at_the_mitigation_and_restoring_at_the_resolution(world: World) -> None:
    world.seed()
    world.commit("c1", 5, "c0")
    world.deploy("d1", "c1", 10)
    world.incident("i1", 11, mitigated=13, resolved=20)
    measured = world.measure()
    measured.expect(RECOVERY, value=3, n=1)
    measured.expect(RESTORE, value=9, n=1)


def test_each_end_stands_in_for_the_other(world: World) -> None:
    world.seed()
    world.history(("c1", 5), ("c2", 95), onto="c0")
    world.deploy("d1", "c1", 10)
    world.deploy("d2", "c2", 100)
    world.incident("i1", 11, mitigated=13)
    world.incident("i2", 101, resolved=108)
    measured = world.measure()
    measured.expect(RECOVERY, value=5.5, n=2)  # 3 and 8
    measured.expect(RESTORE, value=4.5, n=2)  # 2 and 7


def test_an_incident_is_restored_in_the_period_of_its_resolution(world: World) -> None:
    world.seed()
    world.set(now="2026-07-05T00:00:00Z")
    world.incident("i1", "2026-03-30T00:00:00Z", mitigated="2026-03-31T00:00:00Z", resolved="2026-04-01T00:00:00Z")
    world.measure("2026-Q1").undefined(RESTORE, "no_incidents")
    world.measure("2026-Q2").expect(RESTORE, value=48, n=1)


def test_facts_after_the_cut_off_are_ignored(world: World) -> None:
    failures(world, 3)
    world.at(102)
    measured = world.measure()
    measured.undefined(RECOVERY, "all_open", n=0, open=1)
    world.at(103)
    world.measure().expect(RECOVERY, value=3, n=1, open=0)
