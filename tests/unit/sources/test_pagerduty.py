"""PagerDuty behind the port: what lands is what happened to each incident, and trouble has words."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.errors import SettingsError
from analytics.landing.coverage import completeness
from analytics.landing.pull import reprocess
from analytics.secrets import Secret
from analytics.settings import Settings
from analytics.sources import answers
from analytics.sources.limits import Budget
from analytics.sources.pagerduty import provider
from analytics.sources.pagerduty.client import PagerDutyClient
from analytics.sources.pagerduty.provider import PagerDutyProvider
from tests.fakes.pagerduty.server import TOKEN, FakePagerDuty
from tests.fakes.pagerduty.world import World
from tests.fakes.serving import Fault
from tests.unit.sources.api_world import InMemory, examined, holds, landed, one, pulled, workspace_of


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePagerDuty]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    monkeypatch.setattr("pagerduty.api_client.time.sleep", lambda seconds: None)
    with FakePagerDuty(World()) as server:
        yield server


@pytest.fixture
def workspace(fake: FakePagerDuty, tmp_path: Path) -> Settings:
    return pager(tmp_path, fake)


def pager(folder: Path, fake: FakePagerDuty, **more: Any) -> Settings:
    source = {"type": "pagerduty", "token": "${QD_FAKE_TOKEN}", "base_url": fake.url, "max_wait_seconds": 0, **more}
    return workspace_of(folder, source)


def test_an_incident_tells_when_it_was_acknowledged_and_resolved(fake: FakePagerDuty, workspace: Settings) -> None:
    world = fake.world
    raw = world.trigger("shop", urgency="high", priority="P1")
    world.advance(120)
    world.acknowledge(raw)
    world.advance(1800)
    world.resolve(raw)
    world.advance(3600)
    assert pulled(workspace).ok
    record = one(workspace, "incidents")
    assert record["incident_id"] == f"pagerduty:{raw['id']}"
    assert (record["service"], record["severity"]) == ("shop", "P1")
    assert record["opened_at"] == "2026-01-05T09:00:00Z"
    assert record["acknowledged_at"] == "2026-01-05T09:02:00Z"
    assert record["resolved_at"] == "2026-01-05T09:32:00Z"
    # To acknowledge is not to mitigate.
    assert "mitigated_at" not in record
    assert record["labels"] == ["urgency:high", "priority:P1"]


def test_an_incident_that_was_open_is_resolved_by_a_later_pull(fake: FakePagerDuty, workspace: Settings) -> None:
    world = fake.world
    raw = world.trigger(urgency="low")
    world.advance(60)
    pulled(workspace)
    assert "resolved_at" not in one(workspace, "incidents")
    assert one(workspace, "incidents")["severity"] == "low"
    # Long after the window in which it was made.
    world.advance(100 * 86_400)
    world.acknowledge(raw)
    world.advance(600)
    world.resolve(raw)
    world.advance(60)
    pulled(workspace)
    record = one(workspace, "incidents")
    assert record["acknowledged_at"] == "2026-04-15T09:01:00Z"
    assert record["resolved_at"] == "2026-04-15T09:11:00Z"


def test_what_comes_again_under_one_key_is_another_incident_and_what_was_merged_is_one(
    fake: FakePagerDuty, workspace: Settings
) -> None:
    world = fake.world
    first, second, third = world.trigger(), world.trigger(), world.trigger()
    world.advance(60)
    world.merge(second, into=first)
    world.advance(60)
    pulled(workspace)
    keys = {record["incident_id"]: record["dedupe_key"] for record in landed(workspace, "incidents")}
    assert {record["incident_key"] for record in landed(workspace, "incidents")} == {"till-shop"}
    assert keys[f"pagerduty:{first['id']}"] == keys[f"pagerduty:{second['id']}"]
    assert keys[f"pagerduty:{third['id']}"] != keys[f"pagerduty:{first['id']}"]


def test_services_are_named_by_the_settings_then_the_catalog_then_pagerduty(
    fake: FakePagerDuty, tmp_path: Path
) -> None:
    for name in ("SHOP", "Checkout API", "elsewhere"):
        fake.world.trigger(name)
    fake.world.advance(60)
    workspace = pager(tmp_path, fake, services={"S-Checkout API": "till"})
    pulled(workspace)
    assert sorted(record["service"] for record in landed(workspace, "incidents")) == ["elsewhere", "shop", "till"]


def test_another_map_counts_after_reprocessing_and_nobody_is_asked(fake: FakePagerDuty, tmp_path: Path) -> None:
    raw = fake.world.trigger("Checkout API")
    fake.world.advance(60)
    fake.world.resolve(raw)
    fake.world.advance(60)
    workspace = pager(tmp_path, fake)
    pulled(workspace)
    before = one(workspace, "incidents")
    fake.answers_left = 0
    assert reprocess(workspace)[0].translated == 0
    assert one(workspace, "incidents") == before
    workspace = pager(tmp_path, fake, services={"checkout api": "till"})
    reprocess(workspace)
    assert one(workspace, "incidents") == {**before, "service": "till"}


def test_a_quiet_account_costs_three_requests_and_lands_nothing(fake: FakePagerDuty, workspace: Settings) -> None:
    fake.world.resolve(fake.world.trigger())
    fake.world.advance(3600)
    pulled(workspace)
    fake.asked.clear()
    fake.world.advance(3600)
    assert pulled(workspace).items == 0
    assert len(fake.asked) == 3


def test_a_first_load_costs_a_request_for_a_hundred_things_and_is_known_to_be_whole(
    fake: FakePagerDuty, workspace: Settings
) -> None:
    for _ in range(300):
        raw = fake.world.trigger()
        fake.world.advance(3600)
        fake.world.acknowledge(raw)
        fake.world.advance(3600)
        fake.world.resolve(raw)
    assert pulled(workspace).ok
    # 300 incidents and 900 entries of the log in 25 days.
    assert len(fake.asked) <= 1 + 3 + 9
    (quarter,) = completeness(workspace)
    assert (quarter.landed, quarter.expected) == (300, 300)


def test_what_shows_up_late_is_found_by_the_next_pull(fake: FakePagerDuty, workspace: Settings) -> None:
    world = fake.world
    late = world.trigger()
    hidden, log = world.incidents.pop(), world.log_entries.pop()
    assert hidden is late
    world.trigger()
    world.advance(300)
    pulled(workspace)
    world.incidents.append(hidden)
    world.log_entries.insert(0, log)
    world.advance(3600)
    pulled(workspace)
    assert len(landed(workspace, "incidents")) == 2


def test_a_window_that_holds_more_than_is_listed_is_halved(
    fake: FakePagerDuty, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "LISTED", 200)
    fake.listed = 200
    for _ in range(450):
        fake.world.trigger()
        fake.world.advance(600)
    result = pulled(workspace)
    assert result.ok, result.error
    assert len(landed(workspace, "incidents")) == 450


def test_years_are_read_window_by_window_from_the_first_incident(fake: FakePagerDuty, workspace: Settings) -> None:
    fake.world.trigger()
    fake.world.advance(400 * 86_400)
    fake.world.trigger()
    fake.world.advance(60)
    assert pulled(workspace).ok
    assert len(landed(workspace, "incidents")) == 2


def test_nothing_older_than_since_is_asked_for(fake: FakePagerDuty, tmp_path: Path) -> None:
    fake.world.trigger()
    fake.world.advance(400 * 86_400)
    fake.world.trigger()
    fake.world.advance(60)
    workspace = pager(tmp_path, fake, since="2027-01-01")
    pulled(workspace)
    assert one(workspace, "incidents")["opened_at"].startswith("2027-02-09")


def test_a_refusal_for_pace_ends_the_pull_and_says_when_it_goes_on(fake: FakePagerDuty, workspace: Settings) -> None:
    fake.world.trigger()
    fake.world.advance(60)
    fake.faults.append(Fault(429, '{"error": {"message": "Rate Limit Exceeded"}}', {"ratelimit-reset": "27"}))
    result = pulled(workspace)
    assert result.resume_at is not None
    assert "PagerDuty's rate limit is used up" in str(result.error)
    assert pulled(workspace).ok
    assert len(landed(workspace, "incidents")) == 1


def test_trouble_that_passes_is_asked_through(fake: FakePagerDuty, workspace: Settings) -> None:
    fake.world.trigger()
    fake.world.advance(60)
    fake.faults.extend([Fault(502, "<html>bad gateway</html>"), Fault(503)])
    assert pulled(workspace).ok
    assert len(landed(workspace, "incidents")) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, '{"error": {"message": "who"}}'), "Renew ${QD_FAKE_TOKEN}"),
        (Fault(403, '{"error": {"message": "no"}}'), "read-only key is enough"),
        (Fault(404), "must not be seen"),
        (Fault(400, '{"error": {"message": "since is bad"}}'), "since is bad"),
        (Fault(200, "<html>sign in</html>"), "html_body"),
        (Fault(200, '{"incidents": [{"id"'), "json_truncated"),
        (Fault(200, '{"incidents": 1}'), "no list of records"),
        (Fault(301, "", {"Location": "http://127.0.0.1:9/stolen"}), "another address"),
        (Fault(200, "[" * 100_000), "no JSON"),
    ],
)
def test_a_refusal_says_what_to_do(fake: FakePagerDuty, workspace: Settings, fault: Fault, words: str) -> None:
    fake.faults.append(fault)
    assert words in str(pulled(workspace).error)


def test_an_answer_without_an_end_is_left(
    fake: FakePagerDuty, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MAX_BODY_BYTES", 1000)
    fake.faults.append(Fault(200, "{" + " " * 2000 + "}"))
    assert "longer than 1,000 bytes" in str(pulled(workspace).error)


def test_silence_is_told_once(fake: FakePagerDuty, workspace: Settings) -> None:
    fake.answers_left = 0
    assert "cannot be reached" in str(pulled(workspace).error)


def test_bad_records_go_to_quarantine_and_the_rest_lands(fake: FakePagerDuty, workspace: Settings) -> None:
    fake.world.trigger()
    fake.world.trigger()["title"] = ["no", "text"]
    fake.world.advance(60)
    result = pulled(workspace)
    assert (len(landed(workspace, "incidents")), result.quarantined) == (1, 1)


def test_the_key_is_in_no_log_and_no_file_and_no_pickle(
    fake: FakePagerDuty, workspace: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.world.trigger(title=f"use {TOKEN} here")
    fake.world.advance(60)
    fake.faults.append(Fault(403, json.dumps({"message": f"token {TOKEN} may not"})))
    words = f"{pulled(workspace)} {pulled(workspace)} {caplog.text}"
    assert landed(workspace, "incidents")
    assert TOKEN not in words
    assert not holds(workspace, TOKEN)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(PagerDutyClient(Secret("${QD_FAKE_TOKEN}"), fake.url, Budget()))


def test_the_doctor_says_whether_incidents_can_be_read(fake: FakePagerDuty, workspace: Settings) -> None:
    fake.world.trigger()
    folder = workspace.settings_path.parent
    finding = examined(folder)
    assert (finding.state, "may read 1 incidents" in finding.detail) == ("ok", True)
    fake.faults.append(Fault(401))
    finding = examined(folder)
    assert (finding.state, "QD_FAKE_TOKEN" in str(finding.fix)) == ("fail", True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"token": "written-out-here"}, "sources.0.token"),
        ({"base_url": "http://api.pagerduty.com"}, "https://"),
        ({"service": {}}, "Did you mean 'services'"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    fake: FakePagerDuty, tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as error:
        pager(tmp_path, fake, **wrong)
    assert words in str(error.value)


STEPS = st.lists(
    st.sampled_from(["trigger", "acknowledge", "resolve", "pull"]) | st.integers(1, 6), min_size=3, max_size=12
)


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[FakePagerDuty, PagerDutyClient]]:
    """One server and one client for all examples, each of which has a world of its own."""
    with pytest.MonkeyPatch.context() as patch, FakePagerDuty(World()) as server:
        patch.setenv("QD_FAKE_TOKEN", TOKEN)
        yield (
            server,
            PagerDutyClient(Secret("${QD_FAKE_TOKEN}"), server.url, Budget(points_per_minute=10**9), retries=0),
        )


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_for_any_interleaving_with_pulls_and_crashes_the_table_equals_the_world(
    asked: tuple[FakePagerDuty, PagerDutyClient], monkeypatch: pytest.MonkeyPatch, steps: list[str | int]
) -> None:
    monkeypatch.setattr(provider, "PAGE_ITEMS", 2)
    monkeypatch.setattr("pagerduty.api_client.time.sleep", lambda seconds: None)
    fake, client = asked
    world = fake.world = World()
    table = InMemory(PagerDutyProvider("api", client), "incidents", "incident_id")
    for step in steps:
        world.advance(3 * 86_400)
        if isinstance(step, int):
            fake.answers_left = step
            table.pull()
            fake.answers_left = None
        elif step == "pull":
            assert table.pull()
        elif step == "trigger":
            world.trigger()
        elif world.incidents:
            raw = world.incidents[len(world.log_entries) % len(world.incidents)]
            if raw["status"] != "resolved":
                world.acknowledge(raw) if step == "acknowledge" else world.resolve(raw)
    world.advance(60)
    assert table.pull()
    acknowledged = {
        entry["incident"]["id"]: entry["created_at"]
        for entry in reversed(world.log_entries)
        if entry["type"] == "acknowledge_log_entry"
    }
    assert {
        key: (record.get("acknowledged_at"), record.get("resolved_at")) for key, record in table.records.items()
    } == {f"pagerduty:{raw['id']}": (acknowledged.get(raw["id"]), raw["resolved_at"]) for raw in world.incidents}
