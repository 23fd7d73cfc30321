"""The e-mail edition: a message made from the pack's own files, and its way over SMTP.

Plain text first, then HTML with its pictures by Content-ID, and the leadership edition as PDF; no SVG and no script.
The same pack and destination give the same Message-ID, by which a mail server knows a message that comes again.
Source: reports.md section 1, item 23; RFC 2046, 2387, 2392.
"""

from __future__ import annotations

import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from analytics.settings import EmailDelivery
from reports.delivery.outcome import Refused, Unreached

TIMEOUT_SECONDS = 30
PDF_NAME = "leadership.pdf"


def compose(delivery: EmailDelivery, folder: Path, pack_id: str, subject: str, at: datetime) -> EmailMessage:
    """The message for a pack; `at` is when it is sent."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = " ".join(subject.split())[:200]
    message["From"] = delivery.sender
    message["To"] = ", ".join(delivery.to)
    message["Date"] = format_datetime(at.astimezone(UTC))
    domain = delivery.sender.rpartition("@")[2]
    message["Message-ID"] = f"<{pack_id[:32]}.{delivery.name}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    email = folder / "email"
    message.set_content((email / "message.txt").read_text(encoding="utf-8"))
    html = (email / "message.html").read_text(encoding="utf-8")
    pictures = sorted(email.glob("*.png"))
    for picture in pictures:
        html = html.replace(f'src="{picture.name}"', f'src="cid:{picture.stem}.{pack_id[:16]}@{domain}"')
    message.add_alternative(html, subtype="html")
    _, page = message.iter_parts()
    assert isinstance(page, EmailMessage)
    for picture in pictures:
        page.add_related(
            picture.read_bytes(),
            maintype="image",
            subtype="png",
            cid=f"<{picture.stem}.{pack_id[:16]}@{domain}>",
            filename=picture.name,
            disposition="inline",
        )
    pdf = folder / PDF_NAME
    if pdf.is_file():
        message.add_attachment(
            pdf.read_bytes(), maintype="application", subtype="pdf", filename=f"{folder.name}-{PDF_NAME}"
        )
    return message


def send(delivery: EmailDelivery, message: EmailMessage) -> str:
    """Give the message to the server; raises Unreached for what may pass, and Refused for what will not."""
    try:
        if delivery.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                delivery.host, delivery.port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(delivery.host, delivery.port, timeout=TIMEOUT_SECONDS)
        with server:
            if delivery.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if delivery.user is not None and delivery.password is not None:
                server.login(delivery.user, delivery.password.reveal())
            refused = server.send_message(message)
    except smtplib.SMTPAuthenticationError as error:
        # Without the server's words: some repeat what was sent.
        raise Refused(f"{delivery.host} does not take user and password ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        said = f"{delivery.host} refuses every recipient ({', '.join(map(str, codes))})"
        raise (Unreached if all(400 <= code < 500 for code in codes) else Refused)(said) from None
    except smtplib.SMTPResponseException as error:
        said = f"{delivery.host} answered {error.smtp_code}"
        raise (Unreached if 400 <= error.smtp_code < 500 else Refused)(said) from None
    except smtplib.SMTPNotSupportedError as error:
        raise Refused(f"{delivery.host}: {error}") from None
    except ssl.SSLCertVerificationError as error:
        raise Refused(f"{delivery.host} shows a certificate that does not verify: {error.verify_message}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise Unreached(f"{delivery.host}:{delivery.port} cannot be reached ({type(error).__name__})") from None
    left_out = f"; refused: {', '.join(sorted(refused))}" if refused else ""
    return f"sent to {len(delivery.to) - len(refused)} of {len(delivery.to)} recipients{left_out}"
