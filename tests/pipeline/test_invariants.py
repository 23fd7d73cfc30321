"""What holds for every world: the invariants I1 to I9 of metrics.md section 5, and naive oracles beside the product."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.pipeline.conftest import Metrics, World

SERVICES = ("checkout", "billing")
RATES = [
    "change_fail_rate",
    "change_fail_rate_changes_only",
    "deployment_rework_rate",
    "deployment_success_rate",
    "pipeline_success_rate",
    "pipeline_success_rate_final",
    "pipeline_flake_rate",
    "pipeline_rerun_rate",
]
EXPLAINED = ["deployment_frequency", *RATES[:5], "pipeline_flake_rate"]
QUANTILES = {"change_lead_time": 0.5, "change_lead_time_p75": 0.75, "change_lead_time_p95": 0.95}

fast = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
long = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Deployed:
    """One generated deployment: indexes of its commit (None: unknown) and service, its times and outcome."""

    service: int
    commit: int | None
    started: float
    finished: float
    status: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Broke:
    """One generated incident."""

    service: int
    impact: float
    lasted: float | None
    deployment: int | None = None


@dataclass(frozen=True)
class Past:
    """A generated past: parents (indexes) and author of each commit, deployments, incidents."""

    commits: tuple[tuple[tuple[int, ...], str, bool], ...]
    deployments: tuple[Deployed, ...]
    incidents: tuple[Broke, ...]
    runs: tuple[tuple[str, ...], ...]  # conclusions of each run's attempts

    def into(self, world: World) -> World:
        """Tell a world this past: both services live in one repository, an hour between commits."""
        for service in SERVICES:
            world.service(service, team=f"team of {service}")
        for index, (parents, author, is_revert) in enumerate(self.commits):
            message = f"Work on c{index}"
            if is_revert and index:
                message = f"Revert it\n\nThis reverts commit {world.sha(f'c{index - 1}')}."
            world.commit(f"c{index}", index, *(f"c{p}" for p in parents), author=author, message=message)
        for index, it in enumerate(self.deployments):
            world.deploy(
                f"d{index}",
                "nobody's" if it.commit is None else f"c{it.commit}",
                it.finished,
                started=it.started,
                status=it.status,
                service=SERVICES[it.service],
                labels=list(it.labels) or None,
            )
        for index, broke in enumerate(self.incidents):
            end = {} if broke.lasted is None else {"mitigated": broke.impact + broke.lasted}
            link = {} if broke.deployment is None else {"deployment_id": f"d{broke.deployment}"}
            world.incident(f"i{index}", broke.impact, service=SERVICES[broke.service], **end, **link)
        world.collected("pipeline_runs")
        for index, conclusions in enumerate(self.runs):
            for attempt, conclusion in enumerate(conclusions, start=1):
                world.pipeline_run(f"r{index}", conclusion, index, attempt=attempt, commit=f"commit of r{index}")
        return world


@st.composite
def pasts(draw: st.DrawFn) -> Past:
    """Random graphs of up to ten commits, up to nine deployments of two services, up to four incidents."""
    commits = []
    for index in range(draw(st.integers(1, 10))):
        earlier = st.integers(max(0, index - 3), index - 1)
        parents = draw(st.lists(earlier, min_size=1, max_size=2, unique=True)) if index else []
        author = draw(st.sampled_from(["ada", "bob", "dependabot[bot]"]))
        commits.append((tuple(parents), author, draw(st.booleans()) and draw(st.booleans())))
    deployments = []
    for _ in range(draw(st.integers(0, 9))):
        finished = draw(st.integers(1, 60))
        unknown = draw(st.integers(0, 7)) == 0
        deployments.append(
            Deployed(
                service=draw(st.integers(0, 1)),
                commit=None if unknown else draw(st.integers(0, len(commits) - 1)),
                started=finished - draw(st.sampled_from([0, 0.5, 4])),
                finished=finished,
                status=draw(st.sampled_from(["success", "success", "success", "failure", "cancelled"])),
                labels=draw(st.sampled_from([(), (), (), ("hotfix",)])),
            )
        )
    incidents = [
        Broke(
            service=draw(st.integers(0, 1)),
            impact=draw(st.integers(0, 90)),
            lasted=draw(st.none() | st.sampled_from([0, 0.5, 3, 30])),
            deployment=draw(st.none() | st.integers(0, 10)),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    conclusions = st.sampled_from(["success", "failure", "cancelled", "timed_out"])
    runs = draw(st.lists(st.lists(conclusions, min_size=1, max_size=3).map(tuple), max_size=4))
    return Past(tuple(commits), tuple(deployments), tuple(incidents), tuple(runs))


# Naive oracles


def successes(past: Past, service: int) -> list[tuple[str, Deployed]]:
    """Successful deployments of a service in the order of its history."""
    named = [(f"d{index}", it) for index, it in enumerate(past.deployments)]
    own = [(name, it) for name, it in named if it.service == service and it.status == "success"]
    return sorted(own, key=lambda pair: (pair[1].finished, pair[1].started, pair[0]))


def owners(past: Past, service: int) -> dict[int, str]:
    """Commit to the deployment that owns it: what each reaches less what all before it reached."""

    def reach(commit: int) -> set[int]:
        return {commit}.union(*(reach(parent) for parent in past.commits[commit][0]))

    owner: dict[int, str] = {}
    reached: set[int] | None = None
    for name, it in successes(past, service):
        if it.commit is None:
            continue
        if reached is None:
            reached = reach(it.commit)  # the seed owns nothing
        owner.update(dict.fromkeys(reach(it.commit) - reached, name))
        reached |= reach(it.commit)
    return owner


def quantile(values: list[float], share: float) -> float:
    """Linear interpolation between order statistics (Hyndman and Fan's seventh)."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


# I1, I2, I4, I6, I7, I8 on one measured world


def check_ownership(past: Past, world: World) -> None:
    """I1, and the oracle: a commit has at most one owner per service, and it is the one brute force finds."""
    for index, service in enumerate(SERVICES):
        rows = world.facts("change_lead", service=service)
        shas = Counter(row["sha"] for row in rows)
        assert not shas or max(shas.values()) == 1
        wanted = {world.sha(f"c{commit}"): name for commit, name in owners(past, index).items()}
        assert {row["sha"]: row["deployment_key"] for row in rows} == wanted


def check_values(past: Past, measured: Metrics) -> None:
    """I2 and I4: rates within bounds, failed at most deployed, undefined is null with its reason and never 0."""
    for row in measured.rows:
        assert (row["value"] is None) == (row["reason"] is not None), row
        assert row["value"] is None or math.isfinite(row["value"]), row
        if row["metric"] in RATES:
            assert (row["value"] is None) == (not row["denominator"]), row
            if row["value"] is not None:
                assert 0 <= row["numerator"] <= row["denominator"], row
                assert row["value"] == pytest.approx(row["numerator"] / row["denominator"]), row
            if row["value"] is not None and row["metric"].startswith("change_fail_rate"):
                assert 0 <= row["low"] <= row["value"] + 1e-12, row
                assert row["value"] - 1e-12 <= row["high"] <= 1, row
        if row["metric"] in QUANTILES:
            assert (row["value"] is None) == (row["n"] == 0), row
    for index, service in enumerate(SERVICES):
        measured.deployments(len(successes(past, index)), name=service)
        if measured.of("change_fail_rate", service).value is not None:
            failed = measured.of("change_fail_rate", service)
            assert failed.denominator == len(successes(past, index))


def check_sums(measured: Metrics) -> None:
    """I7: counts of services that share nothing sum to the organisation's."""
    counted = [(metric, None, field) for metric in RATES[:4] for field in ("numerator", "denominator")]
    counted += [("deployment_frequency", None, "numerator"), ("incident_time_to_restore", None, "n")]
    counted += [(metric, series, "n") for metric in QUANTILES for series in ("human", "all")]
    counted += [("failed_deployment_recovery_time", None, field) for field in ("n", "open")]
    for metric, series, field in counted:
        parts = [getattr(measured[metric, "service", name, series], field) or 0 for name in SERVICES]
        teams = [getattr(measured[metric, "team", f"team of {name}", series], field) or 0 for name in SERVICES]
        whole = getattr(measured[metric, "organization", "Acme", series], field) or 0
        assert (sum(parts), teams) == (whole, parts), (metric, series, field)


def check_drill_down(world: World, measured: Metrics, scope: str) -> None:
    """I6 and I8: every headline is recomputed from the rows that `explain` prints."""
    name = "checkout" if scope == "service" else "Acme"
    service = name if scope == "service" else None
    rows = [each for each in world.explain("change_lead_time", service)["rows"] if each["excluded"] is None]
    hours = [each["hours"] for each in rows]
    for metric, share in QUANTILES.items():
        row = measured.of(metric, name, scope)
        assert len(hours) == row.n, metric
        assert row.value == (pytest.approx(quantile(hours, share)) if hours else None), metric
    for metric in EXPLAINED:
        row = measured.of(metric, name, scope)
        explained = world.explain(metric, service)
        rows = [each for each in explained["rows"] if each["excluded"] is None]
        assert (explained["value"], explained["reason"]) == (row.value, row.reason), metric
        if row.value is not None:
            assert sum(each["numerator"] for each in rows) == row.numerator, metric
        if row.value is not None and metric in RATES:
            assert sum(each["denominator"] for each in rows) == row.denominator, metric


@given(past=pasts())
@long
def test_numbers_hold_together(new_world: Callable[[], World], past: Past) -> None:
    world = past.into(new_world())
    measured = world.measure()
    check_ownership(past, world)
    check_values(past, measured)
    check_sums(measured)
    check_drill_down(world, measured, "service" if len(past.commits) % 2 else "organization")


# I5: the order of arrival


def arriving(world: World, seed: int) -> Metrics:
    """Pull the same records shuffled, split over files, some twice, in two visits with a measurement between."""
    rng = random.Random(seed)
    world.declare()
    later: dict[str, list[dict[str, Any]]] = {}
    for entity, records in world.records.items():
        mixed = records + rng.sample(records, len(records) // 2)
        rng.shuffle(mixed)
        cut = rng.randint(0, len(mixed))
        later[entity] = mixed[cut:]
        world.write_feed(f"{entity}/b.jsonl", mixed[:cut])
    world.command("pull")
    world.measure_landed()
    for entity, records in later.items():
        cut = rng.randint(0, len(records))
        grown = (world.feeds / entity / "b.jsonl").open("a", encoding="utf-8")
        with grown:
            world.write_feed(f"{entity}/a.jsonl", records[:cut])
            grown.write((world.feeds / entity / "a.jsonl").read_text(encoding="utf-8"))
        world.write_feed(f"{entity}/c.jsonl", records[cut:])
    world.command("pull")
    world.command("pull")
    return world.measure_landed()


@given(past=pasts(), seed=st.integers(0, 2**16))
@settings(long, max_examples=20)
def test_the_order_of_arrival_never_matters(new_world: Callable[[], World], past: Past, seed: int) -> None:
    at_once = past.into(new_world()).measure()
    bit_by_bit = arriving(past.into(new_world()), seed)
    assert bit_by_bit.by_key == at_once.by_key


# Kinds and links against brute force


def kinds_of(line: list[int]) -> list[str]:
    """The kind of each deployment of a commit's index on one line, found from all before it."""
    kinds = []
    for number, commit in enumerate(line):
        before = line[:number]
        if not before:
            kinds.append("seed")
        elif commit == before[-1]:
            kinds.append("noop")
        elif commit > max(before):
            kinds.append("change")
        elif commit > before[-1]:
            kinds.append("redeploy")
        else:
            kinds.append("rollback" if commit in before else "downgrade")
    return kinds


@given(lines=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=6))
@settings(fast, max_examples=8)
def test_kinds_on_lines_of_commits(new_world: Callable[[], World], lines: list[list[int]]) -> None:
    world = new_world()
    for index, line in enumerate(lines):
        service, repository = f"service {index}", f"acme/{index}"
        world.service(service, repository=repository)
        world.history(*((f"{index}:{commit}", commit) for commit in range(6)), repository=repository)
        for number, commit in enumerate(line):
            world.deploy(f"{index}:d{number}", f"{index}:{commit}", 10 * (number + 1), repository=repository)
    measured = world.measure()
    for index, line in enumerate(lines):
        facts = world.facts("service_deployments", service=f"service {index}")
        found = [row["kind"] for row in sorted(facts, key=lambda row: row["finished_at"])]
        assert found == kinds_of(line), line
        measured.ratio("deployment_rework_rate", found.count("rollback"), len(line), f"service {index}")


@given(
    cases=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=1, max_size=5),
            st.lists(st.integers(0, 150), max_size=5),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(fast, max_examples=8)
def test_links_by_time_against_a_search_of_all(
    new_world: Callable[[], World], cases: list[tuple[list[tuple[int, int]], list[int]]]
) -> None:
    world = new_world()
    wanted: list[tuple[set[str], int, int]] = []
    for index, (rollouts, impacts) in enumerate(cases):
        service, repository = f"service {index}", f"acme/{index}"
        world.service(service, repository=repository)
        world.seed(f"{index}:old", repository=repository, service=service)
        spans: list[tuple[int, int]] = []
        for gap, length in rollouts:
            start = (spans[-1][1] if spans else 0) + gap
            spans.append((start, start + length))
        commits = ((f"{index}:c{i}", start) for i, (start, _) in enumerate(spans))
        world.history(*commits, onto=f"{index}:old", repository=repository)
        for i, (start, finish) in enumerate(spans):
            world.deploy(f"{index}:d{i}", f"{index}:c{i}", finish, started=start, repository=repository)
        failed = set()
        for i, impact in enumerate(impacts):
            world.incident(f"{index}:i{i}", impact, resolved=impact + 1, service=service)
            near = [n for n, (start, finish) in enumerate(spans) if start <= impact and impact - finish <= 24]
            if near:
                failed.add(f"{index}:d{max(near)}")
        wanted.append((failed, len(spans), len(impacts)))
    measured = world.measure()
    for index, (failed, deployed, incidents) in enumerate(wanted):
        rows = world.facts("service_deployments", service=f"service {index}", failed=True)
        assert {row["deployment_key"] for row in rows} == failed
        measured.ratio("change_fail_rate", len(failed), deployed, f"service {index}")
        if incidents:
            measured.expect("incident_time_to_restore", f"service {index}", value=1, n=incidents)


# I3: a closed period


@given(past=pasts(), later=st.lists(st.integers(0, 9), min_size=1, max_size=4))
@settings(fast, max_examples=5)
def test_a_closed_quarter_is_not_changed_by_later_deployments(
    new_world: Callable[[], World], past: Past, later: list[int]
) -> None:
    world = past.into(new_world())
    world.set(now="2026-04-01T00:00:00Z")
    closed = world.measure()
    world.set(now="2026-07-05T00:00:00Z")
    for number, commit in enumerate(later):
        world.commit(f"later {number}", 2400 + number, f"c{min(commit, len(past.commits) - 1)}")
        world.deploy(f"later-{number}", f"later {number}", 2500 + number, service="checkout")
    again = world.measure()
    kept = ("deployment_frequency", "deployment_success_rate", "deployment_rework_rate", *QUANTILES, *RATES[4:])
    for key, row in closed.by_key.items():
        if key[0] in kept:
            assert again.by_key[key] == row


# I9: the declared zone


@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati"]),
    minutes=st.lists(st.integers(-3 * 1440, 3 * 1440), min_size=1, max_size=8, unique=True),
)
@settings(fast, max_examples=5)
def test_a_declared_zone_is_honoured(new_world: Callable[[], World], zone: str, minutes: list[int]) -> None:
    world = new_world()
    world.set(time_zone=zone, now="2026-07-05T00:00:00Z")
    world.seed()
    boundary = datetime(2026, 4, 1, tzinfo=UTC)
    moments = [boundary + timedelta(minutes=offset) for offset in minutes]
    for number, moment in enumerate(moments):
        world.deploy(f"d{number}", "c0", moment)
    first = sum(moment.astimezone(ZoneInfo(zone)).month < 4 for moment in moments)
    world.measure("2026-Q1").deployments(first, 90)
    world.measure("2026-Q2").deployments(len(moments) - first, 91)
