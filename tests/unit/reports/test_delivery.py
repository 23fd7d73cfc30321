"""Delivering a pack: to a real mail server, a webhook and a folder; retried, once, recorded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from analytics.errors import PackError
from analytics.settings import EmailDelivery, Settings
from reports.delivery import deliver as delivering
from reports.delivery.deliver import deliver_pack, newest_pack
from reports.delivery.ledger import Ledger
from reports.delivery.mail import compose, send
from reports.delivery.webhook import body, escaped
from reports.manifest import verify_pack
from reports.pack import make_pack
from tests.unit.reports.published_world import QUARTER, publish, settings_of, small_world

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


class MailServer:
    """Takes messages, after as many temporary or final refusals as it is told."""

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.answers: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answers:
            return self.answers.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 taken"


class AnyPort(Controller):
    """A server on whichever port is free: aiosmtpd would knock at port 0 to see whether it is there."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Webhook(ThreadingHTTPServer):
    """Takes messages, after as many other answers as it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.answers: list[int] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 200:
            self.server.told.append(value)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace with a pack that no test changes."""
    settings = settings_of(tmp_path_factory.mktemp("delivered"))
    publish(settings, small_world())
    make_pack(settings, QUARTER)
    return settings


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def mail_server() -> Iterator[tuple[MailServer, int]]:
    handler = MailServer()
    controller = AnyPort(handler, hostname="127.0.0.1", port=0)
    controller.start()
    try:
        yield handler, controller.port
    finally:
        controller.stop()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("PACK_WEBHOOK", f"http://127.0.0.1:{server.server_port}/services/T0/SECRET")
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def delivering_to(made: Settings, tmp_path: Path, *deliveries: dict[str, Any]) -> Settings:
    """The workspace with destinations, and its ledger apart from other tests'."""
    given = settings_of(tmp_path, reports={"printed": [], "title": "Delivery at Acme", "delivery": list(deliveries)})
    tmp_path.joinpath("packs").symlink_to(made.packs_dir)
    return given


def mail_to(port: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "email",
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "from": "packs@acme.example",
        "to": ["lead@acme.example", "ada@acme.example"],
        **more,
    }


HOOK = {"type": "webhook", "url": "${PACK_WEBHOOK}", "link": "https://packs.example/q"}


def states(settings: Settings) -> list[str]:
    (entry,) = Ledger(settings).entries()
    return [attempt["state"] for attempt in entry.attempts]


# --- e-mail --------------------------------------------------------------------------------------------------------


def test_a_mail_holds_the_points_in_text_and_html_with_pictures_by_content_id_and_the_pdf(
    tmp_path: Path, mail_server: tuple[MailServer, int], made: Settings
) -> None:
    """The pack's own pictures and print stand in for what a browser would have drawn."""
    folder = tmp_path / "2026-Q3"
    for part in newest_pack(made, QUARTER).rglob("email/*"):
        (folder / "email").mkdir(parents=True, exist_ok=True)
        (folder / "email" / part.name).write_bytes(part.read_bytes())
    (folder / "email" / "lead-time.png").write_bytes(PNG)
    html = folder / "email" / "message.html"
    html.write_text(html.read_text().replace("</h1>", '</h1><img src="lead-time.png" alt="The median.">', 1))
    (folder / "leadership.pdf").write_bytes(b"%PDF-1.7 small")
    server, port = mail_server
    delivery = EmailDelivery.model_validate(mail_to(port))
    message = compose(delivery, folder, "ab" * 32, "Delivery at Acme,\r\nBcc: evil@example", datetime.now(UTC))
    send(delivery, message)
    (received,) = server.received
    assert received["Subject"] == "Delivery at Acme, Bcc: evil@example"
    assert received["Bcc"] is None
    kinds = [part.get_content_type() for part in received.walk()]
    assert kinds == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    page = received.get_body(("html",))
    assert page is not None
    text = page.get_content()
    picture = next(part for part in received.walk() if part.get_content_type() == "image/png")
    assert f'src="cid:{picture["Content-ID"].strip("<>")}"' in text
    assert "<svg" not in text
    assert "<script" not in text
    assert "Main points" in text
    plain = received.get_body(("plain",))
    assert plain is not None
    assert "MAIN POINTS" in plain.get_content()
    attachments = [part.get_filename() for part in received.iter_attachments()]
    assert attachments == ["2026-Q3-leadership.pdf"]


def test_a_mail_is_sent_once_and_recorded(made: Settings, tmp_path: Path, mail_server: tuple[MailServer, int]) -> None:
    server, port = mail_server
    settings = delivering_to(made, tmp_path, mail_to(port))
    (first,) = deliver_pack(settings, newest_pack(settings, QUARTER))
    (second,) = deliver_pack(settings, newest_pack(settings, QUARTER))
    assert (first.sent, first.words) == (True, "sent to 2 of 2 recipients")
    assert (second.sent, second.words) == (True, "already delivered")
    assert len(server.received) == 1
    assert server.received[0]["To"] == "lead@acme.example, ada@acme.example"
    assert states(settings) == ["sending", "sent"]


def test_a_mail_is_tried_again_with_the_same_id_after_a_temporary_refusal(
    made: Settings, tmp_path: Path, mail_server: tuple[MailServer, int]
) -> None:
    server, port = mail_server
    server.answers = ["451 later", "451 later"]
    settings = delivering_to(made, tmp_path, mail_to(port))
    (done,) = deliver_pack(settings, newest_pack(settings, QUARTER))
    assert done.sent
    assert states(settings) == ["sending", "failed", "sending", "failed", "sending", "sent"]
    assert len({message["Message-ID"] for message in server.received}) == 1


def test_a_final_refusal_is_not_tried_again_and_a_later_run_does(
    made: Settings, tmp_path: Path, mail_server: tuple[MailServer, int]
) -> None:
    server, port = mail_server
    server.answers = ["554 no"]
    settings = delivering_to(made, tmp_path, mail_to(port))
    (done,) = deliver_pack(settings, newest_pack(settings, QUARTER))
    assert (done.sent, done.words) == (False, "127.0.0.1 answered 554; `quarterdeck deliver` tries again")
    assert states(settings) == ["sending", "failed"]
    assert deliver_pack(settings, newest_pack(settings, QUARTER))[0].sent


def test_a_server_that_is_not_there_fails_after_three_attempts_and_leaves_the_others_alone(
    made: Settings, tmp_path: Path, hook: Webhook
) -> None:
    settings = delivering_to(made, tmp_path, mail_to(1), HOOK)
    mail, told = deliver_pack(settings, newest_pack(settings, QUARTER))
    assert (mail.sent, told.sent) == (False, True)
    assert "127.0.0.1:1 cannot be reached" in mail.words


# --- webhook -------------------------------------------------------------------------------------------------------


def test_a_webhook_is_told_the_main_points_once(made: Settings, tmp_path: Path, hook: Webhook) -> None:
    hook.answers = [503, 429]
    settings = delivering_to(made, tmp_path, HOOK)
    for _ in range(2):
        assert deliver_pack(settings, newest_pack(settings, QUARTER))[0].sent
    (message,) = hook.told
    assert message["text"] == "Delivery at Acme, 2026-Q3"
    assert "Change lead time" in message["blocks"][1]["text"]["text"]
    assert message["blocks"][2]["text"]["text"] == "<https://packs.example/q/2026-Q3/index.html|Open the pack>"


def test_a_webhook_that_says_no_is_not_asked_again_and_its_address_is_told_nobody(
    made: Settings, tmp_path: Path, hook: Webhook
) -> None:
    hook.answers = [404]
    settings = delivering_to(made, tmp_path, HOOK)
    (done,) = deliver_pack(settings, newest_pack(settings, QUARTER))
    assert (done.sent, done.words.partition(";")[0]) == (False, "the webhook answered 404")
    assert "SECRET" not in json.dumps([vars(entry) for entry in Ledger(settings).entries()])


def test_a_webhook_that_may_have_heard_is_told_again_only_when_asked(
    made: Settings, tmp_path: Path, hook: Webhook
) -> None:
    settings = delivering_to(made, tmp_path, HOOK)
    folder = newest_pack(settings, QUARTER)
    ledger = Ledger(settings)
    with ledger.entry(folder.name, verify_pack(folder).pack_id or "", "webhook") as entry:
        ledger.note(entry, "sending", "killed in the middle")
    (done,) = deliver_pack(settings, folder)
    assert (done.sent, hook.told) == (False, [])
    assert "may have arrived" in done.words
    assert deliver_pack(settings, folder, again=True)[0].sent
    assert len(hook.told) == 1


def test_names_in_a_message_are_neither_markup_nor_mentions() -> None:
    hostile = "<!channel> <https://evil.example|x> [a](javascript:alert(1)) *bold* `code` & =cmd()"
    assert escaped(hostile) == (
        "&lt;!channel&gt; &lt;https://evil.example|x&gt; [a](javascript:alert(1)) "
        "\u200d*bold\u200d* \u200d`code\u200d` &amp; =cmd()"
    )
    message = body(hostile, [hostile] * 500, None)
    assert "<!channel>" not in json.dumps(message["blocks"][1:])
    assert len(message["blocks"][1]["text"]["text"]) <= 3000


# --- folder --------------------------------------------------------------------------------------------------------


def test_a_folder_gets_the_pack_and_an_index_of_what_it_holds(made: Settings, tmp_path: Path) -> None:
    site = tmp_path / "site"
    settings = delivering_to(made, tmp_path, {"type": "folder", "path": site})
    assert deliver_pack(settings, newest_pack(settings, QUARTER))[0].sent
    assert verify_pack(site / "2026-Q3").ok
    assert "2026-Q3/index.html" in (site / "index.html").read_text()
    assert not list(site.glob(".incoming*"))


def test_a_folder_that_holds_another_pack_of_that_name_is_left_as_it_is(made: Settings, tmp_path: Path) -> None:
    site = tmp_path / "site"
    other = settings_of(tmp_path / "other")
    publish(other, small_world())
    world = small_world()
    world.add("unmapped", kind="repository", name="acme/new", rows=1)
    publish(other, world)
    settings = delivering_to(made, tmp_path, {"type": "folder", "path": site})
    copied = make_pack(other, QUARTER).path
    site.mkdir()
    copied.rename(site / "2026-Q3")
    (done,) = deliver_pack(settings, newest_pack(settings, QUARTER))
    assert not done.sent
    assert "packs are never overwritten" in done.words


# --- what is not sent ----------------------------------------------------------------------------------------------


def test_a_pack_that_does_not_verify_is_not_delivered(made: Settings, tmp_path: Path, hook: Webhook) -> None:
    settings = settings_of(tmp_path, reports={"printed": [], "delivery": [HOOK]})
    publish(settings, small_world())
    made_here = make_pack(settings, QUARTER).path
    (made_here / "index.html").write_text("tampered")
    with pytest.raises(PackError, match=r"does not verify and is not delivered: index\.html: changed"):
        deliver_pack(settings, made_here)
    assert hook.told == []


def test_without_a_pack_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="there is no pack of 2026-Q3"):
        newest_pack(settings_of(tmp_path), QUARTER)


def test_two_processes_do_not_deliver_the_same_pack_at_once(made: Settings, tmp_path: Path, hook: Webhook) -> None:
    settings = delivering_to(made, tmp_path, HOOK)
    folder = newest_pack(settings, QUARTER)
    with Ledger(settings).entry(folder.name, verify_pack(folder).pack_id or "", "webhook"):
        (done,) = deliver_pack(settings, folder)
    assert (done.sent, hook.told) == (False, [])
    assert "by another process" in done.words
