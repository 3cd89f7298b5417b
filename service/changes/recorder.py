"""The recorder: gives every committed change its number in the one order.

It reads MongoDB's change stream in batches and takes the events only for a hint that something has changed: what is
written into the order is what is there when it looks. So a batch that comes twice, a restart and the comparison after a
gap are the same work. Each batch is one transaction, of the changes, the last number, the token of the stream and the
epoch of the lease: what a successor has begun, a stale recorder cannot write into.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from bson import Int64
from pymongo import InsertOne, MongoClient, ReplaceOne
from pymongo.errors import PyMongoError

from service.changes import comparison, order
from service.changes.news import Dirty, FirstAccess, News
from service.changes.tail import AWAITED_MS, BATCH, Events, HistoryLost, Tail, stages, time_of
from service.core import metrics
from service.core.clock import now
from service.core.log import log
from service.documents import Change, LeaseLost, Right
from service.model.registry import Registry
from service.mongo import transactions
from service.mongo.raw import Raw

GROWS, GROWS_BY, GROWS_MOST = 0.02, 0.001, 0.1
"""Seconds that a batch is left to grow behind one with events: at least, more for each of these, and at most.

A batch costs as much as some twenty changes in it, so those of many writes are few and large; a write that comes alone
is recorded at once.
"""
SAVED_EVERY = 10.0
"""Seconds after which the token of a stream without events is stored, before the oplog rolls over the one before."""
FORGETS_EVERY = 60.0
"""Seconds between two looks for changes whose time is over."""
FORGOTTEN_AT_ONCE = 1000


class Recorder:
    """Records the changes of all record types and of the roles of accounts."""

    def __init__(self, registry: Registry, client: MongoClient[Raw], keep: timedelta) -> None:
        """Take the record types, a client for the change stream, and how long what has ended is remembered."""
        self.registry, self.client, self.keep = registry, client, keep
        self.tail: Tail | None = None
        self.epoch = 0
        self.comparing: comparison.Position | None = None
        self.saved = self.forgot = self.grown = time.monotonic()
        self.is_cut = False

    def step(self, right: Right) -> None:
        """Do what there is to do, or wait a second for it. Raises `PyMongoError` or `LeaseLost`; then call it again."""
        try:
            if self.tail is None or right.epoch != self.epoch:
                self.begin(right)
            self.advance(right, AWAITED_MS if self.comparing is None else 1)
            if self.comparing is not None:
                self.compare(right, self.comparing)
            elif time.monotonic() - self.forgot > FORGETS_EVERY:
                self.forget(right)
        except HistoryLost:
            log.error("changes_missed", reason="the oplog has rolled over what was not recorded yet; all is compared")
            metrics.GAPS.inc()
            self.close()
            self.begin_anew(right)
        except (PyMongoError, LeaseLost):
            self.close()
            raise

    def close(self) -> None:
        """Leave the stream."""
        if self.tail is not None:
            self.tail.close()
        self.tail = None

    # --- Where it begins ---------------------------------------------------------------------------------------------

    def begin(self, right: Right) -> None:
        """Go on where the last recorder has stopped."""
        self.close()
        self.epoch = right.epoch
        state = order.state_in(order.lease_document())
        if state is None:
            self.begin_anew(right)
            return
        self.tail, self.comparing = self.opened(state["token"]), state["comparing"]
        if set(state["types"]) != set(self.registry):
            # What a type that has come already holds has no number yet, and nobody asks for one that has gone.
            self.change(right, {"$set": {"state.types": [*self.registry], "state.comparing": comparison.START}})

    def change(self, right: Right, update: Mapping[str, Any]) -> Raw:
        """Change the order, outside of a transaction, and return it."""
        state = self.whole(right, update)
        self.comparing, self.saved = state["comparing"], time.monotonic()
        return state

    def whole(self, right: Right, update: Mapping[str, Any]) -> Raw:
        """Change the order and return it; raises `LeaseLost` where its document is not the one that we began with."""
        changed = right.change(update)
        if order.state_in(changed) is None:
            raise LeaseLost(order.RECORDER)
        state: Raw = changed["state"]
        return state

    def opened(self, token: Mapping[str, Any] | None) -> Tail:
        """Return the stream of what comes after a token, or after now."""
        return Tail(self.client, Change._get_collection().database.name, stages(self.registry), token)

    def begin_anew(self, right: Right) -> None:
        """Begin with what happens from now on, and compare what was before.

        The first number is the time in microseconds: an order that begins once more, in a database that was
        restored, gives none that the one before has given.
        """
        self.tail = self.opened(None)
        state = (order.lease_document() or {}).get("state") or {}
        clock = time_of(self.tail.token)
        first = Int64(max(clock.time * 1_000_000, state.get("seq", 0)))
        anew = {
            "seq": first,
            "floor": state.get("floor", first),
            "clock": clock,
            "token": self.tail.token,
            "types": [*self.registry],
            "comparing": comparison.START,
        }
        self.change(right, {"$set": {"state": anew}})

    # --- What happens ------------------------------------------------------------------------------------------------

    def advance(self, right: Right, patience: int) -> None:
        """Record the next batch of events, for which it waits `patience` milliseconds."""
        assert self.tail is not None  # noqa: S101  it has begun
        if self.comparing is None:
            time.sleep(max(0.0, self.grown - time.monotonic()))
        batch = self.tail.next(patience)
        if batch.events:
            dirty = dirtied(batch.events)
            self.record(right, dirty, came_to(batch), made_in(batch.events))
            metrics.recorded(batch.events[-1]["clusterTime"].time, len(dirty))
            self.is_cut = batch.is_cut
            if len(batch.events) < BATCH:
                self.grown = time.monotonic() + min(GROWS + GROWS_BY * len(batch.events), GROWS_MOST)
        elif self.is_cut or time.monotonic() - self.saved > SAVED_EVERY:
            # What was cut was whole: who waits for the last event of it goes by the clock.
            self.change(right, came_to(batch))
            self.is_cut = False

    def record(
        self, right: Right, dirty: list[Dirty], came: Mapping[str, Any], made: FirstAccess | None = None
    ) -> None:
        """Give what has changed its numbers, in one transaction.

        `made` is of what was written; where nothing is said to be, what is recorded already is left out.
        """
        state = transactions.run(lambda: self.recorded(right, News(self.registry, dirty, made), came))
        self.comparing, self.saved = state["comparing"], time.monotonic()

    def recorded(self, right: Right, found: News, came: Mapping[str, Any]) -> Raw:
        """Write the changes of one transaction; return the order."""
        state = self.whole(right, {**came, "$inc": {"state.seq": Int64(found.count)}})
        if found.count:
            made = found.changes(state["seq"] - found.count + 1, now() + self.keep)
            # To insert costs MongoDB half of what it costs to replace what is not there.
            writes = [
                ReplaceOne({"_id": change["_id"]}, change) if change["_id"] in found.known else InsertOne(change)
                for change in made
            ]
            Change._get_collection().bulk_write(writes, ordered=False)
        return state

    # --- What has been -----------------------------------------------------------------------------------------------

    def compare(self, right: Right, position: comparison.Position) -> None:
        """Compare the next records with what is recorded of them."""
        dirty, further = comparison.next_batch(self.registry, position)
        self.record(right, dirty, {"$set": {"state.comparing": further}})
        while further is None and right.held and (ids := comparison.forgotten_types(self.registry)):
            Change._get_collection().delete_many({"_id": {"$in": ids}})

    def forget(self, right: Right) -> None:
        """Forget what has ended so long ago that no client goes on from before it."""
        self.forgot = time.monotonic()
        over = {"purge_at": {"$lte": now()}}
        while right.held and (rows := list(Change._get_collection().find(over, {"seq": 1}, limit=FORGOTTEN_AT_ONCE))):
            # Before they go: a client that looks in between is told to begin anew, and misses nothing.
            right.change({"$max": {"state.floor": max(row["seq"] for row in rows)}})
            Change._get_collection().delete_many({"_id": {"$in": [row["_id"] for row in rows]}, **over})


def came_to(batch: Events) -> dict[str, Any]:
    """Return the update of the order that says how far a batch has come."""
    found: dict[str, Any] = {"state.token": batch.token, "state.clock": batch.until}
    if any(map(is_of_collection, batch.events)):
        found["state.comparing"] = comparison.START
    return {"$set": found}


def is_of_collection(event: Mapping[str, Any]) -> bool:
    """Tell whether an event is about a whole collection: one was dropped, or got its name."""
    return "documentKey" not in event


def made_in(events: Iterable[Mapping[str, Any]]) -> FirstAccess:
    """Return the access lists with which records were made."""
    return {
        (event["ns"]["coll"], event["documentKey"]["_id"]): tuple(event["fullDocument"].get("access", ()))
        for event in events
        if event["operationType"] == "insert" and isinstance(event["documentKey"]["_id"], str)
    }


def dirtied(events: Iterable[Mapping[str, Any]]) -> list[Dirty]:
    """Return what events are about, each once, in the order of the last event of each.

    Other software may store ids that no client can name.
    """
    found: dict[Dirty, None] = {}
    for event in events:
        if not is_of_collection(event) and isinstance(id := event["documentKey"]["_id"], str):
            found.pop((event["ns"]["coll"], id), None)
            found[event["ns"]["coll"], id] = None
    return list(found)
