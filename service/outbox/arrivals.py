"""Arrivals: how a worker hears that something was put into the outbox, without looking again and again."""

import re
import time
from typing import Protocol

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from service.changes.tail import HistoryLost, Tail
from service.core.log import log
from service.documents import OutboxItem
from service.mongo.raw import Raw

RETRY = 5.0
"""Seconds until a change stream that failed is opened again; each is a look for what is due."""


class Arrivals(Protocol):
    """Tells of what arrives in the outbox."""

    def listen(self) -> None:
        """Begin, if it has not: what arrives from now on is told."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for so long at most; return whether something may have arrived."""
        ...


class StreamedArrivals:
    """Hears of arrivals by MongoDB's change stream, and looks now and then while there is none."""

    def __init__(self, client: MongoClient[Raw], kind: str | re.Pattern[str]) -> None:
        """Take a client for change streams, and the kind of items, or how the kinds are called."""
        self.client = client
        inserted = {"operationType": "insert", "fullDocument.kind": kind}
        repeated = {"operationType": "update", "updateDescription.updatedFields.state": "waiting"}
        collection = OutboxItem._meta["collection"]
        self.stages = [
            {"$match": {"ns.coll": collection, "$or": [inserted, repeated]}},
            {"$project": {"operationType": 1, "clusterTime": 1, "fullDocument.kind": 1}},
        ]
        self.tail: Tail | None = None
        self.open_at = 0.0

    def listen(self) -> None:
        """Open the stream; where that fails, try again later."""
        if self.tail is not None or time.monotonic() < self.open_at:
            return
        try:
            self.tail = Tail(self.client, OutboxItem._get_collection().database.name, self.stages)
        except (PyMongoError, HistoryLost) as error:
            self.failed(error)

    def wait(self, seconds: float) -> bool:
        """Wait for an event; without a stream tell now and then that somebody should look."""
        return self.heard(seconds) != set()

    def heard(self, seconds: float) -> set[str | None]:
        """Wait for so long at most, and return the kinds of what has arrived; None where nobody knows which."""
        if self.tail is None:
            time.sleep(seconds)
            return {None} if time.monotonic() >= self.open_at else set()
        try:
            events = self.tail.next(int(seconds * 1000)).events
        except (PyMongoError, HistoryLost) as error:
            self.tail.close()
            self.tail = None
            self.failed(error)
            return {None}
        return {event.get("fullDocument", {}).get("kind") for event in events}

    def failed(self, error: Exception) -> None:
        """Say so, and wait for the next time."""
        log.warning("arrivals_unheard", reason=type(error).__name__)
        self.open_at = time.monotonic() + RETRY


class Looks:
    """Looks again and again: with mongomock, which has no change streams, and one process."""

    def listen(self) -> None:
        """Do nothing."""

    def wait(self, seconds: float) -> bool:
        """Wait, and have somebody look."""
        time.sleep(seconds)
        return True
