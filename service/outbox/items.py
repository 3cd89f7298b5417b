"""What is stored of the items of the outbox: put in, taken, kept, sent, put off, given up."""

import hashlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from service.core.clock import now
from service.core.ids import new_id
from service.documents import OutboxItem
from service.mongo import connection, transactions
from service.mongo.raw import Raw

DUE_AT_ONCE = datetime(1970, 1, 1)
"""When a new item is due, whatever the clocks say."""
SENT_FOR = timedelta(days=7)
"""How long a sent item is kept, without its secrets: so long its deduplication key holds."""
FAILED_FOR = timedelta(days=30)
CANCELLED = "cancelled"
"""Why an item failed that somebody does not want any more."""
HELD_WHILE_WAITING = ("key", "worker", "at_work", "cancelled")
"""What an item has only while it waits."""
UNHELD = {"worker": "", "at_work": ""}
"""What goes of an item that nobody has any more."""
SECRETS = ("sealed", "message")
"""What an item says that is nobody's business once it is sent."""
NEXT = [("priority", 1), ("due_at", 1)]
"""The order in which items are sent that are due."""
UNSENT_FOR = timedelta(days=1)
"""How long after its last use an item goes that no worker has looked at."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """What has to be sent: its kind, what may be seen of it, whose it is, and after when it is of no more use.

    Of those with one `dedupe_key` the first is stored, as long as it is remembered. `due_at` is when, in UTC, if not at
    once; a lower `priority` is sooner; of those that share `alone` one is at work at a time. A `message` is what it
    says to somebody: it goes when that was said. One that is `brief` is removed when it has come to its end, also where
    it failed: there are many such, and the next one says the same. They are sent many at once.
    """

    kind: str
    content: Mapping[str, Any]
    account: str | None = None
    dedupe_key: str | None = None
    until: datetime | None = None
    due_at: datetime = DUE_AT_ONCE
    priority: int | None = None
    alone: str | None = None
    message: Mapping[str, Any] | None = None
    brief: bool = False

    def id(self) -> str:
        """Return an id: that of all items of the same kind and deduplication key, else a new one."""
        if self.dedupe_key is None:
            return new_id()
        return hashlib.sha256(f"{self.kind}\0{self.dedupe_key}".encode()).hexdigest()[:40]


def add_item(item: NewItem, id: str, sealed: bytes | None) -> bool:
    """Store an item, in the transaction of this thread if there is one; False where one with its id is there."""
    document = {**stored_form(item, sealed), "due_at": item.due_at}
    try:
        # An insert of what is there would end the transaction around it; this one changes nothing then.
        stored = OutboxItem._get_collection().update_one({"_id": id}, {"$setOnInsert": document}, upsert=True)
    except DuplicateKeyError:
        return False  # another one has made it at the same moment
    return stored.upserted_id is not None


def add_many(new: Sequence[NewItem]) -> None:
    """Store items that have no deduplication key, in the transaction of this thread if there is one."""
    documents = [{"_id": item.id(), **stored_form(item, None), "due_at": item.due_at} for item in new]
    if documents:
        OutboxItem._get_collection().insert_many(documents)


def add_once(item: NewItem, key: str) -> str:
    """Store an item unless one of this key waits that nobody has taken; return the id of the one that will be sent.

    That is due then when the earlier of both is. It is written to in any case, so that who takes it at this moment and
    a transaction around this meet: what the transaction writes is there when the item is sent.
    """
    sooner = {"due_at": item.due_at, **({} if item.priority is None else {"priority": item.priority})}
    made = {name: value for name, value in stored_form(item, None).items() if name not in sooner}
    update = {"$setOnInsert": {"_id": new_id(), **made}, "$min": sooner, "$inc": {"enqueued": 1}}
    while True:
        try:
            found = OutboxItem._get_collection().find_one_and_update(
                {"key": key}, update, {"_id": 1}, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError as error:
            # Another one has made it at the same moment.
            if transactions.is_active():
                transactions.try_again(error)
            continue
        return str(found["_id"])


def stored_form(item: NewItem, sealed: bytes | None) -> Raw:
    """Return what is stored of a new item, but when it is due."""
    document: Raw = {
        "kind": item.kind,
        "state": "waiting",
        "content": dict(item.content),
        "tries": 0,
        "created_at": now(),
    }
    expires_at = None if item.until is None else item.until + UNSENT_FOR
    given: Raw = {"sealed": sealed, "account": item.account, "until": item.until, "expires_at": expires_at}
    given |= {"priority": item.priority, "alone": item.alone, "message": item.message, "brief": item.brief or None}
    return document | {name: value for name, value in given.items() if value is not None}


def has_item(id: str) -> bool:
    """Tell whether there is an item of this id, whatever became of it."""
    return OutboxItem._get_collection().find_one({"_id": id}, {"_id": 1}) is not None


def take_due(kind: str, seconds: float) -> Raw | None:
    """Return the item that is the next one, which nobody else takes for so many seconds; None where none is due.

    The first by priority, then by when it is due; but none that shares `alone` with another one at work, and none that
    a transaction writes to at this moment: where its process has died, MongoDB ends that after a minute.
    """
    busy: list[str] = []
    passed: list[str] = []
    while True:
        moment = connection.server_time()
        due: Raw = {"state": "waiting", "kind": kind, "due_at": {"$lte": moment}, "_id": {"$nin": passed}}
        if busy:
            due["$or"] = [{"alone": {"$nin": busy}}, {"at_work": {"$exists": True}}]
        found = OutboxItem._get_collection().find_one(due, {"tries": 1, "alone": 1}, sort=NEXT)
        if found is None:
            return None
        taken = {"due_at": moment + timedelta(seconds=seconds), "worker": worker_name()}
        if "alone" in found:
            taken["at_work"] = found["alone"]
        try:
            item = take_found(found, taken)
        except DuplicateKeyError:
            busy.append(found["alone"])
            continue
        if item is not None:
            return item
        passed.append(found["_id"])


def take_found(found: Raw, taken: Raw) -> Raw | None:
    """Take an item that was found; None where another one was quicker, or is about to. Raises `DuplicateKeyError`."""
    free = {"_id": found["_id"], "state": "waiting", "tries": found["tries"]}
    update = {"$set": taken, "$inc": {"tries": 1, "attempts": 1}, "$unset": {"key": ""}}

    def take_free() -> Raw | None:
        try:
            item: Raw | None = OutboxItem._get_collection().find_one_and_update(
                free, update, return_document=ReturnDocument.AFTER
            )
        except OperationFailure as error:
            if transactions.is_conflict(error):
                raise WrittenTo from error
            raise
        return item

    try:
        # In a transaction MongoDB says at once that another one writes to it; otherwise it waits for the end of that.
        return transactions.run_where_there_are(take_free)
    except WrittenTo:
        return None


def take_many_due(kind: str, seconds: float, most: int) -> list[Raw]:
    """Return the items that are the next ones, which nobody else takes for so many seconds.

    For kinds whose items have neither a key nor `alone`: what such a one has to meet is met one at a time.
    """
    moment = connection.server_time()
    due: Raw = {"state": "waiting", "kind": kind, "due_at": {"$lte": moment}}
    found = OutboxItem._get_collection().find(due, {"_id": 1}, sort=NEXT, limit=most)
    chosen = {"$in": [item["_id"] for item in found]}
    if not chosen["$in"]:
        return []
    # Another worker may be after the same ones: those that this name is on are ours.
    name = f"{worker_name()}:{new_id()}"
    taken = {"due_at": moment + timedelta(seconds=seconds), "worker": name}
    update = {"$set": taken, "$inc": {"tries": 1, "attempts": 1}}
    OutboxItem._get_collection().update_many({**due, "_id": chosen}, update)
    return list(OutboxItem._get_collection().find({"_id": chosen, "worker": name}))


class WrittenTo(Exception):
    """A transaction writes to an item at this moment."""


def worker_name() -> str:
    """Return who takes items here: the machine, and the process on it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def ours(item: Raw) -> Raw:
    """Return the filter of an item as long as nobody else has taken it, and it was neither sent nor given up."""
    return {"_id": item["_id"], "state": "waiting", "tries": item["tries"]}


def extend(item: Raw, seconds: float, change: Mapping[str, Any] | None = None) -> Raw | None:
    """Keep an item for so many seconds from now, and change it; None where it is not ours any more.

    As a part of a transaction it guards all that the transaction writes: see `Lease.change`.
    """
    # MongoDB does not tell its time within a transaction.
    moment = transactions.outside(connection.server_time)
    later = {"due_at": moment + timedelta(seconds=seconds), **(change or {})}
    found: Raw | None = OutboxItem._get_collection().find_one_and_update(
        ours(item), {"$set": later}, return_document=ReturnDocument.AFTER
    )
    return found


def mark_sent(item: Raw) -> None:
    """Say that an item was sent, whoever has taken it meanwhile; its secrets are gone then."""
    finish({"_id": item["_id"], "state": "waiting"}, sent_form(), *SECRETS, "reason")


def mark_many_sent(sent: Sequence[Raw]) -> None:
    """Say that items were sent, as `mark_sent` does of one."""
    waiting = {"_id": {"$in": [item["_id"] for item in sent]}, "state": "waiting"}
    if any("brief" in item for item in sent):
        OutboxItem._get_collection().delete_many({**waiting, "brief": True})
    finish(waiting, sent_form(), *SECRETS, "reason")


def finish_ours(item: Raw) -> bool:
    """Say that an item was sent, if nobody else has it; in a transaction, together with what else that writes."""
    return finish(ours(item), sent_form(), *SECRETS, "reason")


def sent_form() -> Raw:
    """Return what is kept of an item that was sent."""
    moment = now()
    return {"state": "sent", "sent_at": moment, "expires_at": moment + SENT_FOR}


def give_up(item: Raw, reason: str) -> None:
    """Say that an item is not sent any more, and why, unless somebody else has taken it meanwhile.

    What is of use for a while only has secrets, which go.
    """
    if "brief" in item:
        OutboxItem._get_collection().delete_one(ours(item))
        return
    secrets = SECRETS if "until" in item else ()
    finish(ours(item), failed_form(reason), *secrets)


def failed_form(reason: str) -> Raw:
    """Return what is kept of an item that is not sent any more."""
    return {"state": "failed", "reason": reason, "expires_at": now() + FAILED_FOR}


def finish(condition: Raw, set: Mapping[str, Any], *unset: str) -> bool:
    """End the waiting of the items that fulfil a condition; tell whether any did."""
    update = {"$set": set, "$unset": dict.fromkeys((*HELD_WHILE_WAITING, *unset), "")}
    return bool(OutboxItem._get_collection().update_many(condition, update).matched_count)


def put_off(item: Raw, seconds: float, reason: str) -> None:
    """Have an item tried again in so many seconds, unless somebody else has taken it meanwhile."""
    later = {"due_at": connection.server_time() + timedelta(seconds=seconds), "reason": reason}
    OutboxItem._get_collection().update_one(ours(item), {"$set": later, "$unset": UNHELD})


GIVEN_BACK = {"$set": {"due_at": DUE_AT_ONCE}, "$unset": UNHELD, "$inc": {"attempts": -1}}
"""The update that lets another worker have an item at once, as if it had not been tried."""


def give_back(item: Raw) -> None:
    """Let another worker have an item at once, as if it had not been tried."""
    OutboxItem._get_collection().update_one(ours(item), GIVEN_BACK)


def give_many_back(taken: Sequence[Raw]) -> None:
    """Let another worker have items that were taken together, as `give_back` does with one."""
    if taken:
        chosen = {"_id": {"$in": [item["_id"] for item in taken]}, "state": "waiting", "worker": taken[0]["worker"]}
        OutboxItem._get_collection().update_many(chosen, GIVEN_BACK)


def cancel(chosen: Raw) -> tuple[int, int]:
    """Have what waits given up, of those that are chosen; return how many are, and how many at work will be."""
    update = {"$set": failed_form(CANCELLED), "$unset": dict.fromkeys(HELD_WHILE_WAITING, "")}
    at_work = {"$and": [chosen, {"state": "waiting", "worker": {"$exists": True}}]}
    free = {"$and": [chosen, {"state": "waiting", "worker": {"$exists": False}}]}
    # First those at work: one that is put off in between is given up when it is taken the next time.
    told = OutboxItem._get_collection().update_many(at_work, {"$set": {"cancelled": True}}).matched_count
    return int(OutboxItem._get_collection().update_many(free, update).modified_count), int(told)


def due_kinds() -> list[str]:
    """Return the kinds of which something is due; of each MongoDB reads one key, however much waits."""
    due = {"state": "waiting", "due_at": {"$lte": connection.server_time()}}
    found: list[str] = OutboxItem._get_collection().distinct("kind", due)
    return found


def waiting(kind: str) -> tuple[int, datetime | None]:
    """Return how many items wait, and since when the one that was made first does."""
    unsent = {"state": "waiting", "kind": kind}
    oldest = OutboxItem._get_collection().find_one(unsent, {"created_at": 1}, sort=[("created_at", 1)])
    return OutboxItem._get_collection().count_documents(unsent), None if oldest is None else oldest["created_at"]


def list_of(states: Sequence[str], kind: str | None, limit: int) -> list[Raw]:
    """Return items in some states, the newest first, without what nobody may see."""
    chosen: Raw = {"state": {"$in": list(states)}, **({} if kind is None else {"kind": kind})}
    return list(
        OutboxItem._get_collection().find(chosen, dict.fromkeys(SECRETS, 0), sort=[("created_at", -1)], limit=limit)
    )


def repeat_failed(chosen: Raw) -> int:
    """Have what failed wait again, of those that are chosen; return how many.

    What was of use for a while only has lost what it would say. What waits may be under way at this moment.
    """
    failed = {"$and": [chosen, {"state": "failed", "until": {"$exists": False}}]}
    again = {"$set": {"state": "waiting", "due_at": DUE_AT_ONCE, "attempts": 0}, "$unset": {"expires_at": ""}}
    return int(OutboxItem._get_collection().update_many(failed, again).modified_count)


def remove_items(chosen: Raw) -> int:
    """Remove what waits or failed, of those that are chosen; return how many."""
    unsent = {"$and": [chosen, {"state": {"$in": ["waiting", "failed"]}}]}
    return int(OutboxItem._get_collection().delete_many(unsent).deleted_count)
