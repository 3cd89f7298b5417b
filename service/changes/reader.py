"""The reader: what comes into the order, read once for all that wait for it in this process.

It follows MongoDB's change stream of the changes themselves, on a thread of its own. What it hears of is complete: of
the changes of one transaction none comes alone, and none comes before one with a lower number.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from service.changes.tail import Events, HistoryLost, Tail, Token
from service.core.log import log
from service.documents import Change, Session
from service.mongo.raw import Raw

HEARD_WITHIN_MS = 1000
"""Milliseconds that one look at the stream waits for an event."""
TRIED_AGAIN_AFTER = 0.2
"""Seconds before another try, where MongoDB does not answer."""

CHANGES, SESSIONS = Change._get_collection_name(), Session._get_collection_name()
HEARD: list[Raw] = [
    {
        "$match": {
            "$or": [
                {"ns.coll": CHANGES, "operationType": {"$in": ["insert", "replace"]}},
                {"ns.coll": SESSIONS, "operationType": "delete"},
            ]
        }
    },
    {"$project": {"ns.coll": 1, "fullDocument": 1, "documentKey": 1, "clusterTime": 1}},
]
"""What the recorder writes, whole, for it replaces what it wrote before; and which sessions have ended."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What has happened since the last time: changes in their order, and the ids of sessions that have ended.

    Where something was `missed`, nobody knows what happened before.
    """

    changes: Sequence[Raw] = ()
    sessions: Sequence[str] = ()
    missed: bool = False


class OrderReader:
    """Reads the order as it grows, and tells `hear` of it, from its own thread: the next comes when that is done."""

    def __init__(self, client: MongoClient[Raw], hear: Callable[[Heard], None]) -> None:
        self.client, self.hear = client, hear
        self.tail: Tail | None = None
        self.token: Token | None = None
        self.held: list[Raw] = []
        """Events of a time of which more may come."""
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin; what is missed until the stream is open is told."""
        self.thread.start()

    def stop(self) -> None:
        """End, within the time of one look."""
        self.ending.set()
        self.thread.join()
        self.close()

    def run(self) -> None:
        """Read on until the end, whatever becomes of MongoDB meanwhile."""
        while not self.ending.is_set():
            try:
                self.step()
            except HistoryLost:
                self.token = None
                self.close()
            except PyMongoError as error:
                log.warning("reader_interrupted", reason=type(error).__name__)
                self.close()
                self.ending.wait(TRIED_AGAIN_AFTER)
            except Exception as error:
                # A bug; what waits is not to wait for ever.
                log.error("reader_failed", exc_info=error)
                self.token = None
                self.close()
                self.ending.wait(TRIED_AGAIN_AFTER)

    def step(self) -> None:
        """Tell of what has happened, or wait for it."""
        if self.tail is None:
            self.open()
        assert self.tail is not None  # noqa: S101  it was just opened
        found = self.tail.next(HEARD_WITHIN_MS)
        told = self.complete(found)
        if told:
            self.hear(heard_of(told))
        self.token = found.token

    def open(self) -> None:
        """Go on behind what was read; where nothing was, tell that something was missed."""
        self.tail = Tail(self.client, Change._get_collection().database.name, HEARD, self.token)
        if self.token is None:
            self.held = []
            self.token = self.tail.token
            self.hear(Heard(missed=True))

    def complete(self, found: Events) -> list[Raw]:
        """Return the events of which no more can come, and keep the others."""
        events = [*self.held, *found.events]
        self.held = [event for event in events if is_after(event, found.until)]
        return [event for event in events if not is_after(event, found.until)]

    def close(self) -> None:
        """Leave the stream."""
        if self.tail is not None:
            self.tail.close()
        self.tail = None


def is_after(event: Mapping[str, Any], moment: Timestamp) -> bool:
    """Tell whether an event happened after a moment."""
    return bool(event["clusterTime"] > moment)


def heard_of(events: Sequence[Raw]) -> Heard:
    """Return what events tell of."""
    changes = [event["fullDocument"] for event in events if event["ns"]["coll"] == CHANGES]
    ended = [event["documentKey"]["_id"] for event in events if event["ns"]["coll"] == SESSIONS]
    return Heard(sorted(changes, key=lambda change: change["seq"]), ended)
