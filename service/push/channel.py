"""Channels: many requests at once to one server, over a connection that is kept and made anew."""

import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from service.core.clock import elapsed
from service.outbox.dispatch import CannotSend
from service.push import http2
from service.push.http2 import Connection, ExchangeResult, Http2Answer, Http2Request, Http2Server, Unanswered, Unsent

EXCHANGE_SECONDS = 40.0
"""Most seconds that all answers to some requests may take."""
TRIES = 3
"""Connections on which a request is begun that the server has not looked at."""
MOST_STREAMS = 200
"""Requests at once, where the server allows more."""
MOST_ANSWER = 16 * 1024
"""Most bytes of an answer that are kept; what sends more is cut off."""


@dataclass(slots=True)
class OpenRequest:
    """A request that is under way: which it is, what of its body is to be sent, and its answer as far as it came."""

    index: int
    left: bytes
    reply: Http2Answer | None = None


class Exchange:
    """Some requests, and what comes of each, over one connection."""

    def __init__(self, connection: Connection, requests: Sequence[Http2Request], until: float) -> None:
        """Take a connection, and until when, of `elapsed`, its answers are waited for."""
        self.connection, self.requests, self.until = connection, requests, until
        self.results: list[ExchangeResult | None] = [None] * len(requests)
        self.waiting = deque(range(len(requests)))
        self.under_way: dict[int, OpenRequest] = {}
        self.unfinished: deque[int] = deque()
        """The streams whose body is not sent yet, for the server has no room for it."""

    def run(self) -> list[ExchangeResult]:
        """Return an answer to each request, or why there is none."""
        connection = self.connection
        connection.heard_at = time.monotonic()
        ends_at = min(self.until, elapsed() + EXCHANGE_SECONDS)
        while (self.waiting and connection.takes_more) or (self.under_way and connection.is_open):
            # Before anything is begun: it may be long ago that this process was at work.
            if elapsed() > ends_at or time.monotonic() - connection.heard_at > http2.QUIET_SECONDS:
                connection.reason = "no answer in time"
                connection.close()
                break
            self.begin()
            self.send_bodies()
            for event in connection.pump(0.2):
                self.take(event)
            self.drop_unseen()
        connection.used_at = time.monotonic()
        return list(self.all_results())

    def all_results(self) -> Iterator[ExchangeResult]:
        """Yield what has come of each request; of one that was begun nobody knows it."""
        begun = {stream.index for stream in self.under_way.values()}
        reason = self.connection.reason
        for index, result in enumerate(self.results):
            if result is not None:
                yield result
            elif index in begun:
                yield Unanswered(reason)
            else:
                yield Unsent(reason)

    def begin(self) -> None:
        """Begin as many requests as the server takes at once."""
        h2 = self.connection.h2
        most = min(MOST_STREAMS, h2.remote_settings.max_concurrent_streams)
        with suppress(H2Error):
            while self.waiting and self.connection.takes_more and len(self.under_way) < most:
                stream = h2.get_next_available_stream_id()
                request = self.requests[self.waiting[0]]
                h2.send_headers(stream, self.headers(request))
                self.under_way[stream] = OpenRequest(self.waiting.popleft(), request.body)
                self.unfinished.append(stream)
            return
        # Its numbers are used up: another connection begins at one.
        self.connection.is_ending = True

    def headers(self, request: Http2Request) -> list[HeaderTuple]:
        """Return the headers of a request: what always differs is kept out of the table of those that come again."""
        return [
            HeaderTuple(":method", "POST"),
            HeaderTuple(":scheme", "https"),
            HeaderTuple(":authority", self.connection.address.authority),
            NeverIndexedHeaderTuple(":path", request.path),
            *(HeaderTuple(name, value) for name, value in request.headers.items()),
            *(NeverIndexedHeaderTuple(name, value) for name, value in request.own_headers.items()),
        ]

    def send_bodies(self) -> None:
        """Send of the bodies what the server has room for (RFC 9113, section 5.2)."""
        h2 = self.connection.h2
        for _ in range(len(self.unfinished)):
            number = self.unfinished.popleft()
            stream = self.under_way.get(number)
            if stream is None:
                continue
            with suppress(H2Error):
                room = min(h2.local_flow_control_window(number), h2.max_outbound_frame_size)
                piece, stream.left = stream.left[:room], stream.left[room:]
                if piece or not stream.left:
                    h2.send_data(number, piece, end_stream=not stream.left)
                if stream.left:
                    self.unfinished.append(number)

    def take(self, event: Event) -> None:
        """Note what has come."""
        self.connection.notice(event)
        stream = self.under_way.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, ResponseReceived):
            headers = {str(name): str(value) for name, value in event.headers or ()}
            stream.reply = Http2Answer(int(headers.pop(":status")), headers)
        elif isinstance(event, DataReceived) and stream.reply is not None:
            self.take_data(event, stream, stream.reply)
        elif isinstance(event, StreamEnded):
            self.finish(event.stream_id, stream.reply or Unanswered("an answer without a status"))
        elif isinstance(event, StreamReset):
            refused = event.error_code == ErrorCodes.REFUSED_STREAM
            self.finish(event.stream_id, (Unsent if refused else Unanswered)("the server has reset the request"))

    def take_data(self, event: DataReceived, stream: OpenRequest, reply: Http2Answer) -> None:
        """Keep a piece of an answer, unless it is more than anybody reads."""
        h2, number = self.connection.h2, event.stream_id or 0
        h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
        reply.body += event.data or b""
        if len(reply.body) > MOST_ANSWER:
            with suppress(H2Error):
                h2.reset_stream(number, ErrorCodes.CANCEL)
            self.finish(number, Unanswered("an answer that does not end"))

    def finish(self, number: int | None, result: ExchangeResult) -> None:
        """Keep what came of a request."""
        self.results[self.under_way.pop(number or 0).index] = result

    def drop_unseen(self) -> None:
        """Let go of the requests that a server which goes has not looked at."""
        last = self.connection.last_stream
        if last is not None:
            for number in [number for number in self.under_way if number > last]:
                self.finish(number, Unsent(self.connection.reason))


class Channel:
    """The way to one server: a connection that is kept, and a new one where that is gone."""

    def __init__(self, url: str) -> None:
        """Take the URL of the server. Raises `ValueError`."""
        self.address = Http2Server(url)
        self.context = ssl.create_default_context()
        self.context.set_alpn_protocols(["h2"])
        self.connection: Connection | None = None
        self.connections = 0
        """How many were opened so far."""

    def exchange(self, requests: Sequence[Http2Request], until: float) -> list[Http2Answer | Unanswered]:
        """Return what came of each request until a time; one that the server has not looked at is sent again by itself.

        Raises `CannotSend` where it looks at none: then none was sent.
        """
        results: list[ExchangeResult] = [Unsent("")] * len(requests)
        left = list(range(len(requests)))
        for _ in range(TRIES):
            if not left:
                break
            connection = self.connected(any(not isinstance(result, Unsent) for result in results))
            if connection is None:
                break
            for index, result in zip(left, Exchange(connection, [requests[i] for i in left], until).run(), strict=True):
                results[index] = result
            left = [index for index in left if isinstance(results[index], Unsent)]
        if left and len(left) == len(requests):
            raise CannotSend(str(results[left[0]]))
        return [Unanswered(str(result)) if isinstance(result, Unsent) else result for result in results]

    def connected(self, is_needed: bool) -> Connection | None:
        """Return a connection that takes requests; None where there is none to have, and some were sent already.

        Raises `CannotSend`.
        """
        if self.connection is not None and not self.connection.is_alive():
            self.connection.close()
            self.connection = None
        if self.connection is None:
            try:
                self.connection = Connection(self.address, self.context)
            except OSError as error:
                if is_needed:
                    return None
                raise CannotSend(f"{self.address.host} cannot be reached: {error}") from error
            self.connections += 1
        return self.connection

    def rest(self) -> None:
        """Hear that there is nothing to send: what the server says meanwhile is answered."""
        if self.connection is not None:
            self.connection.look()
            if not self.connection.takes_more:
                self.connection.close()
                self.connection = None

    def leave(self) -> None:
        """End the connection, if there is one."""
        if self.connection is not None:
            self.connection.leave()
            self.connection = None
