"""Usage: how long the lists, exports and pulls of each account have taken lately, and who is refused for it."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any, NamedTuple, TypeVar

from pymongo.errors import PyMongoError

from service.core.errors import TooManyRequests
from service.identity.tokens import Recent
from service.mongo import deadline

MOST_ACCOUNTS = 10_000
MINUTE = 60.0
COUNTED_AT_ONCE = 0.1
"""Seconds of an export that are counted at once."""

Piece = TypeVar("Piece")


class Level(NamedTuple):
    """What an account had used at a `moment` of the monotonic clock; it goes down evenly since."""

    seconds: float
    moment: float


class AccountUsage:
    """How long the lists, exports and pulls of accounts have taken, in this process: so many `seconds` a minute.

    What an account has used goes down evenly, a minute's worth in a minute. 0 seconds are no limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.levels: Recent[Level] = Recent(MOST_ACCOUNTS, lambda level: self.now(level) <= 0)
        self.lock = threading.Lock()

    def now(self, level: Level | None) -> float:
        """Return what is left of a level."""
        return 0.0 if level is None else level.seconds - (time.monotonic() - level.moment) * self.seconds / MINUTE

    def add(self, account: str, seconds: float) -> None:
        """Count what an account has used."""
        if not self.seconds:
            return
        with self.lock:
            before = max(0.0, self.now(self.levels.get(account)))
            self.levels.put(account, Level(before + seconds, time.monotonic()))

    def check(self, account: str) -> None:
        """Raise `TooManyRequests` where an account has used all that it has."""
        if (over := self.over(account)) > 0:
            raise TooManyRequests(
                "the lists, exports and pulls of this account have taken too long; wait, and ask for less at once",
                ceil(over * MINUTE / self.seconds),
            )

    def is_over(self, account: str) -> bool:
        """Tell whether an account has used all that it has."""
        return self.over(account) > 0

    def over(self, account: str) -> float:
        """Return how many seconds an account has used beyond what it has; below 0 while some are left."""
        return self.now(self.levels.get(account)) - self.seconds

    @contextmanager
    def using(self, account: str) -> Iterator[None]:
        """Count what is done within for an account, unless MongoDB was away. Raises `TooManyRequests`.

        What was broken off because it took too long counts as well.
        """
        self.check(account)
        began, counts = time.monotonic(), True
        try:
            yield
        except PyMongoError as error:
            counts = deadline.was_too_short(error)
            raise
        finally:
            if counts:
                self.add(account, time.monotonic() - began)

    def each(self, account: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Yield what is made piece by piece for an account, and count the making, not how long they are taken."""
        used, began = 0.0, time.monotonic()
        try:
            for piece in pieces:
                used += time.monotonic() - began
                if used > COUNTED_AT_ONCE:
                    self.add(account, used)
                    used = 0.0
                yield piece
                began = time.monotonic()
        finally:
            self.add(account, used)


def usage_by(settings: Mapping[str, Any]) -> AccountUsage:
    """Return what counts as `settings` say; where they limit nothing, without a limit."""
    return AccountUsage(settings["RATELIMIT_LIST_SECONDS"] if settings["RATELIMIT_ENABLED"] else 0)
