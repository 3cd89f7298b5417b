"""Subscriptions: who listens in this process, found by what each has to hear of.

All of it belongs to the event loop.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from service.changes.compaction import MEMBERSHIP
from service.core import metrics
from service.core.errors import Overloaded, TooManyRequests
from service.policy import member_mark
from service.streams.delivery import Delivery

Heed = tuple[str, str]
"""A mark and a type."""


class Subscription(ABC):
    """What one client waits for: the changes of some types that have one of its marks.

    Those of its own memberships it hears of whatever its types are. `kind` is what is counted for each account, empty
    where it is a part of what is counted; `wants_records` tells whether it needs the records themselves.
    """

    kind = ""
    wants_records = False

    def __init__(self, account: str, session: str, types: Iterable[str]) -> None:
        self.account, self.session, self.types = account, session, tuple(types)
        self.keys: frozenset[Heed] = frozenset({(member_mark(account), MEMBERSHIP)})

    def keys_of(self, marks: Iterable[str]) -> frozenset[Heed]:
        """Return what it is found by, with some marks of its account."""
        own = member_mark(self.account)
        return frozenset({(own, MEMBERSHIP), *((mark, type) for mark in marks if mark != own for type in self.types)})

    def is_doubtful(self, delivery: Delivery) -> bool:
        """Tell whether the rights of the account have to be looked up before it may be told of a change."""
        return False

    @abstractmethod
    def tell(self, delivery: Delivery) -> None:
        """Hear of a change."""

    @abstractmethod
    def turn(self) -> None:
        """Hear that its account has other roles."""

    @abstractmethod
    def miss(self) -> None:
        """Hear that something was missed."""

    @abstractmethod
    def end(self) -> None:
        """Hear that its session has ended."""

    @abstractmethod
    def drain(self) -> None:
        """Hear that the server is about to end."""


class Subscriptions:
    """Those of this process. At most so many in all, and so many of each kind for one account."""

    def __init__(self, most: int, of_account: int) -> None:
        self.most, self.of_account = most, of_account
        self.all: set[Subscription] = set()
        self.by_key: dict[Heed, set[Subscription]] = {}
        self.by_session: dict[str, set[Subscription]] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, one: Subscription) -> None:
        """Let one listen. Raises `Overloaded`, or `TooManyRequests` where the account has as many as it may."""
        if len(self.all) >= self.most:
            raise Overloaded(f"there are {self.most} clients that wait; this one was not begun")
        counted = one.account, one.kind
        if one.kind and self.counts[counted] >= self.of_account:
            raise TooManyRequests(f"this account has {self.of_account} connections that wait; close one")
        self.counts[counted] += 1
        self.all.add(one)
        metrics.WAITING.set(len(self.all))
        index_under(self.by_session, one.session, one)
        for key in one.keys:
            index_under(self.by_key, key, one)

    def remove(self, one: Subscription) -> None:
        """Let one listen no longer."""
        self.all.discard(one)
        metrics.WAITING.set(len(self.all))
        counted = one.account, one.kind
        self.counts[counted] -= 1
        if not self.counts[counted]:
            del self.counts[counted]
        unindex(self.by_session, one.session, one)
        for key in one.keys:
            unindex(self.by_key, key, one)

    def find_by(self, one: Subscription, keys: frozenset[Heed]) -> None:
        """Let one hear of other keys from now on."""
        if one in self.all:
            for key in one.keys - keys:
                unindex(self.by_key, key, one)
            for key in keys - one.keys:
                index_under(self.by_key, key, one)
        one.keys = keys

    def of(self, change: Mapping[str, Any]) -> set[Subscription]:
        """Return those that hear of a change."""
        found: set[Subscription] = set()
        for mark in change["marks"]:
            found |= self.by_key.get((mark, change["type"]), NOBODY)
        return found

    def miss(self) -> None:
        """Tell all that something was missed."""
        for one in [*self.all]:
            one.miss()

    def end(self, session: str) -> None:
        """Tell those of a session that it has ended."""
        for one in [*self.by_session.get(session, NOBODY)]:
            one.end()

    def turn(self, account: str) -> None:
        """Tell those of an account that it has other roles."""
        for one in [*self.by_key.get((member_mark(account), MEMBERSHIP), NOBODY)]:
            one.turn()

    def drain(self) -> None:
        """Tell all that the server is about to end."""
        for one in [*self.all]:
            one.drain()


async def woken_within(woken: asyncio.Event, seconds: float) -> bool:
    """Tell whether an event is set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return False
    return True


NOBODY: frozenset[Subscription] = frozenset()


def index_under(index: dict[Any, set[Subscription]], key: Any, one: Subscription) -> None:
    """Add one to what an index has under a key."""
    index.setdefault(key, set()).add(one)


def unindex(index: dict[Any, set[Subscription]], key: Any, one: Subscription) -> None:
    """Take one out of an index."""
    found = index.get(key)
    if found is not None:
        found.discard(one)
        if not found:
            del index[key]
