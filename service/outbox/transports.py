"""How a message leaves: to a mail server by SMTP (RFC 5321), or into a folder for somebody who develops."""

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol

from service.core.clock import elapsed
from service.core.log import log
from service.core.one_line import one_line
from service.outbox.dispatch import SENT_WITHIN, CannotSend, Postponed, Refused
from service.outbox.mail import MailServer, read_server

IDLE = 5.0
"""Seconds that a connection is kept open for the next message."""
MOST_MESSAGES = 100
"""Messages that go over one connection: many servers take no more."""
ANSWERS = 4
"""How many times the time of one answer a whole message may take: a server may send an answer byte by byte."""
LONGEST_REASON = 200
CLOSING = 421
"""RFC 5321, section 3.8: the server closes the connection."""


class Transport(Protocol):
    """Takes messages away."""

    seconds: float
    """For how many seconds one is to be its own."""

    def deliver(self, message: EmailMessage, sender: str, recipient: str, until: float) -> None:
        """Return when a message was taken; at `until`, of `elapsed`, nothing of it is under way any more.

        Raises `Refused`, `Postponed` or `CannotSend`.
        """
        ...

    def rest(self) -> None:
        """Hear that there is none at this moment."""
        ...


class Smtp:
    """Hands messages to a mail server, many over one connection."""

    def __init__(self, server: MailServer, timeout: float) -> None:
        """Take the server, and the seconds that it may take for an answer."""
        self.server, self.timeout = server, timeout
        # To connect and to answer, twice as long as a server may take for each.
        self.seconds = 2 * ANSWERS * timeout / SENT_WITHIN
        self.open: smtplib.SMTP | None = None
        self.used_at, self.messages = 0.0, 0

    def deliver(self, message: EmailMessage, sender: str, recipient: str, until: float) -> None:
        """Hand a message over. Raises `Refused`, `Postponed` or `CannotSend`."""
        smtp = self.connected()
        left = until - elapsed()
        if left <= 0:
            raise CannotSend("the mail server took too long to begin with it")
        options = []
        if not recipient.isascii():
            if not smtp.has_extn("smtputf8"):
                raise Refused("the mail server takes no address with such letters before the @ (RFC 6531)")
            options = ["SMTPUTF8", "BODY=8BITMIME"]
        try:
            with deadline(smtp, min(ANSWERS * self.timeout, left)):
                smtp.sendmail(sender, [recipient], message.as_bytes(), options)
        except smtplib.SMTPSenderRefused as error:
            self.leave()
            raise CannotSend(f"the mail server does not take mail from MAIL_FROM: {error_text(error)}") from error
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise self.problem(code, text) from error
        except smtplib.SMTPResponseException as error:
            raise self.problem(error.smtp_code, error.smtp_error) from error
        except (smtplib.SMTPException, OSError) as error:
            self.leave()
            raise Postponed(f"the connection to the mail server broke: {type(error).__name__}") from error
        self.used_at, self.messages = time.monotonic(), self.messages + 1

    def problem(self, code: int, text: bytes | str) -> Exception:
        """Return what an answer of the server means (RFC 5321, section 4.2.1)."""
        reason = f"{code} {one_line(text, LONGEST_REASON)}"
        if code == CLOSING:
            self.leave()
            return CannotSend(f"the mail server is closing: {reason}")
        return Refused(reason) if code >= 500 else Postponed(reason)

    def rest(self) -> None:
        """Close the connection when nothing was sent for a while."""
        if self.open is not None and time.monotonic() > self.used_at + IDLE:
            self.leave()

    def connected(self) -> smtplib.SMTP:
        """Return a connection that works. Raises `CannotSend`."""
        if self.open is not None and (self.messages >= MOST_MESSAGES or not self.is_alive(self.open)):
            self.leave()
        if self.open is None:
            try:
                self.open = self.connect()
            except (smtplib.SMTPException, OSError) as error:
                raise CannotSend(f"the mail server cannot be used: {error_text(error)}") from error
            self.messages = 0
        return self.open

    def is_alive(self, smtp: smtplib.SMTP) -> bool:
        """Tell whether the server still answers on a connection that was used before."""
        try:
            with deadline(smtp, self.timeout):
                return smtp.noop()[0] == 250
        except (smtplib.SMTPException, OSError):
            return False

    def connect(self) -> smtplib.SMTP:
        """Return a new connection, secured and signed in. Raises `SMTPException` or `OSError`."""
        where = (self.server.host, self.server.port)
        context = ssl.create_default_context()
        smtp = (
            smtplib.SMTP_SSL(*where, timeout=self.timeout, context=context)
            if self.server.secure
            else smtplib.SMTP(*where, timeout=self.timeout)
        )
        try:
            with deadline(smtp, ANSWERS * self.timeout):
                self.greet(smtp, context)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def greet(self, smtp: smtplib.SMTP, context: ssl.SSLContext) -> None:
        """Secure a connection and sign in."""
        smtp.ehlo_or_helo_if_needed()
        if not self.server.secure and smtp.has_extn("starttls"):
            smtp.starttls(context=context)
            smtp.ehlo()
        elif not self.server.secure and self.server.must_be_secret:
            raise smtplib.SMTPNotSupportedError("it offers no STARTTLS, and a password does not go in the clear")
        if self.server.user is not None and self.server.password is not None:
            smtp.login(self.server.user, self.server.password)

    def leave(self) -> None:
        """Close the connection; what it carried is acknowledged already."""
        if self.open is not None:
            with suppress(smtplib.SMTPException, OSError), deadline(self.open, self.timeout):
                self.open.quit()
            self.open.close()
            self.open = None


@contextmanager
def deadline(smtp: smtplib.SMTP, seconds: float) -> Iterator[None]:
    """Break a connection that is in use for longer than so many seconds."""

    def cut() -> None:
        with suppress(OSError, AttributeError):
            smtp.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def error_text(error: Exception) -> str:
    """Return what an error says; never what we sent, which may be a password."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {one_line(error.smtp_error, LONGEST_REASON)}"
    return f"{type(error).__name__}: {one_line(str(error), LONGEST_REASON)}"


class Folder:
    """Writes messages into a folder and into the log: for somebody who develops, and has no mail server."""

    seconds = 30.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def deliver(self, message: EmailMessage, sender: str, recipient: str, until: float) -> None:
        """Write a message, named by its id. Raises `CannotSend` where the folder takes none."""
        name = str(message["Message-ID"]).strip("<>").partition("@")[0]
        path = self.folder / f"{name}.eml"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.write_bytes(message.as_bytes())
        except OSError as error:
            raise CannotSend(f"mail cannot be written: {error}") from error
        text = message.get_body(("plain",))
        log.info(
            "mail",
            to=recipient,
            subject=str(message["Subject"]),
            text=text.get_content() if text is not None else "",
            file=str(path),
        )

    def rest(self) -> None:
        """Do nothing."""


def transport_for(config: Mapping[str, Any]) -> Transport:
    """Return how messages leave by these settings, which make mail available."""
    if config["MAIL_URL"]:
        return Smtp(read_server(config["MAIL_URL"]), config["MAIL_TIMEOUT"])
    return Folder(Path(config["VAR"]) / "mail")
