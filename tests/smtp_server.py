"""A real mail server in the hands of a test, which remembers what it has taken and answers as it is told."""

import ssl
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

ACCEPTED = "250 taken"


@dataclass
class Handler:
    """What the server answers, and what it has taken."""

    recipient: str | None = None
    """The answer to RCPT, if not that it is taken."""
    data: list[str] = field(default_factory=list)
    """The next answers to DATA; then all is taken."""
    sender: str | None = None
    taken: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    sessions: set[int] = field(default_factory=set)
    secured: list[bool] = field(default_factory=list)

    async def handle_MAIL(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.sender or "250 OK"

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.recipient is not None:
            return self.recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.sessions.add(id(session))
        answer = self.data.pop(0) if self.data else ACCEPTED
        if answer.startswith("250"):
            message = message_from_bytes(cast(bytes, envelope.content), policy=policy.SMTPUTF8)
            self.taken.append((list(envelope.rcpt_tos), cast(EmailMessage, message)))
            self.secured.append(session.ssl is not None)
        return answer

    def ids(self) -> list[str]:
        return [str(message["Message-ID"]) for _, message in self.taken]


class MailServer(Controller):
    """The server, on a free port of 127.0.0.1."""

    def __init__(
        self,
        handler: Handler,
        tls: ssl.SSLContext | None = None,
        secure: bool = False,
        host: str = "127.0.0.1",
        **options: Any,
    ):
        given = {"enable_SMTPUTF8": True, **({"ssl_context": tls} if secure else {"tls_context": tls}), **options}
        super().__init__(handler, host, 0, server_hostname="mx.example.com", **given)

    def _trigger_server(self) -> None:
        """Ask for the port that was given to us: the parent class would knock at port 0."""
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


def authenticator(user: str, password: str) -> Any:
    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=good, handled=good)

    return check
