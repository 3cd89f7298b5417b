"""Live events over Socket.IO: whose a connection is, and what it has subscribed to.

What is told is what `/v1/live` tells: each subscription is one `Live`, on the same reader, by the same rights.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from functools import partial
from itertools import count
from typing import Any

from service.changes.cursors import checkpoint_of, seal_of
from service.changes.feed import WITHIN
from service.core.errors import BadParameter, InternalError, NotAuthenticated, NotFound, TooManyRequests
from service.core.headers import request_id
from service.core.log import log
from service.streams.cors import CrossOrigin
from service.streams.delivery import Delivery
from service.streams.engine import Engine
from service.streams.events import wheres_of
from service.streams.exchange import problem_of
from service.streams.following import Following
from service.streams.live import Live
from service.streams.packets import (
    CONNECT,
    DISCONNECT,
    MAIN,
    Emitted,
    MalformedPacket,
    Packet,
    acknowledged,
    connect_answer,
    connect_error,
    document_of,
    read_packet,
)
from service.streams.subscriptions import Subscription

ASKED_MOST = 60
"""Subscriptions that a client may begin and end at once; one a second is forgotten. Beyond, it is told to wait."""
MEMBERS = frozenset({"subscribe", "cursor"})


class Subscribed(Live):
    """One subscription of a connection; it is the connection that is counted."""

    kind = ""


class Caller(Subscription):
    """A connection whose account is known."""

    kind = Live.kind

    def __init__(
        self,
        following: Following,
        claims: dict[str, Any],
        tasks: set[asyncio.Task[None]],
        hang_up: Callable[[bool], None],
    ) -> None:
        """Take whose it is, where its tasks are kept, and what ends it: for good, or so that the client comes again."""
        super().__init__(claims["sub"], claims["sid"], ())
        self.following, self.claims, self.tasks, self.hang_up = following, claims, tasks, hang_up
        self.numbers = count(1)
        self.lives: dict[str, Subscribed] = {}
        self.pumps: dict[str, asyncio.Task[None]] = {}
        self.timer: asyncio.Task[None] | None = None

    def tell(self, delivery: Delivery) -> None:
        """Hear nothing: its subscriptions do."""

    def turn(self) -> None:
        """Hear nothing: its subscriptions do."""

    def miss(self) -> None:
        """Hear nothing: its subscriptions do."""

    def end(self) -> None:
        """Hear that its session has ended: nothing is sent after that."""
        self.stop()
        self.hang_up(True)

    def drain(self) -> None:
        """Hear that the server is about to end."""
        self.stop()
        self.hang_up(False)

    async def begin(self) -> None:
        """Begin to listen. Raises `NotAuthenticated`, and `Overloaded` or `TooManyRequests` where too many do."""
        self.following.subscriptions.add(self)
        try:
            until = await self.life()
        except BaseException:
            self.leave()
            raise
        self.timer = begin(self.tasks, self.watch(until))

    async def life(self) -> float:
        """Return the seconds until its session ends if nobody refreshes it; raises `NotAuthenticated` when it has."""
        _, until = await self.following.threads.do(partial(self.following.look, self.claims))
        return until

    async def watch(self, until: float) -> None:
        """End when the session does, without a word, because nobody refreshed it."""
        while True:
            await asyncio.sleep(until)
            try:
                until = max(1.0, await self.life())
            except NotAuthenticated:
                return self.end()
            except Exception as error:
                log.warning("live_ended", account=self.account, reason=type(error).__name__)
                return self.drain()

    def stop(self) -> None:
        """Send nothing more."""
        for pump in [*self.pumps.values()]:
            if pump is not asyncio.current_task():
                pump.cancel()
        self.lives.clear()

    def leave(self) -> None:
        """Listen no longer."""
        self.stop()
        if self in self.following.subscriptions.all:
            self.following.subscriptions.remove(self)
        if self.timer is not None and self.timer is not asyncio.current_task():
            self.timer.cancel()


def begin(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Return a task that does something for which nobody waits; `tasks` has it until it is done."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


class SocketIo:
    """The connections of this process."""

    def __init__(self, following: Following, cross_origin: CrossOrigin) -> None:
        self.following = following
        self.engine = Engine(following.settings, cross_origin, self)
        self.callers: dict[str, Caller] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def received(self, id: str, text: str) -> None:
        """Hear of a packet."""
        try:
            packet = read_packet(text)
            if packet.kind == CONNECT:
                await self.connect(id, packet)
            elif packet.namespace != MAIN or id not in self.callers:
                raise MalformedPacket
            elif packet.kind == DISCONNECT:
                await self.closed(id)
            else:
                answer = await self.answer(self.callers[id], id, *packet.content)
                if packet.id:
                    self.engine.post(id, acknowledged(packet.id, answer))
        except MalformedPacket:
            await self.engine.cut(id)

    async def closed(self, id: str) -> None:
        """Hear that a session of Engine.IO is over, or that its client has disconnected."""
        caller = self.callers.pop(id, None)
        if caller is not None:
            caller.leave()
        self.engine.expect(id)

    async def connect(self, id: str, packet: Packet) -> None:
        """Let a client connect, or say why it may not. Raises `MalformedPacket` where it is connected already."""
        if packet.namespace != MAIN:
            self.engine.post(id, connect_error(packet.namespace, "Invalid namespace"))
            return
        if id in self.callers:
            raise MalformedPacket
        try:
            caller = await self.caller(id, packet.content)
        except Exception as error:
            problem = self.problem(error)
            self.engine.post(id, connect_error(MAIN, problem["detail"], problem))
            return
        if self.engine.socket(id) is None:
            caller.leave()
            return
        self.callers[id] = caller
        self.engine.know(id)
        self.engine.post(id, connect_answer(id))

    async def caller(self, id: str, auth: Any) -> Caller:
        """Return whose a connection is, by what a client sends with `auth`. Raises `NotAuthenticated` and others."""
        token = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not token:
            raise NotAuthenticated('send the access token as `auth: {"token": …}`')
        claims = self.following.security.tokens.verify(token)
        caller = Caller(self.following, claims, self.tasks, partial(self.hang_up, id))
        await caller.begin()
        return caller

    def hang_up(self, id: str, is_for_good: bool) -> None:
        """End a connection: for good, which a client hears of as `io server disconnect`, or until it comes again."""
        caller = self.callers.pop(id, None)
        if caller is not None:
            caller.leave()
        if is_for_good:
            self.engine.post(id, DISCONNECT)
            self.engine.expect(id)
        else:
            begin(self.tasks, self.engine.end(id))

    async def stop(self) -> None:
        """End all connections."""
        await self.engine.stop()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # --- What a client asks for --------------------------------------------------------------------------------------

    async def answer(self, caller: Caller, id: str, name: str, *given: Any) -> dict[str, Any]:
        """Return what an event is acknowledged with, which may be a problem."""
        try:
            if self.engine.sent_lately(id) > ASKED_MOST:
                raise TooManyRequests("this connection asks too often; wait, and ask for all of it at once")
            if name not in ("subscribe", "unsubscribe"):
                raise NotFound("there are `subscribe` and `unsubscribe`")
            if len(given) != 1 or not isinstance(given[0], dict):
                raise BadParameter(f"`{name}` takes one object")
            return await (self.subscribe if name == "subscribe" else self.unsubscribe)(caller, id, given[0])
        except Exception as error:
            return self.problem(error)

    async def subscribe(self, caller: Caller, id: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Begin a subscription. Raises what `GET /v1/live` does."""
        most = int(self.following.settings["LIVE_SUBSCRIPTIONS"])
        if not asked.keys() <= MEMBERS:
            raise BadParameter(f"`subscribe` takes {' and '.join(f'`{name}`' for name in sorted(MEMBERS))}")
        wheres = wheres_of(self.following.registry, asked.get("subscribe"), most)
        if len(caller.lives) >= most:
            raise TooManyRequests(f"a connection has {most} subscriptions at most; end one")
        cursor = asked.get("cursor")
        if not isinstance(cursor, str | None):
            raise BadParameter("`cursor` is a string")
        seal = seal_of(self.following.security.cursor_key, caller.account, wheres, WITHIN)
        place = None if cursor is None else checkpoint_of(cursor, seal)
        own = str(next(caller.numbers))
        live = Subscribed(self.following, caller.claims, wheres, Emitted(own), place)
        await live.begin()
        if self.callers.get(id) is not caller:
            live.leave()
            raise NotAuthenticated("the connection has ended")
        caller.lives[own] = live
        caller.pumps[own] = begin(self.tasks, self.pump(caller, id, own, live))
        return {"id": own}

    async def unsubscribe(self, caller: Caller, _id: str, asked: dict[str, Any]) -> dict[str, Any]:
        """End a subscription; nothing of it is sent after the answer. Raises `NotFound`."""
        own = asked.get("id")
        live = caller.lives.pop(own, None) if isinstance(own, str) else None
        if live is None:
            raise NotFound("this connection has no such subscription")
        live.end()
        return {}

    async def pump(self, caller: Caller, id: str, own: str, live: Subscribed) -> None:
        """Send what a subscription tells, each piece when the one before was taken."""
        try:
            async with aclosing(live.stream()) as pieces:
                async for piece in pieces:
                    if caller.lives.get(own) is not live:
                        return
                    if piece:
                        await self.engine.send(id, piece)
        finally:
            live.leave()
            caller.pumps.pop(own, None)
        # It could not go on: the client comes again, with its cursor.
        if caller.lives.get(own) is live:
            caller.drain()

    def problem(self, error: Exception) -> dict[str, Any]:
        """Return the problem document that an exception means, and log a bug."""
        problem, id = problem_of(error), request_id("")
        if problem.status == InternalError.status:
            log.error("internal_error", request_id=id, exc_info=error)
        return document_of(problem, id)
