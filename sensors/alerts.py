"""Alerts: what a person should hear of, as a log line and, where one is set, a message to a webhook.

The body `{"text": …}` is what the incoming webhooks of Slack, Mattermost and Rocket.Chat read; the other keys are for
programs. Texts may hold names from outside: they are plain text, bounded, and without what looks like a secret.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from analytics.errors import QuarterdeckError
from analytics.secrets import scrub
from analytics.settings import Settings
from reports.tables import printable

ATTEMPTS = 3
TIMEOUT_SECONDS = 10
_PAUSE_SECONDS = 1.0
_LONGEST_LINE = 300
_MOST_LINES = 20
_logger = logging.getLogger("quarterdeck.alerts")


@dataclass(frozen=True)
class Alert:
    """Something to be told: its kind (a sensor's name), a headline, and lines that say where and what to do."""

    kind: str
    title: str
    lines: Sequence[str] = ()
    link: str | None = None

    def text(self, organization: str) -> str:
        """Headline, lines and link, one below the other."""
        shown = [f"{organization}: {self.title}", *self.lines[:_MOST_LINES]]
        if len(self.lines) > _MOST_LINES:
            shown.append(f"… and {len(self.lines) - _MOST_LINES} more")
        if self.link:
            shown.append(self.link)
        return "\n".join(_bounded(line) for line in shown)


def _bounded(line: str) -> str:
    plain = scrub(printable(line))
    return plain if len(plain) <= _LONGEST_LINE else plain[: _LONGEST_LINE - 1] + "…"


def deliver(settings: Settings, alert: Alert) -> str:
    """Log an alert, send it to the webhook if there is one, and give back its text.

    Raises QuarterdeckError when the webhook does not take it after three attempts, so that the sensor's tick fails and
    tells it again at the next one. The webhook's address is a secret and stands in no message.
    """
    text = alert.text(settings.organization)
    _logger.warning("%s: %s", alert.kind, text.replace("\n", " | "))
    webhook = settings.alerts.webhook
    if webhook is None:
        return text
    address = webhook.reveal()
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise QuarterdeckError(
            "the address must begin with https://", where="alerts.webhook", fix="Correct the secret that it names."
        )
    # A name must not become a mention or a link in the channel.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body = {"text": escaped, "kind": alert.kind, "organization": settings.organization, "link": alert.link}
    said = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS * attempt)
        try:
            answer = requests.post(address, json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            # Without its message, which holds the address.
            said = type(error).__name__
            continue
        if answer.ok and not answer.is_redirect:
            return text
        said = f"status {answer.status_code}"
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
            break
    raise QuarterdeckError(
        f"the alert could not be delivered: {said}",
        where="alerts.webhook",
        fix="Check the webhook; the alert stands in the log and is sent again at the next tick.",
    ) from None
