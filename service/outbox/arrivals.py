"""Arrivals: how those who send hear that something in the outbox is due.

A worker looks for all its senders with one query, some times a second. For a change stream MongoDB would read every
write of all collections, and each would wake it up.
"""

import threading
from collections.abc import Callable

from service.documents import Right
from service.outbox import items

ARRIVALS_EVERY = 0.2
"""Seconds between two looks: so late an item is begun with at most, where nobody is busy."""


class Listening:
    """What was found to be due of some kinds since it was asked for last."""

    def __init__(self, is_for: Callable[[str], bool]) -> None:
        self.is_for = is_for
        self.told = threading.Condition()
        self.kinds: set[str] = set()

    def tell(self, kind: str) -> None:
        """Hear that something of a kind is due."""
        if self.is_for(kind):
            with self.told:
                self.kinds.add(kind)
                self.told.notify_all()

    def heard(self, seconds: float) -> set[str]:
        """Wait for so long at most, and return the kinds of what is due."""
        with self.told:
            self.told.wait_for(lambda: self.kinds, seconds)
            found, self.kinds = self.kinds, set()
        return found

    def wait(self, seconds: float) -> bool:
        """Wait for so long at most; return whether something is due."""
        return self.heard(seconds) != set()


class Lookout:
    """Looks which kinds of items are due, and tells those of this process who wait for them.

    What is due and taken by nobody is told at each look.
    """

    def __init__(self) -> None:
        self.listening: list[Listening] = []

    def of_kind(self, kind: str) -> Listening:
        """Return what hears of one kind from now on."""
        return self.of_kinds(kind.__eq__)

    def of_kinds(self, is_for: Callable[[str], bool]) -> Listening:
        """Return what hears of those kinds that `is_for` is true of, from now on."""
        self.listening.append(Listening(is_for))
        return self.listening[-1]

    def look(self, _right: Right) -> None:
        """Tell of what is due. Raises `PyMongoError`."""
        for kind in items.due_kinds():
            for one in self.listening:
                one.tell(kind)
