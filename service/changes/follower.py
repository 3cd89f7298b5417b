"""A follower: goes through the changes of some record types, each at least once, from where it has stopped.

How far it is stands in the document of its lease, behind what was told: what was told and not noted is told again.
"""

import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from bson import Int64
from pymongo.errors import DuplicateKeyError

from service.changes.order import Order
from service.changes.passage import Passage, committed_order, next_passage
from service.core import metrics
from service.core.clock import now
from service.core.log import log
from service.documents import Lease, Right
from service.mongo.raw import Raw

TOLD_AT_ONCE = 100
"""Most changes that are told at once."""
FOLLOWS_EVERY = 0.25
"""Seconds between two looks at the order, where there was nothing new."""
NOTED_EVERY = 10.0
"""Seconds after which it is noted that there was nothing for it, in an order that goes on."""
EARLIER = timedelta(minutes=1)
"""How far the clock of a machine that writes records may be behind."""


class Follower:
    """Follows the order under the lease `name`, and has `tell` hear of each passage that has changes in it."""

    def __init__(
        self,
        name: str,
        types: Collection[str],
        tell: Callable[[Right, Passage], None],
        of_records: bool = True,
        is_awaited: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take what is followed: see `next_passage`."""
        self.name, self.types, self.tell, self.of_records = name, types, tell, of_records
        self.is_awaited = is_awaited
        self.epoch = -1
        self.state: Raw = {}
        self.noted = 0.0
        self.is_cut = False

    @property
    def number(self) -> int:
        """The number up to which all is told."""
        return int(self.state["number"])

    @property
    def whole(self) -> int:
        """The last number at which there was nothing left to tell."""
        return int(self.state["whole"])

    @property
    def begun(self) -> int:
        """How often somebody has begun at this number; all but this one have died before they could note another."""
        return int(self.state["begun"])

    @property
    def since(self) -> datetime:
        """Since when it follows: what was written before may come too, where the order is made anew."""
        since: datetime = self.state["since"]
        return since

    def step(self, right: Right) -> None:
        """Tell of what comes next, or wait a moment for it. Raises `PyMongoError` or `LeaseLost`."""
        if right.epoch != self.epoch:
            self.begin(right)
        passage = next_passage(self.types, self.number, TOLD_AT_ONCE, self.of_records, self.is_awaited)
        metrics.BEHIND.labels(self.name).set(passage.newest - self.number)
        self.say_cut(passage)
        if passage.changes:
            self.tell(right, passage)
        self.pass_over(right, passage)
        if passage.is_last:
            time.sleep(FOLLOWS_EVERY)

    def begin(self, right: Right) -> None:
        """Go on where the last one has stopped, in this process or in another; the first one begins with now."""
        begin_following([self.name])
        self.state = right.change({"$inc": {"state.begun": 1}})["state"]
        self.epoch, self.noted = right.epoch, 0.0

    def note(self, right: Right, number: int) -> None:
        """Note that all is told up to a number. Raises `LeaseLost` where another goes on meanwhile."""
        self.keep(right, {"state.number": number})

    def pass_over(self, right: Right, passage: Passage) -> None:
        """Note where a passage ends, at once where there was something in it."""
        metrics.FOLLOWED.labels(self.name).inc(len(passage.changes))
        whole = {"state.whole": passage.until} if passage.is_last else {}
        is_noted = passage.changes or passage.is_cut or passage.is_unread
        if is_noted or time.monotonic() >= self.noted + NOTED_EVERY:
            self.keep(right, {"state.number": passage.until, **whole})
        else:
            # Who goes on from the number before finds nothing there either, whoever waits for it by then.
            self.state |= {"number": passage.until, "whole": passage.until}

    def keep(self, right: Right, fields: Raw) -> None:
        """Store how far it is."""
        self.state = right.change({"$set": {**fields, "state.begun": 0}})["state"]
        self.noted = time.monotonic()

    def say_cut(self, passage: Passage) -> None:
        """Say it once where ends of records may be missing; what is there is told all the same."""
        if passage.is_cut and not self.is_cut:
            metrics.FOLLOWED_LATE.labels(self.name).inc()
            log.error("ends_forgotten", follower=self.name, number=self.number)
        self.is_cut = passage.is_cut


def begin_following(names: Iterable[str]) -> None:
    """Have those that have never followed the order begin with what happens from now on. Raises `PyMongoError`."""
    for name in names:
        found = Lease._get_collection().find_one({"_id": name}, {"state": 1}) or {}
        if not found.get("state"):
            begin_with(name, committed_order())


def begin_with(name: str, found: Order | None) -> None:
    """Have one begin behind the newest number of the order, or with the order where there is none yet."""
    number = 0 if found is None else found.seq
    state = {"number": Int64(number), "whole": Int64(number), "since": now() - EARLIER, "begun": 0}
    fresh = {"_id": name, "state": {"$in": [None, {}]}}
    try:
        Lease._get_collection().update_one(fresh, {"$set": {"state": state}}, upsert=True)
    except DuplicateKeyError:
        log.info("follows_already", follower=name)  # another one has begun at the same moment
