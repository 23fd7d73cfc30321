from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from analytics.errors import QuarterdeckError, SettingsError
from sensors import alerts
from sensors.alerts import Alert, deliver
from tests.unit.sensors.ops_world import webhook, workspace

ALERT = Alert("critical_findings", "1 new critical finding", ["signature: checkout"], "https://ci.example/1")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "_PAUSE_SECONDS", 0)


def with_webhook(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ALERT_WEBHOOK", address)
    return workspace(folder, alerts={"webhook": "${ALERT_WEBHOOK}"})


def test_without_a_webhook_an_alert_is_a_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = deliver(workspace(tmp_path), ALERT)
    assert text == "Acme: 1 new critical finding\nsignature: checkout\nhttps://ci.example/1"
    [record] = caplog.records
    assert (record.name, record.levelno) == ("quarterdeck.alerts", logging.WARNING)
    assert "1 new critical finding | signature: checkout" in record.message


def test_a_webhook_gets_the_text_as_chats_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as hook:
        deliver(with_webhook(tmp_path, hook.address, monkeypatch), ALERT)
    [post] = hook.posts
    assert post["text"].startswith("Acme: 1 new critical finding\n")
    assert (post["kind"], post["organization"], post["link"]) == ("critical_findings", "Acme", "https://ci.example/1")


def test_a_hostile_name_neither_mentions_nor_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["<!channel> & \x1b[31m", "token ghp_" + "a" * 36, "x" * 5000, *(f"line {n}" for n in range(100))]
    with webhook() as hook:
        deliver(with_webhook(tmp_path, hook.address, monkeypatch), Alert("k", "t", lines))
    text = hook.posts[0]["text"]
    assert "&lt;!channel&gt; &amp; \\x1b[31m" in text
    assert "ghp_" not in text
    assert max(map(len, text.splitlines())) <= 320
    assert text.splitlines()[-1] == "… and 83 more"


def test_a_webhook_that_stumbles_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as hook:
        hook.answers = [503, 429]
        deliver(with_webhook(tmp_path, hook.address, monkeypatch), ALERT)
    assert len(hook.posts) == 3


@pytest.mark.parametrize(("answers", "posts"), [([500, 500, 500], 3), ([404], 1), ([302, 302, 302], 3)])
def test_a_webhook_that_refuses_is_an_error_without_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[int], posts: int
) -> None:
    with webhook() as hook:
        hook.answers = list(answers)
        with pytest.raises(QuarterdeckError) as caught:
            deliver(with_webhook(tmp_path, hook.address, monkeypatch), ALERT)
    assert len(hook.posts) == posts
    assert f"status {answers[0]}" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_webhook_that_is_not_there_is_an_error_without_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook:
        settings = with_webhook(tmp_path, hook.address, monkeypatch)
    with pytest.raises(QuarterdeckError, match="ConnectionError") as caught:
        deliver(settings, ALERT)
    assert "127.0.0.1" not in str(caught.value)


def test_a_webhook_elsewhere_must_be_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_webhook(tmp_path, "http://chat.example/hook", monkeypatch)
    with pytest.raises(QuarterdeckError, match="https://"):
        deliver(settings, ALERT)


def test_a_webhooks_address_must_be_a_reference(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"alerts\.webhook") as caught:
        workspace(tmp_path, alerts={"webhook": "https://chat.example/s3cr3t"})
    assert "s3cr3t" not in str(caught.value)
