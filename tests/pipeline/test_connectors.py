"""Pager, tickets and monitoring together: one incident, its ends, the approval and the budget, down to the facts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from analytics.delivery.build import build
from analytics.lake.tables import lake_relation
from analytics.landing.coverage import quarantined
from analytics.landing.pull import pull
from analytics.settings import Settings, load_settings
from tests.fakes.jira import server as jira
from tests.fakes.jira.world import World as JiraWorld
from tests.fakes.pagerduty import server as pagerduty
from tests.fakes.pagerduty.world import World as PagerDutyWorld
from tests.fakes.prometheus.server import FakePrometheus
from tests.fakes.prometheus.server import World as PrometheusWorld

NOW = datetime(2026, 1, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("connectors")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("QD_PAGER_TOKEN", pagerduty.TOKEN)
        patch.setenv("QD_JIRA_TOKEN", jira.TOKEN)
        pager = stack.enter_context(pagerduty.FakePagerDuty(PagerDutyWorld()))
        tickets = stack.enter_context(jira.FakeJira(JiraWorld()))
        budgets = stack.enter_context(FakePrometheus(PrometheusWorld()))
        happen(pager.world, tickets.world, budgets.world)
        sources: list[dict[str, Any]] = [
            {"name": "pager", "type": "pagerduty", "token": "${QD_PAGER_TOKEN}", "base_url": pager.url},
            {
                "name": "tickets", "type": "jira", "token": "${QD_JIRA_TOKEN}", "base_url": tickets.url,
                "email": jira.EMAIL, "incidents": {"dedupe_field": "Deployment"},
                "changes": {"jql": "issuetype = Change", "deployment_field": "Deployment"},
            },
            {
                "name": "budgets", "type": "prometheus", "base_url": budgets.url, "since": "2026-01-05",
                "slos": {"availability": {"query": "budget"}},
            },
        ]  # fmt: skip
        catalog = {"services": [{"name": "shop", "repository": "acme/shop", "aliases": ["S-Checkout API"]}]}
        (folder / "catalog.yaml").write_text(json.dumps(catalog), "utf-8")
        written = {"organization": "Acme", "now": NOW.isoformat(), "sources": sources}
        (folder / "quarterdeck.yaml").write_text(json.dumps(written), "utf-8")
        settings = load_settings(folder / "quarterdeck.yaml")
        assert [result.error for result in pull(settings)] == [None, None, None]
        build(settings)
        yield settings


def happen(pager: PagerDutyWorld, tickets: JiraWorld, budgets: PrometheusWorld) -> None:
    """The pager calls at nine, a ticket follows; the harm is over at ten, the ticket is closed on the next day."""
    page = pager.trigger("Checkout API", priority="P1")
    tickets.advance(300)
    ticket = tickets.issue(customfield_7=page["html_url"].replace("pagerduty.test", "pagerduty.com"))
    tickets.advance(3300)
    tickets.move(ticket, "Mitigated")
    pager.advance(7200)
    pager.resolve(page)
    tickets.advance(86_400)
    tickets.move(ticket, "Done")
    change = tickets.issue("Change", customfield_7="4711")
    tickets.move(change, "Approved", "Eve")
    tickets.move(change, "Done")
    start = budgets.now
    budgets.add("budget", {"service": "shop"}, lambda at: 0.9 if at < start else 0.4)
    for world in (pager, tickets):
        world.now = NOW
    budgets.now = int(NOW.timestamp())


def rows(settings: Settings, query: str, table: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as con:
        return con.execute(query.format(lake_relation(settings, table))).fetchall()


def test_page_and_ticket_are_one_incident_of_the_service(built: Settings) -> None:
    found = rows(
        built,
        "SELECT service, len(incident_ids), severity, ended_at, restored_at FROM {}",
        "service_incidents",
    )
    # Recovery ends with the latest of mitigations (else ends), restoring with the latest of ends.
    assert found == [("shop", 2, "P1", datetime(2026, 1, 5, 11), datetime(2026, 1, 6, 10))]


def test_a_done_change_ticket_approves_its_deployment(built: Settings) -> None:
    found = rows(built, "SELECT deployment_id, approver, ticket, source FROM {}", "approvals")
    assert found == [("4711", "Eve", "OPS-2", "tickets")]


def test_budgets_stand_hour_by_hour(built: Settings) -> None:
    found = rows(
        built, 'SELECT error_budget_remaining, count(*), min("at") FROM {} GROUP BY 1 ORDER BY 3', "slo_samples"
    )
    assert found == [(0.9, 9, datetime(2026, 1, 5)), (0.4, 15 * 24 - 9, datetime(2026, 1, 5, 9))]


def test_nothing_is_refused(built: Settings) -> None:
    assert quarantined(built) == []
