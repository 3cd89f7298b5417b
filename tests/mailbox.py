"""A mailbox in the hands of a test: what waits in the outbox is sent into it, rendered as for everybody."""

from dataclasses import dataclass
from email.message import EmailMessage

from flask import Flask

from service.outbox import dispatch
from service.outbox.composing import MailSender
from tests.dispatching import Deaf, deliver_all


@dataclass(frozen=True)
class Mail:
    """A mail as it came; codes and links stand in its text."""

    to: str
    subject: str
    text: str
    html: str
    message: EmailMessage


class Mailbox:
    """Takes all mails of an app, whoever they are for."""

    seconds = 30.0

    def __init__(self, app: Flask) -> None:
        self.came: list[Mail] = []
        keys = app.extensions["madang.security"].keys.each("outbox")
        self.dispatcher = dispatch.Dispatcher(MailSender(app.config, keys, self), Deaf())

    def collect(self) -> list[Mail]:
        """Send all that waits; return it."""
        self.came.clear()
        deliver_all(self.dispatcher)
        return list(self.came)

    def deliver(self, message: EmailMessage, sender: str, recipient: str, until: float) -> None:
        text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
        assert text is not None
        assert html is not None
        self.came.append(Mail(recipient, message["Subject"], text.get_content(), html.get_content(), message))

    def rest(self) -> None:
        pass
