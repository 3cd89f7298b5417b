"""HTTP/2 (RFC 9113) to a server that many requests go to at once, over one connection.

What h2 does not do stands here: the socket, how long something may take, and which requests may be sent again.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
)
from h2.exceptions import H2Error
from hpack import Encoder

from service.core.one_line import one_line

QUIET_SECONDS = 10.0
"""Most seconds in which nothing comes although something is asked; then the connection is dead."""
IDLE_SECONDS = 30.0
"""After so many seconds without use it is asked whether the other end is there, before anything is sent."""
READ_BYTES = 64 * 1024
LONGEST_SAID = 100
"""Most characters that are kept of what a server says."""
FRAME_HEAD, GOAWAY = 9, 7
"""RFC 9113, sections 4.1 and 6.8."""


@dataclass(frozen=True, slots=True)
class Http2Request:
    """A POST: its path, the headers that hardly change, those that always do, and its body."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    own_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Http2Answer:
    """What a server answers."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Unsent(Exception):
    """The server has not looked at a request: it can be sent again."""


class Unanswered(Exception):
    """There is no answer: the server may have done what it was asked, or not."""


ExchangeResult = Http2Answer | Unsent | Unanswered


class Http2Server:
    """Where a server is: what a URL says of it. Raises `ValueError` for what is none of HTTPS."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"{url!r} has to be a URL such as https://push.example.com")
        self.host, self.port, self.authority = parts.hostname, parts.port or 443, parts.netloc


class AsTheyAre(Encoder):
    """Writes headers without Huffman's code, which saves a third of their bytes and takes a third of all the time."""

    def encode(self, headers: Any, huffman: bool = False) -> bytes:
        """Return headers as they are sent (RFC 7541, section 5.2)."""
        return super().encode(headers, huffman)


class ShortMemory(H2Connection):
    """Remembers more requests that are over than there are at once, and not 65,536 of them."""

    MAX_CLOSED_STREAMS = 2000


PLAINLY = H2Configuration(
    client_side=True,
    header_encoding="utf-8",
    # They are made here, in small letters and of printable characters.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class Connection:
    """A connection that stays open for the next requests. Raises `OSError` where there is none to have."""

    def __init__(self, address: Http2Server, context: ssl.SSLContext) -> None:
        self.address = address
        plain = socket.create_connection((address.host, address.port), QUIET_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain, server_hostname=address.host)
        if self.sock.selected_alpn_protocol() != "h2":
            self.close()
            raise OSError("it does not speak HTTP/2")
        self.sock.setblocking(False)
        self.poll = select.poll()
        self.h2 = ShortMemory(PLAINLY)
        self.h2.encoder = AsTheyAre()
        self.out, self.come = bytearray(), bytearray()
        self.is_open, self.is_ready, self.is_ending = True, False, False
        self.last_stream: int | None = None
        """The last request that the server looks at, once it has said that it goes."""
        self.reason = "the connection broke"
        self.used_at = self.heard_at = time.monotonic()
        self.pings = 0
        self.h2.initiate_connection()
        # Until it has said how many it takes at once nothing is sent: APNs takes one until it knows us.
        if not self.wait_until(lambda: self.is_ready):
            self.close()
            raise OSError(self.reason)

    def close(self) -> None:
        """End it, without a word more: nothing is under way."""
        self.is_open = False
        self.sock.close()

    def leave(self) -> None:
        """Say goodbye, and end it."""
        if self.is_open:
            with suppress(H2Error, OSError):
                self.h2.close_connection()
                self.sock.send(self.h2.data_to_send())
            self.close()

    @property
    def takes_more(self) -> bool:
        """Whether new requests may be begun."""
        return self.is_open and not self.is_ending

    def is_alive(self) -> bool:
        """Tell whether the other end is there, by asking where it was not heard of for a while."""
        if self.takes_more and time.monotonic() - self.used_at > IDLE_SECONDS:
            before = self.pings
            self.h2.ping(b"are you?")
            self.wait_until(lambda: self.pings > before)
            self.is_ending = self.is_ending or self.pings == before
        return self.takes_more

    def wait_until(self, so: Callable[[], bool]) -> bool:
        """Take what comes until something is so; tell whether it is before the server is quiet for too long."""
        self.heard_at = time.monotonic()
        while not so() and self.is_open and time.monotonic() - self.heard_at < QUIET_SECONDS:
            for event in self.pump(0.5):
                self.notice(event)
        return so()

    def look(self) -> None:
        """Take what has come by itself: that the server goes, or asks whether we are there."""
        for event in self.pump(0.0):
            self.notice(event)

    def notice(self, event: Event) -> None:
        """Note what concerns the connection."""
        if isinstance(event, RemoteSettingsChanged):
            self.is_ready = True
        elif isinstance(event, PingAckReceived):
            self.pings += 1

    def pump(self, seconds: float) -> list[Event]:
        """Send what is to be sent and return what has come, which is waited for so long at most."""
        if not self.is_open:
            return []
        try:
            self.push_out()
            self.poll.register(self.sock, select.POLLIN | (select.POLLOUT if self.out else 0))
            if not self.sock.pending() and not self.poll.poll(seconds * 1000):
                return []
            data = self.pull_in()
            return self.events_of(data)
        except (OSError, H2Error) as error:
            self.reason = f"the connection broke: {type(error).__name__}"
            self.close()
            return []

    def push_out(self) -> None:
        """Send as much as the other end takes now. Raises `OSError`."""
        self.out += self.h2.data_to_send()
        with suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
            while self.out:
                del self.out[: self.sock.send(self.out[:READ_BYTES])]

    def pull_in(self) -> bytes:
        """Return what has come. Raises `OSError` where the other end has closed."""
        try:
            data = self.sock.recv(READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return b""
        if not data:
            raise ConnectionError("closed by the server")
        self.heard_at = time.monotonic()
        return data

    def events_of(self, data: bytes) -> list[Event]:
        """Return what whole frames say. Raises `H2Error`.

        To h2 a connection is over with GOAWAY; but what was asked before is still answered (RFC 9113, section 6.8).
        """
        self.come += data
        passed = bytearray()
        while len(self.come) >= FRAME_HEAD:
            length = FRAME_HEAD + int.from_bytes(self.come[:3], "big")
            # h2 takes frames of 16 KiB, and says so where one is larger, before it is there.
            if len(self.come) < length <= FRAME_HEAD + self.h2.max_inbound_frame_size:
                break
            frame = self.come[:length]
            del self.come[:length]
            if frame[3] == GOAWAY and length >= FRAME_HEAD + 8:
                self.end(bytes(frame[FRAME_HEAD:]))
            else:
                passed += frame
        return self.h2.receive_data(bytes(passed)) if passed else []

    def end(self, content: bytes) -> None:
        """Note that the server takes nothing more, and which request is the last that it has looked at."""
        self.is_ending = True
        last = int.from_bytes(content[:4], "big") & 0x7FFFFFFF
        self.last_stream = last if self.last_stream is None else min(last, self.last_stream)
        self.reason = f"the server has closed the connection: {one_line(content[8:], LONGEST_SAID) or 'GOAWAY'}"
