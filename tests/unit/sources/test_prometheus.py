"""Prometheus behind the port: budgets become samples, alerts become incidents, and trouble has words."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from datetime import date, datetime
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
from analytics.sources.limits import Budget
from analytics.sources.prometheus import provider
from analytics.sources.prometheus.client import PrometheusClient
from analytics.sources.prometheus.provider import Asked, PrometheusProvider
from tests.fakes.prometheus.server import TOKEN, FakePrometheus, World
from tests.fakes.serving import Fault
from tests.unit.sources.api_world import InMemory, examined, holds, landed, pulled, workspace_of

BUDGET = "min by (service) (slo:error_budget_remaining:ratio)"
ALERTS = 'max by (alertname, service, severity) (ALERTS{alertstate="firing"})'
HOUR = 3600


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePrometheus]:
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
    with FakePrometheus(World()) as server:
        yield server


def asking(folder: Path, fake: FakePrometheus, **more: Any) -> Settings:
    source = {
        "type": "prometheus", "base_url": fake.url, "since": "2026-01-05", "max_wait_seconds": 0,
        "slos": {"availability": {"query": BUDGET}}, **more,
    }  # fmt: skip
    return workspace_of(folder, source)


@pytest.fixture
def workspace(fake: FakePrometheus, tmp_path: Path) -> Settings:
    return asking(tmp_path, fake)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_a_budget_becomes_a_sample_at_each_whole_step(fake: FakePrometheus, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.75)
    fake.world.advance(600)
    assert pulled(workspace).ok
    found = landed(workspace, "slo_samples")
    # From midnight to nine, the last step being older than the lag.
    assert [record["at"] for record in found] == [f"2026-01-05T{hour:02d}:00:00Z" for hour in range(10)]
    assert found[0] == {
        "service": "shop", "slo": "availability", "at": "2026-01-05T00:00:00Z", "error_budget_remaining": 0.75,
    }  # fmt: skip


def test_what_is_too_young_waits_for_the_next_pull(fake: FakePrometheus, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.75)
    pulled(workspace)
    assert len(landed(workspace, "slo_samples")) == 9
    fake.world.advance(600)
    assert pulled(workspace).items == 1


def test_no_number_is_no_sample_and_an_overspent_budget_has_nothing_left(fake: FakePrometheus, tmp_path: Path) -> None:
    values = {0: 0.5, HOUR: float("nan"), 2 * HOUR: -0.25, 3 * HOUR: 1.5}
    midnight = seconds("2026-01-05T00:00:00Z")
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: values.get(at - midnight))
    workspace = asking(tmp_path, fake)
    result = pulled(workspace)
    found = {record["at"][11:13]: record for record in landed(workspace, "slo_samples")}
    assert found.keys() == {"00", "02"}
    assert (found["02"]["error_budget_remaining"], found["02"]["measured"]) == (0.0, -0.25)
    # A share of more than one is a percentage, or wrong.
    assert result.quarantined == 1


def test_services_are_named_by_the_settings_then_the_catalog_then_the_label(
    fake: FakePrometheus, tmp_path: Path
) -> None:
    for name in ("SHOP", "checkout-v2", "elsewhere"):
        fake.world.add("budget", {"app": name, "objective": "latency"}, lambda at: 0.5 if at % 86_400 == 0 else None)
    slos = {"all": {"query": "budget", "service_label": "app", "slo_label": "objective"}}
    workspace = asking(tmp_path, fake, slos=slos, services={"checkout-v2": "till"})
    assert pulled(workspace).ok
    found = landed(workspace, "slo_samples")
    assert sorted((record["service"], record["slo"]) for record in found) == [
        ("elsewhere", "latency"), ("shop", "latency"), ("till", "latency"),
    ]  # fmt: skip


def test_two_series_of_one_service_are_refused_with_a_way_to_aggregate_them(
    fake: FakePrometheus, workspace: Settings
) -> None:
    for region in ("eu", "us"):
        fake.world.add(BUDGET, {"service": "shop", "region": region}, lambda at: 0.5)
    assert "min by (service)" in str(pulled(workspace).error)


def test_a_series_without_a_service_is_refused_once(fake: FakePrometheus, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"app": "shop"}, lambda at: 0.5)
    assert pulled(workspace).quarantined == 1


def test_a_span_longer_than_is_answered_at_once_is_asked_for_in_parts(fake: FakePrometheus, tmp_path: Path) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    fake.world.advance(10 * 86_400)
    slos = {"availability": {"query": BUDGET, "step_seconds": 60}}
    workspace = asking(tmp_path, fake, slos=slos)
    assert pulled(workspace).ok
    # Ten days and nine hours of minutes, up to the lag.
    assert len(landed(workspace, "slo_samples")) == 10 * 1440 + 9 * 60 - 4
    assert fake.count("query_range") == 3


def test_without_since_a_hundred_days_of_hours_cost_one_request(fake: FakePrometheus, tmp_path: Path) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    workspace = asking(tmp_path, fake, since=None)
    assert pulled(workspace).ok
    # The newest hour is younger than the lag.
    assert len(landed(workspace, "slo_samples")) == 2400
    assert fake.count("query_range") == 1


def test_what_is_too_much_for_the_server_is_asked_for_in_halves(fake: FakePrometheus, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    fake.world.advance(86_400)
    fake.most_samples = 5
    assert pulled(workspace).ok
    assert len(landed(workspace, "slo_samples")) == 33


def test_many_services_come_in_pages_of_whole_series(
    fake: FakePrometheus, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "PAGE_SAMPLES", 20)
    for number in range(7):
        fake.world.add(BUDGET, {"service": f"service-{number}"}, lambda at: 0.5)
    assert pulled(workspace).ok
    assert len(landed(workspace, "slo_samples")) == 63


def test_a_server_that_tells_its_time_as_a_series_is_understood(fake: FakePrometheus, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    told = {"resultType": "vector", "result": [{"metric": {}, "value": [fake.world.now, str(fake.world.now)]}]}
    fake.faults.append(Fault(200, json.dumps({"status": "success", "data": told})))
    assert pulled(workspace).items == 9


def test_a_pull_with_nothing_new_asks_for_the_time_alone(fake: FakePrometheus, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    pulled(workspace)
    fake.asked.clear()
    assert pulled(workspace).items == 0
    assert fake.asked == ["/api/v1/query"]


def test_another_query_is_read_from_the_beginning(fake: FakePrometheus, tmp_path: Path, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    fake.world.add("better", {"service": "shop"}, lambda at: 0.9)
    pulled(workspace)
    workspace = asking(tmp_path, fake, slos={"availability": {"query": "better"}})
    pulled(workspace)
    assert {record["error_budget_remaining"] for record in landed(workspace, "slo_samples")} == {0.9}


def test_an_alert_is_an_incident_from_its_first_to_behind_its_last_step(fake: FakePrometheus, tmp_path: Path) -> None:
    start, end = seconds("2026-01-05T01:00:00Z"), seconds("2026-01-05T01:29:00Z")
    again = seconds("2026-01-05T08:00:00Z")
    labels = {
        "__name__": "ALERTS", "alertname": "TillDown", "alertstate": "firing", "severity": "page", "service": "shop",
        "deployment": "till-7f",
    }  # fmt: skip
    fake.world.add(ALERTS, labels, lambda at: 1 if start <= at <= end or at >= again else None)
    workspace = asking(tmp_path, fake, slos={}, alerts={})
    assert pulled(workspace).ok
    first, second = sorted(landed(workspace, "incidents"), key=lambda record: record["opened_at"])
    assert (first["opened_at"], first["resolved_at"]) == ("2026-01-05T01:00:00Z", "2026-01-05T01:30:00Z")
    assert (first["service"], first["title"], first["severity"]) == ("shop", "TillDown", "page")
    # A label of the alert must not be read as the deployment that caused it.
    assert first["labels"] == ["alert:TillDown"]
    assert "resolved_at" not in second
    # It goes on over the pull's end, and ends in the next.
    fake.world.series[ALERTS] = [(labels, lambda at: 1 if again <= at < again + 2 * HOUR else None)]
    fake.world.advance(86_400)
    pulled(workspace)
    found = {record["opened_at"]: record.get("resolved_at") for record in landed(workspace, "incidents")}
    assert found["2026-01-05T08:00:00Z"] == "2026-01-05T10:00:00Z"
    assert len(found) == 2


def test_alerts_are_asked_for_by_the_labels_that_count_or_as_the_settings_say(
    fake: FakePrometheus, tmp_path: Path
) -> None:
    fake.world.add('max by (alertname, app, level) (ALERTS{alertstate="firing"})', {"alertname": "A"}, lambda at: 1)
    fake.world.add("my_alerts", {"alertname": "B"}, lambda at: 1)
    for alerts in ({"service_label": "app", "severity_label": "level"}, {"query": "my_alerts"}):
        pulled(asking(tmp_path, fake, slos={}, alerts=alerts))
    workspace = asking(tmp_path, fake, slos={}, alerts={})
    assert sorted(record["title"] for record in landed(workspace, "incidents")) == ["A", "B"]


def test_records_can_be_made_anew_from_kept_answers(fake: FakePrometheus, tmp_path: Path) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    fake.world.add(ALERTS, {"alertname": "Down", "service": "shop"}, lambda at: 1 if at % 7200 < HOUR else None)
    workspace = asking(tmp_path, fake, alerts={})
    pulled(workspace)
    before = landed(workspace, "slo_samples"), landed(workspace, "incidents")
    fake.answers_left = 0
    assert reprocess(workspace)[0].translated == 0
    assert before == (landed(workspace, "slo_samples"), landed(workspace, "incidents"))
    workspace = asking(tmp_path, fake, alerts={}, services={"shop": "till"})
    reprocess(workspace)
    assert {record["service"] for record in landed(workspace, "incidents")} == {"till"}


def test_a_refusal_for_pace_ends_the_pull_and_says_when_it_goes_on(fake: FakePrometheus, workspace: Settings) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    fake.faults.append(Fault(429, "too many outstanding requests", {"Retry-After": "120"}))
    result = pulled(workspace)
    assert result.resume_at is not None
    assert pulled(workspace).ok


def test_trouble_that_passes_is_asked_through(fake: FakePrometheus, workspace: Settings) -> None:
    fake.faults.extend([Fault(502, "<html>bad gateway</html>"), Fault(503)])
    assert pulled(workspace).ok


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401), "Give it a `token`"),
        (Fault(403, "no"), "leave to query"),
        (Fault(404), "must not be seen"),
        (Fault(200, "<html>sign in</html>"), "html_body"),
        (Fault(200, '{"status": "succ'), "json_truncated"),
        (Fault(200, '{"status": "error", "error": "broken"}'), "no success"),
        (Fault(200, '{"status": "success", "data": {"result": []}}'), "does not tell its time"),
        (Fault(302, "", {"Location": "http://127.0.0.1:9/login"}), "another address"),
        (Fault(500, "oops"), "status 500: oops"),
    ],
)
def test_a_refusal_says_what_to_do(fake: FakePrometheus, workspace: Settings, fault: Fault, words: str) -> None:
    fake.faults.append(fault)
    assert words in str(pulled(workspace).error)


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ({"metric": {}, "values": [[1e300, "1"]]}, "not asked for"),
        ({"metric": {}, "values": [["soon", "1"]]}, "sample that is none"),
        ({"metric": {}, "values": [7]}, "sample that is none"),
        ({"metric": [], "values": []}, "without labels"),
        (7, "no list of records"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_as_a_whole(
    fake: FakePrometheus, workspace: Settings, series: Any, words: str
) -> None:
    at = fake.world.now
    for kind, result in (("scalar", [at, str(at)]), ("matrix", [series])):
        fake.faults.append(
            Fault(200, json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}))
        )
    assert words in str(pulled(workspace).error)


def test_a_query_that_is_wrong_says_so_and_stops_no_other(fake: FakePrometheus, tmp_path: Path) -> None:
    fake.world.add(BUDGET, {"service": "shop"}, lambda at: 0.5)
    workspace = asking(tmp_path, fake, slos={"latency": {"query": "min(x"}, "availability": {"query": BUDGET}})
    assert "unclosed left parenthesis" in str(pulled(workspace).error)
    assert len(landed(workspace, "slo_samples")) == 9


def test_an_answer_without_an_end_is_left(
    fake: FakePrometheus, workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MAX_BODY_BYTES", 1000)
    fake.faults.append(Fault(200, "{" + " " * 2000 + "}"))
    assert "longer than 1,000 bytes" in str(pulled(workspace).error)


def test_the_token_is_in_no_log_and_no_file_and_no_pickle(
    fake: FakePrometheus, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QD_FAKE_TOKEN", TOKEN)
    fake.welcome = f"Bearer {TOKEN}"
    caplog.set_level(logging.DEBUG)
    fake.world.add(BUDGET, {"service": f"shop {TOKEN}"}, lambda at: 0.5)
    workspace = asking(tmp_path, fake, token="${QD_FAKE_TOKEN}")
    fake.faults.append(Fault(403, json.dumps({"error": f"token {TOKEN} may not"})))
    words = f"{pulled(workspace)} {pulled(workspace)} {caplog.text}"
    assert landed(workspace, "slo_samples")
    assert TOKEN not in words
    assert not holds(workspace, TOKEN)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(PrometheusClient(fake.url, Budget(), Secret("${QD_FAKE_TOKEN}")))


def test_with_a_user_the_token_is_the_password(
    fake: FakePrometheus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QD_FAKE_TOKEN", "pass")
    fake.welcome = "Basic YWRhOnBhc3M="
    assert pulled(asking(tmp_path, fake, token="${QD_FAKE_TOKEN}", user="ada")).ok


def test_the_doctor_tries_each_query(fake: FakePrometheus, workspace: Settings) -> None:
    folder = workspace.settings_path.parent
    assert "gives nothing now" in examined(folder).detail
    fake.world.add(BUDGET, {"app": "shop"}, lambda at: 0.5)
    assert "without the label service" in examined(folder).detail
    fake.world.series[BUDGET] = [({"service": "shop"}, lambda at: 0.5)]
    finding = examined(folder)
    assert (finding.state, "availability of 1 services" in finding.detail) == ("ok", True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"slos": {}}, "give slos, or alerts"),
        ({"base_url": "http://prometheus.example.com", "token": "file:token"}, "https://"),
        ({"base_url": "prometheus:9090"}, "write an address"),
        ({"user": "ada"}, "needs a password"),
        ({"slos": {"availability": {"qery": "up"}}}, "Did you mean 'query'"),
        ({"slos": {"availability": {"query": "up", "step_seconds": 1}}}, "slos.availability.step_seconds"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    fake: FakePrometheus, tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as error:
        asking(tmp_path, fake, **wrong)
    assert words in str(error.value)


def test_a_server_inside_needs_no_encryption_where_no_token_travels(fake: FakePrometheus, tmp_path: Path) -> None:
    asking(tmp_path, fake, base_url="http://prometheus.monitoring.svc:9090")


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[FakePrometheus, PrometheusClient]]:
    """One server and one client for all examples, each of which has a world of its own."""
    with FakePrometheus(World()) as server:
        yield server, PrometheusClient(server.url, Budget(points_per_minute=10**9), retries=0)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fires=st.lists(st.booleans(), min_size=1, max_size=60),
    pulls=st.lists(st.tuples(st.integers(1, 25), st.none() | st.integers(0, 4)), max_size=6),
)
def test_for_any_pulls_and_crashes_alerts_are_the_spans_in_which_they_fired(
    asked: tuple[FakePrometheus, PrometheusClient],
    monkeypatch: pytest.MonkeyPatch,
    fires: list[bool],
    pulls: list[tuple[int, int | None]],
) -> None:
    monkeypatch.setattr(provider, "POINTS", 7)
    fake, client = asked
    begun = seconds("2026-01-05T00:00:00Z")
    world = fake.world = World(begun)
    minutes = dict(zip(range(begun, begun + 3600, 60), fires, strict=False))
    world.add(ALERTS, {"alertname": "Down", "service": "shop"}, lambda at: 1 if minutes.get(at) else None)
    reader = PrometheusProvider("api", client, {}, Asked(ALERTS, 60), since=date(2026, 1, 5))
    table = InMemory(reader, "incidents", "incident_id")
    for pause, crash in pulls:
        world.advance(pause * 60)
        fake.answers_left = crash
        table.pull()
        fake.answers_left = None
    world.advance(100 * 60)
    assert table.pull()
    spans = [(seconds(record["opened_at"]), seconds(record["resolved_at"])) for record in table.records.values()]
    begins = [at for at, fired in minutes.items() if fired and not minutes.get(at - 60)]
    ends = [at + 60 for at, fired in minutes.items() if fired and not minutes.get(at + 60)]
    assert sorted(spans) == list(zip(begins, ends, strict=True))
