"""The stream of a replication of RxDB: `GET /v1/sync/rxdb/<type>/<version>/pullStream`.

Each message is the answer to a pull, made when there is something new: so what a device may have missed while it pushed
is told again here too, and a checkpoint never goes past it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any

import orjson
from pymongo.errors import PyMongoError

from service.changes.feed import WITHIN, Checkpoint
from service.changes.order import Order
from service.changes.rxdb_pull import (
    RxdbCheckpoint,
    RxdbPull,
    check_version,
    parse_rxdb_checkpoint,
    rxdb_seal,
)
from service.core import metrics
from service.core.errors import NotAuthenticated, NotFound, Problem
from service.core.log import log
from service.model.record_type import RecordType
from service.policy import Identity, marks
from service.streams.events import EVENT_STREAM
from service.streams.exchange import Request, Response
from service.streams.following import Following
from service.streams.live import ALIVE_EVERY, order_now
from service.streams.pulls import Waiting
from service.streams.subscriptions import woken_within

PULL_STREAM = "/v1/sync/rxdb/<type>/<version>/pullStream"
MOST_OF_MESSAGE = 50
"""Most documents of a message."""


class RxdbWaiting(Waiting):
    """A replication that waits for news. An app has one for each collection."""

    def __init__(self, account: str, session: str, types: list[str]) -> None:
        super().__init__(account, session, types)
        self.kind = f"rxdb {types[0]}"

    @property
    def is_over(self) -> bool:
        """Whether there is nobody to tell any more."""
        return self.is_gone or self.has_ended or self.is_draining


class RxdbStreams:
    """Answers with the documents of a type as they change."""

    def __init__(self, following: Following) -> None:
        self.following = following

    async def answer(self, request: Request) -> Response:
        """Answer with a message for all that is new from now on; what was before, the client pulls.

        Raises `NotFound`, `UpgradeRequired`, `NotAuthenticated`, `FeedUnavailable`, `TooManyRequests`, `Overloaded`.
        """
        claims = self.following.security.claims(request.headers.get("authorization"))
        request.account = claims["sub"]
        type = self.following.registry.get(request.arguments["type"])
        if type is None:
            raise NotFound("there is nothing at this path")
        check_version(type, request.arguments["version"])
        if request.method == "HEAD":
            return Response(200, headers=EVENT_STREAM)
        self.following.usage.check(claims["sub"])
        waiting = RxdbWaiting(claims["sub"], claims["sid"], [type.name])
        self.following.subscriptions.add(waiting)
        try:
            place = Checkpoint((await self.following.threads.do(order_now)).seq)
            identity = await self.listen(claims, waiting)
        except BaseException:
            self.following.subscriptions.remove(waiting)
            raise
        gone = asyncio.create_task(request.gone())
        gone.add_done_callback(lambda _: waiting.leave())

        def end() -> None:
            gone.cancel()
            self.following.subscriptions.remove(waiting)

        stream = RxdbStream(self, claims, waiting, type, self.pull(identity, type, place))
        return Response(200, stream.pieces(), EVENT_STREAM, end)

    async def listen(self, claims: Mapping[str, Any], waiting: Waiting) -> Identity:
        """Hear of changes from now on, and return whose they are. Raises `NotAuthenticated`."""
        identity = await self.following.threads.do(partial(self.following.security.current_identity, claims))
        heard = waiting.keys_of(marks(identity, WITHIN))
        self.following.subscriptions.find_by(waiting, heard)
        return identity

    def pull(self, identity: Identity, type: RecordType, place: Checkpoint) -> RxdbPull:
        """Return the pull of what comes after a place."""
        seal = rxdb_seal(self.following.security.cursor_key, identity.account, type)
        checkpoint = RxdbCheckpoint(place, int(time.time()))
        return RxdbPull(identity, type, checkpoint, checkpoint.as_dict(seal), MOST_OF_MESSAGE, seal)


class RxdbStream:
    """One stream, and how far its client has come.

    It is held back while the client may have missed something: then it is told again, now and then.
    """

    def __init__(
        self, of: RxdbStreams, claims: Mapping[str, Any], waiting: RxdbWaiting, type: RecordType, pull: RxdbPull
    ) -> None:
        self.of, self.claims, self.waiting, self.type, self.pull = of, claims, waiting, type, pull
        self.is_held_back = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield messages until it is over; where one cannot be made the client comes again, and pulls."""
        try:
            yield b": open\n\n"
            while not self.waiting.is_over:
                self.waiting.woken.clear()
                identity = await self.of.listen(self.claims, self.waiting)
                async for message in self.messages(identity):
                    yield message
                while not await woken_within(self.waiting.woken, ALIVE_EVERY):
                    yield b": alive\n\n"
                    if self.is_held_back:
                        break
        except (Problem, PyMongoError) as error:
            if not isinstance(error, NotAuthenticated):
                log.warning("live_ended", account=self.waiting.account, reason=type(error).__name__)

    async def messages(self, identity: Identity) -> AsyncGenerator[bytes, None]:
        """Yield all that is new."""
        while not self.waiting.is_over:
            order = await self.of.following.threads.do(order_now)
            answer = await self.of.following.threads.do(partial(self.made, order))
            found = orjson.loads(answer)
            if not found["documents"]:
                return
            at = found["checkpoint"]
            place = parse_rxdb_checkpoint(at["id"], at["lwt"], self.pull.seal).place
            self.pull = self.of.pull(identity, self.type, place)
            is_full = len(found["documents"]) >= MOST_OF_MESSAGE
            self.is_held_back = not is_full and place.seq < order.seq
            metrics.EVENTS.inc(len(found["documents"]))
            yield b"data: %b\n\n" % answer
            if not is_full:
                return

    def made(self, order: Order) -> bytes:
        """Return the answer of a pull up to an order; its making is counted. Raises `TooManyRequests`."""
        with self.of.following.usage.using(self.waiting.account):
            return b"".join(self.pull.pieces(order))
