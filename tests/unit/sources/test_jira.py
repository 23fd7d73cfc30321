"""Jira behind the port, Cloud and Data Center: issues become incidents, tickets approvals, and trouble has words."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.errors import SettingsError
from analytics.landing.pull import reprocess
from analytics.secrets import Secret
from analytics.settings import Settings
from analytics.sources import answers
from analytics.sources.jira import provider
from analytics.sources.jira.client import JiraClient
from analytics.sources.jira.provider import JiraProvider
from analytics.sources.jira.translate import Rules
from analytics.sources.limits import Budget
from tests.fakes.jira.server import EMAIL, TOKEN, FakeJira
from tests.fakes.jira.world import World
from tests.fakes.serving import Fault
from tests.unit.sources.api_world import InMemory, examined, holds, landed, one, pulled, workspace_of

both = pytest.mark.parametrize("fake", ["cloud", "data center"], indirect=True)


@pytest.fixture
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJira]:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    monkeypatch.setattr("analytics.sources.jira.client.time.sleep", lambda seconds: None)
    with FakeJira(World(is_cloud=getattr(request, "param", "cloud") == "cloud")) as server:
        yield server


def tickets(folder: Path, fake: FakeJira, **more: Any) -> Settings:
    source = {"type": "jira", "base_url": fake.url, "token": "${QD_FAKE_TOKEN}", "max_wait_seconds": 0, **more}
    if fake.world.is_cloud:
        source["email"] = EMAIL
    return workspace_of(folder, source)


@pytest.fixture
def workspace(fake: FakeJira, tmp_path: Path) -> Settings:
    return tickets(tmp_path, fake)


@both
def test_an_incident_tells_when_it_was_mitigated_and_resolved(fake: FakeJira, workspace: Settings) -> None:
    world = fake.world
    raw = world.issue(components=[{"name": "Shop"}], labels=["sev1"])
    for status in ("In Progress", "Mitigated", "Done"):
        world.advance(1800)
        world.move(raw, status)
    world.advance(86_400)
    world.change(raw, "summary", "The till is down", "The till was down")
    assert pulled(workspace).ok
    record = one(workspace, "incidents")
    assert record["incident_id"] == f"jira:{raw['id']}"
    assert (record["service"], record["severity"], record["labels"]) == ("shop", "High", ["sev1"])
    assert record["opened_at"] == "2026-01-05T09:00:00.000Z"
    assert record["mitigated_at"] == "2026-01-05T10:00:00.000Z"
    assert record["resolved_at"] == "2026-01-05T10:30:00.000Z"
    assert record["url"] == f"{fake.url}/browse/OPS-1"


def test_one_that_was_opened_again_is_over_when_it_was_closed_for_the_last_time(
    fake: FakeJira, workspace: Settings
) -> None:
    world = fake.world
    raw = world.issue()
    for status in ("Mitigated", "Done", "Open", "Mitigated", "In Progress", "Mitigated", "Done"):
        world.advance(3600)
        world.move(raw, status)
    still_open = world.issue()
    world.move(still_open, "Done")
    world.advance(60)
    world.move(still_open, "Open")
    pulled(workspace)
    found = {record["key"]: record for record in landed(workspace, "incidents")}
    assert found["OPS-1"]["mitigated_at"] == "2026-01-05T15:00:00.000Z"
    assert found["OPS-1"]["resolved_at"] == "2026-01-05T16:00:00.000Z"
    assert not {"mitigated_at", "resolved_at"} & found["OPS-2"].keys()


def test_statuses_of_ones_own_say_when_it_is_over(fake: FakeJira, tmp_path: Path) -> None:
    world = fake.world
    raw = world.issue()
    world.advance(3600)
    world.move(raw, "In Progress")
    world.advance(3600)
    world.move(raw, "Closed")
    own = {"resolved_statuses": ["in progress", "closed"], "mitigated_statuses": []}
    workspace = tickets(tmp_path, fake, incidents=own)
    pulled(workspace)
    assert one(workspace, "incidents")["resolved_at"] == "2026-01-05T10:00:00.000Z"


@both
def test_fields_of_ones_own_are_named_as_people_see_them(fake: FakeJira, tmp_path: Path) -> None:
    fake.world.issue(
        customfield_10050={"value": "Checkout"},
        customfield_10051="2026-01-05T09:30:00.000+0100",
        customfield_7="4711",
    )
    own = {"service_field": "affected SERVICE", "impact_started_field": "customfield_10051",
           "deployment_field": "Deployment"}  # fmt: skip
    workspace = tickets(tmp_path, fake, incidents=own, services={"checkout": "till"})
    assert pulled(workspace).ok
    record = one(workspace, "incidents")
    assert (record["service"], record["deployment_id"]) == ("till", "4711")
    assert record["impact_started_at"] == "2026-01-05T08:30:00.000Z"
    workspace = tickets(tmp_path, fake, incidents={"service_field": "Servise"})
    assert "no field named 'Servise'" in str(pulled(workspace).error)


@pytest.mark.parametrize(
    ("fields", "service"),
    [
        ({"labels": ["urgent", "service:Till"]}, "till"),
        ({"labels": ["shop"]}, "shop"),
        ({"components": [{"name": "Elsewhere"}, {"name": "Till"}]}, "till"),
        ({"components": [{"name": "Elsewhere"}]}, "Elsewhere"),
        ({}, None),
    ],
)
def test_the_service_is_found_by_components_and_labels(
    fake: FakeJira, workspace: Settings, fields: dict[str, Any], service: str | None
) -> None:
    fake.world.issue(**fields)
    pulled(workspace)
    assert one(workspace, "incidents").get("service") == service


def test_a_ticket_that_names_the_pagers_incident_is_the_same_incident(fake: FakeJira, tmp_path: Path) -> None:
    fake.world.issue(customfield_7="https://acme.pagerduty.com/incidents/Q0ABC")
    workspace = tickets(tmp_path, fake, incidents={"dedupe_field": "Deployment"})
    pulled(workspace)
    assert one(workspace, "incidents")["dedupe_key"] == "pagerduty:Q0ABC"


@both
def test_approvals_are_those_of_tickets_that_are_done_and_were_not_revoked(fake: FakeJira, tmp_path: Path) -> None:
    world = fake.world
    done, revoked, going = (world.issue("Change", customfield_7=["4711", "4712"]) for _ in range(3))
    for raw in (done, revoked, going):
        world.advance(60)
        world.move(raw, "Approved", "Eve")
    world.move(done, "Done")
    world.move(revoked, "Rejected")
    changes = {"jql": "issuetype = Change", "deployment_field": "Deployment"}
    workspace = tickets(tmp_path, fake, incidents=None, changes=changes)
    assert pulled(workspace).ok
    found = landed(workspace, "approvals")
    assert [(record["deployment_id"], record["approver"], record["ticket"]) for record in found] == [
        ("4711", "Eve", "OPS-1"), ("4712", "Eve", "OPS-1"),
    ]  # fmt: skip
    assert found[0]["approved_at"] == "2026-01-05T09:01:00.000Z"


@both
def test_more_than_a_page_lands_whole_also_where_all_changed_in_one_minute(fake: FakeJira, workspace: Settings) -> None:
    fake.page_items = 10
    for number in range(65):
        fake.world.issue()
        fake.world.advance(40 if number > 35 else 0)
    assert pulled(workspace).ok
    assert len(landed(workspace, "incidents")) == 65


@both
def test_changes_that_a_search_leaves_out_are_asked_for(fake: FakeJira, workspace: Settings) -> None:
    fake.changes_shown = 2
    raw = fake.world.issue()
    fake.world.advance(60)
    fake.world.move(raw, "Mitigated")
    for number in range(150):
        fake.world.change(raw, "labels", str(number), str(number + 1))
    fake.world.move(raw, "Done")
    pulled(workspace)
    assert one(workspace, "incidents")["mitigated_at"] == "2026-01-05T09:01:00.000Z"


def test_an_hour_that_clocks_tell_twice_loses_nothing(fake: FakeJira, workspace: Settings) -> None:
    # In Berlin three o'clock becomes two o'clock.
    fake.world.now = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    first = fake.world.issue()
    pulled(workspace)
    fake.world.advance(600)
    fake.world.issue()
    pulled(workspace)
    fake.world.advance(3600)
    fake.world.move(first, "Done")
    pulled(workspace)
    found = {record["key"]: record.get("resolved_at") for record in landed(workspace, "incidents")}
    assert found == {"OPS-1": "2026-10-25T01:40:00.000Z", "OPS-2": None}


@both
def test_a_list_that_shifts_while_it_is_read_loses_nothing(fake: FakeJira, workspace: Settings) -> None:
    fake.page_items = 2
    for _ in range(7):
        fake.world.issue()
        fake.world.advance(120)
    # What was read moves to the end, and all that stands behind it one place forward.
    for raw in fake.world.issues[:3]:
        fake.meanwhile.append(lambda raw=raw: fake.world.move(raw, "Done"))
    assert pulled(workspace).ok
    found = {record["key"]: "resolved_at" in record for record in landed(workspace, "incidents")}
    assert found == {f"OPS-{number}": number <= 3 for number in range(1, 8)}


@both
def test_a_pull_of_what_did_not_change_lands_nothing_and_asks_little(fake: FakeJira, workspace: Settings) -> None:
    for _ in range(3):
        fake.world.issue()
    pulled(workspace)
    fake.asked.clear()
    assert pulled(workspace).items == 0
    # Which Jira, whose time zone, the library's look at the fields, one page.
    assert len(fake.asked) == 4


@both
def test_a_first_load_costs_a_request_for_a_hundred_issues(fake: FakeJira, workspace: Settings) -> None:
    for _ in range(300):
        fake.world.move(fake.world.issue(), "Done")
        fake.world.advance(3600)
    assert pulled(workspace).ok
    assert len(landed(workspace, "incidents")) == 300
    # Which Jira, whose time zone, the library's look at the fields, and the list, each page from the last minute on.
    assert len(fake.asked) <= 3 + 4


def test_what_shows_up_late_is_found_by_the_next_pull(fake: FakeJira, workspace: Settings) -> None:
    fake.world.issue()
    hidden = fake.world.issues.pop()
    fake.world.advance(300)
    fake.world.issue()
    pulled(workspace)
    fake.world.issues.append(hidden)
    pulled(workspace)
    assert len(landed(workspace, "incidents")) == 2


def test_another_question_is_read_from_the_beginning(fake: FakeJira, tmp_path: Path, workspace: Settings) -> None:
    fake.world.issue("Bug")
    fake.world.advance(86_400)
    fake.world.issue()
    pulled(workspace)
    pulled(tickets(tmp_path, fake, incidents={"jql": 'issuetype = "Bug"'}))
    assert len(landed(workspace, "incidents")) == 2


def test_nothing_that_last_changed_before_since_is_asked_for(fake: FakeJira, tmp_path: Path) -> None:
    fake.world.issue()
    fake.world.advance(86_400 * 30)
    fake.world.issue()
    workspace = tickets(tmp_path, fake, since="2026-02-01")
    pulled(workspace)
    assert one(workspace, "incidents")["key"] == "OPS-2"


def test_records_can_be_made_anew_from_kept_answers(fake: FakeJira, tmp_path: Path) -> None:
    raw = fake.world.issue(components=[{"name": "Checkout"}])
    fake.world.advance(60)
    fake.world.move(raw, "Closed")
    workspace = tickets(tmp_path, fake)
    pulled(workspace)
    before = one(workspace, "incidents")
    fake.answers_left = 0
    assert reprocess(workspace)[0].translated == 0
    assert one(workspace, "incidents") == before
    workspace = tickets(tmp_path, fake, services={"Checkout": "till"})
    reprocess(workspace)
    assert one(workspace, "incidents") == {**before, "service": "till"}


@both
def test_a_refusal_for_pace_ends_the_pull_and_says_when_it_goes_on(fake: FakeJira, workspace: Settings) -> None:
    fake.world.issue()
    fake.faults.append(Fault(429, "{}", {"Retry-After": "120"}))
    result = pulled(workspace)
    assert result.resume_at is not None
    assert "Jira's rate limit is used up" in str(result.error)
    assert pulled(workspace).ok
    assert len(landed(workspace, "incidents")) == 1


def test_trouble_that_passes_is_asked_through(fake: FakeJira, workspace: Settings) -> None:
    fake.world.issue()
    fake.faults.extend([Fault(502, "<html>bad gateway</html>"), Fault(503)])
    assert pulled(workspace).ok
    assert len(landed(workspace, "incidents")) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, '{"message": "who"}'), "Renew ${QD_FAKE_TOKEN}"),
        (Fault(403, '{"message": "no"}'), "leave to browse"),
        (Fault(404, "<html>"), "must not be seen"),
        (Fault(400, '{"errorMessages": ["no such status"]}'), "no such status"),
        (Fault(400, '["odd"]'), "does not understand"),
        (Fault(200, "<html>sign in</html>"), "html_body"),
        (Fault(200, '{"deploymentType": "Cl'), "json_truncated"),
        (Fault(200, "[1]"), "no JSON object"),
        (Fault(301, "", {"Location": "http://127.0.0.1:9/stolen"}), "another address"),
        (Fault(200, "[" * 100_000), "no JSON"),
    ],
)
def test_a_refusal_says_what_to_do(fake: FakeJira, workspace: Settings, fault: Fault, words: str) -> None:
    fake.faults.append(fault)
    assert words in str(pulled(workspace).error)


def test_a_jql_that_is_wrong_says_so(fake: FakeJira, tmp_path: Path) -> None:
    workspace = tickets(tmp_path, fake, incidents={"jql": "issuetipe = Incident"})
    assert "Error in the JQL Query" in str(pulled(workspace).error)


def test_an_answer_without_an_end_is_left(fake: FakeJira, workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_BODY_BYTES", 1000)
    fake.faults.append(Fault(200, "{" + " " * 2000 + "}"))
    assert "longer than 1,000 bytes" in str(pulled(workspace).error)


def test_silence_is_told_once(fake: FakeJira, workspace: Settings) -> None:
    fake.answers_left = 0
    assert "cannot be reached" in str(pulled(workspace).error)


def test_bad_records_go_to_quarantine_and_the_rest_lands(fake: FakeJira, tmp_path: Path) -> None:
    fake.world.issue()
    fake.world.issue(customfield_10051="2026-01-05")
    workspace = tickets(tmp_path, fake, incidents={"impact_started_field": "Impact began"})
    result = pulled(workspace)
    assert (len(landed(workspace, "incidents")), result.quarantined) == (1, 1)


@both
def test_the_token_is_in_no_log_and_no_file_and_no_pickle(
    fake: FakeJira, workspace: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.world.issue(summary=f"use {TOKEN} here")
    fake.faults.append(Fault(403, json.dumps({"message": f"token {TOKEN} may not"})))
    words = f"{pulled(workspace)} {pulled(workspace)} {caplog.text}"
    assert landed(workspace, "incidents")
    assert TOKEN not in words
    assert not holds(workspace, TOKEN)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(JiraClient(fake.url, Secret("${QD_FAKE_TOKEN}"), Budget()))


def test_the_doctor_says_whether_the_jql_finds_anything(fake: FakeJira, workspace: Settings) -> None:
    folder = workspace.settings_path.parent
    assert "finds no incidents so far" in examined(folder).detail
    fake.world.issue()
    finding = examined(folder)
    assert (finding.state, "finds incidents" in finding.detail) == ("ok", True)
    fake.faults.append(Fault(401))
    assert examined(folder).state == "fail"
    tickets(folder, fake, incidents={"service_field": "Servise"})
    assert "no field named Servise" in examined(folder).detail


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"token": "written-out-here"}, "sources.0.token"),
        ({"base_url": "http://jira.example.com"}, "https://"),
        ({"incidents": None}, "give incidents, or changes"),
        ({"incidents": {"jql": "project = OPS ORDER BY created"}}, "without ORDER BY"),
        ({"incidents": {"service": "x"}}, "Did you mean 'service_field'"),
        ({"changes": {"jql": "issuetype = Change"}}, "sources.0.changes.deployment_field"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    fake: FakeJira, tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as error:
        tickets(tmp_path, fake, **wrong)
    assert words in str(error.value)


@pytest.fixture(scope="module", params=["cloud", "data center"])
def asked(request: pytest.FixtureRequest) -> Iterator[tuple[FakeJira, JiraClient]]:
    """One server and one client for all examples, each of which has a world of its own."""
    with pytest.MonkeyPatch.context() as patch, FakeJira(World(is_cloud=request.param == "cloud")) as server:
        patch.setenv("QD_FAKE_TOKEN", TOKEN)
        email = EMAIL if server.world.is_cloud else None
        budget = Budget(points_per_minute=10**9)
        yield server, JiraClient(server.url, Secret("${QD_FAKE_TOKEN}"), budget, email, retries=0)


STEPS = st.lists(
    st.sampled_from(["issue", "Mitigated", "Done", "Open", "pull", "wait"]) | st.integers(1, 6),
    min_size=3,
    max_size=16,
)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_for_any_interleaving_with_pulls_and_crashes_the_table_equals_the_world(
    asked: tuple[FakeJira, JiraClient], monkeypatch: pytest.MonkeyPatch, steps: list[str | int]
) -> None:
    monkeypatch.setattr(provider, "PAGE_ITEMS", 2)
    fake, client = asked
    # Across the hour that comes twice.
    start = datetime(2026, 10, 25, 0, 5, tzinfo=UTC)
    world = fake.world = World(start, is_cloud=fake.world.is_cloud)
    table = InMemory(JiraProvider("api", client, {"incidents": "issuetype = Incident"}, Rules()), "incidents", "key")
    for step in steps:
        world.advance(45)
        if isinstance(step, int):
            fake.answers_left = step
            table.pull()
            fake.answers_left = None
        elif step == "pull":
            assert table.pull()
        elif step == "wait":
            world.advance(1500)
        elif step == "issue":
            world.issue()
        elif world.issues:
            world.move(world.issues[len(world.histories) % len(world.issues)], step)
    assert table.pull()
    assert {
        key: (record.get("resolved_at") is not None, record["updated_at"]) for key, record in table.records.items()
    } == {
        raw["key"]: (
            raw["fields"]["resolutiondate"] is not None,
            datetime.fromisoformat(raw["fields"]["updated"]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        )
        for raw in world.issues
    }
