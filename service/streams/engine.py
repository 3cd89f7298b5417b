"""Engine.IO (its protocol, revision 4): polling and WebSocket under Socket.IO, as `python-engineio` speaks them.

The library keeps what waits to be sent without a bound, and takes what it gets as it comes. So what a client sends is
looked at here before the library sees it, and what it is sent has its turn: a piece is made when the one before was
taken.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from engineio.async_socket import AsyncSocket
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket

from service.core import metrics
from service.core.errors import BadRequest, Overloaded, TooLarge
from service.core.log import log
from service.core.query_string import each_once
from service.streams.cors import CrossOrigin
from service.streams.engine_server import LibraryLog, LibraryServer, tag
from service.streams.exchange import Message, Request, Response, Send
from service.streams.packets import SEPARATOR

PING_EVERY, PONG_WITHIN = 15, 10
"""Seconds between two pings, and for the answer: who is dead is found within 30."""
SWEEP_EVERY = 3.0
"""Seconds between two looks at all sessions."""
CONNECT_WITHIN = 5.0
"""Seconds within which a session has to say whose it is."""
MOST_SENT = 64 * 1024
"""Bytes of what a client sends at once; clients are told, and cut what they send over polling accordingly."""
MOST_PACKETS = 16
"""Packets of one POST."""
FLOOD = 120
"""Packets that a client may send at once; one a second is forgotten. Beyond, it is cut off."""
ENGINE_PACKET = re.compile(r"1|2probe|3|5|4[012].*", re.DOTALL)
"""What a client sends: a close, the two of a change from polling to WebSocket, a pong, a message of Socket.IO."""
SOCKET_REFUSED: Message = {"type": "websocket.close", "code": 1008}


class Flow:
    """How much a client has sent lately."""

    __slots__ = ("level", "moment")

    def __init__(self) -> None:
        self.level, self.moment = 0.0, time.monotonic()

    def add(self) -> float:
        """Count a packet; return how many there were, of which one a second is forgotten."""
        moment = time.monotonic()
        self.level = max(0.0, self.level - (moment - self.moment)) + 1
        self.moment = moment
        return self.level


class EngineSession:
    """One session of Engine.IO: a client, whatever carries its packets.

    `expected` is until when it has to say whose it is, on the monotonic clock; None when it has.
    """

    __slots__ = ("expected", "flow", "is_polled", "sending", "task")

    def __init__(self) -> None:
        self.expected: float | None = time.monotonic() + CONNECT_WITHIN
        self.flow = Flow()
        self.is_polled = False
        self.sending = asyncio.Lock()
        self.task: asyncio.Task[Any] | None = None
        """What answers its WebSocket."""


class Heeding(Protocol):
    """What hears of sessions."""

    async def received(self, id: str, text: str) -> None:
        """Hear of a message."""
        ...

    async def closed(self, id: str) -> None:
        """Hear that a session is over."""
        ...


class Engine:
    """The sessions of this process."""

    def __init__(self, settings: Mapping[str, Any], cross_origin: CrossOrigin, heeding: Heeding) -> None:
        """Take the settings, the origins whose pages may come, and who hears of messages."""
        self.most, self.patience = settings["LIVE_CONNECTIONS"], settings["CLIENT_TIMEOUT"]
        self.cross_origin, self.heeding = cross_origin, heeding
        self.sessions: dict[str, EngineSession] = {}
        self.server = LibraryServer(
            async_mode="asgi",
            ping_interval=PING_EVERY,
            ping_timeout=PONG_WITHIN,
            max_http_buffer_size=MOST_SENT,
            http_compression=False,
            # The headers of every answer are ours; so is the look at the sessions: the library takes one all the time.
            cors_allowed_origins=[],
            monitor_clients=False,
            async_handlers=False,
            logger=LibraryLog(),
        )
        self.server.on("connect", self.opened)
        self.server.on("message", heeding.received)
        self.server.on("disconnect", self.over)

    # --- Sessions ----------------------------------------------------------------------------------------------------

    async def opened(self, id: str, environ: Mapping[str, Any]) -> None:
        """Hear of a new session."""
        session = self.sessions[id] = EngineSession()
        wire: Wire | None = environ["asgi.scope"].get(WIRE)
        if wire is not None:
            wire.id, session.task = id, asyncio.current_task()

    async def over(self, id: str, _reason: str) -> None:
        """Hear that a session is over."""
        if self.sessions.pop(id, None) is not None:
            await self.heeding.closed(id)

    def socket(self, id: str) -> AsyncSocket | None:
        """Return what the library has of a session that is not over."""
        found: AsyncSocket | None = self.server.sockets.get(id)
        return None if found is None or found.closed else found

    def post(self, id: str, text: str) -> None:
        """Let a short message wait to be sent."""
        socket = self.socket(id)
        if socket is not None:
            socket.queue.put_nowait(EnginePacket(MESSAGE, text))

    async def send(self, id: str, piece: bytes) -> None:
        """Let messages wait to be sent, of which each ends with a separator, when what waited before was taken.

        A client that does not take it in time is cut off: nothing is kept for it.
        """
        session, socket = self.sessions.get(id), self.socket(id)
        if session is None or socket is None:
            return
        async with session.sending:
            try:
                async with asyncio.timeout(self.patience):
                    await socket.queue.join()
            except TimeoutError:
                metrics.CUT_OFF.inc()
                await self.cut(id)
                return
            for text in piece.decode().split(SEPARATOR)[:-1]:
                socket.queue.put_nowait(EnginePacket(MESSAGE, text))

    async def end(self, id: str) -> None:
        """End a session; its client hears of it, and comes again if it wants."""
        socket = self.socket(id)
        if socket is not None:
            await socket.close(wait=False)
            socket.queue.put_nowait(None)

    async def cut(self, id: str) -> None:
        """End a session at once: whoever is there does not read, or sends what it may not."""
        session, socket = self.sessions.get(id), self.socket(id)
        if socket is not None:
            await socket.close(wait=False, abort=True)
            socket.queue.put_nowait(None)
        if session is not None and session.task is not None and session.task is not asyncio.current_task():
            session.task.cancel()

    def know(self, id: str) -> None:
        """Hear that a session has said whose it is."""
        if (session := self.sessions.get(id)) is not None:
            session.expected = None

    def expect(self, id: str) -> None:
        """Hear that a session is nobody's any more: it has to say whose it is, or end."""
        if (session := self.sessions.get(id)) is not None:
            session.expected = time.monotonic() + CONNECT_WITHIN

    def sent_lately(self, id: str) -> float:
        """Return how many packets a session has sent lately."""
        session = self.sessions.get(id)
        return 0.0 if session is None else session.flow.level

    async def sweep(self) -> None:
        """End the sessions that do not say whose they are, or do not answer pings; forget those that are over."""
        for id, socket in [*self.server.sockets.items()]:
            session, silent = self.sessions.get(id), socket.last_ping
            if socket.closed or session is None:
                self.server.sockets.pop(id, None)
            elif session.expected is not None and session.expected < time.monotonic():
                await self.end(id)
            elif silent and time.time() - silent > PONG_WITHIN:
                await self.cut(id)

    async def stop(self) -> None:
        """End all sessions."""
        for id in [*self.sessions]:
            await self.cut(id)
        for task in self.server.tasks:
            task.cancel()
        await asyncio.gather(*self.server.tasks, return_exceptions=True)

    def check(self, id: str, text: str) -> bool:
        """Tell whether a session may send a packet now."""
        session = self.sessions.get(id)
        return session is not None and ENGINE_PACKET.fullmatch(text) is not None and session.flow.add() <= FLOOD

    def admit(self) -> None:
        """Raise `Overloaded` where there are as many sessions as there may be."""
        if len(self.sessions) >= self.most:
            raise Overloaded(f"there are {self.most} clients; this one was not begun")

    # --- Polling -----------------------------------------------------------------------------------------------------

    async def poll(self, request: Request) -> Response:
        """Answer what a client of polling asks for: a session, or what waits for it."""
        args = each_once(request.parameters)
        id = args.get("sid")
        if "j" in args or request.method == "HEAD":
            raise BadRequest("polling is a GET, and without JSONP")
        if id is None:
            self.admit()
            tag(request)
            return await self.asked(request, b"")
        session = self.sessions.get(id)
        if session is None:
            raise BadRequest(UNKNOWN_SESSION)
        if session.is_polled:
            await self.end(id)
            raise BadRequest("this session is polled already")
        session.is_polled = True
        try:
            return await self.asked(request, b"")
        finally:
            session.is_polled = False

    async def push(self, request: Request) -> Response:
        """Take what a client of polling sends. Raises `TooLarge`, `BadRequest`."""
        id = each_once(request.parameters).get("sid", "")
        if id not in self.sessions:
            raise BadRequest(UNKNOWN_SESSION)
        body = await self.body(request)
        try:
            texts = body.decode().split(SEPARATOR)
        except UnicodeDecodeError:
            texts = []
        if not 0 < len(texts) <= MOST_PACKETS or not all(self.check(id, text) for text in texts):
            await self.cut(id)
            raise BadRequest("no packets of Engine.IO 4 with Socket.IO 5 in them, or too many")
        return await self.asked(request, body)

    async def body(self, request: Request) -> bytes:
        """Return the body of a request; raises `TooLarge`, `BadRequest` where it takes too long."""
        found = b""
        try:
            async with asyncio.timeout(self.patience):
                async for piece in request.body():
                    found += piece
                    if len(found) > MOST_SENT:
                        raise TooLarge(f"at most {MOST_SENT} bytes at once")
        except TimeoutError:
            raise BadRequest("the body did not come in time") from None
        return found

    async def asked(self, request: Request, body: bytes) -> Response:
        """Return what the library answers a request with a body."""
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            messages.append(message)

        length = (b"content-length", str(len(body)).encode())
        others = [pair for pair in request.scope["headers"] if pair[0] not in NOT_FOR_LIBRARY]
        await self.server.handle_request({**request.scope, "headers": [*others, length]}, receive, send)
        begun, rest = messages
        if begun["status"] != 200:
            raise BadRequest(f"Engine.IO: {rest['body'].decode()}")
        return Response(200, rest["body"], (("Content-Type", "text/plain; charset=UTF-8"),))

    # --- WebSocket ---------------------------------------------------------------------------------------------------

    async def websocket(self, request: Request, send: Send, tell: Callable[[int], None]) -> None:
        """Answer a WebSocket until it is over; call `tell` with the status of the handshake."""
        id = dict(request.parameters).get("sid", "")
        if not self.may_open(request, id):
            await request.receive()
            tell(403)
            await send(SOCKET_REFUSED)
            return
        session = self.sessions.get(id)
        if session is not None:
            session.task = asyncio.current_task()
        tag(request)
        wire = Wire(self, request, send, tell, id)
        try:
            await self.server.handle_request({**request.scope, WIRE: wire}, wire.receive, wire.send)
        except (TimeoutError, OSError, ValueError) as error:
            log.info("websocket_broken", request_id=request.id, reason=type(error).__name__)
        finally:
            await self.left(wire.id)

    def may_open(self, request: Request, id: str) -> bool:
        """Tell whether a WebSocket may be opened, for a session that is there or for a new one."""
        if not self.cross_origin.allows_socket(request):
            return False
        return id in self.sessions if id else len(self.sessions) < self.most

    async def left(self, id: str) -> None:
        """End the session of a WebSocket that is over, unless it never went over to it."""
        socket = self.server.sockets.get(id)
        if socket is not None and socket.upgraded:
            await socket.close(wait=False, abort=True)
            self.server.sockets.pop(id, None)


WIRE = "madang.wire"
"""Where the library's own request has the WebSocket that it is about."""
UNKNOWN_SESSION = "there is no such session; connect again"
NOT_FOR_LIBRARY = (b"content-length", b"transfer-encoding", b"upgrade", b"connection")
"""Headers of a polling request that the library does not see: it has all of the body, and no upgrade happens."""


class Wire:
    """A WebSocket, between the server and the library."""

    def __init__(self, engine: Engine, request: Request, send: Send, tell: Callable[[int], None], id: str) -> None:
        """Take what it is between, what is told of it, and the id of its session; empty where it is yet to begin."""
        self.engine, self.request, self.sent, self.tell = engine, request, send, tell
        self.id = id

    async def receive(self) -> Message:
        """Return the next message; a close, where it is one that no client sends."""
        message = await self.request.receive()
        if message["type"] != "websocket.receive":
            return message
        text = message.get("text")
        if text is None or len(text) > MOST_SENT or not self.engine.check(self.id, text):
            return {"type": "websocket.disconnect", "code": 1008}
        return message

    async def send(self, message: Message) -> None:
        """Send a message. A client that does not take it in time is cut off."""
        if message["type"] == "websocket.accept":
            self.tell(101)
        try:
            async with asyncio.timeout(self.engine.patience):
                await self.sent(message)
        except TimeoutError:
            metrics.CUT_OFF.inc()
            await self.engine.cut(self.id)
            raise
