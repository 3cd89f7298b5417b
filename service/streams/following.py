"""What the streams keep to follow the order of changes: its reader, who listens, and what pulls go by."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from service.changes.barrier import Barrier
from service.changes.feed import settled_identity
from service.changes.reader import Heard, OrderReader
from service.core.clock import now
from service.core.log import log
from service.identity.security import Security
from service.identity.usage import usage_by
from service.model.registry import Registry
from service.mongo import connection
from service.mongo.raw import Raw
from service.policy import Identity
from service.push.waking import note_live
from service.streams.delivery import Delivery, entries_now, look_up
from service.streams.subscriptions import Subscription, Subscriptions
from service.streams.threads import Threads

PRESENCE_TOLD_EVERY = 20.0
"""Seconds after which it is told which sessions have a live connection: three times in the time that they count so."""


class Following:
    """Of one process. The reader hears, on its thread; the event loop tells those that listen.

    `reached` is the last number of which all that listen have been told.
    """

    def __init__(self, settings: Mapping[str, Any], registry: Registry) -> None:
        self.settings, self.registry = settings, registry
        self.security = Security(settings)
        self.usage = usage_by(settings)
        self.threads = Threads(settings["STREAMS_THREADS"], settings["MONGODB_TIMEOUT"])
        # Of its own: what is delivered does not have its turn behind a crowd that pulls.
        self.delivering = Threads(1, settings["MONGODB_TIMEOUT"])
        self.subscriptions = Subscriptions(settings["LIVE_CONNECTIONS"], settings["LIVE_CONNECTIONS_ACCOUNT"])
        self.client = connection.stream_client(settings)
        self.barrier = Barrier(registry, self.client, settings["MONGODB_CONNECT_TIMEOUT"])
        self.reader: OrderReader | None = None
        self.presence: asyncio.Task[None] | None = None
        self.reached = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read, and tell those that listen in an event loop."""
        self.reader = OrderReader(self.client, partial(self.hand_over, loop))
        self.reader.start()
        self.presence = loop.create_task(self.tell_who_is_live())

    async def tell_who_is_live(self) -> None:
        """Note again and again, for all processes, which sessions have a connection here: in few writes."""
        while True:
            await asyncio.sleep(PRESENCE_TOLD_EVERY)
            try:
                await self.threads.do(partial(note_live, [*self.subscriptions.by_session]))
            except Exception as error:
                # MongoDB did not answer, or it is a bug: the next time is not to suffer from it.
                log.error("presence_untold", exc_info=error)

    def hand_over(self, loop: asyncio.AbstractEventLoop, heard: Heard) -> None:
        """Tell, from the reader's thread; return when all that listen have been told."""
        asyncio.run_coroutine_threadsafe(self.hear(heard), loop).result()

    async def hear(self, heard: Heard) -> None:
        """Tell all that listen of what has happened."""
        if heard.missed:
            self.subscriptions.miss()
        for session in heard.sessions:
            self.subscriptions.end(session)
        for account in heard.accounts:
            self.subscriptions.turn(account)
        if heard.changes:
            await self.deliver(heard.changes)
            self.reached = heard.changes[-1]["seq"]

    async def deliver(self, changes: Sequence[Raw]) -> None:
        """Tell those that listen of changes, with the records as they are now.

        Who begins to listen meanwhile need not be told: they pull after that, and the changes are there already.
        """
        newest = {change["_id"]: Delivery(change) for change in changes}
        heard = [(delivery, found) for delivery in newest.values() if (found := self.subscriptions.of(delivery.change))]
        wanted = [delivery for delivery, found in heard if not delivery.is_membership and wants_record(found)]
        if wanted:
            await self.delivering.do(partial(look_up, self.registry, wanted))
        if doubtful := {one.account for delivery, found in heard for one in found if one.is_doubtful(delivery)}:
            readers = await self.delivering.do(partial(entries_now, doubtful))
            for delivery in wanted:
                delivery.readers = readers
        for delivery, found in sorted(heard, key=lambda pair: pair[0].seq):
            for one in found:
                one.tell(delivery)

    def look(self, claims: Mapping[str, Any]) -> tuple[Identity, float]:
        """Return whose claims these are, and the seconds until their session ends if nobody refreshes it.

        By the memberships that the order has: see `settled_identity`. Raises `NotAuthenticated` where the session has
        ended, and `FeedUnavailable`.
        """
        identity = settled_identity(claims["sub"], partial(self.security.current_identity, claims))
        until = self.security.sessions.expiry(identity.session)
        return identity, (until - now()).total_seconds() if until is not None else 0.0

    async def stop(self) -> None:
        """End, when what was begun is done."""
        if self.presence is not None:
            self.presence.cancel()
        if self.reader is not None:
            # In a thread: its last words are told in this event loop.
            await asyncio.get_running_loop().run_in_executor(None, self.reader.stop)
        self.barrier.leave()
        self.threads.close()
        self.delivering.close()
        self.client.close()


def wants_record(found: set[Subscription]) -> bool:
    """Tell whether one of those that hear of a change needs the record."""
    return any(one.wants_records for one in found)
