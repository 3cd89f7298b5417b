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

from service.changes.tail import AWAITED_MS, CHANGED_FIELDS, HistoryLost, Tail, Token
from service.core.log import log
from service.documents import Account, Change, Session
from service.mongo.raw import Raw
from service.policy import HELD

TRIED_AGAIN_AFTER = 0.2
"""Seconds before another try, where MongoDB does not answer."""

CHANGES, SESSIONS, ACCOUNTS = (kind._get_collection_name() for kind in (Change, Session, Account))
CHANGES_MEMBERSHIP = {
    "$anyElementTrue": [
        {
            "$map": {
                "input": CHANGED_FIELDS,
                "in": {"$regexMatch": {"input": "$$this", "regex": rf"^({'|'.join(HELD)})(\.|$)"}},
            }
        }
    ]
}
"""Whether an update is of what an account is a member of; of one entry of a list MongoDB tells the place."""
HEARD: list[Raw] = [
    {
        "$match": {
            "$or": [
                {"ns.coll": CHANGES, "operationType": {"$in": ["insert", "replace"]}},
                {"ns.coll": SESSIONS, "operationType": "delete"},
                {
                    "ns.coll": ACCOUNTS,
                    "$or": [{"operationType": {"$in": ["replace", "delete"]}}, {"$expr": CHANGES_MEMBERSHIP}],
                },
            ]
        }
    },
    {"$project": {"ns.coll": 1, "fullDocument": 1, "documentKey": 1, "clusterTime": 1}},
]
"""What the recorder writes, whole, for it replaces what it wrote before; which sessions ended; whose
memberships changed.

Of roles the order itself may tell late: it has a record as it is when the recorder looks, which may be after a role was
lost whose place comes behind. This stream has both when they happened.
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """What has happened since the last time: changes in their order, sessions that ended, accounts with other roles.

    What had happened to `accounts` before the newest of the `changes` was told before it, or is told with it. Where
    something was `missed`, nobody knows what happened.
    """

    changes: Sequence[Raw] = ()
    sessions: Sequence[str] = ()
    accounts: Sequence[str] = ()
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
        found = self.tail.next(AWAITED_MS)
        events = [*self.held, *found.events]
        told = [event for event in events if not is_after(event, found.until)]
        if told:
            self.hear(heard_of(told))
        # Not before: what could not be told is read once more.
        self.token = found.token
        self.held = [event for event in events if is_after(event, found.until)]

    def open(self) -> None:
        """Go on behind what was read; where nothing was, tell that something was missed."""
        self.tail = Tail(self.client, Change._get_collection().database.name, HEARD, self.token)
        if self.token is None:
            self.held = []
            self.token = self.tail.token
            self.hear(Heard(missed=True))

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
    named = {
        name: [event["documentKey"]["_id"] for event in events if event["ns"]["coll"] == name]
        for name in (SESSIONS, ACCOUNTS)
    }
    return Heard(sorted(changes, key=lambda change: change["seq"]), named[SESSIONS], named[ACCOUNTS])
