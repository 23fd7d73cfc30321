"""What travels to Spark's executors is what facts depend on, and never a secret."""

from __future__ import annotations

import pickletools
from datetime import UTC
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="the extra spark is not installed")

from pyspark import cloudpickle

from analytics.catalog import Service
from analytics.delivery.arrow_rows import ServiceMessage, gathered, message_table
from analytics.delivery.batch import Terms
from analytics.delivery.on_spark import deriving
from analytics.delivery.records import Rules
from analytics.settings import Settings, load_settings

SECRET = "ghp_ThisIsTheTokenThatMustStayHere"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a secret from the environment."""
    monkeypatch.setenv("A_TOKEN", SECRET)
    file = tmp_path / "quarterdeck.yaml"
    file.write_text(
        "organization: Acme\nnow: 2026-04-10T00:00:00Z\ntime_zone: Europe/Berlin\n"
        "incidents: {link_window_hours: 7}\n"
        'sources: [{name: hub, type: github, organization: acme, token: "${A_TOKEN}"}]\n'
        'alerts: {webhook: "${A_TOKEN}"}\n'
    )
    return load_settings(file)


def test_the_function_takes_the_rules_along_and_no_settings(settings: Settings) -> None:
    now = settings.now().astimezone(UTC).replace(tzinfo=None)
    terms = Terms(Rules(settings.incidents, settings.rework, now), tuple(settings.bots), settings.calendar)
    sent = cloudpickle.dumps(deriving(terms))
    named = {argument for _, argument, _ in pickletools.genops(sent) if isinstance(argument, str)}
    assert SECRET.encode() not in sent
    assert b"A_TOKEN" not in sent
    assert {"IncidentRules", "ReworkRules", "renovate*", "Europe/Berlin"} <= named
    assert not {"Settings", "Secret", "GitHubSource", "EngineSettings"} & named
    assert len(sent) < 10_000


def test_the_function_derives_what_it_is_handed(settings: Settings) -> None:
    """As on an executor: from the pickle, with nothing but messages and rows."""
    now = settings.now().astimezone(UTC).replace(tzinfo=None)
    terms = Terms(Rules(settings.incidents, settings.rework, now), tuple(settings.bots), settings.calendar)
    there = cloudpickle.loads(cloudpickle.dumps(deriving(terms)))
    service = Service(name="shop", repository="acme/shop")
    table = message_table([(0, ServiceMessage.of(service, ["acme/shop"]))])
    assert [one.number for one in gathered(table.to_batches())] == [0]
    assert list(there(table.to_batches())) == []
