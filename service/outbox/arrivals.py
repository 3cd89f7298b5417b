"""Arrivals: how a worker hears that something was put into the outbox, without looking again and again.

Of each change stream that is open MongoDB reads every write of all collections, so a worker has one for all that wait.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from service.changes.tail import AWAITED_MS, HistoryLost, Tail
from service.documents import OutboxItem, Right
from service.mongo.raw import Raw


class Arrivals(Protocol):
    """Tells of what arrives in the outbox."""

    def wait(self, seconds: float) -> bool:
        """Wait for so long at most; return whether something may have arrived."""
        ...


class Listening:
    """What has arrived of some kinds since it was asked for last."""

    def __init__(self, is_for: Callable[[str], bool]) -> None:
        self.is_for = is_for
        self.told = threading.Condition()
        self.kinds: set[str | None] = set()

    def tell(self, kind: str | None) -> None:
        """Hear that something of a kind has arrived, or with None that nobody knows what has."""
        if kind is None or self.is_for(kind):
            with self.told:
                self.kinds.add(kind)
                self.told.notify_all()

    def heard(self, seconds: float) -> set[str | None]:
        """Wait for so long at most, and return the kinds of what has arrived; None where nobody knows which."""
        with self.told:
            self.told.wait_for(lambda: self.kinds, seconds)
            found, self.kinds = self.kinds, set()
        return found

    def wait(self, seconds: float) -> bool:
        """Wait for so long at most; return whether something may have arrived."""
        return self.heard(seconds) != set()


class ArrivalStream:
    """Hears of arrivals by MongoDB's change stream, and tells those of this process who wait for them.

    Where the stream was opened anew, all are told that something may have arrived.
    """

    def __init__(self, client: MongoClient[Raw]) -> None:
        """Take a client for change streams."""
        self.client = client
        again = {"operationType": "update", "updateDescription.updatedFields.state": "waiting"}
        collection = OutboxItem._meta["collection"]
        self.stages = [
            {"$match": {"ns.coll": collection, "$or": [{"operationType": "insert"}, again]}},
            {"$project": {"operationType": 1, "clusterTime": 1, "fullDocument.kind": 1}},
        ]
        self.listening: list[Listening] = []
        self.tail: Tail | None = None

    def of_kind(self, kind: str) -> Listening:
        """Return what hears of arrivals of one kind from now on."""
        return self.of_kinds(kind.__eq__)

    def of_kinds(self, is_for: Callable[[str], bool]) -> Listening:
        """Return what hears of arrivals of those kinds that `is_for` is true of, from now on."""
        self.listening.append(Listening(is_for))
        return self.listening[-1]

    def step(self, _right: Right) -> None:
        """Tell of what arrives, or wait a second for it. Raises `PyMongoError`; then call it again."""
        try:
            if self.tail is None:
                self.tail = Tail(self.client, OutboxItem._get_collection().database.name, self.stages)
                self.tell({None})
            events = self.tail.next(AWAITED_MS).events
        except HistoryLost:
            self.close()
        except PyMongoError:
            self.close()
            raise
        else:
            self.tell({event.get("fullDocument", {}).get("kind") for event in events})

    def tell(self, kinds: set[str | None]) -> None:
        """Tell all who wait of some kinds."""
        for kind in kinds:
            for one in self.listening:
                one.tell(kind)

    def close(self) -> None:
        """Leave the stream."""
        if self.tail is not None:
            self.tail.close()
        self.tail = None


class Looks:
    """Looks again and again: with mongomock, which has no change streams, and one process."""

    def wait(self, seconds: float) -> bool:
        """Wait, and have somebody look."""
        time.sleep(seconds)
        return True
