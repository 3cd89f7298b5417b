"""Calls: one POST to a server that nobody knows, and what it answers; nothing of it can keep us for long."""

import http.client
import math
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from service.core.clock import elapsed
from service.outbox.targets import Callee, TargetRefused, Targets

CALL_SECONDS = 15.0
"""Most seconds of one try at one address, until the status (Standard Webhooks recommend 15 to 30)."""
CONNECT_SECONDS = 5.0
"""Most seconds until one address takes a connection."""
LOOK_UP_SECONDS = 15.0
"""After so many seconds of a look at DNS nothing is sent: who has asked may have given it to another by then."""
MOST_ADDRESSES = 2
"""Addresses of one name that are tried."""
LONGEST_WAIT_ASKED = 40
"""Characters of a `Retry-After`; a date has 29."""
MOST_WAIT_ASKED = 6 * 3600.0
"""Most seconds that a `Retry-After` is heeded: who answers may be anybody, and may say years."""
WHOLE_CALL_SECONDS = LOOK_UP_SECONDS + MOST_ADDRESSES * CALL_SECONDS
"""Most seconds after the beginning of a call in which something of it reaches a server."""


@dataclass(frozen=True, slots=True)
class Called:
    """What came of a call: a status, or why there is none."""

    status: int | None
    reason: str
    retry_after: float | None = None
    """Seconds for which the server asks to wait, `MOST_WAIT_ASKED` at most."""

    @property
    def is_taken(self) -> bool:
        """Whether the server has it: any 2xx."""
        return self.status is not None and 200 <= self.status < 300


class CheckedConnection(http.client.HTTPConnection):
    """A connection to an address that was looked at, whatever DNS says meanwhile."""

    def __init__(self, target: Callee, address: str, context: ssl.SSLContext) -> None:
        super().__init__(target.host, target.port, timeout=CONNECT_SECONDS)
        self.target, self.address, self.context = target, address, context
        self.is_open = False
        """Whether the request may have begun."""

    def connect(self) -> None:
        """Connect to the address; the certificate has to be that of the name."""
        self.sock = socket.create_connection((self.address, self.target.port), CONNECT_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.target.secure:
            # The handshake comes after, so that `cut` reaches who drips it.
            self.sock = secure = self.context.wrap_socket(
                self.sock, server_hostname=self.target.host, do_handshake_on_connect=False
            )
            secure.do_handshake()
        self.sock.settimeout(CALL_SECONDS)
        self.is_open = True

    def cut(self) -> None:
        """End it from another thread: who drips a byte now and then is in time for each of them."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class OutwardCaller:
    """Sends requests to servers that may be called."""

    def __init__(self, targets: Targets) -> None:
        self.targets = targets
        self.context = ssl.create_default_context()

    def call(self, url: str, body: bytes, headers: Mapping[str, str], until: float = math.inf) -> Called:
        """Send a POST; at `until`, of `elapsed`, nothing of it is under way any more.

        No redirect is followed, and nothing is read behind the headers of the answer.
        """
        began = elapsed()
        try:
            target = self.targets.read(url)
            addresses = self.targets.addresses(target)
        except TargetRefused as error:
            return Called(None, f"not called: {error}")
        except OSError as error:
            return Called(None, f"no address: {error.strerror or type(error).__name__}")
        if elapsed() > began + LOOK_UP_SECONDS:
            return Called(None, "no address in time")
        return self.call_first(target, addresses, body, headers, until)

    def call_first(
        self, target: Callee, addresses: list[str], body: bytes, headers: Mapping[str, str], until: float
    ) -> Called:
        """Send a request to the first of some addresses that takes a connection."""
        last = Called(None, "no address")
        for address in addresses[:MOST_ADDRESSES]:
            connection = CheckedConnection(target, address, self.context)
            late = threading.Timer(min(CALL_SECONDS, max(0.0, until - elapsed())), connection.cut)
            late.daemon = True
            late.start()
            try:
                connection.connect()
                if elapsed() >= until:
                    return Called(None, "no connection in time")
                return self.answered(connection, body, headers)
            except (OSError, http.client.HTTPException) as error:
                last = Called(None, failure_told(error))
                if connection.is_open:
                    return last  # it may have got it
            finally:
                late.cancel()
                connection.close()
        return last

    def answered(self, connection: CheckedConnection, body: bytes, headers: Mapping[str, str]) -> Called:
        """Send a request over a connection, and return what comes of it. Raises `OSError` or `HTTPException`."""
        target = connection.target
        connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
        own = {"Host": target.authority, "Content-Length": str(len(body)), "Connection": "close"}
        for name, value in {**own, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        said = f"{answer.status} {http.client.responses.get(answer.status, '')}".strip()
        if 300 <= answer.status < 400:
            said += ", which is not followed"
        return Called(answer.status, said, wait_asked(answer.headers.get("Retry-After")))


def wait_asked(text: str | None) -> float | None:
    """Return the seconds of a `Retry-After`, which may be a date (RFC 9110, section 10.2.3); None where it has none.

    They are `MOST_WAIT_ASKED` at most.
    """
    if text is None or len(text) > LONGEST_WAIT_ASKED:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), MOST_WAIT_ASKED)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, moment - time.time()), MOST_WAIT_ASKED)


def failure_told(error: Exception) -> str:
    """Return why there was no answer, in words that show nothing of what is behind the server."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "no TLS"
    if isinstance(error, ConnectionRefusedError):
        return "it takes no connection"
    return "the connection broke off, or what came is no HTTP"
