"""Mails out of the items of the outbox: rendered, with the headers that a mail needs, and handed to a transport."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from service.mongo.raw import Raw
from service.outbox import mail
from service.outbox.dispatch import FOR_A_DAY, Refused, Retries, Turn
from service.outbox.letters import address
from service.outbox.rendering import Renderer
from service.outbox.sealing import Seal, Unsealable
from service.outbox.transports import Transport, transport_for

FOLDER_SENDER = Address("Madang", "madang", "localhost")
"""From whom the mails come that are written into a folder."""


class MailSender:
    """Sends the items that are mails."""

    kind = mail.KIND

    def __init__(self, config: Mapping[str, Any], keys: Sequence[bytes], transport: Transport | None = None) -> None:
        """Take the settings, the keys of `Letters`, and how messages leave. Raises `ValueError`."""
        self.sender = mail.read_sender(config["MAIL_FROM"]) if config["MAIL_FROM"] else FOLDER_SENDER
        self.seal = Seal(keys)
        self.renderer = Renderer(config["APP_NAME"], config["MAIL_TEMPLATES"])
        self.transport = transport or transport_for(config)

    @property
    def seconds(self) -> float:
        """For how many seconds one is its own."""
        return self.transport.seconds

    def retries(self, item: Raw) -> Retries:
        """Return how often and how long a mail is tried."""
        return FOR_A_DAY

    def send(self, item: Raw, turn: Turn) -> None:
        """Send a mail. Raises `Refused`, `Postponed` or `CannotSend`."""
        message, recipient = self.compose(item)
        self.transport.deliver(message, self.sender.addr_spec, recipient, turn.until)

    def rest(self) -> None:
        """Hear that there is nothing to send at this moment."""
        self.transport.rest()

    def compose(self, item: Raw) -> tuple[EmailMessage, str]:
        """Return the message of an item, and the address for the server. Raises `Refused`."""
        content = item["content"]
        found = address(content["to"])
        # Before the @ only its own server knows what is the same; behind it is a host, which has a name of ASCII.
        to = Address(username=found.local_part, domain=found.ascii_domain)
        rendered = self.renderer.render(content["template"], content["language"], self.values(item))
        message = EmailMessage(policy.SMTP if found.local_part.isascii() else policy.SMTPUTF8)
        message["From"], message["To"] = self.sender, to
        message["Subject"] = rendered.subject
        message["Date"] = item["created_at"].replace(tzinfo=UTC)
        # The same at each try: who gets it twice, or its program, can see that it is one.
        message["Message-ID"] = f"<{item['_id']}@{self.sender.domain}>"
        # RFC 3834, section 5: no holiday notes come back.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(rendered.text)
        message.add_alternative(rendered.html, subtype="html")
        return message, to.addr_spec

    def values(self, item: Raw) -> Raw:
        """Return what is handed to the template. Raises `Refused` where nobody can read it any more."""
        if "sealed" not in item:
            return {}
        try:
            return self.seal.open(item["sealed"], item["_id"])
        except Unsealable:
            raise Refused("its values were encrypted with a secret that this service does not have") from None
