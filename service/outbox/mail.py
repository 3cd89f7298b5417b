"""Mail: where the settings say that it goes, and what comes of an item of the outbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.utils import parseaddr
from typing import Any
from urllib.parse import unquote, urlsplit

from email_validator import EmailNotValidError, validate_email

KIND = "mail"
"""The kind of items that are mails."""
PORTS = {"smtp": 587, "smtps": 465}
"""Submission (RFC 6409), and submission over TLS (RFC 8314, section 3.3)."""
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class MailServer:
    """A server that takes our mail."""

    host: str
    port: int
    secure: bool
    """Whether TLS begins with the connection; otherwise STARTTLS follows where the server offers it."""
    user: str | None = None
    password: str | None = None

    @property
    def must_be_secret(self) -> bool:
        """Whether nothing may be said in the clear: a password would cross a network."""
        return self.password is not None and self.host not in THIS_MACHINE


def read_server(url: str) -> MailServer:
    """Return what MAIL_URL names. Raises `ValueError`, which does not repeat what may hold a password."""
    wanted = "MAIL_URL has to be smtp://user:password@host:port, or smtps://…; what is special in it as %40 for @"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wanted) from None
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in PORTS or not host or rest or (parts.username is None) != (parts.password is None):
        raise ValueError(wanted)
    known = [None if text is None else unquote(text) for text in (parts.username, parts.password)]
    return MailServer(host, port or PORTS[parts.scheme], parts.scheme == "smtps", *known)


def read_sender(text: str) -> Address:
    """Return the name and address that MAIL_FROM holds, the domain in ASCII. Raises `ValueError`."""
    name, address = parseaddr(text if text.isprintable() else "")
    try:
        checked = validate_email(address, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError(f"MAIL_FROM has to be an address, alone or as `Madang <mail@example.com>`: {error}") from None
    if not checked.local_part.isascii():
        raise ValueError("MAIL_FROM has to be an address of ASCII before the @: not every server takes another")
    return Address(name, checked.local_part, checked.ascii_domain)


def is_available(config: Mapping[str, Any]) -> bool:
    """Tell whether mail can be sent. Raises `ValueError` for settings that are not right.

    In production it can only by a server; elsewhere without one it is written into a folder.
    """
    if config["MAIL_URL"]:
        read_server(config["MAIL_URL"])
        if not config["MAIL_FROM"]:
            raise ValueError("MAIL_URL is set, so MAIL_FROM has to be too: the address from which mail comes")
    if config["MAIL_FROM"]:
        read_sender(config["MAIL_FROM"])
    return bool(config["MAIL_URL"]) or config["ENVIRONMENT"] != "production"


def require(config: Mapping[str, Any], what: str) -> None:
    """Raise `ValueError` where something needs mail, and these settings name no way to send it."""
    if not is_available(config):
        raise ValueError(f"{what} needs mail: set SERVICE_MAIL_URL and SERVICE_MAIL_FROM (docs/mail.md)")
