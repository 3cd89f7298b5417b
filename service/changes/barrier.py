"""The barrier: a pull sees what was acknowledged before it began.

The order is behind MongoDB by some milliseconds. Whether that hides something is asked of a change stream of this
process, which is looked at only when MongoDB's clock has moved since: what is behind the recorder may be nothing that
it records. So in a quiet database a pull costs one look at the order.
"""

import threading
import time

from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from service.changes import order
from service.changes.order import Order, order_in
from service.changes.tail import HistoryLost, Tail, stages
from service.core.errors import FeedUnavailable
from service.core.log import log
from service.documents import Change, Lease
from service.model.registry import Registry
from service.mongo import driver
from service.mongo.raw import Raw

PLACE = {f"state.{name}": 1 for name in ("seq", "floor", "clock", "comparing")}
"""What of the order says how far it is."""
LOOK_AGAIN = 0.004
"""Seconds between two looks at an order that is behind."""
FAR_BEHIND = 2
"""Seconds of events from which on a change stream is rather opened anew than read."""


class Barrier:
    """Waits until the order has all that was committed before."""

    def __init__(self, registry: Registry, client: MongoClient[Raw], patience: float) -> None:
        """Take the record types, a client for the change stream, and the seconds that one may wait."""
        self.stages = stages(registry)
        self.client, self.patience = client, patience
        self.lock = threading.Lock()
        self.tail: Tail | None = None
        self.looked = Timestamp(0, 0)
        """The time until which the last event is known."""
        self.last = Timestamp(0, 0)
        """When that happened."""

    def passed(self) -> Order:
        """Return the order when it has all that was committed before the call.

        Raises `FeedUnavailable` where it does not come so far in time, `PyMongoError` where MongoDB does not answer.
        """
        end = time.monotonic() + self.patience
        found, moment = read()
        while found.incomplete or found.clock < moment:
            if not found.incomplete and self.is_all_recorded(found.clock, moment, end):
                break
            if time.monotonic() > end:
                raise FeedUnavailable("what was written a moment ago is not in the order of changes yet")
            time.sleep(LOOK_AGAIN)
            found, _ = read()
        return found

    def is_all_recorded(self, clock: Timestamp, moment: Timestamp, end: float) -> bool:
        """Tell whether nothing that is recorded has happened between `clock` and `moment`; until `end` to find out."""
        with self.lock:
            try:
                self.look(clock, moment, end)
            except (HistoryLost, PyMongoError) as error:
                log.warning("barrier_opened_anew", reason=type(error).__name__)
                self.leave()
                return False
            return self.looked >= moment and self.last <= clock

    def look(self, clock: Timestamp, moment: Timestamp, end: float) -> None:
        """Learn of all events until a `moment`, or as many as there is time for."""
        if self.tail is None or clock.time - self.looked.time > FAR_BEHIND:
            # What is recorded already need not be read again.
            self.leave()
            self.tail = Tail(self.client, Change._get_collection().database.name, self.stages, at=clock)
            self.looked = clock
        while self.looked < moment and time.monotonic() < end:
            batch = self.tail.next(1)
            if batch.events:
                self.last = batch.events[-1]["clusterTime"]
            self.looked = batch.until

    def leave(self) -> None:
        """Close the change stream."""
        if self.tail is not None:
            self.tail.close()
        self.tail = None


def read() -> tuple[Order, Timestamp]:
    """Return the order, and MongoDB's clock when it was read. Raises `FeedUnavailable` where there is none."""
    found, moment = driver.find_at(Lease._get_collection(), order.RECORDER, PLACE)
    return order_in(found), moment
