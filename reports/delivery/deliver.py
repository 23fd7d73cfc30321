"""Delivers a pack to every destination of the settings: once each, three attempts, everything recorded.

A pack that does not verify is not sent. A webhook whose answer was lost is not told again by itself: it may have heard.
Source: reports.md section 4.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from analytics.errors import PackError
from analytics.periods import Quarter
from analytics.progress import report
from analytics.settings import Delivery, EmailDelivery, FolderDelivery, Settings, WebhookDelivery
from reports.delivery import folder as to_folder
from reports.delivery import mail, webhook
from reports.delivery.ledger import Entry, Ledger
from reports.delivery.outcome import Refused, Unknown, Unreached
from reports.manifest import read_manifest, verify_pack
from reports.shelf import folder_name, newest_revision

ATTEMPTS = 3
PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Delivered:
    """What came of one destination; `sent` when the pack is there, now or since an earlier run."""

    delivery: str
    sent: bool
    words: str


def newest_pack(settings: Settings, quarter: Quarter) -> Path:
    """The newest revision of a quarter's pack; raises PackError when there is none."""
    revision = newest_revision(settings.packs_dir, quarter)
    if revision < 0:
        raise PackError(
            f"there is no pack of {quarter}",
            where=str(settings.packs_dir),
            fix=f"Run `quarterdeck pack --quarter {quarter}`.",
        )
    return settings.packs_dir / folder_name(quarter, revision)


def deliver_pack(settings: Settings, folder: Path, *, again: bool = False) -> list[Delivered]:
    """Deliver a pack to every destination that does not have it; with `again`, also where it may have arrived.

    Raises PackError for a pack that does not verify. A destination that fails leaves the others alone.
    """
    result = verify_pack(folder)
    if not result.ok or result.pack_id is None:
        raise PackError(
            f"the pack does not verify and is not delivered: {result.problems[0] if result.problems else 'no id'}",
            where=str(folder),
            fix="Run `quarterdeck pack`: it makes the next revision.",
        )
    ledger = Ledger(settings)
    done = []
    for delivery in settings.reports.delivery:
        report("deliver", f"{folder.name} to {delivery.name}")
        try:
            with ledger.entry(folder.name, result.pack_id, delivery.name) as entry:
                done.append(_deliver(settings, delivery, folder, ledger, entry, again=again))
        except PackError as error:
            done.append(Delivered(delivery.name, False, str(error).replace("\n", " ")))
    return done


def _deliver(
    settings: Settings, delivery: Delivery, folder: Path, ledger: Ledger, entry: Entry, *, again: bool
) -> Delivered:
    if entry.state == "sent":
        return Delivered(delivery.name, True, "already delivered")
    if entry.state == "sending" and isinstance(delivery, WebhookDelivery) and not again:
        return Delivered(
            delivery.name,
            False,
            "may have arrived: an earlier attempt ended without an answer; look, and run `quarterdeck deliver --again` "
            "if it did not",
        )
    attempt = _attempt(settings, delivery, folder, entry.pack_id)
    words = ""
    for number in range(ATTEMPTS):
        if number:
            time.sleep(PAUSE_SECONDS * number)
        ledger.note(entry, "sending", f"attempt {number + 1}")
        try:
            words = attempt()
        except Unreached as error:
            words = str(error)
        except Unknown as error:
            # Stays `sending`: nobody knows.
            return Delivered(delivery.name, False, str(error))
        except Refused as error:
            words = str(error)
            break
        else:
            ledger.note(entry, "sent", words)
            return Delivered(delivery.name, True, words)
        ledger.note(entry, "failed", words)
    ledger.note(entry, "failed", words)
    return Delivered(delivery.name, False, f"{words}; `quarterdeck deliver` tries again")


def _attempt(settings: Settings, delivery: Delivery, folder: Path, pack_id: str) -> Callable[[], str]:
    """One try, ready to be made several times."""
    subject = subject_of(settings, folder)
    if isinstance(delivery, FolderDelivery):
        return lambda: to_folder.copy(settings, delivery, folder, pack_id)
    if isinstance(delivery, EmailDelivery):
        message = mail.compose(delivery, folder, pack_id, subject, datetime.now(UTC))
        return lambda: mail.send(delivery, message)
    link = f"{delivery.link.rstrip('/')}/{folder.name}/index.html" if delivery.link else None
    told = webhook.body(subject, main_lines(folder), link)
    return lambda: webhook.post(delivery, told)


def subject_of(settings: Settings, folder: Path) -> str:
    """The title with the quarter, and the revision of a correction."""
    document, _ = read_manifest(folder)
    title = settings.reports.title or f"{settings.organization}: software delivery"
    revision = document.get("revision")
    correction = f" (revision {revision})" if revision else ""
    return f"{title}, {document.get('quarter', folder.name)}{correction}"


def main_lines(folder: Path) -> list[str]:
    """The main points and decisions of a pack, from its e-mail edition in plain text."""
    text = (folder / "email" / "message.txt").read_text(encoding="utf-8").partition("SCORECARD")[0]
    return [line[2:].strip() for line in text.splitlines() if line.startswith("* ")]
