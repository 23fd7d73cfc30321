"""A Slack-compatible webhook that is told of a pack: its main points as text, never as markup.

Source: reports.md section 4. The address is a secret and stands in no message, log or record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests

from analytics.settings import WebhookDelivery
from reports.delivery.outcome import Refused, Unknown, Unreached
from reports.tables import printable

TIMEOUT_SECONDS = 15
LONGEST_TEXT = 2900


def body(subject: str, lines: Sequence[str], link: str | None) -> dict[str, Any]:
    """`{"text", "blocks"}`; a name in a text becomes no mention, link or format."""
    points = "\n".join(f"\u2022 {escaped(line)}" for line in lines)
    shown = points if len(points) <= LONGEST_TEXT else points[:LONGEST_TEXT].rpartition("\n")[0] + "\n\u2026"
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": printable(subject)[:150], "emoji": False}}
    ]
    if shown:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": shown, "verbatim": True}})
    if link:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"<{link}|Open the pack>"}})
    return {"text": escaped(subject), "blocks": blocks}


def escaped(text: str) -> str:
    """Text in which Slack finds neither markup nor a mention: its three signs escaped, its marks kept from pairing."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A zero-width joiner in front keeps `*bold*`, `_lean_`, `~gone~` and code from being read as such.
    return "".join(f"\u200d{c}" if c in "*_~`" else c for c in plain)


def post(delivery: WebhookDelivery, message: dict[str, Any]) -> str:
    """Tell the webhook; raises Unreached, Refused, or Unknown when it took the message and did not answer."""
    address = delivery.url.reveal()
    parts = urlsplit(address)
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1")):
        raise Refused("the webhook's address must begin with https://")
    try:
        answer = requests.post(address, json=message, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except requests.ReadTimeout:
        raise Unknown(f"the webhook took the message and did not answer in {TIMEOUT_SECONDS} s") from None
    except requests.RequestException as error:
        # Without its message, which holds the address.
        raise Unreached(f"the webhook cannot be reached ({type(error).__name__})") from None
    if answer.ok and not answer.is_redirect:
        return f"told ({answer.status_code})"
    said = f"the webhook answered {answer.status_code}"
    raise (Unreached if answer.status_code >= 500 or answer.status_code in (408, 429) else Refused)(said)
