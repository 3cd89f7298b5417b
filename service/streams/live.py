"""Live: the changes of an account as they come, over a connection that stays open.

A client is in one of two states. It listens: what comes stands in a short queue, and is sent. Or it is behind: it has
just come, its roles have changed, it reads too slowly, or something was missed; then it catches up by the pages of
a pull, as fast as it reads, and nothing is kept for it but its place. It begins to listen before it looks for the last
time, so nothing falls between the two.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from pymongo.errors import PyMongoError

from service.changes import order
from service.changes.cursors import seal_of, sealed_cursor
from service.changes.feed import WITHIN, Checkpoint, Feed, FeedPage, Item, fitting
from service.core import metrics
from service.core.errors import CursorExpired, NotAuthenticated, Problem
from service.core.log import log
from service.model.record_type import RecordType
from service.mongo.raw import Raw
from service.policy import entries, given_to, marks, owned_by
from service.query.matching import Verdict
from service.streams.delivery import Delivery
from service.streams.following import Following
from service.streams.subscriptions import Subscription, woken_within

ALIVE_EVERY = 15.0
"""Seconds of silence after which something is sent, so that both ends notice a connection that has died."""
MOST_QUEUED = 256 * 1024
"""Bytes that may wait to be sent to one client; beyond, it is behind."""
FIRST_ITEMS = 10
"""Items of the first page by which a client catches up; then as many as make a piece: each waits until it is read."""
MOST_UNMATCHED = 1000
"""Records of which a connection remembers that it has told that they no longer fit."""

MATCHING_COUNTED = 0.02
"""Seconds of conditions that are counted at once."""

Wheres = Mapping[str, Verdict]
"""By type, what tells whether a record fits."""


class EventForm(Protocol):
    """How events are written for one kind of client."""

    name: str

    def body(self, type: RecordType, id: str, row: Raw | None, gone: str) -> bytes:
        """Return what is sent of a record, as it is stored, or why it is `gone`: the same for all clients."""
        ...

    def change(self, body: bytes, cursor: str) -> bytes:
        """Return the event of a change; `cursor` is the place behind it."""
        ...

    def caught_up(self, cursor: str) -> bytes:
        """Return the event that says that what was missed has been sent."""
        ...

    def resync(self, cursor: str) -> bytes:
        """Return the event that says that the client has to begin anew."""
        ...

    def alive(self, cursor: str) -> bytes:
        """Return what says that there is nothing to say."""
        ...


class Queued(NamedTuple):
    """What waits to be sent: its number, and its body."""

    seq: int
    body: bytes


class Live(Subscription):
    """One client that hears of changes as they come."""

    kind = "live"
    wants_records = True

    def __init__(
        self, following: Following, claims: Mapping[str, Any], wheres: Wheres, form: EventForm, place: Checkpoint | None
    ) -> None:
        """Take whose it is, what it follows, how that is written, and the place from which on; None is now."""
        super().__init__(claims["sub"], claims["sid"], wheres)
        self.following, self.claims, self.wheres, self.form = following, claims, wheres, form
        self.seal = seal_of(following.security.cursor_key, self.account, self.types, WITHIN)
        self.place = place or Checkpoint()
        self.is_new = place is None
        self.own = frozenset({owned_by(self.account), given_to(self.account)})
        self.entries = self.own
        self.queue: deque[Queued] = deque()
        self.queued = 0
        self.unmatched: set[tuple[str, str]] = set()
        self.woken = asyncio.Event()
        self.matching = 0.0
        """Seconds that its conditions have taken, as far as they are not counted yet."""
        self.is_behind, self.is_over, self.has_other_roles = True, False, False
        self.timer: asyncio.TimerHandle | None = None

    # --- What it hears -----------------------------------------------------------------------------------------------

    def is_doubtful(self, delivery: Delivery) -> bool:
        """Tell whether it may read a record by a role alone that it may have lost before the record was written."""
        return delivery.is_overtaken and self.own.isdisjoint(delivery.now["access"])  # type: ignore[index]

    def tell(self, delivery: Delivery) -> None:
        """Hear of a change."""
        if delivery.is_membership:
            self.turn()
        elif self.is_behind or delivery.seq <= self.place.seq:
            # It comes, or has come, by a page.
            return
        elif (gone := self.fate(delivery)) is not None:
            type = self.following.registry[delivery.type]
            row = None if gone else delivery.now
            made = partial(self.form.body, type, delivery.id, row, gone)
            self.put(delivery.seq, delivery.body((self.form.name, gone), made))

    def fate(self, delivery: Delivery) -> str | None:
        """Return why a record is gone for this client, nothing where it is not; None where there is nothing to say."""
        row = delivery.now
        if row is not None and not delivery.readers.get(self.account, self.entries).isdisjoint(row["access"]):
            return self.fit(delivery.type, delivery.id, row)
        # Where it was overtaken, the change that comes tells what has become of it.
        return delivery.gone if delivery.is_end else None

    def fit(self, type: str, id: str, row: Raw) -> str | None:
        """Return nothing for a record that fits, `unmatched` for one that no longer does, None if it never did."""
        key = type, id
        if self.fulfils(type, row):
            self.unmatched.discard(key)
            return ""
        # At its first revision it fits no less than it ever did.
        if row["revision"] == 1 or key in self.unmatched:
            return None
        if len(self.unmatched) >= MOST_UNMATCHED:
            self.unmatched.clear()
        self.unmatched.add(key)
        return "unmatched"

    def fulfils(self, type: str, row: Raw) -> bool:
        """Tell whether a record fulfils the conditions. What that takes is counted: all clients wait for it."""
        began = time.monotonic()
        found = self.wheres[type](row)
        self.matching += time.monotonic() - began
        if self.matching > MATCHING_COUNTED:
            self.following.usage.add(self.account, self.matching)
            self.matching = 0.0
            if self.following.usage.is_over(self.account):
                self.fall_behind()
        return found

    def put(self, seq: int, body: bytes) -> None:
        """Let something wait to be sent."""
        if self.queued > MOST_QUEUED:
            self.fall_behind()
            return
        self.queue.append(Queued(seq, body))
        self.queued += len(body)
        self.woken.set()

    def fall_behind(self) -> None:
        """Catch up from here on, when what waits has been sent."""
        self.is_behind = True
        self.woken.set()

    def turn(self) -> None:
        """Hear that its account has other roles: it listens again when it knows them."""
        self.has_other_roles = True
        self.fall_behind()

    def miss(self) -> None:
        """Hear that something was missed."""
        self.fall_behind()

    def end(self) -> None:
        """Hear that there is nobody to tell any more, or nothing."""
        self.is_over = True
        self.woken.set()

    def drain(self) -> None:
        """Hear that the server is about to end."""
        self.end()

    # --- What it sends -----------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Begin to listen. Raises `NotAuthenticated` where the session has ended, `FeedUnavailable`.

        Raises `Overloaded` or `TooManyRequests` where as many listen as may, or the account has used its time.
        """
        self.following.subscriptions.add(self)
        try:
            if self.is_new:
                self.place = Checkpoint((await self.following.threads.do(order_now)).seq)
            await self.listen()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Listen no longer."""
        self.end()
        self.following.subscriptions.remove(self)
        if self.timer is not None:
            self.timer.cancel()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield what is sent, until it is over; a client whose session lives comes again with its last cursor."""
        try:
            async for piece in self.events():
                yield piece
        except (Problem, PyMongoError) as error:
            if not isinstance(error, NotAuthenticated):
                log.warning("live_ended", account=self.account, reason=type(error).__name__)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield what is sent, until it is over or cannot go on."""
        async for piece in self.catch_up():
            yield piece
        yield self.form.caught_up(self.cursor(self.place))
        while not self.is_over:
            self.woken.clear()
            if self.queue:
                yield self.waiting()
            elif self.is_behind:
                await self.listen()
                async for piece in self.catch_up():
                    yield piece
            elif not await woken_within(self.woken, ALIVE_EVERY):
                self.place = Checkpoint(max(self.place.seq, self.following.reached))
                yield self.form.alive(self.cursor(self.place))

    def waiting(self) -> bytes:
        """Return all that waits to be sent."""
        pieces = [self.form.change(body, self.cursor(Checkpoint(seq))) for seq, body in self.queue]
        self.place = Checkpoint(self.queue[-1].seq)
        self.queue.clear()
        self.queued = 0
        metrics.EVENTS.inc(len(pieces))
        return b"".join(pieces)

    def cursor(self, place: Checkpoint) -> str:
        """Return the cursor of a place."""
        return sealed_cursor(place, self.seal)

    async def listen(self) -> None:
        """Hear of changes from now on, by the rights of now. Raises `NotAuthenticated` where the session has ended.

        Raises `FeedUnavailable`, and `TooManyRequests` where the account has used its time. When the session may have
        ended without a word, because nobody refreshed it, the client falls behind, and has to come by here again.
        """
        self.following.usage.check(self.account)
        while True:
            self.has_other_roles = False
            identity, until = await self.following.threads.do(partial(self.following.look, self.claims))
            heard = self.keys_of(marks(identity, WITHIN))
            self.following.subscriptions.find_by(self, heard)
            self.entries = frozenset(entries(identity, WITHIN))
            if not self.has_other_roles:
                break
        self.is_behind = False
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(until, self.fall_behind)

    async def catch_up(self) -> AsyncGenerator[bytes, None]:
        """Yield what is between its place and what it hears of."""
        items = FIRST_ITEMS
        while not self.is_over:
            try:
                page = await self.following.threads.do(partial(self.page, items))
            except CursorExpired:
                self.place = Checkpoint((await self.following.threads.do(order_now)).seq)
                yield self.form.resync(self.cursor(self.place))
                continue
            pieces = [*self.written(page)]
            self.place, items = page.checkpoint, fitting(page.items)
            if pieces:
                yield b"".join(pieces)
            if not page.more:
                break
        # Of these it has heard by the pages.
        while self.queue and self.queue[0].seq <= self.place.seq:
            self.queued -= len(self.queue.popleft().body)

    def page(self, items: int) -> FeedPage:
        """Return what follows its place, at most so many items; its making is counted. Raises `CursorExpired`."""
        began, found = time.monotonic(), order_now()
        found.check(self.place.oldest)
        types = [self.following.registry[name] for name in self.types]
        page = Feed(self.account, types, WITHIN).page(self.place, found.seq, items)
        self.following.usage.add(self.account, time.monotonic() - began)
        return page

    def written(self, page: FeedPage) -> Iterator[bytes]:
        """Yield the events of a page."""
        for item in page.items:
            gone = item.gone if item.row is None else self.fit_of(item)
            if gone is not None:
                body = self.form.body(item.type, item.id, None if gone else item.row, gone)
                metrics.EVENTS.inc()
                yield self.form.change(body, self.cursor(item.checkpoint))

    def fit_of(self, item: Item) -> str | None:
        """Return what `fit` does of an item; of what a role brings, nobody has had what does not fit."""
        assert item.row is not None  # noqa: S101  it was asked
        found = self.fit(item.type.name, item.id, item.row)
        return None if found and item.checkpoint.backfill is not None else found


def order_now() -> order.Order:
    """Return how far the order has come; raises `FeedUnavailable` where there is none yet."""
    return order.order_in(order.lease_document())
